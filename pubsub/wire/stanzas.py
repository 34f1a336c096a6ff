"""The text of XEP-0060's requests, without I/O; ``answers`` reads what comes back.

Requests are text because building them as xmpppy nodes costs ten times as much.  Payloads are
well-formed XML already; everything else is escaped here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Generic, TypeVar
from xml.sax.saxutils import escape, quoteattr

from xmpp.simplexml import Node

from pubsub.wire import answers
from pubsub.wire.answers import (
    NS_OWNER,
    NS_PUBSUB,
    NS_RSM,
    NS_STANZAS,
    PublishedItem,
    Subscription,
    child_of,
)

NS_NODE_CONFIG = f"{NS_PUBSUB}#node_config"

T = TypeVar("T")


@dataclass(eq=False, slots=True)  # and not frozen, which would cost each item a microsecond or two
class Request(Generic[T]):
    """An IQ that waits to be sent, and how its result is read (RFC 6120 §8.2.3).

    :param type: ``get`` or ``set``.
    :param to: the JID of the service.
    :param body: the child element, as XML text.
    :param parse: turns the result stanza into the value of the request's Future.
    :param done_when: error conditions that mean that what was asked for is so already.
    :param takes_any_answer: whether an error is as good as a result.
    :param endures: whether it may be sent again when its stream was lost, and so waits for the
        next one: a repeat of it changes nothing.
    :param mark: puts the mark of its sending into the body: called with both.
    :param node: the node that it needs, creates or deletes.
    :param prepare: makes the request that creates the node, to be sent before this one unless
        that was done on this stream.
    :param creates: whether the node is there afterwards.
    :param deletes: whether the node is gone afterwards.
    :param also: sent right behind it, whatever becomes of either.
    """

    type: str
    to: str
    body: str
    parse: Callable[[Node], T]
    done_when: frozenset[str] = frozenset()
    takes_any_answer: bool = False
    endures: bool = False
    mark: Callable[[str, str], str] | None = None
    node: str = ""
    prepare: Callable[[], Request[None]] | None = None
    creates: bool = False
    deletes: bool = False
    also: Request[None] | None = None

    def to_xml(self, id: str, mark: str = "") -> str:
        """The whole stanza, with the id that its answer will bear, and the mark of its sending."""
        body = self.mark(self.body, mark) if mark and self.mark is not None else self.body
        return f'<iq type="{self.type}" to={_quoted(self.to)} id="{id}">{body}</iq>'


# Builders


def publish(
    service: str,
    node: str,
    payload: str,
    item_id: str | None = None,
    *,
    mark: Callable[[str, str], str] | None = None,
    prepare: Callable[[], Request[None]] | None = None,
) -> Request[str]:
    """Publish one item (XEP-0060 §7.1); resolves to the item's id.

    :param payload: one element, as XML text.
    :param item_id: overwrites the item of that id; None lets the server choose a new one, and so
        this cannot be sent again when its stream is lost.
    :param mark, prepare: see :class:`Request`.
    """
    identity = "" if item_id is None else f" id={quoteattr(item_id)}"
    return Request(
        "set",
        service,
        f'<pubsub xmlns="{NS_PUBSUB}"><publish node={_quoted(node)}>'
        f"<item{identity}>{payload}</item></publish></pubsub>",
        lambda result: _item_id(result, item_id),
        endures=item_id is not None,
        mark=mark,
        node=node,
        prepare=prepare,
    )


def retract(service: str, node: str, item_id: str) -> Request[str]:
    """Delete one item and tell the subscribers (XEP-0060 §7.2); resolves to the item's id.

    An item that is not there counts as deleted.
    """
    return Request(
        "set",
        service,
        f'<pubsub xmlns="{NS_PUBSUB}"><retract node={quoteattr(node)} notify="true">'
        f"<item id={quoteattr(item_id)}/></retract></pubsub>",
        lambda result: item_id,
        frozenset({"item-not-found"}),
        endures=True,
    )


def create(service: str, node: str, configuration: Mapping[str, Any]) -> Request[None]:
    """Create a node with its configuration (XEP-0060 §8.1.3).

    A node that exists already stays as it is.

    :param configuration: field names without the ``pubsub#`` prefix; True becomes ``1``.
    """
    form = _form(configuration)
    return Request(
        "set",
        service,
        f'<pubsub xmlns="{NS_PUBSUB}"><create node={quoteattr(node)}/>'
        f"<configure>{form}</configure></pubsub>",
        _nothing,
        frozenset({"conflict"}),
        node=node,
        creates=True,
    )


def configure(service: str, node: str, configuration: Mapping[str, Any]) -> Request[None]:
    """Change the configuration of a node that we own (XEP-0060 §8.2)."""
    form = _form(configuration)
    return _owner("set", service, f"<configure node={quoteattr(node)}>{form}</configure>", _nothing)


def configuration(service: str, node: str) -> Request[dict[str, str]]:
    """Read the configuration of a node that we own (XEP-0060 §8.2)."""
    return _owner(
        "get", service, f"<configure node={quoteattr(node)}/>", answers.parse_configuration
    )


def delete(service: str, node: str) -> Request[None]:
    """Delete a node that we own (XEP-0060 §8.4)."""
    request = _owner("set", service, f"<delete node={quoteattr(node)}/>", _nothing)
    return replace(request, node=node, deletes=True)


def items(
    service: str, node: str, *, max_items: int | None = None, item_ids: Iterable[str] = ()
) -> Request[list[PublishedItem]]:
    """Fetch the items of a node (XEP-0060 §6.5).

    :param max_items: only so many of the newest.
    :param item_ids: only these.
    """
    limit = "" if max_items is None else f' max_items="{max_items:d}"'
    wanted = "".join(f"<item id={quoteattr(item_id)}/>" for item_id in item_ids)
    return Request(
        "get",
        service,
        f'<pubsub xmlns="{NS_PUBSUB}"><items node={quoteattr(node)}{limit}>{wanted}</items>'
        "</pubsub>",
        answers.parse_items,
    )


def subscribe(service: str, node: str, jid: str) -> Request[str]:
    """Subscribe a JID (XEP-0060 §6.1); resolves to the state of the subscription."""
    return _entity(
        "subscribe",
        service,
        node,
        jid,
        lambda result: _attribute(result, NS_PUBSUB, "subscription", "subscription"),
    )


def unsubscribe(service: str, node: str, jid: str) -> Request[None]:
    """End the subscription of a JID (XEP-0060 §6.2)."""
    return _entity("unsubscribe", service, node, jid, _nothing)


def subscriptions(service: str, node: str) -> Request[list[Subscription]]:
    """All subscriptions to a node that we own (XEP-0060 §8.8.1)."""
    return _owner(
        "get", service, f"<subscriptions node={quoteattr(node)}/>", answers.parse_subscriptions
    )


def set_subscriptions(service: str, node: str, states: Mapping[str, str]) -> Request[None]:
    """Set the subscription of each JID as the node's owner (XEP-0060 §8.8.2)."""
    return _set_states("subscription", service, node, states)


