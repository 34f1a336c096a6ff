"""The pubsub service as the publisher meets it: is it there, and may he do what Django does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from pubsub.conf import conf
from pubsub.doctor.findings import Finding, failure, fine, warning
from pubsub.doctor.site import FOLDER, Site
from pubsub.exceptions import PubSubError, RequestRefused
from pubsub.items import make_item


def examine_service(site: Site) -> Iterator[Finding]:
    """Whether the service answers, and what it holds of ours."""
    try:
        names = site.awaited(site.server.get_nodes())
    except RequestRefused as error:
        yield failure(
            f"XMPP_PUBSUB_HOST = {conf.pubsub_host!r}: {error}",
            "Without the service there are no nodes.",
            "In ejabberd.yml, `modules: mod_pubsub: hosts:` must list that name; or mend "
            "XMPP_PUBSUB_HOST.",
        )
        return
    left = [name for name in names if name.startswith(FOLDER)]
    if left:
        yield warning(
            f"{', '.join(map(repr, left))} were made by the doctor",
            "He removes what he makes; so he was killed, or somebody else is at it right now.",
            f"nodes.delete({left[0]!r})",
        )
    yield fine(f"{conf.pubsub_host!r} answers; nodes of ours: {len(names) - len(left)}")


def examine_publisher(site: Site) -> Iterator[Finding]:
    """Whether the publisher may create, configure, fill and delete a node."""
    server, done = site.server, []
    name = ""
    steps: tuple[tuple[str, Callable[[], Future[Any]]], ...] = (
        ("configure it", lambda: server.configure_node(name, {"max_items": 7})),
        ("publish on it", lambda: server.send(make_item(name, "Hello", id="1"))),
        ("read it", lambda: server.get_items(name)),
        ("delete it", lambda: server.delete_node(name)),
    )
    doing = "create a node"
    try:
        with site.node() as name:
            done.append(doing)
            for doing, step in steps:
                site.awaited(step())
                done.append(doing)
    except PubSubError as error:
        yield failure(
            f"{conf.jid!r} cannot {doing}: {error}",
            "Django makes its nodes as he, when something is published for the first time.",
            f"In ejabberd.yml: `acl: publisher: user: [{conf.jid}]`, `access_rules: publisher: "
            "allow: publisher`, and `access_createnode: publisher` under mod_pubsub.",
        )
        return
    yield fine(f"{conf.jid!r} may {', '.join(done[:-1])} and {done[-1]}")
