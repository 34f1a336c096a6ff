"""Throttling: at most one update per item and interval, the first at once, the last for sure."""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.util import Finalize

from pubsub.items import UPDATED, Item, next_number

#: Sends an item; it must not raise.
Send = Callable[[Item], object]

#: Of how many items updates can be held back at once; those of others go out as they come.
MAX_PAUSES = 10_000

#: Seconds that the thread has at the exit to send what it has in its hands.
FAREWELL = 5

Key = tuple[str, str | None]

logger = logging.getLogger("pubsub")


@dataclass(eq=False)
class _Pause:
    """The time after an update in which others of the same item are held back."""

    until: float
    interval: float
    send: Send
    held: Item | None = None
    #: A number from when it was held back.
    since: int = -1


class Throttle:
    """Holds back updates of items that were sent a moment ago; of several the last one stays.

    A thread sends what is held when its time has come; it lives only as long as there is something
    to wait for.  At the exit of the interpreter everything is sent at once.
    """

    def __init__(self) -> None:
        self._pauses: dict[Key, _Pause] = {}
        self._ends: list[tuple[float, Key]] = []  # a heap; an end that is no pause's is ignored
        self._pauses_lock = threading.Lock()
        self._changed = threading.Condition(self._pauses_lock)
        self._thread: threading.Thread | None = None
        self._finalizer: Finalize | None = None
        self._exiting = False

    def pass_on(self, item: Item, interval: float | None, send: Send) -> None:
        """Send an item, or hold it back until the interval after the last one is over.

        What creates or takes away an item is never held, and makes what is held of it obsolete.

        :param interval: seconds; with none nothing is held, and what is held is obsolete.
        :param send: called with the item, here or in a thread of our own.
        """
        if not self.holds(item, interval, send):
            send(item)

    def holds(self, item: Item, interval: float | None, send: Send) -> bool:
        """Whether an item is held back, and will be sent later; if not, the next one may be.

        :param interval, send: see :meth:`pass_on`.
        """
        if not interval:
            self.forget(item)
            return False
        key = (item.node, item.id)
        with self._pauses_lock:
            pause = self._pauses.get(key)
            if pause is not None and item.event == UPDATED and not item.is_retraction:
                if pause.held is None or _is_later(item, pause.held, pause.since):
                    pause.held, pause.since = item, next_number()
                return True
            if pause is not None:
                del self._pauses[key]
            full = len(self._pauses) >= MAX_PAUSES
            if not (item.is_retraction or full or self._exiting):
                self._begin(key, _Pause(time.monotonic() + interval, interval, send))
            return False

    def forget(self, item: Item) -> None:
        """Drop what is held of an item, because a later state of it is sent another way."""
        if self._pauses:
            with self._pauses_lock:
                self._pauses.pop((item.node, item.id), None)

    def flush(self) -> None:
        """Send everything that is held back, now."""
        with self._pauses_lock:
            pauses, self._pauses = self._pauses, {}
            self._ends = []
            self._changed.notify()
        for pause in pauses.values():
            if pause.held is not None:
                pause.send(pause.held)

    def discard(self) -> None:
        """Forget everything that is held back; for tests."""
        with self._pauses_lock:
            self._pauses.clear()
            self._ends.clear()
            self._changed.notify()

    # Private

    def _begin(self, key: Key, pause: _Pause) -> None:
        """Begin a pause, if somebody can watch its end; the caller holds the lock."""
        if self._thread is None and not self._start():
            return
        self._pauses[key] = pause
        heapq.heappush(self._ends, (pause.until, key))
        if len(self._ends) > 2 * MAX_PAUSES:  # most are of pauses that are forgotten
            self._ends = [(pause.until, key) for key, pause in self._pauses.items()]
            heapq.heapify(self._ends)
        if self._ends[0][1] == key:
            self._changed.notify()  # it ends before the one that is being waited for

    def _start(self) -> bool:
        thread = threading.Thread(target=self._run, name="pubsub throttle", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread left, or the interpreter is ending
            return False
        self._thread = thread
        if self._finalizer is None:
            # At the exit of the interpreter, and of a child of multiprocessing, which knows no
            # atexit; by its priority before the connections that we need are closed.
            self._finalizer = Finalize(None, self._exit, exitpriority=1)
        return True

    def _exit(self) -> None:
        with self._pauses_lock:
            self._exiting = True
            thread = self._thread
        self.flush()
        if thread is not None:  # it may have something in its hands
            thread.join(FAREWELL)

    def _run(self) -> None:
        """The life of the thread: it ends when nothing is left to wait for."""
        while True:
            with self._pauses_lock:
                due = self._due()
                if not (due or self._ends):
                    self._thread = None
                    return
                if not due:
                    self._changed.wait(self._ends[0][0] - time.monotonic())
            for pause, item in due:
                try:
                    pause.send(item)
                except BaseException:  # a receiver may raise SystemExit; the others wait for us
                    logger.exception("What was called about %s on %s", item.id, item.node)

    def _due(self) -> list[tuple[_Pause, Item]]:
        """What is to be sent now; a pause that is over without anything held is forgotten."""
        now = time.monotonic()
        due = []
        while self._ends and self._ends[0][0] <= now:
            until, key = heapq.heappop(self._ends)
            pause = self._pauses.get(key)
            if pause is None or pause.until != until:
                continue
            if pause.held is None:
                del self._pauses[key]
            else:
                due.append((pause, pause.held))
                pause.held = None
                pause.until = now + pause.interval
                heapq.heappush(self._ends, (pause.until, key))
        return due


def _is_later(item: Item, held: Item, since: int) -> bool:
    """Whether an item holds a later state than the one that is held back.

    As in :mod:`pubsub.backends.latest`: a row that was read back is later than a frozen state only
    if its reading began after that one was committed and came here.
    """
    number, last = item.sequence or 0, held.sequence or 0
    if item.is_reread:
        return number > (last if held.is_reread else since)
    return held.is_reread or number > last


#: The throttle of the process.
throttle = Throttle()


def _forget_parents() -> None:
    """In a forked child: what the parent holds back is the parent's to send."""
    throttle.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_forget_parents)
