"""Many rows at once: read in batches, published one behind the other.

However many there are, only a batch of them is in memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import transaction
from django.db.models import Model

from pubsub.backends import get_outbox
from pubsub.changes import items_for, reporting, tell_failed
from pubsub.commits import (
    Announcement,
    WaitingRow,
    on_commit,
    rows_of,
    rows_of_transaction,
    waits_for_commit,
)
from pubsub.context import current_origin, originating
from pubsub.fetching import read_rows
from pubsub.futures import follow
from pubsub.instances import key_of, primary_key
from pubsub.items import CREATED, UPDATED, Item, Place, make_retraction, next_number
from pubsub.keeping import superseded
from pubsub.pipeline import Pipeline
from pubsub.publications import Publication
from pubsub.publishing import deliver
from pubsub.spool import Spool
from pubsub.throttling import throttle

if TYPE_CHECKING:  # its models cannot be imported before Django is ready
    from pubsub.backends.outbox import Change, OutboxBackend


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
    :param are_locked: whether the transaction has written them, so that nobody else does before it
        commits.
    """

    def __init__(
        self,
        model: type[Model],
        publications: list[Publication],
        using: str | None,
        *,
        by_hand: bool = False,
        are_few: bool = False,
        are_locked: bool = False,
    ) -> None:
        self._model = model
        #: What the rows concern.
        self.publications = publications
        #: Alias of the database whose commit they wait for.
        self.using = using
        self._by_hand = by_hand
        self._are_few = are_few
        self._are_locked = are_locked
        self._origin = current_origin()
        self._spool: Spool[Key | Item] = Spool()
        self._outbox = get_outbox()
        self._superseded: list[int] = []
        self._kept = 0
        self._waiting: list[WaitingRow] = []
        self._sequence = self._reading = 0
        self._error: Exception | None = None
        #: How many items were acknowledged, in the end; cancelled when they are rolled back.
        self.result: Future[int] = Future()
        # Django drops its callbacks on a rollback, of a savepoint too; nothing else holds this one.
        self._cancel = weakref.finalize(self, self.result.cancel)
        self._cancel.atexit = False

    def __len__(self) -> int:
        return len(self._spool)

    def add(self, key: Key) -> None:
        """Take in a row, whose state will be read at the commit."""
        find_rows = rows_of if self._outbox is None else rows_of_transaction
        waiting = find_rows(self.using)
        find = waiting.open if self._are_few else waiting.get
        for publication in self.publications if waiting or self._are_few else ():
            row = find((publication, key_of(self._model, key.pk)))
            if row is not None:
                # What is known of it already is not its last state any more.
                self._superseded += superseded(row.announcements())
                key = key._replace(event=row.after(key.event) or key.event)
                row.add(self, key.event)
                self._waiting.append(row)
        self._spool.append(key)

    def take(self, items: Iterable[Item]) -> None:
        """Take in items that are frozen already."""
        for item in items:
            self._spool.append(item)

    def fail(self, error: Exception) -> None:
        """Note what kept a row from being taken in; it has been told of."""
        self._error = self._error or error

    def announce(self) -> Future[int]:
        """Publish them: now, or when the transaction commits.

        :returns: a Future of how many items were acknowledged; with the outbox, of how many rows
            and items are there for good.
        """
        if self._outbox is not None:
            self._keep_all(self._outbox)
            return self.result
        # What others have made of locked rows is older, and what they will make of them, before we
        # read them, is younger.
        self._sequence = next_number()
        if waits_for_commit(self.using):
            on_commit(self, self.using)
        else:
            self()
        return self.result

    def send(self) -> None:
        # It would keep the result, whose error may keep all of us.
        self._cancel.detach()
        if not self.result.set_running_or_notify_cancel():
            return  # the caller has changed his mind
        if self._outbox is None:
            self._send_all()
        elif self._error is None:
            self.result.set_result(self._kept)
        else:
            self.result.set_exception(self._error)

    # Private

    def _keep_all(self, outbox: OutboxBackend) -> None:
        """Write them into the outbox, in the transaction that there is or in one of our own."""
        is_there = transaction.get_connection(self.using).in_atomic_block
        with nullcontext() if is_there else transaction.atomic(using=self.using):
            on_commit(self, self.using)
            for chunk in self._spool.chunks():
                items = [entry for entry in chunk if isinstance(entry, Item)]
                keys = [entry for entry in chunk if isinstance(entry, Key)]
                self._kept += len(outbox.write(items, self.using))
                self._kept += len(outbox.write_changes(self._changes(keys), self.using))
            outbox.take_back(self._superseded, self.using)

    def _send_all(self) -> None:
        pipeline = Pipeline()
        if self._error is not None:
            pipeline.fail(self._error)
        left = len(self._spool)
        try:
            with originating(self._origin):
                for chunk in self._spool.chunks():
                    self._reading = next_number()
                    for entry in self._read(chunk):
                        self._send(entry, pipeline)
                        left -= 1
        except Exception as error:  # noqa: BLE001 (the database or the server is gone)
            tell_failed(f"{left} rows of {self._model._meta.label}", error)
            pipeline.fail(error)
        finally:  # whoever waits for the result is told of what was sent, whatever comes
            follow(self.result, pipeline.finish())

    def _changes(self, keys: Iterable[Key]) -> Iterator[Change]:
        """What the relay is to read, of each Publication that is told of it."""
        for key in keys:
            for index, publication in enumerate(self.publications):
                only_left = not is_told(publication, key.event, self._by_hand)
                if only_left and not (key.event == UPDATED and publication.may_leave):
                    continue
                yield {
                    "publication": publication.model._meta.label,
                    "model": self._model._meta.label,
                    "pk": key_of(self._model, key.pk),
                    "event": key.event,
                    "before": None if key.before is None else key.before[index],
                    "origin": self._origin,
                    "only_left": only_left,
                    "by_hand": self._by_hand,
                }

    def _read(self, chunk: list[Key | Item]) -> Iterator[Item | tuple[Model | None, Key]]:
        pks = [entry.pk for entry in chunk if isinstance(entry, Key)]
        # By their text: a caller may have given a key as another type than the column's.
        found = {primary_key(row): row for row in read_rows(self._model, pks, self.using)}
        for entry in chunk:
            if isinstance(entry, Item):
                yield entry
            else:
                yield found.get(key_of(self._model, entry.pk)), entry

    def _send(self, entry: Item | tuple[Model | None, Key], pipeline: Pipeline) -> None:
        if isinstance(entry, Item):
            throttle.forget(entry)
            pipeline.send(entry)
            return
        instance, key = entry
        if instance is None:  # deleted since, which has been told by itself, but not where it was
            for node, item_id in (place for before in key.before or () for place in before or ()):
                if item_id is not None:
                    pipeline.send(make_retraction(node, item_id, sequence=self._sequence))
            return
        waiting = rows_of(self.using)
        for index, publication in enumerate(self.publications):
            before = None if key.before is None else key.before[index]
            # Nobody else has written a locked row, but perhaps what it is related to.
            is_reread = not self._are_locked or bool(publication.relations)
            row = waiting.get((publication, key_of(self._model, key.pk))) if waiting else None
            if row is None or self._tells(row, key):
                send_row(
                    publication,
                    instance,
                    key.event,
                    pipeline,
                    before=before,
                    by_hand=self._by_hand,
                    sequence=self._reading if is_reread else self._sequence,
                    is_reread=is_reread,
                    row=row,
                )
                continue
            row.leave(
                make_retraction(node, item_id, sequence=self._sequence)
                for node, item_id in before or ()
                if item_id is not None
            )

    def _tells(self, row: WaitingRow, key: Key) -> bool:
        """Whether the row is not left to somebody else who waits for the same commit.

        Where we have to tell of it, as new or because we were asked to, he need not: what we read
        is its last state.
        """
        is_new = key.event == CREATED and not row.knows(self)
        return self._by_hand or is_new or row.is_last(self)


def is_told(publication: Publication, event: str, by_hand: bool) -> bool:
    """Whether an event is published as such, and not only where a row leaves."""
    return by_hand or event in publication.events


def send_row(
    publication: Publication,
    instance: Model,
    event: str,
    pipeline: Pipeline,
    *,
    before: list[Place] | None = None,
    by_hand: bool = False,
    sequence: int | None = None,
    is_reread: bool = False,
    row: WaitingRow | None = None,
) -> None:
    """Publish one of many rows.

    :param before, sequence, is_reread: see :func:`items_for`.
    :param row: what else of it waited for the same commit.
    :raises ServerLost: when there is no use in going on.
    """
    only_left = not is_told(publication, event, by_hand)
    if only_left and not (event == UPDATED and publication.may_leave):
        return
    interval: float | None = None
    items: list[Item] = []
    with reporting(publication, instance.pk, event, pipeline.fail):
        interval, items = items_for(
            publication,
            instance,
            event,
            before=before,
            sequence=sequence,
            is_reread=is_reread,
            only_left=only_left,
        )
    for item in items if row is None else row.settle(items, is_newest=by_hand):
        if item.id is None or not throttle.holds(item, None if by_hand else interval, deliver):
            pipeline.send(item)
