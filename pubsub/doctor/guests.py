"""What guests can do: log in, and read what is open.  Each thing beyond that is tried.

They try it under the publisher's name, which is worth nothing at their host, if all is well.
Nothing that a guest makes is left: where he could make a node, he is asked for one that is there.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

from pubsub.conf import conf
from pubsub.doctor import tokens
from pubsub.doctor.findings import Finding, failure, fine
from pubsub.doctor.site import FOLDER, Site
from pubsub.doctor.visitors import WAY_IN, Visitor, is_turned_away
from pubsub.exceptions import StreamError
from pubsub.items import make_item
from pubsub.wire.answers import NS_OWNER, NS_PUBSUB, parse_error

NOT_LOADED = (
    "Load mod_pubsub_guard in ejabberd.yml, for the hosts of guests and users, as "
    "deploy/ejabberd.yml does."
)
CREATING = (
    "In ejabberd.yml, under mod_pubsub: `access_createnode: publisher`, with `access_rules: "
    "publisher: allow: publisher` and the publisher alone, with his host, in `acl: publisher`."
)


def examine_guests(site: Site) -> Iterator[Finding]:
    """Whether a visitor without an account gets in."""
    url = conf.prebind_url
    try:
        with site.guest() as guest:
            yield fine(f"{url} lets {guest.bare_jid!r} in")
    except StreamError as error:
        if is_turned_away(error):
            yield failure(
                f"{url} turns a guest of {conf.guest_domain!r} away: {error.reason}",
                "Visitors who are not logged in hear of nothing.",
                f"In ejabberd.yml, `hosts:` must list {conf.guest_domain!r} (PUBSUB_GUEST_DOMAIN), "
                "and `host_config:` for it say `auth_method: [anonymous]` and "
                "`anonymous_protocol: login_anon`.",
            )
            return
        yield failure(
            f"{url}: {error.reason}",
            "Django logs in there for pages (pubsub.prebind), and the doctor as a guest.",
            WAY_IN,
        )


def examine_creating(site: Site) -> Iterator[Finding]:
    """Whether a guest can make nodes, and so own what Django has not published on yet."""
    with site.node() as ours, site.guest(name=_publisher()) as guest:
        # To make a node that is there already is a conflict for those only who may make one.
        refused = guest.ask(f"<create node={quoteattr(ours)}/>")
        if refused in ("", "conflict"):
            yield failure(
                f"a guest ({guest.bare_jid!r}) may create nodes",
                "Whoever makes a node before Django does owns it: he decides who reads it, and "
                "what stands there.",
                CREATING,
            )
            return
        missing = f"{FOLDER}{secrets.token_hex(8)}"
        if not guest.ask(f"<publish node={quoteattr(missing)}>{_item()}</publish>"):
            kept = guest.ask(f"<delete node={quoteattr(missing)}/>", NS_OWNER)
            left = f"; he could not remove it: {kept}" if kept else ""
            yield failure(
                f"a guest ({guest.bare_jid!r}) has made {missing!r} by publishing to it{left}",
                "Whoever makes a node before Django does owns it.",
                CREATING,
            )
            return
        yield fine(f"a guest creates no node: {refused}")


def examine_rights(site: Site) -> Iterator[Finding]:
    """Whether a guest can do more to our nodes than to read the open ones."""
    with site.guest(name=_publisher()) as guest:
        yield from _trespass(site, guest, "guest")


def examine_users(site: Site) -> Iterator[Finding]:
    """Whether a user whom nobody has let in can do more than that."""
    with tokens.user() as user:
        yield from _trespass(site, user, "user")


def examine_neighbours(site: Site) -> Iterator[Finding]:
    """Whether a guest reaches the page of another."""
    with site.guest() as sender, site.guest() as other:
        to = quoteattr(other.jid)
        ping = '<ping xmlns="urn:xmpp:ping"/>'
        sender.say(
            f'<message xmlns="jabber:client" to={to} id="m"><body>Hello</body></message>',
            f'<presence xmlns="jabber:client" to={to} id="p"/>',
            f'<iq xmlns="jabber:client" to={to} id="i" type="get">{ping}</iq>',
        )
        other.say()
        kinds = sorted(e.getName() for e in other.heard if e.getAttr("from") == sender.jid)
        if kinds:
            yield failure(
                f"what a guest sends to another one arrives: {', '.join(kinds)}",
                "A visitor can disturb the pages of others, and of users whose JID he guesses.",
                NOT_LOADED,
            )
            return
        refused = [parse_error(e).condition for e in sender.heard if e.getAttr("id") == "m"]
        yield fine(f"a guest's message to another one does not arrive: {', '.join(refused)}")


# Private


def _trespass(site: Site, visitor: Visitor, kind: str) -> Iterator[Finding]:
    with site.node(access_model="open") as ours, site.node(access_model="whitelist") as private:
        for node in (ours, private):
            site.awaited(site.server.send(make_item(node, "Hello", id="1")))
        refused = 0
        for doing, namespace, type, child, remedy in _attempts(ours, private, visitor.jid):
            if visitor.ask(child, namespace, type):
                refused += 1
                continue
            yield failure(
                f"a {kind} ({visitor.bare_jid!r}) can {doing}",
                "Nobody but Django, and whom it lets, should.",
                remedy,
            )
        yield fine(f"{refused} things that a {kind} should not do to our nodes are refused")


def _attempts(ours: str, private: str, jid: str) -> Iterator[tuple[str, str, str, str, str]]:
    """What a guest should not be able to do: what, namespace, type, request, and how to mend it."""
    node, closed = quoteattr(ours), quoteattr(private)
    publishing = (
        "See that neither PUBSUB_NODE_DEFAULTS nor ejabberd.yml (`default_node_config:`) says "
        "`publish_model: open`."
    )
    reading = "Update ejabberd: this service does not keep what access_model says."
    owning = "See who is in `acl: publisher` of ejabberd.yml, and update ejabberd."
    somebody = quoteattr(f"somebody-else@{jid.partition('/')[0].partition('@')[2]}")
    yield (
        "publish on our nodes",
        NS_PUBSUB,
        "set",
        f"<publish node={node}>{_item()}</publish>",  # of an id that nobody else has published
        publishing,
    )
    yield (
        "retract what we have published",
        NS_PUBSUB,
        "set",
        f"<retract node={node} notify='true'><item id='1'/></retract>",
        publishing,
    )
    yield "read private nodes", NS_PUBSUB, "get", f"<items node={closed}/>", reading
    subscribing = f"<subscribe node={closed} jid={quoteattr(jid)}/>"
    yield "subscribe to private nodes", NS_PUBSUB, "set", subscribing, reading
    subscribing = f"<subscribe node={node} jid={somebody}/>"
    yield "subscribe somebody else", NS_PUBSUB, "set", subscribing, NOT_LOADED
    for doing, type, child in (
        ("read the configuration of our nodes", "get", f"<configure node={node}/>"),
        ("read who may do what on our nodes", "get", f"<affiliations node={node}/>"),
        ("read who is subscribed to our nodes", "get", f"<subscriptions node={node}/>"),
        ("empty our nodes", "set", f"<purge node={node}/>"),
        ("delete our nodes", "set", f"<delete node={node}/>"),
    ):
        yield doing, NS_OWNER, type, child, owning


def _publisher() -> str:
    """The local part of the publisher's JID."""
    return conf.jid.rpartition("@")[0]


def _item() -> str:
    return f'<item id="{secrets.token_hex(8)}"><entry xmlns="http://www.w3.org/2005/Atom"/></item>'
