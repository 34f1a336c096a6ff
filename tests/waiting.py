"""Waiting for states, never for times: the one place where tests poll."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def until(condition: Callable[[], Value], what: str, seconds: float = 20.0) -> Value:
    """What the condition returns, once it holds; fails, naming what was awaited, if it never does.

    :param what: a statement or a thing, for a person who reads the failure.
    """
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.005)
    return value
