"""Many rows at once: read in batches, published one behind the other.

However many there are, only a batch of them is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from django.db.models import Model, QuerySet

from pubsub.changes import items_for, reporting, tell_failed
from pubsub.commits import Announcement, Row, on_commit, rows_of, waits_for_commit
from pubsub.context import current_origin, originating
from pubsub.exceptions import NotRegistered, ServerLost
from pubsub.futures import follow, total
from pubsub.instances import key_of, primary_key
from pubsub.items import CREATED, DELETED, UPDATED, Item, make_retraction
from pubsub.pipeline import Pipeline
from pubsub.publications import Place, Publication
from pubsub.publishing import deliver
from pubsub.spool import CHUNK, Spool
from pubsub.throttling import throttle

PublicationsOf = Callable[[type[Model]], list[Publication]]


class Key(NamedTuple):
    """A row that has changed, to be read again.

    :param pk: its primary key.
    :param event: what became of it.
    :param before: for each Publication concerned, where the row belonged before; None where
        nobody knows.
    """

    pk: Any
    event: str
    before: Sequence[list[Place] | None] | None = None


class Rows(Announcement):
    """Rows of one model that have changed: read and published when the transaction commits.

    :param publications: what they concern.
    :param using: alias of their database.
    :param by_hand: whether somebody asked for it, whatever ``events`` and ``throttle`` say.
    :param are_few: whether each is remembered, so that others who change it in the same
        transaction know of it: then its last state is told once.
    """

    def __init__(
        self,
        model: type[Model],
        publications: list[Publication],
        using: str | None,
        *,
        by_hand: bool = False,
        are_few: bool = False,
    ) -> None:
        self._model = model
        #: What the rows concern.
        self.publications = publications
        self._using = using
        self._by_hand = by_hand
        self._are_few = are_few
        self._origin = current_origin()
        self._spool: Spool[Key | Item] = Spool()
        self._waiting: list[Row] = []
        #: How many items were acknowledged, in the end.
        self.result: Future[int] = Future()
        self.result.set_running_or_notify_cancel()

    def __len__(self) -> int:
        return len(self._spool)

    def add(self, key: Key) -> None:
        """Take in a row, whose state will be read at the commit."""
        waiting = rows_of(self._using)
        find = waiting.open if self._are_few else waiting.get
        for publication in self.publications if waiting or self._are_few else ():
            row = find((publication, key_of(self._model, key.pk)))
            if row is not None:
                # What is known of it already is not its last state any more.
                key = key._replace(event=row.after(key.event) or key.event)
                row.add(self, key.event)
                self._waiting.append(row)
        self._spool.append(key)

    def take(self, items: Iterable[Item]) -> None:
        """Take in items that are frozen already."""
        for item in items:
            self._spool.append(item)

    def announce(self) -> Future[int]:
        """Publish them: now, or when the transaction commits.

        :returns: a Future of how many items were acknowledged.
        """
        if waits_for_commit(self._using):
            on_commit(self, self._using)
        else:
            self()
        return self.result

    def send(self) -> None:
        pipeline = Pipeline()
        left = len(self._spool)
        try:
            with originating(self._origin):
                for chunk in self._spool.chunks():
                    for entry in self._read(chunk):
                        left -= 1
                        self._send(entry, pipeline)
        except Exception as error:  # noqa: BLE001 (the database or the server is gone)
            tell_failed(f"{left} rows of {self._model._meta.label}", error)
            pipeline.fail(error)
        follow(self.result, pipeline.finish())

    # Private

    def _read(self, chunk: list[Key | Item]) -> Iterator[Item | tuple[Model | None, Key]]:
        pks = [entry.pk for entry in chunk if isinstance(entry, Key)]
        # By their text: a caller may have given a key as another type than the column's.
        found = {primary_key(row): row for row in read_rows(self._model, pks, self._using)}
        for entry in chunk:
            if isinstance(entry, Item):
                yield entry
            else:
                yield found.get(key_of(self._model, entry.pk)), entry

    def _send(self, entry: Item | tuple[Model | None, Key], pipeline: Pipeline) -> None:
        if isinstance(entry, Item):
            pipeline.send(entry)
            return
        instance, key = entry
        if instance is None:
            return  # deleted since, which has been told by itself
        waiting = rows_of(self._using)
        for index, publication in enumerate(self.publications):
            before = None if key.before is None else key.before[index]
            row = waiting.get((publication, key_of(self._model, key.pk))) if waiting else None
            if row is None or not self._is_told_later(row, key):
                send_row(publication, instance, key.event, pipeline, before, self._by_hand, row)
                continue
            row.leave(
                make_retraction(node, item_id, sequence=publication.next_sequence())
                for node, item_id in before or ()
                if item_id is not None
            )

    def _is_told_later(self, row: Row, key: Key) -> bool:
        """Whether somebody who waits for the same commit knows a later state."""
        return (key.event == UPDATED or row.knows(self)) and not row.is_last(self)


def send_row(
    publication: Publication,
    instance: Model,
    event: str,
    pipeline: Pipeline,
    before: list[Place] | None = None,
    by_hand: bool = False,
    row: Row | None = None,
) -> None:
    """Publish one of many rows.

    :param row: what else of it waited for the same commit.
    :raises ServerLost: when there is no use in going on.
    """
    if not (by_hand or event in publication.events):
        return
    interval: float | None = None
    items: list[Item] = []
    with reporting(publication, instance, event, pipeline.fail):
        interval, items = items_for(publication, instance, event, before=before)
    for item in items if row is None else row.with_left(items):
        throttled = not by_hand and interval is not None and item.id is not None
        if not (throttled and throttle.holds(item, interval or 0, deliver)):
            pipeline.send(item)


def read_rows(model: type[Model], pks: Iterable[Any], using: str | None) -> Iterator[Model]:
    """The rows with some primary keys, however many, in any order."""
    wanted = list(pks)
    for start in range(0, len(wanted), CHUNK):
        yield from model._base_manager.using(using).filter(pk__in=wanted[start : start + CHUNK])


def publish_rows(
    publications_of: PublicationsOf, rows: Any, event: str, using: str | None
) -> Future[int]:
    """Publish rows as they are, as if each had been saved; see :meth:`PubSub.publish_rows`."""
    if event not in (CREATED, UPDATED, DELETED):
        raise ValueError(f"event must be 'created', 'updated' or 'deleted', not {event!r}")
    if isinstance(rows, (str, bytes, Model)) or not isinstance(rows, Iterable):
        raise TypeError(
            f"publish_rows() takes a queryset or an iterable of instances, not {rows!r}"
        )
    if isinstance(rows, QuerySet):
        using = using or rows.db
        rows = rows.iterator(chunk_size=CHUNK)
    if waits_for_commit(using):
        return _at_commit(publications_of, rows, event, using)
    pipeline = Pipeline()
    try:
        for instance in rows:
            for publication in _concerned(publications_of, instance):
                send_row(publication, instance, event, pipeline, by_hand=True)
    except ServerLost as error:
        tell_failed("the rest of the rows", error)
        pipeline.fail(error)
    return pipeline.finish()


# Private


def _at_commit(
    publications_of: PublicationsOf, rows: Iterable[Any], event: str, using: str | None
) -> Future[int]:
    """Remember which rows there are; they are read again when they have been committed."""
    announcements: dict[type[Model], Rows] = {}
    for instance in rows:
        publications = _concerned(publications_of, instance)
        model = type(instance)
        if model not in announcements:
            announcements[model] = Rows(model, publications, using, by_hand=True)
        if event != DELETED:
            announcements[model].add(Key(instance.pk, event))
            continue
        for publication in publications:
            with reporting(publication, instance, event):
                announcements[model].take(items_for(publication, instance, event)[1])
    return total([announcement.announce() for announcement in announcements.values()])


def _concerned(publications_of: PublicationsOf, instance: Any) -> list[Publication]:
    """The Publications that an instance concerns.

    :raises NotRegistered: where there is none.
    """
    if not isinstance(instance, Model):
        raise TypeError(f"publish_rows() takes model instances, not {instance!r}")
    publications = publications_of(type(instance))
    if not publications:
        raise NotRegistered(
            f"{instance._meta.label} is not registered, so nobody knows where its rows go"
        )
    return publications
