"""The guard, an ejabberd module of django-pubsub's: is it loaded, and what does it tell."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import datetime

from pubsub.conf import conf
from pubsub.doctor.findings import Finding, Skipped, failure, fine, warning
from pubsub.doctor.site import Site
from pubsub.exceptions import RequestRefused, StreamError
from pubsub.items import make_item
from pubsub.wire.events import NS_DELAY

#: Seconds by which clocks may differ without harm, and with little.
CLOSE, FAR = 2.0, 30.0


def examine_guard(site: Site) -> Iterator[Finding]:
    """Whether the guard answers the publisher."""
    try:
        status = site.awaited(site.server.guard_status())
    except RequestRefused as error:
        if error.condition == "forbidden":
            yield failure(
                f"the guard at {conf.user_domain!r} answers {conf.jid!r} with {error}",
                "Django cannot end the sessions of users who log out, or are locked out.",
                "In ejabberd.yml, under mod_pubsub_guard, `access: publisher`, which must allow "
                f"{conf.jid!r}.",
            )
            return
        yield failure(
            f"no guard answers at {conf.user_domain!r}: {error}",
            "Sessions of users who log out go on, visitors can write to each other's pages and "
            "subscribe without bounds, and subscriptions stay that a crash has left behind.",
            "Compile deploy/ejabberd/mod_pubsub_guard.erl and pubsub_*.erl beside it, and load the "
            f"former in ejabberd.yml for the hosts {conf.guest_domain!r} and {conf.user_domain!r}, "
            "as deploy/ejabberd.yml does.",
        )
        return
    yield fine(f"version {status.version} answers at {conf.user_domain!r}")


def examine_database(site: Site) -> Iterator[Finding]:
    """Where ejabberd keeps nodes and items."""
    kept = site.awaited(site.server.guard_status()).db
    if kept == "sql":
        yield failure(
            "mod_pubsub keeps its nodes in SQL (db_type: sql)",
            "ejabberd before 26.07 puts text of visitors' requests into its SQL, unescaped.",
            "In ejabberd.yml, under mod_pubsub, `db_type: mnesia`; then `manage.py pubsub_sync "
            "--fill`.",
        )
        return
    yield fine(f"mod_pubsub keeps its nodes in {kept!r}")


def examine_clock(site: Site) -> Iterator[Finding]:
    """Whether Django and ejabberd agree on what time it is."""
    before = now()
    try:
        theirs = site.awaited(site.server.guard_status()).time
    except RequestRefused:
        theirs = math.nan
    after = now()
    if math.isnan(theirs):
        before, theirs, after = _stamped(site)
    # Whenever it was looked at in between, they differ by so much at least.
    ahead = theirs - before if theirs < before else max(0.0, theirs - after)
    word = "ahead of" if ahead > 0 else "behind"
    seen = f"ejabberd's clock is {abs(ahead):.1f} s {word} Django's"
    remedy = "Let both machines keep time (systemd-timesyncd, chrony)."
    if abs(ahead) > FAR:
        yield failure(
            seen,
            "Tokens of users seem to have ended, or not to have begun, and pages that come back "
            "ask for what has happened since a moment that is not the server's.",
            remedy,
        )
    elif abs(ahead) > CLOSE:
        yield warning(seen, "Tokens, which are good for a minute, rest on it.", remedy)
    else:
        yield fine("ejabberd's clock and Django's agree")


def now() -> float:
    """Django's clock, in seconds since 1970."""
    return time.time()


# Private


def _stamped(site: Site) -> tuple[float, float, float]:
    """When an item was published: before, by the server's stamp (XEP-0203), and after."""
    try:
        with site.node(access_model="open") as node, site.guest() as guest:
            before = now()
            site.awaited(site.server.send(make_item(node, "Hello", id="1")))
            after = now()
            guest.subscribe(node)
            guest.say()
            found = [each.getTag("delay", namespace=NS_DELAY) for each in guest.heard]
            delays = [delay for delay in found if delay is not None]
    except StreamError as error:
        raise Skipped(f"neither the guard nor a guest can tell the time: {error}") from error
    if not delays:
        raise Skipped("the server puts no time on what it brings")
    stamp = str(delays[0].getAttr("stamp")).replace("Z", "+00:00")
    return before, datetime.fromisoformat(stamp).timestamp(), after
