"""The pages of visitors: how many can come and go in a second, and how much memory those take who
stay; over each transport, directly and through nginx, with mod_pubsub_sessions and without."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import psutil
from django.test import override_settings

from bench.attendance import Arrival, Arrivals, Growth, Holding
from bench.pages import Conditions, Line, Page, Result, Run
from bench.progress import say
from bench.pushing import allow_files
from bench.relaying import DIRECT
from bench.visits import Kind, Visitors, visitors
from pubsub import nodes
from pubsub.devstack import Stack

NODE = "/bench/visits"
AT_ONCE = 16  # visitors who are under way
LEAVING = 128  # and when they leave, which takes ejabberd 100 ms at least
PATIENCE = 60.0  # seconds
FILES = 20_000  # that are asked for; a visitor behind nginx is two connections of its
#: Longer than the guard waits (TIDYING) until it tidies up after a visitor.
SETTLING = 2.0

Way = Literal["direct", "nginx"]
NAMES: Mapping[Kind, str] = {"websocket": "WebSocket", "bosh": "BOSH"}


@dataclass(frozen=True)
class Task:
    """What is measured by one line.

    :param sessions: whether mod_pubsub_sessions serves the visitors.
    """

    page: Literal["visits", "memory"]
    kind: Kind
    way: Way
    sessions: bool

    @property
    def name(self) -> str:
        """As its line is called."""
        module = "with the module" if self.sessions else "without it"
        return f"{self.page}: {NAMES[self.kind]}, {self.way}, {module}"


def tasks(page: Literal["visits", "memory"], kind: Kind) -> list[Task]:
    """All that is measured over one transport."""
    return [
        Task(page, kind, way, sessions) for way in ("direct", "nginx") for sessions in (True, False)
    ]


# Servers


class Servers:
    """ejabberd and nginx, to which visitors come."""

    def __init__(self, stack: Stack) -> None:
        self._ports = stack.ports
        started = [child.process for child in stack.children]
        roots = [psutil.Process(each.pid) for each in started if each is not None]
        self._processes = [
            process for root in roots for process in (root, *root.children(recursive=True))
        ]

    def port(self, way: Way) -> int:
        """Where visitors come in."""
        return self._ports.nginx if way == "nginx" else self._ports.http

    def cpu_seconds(self) -> float:
        """What they have taken of the processors until now."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes)

    def memory(self) -> Holding:
        """What they hold: their proportional share of pages, in bytes."""
        parts = {"nginx": 0, "ejabberd": 0}
        for process in self._processes:
            part = "nginx" if process.name() == "nginx" else "ejabberd"
            parts[part] += proportional(process.pid)
        return Holding(**parts)


def proportional(process: int) -> int:
    """The pages of a process in bytes, those that it shares divided by who shares them."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def servers(sessions: bool) -> Iterator[Servers]:
    """A stack with the module, or one without, as long as the block lasts."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="pubsub-bench-")))
        stack = running.enter_context(Stack(folder / "stack", nginx=True, sessions=sessions))
        with override_settings(**stack.settings, PUBSUB_BACKEND=DIRECT):
            nodes.create(NODE).result(PATIENCE)
        yield Servers(stack)


def settled(look: Callable[[], float], steps: int, pause: float, share: float) -> None:
    """Wait until something has hardly changed for so many pauses."""
    known, quiet, deadline = look(), 0, time.monotonic() + PATIENCE
    while quiet < steps and time.monotonic() < deadline:
        time.sleep(pause)
        now = look()
        quiet = quiet + 1 if abs(now - known) <= share * known else 0
        known = now


# Visits


