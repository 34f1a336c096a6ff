"""What an examination finds, as plain data: what was seen, why it matters, what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """How an examination ended; the later ones weigh more."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILURE = "failure"


WEIGHTS = list(Outcome)


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    :param seen: what is so, with the values quoted; of what was skipped, the reason.
    :param why: a sentence on why it matters; empty where nothing is wrong.
    :param remedy: what to do: the setting, or the line of ejabberd.yml or nginx.conf.
    """

    outcome: Outcome
    seen: str
    why: str = ""
    remedy: str = ""


class Skipped(Exception):
    """An examination cannot be made; the message says why, or what it needs."""


@dataclass(frozen=True)
class Result:
    """All that one examination has found.

    :param seconds: how long it took.
    """

    name: str
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def outcome(self) -> Outcome:
        """The worst of what was found."""
        outcomes = [finding.outcome for finding in self.findings] or [Outcome.OK]
        return max(outcomes, key=WEIGHTS.index)

    def as_dict(self) -> dict[str, object]:
        """What JSON tells of it: texts of several findings stand in lines of their own."""
        worst = [found for found in self.findings if found.outcome is self.outcome]
        return {
            "name": self.name,
            "outcome": self.outcome.value,
            "seen": "\n".join(found.seen for found in worst),
            "why": "\n".join(found.why for found in worst if found.why),
            "remedy": "\n".join(dict.fromkeys(found.remedy for found in worst if found.remedy)),
            "seconds": round(self.seconds, 3),
        }


def fine(seen: str) -> Finding:
    """Something is as it should be."""
    return Finding(Outcome.OK, seen)


def warning(seen: str, why: str, remedy: str) -> Finding:
    """Something works, and should be known or will break."""
    return Finding(Outcome.WARNING, seen, why, remedy)


def failure(seen: str, why: str, remedy: str) -> Finding:
    """Something is broken, or open to those whom it should keep out."""
    return Finding(Outcome.FAILURE, seen, why, remedy)
