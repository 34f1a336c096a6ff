"""A model instance on its way out: its values as they were saved, its id, its parents."""

from __future__ import annotations

from collections.abc import Collection
from copy import copy
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from django.db import models, transaction
from django.db.models import Field, Model

from pubsub.exceptions import InvalidItem

M = TypeVar("M", bound=Model)

#: What Django's own fields leave as it is when it is of this very type: most of all values.
_UNCHANGED: dict[Any, type] = {
    models.CharField.to_python: str,
    models.TextField.to_python: str,
    models.IntegerField.to_python: int,
    models.BooleanField.to_python: bool,
    models.FloatField.to_python: float,
    models.DateField.to_python: date,
    models.DateTimeField.to_python: datetime,  # one with a zone
    models.UUIDField.to_python: UUID,
}

_MISSING = object()


def as_saved(
    instance: M,
    needed: Collection[Field[Any, Any]] | None = None,
    written: Collection[str] | None = None,
) -> M:
    """The instance with its values as they were saved.

    A caller may have left a text where the column holds a date, which Django converts while it
    saves.  What only the database knows costs one query: an expression such as ``F("n") + 1``, a
    generated column, one that was deferred, one that ``update_fields`` left out, a number with more
    digits than the column has, and a time without a zone.  What the caller holds is never changed.

    :param needed: the columns whose values will be read; None means all.  Others that only the
        database knows are deferred, and cost a query when somebody reads them.
    :param written: the names of what was saved, as ``update_fields`` has them; None means all.
    :returns: the instance itself where nothing differs, else a copy.
    :raises InvalidItem: when the row must tell, and there is none.
    """
    values = instance.__dict__
    converted: dict[str, Any] = {}
    unknown = []
    for field, name, kind in _columns(type(instance)):
        value = values.get(name, _MISSING)
        if value is _MISSING or (written is not None and not _is_written(field, written)):
            unknown.append(field)
            continue
        if type(value) is kind and (kind is not datetime or getattr(value, "tzinfo", None)):
            continue
        if hasattr(value, "resolve_expression") or getattr(field, "generated", False):
            unknown.append(field)
            continue
        python_value = _converted(field, value)
        if isinstance(python_value, (Decimal, datetime)) and _is_adjusted(
            field, python_value, instance._state.db
        ):
            unknown.append(field)
        elif python_value is not value:
            converted[name] = python_value
    wanted = unknown if needed is None else [field for field in unknown if field in needed]
    stale = [field for field in unknown if field.attname in values]
    if not (converted or wanted or stale):
        return instance
    return _copied(instance, stale, converted | _from_row(instance, wanted))


def as_held(instance: M) -> M:
    """The instance of a row that is gone, with its values as they were saved.

    There is nothing left to ask: what only the database knew is deferred, and who reads it finds no
    row.
    """
    converted: dict[str, Any] = {}
    unknown = []
    for field in instance._meta.concrete_fields:
        value = instance.__dict__.get(field.attname)
        if hasattr(value, "resolve_expression"):
            unknown.append(field)
        elif (python_value := _converted(field, value)) is not value:
            converted[field.attname] = python_value
    return _copied(instance, unknown, converted) if converted or unknown else instance


def primary_key(instance: Model) -> str:
    """The primary key of a row as Django's serializers write it."""
    key = instance._meta.pk
    assert key is not None  # every concrete model has one
    values = instance.__dict__
    if type(values.get(key.attname)) is int and type(key).value_to_string is Field.value_to_string:
        return str(values[key.attname])  # as most are: nothing to convert
    for field in getattr(key, "fields", [key]):  # the columns of a composite key
        value = values.get(field.attname)
        if (python_value := _converted(field, value)) is not value:
            instance = _copied(instance, [], {field.attname: python_value})
    return str(key.value_to_string(instance))


def name_of(instance: Model) -> str:
    """A row as errors and logs name it: its text may hold what is not to be published."""
    return f"{instance._meta.label} {instance.pk}"


def key_of(model: type[Model], pk: Any) -> str:
    """A primary key as :func:`primary_key` writes it, of a row that is not in memory."""
    key = model._meta.pk
    assert key is not None
    columns = getattr(key, "fields", None)
    stub = model.__new__(model)
    for field, value in [(key, pk)] if columns is None else zip(columns, pk, strict=True):
        stub.__dict__[field.attname] = _converted(field, value)
    return str(key.value_to_string(stub))


