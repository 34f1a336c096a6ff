"""Sending many items one behind the other, as fast as the server takes them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

from django.core.exceptions import ImproperlyConfigured

from pubsub.backends import get_backend
from pubsub.conf import conf
from pubsub.exceptions import (
    PubSubError,
    QueueFull,
    RequestTimeout,
    ServerLost,
    StreamError,
)
from pubsub.items import Item
from pubsub.publishing import report_failure, reported

#: How many items may wait for the server's acknowledgement before the next one is sent.
WINDOW = 500


class Pipeline:
    """Sends items; waits where more than :data:`WINDOW` of them are unacknowledged.

    What goes wrong with an item is told by ``publish_failed``, and the next one is sent.  In the
    thread that hears the answers, where receivers of our signals are called, it never waits: what
    does not fit the queue fails.
    """

    def __init__(self) -> None:
        # Nobody who is asked answers later than that; where nobody can be asked, a third will do.
        self._patience = 3 * conf.timeout
        self._is_given_up = False
        self._window = max(1, min(WINDOW, conf.queue_size // 2))
        self._slots = threading.Semaphore(self._window)
        self._counts_lock = threading.Lock()
        self._unsettled = 1  # we ourselves, until finish()
        self._acknowledged = 0
        self._lost_in_a_row = 0
        self._error: BaseException | None = None
        self._result: Future[int] = Future()
        self._result.set_running_or_notify_cancel()

    def send(self, item: Item) -> None:
        """Send an item, as soon as there is room.

        :raises ServerLost: when nobody answers, or as many items as there is room for were lost
            one after the other: the server is not there, and waiting on would take for ever.
        """
        if not self._has_room() and _may_wait():
            self._is_given_up = True
            trouble = get_backend().trouble()
            lost = ServerLost(str(trouble or f"no answer for {self._patience:g} s"))
            self.fail(lost)
            raise lost from trouble
        with self._counts_lock:
            if self._lost_in_a_row >= self._window:
                raise ServerLost(str(self._error)) from self._error
            self._unsettled += 1
        try:
            future = self._handed_over(item)
        except Exception as error:  # noqa: BLE001 (no backend; it is told, and the next is tried)
            report_failure(item, error)
            self._settle(error)
        else:
            future.add_done_callback(self._done)

    def fail(self, error: BaseException) -> None:
        """Note that something was not even sent."""
        self._error = self._error or error

    def finish(self) -> Future[int]:
        """A Future of how many items were acknowledged, when all of them have an answer.

        It fails with the first error that there was; at once when the server was not waited for,
        as what has been sent may have its answers hours later.
        """
        if self._is_given_up:
            self._result.set_exception(self._error)
        self._settle(None, is_item=False)
        return self._result

    # Private

    def _has_room(self) -> bool:
        """Whether one more may be unacknowledged; waits for it where it may."""
        begin = time.monotonic()
        while not self._slots.acquire(timeout=self._patience / 3 if _may_wait() else 0):
            if not _may_wait() or self._has_waited(begin):
                return False
        return True

    def _has_waited(self, begin: float) -> bool:
        """Whether it has waited long enough for a server that is there, or for one that is not."""
        waited = time.monotonic() - begin
        is_away = waited >= self._patience / 3 and get_backend().trouble() is not None
        return is_away or waited >= self._patience

    def _handed_over(self, item: Item) -> Future[str]:
        """The Future of an item that the backend has taken, or had no room for all the time."""
        begin = time.monotonic()
        while True:
            future = get_backend().send(item)
            if not _is_full(future) or not _may_wait() or self._has_waited(begin):
                return reported(item, future)
            time.sleep(0.01)  # others fill the queue, too; it empties as the server answers

    def _done(self, future: Future[str]) -> None:
        cancelled = future.cancelled()
        self._settle(PubSubError("it was cancelled") if cancelled else future.exception())

    def _settle(self, error: BaseException | None, *, is_item: bool = True) -> None:
        with self._counts_lock:
            self._unsettled -= 1
            if is_item and error is None:
                self._acknowledged += 1
                self._lost_in_a_row = 0
            elif isinstance(error, QueueFull):
                self._lost_in_a_row = self._window  # it has been waited for, as far as may be
            elif isinstance(error, (StreamError, RequestTimeout)):
                self._lost_in_a_row += 1
            self._error = self._error or error
            is_last = self._unsettled == 0
        self._slots.release()
        if not is_last or self._is_given_up:
            return
        if self._error is None:
            self._result.set_result(self._acknowledged)
        else:
            self._result.set_exception(self._error)


def _may_wait() -> bool:
    """Whether the answers come from another thread than this one."""
    try:
        return not get_backend().resolves_here()
    except ImproperlyConfigured:
        return False  # there is nothing to wait for


def _is_full(future: Future[str]) -> bool:
    done = future.done() and not future.cancelled()
    return done and isinstance(future.exception(), QueueFull)
