"""What a page of the bench is made of, and which pages there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from bench.measure import Comparison, Task, Whose, compare, in_turns

#: Dotted paths of the pages, in their order; they are imported when Django is ready.
PAGES = ["bench.saving.PAGE"]


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


@dataclass(frozen=True)
class Line:
    """A line of a page's table.

    :param name: what is measured, in words.
    :param task: name of the task that it tells of.
    :param base: name of the task to compare with; None tells of the first alone.
    :param whose: CPU time of the calling thread, or of the whole process until all is settled.
    :param aim: what the cost, or what is added to the base's, should not exceed, in microseconds.
    """

    name: str
    task: str
    base: str | None = None
    whose: Whose = "thread"
    aim: float | None = None


@dataclass(frozen=True)
class Result:
    """A line that has been measured."""

    line: Line
    comparison: Comparison


@dataclass(frozen=True)
class Run:
    """Tasks that are taken in turns, and the lines that they make.

    :param lines: the lines of the table.
    :param tasks: a context manager, entered for the time of the run, that makes the tasks.
    :param needs_server: whether ejabberd must run.
    """

    lines: Sequence[Line]
    tasks: Callable[[Conditions], AbstractContextManager[Mapping[str, Task]]]
    needs_server: bool = False

    def chosen(self, patterns: Sequence[str]) -> list[Line]:
        """The lines whose name holds one of the patterns; all, if there are none."""
        return [
            line
            for line in self.lines
            if not patterns or any(fnmatch(line.name, f"*{pattern}*") for pattern in patterns)
        ]

    def results(self, conditions: Conditions, lines: Sequence[Line]) -> Iterator[Result]:
        """Measure some of its lines."""
        wanted = {name for line in lines for name in (line.task, line.base)}
        with self.tasks(conditions) as tasks:
            chosen = {name: task for name, task in tasks.items() if name in wanted}
            costs = in_turns(chosen, conditions.rounds)
        for line in lines:
            base = None if line.base is None else costs[line.base]
            yield Result(line, compare(costs[line.task], base, line.whose))


@dataclass(frozen=True)
class Page:
    """One question that the bench answers.

    :param title: the question.
    :param notes: how it was measured, a line each.
    """

    title: str
    notes: Sequence[str]
    runs: Sequence[Run]
