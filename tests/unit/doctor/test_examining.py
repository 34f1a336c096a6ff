"""How examinations are made: none hides another."""

import json

import pytest

from pubsub.doctor import EXAMINATIONS, Examination, Outcome, Site, examine
from pubsub.doctor.examining import with_needs
from pubsub.doctor.findings import Skipped, failure, fine, warning
from pubsub.exceptions import ConnectError


def good(site):
    yield fine("all is well")


def bad(site):
    yield fine("so far")
    yield failure("it is broken", "it hurts", "mend it")
    yield failure("that, too", "it hurts more", "mend it")


def middling(site):
    yield warning("it creaks", "it may break", "oil it")


def not_made(site):
    raise Skipped("there is nothing to look at")
    yield


def away(site):
    yield fine("one half")
    raise ConnectError("here:1", "nobody answers")


def astray(site):
    raise ZeroDivisionError("a mistake")


def outcomes(*examinations, only=()):
    return {r.name: r.outcome.value for r in examine(Site(), examinations, only)}


def test_each_examination_ends_by_the_worst_that_it_has_found():
    assert outcomes(
        Examination("good", "?", good),
        Examination("bad", "?", bad),
        Examination("middling", "?", middling),
        Examination("not made", "?", not_made),
    ) == {"good": "ok", "bad": "failure", "middling": "warning", "not made": "skipped"}


@pytest.mark.parametrize("broken", [away, astray])
def test_what_breaks_off_is_a_failure_and_hides_nothing(broken):
    after = Examination("after", "?", good)
    first, last = examine(Site(), (Examination("first", "?", broken), after))
    assert (first.outcome, last.outcome) == (Outcome.FAILURE, Outcome.OK)
    assert "it broke off" in first.findings[-1].seen


@pytest.mark.parametrize(("needed", "word"), [(bad, "failed"), (not_made, "was skipped")])
def test_what_needs_another_is_skipped_with_it_and_says_so(needed, word):
    (_, skipped) = examine(
        Site(), (Examination("one", "?", needed), Examination("two", "?", good, ("one",)))
    )
    assert skipped.outcome is Outcome.SKIPPED
    assert skipped.findings[0].seen == f"it needs 'one', which {word}"


def test_a_warning_keeps_nobody_from_being_examined():
    two = Examination("two", "?", good, ("one",))
    assert outcomes(Examination("one", "?", middling), two) == {"one": "warning", "two": "ok"}


def test_only_what_was_asked_for_is_examined_and_what_it_needs():
    examinations = (
        Examination("one", "?", good),
        Examination("two", "?", good, ("one",)),
        Examination("three", "?", good, ("two",)),
        Examination("four", "?", good),
    )
    assert list(outcomes(*examinations, only=["three"])) == ["one", "two", "three"]
    assert list(outcomes(*examinations, only=["four", "one"])) == ["one", "four"]


def test_a_result_is_told_in_json_by_its_worst_findings():
    (result,) = examine(Site(), (Examination("bad", "?", bad),))
    told = json.loads(json.dumps(result.as_dict()))
    assert told.pop("seconds") >= 0
    assert told == {
        "name": "bad",
        "outcome": "failure",
        "seen": "it is broken\nthat, too",
        "why": "it hurts\nit hurts more",
        "remedy": "mend it",
    }


def test_names_are_unique_and_what_is_needed_comes_first():
    seen = set()
    for examination in EXAMINATIONS:
        assert set(examination.needs) <= seen, examination.name
        assert examination.name not in seen
        seen.add(examination.name)


def test_needs_are_found_through_others():
    assert {"backend", "tls", "login"} <= with_needs(EXAMINATIONS, ["canary"])
