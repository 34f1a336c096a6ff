"""How examinations are made: one after the other, none hiding another."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pubsub.doctor.findings import Finding, Outcome, Result, Skipped, failure
from pubsub.doctor.site import Site
from pubsub.exceptions import PubSubError


@dataclass(frozen=True)
class Examination:
    """One thing that can be examined by itself.

    :param name: as it is given to ``--only``.
    :param asks: the question that it answers, for people.
    :param examine: looks at a site, and gives what it finds as soon as it is found.
    :param needs: the names of those without which it cannot be made.
    """

    name: str
    asks: str
    examine: Callable[[Site], Iterable[Finding]]
    needs: tuple[str, ...] = ()


def examine(
    site: Site, examinations: Sequence[Examination], only: Collection[str] = ()
) -> Iterator[Result]:
    """Make examinations in their order; what each needs comes first, asked for or not.

    :param only: the names of those that were asked for; empty: all of them.
    """
    chosen = with_needs(examinations, only) if only else {each.name for each in examinations}
    outcomes: dict[str, Outcome] = {}
    for examination in examinations:
        if examination.name not in chosen:
            continue
        result = _result(site, examination, outcomes)
        outcomes[examination.name] = result.outcome
        yield result


def with_needs(examinations: Sequence[Examination], names: Collection[str]) -> set[str]:
    """Names, and those of all that these need."""
    needs = {each.name: each.needs for each in examinations}
    chosen: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in chosen:
            chosen.add(name)
            left += needs[name]
    return chosen


# Private


def _result(site: Site, examination: Examination, outcomes: dict[str, Outcome]) -> Result:
    start = time.monotonic()
    findings: list[Finding] = []
    try:
        for name in examination.needs:
            if outcomes[name] is Outcome.FAILURE:
                raise Skipped(f"it needs {name!r}, which failed")
            if outcomes[name] is Outcome.SKIPPED:
                raise Skipped(f"it needs {name!r}, which was skipped")
        findings.extend(examination.examine(site))
    except Skipped as reason:
        findings.append(Finding(Outcome.SKIPPED, str(reason)))
    except (PubSubError, OSError) as error:
        findings.append(
            failure(
                f"it broke off: {error}",
                "What was to be examined does not answer as it should.",
                "Look into the logs of ejabberd and nginx for this moment, and try again.",
            )
        )
    except Exception as error:  # noqa: BLE001 (the others must be made all the same)
        findings.append(
            failure(
                f"it broke off with {error!r}",
                "This is no answer that the doctor knows.",
                "Mend what 'checks' says, if anything; else report a mistake of django-pubsub.",
            )
        )
    return Result(examination.name, tuple(findings), time.monotonic() - start)
