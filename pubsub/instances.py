"""A model instance on its way out: its values as they were saved, its id and its XML."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from django.core.serializers.xml_serializer import Serializer as XMLSerializer
from django.db.models import Field, Model

from pubsub.exceptions import InvalidItem

M = TypeVar("M", bound=Model)


def as_saved(instance: M, fields: Iterable[Field[Any, Any]] | None = None) -> M:
    """The instance with its values as they were saved.

    A caller may have left a text where the column holds a date, which Django converts while it
    saves.  What only the database knows costs one query: an expression such as ``F("n") + 1``, and
    a generated column.  What the caller holds is never changed.

    :param fields: the columns that matter; None means all.
    :returns: the instance itself where nothing differs, else a copy.
    :raises InvalidItem: when the row must tell, and there is none.
    """
    changed: dict[str, Any] = {}
    unknown = []
    for field in instance._meta.concrete_fields if fields is None else fields:
        if field.attname not in instance.__dict__:
            continue  # deferred: read from the row by whoever asks
        value = instance.__dict__[field.attname]
        if hasattr(value, "resolve_expression") or getattr(field, "generated", False):
            unknown.append(field.attname)
        elif (converted := _converted(field, value)) is not value:
            changed[field.attname] = converted
    if unknown:
        changed |= _from_row(instance, unknown)
    if not changed:
        return instance
    copy = type(instance).__new__(type(instance))
    # Not by attribute: descriptors would reach into the caches that the two share.
    copy.__dict__.update(instance.__dict__, **changed)
    return copy


def primary_key(instance: Model) -> str:
    """The primary key of a row as Django's serializers write it."""
    key = instance._meta.pk
    assert key is not None  # every concrete model has one
    columns = getattr(key, "fields", [key])  # of a composite key
    return str(key.value_to_string(as_saved(instance, columns)))


def to_xml(instance: Model) -> str:
    """Django's XML of a row, ``<django-objects>``, out of the namespace of the ``<entry>``.

    Of the model's fields the columns are in it: a many-to-many field would cost a query on every
    save.

    :raises InvalidItem: for control characters, and for expressions without a row.
    """
    saved = as_saved(instance)
    try:
        names = [field.name for field in saved._meta.concrete_fields]
        text = XMLSerializer().serialize([saved], fields=names)
    except ValueError as error:  # UnserializableContentError
        raise InvalidItem(f"{instance!r} cannot be written as XML: {error}") from error
    start = text.index("<django-objects")  # after the declaration
    return f'<django-objects xmlns=""{text[start + len("<django-objects") :]}'


def _from_row(instance: Model, names: list[str]) -> dict[str, Any]:
    rows = type(instance)._base_manager.using(instance._state.db).filter(pk=instance.pk)
    row = rows.values(*names).first()
    if row is None:
        raise InvalidItem(
            f"the value of {', '.join(names)} of {instance!r} is known to the database only, and "
            "there is no row: save it first"
        )
    return row


def _converted(field: Field[Any, Any], value: object) -> object:
    try:
        return field.to_python(value)
    except Exception:  # noqa: BLE001 (the field of somebody else; what it has saved is fine)
        return value
