"""A stanza built as xmpppy's nodes, to compare the text that django-pubsub writes with."""

from __future__ import annotations

from xmpp.protocol import Iq
from xmpp.simplexml import Node, XML2Node


def payload(text: str) -> Node:
    """One element of XML text as a node."""
    return XML2Node(text)


def publish(service: str, node: str, payload: Node, item_id: str, id: str) -> str:
    """The text of a stanza that publishes one item (XEP-0060 §7.1)."""
    iq = Iq(typ="set", to=service, attrs={"id": id})
    pubsub = iq.addChild("pubsub", namespace="http://jabber.org/protocol/pubsub")
    item = pubsub.addChild("publish", {"node": node}).addChild("item", {"id": item_id})
    item.addChild(node=payload)
    return str(iq)
