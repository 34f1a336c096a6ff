"""Waiting for states, never for times: the one place where tests poll."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

SHORTEST, LONGEST = 0.005, 0.05  # seconds between two looks


def until(condition: Callable[[], Value], what: str, seconds: float = 20.0) -> Value:
    """What the condition returns, once it holds; fails, naming what was awaited, if it never does.

    The longer it waits the less often it looks, for a look may be a question to a page or a server:
    what takes long takes a twentieth longer.

    :param what: a statement or a thing, for a person who reads the failure.
    """
    start = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - start
        assert waited < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(min(max(waited / 20, SHORTEST), LONGEST))
    return value
