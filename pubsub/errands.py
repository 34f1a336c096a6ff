"""What has to be done behind a request: by threads of their own, which may wait for the network.

An errand may use the database and the server.  At exit those that were begun are finished, each of
them within XMPP_TIMEOUT or a small multiple of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from functools import partial
from threading import Timer
from typing import Any, TypeVar

from django.db import connections

from pubsub.backends import get_backend
from pubsub.commits import Promise, on_commit, waits_for_commit
from pubsub.conf import conf
from pubsub.exceptions import PubSubError, RequestTimeout, StreamError
from pubsub.futures import failed, follow
from pubsub.wire.backoff import delay

T = TypeVar("T")

#: How many are under way at a time.
THREADS = 4

#: The server could not be asked, and perhaps can be later.
AWAY = (StreamError, RequestTimeout)


def run(errand: Callable[..., T], *args: Any) -> Future[T]:
    """Let a thread do something, soon.

    :returns: a Future of what it returns.
    """
    global _threads
    if _threads is None:
        _threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pubsub errand")
    try:
        return _threads.submit(_with_clean_hands, errand, *args)
    except RuntimeError as error:  # the interpreter is about to exit, and takes none any more
        return failed(error)


def insist(
    errand: Callable[..., T], *args: Any, report: Callable[[PubSubError], None]
) -> Future[T]:
    """Do as :func:`run`, and again for as long as the server is away, or until the process ends.

    :param report: told why, once, when that has to be.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()
    _attempt(outcome, partial(run, errand, *args), report, 0)
    return outcome


def after_commit(act: Callable[[], Future[T]], using: str | None) -> Future[T]:
    """Begin something now, or inside a transaction when it has committed.

    :param using: database alias; None means the default one.
    :returns: a Future of its outcome; a rollback cancels it.
    :raises TransactionManagementError: when the database's autocommit is switched off.
    """
    if not waits_for_commit(using):
        return act()
    future: Future[T] = Future()
    on_commit(_Deferred(future, act), using)
    return future


def answer(future: Future[T], within: float | None = None) -> T:
    """The server's answer, which is awaited for as long as XMPP_TIMEOUT allows.

    :param within: seconds that it may take instead.
    :raises PubSubError: what the Future fails with; RequestTimeout when nothing comes.
    """
    # A little more, so that whoever finds out why can tell.
    for seconds in (conf.timeout + 1,) * 2 if within is None else (within,):
        try:
            return future.result(seconds)
        except NotYet:
            # What was sent already is not over: soon there will be an answer, or an error.
            if future.cancel():
                break
    trouble = get_backend().trouble()
    raise RequestTimeout("the XMPP server does not answer") from trouble


# Private


def _attempt(
    outcome: Future[T],
    begin: Callable[[], Future[T]],
    report: Callable[[PubSubError], None],
    failures: int,
) -> None:
    def ended(attempt: Future[T]) -> None:
        error = attempt.exception()
        if not isinstance(error, AWAY):
            follow(outcome, attempt)
            return
        if failures == 0:
            report(error)
        again = Timer(delay(failures + 1), _attempt, (outcome, begin, report, failures + 1))
        again.daemon = True
        again.start()

    begin().add_done_callback(ended)


class _Deferred(Promise[T]):
    """Does something when the transaction has committed."""

    def __init__(self, future: Future[T], act: Callable[[], Future[T]]) -> None:
        super().__init__(future)
        self._act = act

    def keep_it(self) -> None:
        try:
            follow(self._future, self._act())
        except Exception as error:  # noqa: BLE001 (nobody is left to raise to)
            self._future.set_exception(error)


def _with_clean_hands(errand: Callable[..., T], *args: Any) -> T:
    """Leave no connection to a database behind, which would stay open for ever."""
    try:
        return errand(*args)
    finally:
        connections.close_all()


def _forget_parents() -> None:
    """In a forked child: the threads are the parent's."""
    global _threads
    _threads = None


_threads: ThreadPoolExecutor | None = None

os.register_at_fork(after_in_child=_forget_parents)
