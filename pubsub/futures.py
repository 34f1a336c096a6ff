"""Futures that are made by hand: of what is known already, and of what another one will know."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from pubsub.exceptions import PubSubError

T = TypeVar("T")


def resolved(value: T) -> Future[T]:
    """A Future of what is known already."""
    future: Future[T] = Future()
    future.set_result(value)
    return future


def follow(future: Future[T], other: Future[T]) -> None:
    """Give a running Future the outcome of another one, when that has one."""
    other.add_done_callback(partial(_settle, future))


def _settle(future: Future[T], other: Future[T]) -> None:
    if other.cancelled():
        future.set_exception(PubSubError("somebody else cancelled what was to be sent"))
    elif (error := other.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(other.result())
