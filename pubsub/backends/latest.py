"""Of each row's item the last state that was sent, so that no older one follows it."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import partial

from pubsub.futures import follow
from pubsub.items import Item

#: Of how many items the last state is remembered.
REMEMBERED = 10_000


class _State:
    """What was sent last of an item, and what became of it."""

    __slots__ = ("frozen", "outcome", "reread", "sent")

    def __init__(self) -> None:
        #: The number of the last state that was frozen as it was saved.
        self.frozen = -1
        #: A number from when that one was to be sent.
        self.sent = -1
        #: The number of the last state that was read back.
        self.reread = -1
        #: The Future that will know; then its error, or None.
        self.outcome: Future[str] | BaseException | None = None


class Latest:
    """Tells which states of rows are to be sent: those that no later one has gone out before.

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
        # Between the one thread that asks and those who cancel.
        self._states_lock = threading.Lock()

    def admits(self, item: Item, number: int, future: Future[str]) -> bool:
        """Whether an item is to be sent; else its Future shares the outcome of the later state.

        :param item: it has an id and a sequence.
        :param number: from when it was handed over (:func:`pubsub.items.next_number`).
        :param future: will know what became of it.
        """
        assert item.id is not None
        assert item.sequence is not None
        if future.cancelled():
            return True  # so nothing is overtaken, and nothing will be sent
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
            if not is_overtaken:
                if item.is_reread:
                    state.reread = item.sequence
                else:
                    state.frozen, state.sent = item.sequence, number
                state.outcome = future
            outcome = state.outcome
        if is_overtaken:
            _share(future, outcome, item.id)
        else:
            future.add_done_callback(partial(self._answered, key, state))
        return not is_overtaken

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


def _share(future: Future[str], later: Future[str] | BaseException | None, item_id: str) -> None:
    """Settle the Future of a state that need not be sent: it fares as the later one does."""
    if not future.set_running_or_notify_cancel():
        return
    if later is None:
        future.set_result(item_id)
    elif isinstance(later, BaseException):
        future.set_exception(later)
    else:
        follow(future, later)
