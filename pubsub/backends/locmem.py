"""A backend that keeps items in a list, to look at in tests.

::

    from pubsub.backends import locmem

    locmem.items.clear()
    ...
    assert locmem.items[0].node == "/blog/Post"
"""

from __future__ import annotations

import uuid
from concurrent.futures import Future

from pubsub.backends.base import BaseBackend
from pubsub.futures import resolved
from pubsub.items import Item

#: Everything that was sent in this process, oldest first; retractions are items, too.
items: list[Item] = []


class LocmemBackend(BaseBackend):
    """Appends to :data:`items`."""

    def send(self, item: Item) -> Future[str]:
        items.append(item)
        return resolved(item.id or uuid.uuid4().hex)
