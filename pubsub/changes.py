"""A changed row on its way out: asks its Publication, and announces it once per transaction.

Whatever goes wrong here is told by ``publish_failed``; the save goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from django.db.models import Model

from pubsub.commits import (
    Announcement,
    Row,
    on_commit,
    rows_of,
    sheltered,
    waits_for_commit,
)
from pubsub.instances import primary_key
from pubsub.items import CREATED, DELETED, UPDATED, Item, make_retraction
from pubsub.publications import Place, Publication
from pubsub.publishing import deliver
from pubsub.signals import publish_failed


def announce(
    publication: Publication,
    instance: Model,
    event: str,
    using: str | None,
    *,
    written: Collection[str] | None = None,
    before: Sequence[Place] | None = None,
) -> None:
    """Publish what became of a row: at once, or when its transaction commits.

    :param using: alias of the database that it was changed in.
    :param written: the names of the fields that were saved; None means all.
    :param before: where the row belonged before the change; None where nobody knows.
    """
    with reporting(publication, instance, event):
        rows = rows_of(using)
        waits = waits_for_commit(using)
        key = (publication, primary_key(instance)) if rows or waits else None
        if not waits:
            # While the callbacks of a commit are called one of them may have made this change.
            row = rows.get(key) if rows else None
            outcome = event if row is None else row.after(event)
            interval, items = _items(publication, instance, event, outcome, written, before)
            for item in items if row is None else row.settle(items, is_newest=True):
                deliver(item, interval)
            return
        gathering = _gathering.get()
        gathers = gathering is not None and event == DELETED and gathering.using == using
        if gathering is not None and gathers and rows.get(key) is None:
            with _shelter(publication, using):
                gathering.take(_items(publication, instance, event, event, written, before)[1])
            return
        row = rows.open(key)
        outcome = row.after(event)
        change = _Change(row)
        row.add(change, outcome)
        try:
            on_commit(change, using)
            # From now on earlier states are not the last one, even if a hook raises.
            with _shelter(publication, using):
                change.freeze(*_items(publication, instance, event, outcome, written, before))
        except Exception:
            del change  # who keeps the traceback would keep it alive after a rollback, too
            raise


def items_for(
    publication: Publication,
    instance: Model,
    event: str,
    written: Collection[str] | None = None,
    before: Sequence[Place] | None = None,
    sequence: int | None = None,
) -> tuple[float | None, list[Item]]:
    """What an event publishes, frozen as the row is now; and the seconds between two updates.

    :param sequence: the number of the row's state, where it was written earlier than now.
    :raises Exception: whatever the publication's hooks raise.
    """
    row = publication.row(instance, event, written)
    fulfilled = publication.should_publish(row, event)
    if event == DELETED:
        if before is None:
            before = publication.places(row, event) if fulfilled else []
        return None, publication.make_items(row, event, before, sequence)
    kept = publication.places(row, event) if fulfilled else []
    if event == CREATED:
        before = ()  # whoever reads at the commit finds nothing older
    if before is None and event == UPDATED and not fulfilled:
        # It may have been published while it was; a retraction of what is not there is no harm.
        before = publication.places(row, event)
    items = publication.make_items(row, event, kept, sequence) if kept else []
    for node, item_id in before or ():
        if item_id is not None and (node, item_id) not in kept:
            number = publication.next_sequence() if sequence is None else sequence
            items.append(make_retraction(node, item_id, sequence=number))
    return publication.interval(row, event) if items else None, items


def places_before(publication: Publication, instance: Model, event: str) -> list[Place]:
    """Where a row belongs as it is now, for a change that is about to come."""
    using = instance._state.db
    with reporting(publication, instance, event), _shelter(publication, using):
        row = publication.row(instance, event)
        if publication.should_publish(row, event):
            return publication.places(row, event)
    return []


@contextmanager
def reporting(
    publication: Publication,
    instance: Model,
    event: str,
    on_error: Callable[[Exception], object] = lambda error: None,
) -> Iterator[None]:
    """Tell of what goes wrong with the publication of a row, and go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (a save never fails because of us)
        tell_failed(f"{publication.model._meta.label} {instance.pk} ({event})", error)
        on_error(error)


def tell_failed(about: str, error: Exception) -> None:
    """Tell by ``publish_failed`` of what could not even become an item.

    :param about: what was to be published, in words.
    """
    publish_failed.send_robust(Item, item=None, error=error, about=about)


class Gathering(Protocol):
    """Takes many deletions in, to send them one behind the other.

    :ivar using: alias of the database whose commit it waits for.
    """

    using: str | None

    def take(self, items: list[Item]) -> None:
        """Keep items until the commit."""


@contextmanager
def gathering(into: Gathering) -> Iterator[None]:
    """Give what is deleted meanwhile to somebody who sends it after the commit."""
    token = _gathering.set(into)
    try:
        yield
    finally:
        _gathering.reset(token)


# Private


def _shelter(publication: Publication, using: str | None) -> AbstractContextManager[None]:
    """Keep a transaction from what the code of others does in it."""
    return sheltered(using) if publication.has_hooks else nullcontext()


class _Change(Announcement):
    """One state of one row, told when the transaction commits, if no later one is."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._interval: float | None = None
        self._items: list[Item] = []

    def freeze(self, interval: float | None, items: list[Item]) -> None:
        """Take in what is to be told of the row."""
        self._interval = interval
        self._items = items

    def send(self) -> None:
        if not self._row.is_last(self):
            self._row.leave(self._items)
            return
        for item in self._row.settle(self._items):
            deliver(item, self._interval)


def _items(
    publication: Publication,
    instance: Model,
    event: str,
    outcome: str | None,
    written: Collection[str] | None,
    before: Sequence[Place] | None,
) -> tuple[float | None, list[Item]]:
    """What a change publishes, and what it comes to together with those before it."""
    if event == CREATED and outcome == UPDATED and UPDATED not in publication.events:
        outcome = event  # that it was deleted before is not told, so it has to be
    if outcome is None or outcome not in publication.events:
        return None, []
    return items_for(publication, instance, outcome, written, before)


_gathering: ContextVar[Gathering | None] = ContextVar("pubsub_gathering", default=None)
