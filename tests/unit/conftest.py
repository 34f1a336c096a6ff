"""What unit tests share: a backend that keeps what is sent, and models registered for one test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pubsub import pubsub
from pubsub.backends import locmem
from pubsub.items import Item
from pubsub.test import published  # noqa: F401 (a fixture)


@pytest.fixture
def sent(settings: Any) -> list[Item]:
    """The items that were sent, oldest first."""
    settings.PUBSUB_BACKEND = "pubsub.backends.locmem.LocmemBackend"
    locmem.items.clear()
    return locmem.items


@pytest.fixture
def register() -> Iterator[Callable[..., None]]:
    """pubsub.register, undone after the test."""
    before = {publication.model for publication in pubsub.publications}
    yield pubsub.register
    pubsub.unregister({publication.model for publication in pubsub.publications} - before)
