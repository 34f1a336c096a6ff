"""A backend that writes items to standard output, for development."""

from __future__ import annotations

import sys
import threading
import uuid
from concurrent.futures import Future

from pubsub.backends.base import BaseBackend
from pubsub.futures import resolved
from pubsub.items import Item


class ConsoleBackend(BaseBackend):
    """Prints each item as one line of facts and one of payload."""

    def __init__(self) -> None:
        self._output_lock = threading.Lock()

    def send(self, item: Item) -> Future[str]:
        item_id = item.id or uuid.uuid4().hex
        lines = [f"{item.node} {item_id} {item.event}", *([item.payload] if item.payload else [])]
        with self._output_lock:
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
        return resolved(item_id)
