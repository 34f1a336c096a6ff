"""Rows that somebody publishes by hand, after a change that nobody saw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from django.db import router
from django.db.models import Model, QuerySet

from pubsub.backends import get_outbox
from pubsub.changes import items_for, reporting, shelter, tell_failed
from pubsub.commits import waits_for_commit
from pubsub.exceptions import NotRegistered, ServerLost
from pubsub.futures import total
from pubsub.items import CREATED, DELETED, UPDATED, next_number
from pubsub.pipeline import Pipeline
from pubsub.publications import Publication
from pubsub.rows import Key, Rows, send_row
from pubsub.spool import CHUNK

PublicationsOf = Callable[[type[Model]], list[Publication]]


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
    pipeline = Pipeline()
    keeps = get_outbox() is not None  # where the relay reads them
    kept: dict[tuple[type[Model], str | None], Rows] = {}
    try:
        for number, instance in _numbered(rows):
            publications = _concerned(publications_of, instance)
            model = type(instance)
            alias = using or router.db_for_write(model, instance=instance)
            if keeps or waits_for_commit(alias):
                if (model, alias) not in kept:
                    kept[model, alias] = Rows(model, publications, alias, by_hand=True)
                _keep(kept[model, alias], instance, event)
                continue
            for publication in publications:
                send_row(
                    publication,
                    instance,
                    event,
                    pipeline,
                    by_hand=True,
                    sequence=number,
                    is_reread=True,
                )
    except ServerLost as error:
        tell_failed("the rest of the rows", error)
        pipeline.fail(error)
    return total([pipeline.finish(), *(waiting.announce() for waiting in kept.values())])


# Private


def _numbered(rows: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """The rows, each with a number from before it was read."""
    number = next_number()
    if isinstance(rows, QuerySet):
        # One query reads them all, however long it takes to fetch them.
        for instance in rows.iterator(chunk_size=CHUNK):
            yield number, instance
        return
    for instance in rows:
        yield number, instance
        number = next_number()


def _keep(rows: Rows, instance: Model, event: str) -> None:
    """Remember a row; it is read again at the commit, unless it has to be as it is now."""
    if event != DELETED and instance.pk is not None:
        rows.add(Key(instance.pk, event))
        return
    for publication in rows.publications:
        with (
            reporting(publication, instance.pk, event, rows.fail),
            shelter(publication, rows.using),
        ):
            # Of a row without a key it says that there is none.
            rows.take(items_for(publication, instance, event)[1])


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
