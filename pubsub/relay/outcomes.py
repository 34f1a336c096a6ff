"""What became of the rows of a batch, and what that means for each of them."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto

from pubsub.exceptions import QueueFull, RequestRefused, RequestTimeout, StreamError
from pubsub.models import OutboxItem

#: So often a row is sent that the server refuses.
TRIES = 3

#: Seconds before the second try, and the most that is ever waited.
FIRST, LONGEST = 0.5, 300.0

#: Conditions of a server that will take it later, whatever type of error it calls them.
PASSING = {
    "internal-server-error",
    "recipient-unavailable",
    "remote-server-not-found",
    "remote-server-timeout",
    "resource-constraint",
    "service-unavailable",
}


class Outcome(Enum):
    """What became of a row."""

    SENT = auto()  # acknowledged
    LOST = auto()  # nobody knows: it is sent again before those that come after it
    LATER = auto()  # refused for now
    REFUSED = auto()  # refused


@dataclass
class Batch:
    """The rows of a batch by their outcomes, in their order; the errors of those that failed."""

    sent: list[OutboxItem] = field(default_factory=list)
    lost: list[tuple[OutboxItem, BaseException]] = field(default_factory=list)
    later: list[tuple[OutboxItem, BaseException]] = field(default_factory=list)
    refused: list[tuple[OutboxItem, BaseException]] = field(default_factory=list)
    #: Retractions of what is not there, as the server says.
    missing: list[OutboxItem] = field(default_factory=list)

    def add(self, row: OutboxItem, future: Future[str]) -> None:
        """Take in a row whose Future is done."""
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self.sent.append(row)
            return
        if not row.payload and is_missing(error):
            self.missing.append(row)
            return
        found = {Outcome.LOST: self.lost, Outcome.LATER: self.later, Outcome.REFUSED: self.refused}
        found[outcome_of(error)].append((row, error))


def is_missing(error: BaseException) -> bool:
    """Whether the server says that something is not there."""
    return isinstance(error, RequestRefused) and error.condition == "item-not-found"


def outcome_of(error: BaseException) -> Outcome:
    """What an error means for the row that it befell."""
    if isinstance(error, (StreamError, QueueFull, CancelledError)):
        return Outcome.LOST
    if isinstance(error, RequestTimeout):
        return Outcome.LATER
    if isinstance(error, RequestRefused) and (error.type == "wait" or error.condition in PASSING):
        return Outcome.LATER
    return Outcome.REFUSED


def pause_after(tries: int) -> timedelta:
    """How long a row waits after so many tries: doubling, bounded."""
    return timedelta(seconds=min(LONGEST, FIRST * 2.0 ** min(tries - 1, 16)))
