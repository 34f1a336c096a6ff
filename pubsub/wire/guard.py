"""The text of what ``deploy/ejabberd/mod_pubsub_guard.erl`` is asked, and its answers, without I/O.

The module is asked at the domain of the site's users, by the publisher only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from xmpp.simplexml import Node

from pubsub.wire.stanzas import Request

NS_GUARD = "urn:django-pubsub:guard:1"


@dataclass(frozen=True)
class GuardStatus:
    """What the guard says of itself and of the server.

    :param version: of the guard; 0 where the answer is not of its kind.
    :param time: the server's clock, in seconds since 1970; NaN where it tells none.
    :param db: where mod_pubsub keeps nodes and subscriptions: ``mnesia`` or ``sql``; ``none``
        without mod_pubsub.
    :param dead: how many subscriptions by full JID are of sessions that are not there; None where
        that cannot be known.
    """

    version: int
    time: float
    db: str
    dead: int | None


def end_sessions(
    domain: str, user: str, before: float, session: str | None = None
) -> Request[None]:
    """End all sessions of a user; resolves when they have ended.

    From then on tokens are refused that were issued to him at ``before`` or earlier; with a session
    it is all tokens, and only those, that bear it as their ``sid``.

    :param domain: of the site's users.
    :param user: the local part of his JID.
    :param before: seconds since 1970.
    """
    sid = "" if session is None else f" session={quoteattr(session)}"
    # A repeat refuses nothing new, and ends nobody's session who has a newer token.
    return Request(
        "set",
        domain,
        f'<end xmlns="{NS_GUARD}" user={quoteattr(user)} before="{before:.6f}"{sid}/>',
        lambda result: None,
        endures=True,
    )


def status(domain: str) -> Request[GuardStatus]:
    """Ask the guard how things are."""
    return Request("get", domain, f'<status xmlns="{NS_GUARD}"/>', parse_status)


def parse_status(result: Node) -> GuardStatus:
    """What the result of :func:`status` says, whatever its shape."""
    tag = result.getTag("status", namespace=NS_GUARD)
    said = {} if tag is None else dict(tag.getAttrs())
    return GuardStatus(
        version=number(said.get("version")) or 0,
        time=_seconds(said.get("time")),
        db=said.get("db") or "",
        dead=number(said.get("dead")),
    )


def number(text: str | None) -> int | None:
    """The count that an attribute holds, if it holds one."""
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) < 20
    return int(text) if is_number and text is not None else None


# Private


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text or "nan")
    except ValueError:
        return math.nan
    return seconds if math.isfinite(seconds) else math.nan
