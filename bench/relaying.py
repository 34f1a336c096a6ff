"""The pages of the outbox: how much its relay sends, and how soon, beside the backend that does at
once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager
from copy import copy
from datetime import timedelta
from functools import partial
from itertools import cycle, islice
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django.db.models import F
from django.db.models.base import ModelState
from django.test import override_settings

from bench.databases import FILE, POSTGRES
from bench.errors import BenchError
from bench.measure import Task
from bench.models import Registered
from bench.pages import Conditions, Line, Page, Turns, Waits
from bench.saving import OUTBOX, PATIENCE, empty_outbox, rows, save_together
from pubsub import publishing
from pubsub.backends.xmpp import XMPPBackend
from pubsub.items import Item
from pubsub.models import OutboxItem, State
from pubsub.relay.crew import Crew
from pubsub.relay.lanes import Stripe
from pubsub.relay.worker import SETTLED, Worker, item_of
from pubsub.signals import item_published, publish_failed

DIRECT = "pubsub.backends.xmpp.XMPPBackend"
WATCHED = "bench.relaying.Watched"
NODE = "/bench/Registered"
#: So many items are overwritten again and again: ejabberd takes the longer the more a node has.
ROWS = 100
BLOCK = 10  # saves with one backend, before it is the other's turn
NAMES = {POSTGRES: "PostgreSQL", FILE: "SQLite"}


# Throughput


@contextmanager
def throughput(using: str, conditions: Conditions) -> Iterator[Mapping[str, Task]]:
    """Rows of the outbox that the relay's engine sends, and the same items sent at once."""
    calls = conditions.calls
    with ExitStack() as stack:
        stack.enter_context(override_settings(**conditions.server, PUBSUB_BACKEND=OUTBOX))
        stack.callback(leave_empty, using)
        written = written_by_saves(using)
        settings.PUBSUB_BACKEND = DIRECT  # of which no signal tells: no backend is closed
        stack.enter_context(failing())
        backend = XMPPBackend.for_relay()
        stack.callback(backend.close)
        worker = Worker(Stripe(using), backend)
        items = [item_of(row) for row in islice(cycle(written), calls)]
        prepare = partial(refill, written, calls, using)
        yield {
            "relay": Task(partial(relay, worker), calls, prepare=prepare),
            "direct": Task(partial(send, items), calls),
        }


def leave_empty(using: str) -> None:
    """Empty the outbox in the end, which may have come in the midst of a statement."""
    connections[using].close()
    empty_outbox(using)


def written_by_saves(using: str) -> list[OutboxItem]:
    """The rows of the outbox that saves have written; it is empty again."""
    empty_outbox(using)
    save_together(Registered, ROWS, using)
    written = list(OutboxItem._base_manager.using(using).order_by("pk"))
    empty_outbox(using)
    return written


def refill(written: Sequence[OutboxItem], count: int, using: str) -> None:
    """Write so many rows anew, and let those sent before be old enough to be removed.

    :raises BenchError: when the relay has not sent them all.
    """
    outbox = OutboxItem._base_manager.using(using)
    if outbox.exclude(state=State.SENT).exists():
        raise BenchError(f"the relay has left rows in the outbox of {NAMES[using]}")
    outbox.update(sent=F("sent") - timedelta(seconds=2 * SETTLED))
    outbox.bulk_create(map(anew, islice(cycle(written), count)), batch_size=500)


def anew(row: OutboxItem) -> OutboxItem:
    """A row with the same values, not written yet."""
    again = copy(row)
    again._state = ModelState()
    again.pk = None
    return again


def relay(worker: Worker) -> None:
    """Send all that waits, and remove as much of what was sent before."""
    while worker.turn():
        pass
    worker.settle()


def send(items: Sequence[Item]) -> None:
    """Send items at once, until all are acknowledged."""
    wait([publishing.send(item) for item in items], PATIENCE)


@contextmanager
def failing() -> Iterator[None]:
    """See to it that everything is published.

    :raises BenchError: when something was not.
    """
    errors: list[str] = []

    def failed(about: str, error: BaseException, **kwargs: Any) -> None:
        errors.append(f"{about} was not published: {error!r}")

    publish_failed.connect(failed)
    try:
        yield
    finally:
        publish_failed.disconnect(failed)
    if errors:
        raise BenchError(errors[0])


# From the commit to the acknowledgement


