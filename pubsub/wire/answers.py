"""What an XMPP server answers, read from xmpppy's nodes: results and errors, pure, no I/O.

A server may send anything, so nothing here raises, whatever the shape of an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import xmpp
from xmpp.simplexml import Node

from pubsub.exceptions import RequestRefused

NS_PUBSUB = "http://jabber.org/protocol/pubsub"
NS_OWNER = f"{NS_PUBSUB}#owner"
NS_ERRORS = f"{NS_PUBSUB}#errors"
NS_RSM = "http://jabber.org/protocol/rsm"
NS_STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"


@dataclass(frozen=True)
class PublishedItem:
    """An item as a node holds it: its id, its publisher's JID and its payload."""

    id: str
    payload: Node | None
    publisher: str = ""


@dataclass(frozen=True)
class Subscription:
    """A subscription as the owner of a node sees it (XEP-0060 §8.8)."""

    jid: str
    state: str
    subid: str = ""


def parse_error(stanza: Node) -> RequestRefused:
    """The error of an IQ of type ``error`` (RFC 6120 §8.3, XEP-0060 for its refinement)."""
    error = stanza.getTag("error")
    if error is None:
        return RequestRefused("undefined-condition", "", "the server gave no reason")
    condition = pubsub_condition = ""
    for child in filter(None, error.getChildren()):
        if child.getNamespace() == NS_ERRORS:
            pubsub_condition = child.getName()
        elif child.getNamespace() == NS_STANZAS and child.getName() != "text":
            condition = child.getName()
    return RequestRefused(
        condition or "undefined-condition",
        error.getAttr("type") or "",
        error.getTagData("text") or "",
        pubsub_condition,
    )


def parse_items(result: Node) -> list[PublishedItem]:
    """The items in the result of :func:`items`, in the server's order."""
    tag = child_of(result, NS_PUBSUB, "items")
    if tag is None:
        return []
    found = []
    for item in tag.getTags("item"):
        payload = next(filter(None, item.getChildren()), None)
        publisher = item.getAttr("publisher") or ""
        found.append(PublishedItem(item.getAttr("id") or "", payload, publisher))
    return found


def parse_subscriptions(result: Node) -> list[Subscription]:
    """The subscriptions in the result of :func:`subscriptions`; those that ended are left out."""
    tag = child_of(result, NS_OWNER, "subscriptions")
    if tag is None:
        return []
    return [
        Subscription(child.getAttr("jid"), state, child.getAttr("subid") or "")
        for child in tag.getTags("subscription")
        if (state := child.getAttr("subscription") or "none") != "none" and child.getAttr("jid")
    ]


def parse_affiliations(result: Node) -> dict[str, str]:
    """JID → affiliation, from the result of :func:`affiliations`."""
    tag = child_of(result, NS_OWNER, "affiliations")
    children = tag.getTags("affiliation") if tag is not None else []
    return {
        child.getAttr("jid"): child.getAttr("affiliation") or "none"
        for child in children
        if child.getAttr("jid")
    }


def parse_configuration(result: Node) -> dict[str, str]:
    """Field → value, without the ``pubsub#`` prefix; several values are joined by a newline."""
    tag = child_of(result, NS_OWNER, "configure")
    form = tag.getTag("x", namespace=xmpp.NS_DATA) if tag is not None else None
    found = {}
    for field in form.getTags("field") if form is not None else []:
        name = (field.getAttr("var") or "").removeprefix("pubsub#")
        found[name] = "\n".join(value.getData() for value in field.getTags("value"))
    found.pop("FORM_TYPE", None)
    return found


def parse_count(result: Node) -> int:
    """The number in the result of :func:`count`; 0 where the server counts nothing."""
    tag = child_of(result, NS_PUBSUB, "set")
    text = (tag.getTagData("count") if tag is not None else None) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def parse_own_nodes(result: Node) -> list[str]:
    """The names of the nodes that we own, sorted, from the result of :func:`own_nodes`."""
    tag = child_of(result, NS_PUBSUB, "affiliations")
    children = tag.getTags("affiliation") if tag is not None else []
    return sorted(
        name
        for child in children
        if child.getAttr("affiliation") == "owner" and (name := child.getAttr("node"))
    )


def child_of(stanza: Node, namespace: str, name: str) -> Node | None:
    """A child of the stanza's <pubsub/> element of that namespace, if there is one."""
    pubsub = stanza.getTag("pubsub", namespace=namespace)
    return pubsub.getTag(name) if pubsub is not None else None
