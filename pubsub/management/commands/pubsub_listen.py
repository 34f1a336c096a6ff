"""``manage.py pubsub_listen``: see in a terminal, or in a script, what is published."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable
from itertools import islice
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from pubsub import nodes
from pubsub.entries import Entry, read_entry
from pubsub.exceptions import PubSubError
from pubsub.management.commands._terminal import (
    Ending,
    ended_with_reader,
    let_go_of,
    quiet_log,
)
from pubsub.wire.events import Event

#: Join what belongs together in many scripts and emoji; no terminal minds them.
JOINERS = "\u200c\u200d"


class Command(BaseCommand):
    help = (
        "Subscribes to nodes as the publisher, and prints what happens to them, one line each: "
        "NODE ID EVENT and what was published. Ctrl-C ends it, and the subscriptions."
    )

    requires_system_checks = ["pubsub"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("nodes", metavar="NODE", nargs="+", help="a node's name, such as /home")
        parser.add_argument(
            "--json",
            action="store_true",
            help="print JSON, one object a line: node, id, event, at, format, payload",
        )
        parser.add_argument(
            "--count", type=positive, metavar="N", help="end after so many (default: never)"
        )

    def handle(self, *args: Any, nodes: list[str], **options: Any) -> None:
        self.encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        write = as_json if options["json"] else as_line
        try:
            with Ending() as ending, ended_with_reader(self.stdout), quiet_log():
                self.listen(nodes, write, options["count"], ending)
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            let_go_of(self.stdout)
        except (PubSubError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error

    def listen(self, names: Iterable[str], write: Any, count: int | None, ending: Ending) -> None:
        """Print events until somebody or something ends it."""
        with nodes.listen(*names, report=self.report) as events, ending.only_here():
            self.report(f"Listening to {', '.join(events.nodes)}; Ctrl-C ends it.")
            for event in islice(events, count):
                line = write(event).encode(self.encoding, "backslashreplace")
                self.stdout.write(line.decode(self.encoding))
                self.stdout.flush()

    def report(self, sentence: str) -> None:
        """Tell what is no event."""
        self.stderr.write(sentence, self.style.NOTICE)
        self.stderr.flush()


def positive(text: str) -> int:
    """A number from 1 on."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{text} is less than 1")
    return number


def as_line(event: Event) -> str:
    """An event on one line, for people."""
    entry = entry_of(event)
    start = f"{one_line(event.node)} {one_line(event.id or '-')}"
    if entry is None:
        return f"{start} {event.kind}"
    if entry.format == "json":  # which has escaped its backslashes itself
        content = printable(json.dumps(entry.content, ensure_ascii=False))
    else:
        content = one_line(entry.content)
    return f"{start} {entry.event} {content}"


def as_json(event: Event) -> str:
    """An event as a JSON object, for programs; it always has the same keys."""
    entry = entry_of(event)
    return json.dumps(
        {
            "node": event.node,
            "id": event.id or None,
            "event": entry.event if entry else event.kind,
            "at": (entry.at if entry else "") or None,
            "format": entry.format if entry else None,
            "payload": entry.content if entry else None,
        }
    )


def entry_of(event: Event) -> Entry | None:
    """What was published; None where something was taken away."""
    if event.kind != "item":
        return None
    if event.payload is None:  # the node delivers none
        return Entry("published", "", "text", "")
    return read_entry(event.payload)


def one_line(text: str) -> str:
    """A text with its line breaks, and its backslashes, escaped."""
    return printable(text.replace("\\", "\\\\"))


def printable(text: str) -> str:
    """A text with everything escaped that would break the line or command the terminal."""
    return "".join(
        char
        if char.isprintable() or char in JOINERS
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
