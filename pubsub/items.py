"""Item: one thing published, with the node that it is for.

What lives here is pure.  Whatever could break a stream is refused here, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from itertools import count
from typing import Any
from uuid import UUID
from xml.sax.saxutils import quoteattr
from zlib import crc32

from django.db.models import Model

from pubsub.context import current_origin
from pubsub.exceptions import InvalidItem, InvalidNode
from pubsub.instances import primary_key
from pubsub.payloads import Unwritten, check_xml, make_payload, shortened

#: The events that an item can tell of.
CREATED, UPDATED, DELETED, PUBLISHED = "created", "updated", "deleted", "published"

#: XEP-0060 sets no limit to names; with these the largest item still fits the 262,144 bytes that
#: ejabberd's stock configuration allows for a stanza.  In bytes, as they are escaped.
MAX_NODE, MAX_ID = 8192, 2048

#: How many lanes there are: what shares one keeps its order, so a node has one.
LANES = 64


@dataclass(frozen=True, init=False)
class Item:
    """One thing published, complete and unchangeable.

    :param node: the topic.
    :param id: overwrites the item of that id; None: a new item, of an id that the backend chooses.
    :param event: ``created``, ``updated``, ``deleted`` or ``published``.
    :param payload: the ``<entry>`` as XML text; empty when the item is to be retracted.  One that
        is unwritten is written when somebody first asks.
    :param at: when it happened, in UTC.
    :param sequence: of a registered model's items: grows with the states of its rows, in the order
        in which this process saw them.
    :param is_reread: whether the row was read back, without a lock, after the number was taken.
    :param is_own: whether it is one row's, or has an id that no other ever has: what comes later is
        later.
    :param configuration: what the node is to be like if it has to be created (XEP-0060 §16.4.4),
        laid over PUBSUB_NODE_DEFAULTS.
    """

    node: str
    id: str | None
    event: str
    payload: str = field(repr=False)
    at: datetime = field(repr=False)
    sequence: int | None = field(default=None, compare=False, repr=False)
    is_reread: bool = field(default=False, compare=False, repr=False)
    configuration: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    is_own: bool = field(default=False, compare=False, repr=False)

    def __init__(
        self,
        node: str,
        id: str | None,
        event: str,
        payload: str | Unwritten,
        at: datetime,
        sequence: int | None = None,
        is_reread: bool = False,
        configuration: Mapping[str, Any] | None = None,
        is_own: bool = False,
    ) -> None:
        # What a frozen dataclass would do one by one, and each save would pay for.
        held = self.__dict__
        held["payload" if isinstance(payload, str) else _UNWRITTEN] = payload
        held.update(
            node=node,
            id=id,
            event=event,
            at=at,
            sequence=sequence,
            is_reread=is_reread,
            configuration={} if configuration is None else configuration,
            is_own=is_own,
        )

    def __getattr__(self, name: str) -> Any:
        """The payload, when it is first asked for; two threads may do that at once."""
        held = self.__dict__
        unwritten = held.get(_UNWRITTEN) if name == "payload" else None
        if unwritten is not None:
            held["payload"] = unwritten.to_xml()
            held.pop(_UNWRITTEN, None)
        elif name != "payload" or name not in held:
            raise AttributeError(f"an Item has no {name!r}")
        return held["payload"]

    def __getstate__(self) -> dict[str, Any]:
        """For copies, pickled or not."""
        payload = self.payload
        held = {name: value for name, value in self.__dict__.items() if name != _UNWRITTEN}
        return {**held, "payload": payload}

    @property
    def is_retraction(self) -> bool:
        """Whether it takes an item off the node instead of putting one there."""
        return self.__dict__.get("payload") == ""


#: Under this name an Item holds its payload as long as that is unwritten.
_UNWRITTEN = "_unwritten"

#: Where an item is: its node, and its id there (None: a new one, nothing is overwritten).
Place = tuple[str, str | None]

#: What may identify an item: text, or a primary key as it is.
ItemId = str | int | UUID


def make_item(
    node: str,
    value: Any,
    *,
    id: ItemId | None = None,
    event: str = PUBLISHED,
    sequence: int | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> Item:
    """Freeze a value as it is now.

    :param node: any name that the server takes.
    :param value: text, a dict or list (JSON, XEP-0335), an xml.etree Element, or a model instance.
    :param id: the item's id; a saved instance's is its primary key.
    :param event, sequence, configuration: see :class:`Item`.
    :raises InvalidNode: for a name that is empty, too long, or no XML text.
    :raises InvalidItem: for characters that XML 1.0 cannot carry, and values that JSON cannot.
    :raises PayloadTooBig: above 250,000 bytes.
    :raises TypeError: for a value of another type.
    """
    if isinstance(value, Model) and id is None and value.pk is not None:
        id = primary_key(value)
    at = now()
    payload = make_payload(
        value,
        event=event,
        at=at,
        origin=current_origin(),
        about=f"the payload for {shortened(node)}",
    )
    item_id = None if id is None else valid_id(id)
    name = valid_node(node)
    return Item(name, item_id, event, payload, at, sequence, configuration=configuration or {})


def make_retraction(
    node: str, item_id: ItemId, *, sequence: int | None = None, is_reread: bool = False
) -> Item:
    """The item that takes another off its node.

    :raises InvalidNode, InvalidItem: as :func:`make_item` does.
    """
    return Item(valid_node(node), valid_id(item_id), DELETED, "", now(), sequence, is_reread)


def lane_of(name: str) -> int:
    """The lane of a node, from 0 to LANES - 1: the same in all processes."""
    return crc32(name.encode("utf-8", "surrogatepass")) % LANES


def next_number() -> int:
    """A number that is greater than all that this process has taken before."""
    return next(_numbers)


def now() -> datetime:
    """The present time, in UTC."""
    return datetime.now(timezone.utc)


def valid_node(node: str) -> str:
    """The name of a node, if it is one.

    :raises TypeError, InvalidNode: if it is not, saying why.
    """
    if not isinstance(node, str):
        raise TypeError(f"a node is named by a str, not {shortened(node)}")
    return _checked_node(node)


def valid_id(item_id: ItemId) -> str:
    """The id of an item as text, if it is one.

    :raises TypeError, InvalidItem: if it is not, saying why.
    """
    if isinstance(item_id, bool) or not isinstance(item_id, (str, int, UUID)):
        raise TypeError(f"an item's id is text, a number or a UUID, not {shortened(item_id)}")
    try:
        item_id = str(item_id)
    except ValueError as error:  # Python writes no number of more than 4300 digits
        raise InvalidItem(f"an item's id cannot be written: {error}") from error
    if item_id.isascii() and item_id.isalnum() and len(item_id) <= MAX_ID:
        return item_id  # as most are: nothing to escape, nothing to refuse
    if not item_id:
        raise InvalidItem("an item's id must not be empty; leave it out to get a new one")
    if (size := _escaped_size(item_id)) > MAX_ID:
        raise InvalidItem(f"the id {shortened(item_id)} has {size:,} bytes, more than {MAX_ID:,}")
    check_xml(item_id, "an item's id")
    return item_id


def valid_configuration(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of a node (XEP-0060 §16.4.4), if it can be written.

    :raises InvalidItem: if a name or a value cannot, saying why.
    """
    for name, value in fields.items():
        check_xml(f"{name}={value}", f"the configuration {shortened(name)}")
    return fields


# Private

_numbers = count()


@lru_cache(1024)
def _checked_node(node: str) -> str:
    if not node:
        raise InvalidNode("the name of a node must not be empty")
    if (size := _escaped_size(node)) > MAX_NODE:
        raise InvalidNode(f"the name {shortened(node)} has {size:,} bytes, more than {MAX_NODE:,}")
    check_xml(node, "the name of a node", InvalidNode)
    return str(node)


def _escaped_size(text: str) -> int:
    """Its bytes inside an attribute."""
    return len(quoteattr(text).encode("utf-8", "surrogatepass")) - 2
