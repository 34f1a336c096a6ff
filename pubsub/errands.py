"""What has to be done behind a request: by threads of their own, which may wait for the network.

An errand may use the database and the server.  While the server is away it is tried again until the
process ends; then those that were begun are finished, within XMPP_TIMEOUT, and the others are given
up, and logged with the command that makes up for them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from functools import partial
from multiprocessing.util import Finalize
from typing import TypeVar

from django.db import connections

from pubsub.backends import get_backend
from pubsub.commits import Promise, on_commit, waits_for_commit
from pubsub.conf import conf
from pubsub.exceptions import RequestTimeout
from pubsub.futures import follow
from pubsub.runners import Errand, Runner

T = TypeVar("T")

#: How many are under way at a time, of those that are urgent, and of the others.
THREADS = 4


def run(
    act: Callable[[], T],
    *,
    what: str,
    remedy: str,
    key: Hashable | None = None,
    is_urgent: bool = False,
) -> Future[T]:
    """Let a thread do something, soon, or as soon as the server is there.

    :param what, remedy, key: see :class:`~pubsub.runners.Errand`.
    :param is_urgent: whether somebody waits for it; it does not stand behind those that are not.
    :returns: a Future of what it returns; a failure is logged, too.
    """
    global _finalizer
    if _finalizer is None:
        # At the exit of the interpreter, and of a child of multiprocessing, which knows no atexit;
        # by its priority before the connections that we need are closed.
        _finalizer = Finalize(None, finish, exitpriority=2)
    errand = Errand(partial(_with_clean_hands, act), what, remedy, key)
    future: Future[T] = (_urgent if is_urgent else _others).take(errand)
    return future


def finish() -> None:
    """Begin nothing any more, and wait for what was begun, as long as XMPP_TIMEOUT allows."""
    until = time.monotonic() + conf.timeout
    for runner in (_urgent, _others):
        runner.begin_to_close()
    for runner in (_urgent, _others):
        runner.close(until)


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


def _with_clean_hands(act: Callable[[], T]) -> T:
    """Leave no connection to a database behind, which would stay open for ever."""
    try:
        return act()
    finally:
        connections.close_all()


def _forget_parents() -> None:
    """At first, and in a forked child: the threads, and what they have to do, are the parent's."""
    global _urgent, _others, _finalizer
    _urgent = Runner("pubsub errand", THREADS)
    _others = Runner("pubsub errand", THREADS)
    _finalizer = None


_urgent: Runner
_others: Runner
_finalizer: Finalize | None

_forget_parents()

os.register_at_fork(after_in_child=_forget_parents)
