"""``manage.py pubsub_nodes``: which models are published where, and what the server says of it."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from pubsub import nodes, pubsub
from pubsub.backends import get_backend
from pubsub.exceptions import PubSubError
from pubsub.management.commands._terminal import InterruptibleCommand, quiet_log
from pubsub.management.differences import configuration, difference

COLUMNS = ("model", "node", "state", "access", "items", "subscriptions")


class Command(InterruptibleCommand):
    help = (
        "Lists the registered models with their nodes, and what the server says of these; then the "
        "other nodes that the site owns there, such as those that depend on a row."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list of objects")

    def handle(self, *args: Any, **options: Any) -> None:
        registered = [
            (publication.model._meta.label, node)
            for publication in pubsub.publications
            for node in publication.nodes
        ]
        try:
            with quiet_log():
                rows = self.rows(registered)
        except PubSubError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False))
            return
        for line in table(rows):
            self.stdout.write(line)
        for publication in pubsub.publications:
            if publication.names_nodes_by_row:
                self.stdout.write(f"{publication.model._meta.label}: more nodes, for each row.")
        if not get_backend().manages_nodes:
            self.stdout.write("PUBSUB_BACKEND has no server that could be asked about them.")

    def rows(self, registered: list[tuple[str, str]]) -> list[dict[str, Any]]:
        """What there is to say, a dict for each line of the table."""
        if not get_backend().manages_nodes:
            return [{"model": label, "node": node} for label, node in registered]
        known = {node for _, node in registered}
        others = [("", node) for node in nodes.names().result() if node not in known]
        return [{"model": label, "node": node} | state(node) for label, node in registered + others]


def state(node: str) -> dict[str, Any]:
    """What the server says of a node.

    :raises PubSubError: when it cannot be asked.
    """
    there = configuration(node)
    if there is None:
        return {"state": "missing"}
    differences = difference(node, there)
    items, subscriptions = nodes.count(node), nodes.subscriptions(node)
    return {
        "state": "differs: " + ", ".join(differences) if differences else "as it should be",
        "access": there.get("access_model", ""),
        "items": items.result(),
        "subscriptions": len(subscriptions.result()),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of a table with a head, as wide as what is in it."""
    lines = [[name.upper() for name in COLUMNS]]
    lines += [[str(row.get(name, "-")) or "-" for name in COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
