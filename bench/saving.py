"""The page "cost of save()": what registering a model adds to each save of it, and what publish()
costs, with each backend; and the parts that this is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache, partial
from typing import Any

from django.core.serializers.xml_serializer import Serializer
from django.db import transaction
from django.test import override_settings

import pubsub
from bench import nodes
from bench.databases import MEMORY, POSTGRES
from bench.errors import BenchError
from bench.measure import Task
from bench.models import Plain, Registered, Row
from bench.pages import Conditions, Line, Page, Run, Turns
from pubsub.backends import locmem
from pubsub.items import make_item
from pubsub.models import OutboxItem
from pubsub.rowxml import to_xml
from pubsub.signals import item_published, publish_failed
from pubsub.wire import stanzas

NODE = "/bench/text"
SERVICE = "pubsub.localhost"
PATIENCE = 60.0  # seconds
BODY = "Django saves, ejabberd tells, browsers show: <b>fast</b> & sure. Ünïcödé too. "


@dataclass(frozen=True)
class Backend:
    """A backend to measure with.

    :param aim: what a save may cost more with it, in microseconds.
    :param database: alias of the database that is saved to.
    :param after: called after each block, unmeasured by the thread's clock.
    """

    name: str
    path: str
    aim: float | None = None
    needs_server: bool = False
    database: str = MEMORY
    after: Callable[[], object] | None = None


def empty_outbox(using: str) -> None:
    """Remove what was written, as the relay does."""
    OutboxItem._base_manager.using(using).all()._raw_delete(using)


OUTBOX = "pubsub.backends.outbox.OutboxBackend"
BACKENDS = [
    Backend("dummy", "pubsub.backends.dummy.DummyBackend", aim=100),
    Backend("locmem", "pubsub.backends.locmem.LocmemBackend", after=locmem.items.clear),
    Backend("outbox", OUTBOX, after=partial(empty_outbox, MEMORY)),
    Backend("xmpp", "pubsub.backends.xmpp.XMPPBackend", aim=130, needs_server=True),
]
ON_POSTGRES = Backend(
    "outbox, PostgreSQL", OUTBOX, database=POSTGRES, after=partial(empty_outbox, POSTGRES)
)


@lru_cache
def rows(model: type[Row], count: int, using: str = MEMORY) -> list[Row]:
    """So many rows of a model, as they are read from the table."""
    start = datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=timezone.utc)
    manager = model._default_manager.using(using)
    manager.bulk_create(  # sends no signals
        model(
            title=f"What happened on day {number}",
            body=BODY * 3,
            votes=number * 37,
            public=bool(number % 2),
            written=start + timedelta(days=number),
        )
        for number in range(count)
    )
    return list(manager.order_by("-pk")[:count])


def save(model: type[Row], count: int, using: str = MEMORY) -> None:
    """Save every row, each on its own."""
    for row in rows(model, count, using):
        row.save()


def save_together(model: type[Row], count: int, using: str = MEMORY) -> None:
    """Save every row in one transaction."""
    with transaction.atomic(using=using):
        for row in rows(model, count, using):
            row.save()


def insert_too(written: Mapping[str, Any], count: int, using: str) -> None:
    """Save every unregistered row, each with an INSERT of the same values in its transaction."""
    for row in rows(Plain, count, using):
        with transaction.atomic(using=using):
            row.save()
            OutboxItem._base_manager.using(using).create(**written)


def insert_too_together(written: Mapping[str, Any], count: int, using: str) -> None:
    """The same in one transaction."""
    with transaction.atomic(using=using):
        for row in rows(Plain, count, using):
            row.save()
            OutboxItem._base_manager.using(using).create(**written)


def publish(count: int) -> None:
    """Publish a text, so many times."""
    for _ in range(count):
        pubsub.publish(NODE, "text")


def repeat(call: Callable[[Row], object], count: int) -> None:
    """Give every row to a function."""
    for row in rows(Registered, count):
        call(row)


# The contexts of the runs


@contextmanager
def serving(backend: Backend, conditions: Conditions) -> Iterator[Callable[[], None]]:
    """Publish with a backend; gives a function that waits until all is acknowledged.

    It publishes once more for that: a 200th of a block, and the same for both twins.

    :raises BenchError: at the end of a block in which something was not published.
    """
    errors: list[str] = []

    def failed(about: str, error: BaseException, **kwargs: Any) -> None:
        errors.append(f"{backend.name} did not publish {about}: {error!r}")

    def settle() -> None:
        # The server answers one sender in order (RFC 6120 §10.1): this is the last answer.
        pubsub.publish(NODE, "the end of a block", using=backend.database).result(PATIENCE)
        if backend.after is not None:
            backend.after()
        if errors:
            raise BenchError(errors[0])

    with override_settings(PUBSUB_BACKEND=backend.path, **conditions.server):
        publish_failed.connect(failed)
        try:
            check_that_saves_are_published(settle, backend.database)
            yield settle
        finally:
            publish_failed.disconnect(failed)


def check_that_saves_are_published(settle: Callable[[], None], using: str) -> None:
    """Make sure that a save does what is to be measured.

    :raises BenchError: if it does not.
    """
    heard: list[str] = []

    def published(item: Any, **kwargs: Any) -> None:
        heard.append(item.node)

    settle()
    item_published.connect(published)
    try:
        save(Registered, 1, using)
        heard += OutboxItem._base_manager.using(using).values_list("node", flat=True)
        settle()
    finally:
        item_published.disconnect(published)
    if all(node == NODE for node in heard):
        raise BenchError("a save of the registered model was not published")


@contextmanager
def saves(
    backend: Backend, way: Callable[[type[Row], int, str], None], conditions: Conditions
) -> Iterator[Mapping[str, Task]]:
    """The same saves of both twins."""
    calls = conditions.calls
    with serving(backend, conditions) as settle:
        yield {
            model.__name__: Task(partial(way, model, calls, backend.database), calls, settle)
            for model in (Plain, Registered)
        }


@contextmanager
def kept(
    backend: Backend,
    way: Callable[[type[Row], int, str], None],
    by_hand: Callable[[Mapping[str, Any], int, str], None],
    conditions: Conditions,
) -> Iterator[Mapping[str, Task]]:
    """The same saves of both twins with the outbox, and of one with an INSERT by hand."""
    calls, using = conditions.calls, backend.database
    with serving(backend, conditions) as empty:
        calling: dict[str, Callable[[], None]] = {
            model.__name__: partial(way, model, calls, using) for model in (Plain, Registered)
        }
        calling[BY_HAND] = partial(by_hand, row_of_outbox(using), calls, using)
        yield {name: Task(call, calls, prepare=empty) for name, call in calling.items()}


def row_of_outbox(using: str) -> dict[str, Any]:
    """The values of the row that a save writes, without its key."""
    save(Registered, 1, using)
    row = OutboxItem._base_manager.using(using).latest("pk")
    return {field.attname: getattr(row, field.attname) for field in row._meta.local_fields[1:]}


@contextmanager
def publishes(backend: Backend, conditions: Conditions) -> Iterator[Mapping[str, Task]]:
    """Text to a node."""
    with serving(backend, conditions) as settle:
        yield {"publish": Task(partial(publish, conditions.calls), conditions.calls, settle)}


@contextmanager
def parts(conditions: Conditions) -> Iterator[Mapping[str, Task]]:
    """What a saved row goes through before a backend gets it."""
    calls: dict[str, Callable[[Row], object]] = {
        "serializer": lambda row: Serializer().serialize([row]),
        "to_xml": to_xml,
        "make_item": partial(make_item, "/bench/Registered"),
    }
    yield {
        name: Task(partial(repeat, call, conditions.calls), conditions.calls)
        for name, call in calls.items()
    }


@contextmanager
def writing(conditions: Conditions) -> Iterator[Mapping[str, Task]]:
    """The stanza of one row, its payload given: as text, and as xmpppy's nodes."""
    text = make_item("/bench/Registered", rows(Registered, 1)[0]).payload
    node = nodes.payload(text)
    calls: dict[str, Callable[[Row], object]] = {
        "text": lambda row: stanzas.publish(SERVICE, "/bench/Registered", text, "42").to_xml("1"),
        "nodes": lambda row: nodes.publish(SERVICE, "/bench/Registered", node, "42", "1"),
    }
    yield {
        name: Task(partial(repeat, call, conditions.calls), conditions.calls)
        for name, call in calls.items()
    }


