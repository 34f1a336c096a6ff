"""Announces a changed row when its transaction commits: of several states the last one, once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from django.db.models import Model

from pubsub.backends import get_outbox
from pubsub.changes import items_for, reporting, shelter
from pubsub.commits import Announcement, WaitingRow, on_commit, rows_of, waits_for_commit
from pubsub.context import current_origin, originating
from pubsub.items import DELETED, Item, Place, make_retraction, next_number
from pubsub.keeping import keep
from pubsub.publications import Publication
from pubsub.publishing import deliver
from pubsub.tellings import Change, Telling


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
    change = Change(publication, instance, event, using, written, before)
    outbox = get_outbox()
    if outbox is not None:
        if not _gathered(change):
            keep(outbox, change)
        return
    with reporting(publication, instance.pk, event):
        if not waits_for_commit(using):
            _at_once(change)
        elif not _gathered(change):
            _at_commit(change)


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


def _at_once(change: Change) -> None:
    rows = rows_of(change.using)
    # While the callbacks of a commit are called one of them may have made this change.
    row = rows.get(change.key()) if rows else None
    telling = change.told_as(change.event if row is None else row.after(change.event))
    # What has to be read is read without a lock.
    is_reread = bool(change.publication.relations) or change.written is not None
    interval, items = change.items(telling, is_reread=is_reread)
    for item in items if row is None else row.settle(items, is_newest=True):
        deliver(item, interval)


def _gathered(change: Change) -> bool:
    """Whether somebody gathers deletions, and this is one that nothing else is known of."""
    into = _gathering.get()
    if into is None or change.event != DELETED or into.using != change.using:
        return False
    if rows_of(change.using).get(change.key()) is not None:
        return False
    publication = change.publication
    with (
        reporting(publication, change.instance.pk, change.event),
        shelter(publication, change.using),
    ):
        into.take(change.items(change.told_as(change.event))[1])
    return True


def _at_commit(change: Change) -> None:
    row = rows_of(change.using).open(change.key())
    outcome = row.after(change.event)
    telling = change.told_as(outcome)
    if telling is not None and change.is_read_at_commit(telling):
        reread = _Reread(row, change, telling)
        row.add(reread, outcome)
        on_commit(reread, change.using)
        return
    frozen = _Frozen(row)
    row.add(frozen, outcome)
    try:
        on_commit(frozen, change.using)
        # From now on earlier states are not the last one, even if a hook raises.
        with shelter(change.publication, change.using):
            frozen.freeze(*change.items(telling))
    except Exception:
        del frozen  # who keeps the traceback would keep it alive after a rollback, too
        raise


class _Frozen(Announcement):
    """One state of one row, told when the transaction commits, if no later one is."""

    def __init__(self, row: WaitingRow) -> None:
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


class _Reread(Announcement):
    """A row that has relations, which others may change until the commit: it is read then."""

    def __init__(self, row: WaitingRow, change: Change, telling: Telling) -> None:
        self._row = row
        self._publication = change.publication
        self._model = type(change.instance)
        self._pk = change.instance.pk
        self._using = change.using
        self._before = change.before
        self._telling = telling
        self._origin = current_origin()
        #: Of the places that it leaves: the row itself is locked by now.
        self._number = next_number()

    def send(self) -> None:
        if not self._row.is_last(self):
            self._row.leave(
                make_retraction(node, item_id, sequence=self._number)
                for node, item_id in self._before or ()
                if item_id is not None
            )
            return
        interval: float | None = None
        items: list[Item] = []
        event = self._telling.event
        with reporting(self._publication, self._pk, event), originating(self._origin):
            interval, items = self._read()
        for item in self._row.settle(items):
            deliver(item, interval)

    def _read(self) -> tuple[float | None, list[Item]]:
        number = next_number()
        row = self._model._base_manager.using(self._using).filter(pk=self._pk).first()
        if row is None:
            return None, []  # deleted since, which has been told by itself
        return items_for(
            self._publication,
            row,
            self._telling.event,
            before=self._before,
            sequence=number,
            is_reread=True,
            only_left=self._telling.only_left,
        )


_gathering: ContextVar[Gathering | None] = ContextVar("pubsub_gathering", default=None)
