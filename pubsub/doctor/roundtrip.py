"""A canary: items that are published, and heard by a guest, as a page hears them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from xml.sax.saxutils import quoteattr

from pubsub.conf import conf
from pubsub.doctor.findings import Finding, failure, fine, warning
from pubsub.doctor.site import Site
from pubsub.doctor.visitors import Visitor, condition_of
from pubsub.items import make_item
from pubsub.wire.answers import NS_PUBSUB
from pubsub.wire.events import NS_EVENT

#: So often, of which the median is told.
TIMES = 5

#: Seconds from which on a round trip is slow.
SLOW = 1.0


def examine_canary(site: Site) -> Iterator[Finding]:
    """How long it takes from publishing an item until a guest's browser has it."""
    with site.node(access_model="open") as node, site.guest() as guest:
        subscribe = f"<subscribe node={quoteattr(node)} jid={quoteattr(guest.jid)}/>"
        body = f'<pubsub xmlns="{NS_PUBSUB}">{subscribe}</pubsub>'
        if condition := condition_of(guest.request("set", conf.pubsub_host, body)):
            yield failure(
                f"a guest ({guest.jid!r}) may not subscribe to an open node: {condition}",
                "No page hears of anything.",
                "See what mod_pubsub and mod_pubsub_guard in ejabberd.yml allow, and their lines "
                "in ejabberd's log.",
            )
            return
        taken = []
        for number in range(TIMES):
            start = time.monotonic()
            sent = site.server.send(make_item(node, "Hello", id=str(number)))
            if not _hears(guest, str(number)):
                site.awaited(sent)  # which may say why
                yield failure(
                    f"an item was published, and a guest who had subscribed did not hear of it "
                    f"within {conf.timeout:g} s",
                    "Pages show what was true when they were loaded.",
                    "See the log of ejabberd, and whether mod_pubsub's `hosts:` stands under the "
                    f"host of guests, {conf.guest_domain!r}, as in deploy/ejabberd.yml.",
                )
                return
            taken.append(time.monotonic() - start)
        middle = median(taken)
        seen = f"{middle * 1000:.1f} ms from publishing to a guest over BOSH (median of {TIMES})"
        if middle < SLOW:
            yield fine(seen)
        else:
            yield warning(
                seen,
                "Pages are behind by that much.",
                "Look for dead subscriptions (`--only subscriptions`), and for what keeps the "
                "server's processors busy.",
            )


# Private


def _hears(guest: Visitor, id: str) -> bool:
    """Whether a guest hears of an item in time."""
    end = time.monotonic() + conf.timeout
    while True:
        for item in (e for heard in guest.heard for e in heard.iter(f"{{{NS_EVENT}}}item")):
            if item.get("id") == id:
                return True
        guest.heard.clear()
        if time.monotonic() > end:
            return False
        guest.hear()
