"""What a page of the bench is made of, and which pages there are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import Any, Literal

from bench.attendance import Arrivals, Growth
from bench.measure import (
    ClockName,
    Comparison,
    Delays,
    Fan,
    Size,
    Spread,
    Task,
    Turn,
    compare,
    in_turns,
)

Tells = Literal[
    "costs", "throughput", "delays", "ratios", "spans", "sizes", "fans", "visits", "memory"
]

#: Dotted paths of the pages, in their order; they are imported when Django is ready.
PAGES = [
    *("bench.saving.PAGE", "bench.relaying.THROUGHPUT", "bench.relaying.DELAYS"),
    *("bench.browsing.SIZES", "bench.browsing.DELAYS", "bench.browsing.BURSTS"),
    "bench.browsing.RECOVERY",
    *("bench.fanout.PAGE", "bench.visiting.VISITS", "bench.visiting.MEMORY"),
    "bench.peers.page.PAGE",
]


@dataclass(frozen=True)
class Conditions:
    """Under which a run is made.

    :param rounds: how often each task is taken.
    :param calls: how many calls make a block.
    :param server: the settings that reach the stack; empty when none runs.
    """

    rounds: int
    calls: int
    server: Mapping[str, Any]

    def longer(self, times: int) -> Conditions:
        """With blocks that are so many times as long, and so many times fewer rounds."""
        return replace(self, rounds=max(3, self.rounds // times), calls=self.calls * times)


@dataclass(frozen=True)
class Line:
    """A line of a page's table.

    :param name: what is measured, in words.
    :param task: name of the task that it tells of.
    :param base: name of the task to compare with; None tells of the first alone.
    :param clock: what tells: CPU time of the calling thread, or of the whole process until all is
        settled, or the clock on the wall until then.
    :param aim: what should not be exceeded: by the cost, or by what is added to the base's, in
        microseconds; by the ratio; by the p50, in milliseconds; by what travels, in kilobytes; by
        the median, in seconds; or by the CPU time of a pushed delivery, in microseconds; as the
        page's table has it.
    """

    name: str
    task: str
    base: str | None = None
    clock: ClockName = "thread"
    aim: float | None = None


@dataclass(frozen=True)
class Result:
    """A line that has been measured.

    :param ratio: of the p50 to that of the line's base, where delays have one.
    """

    line: Line
    found: Arrivals | Comparison | Delays | Fan | Growth | Size | Spread
    ratio: float | None = None


@dataclass(frozen=True)
class Run:
    """What is measured together, and the lines that it makes.

    :param lines: the lines of the table.
    :param needs_server: whether ejabberd must run.
    :param database: alias of the database that must be there; see :mod:`bench.databases`.
    """

    lines: Sequence[Line]
    needs_server: bool = field(default=False, kw_only=True)
    database: str = field(default="default", kw_only=True)

    def chosen(self, patterns: Sequence[str]) -> list[Line]:
        """The lines whose name holds one of the patterns; all, if there are none."""
        return [
            line
            for line in self.lines
            if not patterns or any(fnmatch(line.name, f"*{pattern}*") for pattern in patterns)
        ]

    def results(self, conditions: Conditions, lines: Sequence[Line]) -> Iterator[Result]:
        """Measure some of its lines."""
        raise NotImplementedError(f"{type(self).__name__} must define results()")


@dataclass(frozen=True)
class Turns(Run):
    """Tasks that are taken in turns.

    :param tasks: a context manager, entered for the time of the run, that makes the tasks.
    :param longer: so many times as long are its blocks as those of others, in fewer rounds.
    """

    tasks: Callable[[Conditions], AbstractContextManager[Mapping[str, Task]]]
    longer: int = field(default=1, kw_only=True)

    def results(self, conditions: Conditions, lines: Sequence[Line]) -> Iterator[Result]:
        wanted = {name for line in lines for name in (line.task, line.base)}
        conditions = conditions.longer(self.longer) if self.longer > 1 else conditions
        with self.tasks(conditions) as tasks:
            chosen = {name: task for name, task in tasks.items() if name in wanted}
            costs = in_turns(chosen, conditions.rounds)
        for line in lines:
            base = None if line.base is None else costs[line.base]
            yield Result(line, compare(costs[line.task], base, line.clock))


@dataclass(frozen=True)
class Waits(Run):
    """Delays, each of which is looked at for itself.

    :param delays: measures them; returns those of each task, in milliseconds.
    """

    delays: Callable[[Conditions], Mapping[str, Sequence[float]]]

    def results(self, conditions: Conditions, lines: Sequence[Line]) -> Iterator[Result]:
        delays = {task: Delays.over(times) for task, times in self.delays(conditions).items()}
        for line in lines:
            found = delays[line.task]
            base = None if line.base is None else delays[line.base]
            yield Result(line, found, None if base is None else found.p50 / base.p50)


@dataclass(frozen=True)
class Spans(Run):
    """Times that are long, and measured a few times.

    :param spans: measures those of the tasks that it gets; in seconds.
    """

    spans: Callable[[Conditions, Collection[str]], Mapping[str, Sequence[float]]]

    def results(self, conditions: Conditions, lines: Sequence[Line]) -> Iterator[Result]:
        spans = self.spans(conditions, [line.task for line in lines])
        for line in lines:
            yield Result(line, Spread.over(spans[line.task]))


@dataclass(frozen=True)
class Fans(Run):
    """Deliveries to crowds.

    :param turns: those of the tasks that it gets, taken in turns.  A task that cannot be measured
        here is missing, and it has said why.
    """

    turns: Callable[[Conditions, Collection[str]], Mapping[str, Sequence[Turn]]]

    def results(self, conditions: Conditions, lines: Sequence[Line]) -> Iterator[Result]:
        wanted = [task for line in lines for task in (line.task, line.base) if task is not None]
        turns = self.turns(conditions, list(dict.fromkeys(wanted)))
        for line in lines:
            if line.task in turns:
                base = None if line.base is None else turns.get(line.base)
                yield Result(line, Fan.over(turns[line.task], base))


@dataclass(frozen=True)
class Sizes(Run):
    """What scripts weigh.

    :param sizes: that of each task.
    """

    sizes: Callable[[], Mapping[str, Size]]

    def results(self, conditions: Conditions, lines: Sequence[Line]) -> Iterator[Result]:
        sizes = self.sizes()
        for line in lines:
            yield Result(line, sizes[line.task])


@dataclass(frozen=True)
class Page:
    """One question that the bench answers.

    :param title: the question.
    :param notes: how it was measured, a line each.
    :param tells: what its table is of.
    """

    title: str
    notes: Sequence[str]
    runs: Sequence[Run]
    tells: Tells = "costs"
