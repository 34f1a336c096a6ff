"""When to try again, and when there is no point in it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from pubsub.exceptions import ConnectError, StreamError, StreamLost

#: Seconds before the second attempt, and the most that is ever waited.
FIRST, LONGEST = 0.5, 10.0

#: What may be over at the next attempt; all other errors need somebody to change something.
PASSING = (ConnectError, StreamLost)


def delay(failures: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many failures in a row: doubling, bounded, half of it by chance.

    The chance keeps a hundred processes that lost the same server from coming back at once.

    :param failures: 1 after the first failure.
    :param chance: gives a number from 0 to 1.
    """
    longest = min(LONGEST, FIRST * 2.0 ** min(failures - 1, 16))
    return longest * (0.5 + chance() / 2)


class Attempts:
    """The attempts to have a stream, as far as they failed since the last success."""

    def __init__(self) -> None:
        self.failures = 0
        #: Why there is no stream; None while there is one.
        self.error: StreamError | None = None
        #: When the next attempt is due, by the monotonic clock.
        self.next = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the next attempt may be made now."""
        return time.monotonic() >= self.next

    @property
    def is_hopeless(self) -> bool:
        """Whether whoever waits for the next attempt waits in vain: it would meet the same."""
        lasting = self.error is not None and not isinstance(self.error, PASSING)
        return lasting and not self.is_due

    def failed(self, error: StreamError) -> None:
        """Note a failure; the next attempt is put off."""
        self.failures += 1
        self.error = error
        self.next = time.monotonic() + delay(self.failures)

    def hasten(self) -> None:
        """Make the next attempt due: there will not be many more."""
        self.next = 0.0

    def succeeded(self) -> None:
        """Note that there is a stream."""
        self.failures = 0
        self.error = None
