"""Subscriptions of sessions that have ended: each makes every publish a little slower.

The guard counts them.  Without it each session is asked for a sign of life, and ejabberd answers
for those that are not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

from pubsub.conf import conf
from pubsub.doctor.findings import Finding, Skipped, failure, fine, warning
from pubsub.doctor.site import Site
from pubsub.doctor.visitors import Visitor
from pubsub.exceptions import RequestRefused, StreamError
from pubsub.wire.answers import parse_error

#: So many cost little.
FEW = 1000

#: What one costs every publish, in milliseconds.
COST = 0.008

#: So many sessions are asked at once.
STEP = 100

#: What ejabberd says for a session that is not there; who is there says other things, or nothing.
NOBODY = "User session not found"


def examine_subscriptions(site: Site) -> Iterator[Finding]:
    """Whether there are subscriptions of sessions that have ended."""
    try:
        counted = site.awaited(site.server.guard_status()).dead
    except RequestRefused:
        counted = None
    dead = _probed(site) if counted is None else counted
    if not dead:
        yield fine("all subscriptions belong to sessions that are there")
        return
    tell = failure if dead >= FEW else warning
    yield tell(
        f"{dead} subscriptions belong to sessions that have ended",
        f"They cost every publish to their nodes about {COST * 1000:.0f} µs each.",
        "Restart ejabberd with mod_pubsub_guard, which removes them when it starts.  If they come "
        "again: guests must log in at a host with `anonymous_protocol: login_anon` that serves "
        "mod_pubsub itself, as in deploy/ejabberd.yml.",
    )


# Private


def _probed(site: Site) -> int:
    """How many subscriptions belong to full JIDs for which the server answers itself."""
    held = [jid for jid in _subscribers(site) if "/" in jid]
    if not held:
        return 0
    sessions = sorted(set(held))
    user = conf.jid.rpartition("@")[0]
    try:
        with Visitor(
            conf.prebind_url, conf.domain, user, conf.password, ca_file=conf.ca_file
        ) as publisher:
            lots = [sessions[at : at + STEP] for at in range(0, len(sessions), STEP)]
            gone = {jid for lot in lots for jid in _gone(publisher, lot)}
    except StreamError as error:
        raise Skipped(f"no guard counts them, and there is no way to ask: {error}") from error
    return sum(jid in gone for jid in held)


def _subscribers(site: Site) -> Iterator[str]:
    for node in site.awaited(site.server.get_nodes()):
        try:
            found = site.awaited(site.server.get_subscriptions(node))
        except RequestRefused as error:
            if error.condition != "item-not-found":  # it has gone meanwhile
                raise
        else:
            yield from (each.jid for each in found)


def _gone(publisher: Visitor, sessions: list[str]) -> Iterator[str]:
    publisher.say(
        *(
            f'<iq xmlns="jabber:client" type="get" id="{number}" to={quoteattr(jid)} '
            'xml:lang="en"><ping xmlns="urn:xmpp:ping"/></iq>'
            for number, jid in enumerate(sessions)
        )
    )
    publisher.say()  # by now the server has said what it has to say itself
    for answer in publisher.heard:
        if answer.getAttr("type") == "error" and parse_error(answer).text == NOBODY:
            yield sessions[int(answer.getAttr("id"))]
    publisher.heard.clear()
