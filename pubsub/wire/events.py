"""What a pubsub service tells its subscribers, read from xmpppy's nodes, pure, no I/O.

A server may send anything, so nothing here raises, whatever the shape of a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from xmpp.simplexml import Node

from pubsub.wire.answers import NS_PUBSUB

NS_EVENT = f"{NS_PUBSUB}#event"
NS_DELAY = "urn:xmpp:delay"


@dataclass(frozen=True)
class Event:
    """One thing that happened to a node (XEP-0060 §7.1.2, §7.2.2, §8.4.2, §8.5.3, §8.8.4).

    :param node: the node's name.
    :param kind: ``item``: one was published; ``retract``: one was taken away; ``purge``: all
        were; ``delete``: the node itself was; ``unsubscribed``: its owner ended the subscription.
    :param id: of the item; empty where no single one is meant, or the server did not tell.
    :param payload: of the item; None where the server sent none.
    """

    node: str
    kind: Literal["item", "retract", "purge", "delete", "unsubscribed"]
    id: str = ""
    payload: Node | None = None


class EventStream(Protocol):
    """Events as they come: iterate over it, and close it.

    Iterating waits for the next event, and raises a PubSubError when no more can come.
    """

    @property
    def nodes(self) -> list[str]:
        """The nodes that are listened to."""

    def __iter__(self) -> Iterator[Event]: ...

    def __next__(self) -> Event: ...

    def __enter__(self) -> EventStream: ...

    def __exit__(self, *error: object) -> None: ...

    def close(self) -> None:
        """Leave nothing behind on the server; the iteration ends."""


def parse_events(message: Node, service: str) -> list[Event]:
    """What a stanza from the service tells of nodes, in its order.

    What is delayed (XEP-0203) tells nothing: it is a node's last item, sent to who has subscribed
    (XEP-0060 §6.1.7), and has happened before.

    :param service: the JID of the pubsub service; what comes from others tells nothing, and so
        does what is no event.
    """
    sender = message.getAttr("from") or ""
    if (
        message.getName() != "message"
        or message.getAttr("type") == "error"
        or sender.lower() != service.lower()
    ):
        return []
    event = message.getTag("event", namespace=NS_EVENT)
    is_late = message.getTag("delay", namespace=NS_DELAY) is not None
    return [] if event is None or is_late else list(_events(event))


# Private


def _events(event: Node) -> Iterator[Event]:
    for part in filter(None, event.getChildren()):
        node = part.getAttr("node") or ""
        match part.getName() if node else "":
            case "items":
                yield from _items(part, node)
            case "purge":
                yield Event(node, "purge")
            case "delete":
                yield Event(node, "delete")
            case "subscription" if part.getAttr("subscription") == "none":
                yield Event(node, "unsubscribed")


def _items(items: Node, node: str) -> Iterator[Event]:
    for child in filter(None, items.getChildren()):
        id = child.getAttr("id") or ""
        if child.getName() == "item":
            yield Event(node, "item", id, next(filter(None, child.getChildren()), None))
        elif child.getName() == "retract":
            yield Event(node, "retract", id)
