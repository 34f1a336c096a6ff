"""``manage.py pubsub_relay``: sends what is in the outbox."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from contextlib import ExitStack
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import Error, connections, router

from pubsub import outbox
from pubsub.exceptions import PubSubError
from pubsub.management.commands._terminal import Ending, InterruptibleCommand
from pubsub.models import OutboxItem, OutboxLane
from pubsub.relay.alone import alone
from pubsub.relay.crew import Crew

#: Seconds between two lines of progress.
PROGRESS = 10.0


class Command(InterruptibleCommand):
    help = (
        "Sends what PUBSUB_BACKEND = 'pubsub.backends.outbox.OutboxBackend' has put into the "
        "database, in order, and removes what the server has acknowledged. It runs until SIGTERM "
        "or Ctrl-C. Several may run at once on PostgreSQL, MySQL and MariaDB."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="end when there is nothing left to send"
        )
        parser.add_argument(
            "--status",
            action="store_true",
            help="print how much waits, and for how long, and end; send nothing",
        )
        parser.add_argument("--json", action="store_true", help="with --status: as JSON")
        parser.add_argument(
            "--database",
            action="append",
            metavar="ALIAS",
            help="only this one; may be repeated (default: all that have an outbox)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        databases = self.chosen(options["database"])
        try:
            if options["status"]:
                self.tell_status(databases, as_json=options["json"])
            else:
                self.relay(databases, once=options["once"])
        except (PubSubError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        except Error as error:
            is_missing = any(m._meta.db_table in str(error) for m in (OutboxItem, OutboxLane))
            hint = " Has `manage.py migrate` been run?" if is_missing else ""
            raise CommandError(f"{str(error).strip()}.{hint}") from error

    def chosen(self, named: list[str] | None) -> list[str]:
        """The databases that were named; all that have an outbox, where none was."""
        for alias in named or ():
            if alias not in connections:
                known = ", ".join(connections)
                raise CommandError(f"There is no database {alias!r}; there are: {known}.")
        return named or [a for a in connections if router.allow_migrate_model(a, OutboxItem)]

    def tell_status(self, databases: list[str], *, as_json: bool) -> None:
        """Print what is in the outboxes."""
        found = {alias: outbox.status(alias) for alias in databases}
        if as_json:
            values = {alias: vars(status) for alias, status in found.items()}
            self.stdout.write(json.dumps(values, indent=2))
            return
        for alias, status in found.items():
            self.stdout.write(f"{alias}: {status}")

    def relay(self, databases: list[str], *, once: bool) -> None:
        """Send what there is, until told to end."""
        with ExitStack() as stack:
            for alias in databases:
                stack.enter_context(alone(alias))
            ending = stack.enter_context(Ending())
            crew = Crew(databases, drains=once)
            interrupted = False
            with crew, ending.only_here():
                try:
                    self.tell("Relaying")
                    self.watch(crew, databases)
                except KeyboardInterrupt:
                    interrupted = True
                    self.tell("Stopping …")
            self.tell(f"{crew.counts['sent']} sent")
        if interrupted or not once:
            return
        if crew.troubles:
            raise CommandError(f"Not all could be sent: {next(iter(crew.troubles.values()))}")
        if crew.counts["refused"]:
            raise CommandError(f"{crew.counts['refused']} were set aside; the admin shows why.")

    def watch(self, crew: Crew, databases: list[str]) -> None:
        """Tell of the progress until all workers have ended."""
        before = crew.counts
        since = time.monotonic()
        while crew.is_at_work:
            crew.wait(PROGRESS)
            counts = crew.counts
            if counts == before or not crew.is_at_work:
                continue
            seconds = time.monotonic() - since
            rate = (counts["sent"] - before["sent"]) / seconds
            self.tell(f"{counts['sent']} sent ({rate:.0f}/s); {self.states(databases)}")
            before, since = counts, time.monotonic()

    def states(self, databases: list[str]) -> str:
        """What is in the outboxes, in words."""
        try:
            return "; ".join(str(outbox.status(alias)) for alias in databases)
        except Error as error:
            for alias in databases:  # of those that are gone none comes back by itself
                connections[alias].close()
            return f"not known what waits: {error}"

    def tell(self, line: str) -> None:
        """Print a line, and not only when the buffer is full."""
        self.stdout.write(line)
        self.stdout.flush()
