"""A server of the tests' own, which answers as a test says, and a worker that sends to it."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from pubsub.backends.base import BaseBackend
from pubsub.backends.outbox import OutboxBackend
from pubsub.exceptions import StreamLost
from pubsub.futures import failed, resolved
from pubsub.items import Item, make_item
from pubsub.models import OutboxItem
from pubsub.relay.lanes import Stripe, open_lanes
from pubsub.relay.worker import Worker

LOST = StreamLost("server:5222", "cut by a test")


class Server(BaseBackend):
    """Keeps what it gets, unless :attr:`answers` knows better.

    :ivar heard: of each item its node, id, event and mark.
    :ivar answers: called with an item, gives the error that it meets, or None.
    """

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.batches: list[int] = []
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
            if futures[-1].exception() is LOST:  # and all that come after it
                return futures + [failed(LOST)] * (len(items) - len(futures))
        return futures

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


@pytest.fixture
def states() -> Callable[[], dict[int, int]]:
    """The states of all rows in the outbox, by their keys."""
    return lambda: dict(OutboxItem.objects.order_by("pk").values_list("pk", "state"))
