"""``manage.py pubsub_sync``: makes the nodes on the server what the publications ask for."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError
from django.db.models import Model, QuerySet

from pubsub import nodes, publish_rows, pubsub
from pubsub.exceptions import PubSubError
from pubsub.management.commands._terminal import InterruptibleCommand, quiet_log
from pubsub.management.differences import difference, wanted
from pubsub.publications import Publication

#: After so many rows the progress of --fill is told.
STEP = 500


class Command(InterruptibleCommand):
    help = (
        "Creates the nodes of all publications on the server, and configures those that are "
        "there already but different. Nodes that a publication names for each row by itself are "
        "created when a row is published."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "models",
            nargs="*",
            metavar="app_label.Model",
            help="only these registered models (default: all)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="show the difference, and change nothing"
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="as --dry-run, and exit with 1 where there is a difference",
        )
        parser.add_argument(
            "--fill",
            action="store_true",
            help="publish the newest rows, so many as a node keeps, oldest of them first",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        publications = self.chosen(options["models"])
        only_look = options["dry_run"] or options["check"]
        try:
            with quiet_log():
                differences = sum(self.sync(publication, only_look) for publication in publications)
            if options["fill"]:
                for publication in publications:
                    self.fill(publication, only_look)
        except PubSubError as error:
            raise CommandError(str(error)) from error
        if options["check"] and differences:
            raise CommandError(f"{differences} nodes are not as the publications ask.")

    def chosen(self, labels: list[str]) -> list[Publication]:
        """The publications of the models that were named; all, where none was."""
        if not labels:
            return pubsub.publications
        try:
            return [pubsub.publication_for(apps.get_model(label)) for label in labels]
        except (LookupError, ValueError, PubSubError) as error:
            known = ", ".join(p.model._meta.label for p in pubsub.publications)
            raise CommandError(f"{error}. Registered are: {known or 'none'}.") from error

    def sync(self, publication: Publication, only_look: bool) -> int:
        """Make the nodes of one publication what they should be; returns how many were not."""
        count = 0
        for node in publication.nodes:
            changes = difference(node)
            if changes is None:
                self.tell(f"{node}: {'is missing' if only_look else 'created'}")
                if not only_look:
                    nodes.create(node, **nodes.declared(node)).result()
            elif changes:
                for field, (there, asked) in changes.items():
                    self.tell(f"{node}: {field} {there} -> {asked}")
                if not only_look:
                    nodes.configure(
                        node, **{f: asked for f, (_, asked) in changes.items()}
                    ).result()
            else:
                self.tell(f"{node}: as it should be")
                continue
            count += 1
        return count

    def fill(self, publication: Publication, only_look: bool) -> None:
        """Publish the newest rows of one model."""
        label = publication.model._meta.label
        if publication.item_id is None:
            self.tell(f"{label}: a log, which is not filled")
            return
        rows = newest(publication)
        if only_look:
            self.tell(f"{label}: {rows.count()} rows would be published")
            return
        published = publish_rows(self.told(label, rows.iterator(chunk_size=STEP))).result()
        self.tell(f"{label}: {published} items published")

    def told(self, label: str, rows: Iterator[Model]) -> Iterator[Model]:
        """The rows, and the progress on standard error."""
        for count, row in enumerate(rows, 1):
            yield row
            if count % STEP == 0:
                self.stderr.write(f"{label}: {count} rows …", self.style.NOTICE)

    def tell(self, line: str) -> None:
        """Print a line, and not only when the buffer is full."""
        self.stdout.write(line)
        self.stdout.flush()


def newest(publication: Publication) -> QuerySet[Any]:
    """So many of the newest rows as a node keeps, the oldest of them first.

    Newest is what ``get_latest_by`` of the model says, and its primary key where it says nothing.
    """
    model = publication.model
    latest = model._meta.get_latest_by or "pk"
    field = (latest if isinstance(latest, str) else latest[0]).removeprefix("-")
    rows = model._default_manager.order_by(field)
    limit = wanted(publication.nodes[0])["max_items"] if publication.nodes else "max"
    if limit == "max":
        return rows
    first = rows.reverse().values_list(field, flat=True)[int(limit) - 1 : int(limit)]
    return rows.filter(**{f"{field}__gte": first[0]}) if first else rows