def affiliations(service: str, node: str) -> Request[dict[str, str]]:
    """The affiliation of each JID with a node that we own (XEP-0060 §8.9.1)."""
    return _owner(
        "get", service, f"<affiliations node={quoteattr(node)}/>", answers.parse_affiliations
    )


def set_affiliations(service: str, node: str, states: Mapping[str, str]) -> Request[None]:
    """Set the affiliation of each JID as the node's owner (XEP-0060 §8.9.2)."""
    return _set_states("affiliation", service, node, states)


def count(service: str, node: str) -> Request[int]:
    """How many items a node has (XEP-0059 §2.7: a page of none of them)."""
    body = (
        f'<pubsub xmlns="{NS_PUBSUB}"><items node={quoteattr(node)}/>'
        f'<set xmlns="{NS_RSM}"><max>0</max></set></pubsub>'
    )
    return Request("get", service, body, answers.parse_count)


def own_nodes(service: str) -> Request[list[str]]:
    """All nodes that we own, by our affiliations (XEP-0060 §5.7)."""
    body = f'<pubsub xmlns="{NS_PUBSUB}"><affiliations/></pubsub>'
    return Request("get", service, body, answers.parse_own_nodes)


def ping(to: str, parse: Callable[[Node], Any] = lambda result: None) -> Request[Any]:
    """Ask whether somebody is still there (XEP-0199 §4.2); any answer says that he is."""
    return Request("get", to, '<ping xmlns="urn:xmpp:ping"/>', parse, takes_any_answer=True)


