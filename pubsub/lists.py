"""Lists of a page that the client keeps true: of which node, in which order, how long.

What a template asks for is checked here: in the page nobody could say why a list stays empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db.models import Model

from pubsub import nodes
from pubsub.asking import configuration_of
from pubsub.formats import JSON_FORMAT, XML_FORMAT
from pubsub.items import valid_node
from pubsub.publications import Publication
from pubsub.registry import pubsub


def list_attributes(source: Any, order: Any = None, limit: Any = None) -> dict[str, Any]:
    """What the element of a list says of it, name → value.

    :param source: a registered model or a row of it, its ``app_label.Model``, or a node's name.
    :param order: ``pk``, which is the item's id, or the name of a field, after a ``-`` from the
        greatest down; None: as the items were created.
    :param limit: at most so many rows; None: all.
    :raises ValueError: for what would leave the list empty, or shorter than it says.
    """
    node = node_of(source)
    publications = pubsub.publications_by_node.get(node, [])
    attributes: dict[str, Any] = {"collection": node}
    if order is not None:
        _check_order(order, publications)
        attributes["order"] = order
    if limit is not None:
        _check_limit(limit, node, is_known=bool(publications))
        attributes["limit"] = limit
    return attributes


def node_of(source: Any) -> str:
    """The node that a template means; see :func:`list_attributes`.

    :raises ValueError: for what is none, and for a model of which no one node is known.
    """
    if isinstance(source, Model):  # as a template makes of a class, too: it calls it
        return _node_of_model(type(source))
    if isinstance(source, type) and issubclass(source, Model):
        return _node_of_model(source)
    if not isinstance(source, str) or not source:
        raise ValueError(
            f"{source!r} is neither a registered model nor the name of a node; write "
            "'app_label.Model', or '/a/node', or a variable that is in the context"
        )
    try:
        model = apps.get_model(source)
    except (LookupError, ValueError):
        return valid_node(source)
    return _node_of_model(model)


def may_be_created(node: str) -> bool:
    """Whether a page may create a node before somebody publishes to it.

    A node for rows that asks for more than the defaults, to be private for instance, is left to
    the first row: whoever creates it decides.
    """
    if node in pubsub.publications_by_node:
        return True
    by_row = [each for each in pubsub.publications if each.names_nodes_by_row]
    return not any(_may_ask_for_more(publication, node) for publication in by_row)


# Private


def _node_of_model(model: type[Model]) -> str:
    label = model._meta.label
    if not pubsub.is_registered(model):
        raise ValueError(
            f"{label} is not registered, so nothing tells of its rows: call pubsub.register() "
            "with it, or give the name of a node"
        )
    publication = pubsub.publication_for(model)
    says_no_node = publication.names_nodes_by_row and publication.node is None
    if says_no_node or not publication.nodes:
        raise ValueError(
            f"{label} has no node of its own, only those that "
            f"{type(publication).__name__}.get_nodes() names for each row: give the name of one, "
            f"such as '{publication.default_node}'"
        )
    return publication.nodes[0]


def _check_order(order: Any, publications: Iterable[Publication]) -> None:
    name = order.removeprefix("-") if isinstance(order, str) else ""
    if not name or name.startswith("-"):
        raise ValueError(
            f"order={order!r} names no field: write 'pk', or the name of a field that is "
            "published, after a '-' for the greatest first"
        )
    published = [_names_in_page(publication) for publication in publications]
    if name == "pk" or any(names is None or name in names for names in published):
        return
    if published:
        labels = " and ".join(publication.model._meta.label for publication in publications)
        known = sorted(set().union(*filter(None, published)))
        raise ValueError(
            f"order={order!r}: items of {labels} have no field {name!r}; choose among "
            f"{', '.join(['pk', *known])}, or publish it"
        )


def _check_limit(limit: Any, node: str, *, is_known: bool) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ValueError(f"limit={limit!r} is no whole number from 1 on")
    most = nodes.max_items(node)
    if is_known and most != "max" and limit > most:
        raise ValueError(
            f"limit={limit} is more than the {most} items that the node {node} keeps: lower it, or "
            "raise the publication's max_items"
        )


def _names_in_page(publication: Publication) -> set[str] | None:
    """The fields that an item has in the page; None where code of others decides for each row."""
    cls = type(publication)
    decides = (
        cls.get_fields is not Publication.get_fields
        or cls.get_payload is not Publication.get_payload
    )
    if decides or publication.format not in (XML_FORMAT, JSON_FORMAT):
        return None
    meta = publication.model._meta
    fields: list[Any] = [*meta.concrete_fields, *meta.many_to_many]
    chosen = {field.name for field in fields if field.name in publication.field_names}
    # Django's serializers have keys apart from the fields; our JSON has all in one.
    apart = {field.name for field in fields if not field.serialize}
    if publication.format == XML_FORMAT:
        return chosen - apart
    keys = {field.name for field in fields if field.primary_key}
    return (chosen - apart) | keys.difference(publication.exclude)


def _may_ask_for_more(publication: Publication, node: str) -> bool:
    try:
        return bool(configuration_of(publication, node))
    except Exception:  # noqa: BLE001 (a hook may raise anything, of a node that it does not know)
        return True
