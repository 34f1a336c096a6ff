"""Sending many items one behind the other, as fast as the server takes them."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from pubsub.conf import conf
from pubsub.exceptions import PubSubError, RequestTimeout, ServerLost, StreamError
from pubsub.items import Item
from pubsub.publishing import report_failure, send

#: How many items may wait for the server's acknowledgement before the next one is sent.
WINDOW = 500


class Pipeline:
    """Sends items; waits where more than :data:`WINDOW` of them are unacknowledged.

    What goes wrong with an item is told by ``publish_failed``, and the next one is sent.
    """

    def __init__(self) -> None:
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

        :raises ServerLost: when as many items as there is room for were lost one after the other:
            the server is not there, and waiting on would take for ever.
        """
        # Nobody who is asked answers later than that.
        if not self._slots.acquire(timeout=3 * conf.timeout):
            raise ServerLost(f"no answer for {3 * conf.timeout:g} s")
        with self._counts_lock:
            if self._lost_in_a_row >= self._window:
                raise ServerLost(str(self._error)) from self._error
            self._unsettled += 1
        try:
            future = send(item)
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

        It fails with the first error that there was.
        """
        self._settle(None, is_item=False)
        return self._result

    # Private

    def _done(self, future: Future[str]) -> None:
        cancelled = future.cancelled()
        self._settle(PubSubError("it was cancelled") if cancelled else future.exception())

    def _settle(self, error: BaseException | None, *, is_item: bool = True) -> None:
        with self._counts_lock:
            self._unsettled -= 1
            if is_item and error is None:
                self._acknowledged += 1
                self._lost_in_a_row = 0
            elif isinstance(error, (StreamError, RequestTimeout)):
                self._lost_in_a_row += 1
            self._error = self._error or error
            is_last = self._unsettled == 0
        self._slots.release()
        if not is_last:
            return
        if self._error is None:
            self._result.set_result(self._acknowledged)
        else:
            self._result.set_exception(self._error)