class Times:
    """When one save at a time was committed, acknowledged and told of, in nanoseconds."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self.committed = self.acknowledged = self.published = 0

    def begin(self) -> None:
        """Look at another save."""
        self._told.clear()

    def commit(self) -> None:
        """It was committed."""
        self.committed = time.perf_counter_ns()

    def acknowledge(self, future: Future[str]) -> None:
        """It was acknowledged."""
        self.acknowledged = time.perf_counter_ns()

    def tell(self, item: Item, **kwargs: Any) -> None:
        """``item_published`` was sent."""
        if item.node == NODE:
            self.published = time.perf_counter_ns()
            self._told.set()

    def wait(self) -> None:
        """Wait until it was told.

        :raises BenchError: if it is not.
        """
        if not self._told.wait(PATIENCE):
            raise BenchError(f"a save was not acknowledged within {PATIENCE:g} s")


times = Times()


class Watched(XMPPBackend):
    """Notes when the server acknowledges what the relay sends."""

    def send_all(self, items: Sequence[Item], stream: str = "") -> list[Future[str]]:
        futures = super().send_all(items, stream)
        for future in futures:
            future.add_done_callback(times.acknowledge)
        return futures


def delays(using: str, conditions: Conditions) -> dict[str, list[float]]:
    """Milliseconds since the commit, of one save after the other: with the outbox, and without."""
    found: dict[str, list[float]] = {"acknowledged": [], "published": [], "direct": []}
    saves = 5 * conditions.rounds
    longest = 0.1 if using == FILE else 0.02  # the relay is not to be met at the same moment always
    pauses = random.Random(1)  # noqa: S311
    backends = override_settings(
        **conditions.server, PUBSUB_BACKEND=OUTBOX, PUBSUB_RELAY_BACKEND=WATCHED
    )
    with backends, failing(), telling(), Crew([using]):
        for number in range(-BLOCK, saves, BLOCK):
            for backend in (DIRECT, OUTBOX):
                settings.PUBSUB_BACKEND = backend  # of which no signal tells
                for row in rows(Registered, BLOCK, using):
                    time.sleep(pauses.uniform(0, longest))
                    look_at(row.save, using)
                    if number < 0:  # streams are opened and the node is created
                        continue
                    published = (times.published - times.committed) / 1e6
                    if backend == DIRECT:
                        found["direct"].append(published)
                    else:
                        found["published"].append(published)
                        acknowledged = (times.acknowledged - times.committed) / 1e6
                        found["acknowledged"].append(acknowledged)
    return found


def look_at(save: Callable[[], None], using: str) -> None:
    """Save, and wait until the server has acknowledged it."""
    times.begin()
    with transaction.atomic(using=using):
        transaction.on_commit(times.commit, using)  # before whatever sends
        save()
    times.wait()


@contextmanager
def telling() -> Iterator[None]:
    """Let :data:`times` know what is published."""
    item_published.connect(times.tell)
    try:
        yield
    finally:
        item_published.disconnect(times.tell)


# The pages

THROUGHPUT = Page(
    "Throughput of the outbox",
    [
        "The relay's engine on one stream, from rows that wait to the last acknowledgement, noted",
        "in the table; each block removes as many rows as it sends.  Direct: the same items, made",
        "beforehand, given to the XMPP backend until all are acknowledged.  Elapsed time, the",
        "server's on the same processors included; medians and quartiles over rounds in which both",
        "take turns, and of their ratios; blocks are five times as long as told above, and rounds",
        "five times fewer.  The aim is the ratio's.",
    ],
    [
        Turns(
            [Line(f"relay: {name}", "relay", "direct", clock="wall", aim=1.25)],
            partial(throughput, using),
            needs_server=True,
            database=using,
            longer=5,
        )
        for using, name in NAMES.items()
    ],
    tells="throughput",
)

DELAYS = Page(
    "From the commit to the acknowledgement",
    [
        "One save at a time, with a pause of random length before each, the relay in a thread;",
        "outbox and direct take turns.  Acknowledged: the server's answer has come.  In the relay",
        "item_published is sent later: when the row is noted as acknowledged, and this committed.",
        "NOTIFY wakes the relay on PostgreSQL; with SQLite it looks each 100 ms.  The aim is the",
        "p50's.",
    ],
    [
        Waits(
            [
                Line(
                    f"outbox, {name}: acknowledged",
                    "acknowledged",
                    clock="wall",
                    aim=10 if using == POSTGRES else None,
                ),
                Line(f"outbox, {name}: item_published", "published", clock="wall"),
                Line(f"direct, {name}: acknowledged", "direct", clock="wall"),
            ],
            partial(delays, using),
            needs_server=True,
            database=using,
        )
        for using, name in NAMES.items()
    ],
    tells="delays",
)
