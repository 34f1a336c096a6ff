"""A server of the tests' own, which answers as a test says, and a worker that sends to it."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from pubsub.backends.base import BaseBackend
from pubsub.backends.outbox import OutboxBackend
from pubsub.exceptions import StreamLost
from pubsub.futures import failed, resolved
from pubsub.items import Item, make_item
from pubsub.models import OutboxItem
from pubsub.relay.lanes import Stripe, open_lanes
from pubsub.relay.worker import Worker

LOST = StreamLost("server:5222", "cut by a test")
ACCUSED = StreamLost("server:5222", "it ended the stream", "policy-violation")


class Server(BaseBackend):
    """Keeps what it gets, unless :attr:`answers` knows better.

    :ivar heard: of each item its node, id, event and mark.
    :ivar answers: called with an item, gives the error that it meets, or None.
    """

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.batches: list[int] = []
        self.again: list[str] = []
        self.stream = "first"
        self.error: Exception | None = None
        self.answers: Callable[[Item], Exception | None] = lambda item: None

    def send(self, item: Item) -> Future[str]:
        error = self.answers(item)
        if error is not None:
            return failed(error)
        self.items.append(item)
        return resolved(item.id or "")

    def send_all(self, items: Any, stream: str) -> list[Future[str]]:
        self.batches.append(len(items))
        if stream != self.stream:
            return [failed(LOST) for _ in items]
        futures = []
        for item in items:
            futures.append(self.send(item))
            if isinstance(futures[-1].exception(), StreamLost):  # and all that come after it
                return futures + [failed(LOST)] * (len(items) - len(futures))
        return futures

    def retract_again(self, node: str, item_id: str) -> Future[str]:
        self.again.append(item_id)
        return resolved(item_id)

    def sign_of_life(self, lane: int) -> Future[str]:
        return resolved(self.stream) if self.error is None else failed(self.error)

    @property
    def texts(self) -> list[str]:
        """What the items say."""
        return [item.payload.partition("/>")[2].removesuffix("</entry>") for item in self.items]

    @property
    def marks(self) -> list[str]:
        """The numbers of the items."""
        return [item.payload.partition('seq="')[2].partition('"')[0] for item in self.items]


@pytest.fixture
def outbox(settings: Any) -> OutboxBackend:
    """The outbox that everything is published into."""
    settings.PUBSUB_BACKEND = "pubsub.backends.outbox.OutboxBackend"
    return OutboxBackend()


@pytest.fixture
def put(outbox: OutboxBackend) -> Callable[..., int]:
    """Writes an item into the outbox, and returns its row's key."""

    def put(text: str, id: str = "7", node: str = "/n", interval: float | None = None, **kw: Any):
        kw.setdefault("event", "updated")
        item = replace(make_item(node, text, id=id, **kw), is_own=True)
        (row,) = outbox.write([item], None, interval)
        return row.pk

    return put


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def worker(server: Server, outbox: OutboxBackend) -> Worker:
    """The only worker of a relay."""
    open_lanes("default")
    return Worker(Stripe("default"), server)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: Any, django_db_setup: None, django_db_blocker: Any) -> Path:
    """An SQLite file with all tables."""
    path = tmp_path_factory.mktemp("site") / "migrated.sqlite3"
    with django_db_blocker.unblock(), database(path) as alias:
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
    return path


@pytest.fixture
def site(migrated: Path, tmp_path: Path, django_db_blocker: Any) -> Iterator[str]:
    """The alias of an SQLite database in a file of the test's own; the only one of the test.

    What threads share in memory is locked otherwise than what they share in a file.
    """
    path = Path(shutil.copy(migrated, tmp_path))
    with django_db_blocker.unblock(), database(path) as alias:
        yield alias


@contextmanager
def database(path: Path) -> Iterator[str]:
    """An alias for an SQLite file."""
    like = connections.settings["default"]
    options = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
    connections.settings["site"] = {**like, **options}
    try:
        yield "site"
    finally:
        connections["site"].close()
        del connections["site"]
        del connections.settings["site"]


@pytest.fixture
def states() -> Callable[[], dict[int, int]]:
    """The states of all rows in the outbox, by their keys."""
    return lambda: dict(OutboxItem.objects.order_by("pk").values_list("pk", "state"))
