"""What is published, and the process that does it, one event for each line that it reads.

Nothing but the standard library: each peer's publisher runs it with a ``publish`` of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import TextIO

SIZE = 350  # bytes, as an instance of a model with a few fields has them
READY = "ready"


def payload(number: int, moment: int) -> str:
    """350 bytes of JSON with a number and a moment in them, where a crowd finds them.

    :param moment: when it is sent, as ``time.monotonic_ns()`` has it.
    """
    mark = f"@{number}:{moment}@"
    start = f'{{"model":"bench.story","pk":{number},"fields":{{"mark":"{mark}","body":"'
    return start + "x" * (SIZE - len(start) - 3) + '"}}'


def obey(
    publish: Callable[[str], object],
    lines: Iterable[str] = sys.stdin,
    output: TextIO = sys.stdout,
    clock: Callable[[], int] = time.monotonic_ns,
) -> None:
    """Publish an event for each number that comes on a line; repeat it when that is accepted."""
    print(READY, file=output, flush=True)
    for line in lines:
        number = int(line)
        publish(payload(number, clock()))
        print(number, file=output, flush=True)
