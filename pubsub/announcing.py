"""Announces a changed row when its transaction commits: of several states the last one, once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from django.db.models import Model

from pubsub.asking import Place
from pubsub.changes import items_for, reporting, shelter
from pubsub.commits import Announcement, Row, on_commit, rows_of, waits_for_commit
from pubsub.context import current_origin, originating
from pubsub.instances import primary_key
from pubsub.items import CREATED, DELETED, UPDATED, Item, make_retraction, next_number
from pubsub.publications import Publication
from pubsub.publishing import deliver


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
    with reporting(publication, instance.pk, event):
        rows = rows_of(using)
        waits = waits_for_commit(using)
        key = (publication, primary_key(instance)) if rows or waits else None
        if not waits:
            # While the callbacks of a commit are called one of them may have made this change.
            row = rows.get(key) if rows else None
            outcome = event if row is None else row.after(event)
            telling = _told(publication, event, outcome)
            interval, items = _items(publication, instance, telling, written, before)
            for item in items if row is None else row.settle(items, is_newest=True):
                deliver(item, interval)
            return
        gathering = _gathering.get()
        gathers = gathering is not None and event == DELETED and gathering.using == using
        if gathering is not None and gathers and rows.get(key) is None:
            with shelter(publication, using):
                telling = _told(publication, event, event)
                gathering.take(_items(publication, instance, telling, written, before)[1])
            return
        row = rows.open(key)
        outcome = row.after(event)
        telling = _told(publication, event, outcome)
        if telling in (CREATED, UPDATED) and (publication.relations or written == ()):
            reread = _Reread(row, publication, instance, telling, using, before)
            row.add(reread, outcome)
            on_commit(reread, using)
            return
        change = _Change(row)
        row.add(change, outcome)
        try:
            on_commit(change, using)
            # From now on earlier states are not the last one, even if a hook raises.
            with shelter(publication, using):
                change.freeze(*_items(publication, instance, telling, written, before))
        except Exception:
            del change  # who keeps the traceback would keep it alive after a rollback, too
            raise


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


class _Reread(Announcement):
    """A row that has relations, which others may change until the commit: it is read then."""

    def __init__(
        self,
        row: Row,
        publication: Publication,
        instance: Model,
        event: str,
        using: str | None,
        before: Sequence[Place] | None,
    ) -> None:
        self._row = row
        self._publication = publication
        self._model = type(instance)
        self._pk = instance.pk
        self._event = event
        self._using = using
        self._before = before
        self._origin = current_origin()

    def send(self) -> None:
        if not self._row.is_last(self):
            left = (place for place in self._before or () if place[1] is not None)
            self._row.leave(make_retraction(node, id or "") for node, id in left)
            return
        interval: float | None = None
        items: list[Item] = []
        with reporting(self._publication, self._pk, self._event), originating(self._origin):
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
            self._event,
            before=self._before,
            sequence=number,
            is_reread=True,
        )


def _told(publication: Publication, event: str, outcome: str | None) -> str | None:
    """As what a change is told that came to something together with those before it."""
    if event == CREATED and outcome == UPDATED and UPDATED not in publication.events:
        return event  # that it was deleted before is not told, so it has to be
    return outcome if outcome is not None and outcome in publication.events else None


def _items(
    publication: Publication,
    instance: Model,
    event: str | None,
    written: Collection[str] | None,
    before: Sequence[Place] | None,
) -> tuple[float | None, list[Item]]:
    if event is None:
        return None, []
    return items_for(publication, instance, event, written, before)


_gathering: ContextVar[Gathering | None] = ContextVar("pubsub_gathering", default=None)
