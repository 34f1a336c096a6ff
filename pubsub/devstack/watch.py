"""Keeping watch over children until somebody ends it, for the commands that run a stack."""

from __future__ import annotations

import atexit
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mirakuru.base import cleanup_subprocesses

from pubsub.devstack.errors import StackError
from pubsub.devstack.processes import Child

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERVAL_SECONDS = 0.25


@contextmanager
def until_told_to_end() -> Iterator[None]:
    """Run the block until it ends, or until SIGINT, SIGTERM or SIGHUP; none of them is an error.

    This is for a process that has nothing else to do than to hold a stack.
    Whatever the block does, it sees a KeyboardInterrupt and can tidy up.  Main thread only.
    """
    # At exit mirakuru kills every process whose mark contains this one's number, be it within a
    # longer number; ours carry no mark (see Child) and need none of that.
    atexit.unregister(cleanup_subprocesses)
    previous = {signum: signal.signal(signum, signal.default_int_handler) for signum in ENDING}
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def watch(children: Iterable[Child]) -> None:
    """Wait for as long as all children run.

    :raises StackError: when one has ended by itself; the message names and quotes it.
    """
    watched = list(children)
    while True:
        for child in watched:
            if not child.running():
                raise StackError(f"{child.name} has ended by itself:\n{child.last_words()}")
        time.sleep(INTERVAL_SECONDS)
