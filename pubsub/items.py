"""Item: one thing published; and how a value becomes its ``<entry>``.

What lives here is pure: values in, XML text out.  Whatever could break a stream is refused here,
before anything is sent.
"""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from uuid import UUID
from xml.sax.saxutils import escape, quoteattr

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model
from django.utils.functional import Promise

from pubsub.exceptions import InvalidItem, InvalidNode, PayloadTooBig
from pubsub.instances import primary_key, to_xml

NS_ATOM = "http://www.w3.org/2005/Atom"
NS_META = "urn:django-pubsub:1"
NS_JSON = "urn:xmpp:json:0"

#: The events that an item can tell of.
CREATED, UPDATED, DELETED, PUBLISHED = "created", "updated", "deleted", "published"

#: ejabberd's limit, which cannot be raised, in bytes.
MAX_PAYLOAD = 250_000

#: XEP-0060 sets no limit to names; with these the largest item still fits the 262,144 bytes that
#: ejabberd's stock configuration allows for a stanza.  In bytes, as they are escaped.
MAX_NODE, MAX_ID = 8192, 2048

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Item:
    """One thing published, complete and unchangeable.

    :param node: the topic.
    :param id: overwrites the item of that id; None lets the server choose a new one.
    :param event: ``created``, ``updated``, ``deleted`` or ``published``.
    :param payload: the ``<entry>`` as XML text; empty when the item is to be retracted.
    :param at: when it happened, in UTC.
    :param sequence: of a registered model's items: grows with the states of its rows, in the order
        in which this process saw them.
    """

    node: str
    id: str | None
    event: str
    payload: str
    at: datetime
    sequence: int | None = field(default=None, compare=False)

    @property
    def is_retraction(self) -> bool:
        """Whether it takes an item off the node instead of putting one there."""
        return self.event == DELETED


#: What may identify an item: text, or a primary key as it is.
ItemId = str | int | UUID


def make_item(
    node: str,
    value: Any,
    *,
    id: ItemId | None = None,
    event: str = PUBLISHED,
    sequence: int | None = None,
) -> Item:
    """Freeze a value as it is now.

    :param node: any name that the server takes.
    :param value: text, a dict or list (JSON, XEP-0335), an xml.etree Element, or a model instance.
    :param id: the item's id; a saved instance's is its primary key.
    :param event, sequence: see :class:`Item`.
    :raises InvalidNode: for a name that is empty, too long, or no XML text.
    :raises InvalidItem: for characters that XML 1.0 cannot carry, and values that JSON cannot.
    :raises PayloadTooBig: above 250,000 bytes.
    :raises TypeError: for a value of another type.
    """
    if isinstance(value, Model) and id is None and value.pk is not None:
        id = primary_key(value)
    at = datetime.now(timezone.utc)
    entry = _entry(value, event, at)
    size = len(entry.encode("utf-8", "surrogatepass"))
    if size > MAX_PAYLOAD:
        raise PayloadTooBig(
            f"the payload for {_shortened(node)} has {size:,} bytes as XML, and the server takes "
            f"{MAX_PAYLOAD:,}; publish a reference to it instead"
        )
    _check_xml(entry, f"the payload for {_shortened(node)}")
    item_id = None if id is None else valid_id(id)
    return Item(valid_node(node), item_id, event, entry, at, sequence)


def make_retraction(node: str, item_id: ItemId, *, sequence: int | None = None) -> Item:
    """The item that takes another off its node.

    :raises InvalidNode, InvalidItem: as :func:`make_item` does.
    """
    at = datetime.now(timezone.utc)
    return Item(valid_node(node), valid_id(item_id), DELETED, "", at, sequence)


def valid_node(node: str) -> str:
    """The name of a node, if it is one.

    :raises TypeError, InvalidNode: if it is not, saying why.
    """
    if not isinstance(node, str):
        raise TypeError(f"a node is named by a str, not {node!r}")
    if not node:
        raise InvalidNode("the name of a node must not be empty")
    if (size := len(quoteattr(node).encode("utf-8", "surrogatepass")) - 2) > MAX_NODE:
        raise InvalidNode(f"the name {_shortened(node)} has {size:,} bytes, more than {MAX_NODE:,}")
    _check_xml(node, "the name of a node", InvalidNode)
    return node


