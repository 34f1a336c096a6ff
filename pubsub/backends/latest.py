"""Of each row's item the last state that was sent, so that no older one follows it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from pubsub.futures import failed, follow, resolved
from pubsub.items import Item, next_number

#: Of how many items the last state is remembered.
REMEMBERED = 10_000

Request = Callable[[Item], Future[str]]


@dataclass(eq=False)
class _State:
    """What was sent last of an item, and what became of it.

    :param frozen: the number of the last state that was frozen as it was saved.
    :param sent: a number from when that one was sent.
    :param reread: the number of the last state that was read back.
    :param outcome: the Future that will know; then its error, or None.
    """

    frozen: int = -1
    sent: int = -1
    reread: int = -1
    outcome: Future[str] | BaseException | None = None


class Latest:
    """Sends the states of rows, unless a later one has gone out already.

    Two threads that commit one after the other may arrive here the other way round.  The database
    lets the second transaction write a row only after the first has committed, so the item that was
    frozen later holds the later state.  (Without transactions two threads that save one row in the
    same moment may freeze it in the other order than the database has written it.)

    A row that was read back, without a lock, may be older than one that was frozen before it and
    commits after it.  So it overtakes nothing, and is left out when anything was sent since the
    reading began.
    """

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], _State] = {}
        self._states_lock = threading.Lock()

    def send(self, item: Item, request: Request) -> Future[str]:
        """Send an item, or let it share the outcome of the later state of it that was sent.

        :param item: it has an id and a sequence.
        :param request: sends it; called with a lock held, so it must not call the user's code.
        """
        assert item.id is not None
        assert item.sequence is not None
        key = (item.node, item.id)
        with self._states_lock:
            state = self._states.pop(key, None) or _State()
            self._states[key] = state
            if len(self._states) > REMEMBERED:
                del self._states[next(iter(self._states))]
            if item.is_reread:
                is_overtaken = item.sequence < max(state.sent, state.reread)
            else:
                is_overtaken = item.sequence < state.frozen
            if is_overtaken:
                return _outcome_of(state.outcome, item.id)
            future = request(item)
            if future.done():
                return future  # it was refused at once, so nothing has been overtaken
            if item.is_reread:
                state.reread = item.sequence
            else:
                state.frozen, state.sent = item.sequence, next_number()
            state.outcome = future
        future.add_done_callback(partial(self._answered, key, state))
        return future

    # Private

    def _answered(self, key: tuple[str, str], state: _State, future: Future[str]) -> None:
        """Let go of the Future, which holds the item with its payload; forget what was not sent."""
        with self._states_lock:
            if state.outcome is not future:
                return
            if not future.cancelled():
                state.outcome = future.exception()
            elif self._states.get(key) is state:
                del self._states[key]


def _outcome_of(later: Future[str] | BaseException | None, item_id: str) -> Future[str]:
    """The Future of a state that need not be sent: it fares as the later one does."""
    if later is None:
        return resolved(item_id)
    if isinstance(later, BaseException):
        return failed(later)
    future: Future[str] = Future()
    future.set_running_or_notify_cancel()
    follow(future, later)
    return future
