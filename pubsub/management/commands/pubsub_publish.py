"""``manage.py pubsub_publish``: put one item on a node, from a shell or a script."""

from __future__ import annotations

import json
import os
import sys
import xml.etree.ElementTree as ET
from argparse import ArgumentParser
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from pubsub import nodes
from pubsub.exceptions import InvalidItem, PubSubError
from pubsub.items import make_item
from pubsub.management.commands._terminal import INTERRUPTED, quiet_log
from pubsub.management.commands._waiting import WaitingCommand
from pubsub.payloads import NS_JSON
from pubsub.publishing import send

EXCERPT = 20  # characters on both sides of a mistake


class Command(WaitingCommand):
    help = (
        "Publishes a text on a node, and prints the id of the item when the server has "
        "acknowledged it. The node is created if need be."
    )

    requires_system_checks = ["pubsub"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("node", metavar="NODE", help="the node's name, such as /home")
        parser.add_argument(
            "text",
            metavar="TEXT",
            nargs="?",
            help="what to publish; - or nothing: standard input, without its last line break",
        )
        parser.add_argument("--json", action="store_true", help="TEXT is JSON, and sent as such")
        parser.add_argument("--id", help="overwrites the item of this id (default: a new item)")

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        except KeyboardInterrupt:
            sys.stdout.flush()
            sys.stderr.flush()
            # At exit the backend would wait for the acknowledgement that has been given up.
            os._exit(INTERRUPTED)

    def handle(self, *args: Any, node: str, text: str | None, **options: Any) -> None:
        content = self.read() if text in (None, "-") else text
        try:
            value = read_json(content) if options["json"] else content
            # Not by publish(), which would wait for the commit where there is a transaction.
            configuration = nodes.declared(node)
            item = make_item(node, value, id=options["id"], configuration=configuration)
            with quiet_log():
                item_id = self.awaited(send(item))
        except (InvalidItem, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        except PubSubError as error:
            raise CommandError(f"Could not publish on {node!r}: {error}") from error
        self.stdout.write(item_id)

    def read(self) -> str:
        """All of standard input.

        :raises CommandError: when nobody has put anything there, or it is no text.
        """
        if sys.stdin is None or sys.stdin.isatty():
            raise CommandError("Give the TEXT to publish, or pipe it in: echo Hello | … NODE -")
        try:
            return sys.stdin.read().removesuffix("\n")
        except UnicodeDecodeError as error:
            raise CommandError(f"Standard input is no text: {error}") from error


def read_json(text: str) -> ET.Element:
    """JSON as it was written, as the element that carries it (XEP-0335).

    :raises CommandError: that quotes the place where it is no JSON.
    """
    try:
        # Numbers stay as they are written, however many digits they have.
        json.loads(text, parse_constant=refuse, parse_int=str, parse_float=str)
    except json.JSONDecodeError as error:
        before = text[max(0, error.pos - EXCERPT) : error.pos]
        after = text[error.pos : error.pos + EXCERPT]
        raise CommandError(
            f"This is no JSON: {error.msg} in line {error.lineno}, column {error.colno}, "
            f"between {before!r} and {after!r}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CommandError(f"This is no JSON: {error}") from error
    element = ET.Element(f"{{{NS_JSON}}}json")
    element.text = text
    return element


def refuse(constant: str) -> NoReturn:
    """NaN and Infinity, which Python reads and browsers do not."""
    raise ValueError(f"{constant} is not in its grammar")
