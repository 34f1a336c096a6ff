"""A model instance on its way out: its values as they were saved, its id, its parents."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import copy
from typing import Any, TypeVar

from django.core.serializers.xml_serializer import Serializer as XMLSerializer
from django.db.models import Field, Model

from pubsub.exceptions import InvalidItem

M = TypeVar("M", bound=Model)


def as_saved(
    instance: M,
    needed: Collection[Field[Any, Any]] | None = None,
    written: Collection[str] | None = None,
) -> M:
    """The instance with its values as they were saved.

    A caller may have left a text where the column holds a date, which Django converts while it
    saves.  What only the database knows costs one query: an expression such as ``F("n") + 1``, a
    generated column, one that was deferred, and one that ``update_fields`` left out.  What the
    caller holds is never changed.

    :param needed: the columns whose values will be read; None means all.  Others that only the
        database knows are deferred, and cost a query when somebody reads them.
    :param written: the names of what was saved, as ``update_fields`` has them; None means all.
    :returns: the instance itself where nothing differs, else a copy.
    :raises InvalidItem: when the row must tell, and there is none.
    """
    values = instance.__dict__
    converted: dict[str, Any] = {}
    unknown = []
    for field in instance._meta.concrete_fields:
        name = field.attname
        if name not in values:
            unknown.append(field)
            continue
        value = values[name]
        if (
            (written is not None and not _is_written(field, written))
            or hasattr(value, "resolve_expression")
            or getattr(field, "generated", False)
        ):
            unknown.append(field)
        elif (python_value := _converted(field, value)) is not value:
            converted[name] = python_value
    wanted = unknown if needed is None else [field for field in unknown if field in needed]
    stale = [field for field in unknown if field.attname in values]
    if not (converted or wanted or stale):
        return instance
    return _copied(instance, stale, converted | _from_row(instance, wanted))


def primary_key(instance: Model) -> str:
    """The primary key of a row as Django's serializers write it."""
    key = instance._meta.pk
    assert key is not None  # every concrete model has one
    values = instance.__dict__
    for field in getattr(key, "fields", [key]):  # the columns of a composite key
        value = values.get(field.attname)
        if (python_value := _converted(field, value)) is not value:
            instance = _copied(instance, [], {field.attname: python_value})
    return str(key.value_to_string(instance))


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


def parents_of(model: type[Model]) -> Iterator[type[Model]]:
    """The models with tables of their own that a model inherits from, the eldest first."""
    for base in reversed(model.__mro__):
        if issubclass(base, Model) and base in model._meta.get_parent_list():
            yield base


def to_xml(
    instance: Model, fields: Collection[str] | None = None, *, natural_keys: bool = False
) -> str:
    """Django's XML of a row, ``<django-objects>``, out of the namespace of the ``<entry>``.

    A row with parents (multi-table inheritance) is several objects, the eldest first.

    :param fields: names of fields; a many-to-many field costs a query.  None means all columns.
    :param natural_keys: write relations by natural keys, where their models have them.
    :raises InvalidItem: for control characters, and for expressions without a row.
    """
    meta = instance._meta
    if fields is None:
        instance = as_saved(instance)
        fields = [field.name for field in meta.concrete_fields]
    parents = parents_of(type(instance)) if meta.parents else ()
    rows = [*(as_parent(instance, parent) for parent in parents), instance]
    try:
        text = XMLSerializer().serialize(rows, fields=fields, use_natural_foreign_keys=natural_keys)
    except ValueError as error:  # UnserializableContentError
        raise InvalidItem(f"{instance!r} cannot be written as XML: {error}") from error
    start = text.index("<django-objects")  # after the declaration
    return f'<django-objects xmlns=""{text[start + len("<django-objects") :]}'


# Private


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
            f"the value of {', '.join(names)} of {instance!r} is known to the database only, and "
            "there is no row: save it first"
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


def _converted(field: Field[Any, Any], value: object) -> object:
    try:
        return field.to_python(value)
    except Exception:  # noqa: BLE001 (the field of somebody else; what it has saved is fine)
        return value