def valid_id(item_id: ItemId) -> str:
    """The id of an item as text, if it is one.

    :raises TypeError, InvalidItem: if it is not, saying why.
    """
    if isinstance(item_id, bool) or not isinstance(item_id, (str, int, UUID)):
        raise TypeError(f"an item's id is text, a number or a UUID, not {item_id!r}")
    item_id = str(item_id)
    if not item_id:
        raise InvalidItem("an item's id must not be empty; leave it out to get one from the server")
    if (size := len(quoteattr(item_id).encode("utf-8", "surrogatepass")) - 2) > MAX_ID:
        raise InvalidItem(f"the id {_shortened(item_id)} has {size:,} bytes, more than {MAX_ID:,}")
    _check_xml(item_id, "an item's id")
    return item_id


def valid_configuration(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of a node (XEP-0060 §16.4.4), if it can be written.

    :raises InvalidItem: if a name or a value cannot, saying why.
    """
    for name, value in fields.items():
        _check_xml(f"{name}={value}", f"the configuration {_shortened(name)}")
    return fields


# Private


def _entry(value: Any, event: str, at: datetime) -> str:
    """The payload element; facts about it are attributes, so that its text is the text."""
    meta = f'<meta xmlns="{NS_META}" event="{event}" at="{_timestamp(at)}"/>'
    if isinstance(value, ET.Element) and value.tag == f"{{{NS_ATOM}}}entry":
        return _with_first_child(value, meta)
    return f'<entry xmlns="{NS_ATOM}">{meta}{_content(value)}</entry>'


def _content(value: Any) -> str:
    if isinstance(value, (str, Promise)):
        return escape(str(value))
    if isinstance(value, (dict, list)):
        return f'<json xmlns="{NS_JSON}">{escape(_json(value))}</json>'
    if isinstance(value, ET.Element):
        return _element(value)
    if isinstance(value, Model):
        return to_xml(value)
    raise TypeError(
        "publish() takes text, a dict, a list, an xml.etree Element or a model instance, "
        f"not {_shortened(value)} of type {type(value).__name__}"
    )


def _json(value: Any) -> str:
    try:
        # NaN is no JSON, and JSON.parse() in the browser would stumble over it.
        return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidItem(f"{_shortened(value)} is no JSON: {error}") from error


def _element(element: ET.Element) -> str:
    """An element as text that stays what it is inside an ``<entry>``.

    ElementTree writes whatever it is given, so the result is read back: a name with a blank in
    it would otherwise end the stream.
    """
    try:
        # Whatever is nested too deeply ends here; copied, it would end the process.
        ET.tostring(element)
        if not all(isinstance(child.tag, str) for child in element.iter()):
            raise ValueError("XMPP allows no comments and processing instructions (RFC 6120 §11.1)")
        root, namespace = _with_default_namespace(element)
        text = ET.tostring(root, encoding="unicode")
        name = text[: re.search(r"[\s/>]", text).start()]  # type: ignore[union-attr]
        text = f"{name} xmlns={quoteattr(namespace)}{text[len(name) :]}"
        ET.fromstring(text)  # noqa: S314 (our own text)
    except (TypeError, ValueError, AttributeError, RecursionError, ET.ParseError) as error:
        raise InvalidItem(f"the element {element.tag!r} cannot be written: {error}") from error
    return text


def _with_default_namespace(element: ET.Element) -> tuple[ET.Element, str]:
    """A copy that has the root's namespace as its default, so that names need no prefix.

    Where elements without a namespace are among them, these need the default for themselves.
    """
    root = copy.deepcopy(element)
    root.tail = None  # belongs to whatever stood behind it
    namespace = root.tag[1:].partition("}")[0] if root.tag.startswith("{") else ""
    if not namespace or not all(child.tag.startswith("{") for child in root.iter()):
        return root, ""
    for child in root.iter():
        child.tag = child.tag.removeprefix(f"{{{namespace}}}")
    return root, namespace


def _with_first_child(entry: ET.Element, meta: str) -> str:
    text = _element(entry)
    start = re.match(r"<(?:[^\"'>]|\"[^\"]*\")*>", text)
    assert start is not None  # ElementTree puts attributes between double quotes
    if start[0].endswith("/>"):
        return f"{start[0][:-2]}>{meta}</{start[0][1:].split()[0]}>"
    return f"{start[0]}{meta}{text[start.end() :]}"


def _timestamp(at: datetime) -> str:
    """XEP-0082 date and time, in UTC."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _check_xml(text: str, what: str, error: type[InvalidItem] = InvalidItem) -> None:
    found = _NOT_XML.search(text)
    if found:
        raise error(
            f"{what} holds {found[0]!r} at position {found.start()}, which XML 1.0 cannot carry"
        )


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
