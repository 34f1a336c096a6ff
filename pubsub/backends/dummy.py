"""A backend that sends nothing, anywhere."""

from __future__ import annotations

from concurrent.futures import Future

from pubsub.backends.base import BaseBackend
from pubsub.futures import resolved
from pubsub.items import Item


class DummyBackend(BaseBackend):
    """Says that everything was published."""

    def send(self, item: Item) -> Future[str]:
        return resolved(item.id or "dummy")
