"""``manage.py pubsub_expire``: retracts items that are older than their node keeps them."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError

from pubsub import nodes, retract
from pubsub.entries import read_entry
from pubsub.exceptions import BackendError, PubSubError, StreamError
from pubsub.items import now
from pubsub.management.commands._terminal import InterruptibleCommand, quiet_log
from pubsub.management.commands._waiting import WaitingCommand


class Command(WaitingCommand, InterruptibleCommand):
    help = (
        "Retracts the items that are older than their node's item_expire says, counted from when "
        "they were last published. ejabberd does not do so by itself; let cron run it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("nodes", nargs="*", metavar="NODE", help="only these (default: all)")
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would go, and retract nothing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with quiet_log():
                names = options["nodes"] or nodes.names().result()
                failed = [node for node in names if not self.expires(node, options["dry_run"])]
        except PubSubError as error:
            raise CommandError(str(error)) from error
        if failed:
            raise CommandError(f"{len(failed)} nodes failed.")

    def expires(self, node: str, only_look: bool) -> bool:
        """Retract what is too old on one node; returns whether that went well, and tells if not.

        :raises PubSubError: when it is of no use to try the other nodes.
        """
        try:
            self.expire(node, only_look)
        except (StreamError, BackendError):
            raise
        except PubSubError as error:
            self.stderr.write(f"{node}: {error}")
            self.stderr.flush()
            return False
        return True

    def expire(self, node: str, only_look: bool) -> None:
        """Retract what is too old on one node, and say how much it was."""
        limit = seconds_of(nodes.configuration(node).result().get("item_expire", ""))
        if limit is None:
            return
        oldest = now() - timedelta(seconds=limit)
        held = nodes.items(node).result()
        old = [item.id for item in held if is_before(item.payload, oldest)]
        if not only_look:
            for retracted in [retract(node, item_id) for item_id in old]:
                self.awaited(retracted)
        were = "are" if only_look else "were"
        self.stdout.write(f"{node}: {len(old)} of {len(held)} items {were} too old")
        self.stdout.flush()


def seconds_of(item_expire: str) -> int | None:
    """The value of ``pubsub#item_expire`` (XEP-0060 §16.4.4); None where nothing expires."""
    usable = item_expire.isascii() and item_expire.isdigit() and 0 < int(item_expire) < 10**10
    return int(item_expire) if usable else None


def is_before(payload: object, oldest: datetime) -> bool:
    """Whether an item says that it was published before that; one that says nothing stays."""
    try:
        at = datetime.fromisoformat(read_entry(payload).at.replace("Z", "+00:00"))
    except ValueError:
        return False
    return at.tzinfo is not None and at < oldest