def answer(request: Node) -> str:
    """The text of our answer to a request of somebody else's: we serve pings, nothing more."""
    id, sender = (quoteattr(request.getAttr(name) or "") for name in ("id", "from"))
    if request.getTag("ping", namespace="urn:xmpp:ping"):
        return f'<iq type="result" id={id} to={sender}/>'
    return (
        f'<iq type="error" id={id} to={sender}><error type="cancel">'
        f'<service-unavailable xmlns="{NS_STANZAS}"/></error></iq>'
    )


# Private

#: The names of nodes and services as attributes; they are few, and come again and again.
_quoted = lru_cache(1024)(quoteattr)


def _entity(what: str, service: str, node: str, jid: str, parse: Callable[[Node], T]) -> Request[T]:
    """What an entity asks for its own sake: to subscribe, and to end it."""
    child = f"<{what} node={quoteattr(node)} jid={quoteattr(jid)}/>"
    return Request("set", service, f'<pubsub xmlns="{NS_PUBSUB}">{child}</pubsub>', parse)


def _owner(type: str, to: str, child: str, parse: Callable[[Node], T]) -> Request[T]:
    return Request(type, to, f'<pubsub xmlns="{NS_OWNER}">{child}</pubsub>', parse)


def _set_states(what: str, service: str, node: str, states: Mapping[str, str]) -> Request[None]:
    """An element for each JID; XEP-0060 writes subscriptions and affiliations alike."""
    children = "".join(
        f"<{what} jid={quoteattr(jid)} {what}={quoteattr(state)}/>" for jid, state in states.items()
    )
    body = f"<{what}s node={quoteattr(node)}>{children}</{what}s>"
    return _owner("set", service, body, _nothing)


def _form(configuration: Mapping[str, Any]) -> str:
    """A data form of type submit (XEP-0004, XEP-0060 §16.4.4)."""
    fields = "".join(
        f"<field var={quoteattr('pubsub#' + name)}><value>{_value(value)}</value></field>"
        for name, value in configuration.items()
    )
    return (
        '<x xmlns="jabber:x:data" type="submit"><field var="FORM_TYPE" type="hidden">'
        f"<value>{NS_NODE_CONFIG}</value></field>{fields}</x>"
    )


def _value(value: Any) -> str:
    text = str(int(value)) if isinstance(value, bool) else str(value)
    return escape(text, {"\r": "&#13;"})  # a parser reads a bare one as a newline


def _attribute(stanza: Node, namespace: str, name: str, attribute: str) -> str:
    child = child_of(stanza, namespace, name)
    return (child.getAttr(attribute) if child is not None else None) or ""


def _item_id(result: Node, sent: str | None) -> str:
    """The id that the server gave, or ours where it repeats none (XEP-0060 §7.1.2)."""
    publish = child_of(result, NS_PUBSUB, "publish")
    item = publish.getTag("item") if publish is not None else None
    return str((item.getAttr("id") if item is not None else None) or sent or "")


def _nothing(result: Node) -> None:
    return None
