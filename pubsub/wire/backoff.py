"""How long to wait before the next attempt: a pure function, so that it can be looked at alone."""

from __future__ import annotations

import random
from collections.abc import Callable

#: Seconds before the second attempt, and the most that is ever waited.
FIRST, LONGEST = 0.5, 30.0


def delay(failures: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many failures in a row: doubling, bounded, half of it by chance.

    The chance keeps a hundred processes that lost the same server from coming back at once.

    :param failures: 1 after the first failure.
    :param chance: gives a number from 0 to 1.
    """
    longest = min(LONGEST, FIRST * 2.0 ** min(failures - 1, 16))
    return longest * (0.5 + chance() / 2)
