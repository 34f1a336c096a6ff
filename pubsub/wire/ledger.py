"""What has been sent and not been answered: pure book-keeping, no socket, no thread.

XMPP answers a sender's requests to one service in the order in which it sent them (RFC 6120
§10.1), so a request is late when the server is silent, or answers later ones instead.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from xmpp.simplexml import Node

from pubsub.exceptions import PubSubError
from pubsub.wire import answers, stanzas

T = TypeVar("T")

logger = logging.getLogger("pubsub.wire")


@dataclass(eq=False, slots=True)
class Pending(Generic[T]):
    """A request and the Future that waits for its answer.

    :param since: when it was queued; then when it was sent.
    :param overtaken: when a later one was answered before it.
    :param prepares: the one that this one creates the node for.
    :param stream: the name of the stream that it must go by; empty: any.
    :param mark: of its first sending; it keeps it when it is sent again.
    :param sendings: how often it was sent.
    :param strikes: how many streams ended over it, as it seems; without a word they count less.
    """

    request: stanzas.Request[T]
    future: Future[T]
    since: float = field(default_factory=lambda: time.monotonic())
    overtaken: float | None = None
    prepares: Pending[Any] | None = None
    stream: str = ""
    mark: str = ""
    sendings: int = 0
    strikes: float = 0

    def open(self) -> Pending[T]:
        """Itself: its request is made already, as not that of everything that is asked for."""
        return self

    def age(self) -> float:
        """Seconds since it was queued."""
        return time.monotonic() - self.since

    def starts(self) -> bool:
        """Whether it still needs an answer; from now on it cannot be cancelled any more."""
        if self.future.running():
            return True
        # The last part tells those who wait for a cancelled Future that it has been dropped.
        is_over = self.future.done() and not self.future.cancelled()
        return not is_over and self.future.set_running_or_notify_cancel()

    def succeed(self, result: T) -> None:
        """Give the Future its result."""
        self._tell(self.future.set_result, result)

    def fail(self, error: PubSubError) -> None:
        """Give the Future the error, unless somebody has cancelled it."""
        if self.starts():
            # One of its own: an exception that many raise collects the frames of all of them.
            own = copy.copy(error)
            own.__cause__ = error.__cause__
            self._tell(self.future.set_exception, own)

    # Private

    def _tell(self, settle: Callable[[Any], None], value: Any) -> None:
        try:
            settle(value)
        except BaseException:  # a callback may raise SystemExit, which Future lets through
            logger.exception("A callback of a request to %s", self.request.to)


class Ledger:
    """The requests of one stream that wait for their answers, oldest first.

    :param timeout: seconds after which an answer is late.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._waiting: dict[str, Pending[Any]] = {}
        self._last_answer = 0.0

    @property
    def size(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def has_answers(self) -> bool:
        """Whether anything has been answered on this stream."""
        return self._last_answer > 0.0

    def add(self, id: str, pending: Pending[Any]) -> None:
        """Note a request that goes out now under this id."""
        pending.since = time.monotonic()
        pending.overtaken = None
        pending.sendings += 1
        self._waiting[id] = pending

    def settle(self, answer: Node) -> None:
        """Resolve the Future that an IQ of type result or error belongs to.

        Answers to nothing, and answers in somebody else's name, are passed over.
        """
        id = answer.getAttr("id") or ""
        pending = self._waiting.get(id)
        if (
            pending is None
            or str(answer.getAttr("from") or pending.request.to) != pending.request.to
        ):
            return
        self._mark_overtaken(id)
        del self._waiting[id]
        self._last_answer = time.monotonic()
        if answer.getAttr("type") == "error" and not pending.request.takes_any_answer:
            error = answers.parse_error(answer)
            if error.condition not in pending.request.done_when:
                pending.fail(error)
                return
        try:
            result = pending.request.parse(answer)
        except Exception as error:  # noqa: BLE001 (whatever the answer holds)
            pending.fail(PubSubError(f"the server's answer makes no sense ({error!r})"))
        else:
            pending.succeed(result)

    def silence(self) -> float | None:
        """Seconds that the server has kept us waiting, when that is too long; else None.

        Only answers count: a server that says other things all the time may still have forgotten.
        """
        # Those that were passed over prove that it does answer; they expire by themselves.
        waiting = self._waiting.values()
        oldest = next((pending for pending in waiting if pending.overtaken is None), None)
        if oldest is None:
            return None
        waited = time.monotonic() - max(self._last_answer, oldest.since)
        return waited if waited > self._timeout else None

    def expire(self, error: Callable[[], PubSubError]) -> None:
        """Fail the requests that were passed over while later ones were answered."""
        bound = time.monotonic() - self._timeout
        late = []
        for id, pending in self._waiting.items():
            if pending.overtaken is None:
                break  # younger ones cannot have been overtaken either
            if pending.overtaken < bound:
                late.append(id)
        for id in late:
            self._waiting.pop(id).fail(error())

    def take_all(self) -> list[Pending[Any]]:
        """All that wait, oldest first; then nothing does."""
        waiting, self._waiting = self._waiting, {}
        return list(waiting.values())

    # Private

    def _mark_overtaken(self, answered: str) -> None:
        for id, pending in self._waiting.items():
            if id == answered:
                return
            if pending.overtaken is None:
                pending.overtaken = time.monotonic()
