"""The pages of the browser: what the client weighs, how soon a page hears of a save, and how soon
it is right again after a disturbance."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from django.utils.module_loading import import_string

import pubsub
from bench.databases import MEMORY
from bench.errors import BenchError
from bench.measure import Size
from bench.models import Registered
from bench.pages import Conditions, Line, Page, Sizes, Spans, Waits
from bench.progress import say
from bench.relaying import BLOCK, ROWS, failing, look_at, telling, times
from bench.saving import PATIENCE, rows
from pubsub.devstack.processes import listening

if TYPE_CHECKING:
    from bench.stage import Stage, Tab

STROPHE = Path(__file__).parent.parent / "media" / "strophe"

#: Transports, and the options of the client that takes each; a network can be taken away only from
#: a page that has a connection of its own.
TRANSPORTS: Mapping[str, Mapping[str, Any]] = {"WebSocket": {}, "BOSH": {"url": "/http-bind"}}
ALONE: Mapping[str, Any] = {"shared": False}

numbers = count(1)


def stage() -> AbstractContextManager[Stage]:
    """See :func:`bench.stage.stage`; that module is not imported by who measures no page."""
    opened: AbstractContextManager[Stage] = import_string("bench.stage.stage")()
    return opened


# Sizes


def sizes() -> dict[str, Size]:
    """What the scripts weigh.

    :raises BenchError: when the client has not been built, or npm's packages are not there.
    """
    command = ["node", str(STROPHE / "sizes.js")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"The client cannot be weighed: run `make client`.\n{done.stderr}")
    found = {name: Size(**size) for name, size in json.loads(done.stdout).items()}
    client, strophe = found["client"], found["strophe"]
    own = Size(client.plain - strophe.plain, client.gzipped - strophe.gzipped)
    return {**found, "own": own}


# From the commit to the callback


def delays(conditions: Conditions) -> dict[str, list[float]]:
    """Milliseconds since the commit, of one save after the other, over each transport."""
    saves = 5 * conditions.rounds
    pauses = random.Random(1)  # noqa: S311
    found: dict[str, list[float]] = {}
    with stage() as scene, ExitStack() as opened, telling(), failing():
        tabs = {
            name: opened.enter_context(scene.tab(**options)) for name, options in TRANSPORTS.items()
        }
        for tab in tabs.values():
            tab.leave()
        for number in range(-BLOCK, saves, BLOCK):
            for name, tab in tabs.items():
                with listener(tab):
                    acknowledged, heard = block(tab, pauses)
                if number >= 0:  # the streams are opened in the first
                    found.setdefault(f"{name}: acknowledged", []).extend(acknowledged)
                    found.setdefault(f"{name}: heard", []).extend(heard)
    return found


@contextmanager
def listener(tab: Tab) -> Iterator[None]:
    """Let a tab listen as long as the block lasts; others do not: each would delay the next one."""
    tab.listen()
    yield
    tab.leave()


def block(tab: Tab, pauses: random.Random) -> tuple[list[float], list[float]]:
    """Save a few rows, one after the other.

    :returns: after how many milliseconds each was acknowledged, and heard of in the tab.
    """
    committed, acknowledged = {}, []
    for row in rows(Registered, BLOCK):
        time.sleep(pauses.uniform(0, 0.02))
        row.votes = next(numbers)
        look_at(row.save, MEMORY)
        committed[row.votes] = time.time() - (time.perf_counter_ns() - times.committed) / 1e9
        acknowledged.append((times.published - times.committed) / 1e6)
    return acknowledged, [1000 * (tab.heard(n) - moment) for n, moment in committed.items()]


# Many at once


def blocks(conditions: Conditions) -> dict[str, list[float]]:
    """Milliseconds of the longest task of a page to which a burst comes, over each transport."""
    items = 50 * conditions.calls
    repeats = max(1, conditions.rounds // 20)
    ways = {"WebSocket": ALONE, "WebSocket, shared": {}, "BOSH": TRANSPORTS["BOSH"]}
    found: dict[str, list[float]] = {name: [] for name in ways}
    with stage() as scene, failing():
        for number in range(repeats):
            for name, options in ways.items():
                say(f"a burst of {items}, {name}: {number + 1} of {repeats} …")
                with scene.tab(**options) as tab:
                    tab.stand_still()
                    found[name].append(tab.longest_block(burst(items)))
    return found


def burst(items: int) -> int:
    """Save some rows again and again, and wait; returns the number of the last save."""
    last = 0
    for _ in range(items // ROWS):
        for row in rows(Registered, ROWS):
            row.votes = last = next(numbers)
            row.save()
        pubsub.publish("/bench/text", "the end of a lot").result(PATIENCE)
    return last


# Right again


def spans(conditions: Conditions, wanted: Collection[str]) -> dict[str, list[float]]:
    """Seconds from the end of a disturbance until a page is right again, of each that is wanted."""
    repeats = max(2, conditions.rounds // 20)
    away = min(60, conditions.rounds)
    disturbances: dict[str, Callable[[Stage, Mapping[str, Tab]], Mapping[str, float]]] = {
        "ejabberd": restart_ejabberd,
        "nginx": reload_nginx,
        "network": partial(take_network, away),
    }
    found: dict[str, list[float]] = {}
    with stage() as scene:
        for disturbance, disturb in disturbances.items():
            for number in range(repeats):
                if any(task.startswith(disturbance) for task in wanted):
                    say(f"{disturbance}: {number + 1} of {repeats} …")
                    for name, span in disturbed(scene, disturb).items():
                        found.setdefault(f"{disturbance}, {name}", []).append(span)
    return found


def disturbed(
    scene: Stage, disturb: Callable[[Stage, Mapping[str, Tab]], Mapping[str, float]]
) -> Mapping[str, float]:
    """Disturb new tabs: those that were disturbed a moment ago come back more slowly."""
    with ExitStack() as opened:
        tabs = {
            name: opened.enter_context(scene.tab(**ALONE, **options))
            for name, options in TRANSPORTS.items()
        }
        return disturb(scene, tabs)


def restart_ejabberd(scene: Stage, tabs: Mapping[str, Tab]) -> dict[str, float]:
    """Since ejabberd listens again: until tabs are online, and until they are right."""
    ejabberd, port = scene.servers.ejabberd, scene.servers.ports.http
    ejabberd.kill()
    number = save()
    with ThreadPoolExecutor(1) as thread:
        listens = thread.submit(first_moment, partial(listening, port))
        ejabberd.start()
        moment = listens.result()
    found = right(tabs, number, moment)
    return found | {f"{name}: online": tab.online() - moment for name, tab in tabs.items()}


def reload_nginx(scene: Stage, tabs: Mapping[str, Tab]) -> dict[str, float]:
    """Since the old workers of nginx have gone, and all their connections with them."""
    workers = scene.reload_nginx()
    moment = time.time()
    for worker in workers:
        with suppress(psutil.NoSuchProcess):  # who serves nobody goes at once
            worker.kill()
    return right(tabs, save(), moment)


def take_network(away: float, scene: Stage, tabs: Mapping[str, Tab]) -> dict[str, float]:
    """Since the network is there again."""
    for tab in tabs.values():
        tab.set_offline(True)
    number = save()
    time.sleep(away)
    found: dict[str, float] = {}
    for name, tab in tabs.items():
        moment = time.time()
        tab.set_offline(False)
        found |= right({name: tab}, number, moment)
    return found


def save() -> int:
    """Save a row; returns the number by which tabs know it."""
    (row,) = rows(Registered, 1)
    row.votes = next(numbers)
    row.save()
    return row.votes


def right(tabs: Mapping[str, Tab], number: int, moment: float) -> dict[str, float]:
    """How long after a moment each tab said that it was right, having told of a save."""
    return {name: tab.right(number) - moment for name, tab in tabs.items()}


def first_moment(condition: Callable[[], bool]) -> float:
    """When a condition began to hold."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"ejabberd does not listen within {PATIENCE:g} s")
        time.sleep(0.002)
    return time.time()


