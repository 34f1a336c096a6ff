"""Checks of nodes: what publications ask of them, alone and together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error
from django.db import DatabaseError

from pubsub.asking import configuration_of
from pubsub.publications import Publication
from pubsub.rules import rule_of


def check_configuration(publication: Publication) -> Iterator[Error]:
    for node in publication.nodes:
        try:
            configuration_of(publication, node)
        except DatabaseError:
            continue  # its tables may not be there yet: whoever migrates is checked, too
        except Exception as error:  # noqa: BLE001 (a hook may raise anything)
            yield Error(
                f"{type(publication).__name__} for {publication.model._meta.label}: "
                f"get_configuration({node!r}) fails: {type(error).__name__}: {error}",
                hint="Return a dict for each node: fields of XEP-0060 §16.4.4 without their "
                "prefix, such as {'max_items': 10}.",
                obj=publication.model,
                id="pubsub.E026",
            )


def check_rules(publication: Publication) -> Iterator[CheckMessage]:
    """What a publication says of who may read, and what rules say.

    Which nodes a hook names for each row nobody knows before.
    """
    for node in publication.nodes:
        rule = rule_of(node)
        about = f"{type(publication).__name__} for {publication.model._meta.label}"
        if rule is not None and publication.access == "open":
            yield checks.Warning(
                f"{about}: access = 'open', but {rule.name} decides who may read {node}, so it is "
                "private.",
                hint="Remove access = 'open', or take the node out of @pubsub.authorize(...).",
                obj=publication.model,
                id="pubsub.W008",
            )
        elif (
            rule is None and publication.access == "private" and not publication.names_nodes_by_row
        ):
            yield checks.Warning(
                f"{about}: access = 'private', and no rule lets anybody in to {node}.",
                hint="Write a function decorated by @pubsub.authorize(...) for it; or let members "
                "in by nodes.set_affiliations(), and silence this warning.",
                obj=publication.model,
                id="pubsub.W009",
            )


def check_shared_nodes(publications: Iterable[Publication]) -> Iterator[CheckMessage]:
    """Two publications may share a node, but neither its configuration nor the ids of its items."""
    first: dict[str, Publication] = {}
    for publication in publications:
        for node in publication.nodes:
            other = first.setdefault(node, publication)
            if other is publication:
                continue
            labels = f"{publication.model._meta.label} and {other.model._meta.label}"
            mine, theirs = _configuration(publication, node), _configuration(other, node)
            if None not in (mine, theirs) and mine != theirs:
                yield Error(
                    f"{labels} are published on one node, {node}, and want it to be {mine} "
                    f"and {theirs}.",
                    hint="Give both the same max_items, expire and access, or nodes of their own.",
                    obj=publication.model,
                    id="pubsub.E025",
                )
            if _overwrite(publication, other):
                yield checks.Warning(
                    f"{labels} are published on one node, {node}, where rows with the same key "
                    "overwrite each other's items.",
                    hint="Tell them apart by get_item_id(), make a log with item_id = None, or "
                    "give each a node of its own.",
                    obj=publication.model,
                    id="pubsub.W004",
                )


# Private


def _configuration(publication: Publication, node: str) -> dict[str, Any] | None:
    """What a node is to be like; None where only the database could tell."""
    try:
        return dict(configuration_of(publication, node))
    except DatabaseError:
        return None


def _overwrite(one: Publication, other: Publication) -> bool:
    """Whether two models, neither of which is the other's, know their items by the same ids."""
    related = issubclass(one.model, other.model) or issubclass(other.model, one.model)
    by_key = [
        publication.item_id == "pk" and type(publication).get_item_id is Publication.get_item_id
        for publication in (one, other)
    ]
    return all(by_key) and not related
