"""Time of blocks of calls, taken in turns; what is compared shares a run.  Knows no Django.

A machine is never equally fast for long: only what alternates within seconds can be compared, so
differences and ratios are taken within a round, and the median over the rounds is what counts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from statistics import quantiles
from typing import Literal

Clock = Callable[[], int]
ClockName = Literal["thread", "process", "wall"]


def nothing() -> None:
    """Need nothing to be prepared, or to settle."""


@dataclass(frozen=True)
class Task:
    """A block of equal calls.

    :param run: makes all of them.
    :param calls: how many it makes.
    :param settle: waits until what they began is done; of no cost to the calling thread, but the
        process is charged with it, and it counts as elapsed.
    :param prepare: makes what the calls need; of no cost to anybody.
    """

    run: Callable[[], object]
    calls: int
    settle: Callable[[], object] = nothing
    prepare: Callable[[], object] = nothing


@dataclass(frozen=True)
class Cost:
    """What one call takes, in microseconds.

    :param thread: CPU time of the calling thread.
    :param process: CPU time of the whole process, until all is settled.
    :param wall: what the clock on the wall says, until all is settled.
    """

    thread: float = 0.0
    process: float = 0.0
    wall: float = 0.0

    def by(self, clock: ClockName) -> float:
        """What one of the clocks says."""
        return {"thread": self.thread, "process": self.process, "wall": self.wall}[clock]


@dataclass(frozen=True)
class Spread:
    """The median of some values, and their quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float]) -> Spread:
        """The spread of one value or more."""
        known = sorted(values)
        if len(known) == 1:
            return cls(known[0], known[0], known[0])
        return cls(*quantiles(known, n=4, method="inclusive"))


@dataclass(frozen=True)
class Delays:
    """How long something took: half of the times not longer than ``p50``, 99 of 100 than ``p99``.

    :param count: how often it was looked at.
    """

    p50: float
    p99: float
    worst: float
    count: int

    @classmethod
    def over(cls, values: Iterable[float]) -> Delays:
        """Of one time or more; each is one that was measured (the nearest rank)."""
        known = sorted(values)
        count = len(known)
        p50, p99 = (known[ceil(count * part / 100) - 1] for part in (50, 99))
        return cls(p50, p99, known[-1], count)


@dataclass(frozen=True)
class Size:
    """What a script weighs, in bytes.

    :param gzipped: as it travels.
    """

    plain: int
    gzipped: int


@dataclass(frozen=True)
class Comparison:
    """What a task costs beside another one, or alone.

    :param cost: of the task itself, in microseconds.
    :param base: of the other one.
    :param added: the differences between the two, of each round.
    :param ratio: the ratios of the two, of each round.
    """

    cost: Spread
    base: Spread | None = None
    added: Spread | None = None
    ratio: Spread | None = None


@dataclass(frozen=True)
class Turn:
    """What a crowd heard, and what that cost, in one round.

    :param delays: of each delivery at the pace of a site, in milliseconds.
    :param steady: CPU time of all servers per delivery at that pace, in microseconds.
    :param pushed: the same while as much is published as the server acknowledges.
    :param rate: deliveries per second then.
    :param lost: deliveries that did not come.
    :param disordered: those that came after one that was published later.
    :param repeated: those that came again.
    :param closed: connections that the server has closed.
    :param share: how much of one processor the crowd itself took meanwhile.
    :param heard: deliveries that came.
    """

    delays: Sequence[float]
    steady: float
    pushed: float
    rate: float
    lost: int = 0
    disordered: int = 0
    repeated: int = 0
    closed: int = 0
    share: float = 0.0
    heard: int = 0


@dataclass(frozen=True)
class Fan:
    """What deliveries to a crowd take, over some rounds.

    :param cost: CPU per delivery beside that of the base, pushed.
    :param speed: deliveries per second beside those of the base.
    """

    delays: Delays
    steady: Spread
    pushed: Spread
    rate: Spread
    lost: int
    disordered: int
    repeated: int
    closed: int
    share: float
    cost: Spread | None = None
    speed: Spread | None = None
    heard: int = 0

    @classmethod
    def over(cls, turns: Sequence[Turn], base: Sequence[Turn] | None = None) -> Fan:
        """Of one round or more; ratios are to the base in the same round."""
        pairs = [] if base is None else list(zip(turns, base, strict=True))
        return cls(
            Delays.over(delay for turn in turns for delay in turn.delays),
            Spread.over(turn.steady for turn in turns),
            Spread.over(turn.pushed for turn in turns),
            Spread.over(turn.rate for turn in turns),
            sum(turn.lost for turn in turns),
            sum(turn.disordered for turn in turns),
            sum(turn.repeated for turn in turns),
            sum(turn.closed for turn in turns),
            Spread.over(turn.share for turn in turns).median,
            Spread.over(our.pushed / their.pushed for our, their in pairs) if pairs else None,
            Spread.over(our.rate / their.rate for our, their in pairs) if pairs else None,
            sum(turn.heard for turn in turns),
        )


def take(
    task: Task,
    thread_clock: Clock = time.thread_time_ns,
    process_clock: Clock = time.process_time_ns,
    wall_clock: Clock = time.perf_counter_ns,
) -> Cost:
    """Run a task once."""
    task.prepare()
    gc.collect()  # the rubbish of others is not its own
    wall_start = wall_clock()
    process_start = process_clock()
    thread_start = thread_clock()
    task.run()
    thread = thread_clock() - thread_start
    task.settle()
    process = process_clock() - process_start
    wall = wall_clock() - wall_start
    return Cost(*(taken / task.calls / 1000 for taken in (thread, process, wall)))


@contextmanager
def nothing_to_collect() -> Iterator[None]:
    """Keep the garbage collector off what was there before.

    To look through all of Django before each block would empty the caches of the processor.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def in_turns(
    tasks: Mapping[str, Task], rounds: int, take: Callable[[Task], Cost] = take
) -> dict[str, list[Cost]]:
    """Take the tasks one after the other, A B A B, so many times; the first round does not count.

    :returns: the costs of each task, in the order of the rounds.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in tasks}
    with nothing_to_collect():
        for number in range(rounds + 1):
            for name, task in tasks.items():
                cost = take(task)
                if number > 0:  # caches are filled and nodes created in the first
                    costs[name].append(cost)
    return costs


def compare(
    costs: Sequence[Cost], base: Sequence[Cost] | None = None, clock: ClockName = "thread"
) -> Comparison:
    """Compare a task's costs with those of another one in the same rounds, if there is one."""
    ours = [cost.by(clock) for cost in costs]
    if base is None:
        return Comparison(Spread.over(ours))
    theirs = [cost.by(clock) for cost in base]
    pairs = list(zip(ours, theirs, strict=True))
    return Comparison(
        Spread.over(ours),
        Spread.over(theirs),
        Spread.over(our - their for our, their in pairs),
        Spread.over(our / their for our, their in pairs if their > 0) if any(theirs) else None,
    )
