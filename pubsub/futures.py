"""Futures that are made by hand: of what is known already, and of what another one will know."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from pubsub.exceptions import PubSubError

T = TypeVar("T")


def resolved(value: T) -> Future[T]:
    """A Future of what is known already."""
    future: Future[T] = Future()
    future.set_result(value)
    return future


def failed(error: BaseException) -> Future[Any]:
    """A Future of what has failed already."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def follow(future: Future[T], other: Future[T]) -> None:
    """Give a running Future the outcome of another one, when that has one."""
    other.add_done_callback(partial(_settle, future))


def total(futures: Sequence[Future[int]]) -> Future[int]:
    """A Future of the sum of others; it fails as the first of them does that fails.

    One of them that is cancelled cancels it.
    """
    future: Future[int] = Future()
    left = [len(futures)]
    left_lock = threading.Lock()

    def count(_: Future[int] | None = None) -> None:
        with left_lock:
            left[0] -= 1
            is_last = left[0] < 0
        if not is_last:
            return
        if any(other.cancelled() for other in futures):
            future.cancel()
        if not future.set_running_or_notify_cancel():
            return  # or somebody has cancelled it
        errors = [error for other in futures if (error := other.exception()) is not None]
        if errors:
            future.set_exception(errors[0])
        else:
            future.set_result(sum(other.result() for other in futures))

    for other in futures:
        other.add_done_callback(count)
    count()  # for ourselves: there may be none
    return future


def _settle(future: Future[T], other: Future[T]) -> None:
    if other.cancelled():
        future.set_exception(PubSubError("somebody else cancelled what was to be sent"))
    elif (error := other.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(other.result())
