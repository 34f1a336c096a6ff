"""``manage.py pubsub_sync``: makes the nodes on the server what the publications ask for."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError
from django.db.models import F, Model, QuerySet
from django.db.models.expressions import OrderBy

from pubsub import nodes, publish_rows, pubsub
from pubsub.exceptions import PubSubError, ServerLost, StreamError
from pubsub.management.commands._terminal import InterruptibleCommand, quiet_log
from pubsub.management.commands._waiting import WaitingCommand
from pubsub.management.differences import configuration, difference
from pubsub.publications import Publication

#: So many rows --fill reads and publishes at once; then its progress is told.
STEP = 500


class Command(WaitingCommand, InterruptibleCommand):
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
            there = configuration(node)
            if there is None:
                if not only_look:
                    nodes.create(node).result()
                self.tell(f"{node}: {'is missing' if only_look else 'created'}")
            elif changes := difference(node, there):
                if not only_look:
                    asked = {field: value for field, (_, value) in changes.items()}
                    nodes.configure(node, **asked).result()
                for field, (before, after) in changes.items():
                    self.tell(f"{node}: {field} {before} -> {after}")
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
        if not publication.nodes:
            self.tell(f"{label}: has no node that could be filled")
            return
        limit = room(publication)
        if only_look:
            count = publication.model._default_manager.count()
            would = count if limit is None else min(count, limit)
            self.tell(f"{label}: {would} rows would be published")
            return
        failure: PubSubError | None = None
        published = done = 0
        for pks in batched(newest(publication.model, limit)):
            rows = publication.model._default_manager.filter(pk__in=pks)
            result = publish_rows(rows.order_by(*by_age(publication.model)))
            try:
                published += self.awaited(result)
            except PubSubError as error:
                if isinstance(error, (ServerLost, StreamError)):
                    raise
                failure = failure or error
            done += len(pks)
            if done % STEP == 0:
                self.stderr.write(f"{label}: {done} rows …", self.style.NOTICE)
        if failure is not None:
            raise failure
        self.tell(f"{label}: {published} items published")

    def tell(self, line: str) -> None:
        """Print a line, and not only when the buffer is full."""
        self.stdout.write(line)
        self.stdout.flush()


def room(publication: Publication) -> int | None:
    """How many items the nodes of a publication keep, or the largest of them; None: all."""
    limits = [nodes.max_items(node) for node in publication.nodes]
    return None if "max" in limits else max(map(int, limits))


def newest(model: type[Model], limit: int | None) -> Iterator[Any]:
    """The primary keys of so many of the newest rows, the oldest of them first; None: of all."""
    rows: QuerySet[Any] = model._default_manager.order_by(*by_age(model))
    keys = rows.values_list("pk", flat=True)
    if limit is None:
        yield from keys.iterator(chunk_size=STEP)
    else:
        yield from reversed(list(keys.reverse()[:limit]))


def by_age(model: type[Model]) -> list[OrderBy | str]:
    """How the rows of a model are ordered with the newest last.

    Newest is what ``get_latest_by`` of the model says, and then the primary key; rows that say
    nothing of their age count as the oldest.
    """
    latest = model._meta.get_latest_by or ()
    order: list[OrderBy | str] = []
    for name in [latest] if isinstance(latest, str) else latest:
        field = F(name.removeprefix("-"))
        is_descending = name.startswith("-")
        order.append(field.desc(nulls_first=True) if is_descending else field.asc(nulls_first=True))
    return [*order, "pk"]


def batched(keys: Iterator[Any]) -> Iterator[list[Any]]:
    """Keys, so many at a time."""
    while batch := list(islice(keys, STEP)):
        yield batch
