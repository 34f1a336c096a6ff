"""Asks a Publication about a row, and checks what its hooks answer."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Model
from django.utils.functional import Promise

from pubsub.context import current_origin
from pubsub.exceptions import InvalidItem
from pubsub.instances import as_held, as_parent, as_saved, without_prefetched
from pubsub.items import DELETED, Item, Place, next_number, now, valid_id, valid_node
from pubsub.payloads import Unwritten, is_payload, make_payload, unwritten
from pubsub.publications import PAYLOADS, Publication, seconds, wrong_answer
from pubsub.rowxml import freeze
from pubsub.rules import PRIVATE, rule_of


def row_of(
    publication: Publication,
    instance: Model,
    event: str,
    written: Collection[str] | None = None,
) -> Model:
    """The row as the hooks get it: as it was saved, of the publication's model.

    :param written: the names of what was saved; None means all.
    """
    is_gone = event == DELETED
    saved = as_held(instance) if is_gone else as_saved(instance, publication.columns, written)
    if publication.model._meta.concrete_model is not saved._meta.concrete_model:
        saved = as_parent(saved, publication.model)
    # Of a row that is gone there are no related rows any more, but those that were prefetched.
    return saved if is_gone else without_prefetched(saved)


def fulfils(publication: Publication, row: Model, event: str) -> bool:
    """Whether a row is to be published.

    :raises TypeError: when the hook returns nothing; it names the hook.
    """
    answer: Any = publication.should_publish(row, event)
    if answer is None:
        raise wrong_answer(publication, "should_publish", answer, "True or False")
    return bool(answer)


def places(publication: Publication, row: Model, event: str) -> list[Place]:
    """Where a row belongs.

    :raises TypeError: when a hook returns what is no node, or no id; it names the hook.
    """
    nodes = publication.get_nodes(row, event)
    if nodes is not publication.nodes:
        nodes = _valid_nodes(publication, nodes)
    if not nodes:
        return []
    item_id = publication.get_item_id(row)
    if item_id is not None:
        try:
            item_id = valid_id(item_id)
        except InvalidItem as error:
            raise _refused(publication, "get_item_id", error) from error
        except TypeError as error:
            expected = "text, a number, a UUID or None"
            raise wrong_answer(publication, "get_item_id", item_id, expected) from error
    return [(node, item_id) for node in nodes]


def make_items(
    publication: Publication,
    row: Model,
    event: str,
    places: Iterable[Place],
    sequence: int | None = None,
    is_reread: bool = False,
) -> list[Item]:
    """Freeze a row as it is now, for each of its places.

    Of a log a delete is an item, too; elsewhere it takes the row's item away.

    :param sequence, is_reread: see :class:`~pubsub.items.Item`; by default the next number.
    :raises InvalidItem: for what cannot be put on the wire.
    :raises TypeError: when a hook returns what is no payload; it names the hook.
    """
    at = now()
    number = next_number() if sequence is None else sequence
    places = list(places)
    kept = places if event != DELETED else [place for place in places if place[1] is None]
    payload = _payload(publication, row, event, at) if kept else ""
    return [
        Item(
            node,
            item_id,
            event,
            payload if event != DELETED or item_id is None else "",
            at,
            number,
            is_reread,
            configuration_of(publication, node),
            publication.has_own_ids,
        )
        for node, item_id in places
    ]


def interval(publication: Publication, row: Model, event: str) -> float | None:
    """Seconds between two updates of a row's item; None: each is sent as it comes.

    :raises TypeError: when the hook returns no interval; it names the hook.
    """
    answer: Any = publication.get_throttle(row, event)
    if answer is None:
        return None
    is_number = isinstance(answer, (int, float, timedelta)) and not isinstance(answer, bool)
    if is_number and 0 <= (interval := seconds(answer)) < math.inf:
        return interval
    raise wrong_answer(publication, "get_throttle", answer, "seconds, a timedelta or None")


def configuration_of(publication: Publication, node: str) -> Mapping[str, Any]:
    """What a node is to be like: private where a rule decides about it, whatever the hook says.

    :raises TypeError: when the hook returns no mapping; it names the hook.
    """
    fields: Any = publication.get_configuration(node)
    if type(fields) is dict or isinstance(fields, Mapping):
        return fields if rule_of(node) is None else {**fields, "access_model": PRIVATE}
    expected = "a dict: the name of a field → its value"
    raise wrong_answer(publication, "get_configuration", fields, expected)


# Private


def _payload(publication: Publication, row: Model, event: str, at: datetime) -> str | Unwritten:
    origin = current_origin()
    if publication.writes_columns:
        frozen = freeze(row, publication.field_names)
        if frozen is not None:
            # What can wait for it is left to who sends it.
            entry = unwritten(frozen, event=event, at=at, origin=origin)
            if entry is not None:
                return entry
    value = publication.get_payload(row, event)
    if not is_payload(value):
        raise wrong_answer(publication, "get_payload", value, PAYLOADS)
    return make_payload(value, event=event, at=at, origin=origin, about="the payload")


def _valid_nodes(publication: Publication, nodes: Any) -> list[str]:
    if nodes is None:
        return []
    found = [str(nodes)] if isinstance(nodes, (str, Promise)) else nodes
    if isinstance(found, Iterable) and not isinstance(found, (bytes, Mapping)):
        found = list(found)
        if all(isinstance(node, str) for node in found):
            try:
                return [valid_node(node) for node in dict.fromkeys(found)]
            except InvalidItem as error:
                raise _refused(publication, "get_nodes", error) from error
    expected = "the name of a node, several of them, or None"
    raise wrong_answer(publication, "get_nodes", nodes, expected)


def _refused(publication: Publication, hook: str, error: InvalidItem) -> InvalidItem:
    """The error of what a hook returned, with the hook's name."""
    return type(error)(f"{type(publication).__qualname__}.{hook}(): {error}")
