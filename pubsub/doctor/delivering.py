"""Who delivers to sessions of pages: mod_pubsub, or a module of django-pubsub's that is cheaper."""

from __future__ import annotations

from collections.abc import Iterator

from pubsub.conf import conf
from pubsub.doctor.findings import Finding, fine, warning
from pubsub.doctor.site import Site
from pubsub.exceptions import RequestRefused
from pubsub.wire.fanout import address


def examine_fanout(site: Site) -> Iterator[Finding]:
    """Whether mod_pubsub_sessions is loaded, and what it serves."""
    where = address(conf.pubsub_host)
    try:
        status = site.awaited(site.server.fanout_status())
    except RequestRefused as error:
        # Of an address that nobody has ejabberd says the same, with words: s2s is closed.
        if error.condition == "forbidden" and not error.text:
            yield warning(
                f"mod_pubsub_sessions at {where!r} answers {conf.jid!r} with {error}",
                "It is loaded, and what it serves cannot be known.",
                "In ejabberd.yml, under mod_pubsub_sessions, `access: publisher`, which must allow "
                f"{conf.jid!r}.",
            )
            return
        yield warning(
            f"mod_pubsub_sessions is off: at {where!r} nobody answers: {error}",
            "Everything works without it, but ejabberd makes a copy of each event for each page: "
            "each delivery costs it several times as much (docs/performance.rst has the figures).",
            "Compile deploy/ejabberd/mod_pubsub_sessions.erl and pubsub_*.erl beside it, and load "
            "the former in ejabberd.yml for the host of mod_pubsub, as deploy/ejabberd.yml does.",
        )
        return
    yield fine(
        f"mod_pubsub_sessions, version {status.version}, answers at {where!r}; "
        f"subscriptions that it serves: {status.subscriptions}, of nodes: {status.nodes}"
    )
