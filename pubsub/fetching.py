"""Reads rows that are to be published: many at once, and so that nobody else changes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from django.db import connections
from django.db.models import Model, QuerySet

from pubsub.spool import CHUNK

M = TypeVar("M", bound=Model)


def read_rows(
    model: type[Model], pks: Iterable[Any], using: str | None, *, locks: bool = False
) -> Iterator[Model]:
    """The rows with some primary keys, however many, in any order.

    :param locks: whether nobody else may change them until the transaction ends.
    """
    wanted = list(pks)
    for start in range(0, len(wanted), CHUNK):
        rows = model._base_manager.using(using).filter(pk__in=wanted[start : start + CHUNK])
        yield from locked(rows) if locks else rows


def locked(rows: QuerySet[M]) -> QuerySet[M]:
    """Rows that nobody else may change until the transaction ends, where the database can do it."""
    features = connections[rows.db].features
    if not features.has_select_for_update:
        return rows
    # Who but refers to a row does not keep us from it, nor we him, where the database can tell.
    # What else is read along may have no row to lock.
    return rows.select_related(None).select_for_update(no_key=features.has_select_for_no_key_update)
