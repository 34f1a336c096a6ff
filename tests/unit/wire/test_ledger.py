from concurrent.futures import Future, wait

import pytest
from xmpp.simplexml import NodeBuilder

from pubsub.exceptions import PubSubError, RequestRefused, RequestTimeout, StreamLost
from pubsub.wire import stanzas
from pubsub.wire.ledger import Ledger, Pending

SERVICE = "pubsub.example.org"


def sent(ledger, id, **options):
    """The Future of a request that has gone out under this id."""
    options = {"parse": lambda result: result.getAttr("value"), **options}
    pending = Pending(stanzas.Request("set", SERVICE, "<x/>", **options), Future())
    pending.future.set_running_or_notify_cancel()
    ledger.add(id, pending)
    return pending.future


def answer(id, *, type="result", sender=SERVICE, body="", value="done"):
    sender = "" if sender is None else f'from="{sender}"'
    return NodeBuilder(f'<iq type="{type}" id="{id}" {sender} value="{value}">{body}</iq>').getDom()


CONFLICT = '<error type="cancel"><conflict xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></error>'


def too_late():
    return RequestTimeout("too late")


@pytest.fixture
def ledger():
    return Ledger(timeout=10)


@pytest.fixture
def clock(monkeypatch):
    """The time, to be set; no test waits for it."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("pubsub.wire.ledger.time", clock)
    return clock


def test_an_answer_resolves_its_own_request(ledger):
    first, second = sent(ledger, "a"), sent(ledger, "b")
    ledger.settle(answer("b", value="B"))
    assert second.result(0) == "B"
    assert not first.done()
    assert ledger.size == 1


def test_an_error_fails_its_own_request(ledger):
    first, second = sent(ledger, "a"), sent(ledger, "b")
    ledger.settle(answer("a", type="error", body=CONFLICT))
    with pytest.raises(RequestRefused) as refused:
        first.result(0)
    assert refused.value.condition == "conflict"
    assert not second.done()


def test_an_error_that_means_done_resolves_the_request(ledger):
    future = sent(ledger, "a", done_when=frozenset({"conflict"}))
    ledger.settle(answer("a", type="error", body=CONFLICT))
    assert future.result(0) == "done"


def test_an_answer_that_makes_no_sense_fails_its_request_only(ledger):
    def parse(result):
        raise KeyError("missing")

    future, neighbour = sent(ledger, "a", parse=parse), sent(ledger, "b")
    ledger.settle(answer("a"))
    with pytest.raises(PubSubError, match=r"makes no sense.*missing"):
        future.result(0)
    assert not neighbour.done()


def test_an_answer_nested_beyond_measure_fails_its_request_only(ledger):
    def parse(result):
        raise KeyError("missing")

    future = sent(ledger, "a", parse=parse)
    ledger.settle(answer("a", body="<x>" * 5000 + "</x>" * 5000))
    with pytest.raises(PubSubError, match="makes no sense"):
        future.result(0)


@pytest.mark.parametrize("sender", ["mallory@example.org/x", "example.org", f"{SERVICE}/x"])
def test_an_answer_in_somebody_elses_name_is_passed_over(ledger, sender):
    future = sent(ledger, "a")
    ledger.settle(answer("a", sender=sender))
    assert not future.done()
    ledger.settle(answer("a", value="true"))
    assert future.result(0) == "true"


def test_an_answer_without_a_sender_is_the_servers(ledger):
    future = sent(ledger, "a")
    ledger.settle(answer("a", sender=None))
    assert future.result(0) == "done"


def test_an_answer_that_nobody_waits_for_is_passed_over(ledger):
    future = sent(ledger, "a")
    ledger.settle(answer("b"))
    ledger.settle(NodeBuilder('<iq type="result"/>').getDom())
    assert not future.done()


def test_a_second_answer_changes_nothing(ledger):
    future = sent(ledger, "a")
    ledger.settle(answer("a", value="first"))
    ledger.settle(answer("a", value="second"))
    assert future.result(0) == "first"


def test_a_silent_server_is_noticed_after_the_time_limit(ledger, clock):
    sent(ledger, "a")
    clock.now += 9.9
    assert ledger.silence() is None
    clock.now += 0.2
    assert ledger.silence() == pytest.approx(10.1)


def test_nobody_is_silent_who_was_not_asked(ledger, clock):
    clock.now += 100
    assert ledger.silence() is None
    sent(ledger, "a")
    clock.now += 1
    assert ledger.silence() is None


def test_a_server_that_answers_one_after_the_other_is_not_silent(ledger, clock):
    for id in "abc":
        sent(ledger, id)
    for id in "ab":
        clock.now += 9
        ledger.settle(answer(id))
    clock.now += 9
    assert ledger.silence() is None  # though c has waited for 27 seconds
    clock.now += 2
    assert ledger.silence() == pytest.approx(11)


def test_answers_that_nobody_waits_for_do_not_break_the_silence(ledger, clock):
    sent(ledger, "a")
    for _ in range(11):
        clock.now += 1
        ledger.settle(answer("z"))
        ledger.settle(answer("a", sender="mallory@example.org"))
    assert ledger.silence() is not None


def test_a_request_that_was_passed_over_does_not_make_the_server_silent(ledger, clock):
    sent(ledger, "a")
    sent(ledger, "b")
    ledger.settle(answer("b"))
    clock.now += 100
    assert ledger.silence() is None


def test_a_request_that_was_passed_over_expires(ledger, clock):
    lost, answered, waiting = (sent(ledger, id) for id in "abc")
    ledger.settle(answer("b"))
    clock.now += 9.9
    ledger.expire(too_late)
    assert not lost.done()
    clock.now += 0.2
    ledger.expire(too_late)
    with pytest.raises(RequestTimeout):
        lost.result(0)
    assert answered.done()
    assert not waiting.done()
    assert ledger.size == 1


def test_the_time_of_a_passed_over_request_counts_from_the_first_later_answer(ledger, clock):
    lost = sent(ledger, "a")
    for id in "bc":
        sent(ledger, id)
        clock.now += 6
        ledger.settle(answer(id))
    clock.now += 5
    ledger.expire(too_late)
    assert isinstance(lost.exception(0), RequestTimeout)


def test_a_request_that_is_answered_late_but_in_turn_does_not_expire(ledger, clock):
    first, second = sent(ledger, "a"), sent(ledger, "b")
    ledger.settle(answer("b"))
    clock.now += 5
    ledger.settle(answer("a"))
    clock.now += 100
    ledger.expire(too_late)
    assert (first.result(0), second.result(0)) == ("done", "done")


def test_taking_all_empties_the_ledger_oldest_first(ledger):
    futures = [sent(ledger, id) for id in "abc"]
    assert [pending.future for pending in ledger.take_all()] == futures
    assert ledger.size == 0


def test_each_future_that_fails_has_an_exception_of_its_own(ledger):
    futures = [sent(ledger, id) for id in "ab"]
    lost = StreamLost("host:5222", "gone")
    for pending in ledger.take_all():
        pending.fail(lost)
    errors = [future.exception(0) for future in futures]
    assert [str(error) for error in errors] == ["XMPP server host:5222: gone"] * 2
    assert errors[0] is not errors[1]


def test_where_any_answer_will_do_an_error_does(ledger):
    future = sent(ledger, "a", takes_any_answer=True)
    ledger.settle(answer("a", type="error", body=CONFLICT))
    assert future.result(0) == "done"


def test_answers_are_noticed(ledger):
    sent(ledger, "a")
    ledger.settle(answer("a", sender="mallory@example.org"))
    assert not ledger.has_answers
    ledger.settle(answer("a", type="error", body=CONFLICT))
    assert ledger.has_answers


def test_a_cancelled_request_is_not_failed_and_its_waiters_are_told():
    pending = Pending(stanzas.ping("example.org"), Future())
    assert pending.future.cancel()
    pending.fail(too_late())
    assert pending.future.cancelled()
    assert wait([pending.future], timeout=0).done == {pending.future}


def test_age_counts_from_queueing_and_then_from_sending(ledger, clock):
    pending = Pending(stanzas.ping("example.org"), Future())
    clock.now += 7
    assert pending.age() == pytest.approx(7)
    ledger.add("a", pending)
    assert pending.age() == 0