# The page

BY_HAND = "Plain and INSERT"
WAYS = [
    ("save()", save, insert_too),
    ("save() in atomic()", save_together, insert_too_together),
]


def backend_runs(backend: Backend) -> Iterator[Run]:
    """The runs with one backend."""
    for words, way, by_hand in WAYS:
        name = f"{backend.name}: {words}"
        lines = [Line(name, "Registered", "Plain", aim=backend.aim)]
        if backend.needs_server:
            lines.append(Line(f"{name}, process", "Registered", "Plain", clock="process"))
            lines.append(Line(f"{name}, elapsed", "Registered", "Plain", clock="wall"))
        if backend.path == OUTBOX:
            lines.append(Line(f"{name}, beside INSERT", "Registered", BY_HAND))
            yield Turns(lines, partial(kept, backend, way, by_hand))
        else:
            tasks = partial(saves, backend, way)
            yield Turns(lines, tasks, needs_server=backend.needs_server)
    name = f"{backend.name}: publish(node, text)"
    lines = [Line(name, "publish")]
    if backend.needs_server:
        lines.append(Line(f"{name}, process", "publish", clock="process"))
    yield Turns(lines, partial(publishes, backend), needs_server=backend.needs_server)


def postgres_runs() -> Iterator[Run]:
    """The runs in which most of the work is the database's, so that only the wall's clock tells."""
    for words, way, by_hand in WAYS:
        name = f"{ON_POSTGRES.name}: {words}"
        lines = [
            Line(f"{name}, elapsed", "Registered", "Plain", clock="wall"),
            Line(f"{name}, elapsed, beside INSERT", "Registered", BY_HAND, clock="wall"),
        ]
        yield Turns(lines, partial(kept, ON_POSTGRES, way, by_hand), database=POSTGRES)


PAGE = Page(
    "Cost of save()",
    [
        "save(): added to that of a twin model that is not registered; five fields, an existing",
        "row, SQLite in memory.  In atomic(): a block of saves, its commit included.  CPU time of",
        "the calling thread, or of the whole process until the server has acknowledged all of it,",
        "or elapsed time.  Beside INSERT: beside a save of the twin and objects.create() of a row",
        "with the same values as the outbox's, in one transaction.",
        "Medians and quartiles over rounds in which both take turns; ! is above the aim.",
    ],
    [
        *(run for backend in BACKENDS for run in backend_runs(backend)),
        *postgres_runs(),
        Turns(
            [
                Line("part: Django's XML serializer", "serializer"),
                Line("part: to_xml, beside the serializer", "to_xml", "serializer"),
                Line("part: make_item, beside to_xml", "make_item", "to_xml"),
            ],
            parts,
        ),
        Turns([Line("part: stanza as text, beside xmpppy's nodes", "text", "nodes")], writing),
    ],
)