def as_parent(instance: Model, parent: type[M]) -> M:
    """The part of a row that is in the table of a parent (multi-table inheritance)."""
    values = instance.__dict__
    names = [f.attname for f in parent._meta.concrete_fields if f.attname in values]
    return parent.from_db(instance._state.db, names, [values[name] for name in names])


def without_prefetched(instance: M) -> M:
    """The instance with no memory of related rows that were read before it was changed.

    :returns: the instance itself where it has none, else a copy.
    """
    if not getattr(instance, "_prefetched_objects_cache", None):
        return instance
    return _copied(instance, [], {"_prefetched_objects_cache": {}})


@lru_cache(1024)
def parents_of(model: type[Model]) -> tuple[type[Model], ...]:
    """The models with tables of their own that a model inherits from, the eldest first."""
    concrete = model._meta.concrete_model or model
    known = concrete._meta.get_parent_list()
    return tuple(m for m in reversed(concrete.__mro__) if m in known and not m._meta.proxy)


# Private


@lru_cache(1024)
def _columns(model: type[Model]) -> tuple[tuple[Field[Any, Any], str, type | None], ...]:
    """The columns of a model, each with its name in the instance and what it leaves as it is."""
    return tuple(
        (field, field.attname, _UNCHANGED.get(type(_target(field)).to_python))
        for field in model._meta.concrete_fields
    )


def _target(field: Field[Any, Any]) -> Field[Any, Any]:
    """The field whose values a column holds: of a relation that which it leads to."""
    while type(field).to_python is models.ForeignKey.to_python:
        field = field.target_field  # type: ignore[attr-defined]
    return field


def _is_written(field: Field[Any, Any], written: Collection[str]) -> bool:
    return field.primary_key or field.name in written or field.attname in written


def _from_row(instance: Model, fields: Collection[Field[Any, Any]]) -> dict[str, Any]:
    if not fields:
        return {}
    names = [field.attname for field in fields]
    rows = type(instance)._base_manager.using(instance._state.db).filter(pk=instance.pk)
    row = rows.values(*names).first()
    if row is None:
        raise InvalidItem(
            f"the value of {', '.join(names)} of {name_of(instance)} is known to the database "
            "only, and there is no row: save it first"
        )
    return row


def _copied(instance: M, deferred: Collection[Field[Any, Any]], values: dict[str, Any]) -> M:
    """The instance with other values, and some that are read when somebody asks.

    Not by attribute: descriptors would reach into the caches that the two share.
    """
    result = type(instance).__new__(type(instance))
    result.__dict__.update(instance.__dict__)
    for field in deferred:
        del result.__dict__[field.attname]
    result.__dict__.update(values)
    if deferred:
        # What is cached for a relation belongs to the caller's value of it.
        stale = {field.name for field in deferred}
        result._state = copy(instance._state)
        cache = instance._state.fields_cache
        result._state.fields_cache = {k: v for k, v in cache.items() if k not in stale}
    return result


def _converted(field: Any, value: object) -> object:
    try:
        python_value = field.to_python(value)
        if isinstance(python_value, Decimal) and _spare_digits(field, python_value) > 0:
            # The column has these, too: 1.5 is 1.50 when it is read again.
            return python_value.quantize(Decimal(1).scaleb(-field.decimal_places))
    except Exception:  # noqa: BLE001 (the field of somebody else; what it has saved is fine)
        return value
    return python_value


def _is_adjusted(field: Field[Any, Any], value: Decimal | datetime, using: str | None) -> bool:
    """Whether the database holds something else than the value that it was given."""
    if isinstance(value, Decimal):
        return _spare_digits(field, value) < 0
    return value.tzinfo is None and transaction.get_connection(using).timezone is not None


def _spare_digits(field: Field[Any, Any], value: Decimal) -> int:
    """How many more decimal places a column has than a value; less than 0: it is rounded."""
    exponent = value.as_tuple().exponent
    places = getattr(field, "decimal_places", None)
    return 0 if places is None or isinstance(exponent, str) else int(places) + exponent
