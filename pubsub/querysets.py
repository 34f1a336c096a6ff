"""PublishedQuerySet and PublishedManager: bulk operations, which send no signals, are published."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

from django.db import models, transaction
from django.db.models import Model, Q

from pubsub.announcing import gathering
from pubsub.changes import places_before, tell_failed
from pubsub.context import is_muted, muted
from pubsub.exceptions import PubSubError
from pubsub.fetching import read_rows
from pubsub.items import CREATED, UPDATED, Place
from pubsub.registry import pubsub
from pubsub.rows import Key, Rows
from pubsub.spool import CHUNK


class PublishedQuerySet(models.QuerySet[Any]):
    """Publishes what ``bulk_create``, ``bulk_update``, ``update`` and ``delete`` change.

    Their async twins do so, too.  A model that is not registered is not concerned, and neither is
    what happens inside ``pubsub.muted()``.  The rows are read again when the transaction commits,
    in batches, and published one behind the other; where there are more of them than the server has
    acknowledged within a moment, the operation waits for it.

    The ``add()`` and ``set()`` of a related manager update by the model's base manager: with
    ``base_manager_name = "objects"`` in its ``Meta`` they are published, too.
    """

    def bulk_create(
        self,
        objs: Iterable[Any],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[Any]:
        """Insert rows, and publish those that are new or changed.

        Which ones they are is not known where conflicts are ignored or updated and neither a
        primary key nor ``unique_fields`` identifies them: ``publish_failed`` says so.
        """
        objs = list(objs)
        unique = ["pk"] if unique_fields is None else list(unique_fields)
        with self._announced() as rows:
            conflicts = rows is not None and (ignore_conflicts or update_conflicts)
            before = set(self._keys_like(objs, unique)) if conflicts else set()
            created: list[Any] = super().bulk_create(
                objs, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields
            )
            if rows is not None and conflicts:
                for pk in self._keys_like(objs, unique):
                    if pk not in before:
                        rows.add(Key(pk, CREATED))
                    elif update_conflicts:
                        rows.add(Key(pk, UPDATED))
                unknown = sum(_values(obj, unique) is None for obj in objs)
                self._tell_unknown(unknown, "conflicts are not told")
            elif rows is not None:
                for obj in created:
                    if obj.pk is not None:
                        rows.add(Key(obj.pk, CREATED))
                unknown = sum(obj.pk is None for obj in created)
                self._tell_unknown(unknown, "this database does not tell the keys of new rows")
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def bulk_update(
        self, objs: Iterable[Any], fields: Iterable[str], batch_size: int | None = None
    ) -> int:
        """Update rows, and publish them."""
        objs = tuple(objs)
        with self._announced() as rows:
            if rows is not None:
                self._add_updated(rows, (obj.pk for obj in objs if obj.pk is not None))
            with muted():  # it calls update(), once for each batch
                return super().bulk_update(objs, fields, batch_size)

    bulk_update.alters_data = True  # type: ignore[attr-defined]

    def update(self, **kwargs: Any) -> int:
        """Update rows, and publish them; costs a query for their keys."""
        with self._announced() as rows:
            if rows is not None and not self.query.is_sliced:  # Django refuses slices
                # A join may find a row several times.
                keys = self.order_by().values_list("pk", flat=True).distinct()
                keys.query.select_for_update = False  # PostgreSQL locks nothing that is distinct
                self._add_updated(rows, keys.iterator(chunk_size=CHUNK))
            return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete rows, and retract them."""
        with self._announced() as rows:
            if rows is None:
                return super().delete()
            with gathering(rows):
                return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    # Private

    @contextmanager
    def _announced(self) -> Iterator[Rows | None]:
        """Where to put what is changed in a transaction, to be published after it."""
        publications = [] if is_muted() else pubsub.publications_of(self.model)
        if not publications:
            yield None
            return
        self._for_write = True  # as Django does before it looks for the database
        rows = Rows(self.model, publications, self.db, are_locked=True)
        # A transaction that is there already has to survive what Django refuses without asking the
        # database, as it does with Django's own methods.
        is_there = transaction.get_connection(self.db).in_atomic_block
        with nullcontext() if is_there else transaction.atomic(using=self.db, savepoint=False):
            yield rows
            if len(rows):
                rows.announce()

    def _tell_unknown(self, count: int, reason: str) -> None:
        if count:
            error = PubSubError(
                f"nobody knows which rows bulk_create() has inserted ({reason}): give them primary "
                "keys or unique_fields, or call pubsub.publish_rows()"
            )
            tell_failed(f"{count} rows of {self.model._meta.label}", error)

    def _add_updated(self, rows: Rows, pks: Iterable[Any]) -> None:
        tracking = any(publication.track for publication in rows.publications)
        for chunk in _chunks(pks):
            before: dict[Any, list[list[Place] | None]] = {}
            if tracking:
                for row in read_rows(self.model, chunk, self.db, locks=True):
                    before[row.pk] = [
                        places_before(publication, row, UPDATED) if publication.track else None
                        for publication in rows.publications
                    ]
            for pk in chunk:
                rows.add(Key(pk, UPDATED, before.get(pk)))

    def _keys_like(self, objs: Sequence[Model], unique: Sequence[str]) -> Iterator[Any]:
        """The primary keys of the rows that have the unique values of these instances."""
        rows = self.model._base_manager.using(self.db)
        for chunk in _chunks(objs):
            wanted = Q()
            for obj in chunk:
                values = _values(obj, unique)
                if values is not None:
                    wanted |= Q(**values)
            if wanted:
                yield from rows.filter(wanted).order_by("pk").values_list("pk", flat=True)


def _values(obj: Model, names: Iterable[str]) -> dict[str, Any] | None:
    """The values that tell a row from others; None where they do not, or only the database knows.

    NULL is equal to nothing, not to itself either.
    """
    values: dict[str, Any] = {}
    for name in names:
        # Not the instance that a relation leads to: that would cost a query.
        field: Any = None if name == "pk" else obj._meta.get_field(name)
        name = "pk" if field is None else field.attname
        value = getattr(obj, name)
        parts = value if isinstance(value, tuple) else (value,)  # of a composite key
        if any(part is None or hasattr(part, "resolve_expression") for part in parts):
            return None
        values[name] = value
    return values


def _chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


#: The manager with the methods of :class:`PublishedQuerySet`.
PublishedManager = models.Manager.from_queryset(PublishedQuerySet, "PublishedManager")
PublishedManager.__doc__ = """``objects = PublishedManager()``: see :class:`PublishedQuerySet`."""