# The pages

SIZES = Page(
    "Size of the browser client",
    [
        "The classic script, minified, and gzipped as well as it goes.  Strophe in it: a script of",
        "the same parts of Strophe alone, made alike.  Its own part: what is more than that.",
        "Where tabs share a connection the worker's script is loaded, too.  Aims are in kilobytes",
        "(1,000 bytes).",
    ],
    [
        Sizes(
            [
                Line("size: classic script", "client", aim=27),
                Line("size: Strophe in it", "strophe"),
                Line("size: its own part", "own", aim=8),
                Line("size: Strophe as published", "published"),
                Line("size: worker", "worker"),
            ],
            sizes,
        )
    ],
    tells="sizes",
)

DELAYS = Page(
    "From the commit to the page's callback",
    [
        "One save at a time, with a pause of random length before each, and one page that hears of",
        "it in Chromium, through nginx; the transports take turns.  Heard: onItem was called.",
        "Acknowledged: Django has the server's answer.  The ratio is that of BOSH to WebSocket, of",
        "the p50.  The pages share their connection with other tabs, as is the default.",
    ],
    [
        Waits(
            [
                Line("browser, WebSocket: heard", "WebSocket: heard", aim=3),
                Line("browser, BOSH: heard", "BOSH: heard", "WebSocket: heard"),
                Line("browser, WebSocket: acknowledged", "WebSocket: acknowledged"),
                Line(
                    "browser, BOSH: acknowledged",
                    "BOSH: acknowledged",
                    "WebSocket: acknowledged",
                ),
            ],
            delays,
        )
    ],
    tells="ratios",
)

BURSTS = Page(
    "A burst of 10,000 items",
    [
        "How long a page can do nothing else, at most: the CPU time of the longest task of its",
        "main thread.  It stands still while 10,000 saves are published (1,000 with --quick), and",
        "then comes to all that has piled up; the callback does hardly anything.",
    ],
    [
        Waits(
            [
                Line(f"burst, {way}: longest block", way, aim=50)
                for way in ("WebSocket", "WebSocket, shared", "BOSH")
            ],
            blocks,
        )
    ],
    tells="delays",
)

WORDS = {
    "ejabberd": "ejabberd restarts",
    "nginx": "nginx reloads",
    "network": "network returns",
}

RECOVERY = Page(
    "Right again",
    [
        "A row is saved during each disturbance; a page is right when it is online and has told of",
        "it.  ejabberd is killed and started again: since it listens; Django's stream has to come",
        "back, too.  nginx reloads: since its old workers were ended with all that they served; a",
        "reload alone cuts nothing.  The network is away for 60 seconds (5 with --quick).  A page",
        "is new, with a connection of its own.",
    ],
    [
        Spans(
            [
                *(
                    Line(f"ejabberd restarts, {name}: online", f"ejabberd, {name}: online")
                    for name in TRANSPORTS
                ),
                *(
                    Line(f"{words}, {name}", f"{disturbance}, {name}")
                    for disturbance, words in WORDS.items()
                    for name in TRANSPORTS
                ),
            ],
            spans,
        )
    ],
    tells="spans",
)
