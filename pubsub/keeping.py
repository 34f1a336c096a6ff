"""Keeps what became of a row in the outbox, in the transaction that changed it.

Of several states of a row in one transaction only the last one stays there, as with the other
backends; where a savepoint is rolled back the database brings back what it took away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from django.db import transaction

from pubsub.changes import reporting, shelter
from pubsub.commits import Announcement, WaitingRow, on_commit, rows_of_transaction
from pubsub.context import current_origin
from pubsub.instances import primary_key
from pubsub.items import Item, Place
from pubsub.tellings import Change, Telling

if TYPE_CHECKING:  # its models cannot be imported before Django is ready
    from pubsub.backends import outbox as boxes


class Kept(Announcement):
    """What the outbox holds of one state of a row; the commit makes it final.

    :ivar leaves: whether it tells where the row has left, which no later state does.
    """

    def __init__(self, row: WaitingRow) -> None:
        self._row = row  # which nobody else keeps alive
        self.written: list[boxes.Written] = []
        self.leaves = False

    def send(self) -> None:
        pass  # the relay does


def keep(outbox: boxes.OutboxBackend, change: Change) -> None:
    """Write what a change publishes into the outbox.

    :raises django.db.Error: when the database does not take it.  What a hook raises is told by
        ``publish_failed``.
    """
    connection = transaction.get_connection(change.using)
    is_there = connection.in_atomic_block
    with nullcontext() if is_there else transaction.atomic(using=change.using):
        _keep(outbox, change)


def superseded(earlier: Iterable[Announcement], places: Collection[Place] = ()) -> list[int]:
    """The rows of the outbox that a later state makes obsolete.

    :param earlier: what was kept of the row before, in the same transaction.
    :param places: where the later state is published.
    """
    return [
        written.pk
        for kept in earlier
        if isinstance(kept, Kept)
        for written in kept.written
        if written.pk is not None
        and (written.place in places if written.is_retraction else not kept.leaves)
    ]


# Private


def _keep(outbox: boxes.OutboxBackend, change: Change) -> None:
    row = rows_of_transaction(change.using).open(change.key())
    earlier = row.announcements()
    outcome = row.after(change.event)
    telling = change.told_as(outcome)
    kept = Kept(row)
    row.add(kept, outcome)
    try:
        on_commit(kept, change.using)
        if telling is not None and change.is_read_at_commit(telling):
            kept.leaves = bool(change.before)
            kept.written = outbox.write_changes([_to_be_read(change, telling)], change.using)
        else:
            interval, items = _items(change, telling)
            kept.written = outbox.write(items, change.using, interval)
        places = {written.place for written in kept.written if written.place is not None}
        outbox.take_back(superseded(earlier, places), change.using)
    except Exception:
        del kept  # who keeps the traceback would keep it alive after a rollback, too
        raise


def _items(change: Change, telling: Telling | None) -> tuple[float | None, list[Item]]:
    publication = change.publication
    interval: float | None = None
    items: list[Item] = []
    with (
        reporting(publication, change.instance.pk, change.event),
        shelter(publication, change.using),
    ):
        interval, items = change.items(telling)
    return interval, items


def _to_be_read(change: Change, telling: Telling) -> boxes.Change:
    return {
        "publication": change.publication.model._meta.label,
        "model": change.instance._meta.label,
        "pk": primary_key(change.instance),
        "event": telling.event,
        "before": None if change.before is None else list(change.before),
        "origin": current_origin(),
        "only_left": telling.only_left,
        "by_hand": False,
    }
