"""What waits to be sent, oldest first: pure book-keeping, no socket, no thread, no lock.

A request that endures keeps its place until it is answered: what was sent on a stream that is lost
comes back to the head.  One that the server ends each of its streams over would come back for
ever, and everything behind it; so the oldest of those that were lost is suspected, and no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from pubsub.wire.ledger import Pending

#: So many strikes may a request have before it is given up.
STRIKES = 3

#: What a stream counts that the server ended without a word: it may be the network's fault.
WITHOUT_A_WORD = 0.25


class Outgoing:
    """The requests that wait to be sent."""

    def __init__(self) -> None:
        self._queue: deque[Pending[Any]] = deque()
        #: Those among them that do not endure, which stand in the order of their age.
        self._mortal: deque[Pending[Any]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def first(self) -> Pending[Any] | None:
        """The one that is to be sent next."""
        return self._queue[0] if self._queue else None

    @property
    def is_wanted(self) -> bool:
        """Whether there is one that nobody has cancelled."""
        return any(not pending.future.cancelled() for pending in self._queue)

    def append(self, pending: Pending[Any]) -> None:
        """Queue a request behind all others."""
        self._queue.append(pending)
        if not pending.request.endures:
            self._mortal.append(pending)

    def take(self) -> Pending[Any]:
        """Take out the first; there must be one."""
        pending = self._queue.popleft()
        if not pending.request.endures:
            self._mortal.popleft()
        return pending

    def take_all(self) -> list[Pending[Any]]:
        """Take out all, oldest first."""
        taken = list(self._queue)
        self._queue.clear()
        self._mortal.clear()
        return taken

    def take_expired(self, seconds: float) -> list[Pending[Any]]:
        """Take out those that do not endure and were queued so long ago."""
        expired = []
        while self._mortal and self._mortal[0].age() >= seconds:
            expired.append(self._mortal.popleft())
        if expired:
            gone = set(map(id, expired))
            self._queue = deque(pending for pending in self._queue if id(pending) not in gone)
        return expired

    def next_expiry(self, seconds: float) -> float | None:
        """When :meth:`take_expired` will take one out, by the monotonic clock."""
        return self._mortal[0].since + seconds if self._mortal else None

    def take_back(self, sent: Sequence[Pending[Any]]) -> list[Pending[Any]]:
        """Queue again, before all others, what was sent on a stream that is lost.

        :param sent: what had no answer, oldest first.
        :returns: those of them that cannot be sent again: they do not endure, or have too many
            strikes.
        """
        again = [p for p in sent if p.request.endures and p.strikes < STRIKES]
        self._queue.extendleft(reversed(again))
        kept = set(map(id, again))
        left = [pending for pending in sent if id(pending) not in kept]
        if self._queue and self._queue[0].strikes >= STRIKES:  # over the creation of its node
            left.append(self.take())
        return left


def blame(
    sent: Sequence[Pending[Any]], *, answered: bool, silent: bool, accused: bool = False
) -> None:
    """Give a strike to the request that a stream seems to have ended over, if there is one.

    It must be the oldest, as the server takes one after the other; and the server must have
    answered something on that stream, or it may be the server that is to blame.

    :param sent: what had no answer, oldest first.
    :param answered: whether the server has answered anything else on that stream.
    :param silent: whether it was given up because the server did not answer: then it may be frozen,
        unless it fell silent over a request that it had not answered before either.
    :param accused: whether the server said that it was over what it had been sent.
    """
    if not sent or not answered:
        return
    suspect = sent[0].prepares or sent[0]
    if not silent or suspect.sendings > 1:
        suspect.strikes += 1 if accused or silent else WITHOUT_A_WORD
