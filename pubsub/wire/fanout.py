"""The text of what ``deploy/ejabberd/mod_pubsub_sessions.erl`` is asked, and its answer; no I/O.

The module has an address of its own below the pubsub service's, and answers the publisher only.
"""

from __future__ import annotations

from dataclasses import dataclass

from xmpp.simplexml import Node

from pubsub.wire.guard import number
from pubsub.wire.stanzas import Request

NS_SESSIONS = "urn:django-pubsub:sessions:1"


@dataclass(frozen=True)
class FanoutStatus:
    """What the module says of itself.

    :param version: of the module; 0 where the answer is not of its kind.
    :param nodes: how many nodes it delivers for.
    :param subscriptions: how many subscriptions of sessions it serves.
    """

    version: int
    nodes: int
    subscriptions: int


def address(service: str) -> str:
    """The module's address.

    :param service: of the pubsub service.
    """
    return f"sessions.{service}"


def status(service: str) -> Request[FanoutStatus]:
    """Ask the module what it serves.

    Where it is not loaded nobody has its address, and ejabberd says what it says of other servers.
    """
    return Request("get", address(service), f'<status xmlns="{NS_SESSIONS}"/>', parse_status)


def parse_status(result: Node) -> FanoutStatus:
    """What the result of :func:`status` says, whatever its shape."""
    tag = result.getTag("status", namespace=NS_SESSIONS)
    said = {} if tag is None else dict(tag.getAttrs())
    names = ("version", "nodes", "subscriptions")
    return FanoutStatus(*(number(said.get(name)) or 0 for name in names))
