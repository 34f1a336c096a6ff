"""One turn of a crowd: what is published to it, steadily and as fast as it goes, and what that
costs the servers.  Knows no server: peers are measured by the same lines."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

import psutil

from bench.crowd import Crowd
from bench.errors import BenchError
from bench.measure import Turn
from bench.pages import Conditions

#: Publishes something that holds the mark of this number; done when the server has taken it.
Publish = Callable[[int], "Future[Any]"]

PER_SECOND = 5.0  # items, steadily
WINDOW = 16  # items that may wait for their acknowledgement, or fewer: 20,000 deliveries
AWAITED = 20_000
AHEAD = 50_000  # deliveries that may be under way
PATIENCE = 60.0  # seconds
SILENCE = 3.0  # seconds


@dataclass(frozen=True)
class Pace:
    """How long a turn takes.

    :param items: how many are published steadily.
    :param seconds: for how long items are pushed.
    """

    items: int
    seconds: float

    @classmethod
    def of(cls, conditions: Conditions) -> Pace:
        """Short where few rounds are wanted."""
        return cls(*((3, 0.3) if conditions.rounds < 20 else (10, 1.5)))


def rounds(conditions: Conditions) -> int:
    """How many turns each task has: they are long."""
    return max(2, conditions.rounds // 20)


class Publisher:
    """Publishes to one crowd, turn after turn; numbers go on.

    :param servers: CPU seconds that all servers have taken until now.
    :param silence: seconds without a delivery, after which those that are missing are lost.
    """

    def __init__(
        self,
        publish: Publish,
        crowd: Crowd,
        servers: Callable[[], float],
        silence: float = SILENCE,
    ) -> None:
        self._silence = silence
        self._publish = publish
        self._crowd = crowd
        self._servers = servers
        self._number = 1

    def warm_up(self, within: float = PATIENCE) -> None:
        """Let everybody hear one item.

        :param within: so many seconds.
        :raises BenchError: when somebody does not.
        """
        self._begin()
        self._next().result(within)
        if not self._crowd.wait(self._listeners, within):
            heard = self._crowd.deliveries()
            raise BenchError(f"an item reached {heard} of {self._listeners} listeners")

    def turn(self, pace: Pace, ahead: int = 0) -> Turn:
        """Publish steadily, and then as fast as it goes.

        :param ahead: how many items may be under way then; 0: what makes 50,000 deliveries.
        """
        self._begin()
        before = self._servers()
        self._steadily(pace.items)
        steady = self._servers() - before
        calm = self._crowd.result()

        self._begin()
        start, before = time.monotonic_ns(), self._servers()
        self._push(pace.seconds, ahead or max(8, AHEAD // self._listeners))
        pushed = self._servers() - before
        busy = self._crowd.result()
        seconds = max(1, busy.last - start) / 1e9
        return Turn(
            [latency / 1e6 for latency in calm.latencies],
            1e6 * steady / max(1, calm.deliveries),
            1e6 * pushed / max(1, busy.deliveries),
            busy.deliveries / seconds,
            calm.lost + busy.lost,
            calm.disordered + busy.disordered,
            calm.repeated + busy.repeated,
            calm.closed + busy.closed,
            busy.cpu_seconds / seconds,
            calm.deliveries + busy.deliveries,
        )

    # Private

    def _begin(self) -> None:
        # Who was closed before is not waited for again; who is closed meanwhile loses something.
        self._listeners = len(self._crowd)
        if not self._listeners:
            raise BenchError("the server has closed all connections of a crowd")
        self._crowd.reset(self._number)

    def _next(self) -> Future[Any]:
        future = self._publish(self._number)
        self._number += 1
        return future

    def _steadily(self, items: int) -> None:
        start = time.monotonic()
        futures = []
        for number in range(items):
            time.sleep(max(0.0, start + number / PER_SECOND - time.monotonic()))
            futures.append(self._next())
        self._settle(futures)
        # The time of the last one belongs to it, too: what is idle costs, and is paid for.
        time.sleep(max(0.0, start + items / PER_SECOND - time.monotonic()))

    def _push(self, seconds: float, ahead: int) -> None:
        free = threading.BoundedSemaphore(max(4, min(WINDOW, AWAITED // self._listeners)))
        end = time.monotonic() + seconds
        futures = []
        while time.monotonic() < end:
            if not free.acquire(timeout=PATIENCE):
                raise BenchError(f"nothing was acknowledged for {PATIENCE:g} s")
            futures.append(self._next())
            futures[-1].add_done_callback(lambda _: free.release())
            due = max(0, len(futures) - ahead) * len(self._crowd)
            if not self._crowd.wait(due, self._silence):
                break  # something was lost: what has come is looked at below
        self._settle(futures)

    def _settle(self, futures: list[Future[Any]]) -> None:
        done, late = wait(futures, PATIENCE)
        if late:
            raise BenchError(f"{len(late)} of {len(futures)} items were not acknowledged")
        for future in done:
            future.result()
        wanted, known = len(futures) * self._listeners, -1
        while not self._crowd.wait(wanted, self._silence):
            came = self._crowd.deliveries()
            if came == known:
                return
            known = came


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """What processes and all that they have started have taken of the CPU until now, as the kernel
    says (``/proc/PID/stat``), its own work for them included."""
    seconds = 0.0
    for process in processes:
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            seconds += times.user + times.system
    return seconds


def allow_files(wanted: int) -> int:
    """Let this process and what it starts have so many open files, or as many as may be.

    :returns: how many it can open now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    allowed = wanted if hard == unlimited else min(wanted, hard)
    if soft != unlimited and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    return (wanted if soft == unlimited else soft) - len(os.listdir("/proc/self/fd"))
