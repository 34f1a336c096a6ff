"""``manage.py pubsub_recheck``: asks rules again, and revokes where they say no."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from pubsub import nodes
from pubsub.admissions import rows_of
from pubsub.backends import get_backend
from pubsub.errands import answer
from pubsub.exceptions import InvalidItem, PubSubError
from pubsub.items import valid_node
from pubsub.management.commands._terminal import InterruptibleCommand, quiet_log
from pubsub.rechecking import for_each, recheck_node, recheck_user
from pubsub.rules import rule_of


class Command(InterruptibleCommand):
    help = (
        "Asks the rules of private nodes again about everybody who was let in, and puts out whom "
        "they do not allow any more; prints a line for each of them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "nodes",
            metavar="NODE",
            nargs="*",
            help="a node's name (default: all that have a rule, or let somebody in)",
        )
        parser.add_argument(
            "--user", metavar="PK", help="the primary key of a user: ask about no other"
        )

    def handle(self, *args: Any, user: str | None, **options: Any) -> None:
        if user is not None and options["nodes"]:
            raise CommandError("Give nodes or --user, not both.")
        try:
            names = [valid_node(node) for node in options["nodes"]]
            get_backend().require_server("set_subscriptions")
            with quiet_log():
                if user is not None:
                    recheck_user(
                        user, lambda node: self.stdout.write(f"user {user} is out of {node}")
                    )
                else:
                    for_each(names or self.all_nodes(), self.recheck)
        except (InvalidItem, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        except PubSubError as error:
            raise CommandError(f"Not all was asked: {error}") from error

    def recheck(self, node: str) -> None:
        """Ask the rule of a node; what fails is told here, too, as there may be more of it."""
        try:
            recheck_node(node, lambda jid: self.stdout.write(f"{jid} is out of {node}"))
        except PubSubError as error:
            self.stderr.write(f"{node}: {error}")
            raise

    def all_nodes(self) -> list[str]:
        """The nodes on which somebody may be who should not."""
        found = set(rows_of().values_list("node", flat=True))
        found.update(node for node in answer(nodes.names()) if rule_of(node) is not None)
        return sorted(found)
