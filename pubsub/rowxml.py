"""Django's XML of a row, written by a plan: what is the same for all rows of a model is made once.

The text is, byte for byte, that of ``django.core.serializers.xml_serializer``, which takes ten
times as long because it goes through SAX; whatever is out of the ordinary is left to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from datetime import date, datetime
from functools import lru_cache
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from django.core.serializers.xml_serializer import Serializer as XMLSerializer
from django.db import models
from django.db.models import Field, Model

from pubsub.exceptions import InvalidItem
from pubsub.instances import as_parent, as_saved, name_of, parents_of

#: The start tag of a field, its attribute, what makes a text of it where str() does not, and the
#: types whose isoformat() is that text.
_Column = tuple[str, str, Callable[[Model], str] | None, tuple[type, ...]]

#: Types whose text has nothing that has to be escaped.
_SAFE = (int, bool, float)

#: What Django's own fields write by isoformat().
_ISO: dict[Any, tuple[type, ...]] = {
    models.DateField.value_to_string: (date,),
    models.DateTimeField.value_to_string: (datetime,),
}


def to_xml(
    instance: Model, fields: Collection[str] | None = None, *, natural_keys: bool = False
) -> str:
    """Django's XML of a row, ``<django-objects>``, out of the namespace of the ``<entry>``.

    A row with parents (multi-table inheritance) is several objects, the eldest first.

    :param fields: names of fields; a many-to-many field costs a query.  None means all columns.
    :param natural_keys: write relations by natural keys, where their models have them.
    :raises InvalidItem: for expressions without a row, and for values that cannot be written.
    """
    if fields is None:
        instance = as_saved(instance)
        fields = [field.name for field in instance._meta.concrete_fields]
    names = tuple(fields)
    plans = _plans(type(instance), names, natural_keys)
    parents = parents_of(type(instance))
    rows = [*[as_parent(instance, parent) for parent in parents], instance]
    try:
        if plans is None:
            return _by_django(rows, names, natural_keys)
        texts = ['<django-objects xmlns="" version="1.0">']
        for row, plan in zip(rows, plans, strict=True):
            _write(row, plan, texts)
        texts.append("</django-objects>")
        return "".join(texts)
    except (TypeError, ValueError) as error:  # Django's UnserializableContentError among them
        raise InvalidItem(f"{name_of(instance)} cannot be written as XML: {error}") from error


# Private


def _write(row: Model, plan: tuple[str, list[_Column]], texts: list[str]) -> None:
    """Add the texts of a row's object to others."""
    start, columns = plan
    pk = row.pk
    if pk is None:
        texts.append(f"{start}>")
    else:
        key = row._meta.pk
        assert key is not None  # every concrete model has one
        texts.append(f"{start} pk={quoteattr(key.value_to_string(row))}>")
    for tag, name, write, iso in columns:
        value = getattr(row, name)
        if value is None:
            text = "<None></None>"
        elif write is None:
            text = str(value) if type(value) in _SAFE else escaped(str(value))
        elif type(value) in iso:
            text = value.isoformat()
        else:
            text = escaped(write(row))
        texts.append(f"{tag}{text}</field>")
    texts.append("</object>")


def escaped(text: str) -> str:
    """Text as it is inside an element: ``xml.sax.saxutils.escape``, where there may be nothing."""
    if "&" in text or "<" in text or ">" in text:
        return escape(text)
    return text


@lru_cache(1024)
def _plans(
    model: type[Model], names: tuple[str, ...], natural_keys: bool
) -> list[tuple[str, list[_Column]]] | None:
    """The plans of a row's objects, the eldest first; None where Django has to write one."""
    plans = [_plan(each, names, natural_keys) for each in (*parents_of(model), model)]
    found = [plan for plan in plans if plan is not None]
    return found if len(found) == len(plans) else None


def _plan(
    model: type[Model], names: tuple[str, ...], natural_keys: bool
) -> tuple[str, list[_Column]] | None:
    """The start tag of a row's object, and its columns; None where Django has to write it."""
    meta = model._meta
    concrete = meta.concrete_model
    assert concrete is not None  # an abstract model has no rows
    local = concrete._meta
    if any(field.name in names for field in local.local_many_to_many):
        return None
    columns = []
    for field in local.local_fields:
        name = field.name if field.remote_field is None else field.attname.removesuffix("_id")
        if field.serialize and name in names:  # type: ignore[attr-defined]
            if natural_keys and hasattr(field.related_model, "natural_key"):
                return None
            columns.append(_column(field))
    return f"<object model={quoteattr(str(meta))}", columns


def _column(field: Field[Any, Any]) -> _Column:
    name, kind = quoteattr(field.name), quoteattr(field.get_internal_type())

    def as_json(row: Model) -> str:
        return json.dumps(field.value_to_string(row), cls=field.encoder)  # type: ignore[attr-defined]

    relation = field.remote_field
    if relation is not None:
        to = f"rel={quoteattr(type(relation).__name__)} to={quoteattr(str(relation.model._meta))}"
        return f"<field name={name} {to}>", field.attname, None, ()
    write: Callable[[Model], str] | None = field.value_to_string
    iso: tuple[type, ...] = ()
    if field.get_internal_type() == "JSONField":
        write = as_json
    elif type(field).value_from_object is Field.value_from_object:
        iso = _ISO.get(type(field).value_to_string, ())
        if type(field).value_to_string is Field.value_to_string:
            write = None
    return f"<field name={name} type={kind}>", field.attname, write, iso


def _by_django(rows: list[Model], names: tuple[str, ...], natural_keys: bool) -> str:
    text = XMLSerializer().serialize(rows, fields=names, use_natural_foreign_keys=natural_keys)
    start = text.index("<django-objects")  # after the declaration
    return f'<django-objects xmlns=""{text[start + len("<django-objects") :]}'
