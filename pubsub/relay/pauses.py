"""Throttling in the relay: which updates of an item have to wait, and until when."""

from __future__ import annotations

import time

from pubsub.items import UPDATED, Place
from pubsub.models import OutboxItem

#: Of how many items the last update is remembered; those of others go out as they come.
REMEMBERED = 10_000


class Pauses:
    """When the next update of each throttled item may be sent."""

    def __init__(self) -> None:
        self._ends: dict[Place, float] = {}

    def left(self, row: OutboxItem) -> float:
        """Seconds that a row has to wait; 0: it may be sent.

        What creates or takes away an item never waits.
        """
        if not row.interval or row.event != UPDATED or not row.payload:
            return 0.0
        return max(0.0, self._ends.get(place_of(row), 0.0) - time.monotonic())

    def begin(self, row: OutboxItem) -> None:
        """Begin the pause after a row that is sent now; what is no update ends the one there is."""
        place = place_of(row)
        self._ends.pop(place, None)
        if row.interval and row.payload:
            self._ends[place] = time.monotonic() + row.interval
            if len(self._ends) > REMEMBERED:
                del self._ends[next(iter(self._ends))]


def place_of(row: OutboxItem) -> Place:
    """Where the item of a row is."""
    return row.node, row.item_id
