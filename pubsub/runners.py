"""Threads that do errands one after another, and for as long as the server is away again.

While it is away one errand at a time is tried, and all others wait.  A thread ends when nothing is
left to do; at the exit of the process what has not begun is given up, in the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

from pubsub.exceptions import (
    PubSubError,
    QueueFull,
    RequestFatal,
    RequestRefused,
    RequestTimeout,
    StreamError,
)
from pubsub.futures import follow
from pubsub.wire.backoff import delay

logger = logging.getLogger("pubsub")

ENDS = "the process ends before it is done"


class Errand:
    """Something to be done.

    :param what: as it follows "Could not", for the log.
    :param remedy: the command that makes up for it if it is not done.
    :param key: what is asked for twice under one key, before it has begun, is done once.
    """

    def __init__(
        self, act: Callable[[], Any], what: str, remedy: str, key: Hashable | None = None
    ) -> None:
        self.act = act
        self.key = object() if key is None else key
        self.future: Future[Any] = Future()
        self.future.set_running_or_notify_cancel()
        self._what = what
        self._remedy = remedy
        self._is_told = False

    def put_off(self, error: BaseException | None) -> None:
        """Say, once, that it cannot be done yet."""
        if not self._is_told:
            self._is_told = True
            logger.error(
                "Could not %s yet: %s. It is tried again while this process lives; else run %s",
                *(self._what, error, self._remedy),
            )

    def fail(self, error: BaseException) -> None:
        """Say that it will not be done."""
        self.tell(error, exc_info=error if error.__traceback__ else None)
        self.future.set_exception(error)

    def tell(self, why: object, **options: Any) -> None:
        """Write to the log that it was not done, as far as one can know."""
        message = "Could not %s: %s. To make up for it: %s"
        logger.error(message, self._what, why, self._remedy, **options)


class Runner:
    """Does errands, oldest first, in daemon threads.

    :param name: of its threads.
    :param threads: how many there are at most.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._most = threads
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, Errand] = {}
        #: What each thread has in its hands.
        self._threads: dict[threading.Thread, Errand | None] = {}
        #: How often the server was found to be away, one time after another, and why.
        self._failures = 0
        self._trouble: BaseException | None = None
        #: Becomes a thread of ours when the next attempt is due; nothing is begun before.
        self._timer: threading.Timer | None = None
        self._is_over = False

    def take(self, errand: Errand) -> Future[Any]:
        """Do an errand soon.

        :returns: a Future of what it returns; nobody can cancel it.
        """
        refusal: BaseException | None = None
        with self._lock:
            if self._is_over:
                refusal = PubSubError(ENDS)
            else:
                errand = self._waiting.setdefault(errand.key, errand)
                refusal = self._begin()
                if refusal is not None:
                    del self._waiting[errand.key]
            is_away, trouble = self._failures > 0, self._trouble
        if refusal is not None:
            errand.fail(refusal)
        elif is_away:
            errand.put_off(trouble)
        return errand.future

    def begin_to_close(self) -> None:
        """Begin nothing any more, and give up what waits."""
        with self._lock:
            self._is_over = True
            given_up, self._waiting = list(self._waiting.values()), {}
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for errand in given_up:
            errand.fail(PubSubError(ENDS))

    def close(self, until: float) -> None:
        """Wait for what has begun; :meth:`begin_to_close` comes first.

        :param until: what is not done then, by the monotonic clock, is given up.
        """
        with self._lock:
            begun = dict(self._threads)
        for thread, errand in begun.items():
            if thread is threading.current_thread():
                continue
            thread.join(max(0, until - time.monotonic()))
            if thread.is_alive() and errand is not None:
                errand.tell(ENDS)

    # Private

    def _begin(self) -> RuntimeError | None:
        """Start threads for what waits; the caller holds the lock.

        :returns: why nobody will do it.
        """
        most = 1 if self._failures else self._most  # to see whether it is back
        wanted = 0 if self._timer else min(most - len(self._threads), len(self._waiting))
        for _ in range(wanted):
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._threads[thread] = None
            try:
                thread.start()
            except RuntimeError as error:  # no thread left, or the interpreter is about to exit
                del self._threads[thread]
                return None if self._threads else error
        return None

    def _work(self) -> None:
        """The life of a thread."""
        try:
            while (errand := self._next()) is not None:
                try:
                    result = errand.act()
                except BaseException as error:  # noqa: BLE001 (whoever asked for it will see)
                    if passes(error):
                        self._put_off(errand, error)
                        continue
                    errand.fail(error)
                else:
                    errand.future.set_result(result)
                self._is_there()
        finally:
            with self._lock:
                self._threads.pop(threading.current_thread(), None)

    def _next(self) -> Errand | None:
        """Take an errand in hand; None: the thread is not needed any more."""
        thread = threading.current_thread()
        with self._lock:
            if self._timer is not None or not self._waiting:
                # Whoever comes from now on starts another one.
                self._threads.pop(thread, None)
                return None
            errand = self._waiting.pop(next(iter(self._waiting)))
            self._threads[thread] = errand
            return errand

    def _put_off(self, errand: Errand, error: BaseException) -> None:
        with self._lock:
            is_over, newer = self._is_over, None
            if not is_over:
                newer = self._waiting.pop(errand.key, None)
                self._waiting[errand.key] = errand
                self._trouble = error
                if self._timer is None:
                    self._failures += 1
                    self._rest()
            waiting = list(self._waiting.values())
        for each in waiting:
            each.put_off(error)
        if newer is not None:
            follow(newer.future, errand.future)
        if is_over:
            errand.fail(error)

    def _rest(self) -> None:
        """Begin nothing for a while; the caller holds the lock."""
        timer = threading.Timer(delay(self._failures), self._wake)
        timer.daemon = True
        timer.name = self._name
        self._timer = timer
        try:
            timer.start()
        except RuntimeError:  # then the next one that is begun shows whether the server is there
            self._timer = None

    def _wake(self) -> None:
        with self._lock:
            self._timer = None
            self._threads[threading.current_thread()] = None
        self._work()

    def _is_there(self) -> None:
        """The server is there, as far as one can know."""
        with self._lock:
            self._failures = 0
            if not self._is_over:
                self._begin()


def passes(error: BaseException) -> bool:
    """Whether what failed may go well later, because the server is away, or says so."""
    if isinstance(error, RequestRefused):
        return error.type == "wait"
    is_away = isinstance(error, StreamError | RequestTimeout | QueueFull)
    return is_away and not isinstance(error, RequestFatal)
