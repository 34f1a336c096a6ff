"""Nodes on the server: their configuration, their items, and who is on them (XEP-0060 §8).

All but ensure() and listen() return a Future that fails with RequestRefused when the server says
no, and raise BackendError at once when the configured backend has no server to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Literal

from pubsub.backends import get_backend
from pubsub.conf import conf
from pubsub.rules import PRIVATE, rule_of
from pubsub.wire.answers import PublishedItem, Subscription
from pubsub.wire.events import EventStream


def create(node: str, **configuration: Any) -> Future[None]:
    """Create a node (XEP-0060 §8.1); one that exists stays as it is.

    :param configuration: fields of XEP-0060 §16.4.4 without their prefix, such as
        ``max_items=10``; they are laid over what the registered models say of their nodes, and
        over PUBSUB_NODE_DEFAULTS.  A node that a rule decides about is private all the same.
    """
    fields = {**declared(node), **configuration}
    return get_backend().create_node(node, _private_under_rule(node, fields))


def ensure(node: str) -> None:
    """Queue the creation of a node, unless this process knows that it exists.

    Nothing is returned, and a refusal of the server is logged: whoever needs the node will hear
    of it.

    :raises ImproperlyConfigured: when PUBSUB_BACKEND names no backend.
    """
    get_backend().ensure_node(node, declared(node))


def declare(node: str, configuration: Callable[[str], Mapping[str, Any]]) -> None:
    """Say what a node is to be like when it is created, whoever is the first to publish on it.

    :param configuration: called with the node; returns fields as :func:`create` takes them.
    """
    _declared.setdefault(node, []).append(configuration)


def withdraw(node: str, configuration: Callable[[str], Mapping[str, Any]]) -> None:
    """Take back what was declared."""
    _declared[node].remove(configuration)
    if not _declared[node]:
        del _declared[node]


def declared(node: str) -> Mapping[str, Any]:
    """What was declared about a node; empty where nothing was.

    A node that a rule decides about (:func:`pubsub.authorize`) is private, whoever says what.
    """
    fields: dict[str, Any] = {}
    for configuration in _declared.get(node, ()):
        fields |= configuration(node)
    return _private_under_rule(node, fields)


def wanted(node: str) -> dict[str, Any]:
    """The whole configuration that a node should have, as far as the site says anything of it."""
    return {**conf.node_defaults, **declared(node)}


def is_private(node: str) -> bool:
    """Whether only members should be able to read a node (XEP-0060 §4.5: whitelist)."""
    return bool(wanted(node)["access_model"] == PRIVATE)


def max_items(node: str) -> int | Literal["max"]:
    """How many items a node should keep; ``max``: as many as the server allows."""
    most = wanted(node)["max_items"]
    return "max" if most == "max" else int(most)


def configure(node: str, **configuration: Any) -> Future[None]:
    """Change some fields of a node's configuration (XEP-0060 §8.2).

    A node that a rule decides about cannot be made open.
    """
    if "access_model" in configuration:
        configuration = _private_under_rule(node, configuration)
    return get_backend().configure_node(node, configuration)


def delete(node: str) -> Future[None]:
    """Delete a node with its items and subscriptions (XEP-0060 §8.4)."""
    return get_backend().delete_node(node)


def configuration(node: str) -> Future[dict[str, str]]:
    """The configuration of a node (XEP-0060 §8.2): field → value, as the server writes it."""
    return get_backend().get_configuration(node)


def items(node: str, max_items: int | None = None) -> Future[list[PublishedItem]]:
    """The items of a node (XEP-0060 §6.5).

    :param max_items: only so many of the newest.
    """
    return get_backend().get_items(node, max_items)


def count(node: str) -> Future[int]:
    """How many items a node has, without fetching them (XEP-0059 §2.7)."""
    return get_backend().count_items(node)


def subscriptions(node: str) -> Future[list[Subscription]]:
    """Who is subscribed to a node (XEP-0060 §8.8)."""
    return get_backend().get_subscriptions(node)


def set_subscriptions(node: str, states: Mapping[str, str]) -> Future[None]:
    """Set the subscriptions of some JIDs to a node (XEP-0060 §8.8.2); all others stay.

    ::

        nodes.set_subscriptions("/team", {"ada@example.org/page-1": "none"})

    :param states: JID → ``subscribed`` or ``none``.  Whoever subscribed by his full JID is to be
        named by that: :func:`subscriptions` tells.
    """
    return get_backend().set_subscriptions(node, states)


def affiliations(node: str) -> Future[dict[str, str]]:
    """JID → affiliation (XEP-0060 §8.9): owner, publisher, member, outcast …"""
    return get_backend().get_affiliations(node)


def set_affiliations(node: str, affiliations: Mapping[str, str]) -> Future[None]:
    """Set what some JIDs are to a node (XEP-0060 §8.9.2); all others stay what they are.

    ::

        nodes.set_affiliations("/team", {"ada@example.org": "member"})

    :param affiliations: bare JID → ``owner``, ``publisher``, ``publish-only``, ``member``,
        ``outcast``, or ``none``.  On a private node it is the members who may read.
    """
    return get_backend().set_affiliations(node, affiliations)


def names() -> Future[list[str]]:
    """The names of all nodes that we own, private ones included, sorted (XEP-0060 §5.7)."""
    return get_backend().get_nodes()


def listen(*nodes: str, report: Callable[[str], None] | None = None) -> EventStream:
    """Subscribe to nodes as the publisher (XEP-0060 §6.1), on a stream of its own.

    ::

        with nodes.listen("/blog/Post") as events:
            for event in events:
                print(event.node, event.id, event.kind)

    Iterating waits for the next :class:`~pubsub.wire.events.Event`.  A stream that is lost is
    opened again, and what is published in between is not brought later.  Close it, as ``with``
    does: the server does not end subscriptions by itself.

    :param nodes: names of nodes that exist.
    :param report: is told, in a sentence, of streams lost and found again, and of nodes that were
        deleted; by default these are warnings of the logger ``pubsub``.
    :raises BackendError: when the configured backend has no server to listen to.
    :raises StreamError: when no stream can be opened.
    :raises SubscriptionRefused: when the server refuses one of the nodes; none stays subscribed.
    :raises InvalidNode: for a name that no node can have.
    """
    return get_backend().listen(nodes, report)


# Private


def _private_under_rule(node: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "access_model": PRIVATE} if rule_of(node) is not None else fields


_declared: dict[str, list[Callable[[str], Mapping[str, Any]]]] = {}
