"""The page of fan-out: what it takes to tell one item to many, over each transport, directly and
through nginx, with mod_pubsub_sessions and without."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import psutil
from django.test import override_settings

from bench.crowd import Crowd, Kind, mark
from bench.guests import Guest, Place, by_bosh, by_websocket, come
from bench.measure import Turn
from bench.pages import Conditions, Fans, Line, Page
from bench.progress import say
from bench.pushing import PATIENCE, Pace, Publisher, allow_files, cpu_seconds, rounds
from pubsub.backends.xmpp import XMPPBackend
from pubsub.devstack import Stack
from pubsub.items import Item, make_item

PAYLOAD = 350  # bytes, as those of a small instance
ITEMS = 100  # that are overwritten again and again: a node with more takes ejabberd longer
SIZES = (1, 100, 1000, 5000)
SPARE = 500  # open files beside those of the crowds
FILES = 20_000  # that are asked for; each listener behind nginx is two connections of its

Way = Literal["direct", "nginx"]
TRANSPORTS: Mapping[Kind, tuple[str, Guest]] = {
    "websocket": ("WebSocket", by_websocket),
    "bosh": ("BOSH", by_bosh),
}


@dataclass(frozen=True)
class Task:
    """What is measured by one line.

    :param size: how many listen.
    :param sessions: whether mod_pubsub_sessions serves them.
    """

    kind: Kind
    way: Way
    size: int
    sessions: bool

    @property
    def name(self) -> str:
        """As its line is called."""
        module = "with the module" if self.sessions else "without it"
        return f"fan-out: {self.size} by {TRANSPORTS[self.kind][0]}, {self.way}, {module}"


def tasks(kind: Kind) -> Iterator[Task]:
    """All that is measured over one transport, the smallest crowds first.

    The greatest crowd does not come directly to a server without the module: the three others
    take as many open files as a process usually gets.
    """
    for size in SIZES:
        for way in ("direct", "nginx"):
            for sessions in (True, False):
                if size < SIZES[-1] or way == "nginx" or sessions:
                    yield Task(kind, way, size, sessions)


# Servers


class Servers:
    """A stack with the module, or one without, and a publisher there.

    :param folder: of the stack.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        with override_settings(**stack.settings, XMPP_TIMEOUT=PATIENCE):
            self.backend = XMPPBackend()

    def place(self, way: Way, node: str) -> Place:
        """Where guests come in."""
        port = self._stack.ports.nginx if way == "nginx" else self._stack.ports.http
        settings = self._stack.settings
        return Place(port, settings["PUBSUB_GUEST_DOMAIN"], settings["XMPP_PUBSUB_HOST"], node)

    def cpu_seconds(self) -> float:
        """What ejabberd and nginx have taken of the CPU until now."""
        processes = [child.process for child in self._stack.children]
        return cpu_seconds(psutil.Process(each.pid) for each in processes if each is not None)

    def publish(self, node: str, number: int) -> Future[str]:
        """Publish an item that bears a mark."""
        return self.backend.send(marked_item(node, number))


def marked_item(node: str, number: int) -> Item:
    """An item of :data:`PAYLOAD` bytes that bears a mark."""
    item = make_item(node, mark(number), id=number % ITEMS)
    padding = "." * (PAYLOAD - len(item.payload))
    return replace(item, payload=item.payload.replace("</entry>", f"{padding}</entry>"))


def servers(running: ExitStack, folder: Path, sessions: bool, nginx: bool) -> Servers:
    """Start a stack."""
    say(f"starting ejabberd {'with' if sessions else 'without'} mod_pubsub_sessions …")
    stack = Stack(folder / str(sessions), nginx=nginx, sessions=sessions)
    found = Servers(running.enter_context(stack))
    running.callback(found.backend.close)
    return found


# Crowds


class Audience:
    """A crowd at one node, that grows."""

    def __init__(self, running: ExitStack, task: Task, there: Servers) -> None:
        self._guest = TRANSPORTS[task.kind][1]
        node = f"/bench/{task.kind}/{task.way}"
        there.backend.create_node(node, {"max_items": ITEMS}).result(PATIENCE)
        self._place = there.place(task.way, node)
        self.crowd = running.enter_context(closing(Crowd(task.kind)))
        self.crowd.start()
        publish = partial(there.publish, node)
        self.publisher = Publisher(publish, self.crowd, there.cpu_seconds)

    def grow(self, size: int) -> None:
        """Let more come, until they are so many."""
        come(self._guest, self._place, self.crowd, size - len(self.crowd))
        self.publisher.warm_up()


def turns(kind: Kind, conditions: Conditions, wanted: Collection[str]) -> dict[str, list[Turn]]:
    """Turns of the tasks that are wanted; those of one size alternate."""
    chosen = [task for task in tasks(kind) if task.name in wanted]
    pace, found = Pace.of(conditions), {task.name: list[Turn]() for task in chosen}
    with ExitStack() as running:
        free = allow_files(FILES)
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="pubsub-bench-")))
        nginx = any(task.way == "nginx" for task in chosen)
        there = {
            sessions: servers(running, folder, sessions, nginx)
            for sessions in sorted({task.sessions for task in chosen}, reverse=True)
        }
        audiences: dict[tuple[Way, bool], Audience] = {}
        for size in SIZES:
            together = [task for task in chosen if task.size == size]
            files = sum(len(each.crowd) for each in audiences.values()) + len(together) * size
            if files + SPARE > free:
                say(f"no crowds of {size}: {free} open files are left, and that takes {files}")
                break
            for task in together:
                say(f"{task.name}: they come …")
                key = (task.way, task.sessions)
                if key not in audiences:
                    audiences[key] = Audience(running, task, there[task.sessions])
                audiences[key].grow(size)
            for _ in range(rounds(conditions) if together else 0):
                for task in together:
                    publisher = audiences[task.way, task.sessions].publisher
                    found[task.name].append(publisher.turn(pace))
    return {name: each for name, each in found.items() if each}


# The page


def line(task: Task) -> Line:
    """The line of a task; that with the module is beside that without."""
    name = task.name
    base = replace(task, sessions=False)
    aim = AIMS.get((task.kind, task.way)) if task.sessions and task.size == 1000 else None
    return Line(
        name, name, base.name if task.sessions and base in tasks(task.kind) else None, aim=aim
    )


AIMS: Mapping[tuple[Kind, Way], float] = {("websocket", "nginx"): 20, ("bosh", "nginx"): 130}

PAGE = Page(
    "Fan-out",
    [
        "One item of 350 bytes to all who listen to its node: guests, each with a connection of",
        "his own.  p50, p99, steady: 5 items a second; pushed: as many as are acknowledged, 16 at",
        "once or fewer, with 50,000 deliveries under way at most.  µs: CPU time of ejabberd and",
        "nginx per delivery, the kernel's included; their ratio and the speed are beside the same",
        "without the module, in the same round.  Crowd: how much of one processor the reading",
        "itself took, pushed.  Medians and quartiles over rounds in which all ways of one size",
        "take turns; ! is above the aim, in µs.",
    ],
    [Fans([line(task) for task in tasks(kind)], partial(turns, kind)) for kind in TRANSPORTS],
    tells="fans",
)
