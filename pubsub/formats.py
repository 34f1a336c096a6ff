"""The formats that a registered model can be published in: a row in, a payload out."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from django.core.serializers import base
from django.core.serializers.json import Serializer as JSONSerializer
from django.core.serializers.python import Serializer as PythonSerializer
from django.core.serializers.xml_serializer import Serializer as XMLSerializer
from django.db.models import Model
from django.utils.encoding import iri_to_uri
from django.utils.module_loading import import_string

from pubsub.instances import as_parent, parents_of
from pubsub.payloads import NS_ATOM, is_payload, timestamp

#: The formats with a name of their own; others are the dotted path of a serializer.
XML_FORMAT, JSON_FORMAT, ATOM_FORMAT = "xml", "json", "atom"
FORMATS = (XML_FORMAT, JSON_FORMAT, ATOM_FORMAT)


def to_data(
    instance: Model, fields: Collection[str], *, natural_keys: bool = False
) -> dict[str, Any]:
    """A row as one flat dict, name of the field → value, its primary key included.

    Relations are the primary keys of what they lead to, or natural keys; what JSON has no type for
    becomes text, as DjangoJSONEncoder writes it (XEP-0335).

    :param fields: names of fields; a many-to-many field costs a query.
    """
    data: dict[str, Any] = {}
    for row in [*(as_parent(instance, p) for p in parents_of(type(instance))), instance]:
        (written,) = PythonSerializer().serialize(
            [row], fields=fields, use_natural_foreign_keys=natural_keys
        )
        key = row._meta.pk
        assert key is not None  # every concrete model has one
        data |= {key.name: written["pk"], **written["fields"]}
    return data


def to_atom(
    instance: Model,
    fields: Collection[str],
    *,
    uri: str,
    author: str,
    at: datetime,
    natural_keys: bool = False,
) -> ET.Element:
    """A row as a complete Atom entry (RFC 4287 §4.1.2).

    Its title is the instance as text, its content each field on a line of its own, its alternate
    link the instance's ``get_absolute_url()`` where that is absolute.

    :param uri: the entry's id, the same for ever (RFC 4287 §4.2.6).
    :param author: the name of who publishes it.
    :param at: when the row was saved, in UTC.
    """
    entry = ET.Element(f"{{{NS_ATOM}}}entry")

    def add(name: str, text: str = "", **attributes: str) -> ET.Element:
        child = ET.SubElement(entry, f"{{{NS_ATOM}}}{name}", attributes)
        child.text = text
        return child

    add("id", uri)
    add("title", str(instance))
    add("updated", timestamp(at))
    ET.SubElement(add("author"), f"{{{NS_ATOM}}}name").text = author
    link = getattr(instance, "get_absolute_url", str)()
    if urlsplit(link).scheme:
        add("link", rel="alternate", href=iri_to_uri(link))
    data = to_data(instance, fields, natural_keys=natural_keys)
    lines = [f"{name}: {_readable(value)}" for name, value in data.items()]
    add("content", "\n".join(lines), type="text")
    return entry


def uri_of(service: str, node: str, item_id: str) -> str:
    """The address of an item (XEP-0060 §12.22, RFC 5122)."""
    return f"xmpp:{service}?;node={quote(node, safe='/')};item={quote(item_id, safe='')}"


def serializer(path: str, *, natural_keys: bool = False) -> Callable[[Model, Collection[str]], Any]:
    """The function behind the dotted path of a serializer: row and names in, payload out.

    The path leads to a serializer class of Django's, to a class whose instances have ``data``, as
    Django REST framework's do, or to any function that takes an instance and returns a payload.

    :param natural_keys: what Django's serializers are told about relations.
    :raises ImportError: when there is nothing at that path.
    :raises TypeError: for what is no path, and when there is no class or function at it.
    """
    found = _found(path)
    if _is_djangos(found):
        return partial(_by_django, found, natural_keys)

    def serialize(instance: Model, fields: Collection[str]) -> Any:
        result = found(instance)
        return result if is_payload(result) else getattr(result, "data", result)

    return serialize


def heeds_fields(path: str) -> bool:
    """Whether the serializer at a dotted path is told which fields to write."""
    return _is_djangos(_found(path))


# Private


def _found(path: Any) -> Any:
    if not isinstance(path, str):
        raise TypeError(f"{path!r} is no text, but of type {type(path).__name__}")
    found = import_string(path)
    if not callable(found):
        raise TypeError(
            f"{path} is neither a serializer class nor a function, but of type "
            f"{type(found).__name__}"
        )
    return found


def _is_djangos(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, base.Serializer)


def _readable(value: Any) -> str:
    """A value of a field as somebody would write it who does not know Python."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_readable, value))
    return "" if value is None else str(value)


def _by_django(
    serializer: type[base.Serializer],
    natural_keys: bool,
    instance: Model,
    fields: Collection[str],
) -> Any:
    rows = [*(as_parent(instance, p) for p in parents_of(type(instance))), instance]
    result: Any = serializer().serialize(rows, fields=fields, use_natural_foreign_keys=natural_keys)
    if issubclass(serializer, XMLSerializer):
        return ET.fromstring(result)  # noqa: S314 (our own text)
    if issubclass(serializer, JSONSerializer):
        return json.loads(result)
    return result
