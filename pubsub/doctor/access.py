"""The nodes as they are on the server, against what the site says of who may read and publish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import islice

from pubsub import nodes
from pubsub.doctor.findings import Finding, failure, fine, warning
from pubsub.doctor.site import FOLDER, Site
from pubsub.exceptions import RequestRefused
from pubsub.management.differences import difference
from pubsub.registry import pubsub

#: So many nodes are asked about at once.
STEP = 200

#: So many are named when something is wrong with them.
NAMED = 5

#: Who may publish, the fewest first.
PUBLISHERS = ["publishers", "subscribers", "open"]


def examine_access(site: Site) -> Iterator[Finding]:
    """Whether private nodes are private, and only those publish who should."""
    configurations = dict(_configurations(site))
    exposed, writable, different = [], [], []
    for node, there in configurations.items():
        wanted = nodes.wanted(node)
        if there.get("access_model") == "open" and wanted["access_model"] != "open":
            exposed.append(node)
        if _is_laxer(there.get("publish_model", ""), str(wanted["publish_model"])):
            writable.append(node)
        elif difference(node, there):
            different.append(node)
    mend = "Run `manage.py pubsub_sync`; a node that no publication names by itself: "
    if exposed:
        yield failure(
            f"{_named(exposed)} should be private, and the server lets everybody read",
            "Whoever knows the name, a guest too, reads what is on it and hears what comes.",
            f"{mend}nodes.configure({exposed[0]!r}, access_model='whitelist').",
        )
    if writable:
        model = configurations[writable[0]]["publish_model"]
        yield failure(
            f"{_named(writable)} takes items from others than the publisher (publish_model "
            f"{model!r})",
            "Whoever may publish there can show anything to all who listen.",
            f"{mend}nodes.configure({writable[0]!r}, publish_model='publishers'); and see "
            "PUBSUB_NODE_DEFAULTS.",
        )
    registered = {node for publication in pubsub.publications for node in publication.nodes}
    if known := [node for node in different if node in registered]:
        yield warning(
            f"{_named(known)} is not configured as its publication asks",
            "The server goes by what it has been told when the node was made.",
            "Run `manage.py pubsub_sync --check` to see the difference, and `pubsub_sync`.",
        )
    private = sum(there.get("access_model") != "open" for there in configurations.values())
    yield fine(f"nodes of ours: {len(configurations)}, not open to everybody: {private}")


# Private


def _configurations(site: Site) -> Iterator[tuple[str, dict[str, str]]]:
    """Our nodes with their configuration; those that go meanwhile are passed over."""
    names = (n for n in site.awaited(site.server.get_nodes()) if not n.startswith(FOLDER))
    while lot := list(islice(names, STEP)):
        asked: list[tuple[str, Future[dict[str, str]]]] = [
            (node, site.server.get_configuration(node)) for node in lot
        ]
        for node, future in asked:
            try:
                yield node, site.awaited(future)
            except RequestRefused as error:
                if error.condition != "item-not-found":
                    raise


def _is_laxer(there: str, wanted: str) -> bool:
    """Whether more may publish than should; that all may is never as it should be."""
    if there not in PUBLISHERS:
        return False
    limit = PUBLISHERS.index(wanted) if wanted in PUBLISHERS[:2] else 0
    return PUBLISHERS.index(there) > limit


def _named(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - NAMED
    named = ", ".join(map(repr, every[:NAMED]))
    return f"{named} and {more} more" if more > 0 else named