def arrivals(
    kind: Kind, conditions: Conditions, wanted: Collection[str]
) -> dict[str, list[Arrival]]:
    """Rounds of visits, in which all tasks that are wanted take turns."""
    chosen = [task for task in tasks("visits", kind) if task.name in wanted]
    found: dict[str, list[Arrival]] = {task.name: [] for task in chosen}
    count = 2 * conditions.calls
    with ExitStack() as running:
        allow_files(FILES)
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="pubsub-bench-")))
        there = {
            sessions: running.enter_context(servers(sessions))
            for sessions in sorted({task.sessions for task in chosen}, reverse=True)
        }
        coming = [
            running.enter_context(visitors(kind, there[task.sessions].port(task.way), NODE, folder))
            for task in chosen
        ]
        for each in coming:
            each.visit(count, LEAVING)
        for _ in range(max(3, conditions.rounds // 10)):
            for task, each in zip(chosen, coming, strict=True):
                found[task.name].append(arrival(there[task.sessions], each, count))
    return found


def arrival(there: Servers, coming: Visitors, count: int) -> Arrival:
    """Let so many come and go, and wait until the servers have forgotten them."""
    settled(there.cpu_seconds, steps=2, pause=0.1, share=0)
    before = there.cpu_seconds()
    visits = coming.visit(count, LEAVING)
    settled(there.cpu_seconds, steps=2, pause=0.1, share=0)
    return Arrival(visits.count, visits.seconds, there.cpu_seconds() - before, visits.cpu)


# Memory


def holdings(
    kind: Kind, conditions: Conditions, wanted: Collection[str]
) -> dict[str, list[Holding]]:
    """What a visitor takes, each time of servers that have just been started.

    Memory that was taken once is not given back, and so who comes later seems to take less.
    """
    found: dict[str, list[Holding]] = {}
    count = 20 * conditions.calls
    allow_files(FILES)
    for _ in range(max(1, conditions.rounds // 30)):
        for task in tasks("memory", kind):
            if task.name in wanted:
                say(f"{task.name}: {count} visitors come …")
                found.setdefault(task.name, []).append(holding(task, count))
    return found


def holding(task: Task, count: int) -> Holding:
    """What one of so many visitors takes of new servers, when all is quiet again."""
    with tempfile.TemporaryDirectory(prefix="pubsub-bench-") as name, ExitStack() as running:
        there = running.enter_context(servers(task.sessions))
        port = there.port(task.way)
        coming = running.enter_context(visitors(task.kind, port, NODE, Path(name)))
        quiet = partial(
            settled, lambda: there.memory().both, steps=int(SETTLING / 0.5), pause=0.5, share=0.002
        )
        coming.visit(AT_ONCE, AT_ONCE)
        quiet()
        before = there.memory()
        coming.stay(count, AT_ONCE)
        quiet()
        after = there.memory()
        coming.leave()
    return after.since(before, count)


# The pages


@dataclass(frozen=True)
class Coming(Run):
    """Visits in turns; a line with a base tells how much its own are dearer."""

    arrivals: Callable[[Conditions, Collection[str]], Mapping[str, Sequence[Arrival]]]

    def results(self, conditions: Conditions, lines: Sequence[Line]) -> Iterator[Result]:
        found = self.arrivals(conditions, with_bases(lines))
        for line in lines:
            base = None if line.base is None else found[line.base]
            yield Result(line, Arrivals.over(found[line.task], base))


@dataclass(frozen=True)
class Staying(Run):
    """What visitors take who stay."""

    holdings: Callable[[Conditions, Collection[str]], Mapping[str, Sequence[Holding]]]

    def results(self, conditions: Conditions, lines: Sequence[Line]) -> Iterator[Result]:
        found = self.holdings(conditions, with_bases(lines))
        for line in lines:
            base = None if line.base is None else found[line.base]
            yield Result(line, Growth.over(found[line.task], base))


def with_bases(lines: Sequence[Line]) -> set[str]:
    """The tasks of lines, and those beside which they are."""
    return {name for line in lines for name in (line.task, line.base) if name is not None}


def line(task: Task) -> Line:
    """The line of a task; that with the module is beside that without."""
    base = replace(task, sessions=False).name if task.sessions else None
    return Line(task.name, task.name, base, aim=AIMS.get((task.page, task.kind)))


AIMS = {("visits", "websocket"): 500, ("memory", "websocket"): 35}

VISITS = Page(
    "Visits",
    [
        "A guest connects, logs in, subscribes to one node and leaves, in as many round trips as a",
        f"page has: six over WebSocket and the goodbye, six over BOSH; {LEAVING} guests at once.",
        "Server ms: CPU time of ejabberd and nginx for a visit, until they are quiet again, the",
        "kernel's included; its ratio and the speed are beside the same without the module, in the",
        "same round.  Visitors: how much of one processor, of the same machine, these took.",
        "Medians and quartiles over rounds in which all take turns; ! is below the aim.",
    ],
    [
        Coming([line(task) for task in tasks("visits", kind)], partial(arrivals, kind))
        for kind in NAMES
    ],
    tells="visits",
)

MEMORY = Page(
    "Memory of visitors",
    [
        "Guests who have subscribed to one node and are idle; each time they come to servers that",
        "have just been started.  kB (1,024 bytes) by which the proportional share of pages (PSS)",
        "grows for each, when it has not changed for some seconds; the kernel's buffers are not",
        "in it.  ! is above the aim.",
    ],
    [
        Staying([line(task) for task in tasks("memory", kind)], partial(holdings, kind))
        for kind in NAMES
    ],
    tells="memory",
)
