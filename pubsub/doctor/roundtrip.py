"""A canary: items that are published, and heard by a guest, as a page hears them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from statistics import median

from pubsub.conf import conf
from pubsub.doctor.findings import Finding, failure, fine, warning
from pubsub.doctor.site import Site
from pubsub.doctor.visitors import Visitor
from pubsub.exceptions import ConnectError
from pubsub.items import make_item
from pubsub.wire.events import parse_events

#: So often, of which the median is told.
TIMES = 5

#: Seconds from which on a round trip is slow.
SLOW = 1.0

#: Seconds after which a request is on its way, and held back.
BEGUN = 0.1


def examine_canary(site: Site) -> Iterator[Finding]:
    """How long it takes from publishing an item until a guest's browser has it."""
    with site.node(access_model="open") as node, site.guest() as guest:
        if condition := guest.subscribe(node):
            yield _refused(guest, condition)
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


def examine_holding(site: Site) -> Iterator[Finding]:
    """Whether an item gets through the site's front while a request is held back for it."""
    url = site.front(conf.bosh_url, "PUBSUB_BOSH_URL")
    with site.node(access_model="open") as node, site.guest(url=url) as guest:
        if condition := guest.subscribe(node):
            yield _refused(guest, condition)
            return
        item = make_item(node, "Hello", id="1")
        later = threading.Timer(BEGUN, lambda: site.server.send(item))
        start = time.monotonic()
        later.start()
        try:
            is_heard = _hears(guest, "1")
        finally:
            later.cancel()
            later.join()  # or it could make the node anew, after this has removed it
        taken = time.monotonic() - start - BEGUN
        if not is_heard:
            yield _not_held(url, f"no item comes through within {conf.timeout:g} s")
        elif taken > SLOW:
            yield _not_held(url, f"an item takes {taken:.1f} s to come through")
        else:
            yield fine(f"an item comes through at once, {taken * 1000:.1f} ms later")


# Private


def _refused(guest: Visitor, condition: str) -> Finding:
    return failure(
        f"a guest ({guest.bare_jid!r}) may not subscribe to an open node: {condition}",
        "No page hears of anything.",
        "See what mod_pubsub and mod_pubsub_guard in ejabberd.yml allow, and their lines in "
        "ejabberd's log.",
    )


def _not_held(url: str, seen: str) -> Finding:
    return failure(
        f"{url}: {seen}",
        "Browsers over BOSH hear of nothing, or late.",
        "In nginx.conf, `location = /http-bind`: `proxy_buffering off` and `proxy_read_timeout "
        "120s`, above what BOSH waits; and see that no other proxy stands in between.",
    )


def _hears(guest: Visitor, id: str) -> bool:
    """Whether a guest hears of an item in time."""
    end = time.monotonic() + conf.timeout
    while time.monotonic() < end:
        events = [e for each in guest.heard for e in parse_events(each, conf.pubsub_host)]
        guest.heard.clear()
        if any(event.id == id for event in events):
            return True
        try:
            guest.hear()
        except ConnectError:  # nothing, within the time that it has
            return False
    return False
