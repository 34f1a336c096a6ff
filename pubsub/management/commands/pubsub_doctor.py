"""``manage.py pubsub_doctor``: what is wrong with a live installation, and how to mend it."""

from __future__ import annotations

import json
import sys
import textwrap
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError

from pubsub.doctor import EXAMINATIONS, Outcome, Result, Site, examine
from pubsub.doctor.web import parts
from pubsub.management.commands._terminal import (
    Ending,
    InterruptibleCommand,
    let_go_of,
    quiet_log,
)

#: How wide a line of the report becomes, where words allow it.
WIDTH = 100


class Command(InterruptibleCommand):
    help = (
        "Examines a live installation: says what is wrong in plain words, why it matters, and how "
        "to mend it. What it makes on the server it removes. It exits with 0 where nothing failed, "
        "else with 1."
    )

    requires_system_checks = []  # they are one of the examinations

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--url",
            type=address,
            default=None,
            help="where browsers find the site, such as https://www.example.org/; for the "
            "examinations of BOSH and WebSocket where their settings are paths",
        )
        parser.add_argument("--json", action="store_true", help="print a JSON list of objects")
        parser.add_argument(
            "--only",
            nargs="+",
            action="extend",
            metavar="NAME",
            help="make these examinations, and those that they need",
        )
        parser.add_argument(
            "--list", action="store_true", help="print the names of the examinations, and end"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["list"]:
            for examination in EXAMINATIONS:
                self.stdout.write(f"{examination.name:{COLUMN}}{examination.asks}")
            return
        only = options["only"] or []
        known = [examination.name for examination in EXAMINATIONS]
        if unknown := [name for name in only if name not in known]:
            raise CommandError(
                f"There is no examination {unknown[0]!r}; there are: {', '.join(known)}.",
                returncode=2,
            )
        # For programs the words go where they do not disturb.
        self.words = self.stderr if options["json"] else self.stdout
        try:
            results = self.examine(Site(options["url"] or ""), only)
        except BrokenPipeError:  # nobody reads on, so it is over before all has been examined
            let_go_of(self.words)
            sys.exit(1)
        if options["json"]:
            self.stdout.write(
                json.dumps([result.as_dict() for result in results], indent=2, ensure_ascii=False)
            )
        if any(result.outcome is Outcome.FAILURE for result in results):
            sys.exit(1)

    def examine(self, site: Site, only: Sequence[str]) -> list[Result]:
        """Make the examinations, and tell of each."""
        results = []
        try:
            with Ending(), quiet_log(), site:
                for result in examine(site, EXAMINATIONS, only):
                    results.append(result)
                    self.tell(result)
        finally:
            for node in site.left:
                self.stderr.write(f"The node {node!r} may be left on the server; delete it.")
        self.sum_up(results)
        return results

    def tell(self, result: Result) -> None:
        """Print what an examination has found."""
        style = STYLES[result.outcome]
        head = f"{result.name:{COLUMN}}{result.outcome.value:9}"
        # Where something is wrong, what is right beside it only distracts.
        for finding in result.findings:
            if finding.outcome is not result.outcome and result.outcome is not Outcome.SKIPPED:
                continue
            self.write(head, finding.seen, style)
            if finding.why:
                self.write("", f"Why: {finding.why}")
            if finding.remedy:
                self.write("", f"Do:  {finding.remedy}")
            head = ""

    def write(self, head: str, text: str, style: str = "") -> None:
        """Print a text beside a head, in lines that are not too long."""
        indent = " " * (COLUMN + 9)
        lines = textwrap.wrap(
            " ".join(text.split()),
            WIDTH,
            initial_indent=f"{head:{len(indent)}}",
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        paint = getattr(self.style, style, None) if style else None
        for line in lines or [head]:
            self.words.write(line, paint or str)
        self.words.flush()

    def sum_up(self, results: list[Result]) -> None:
        """Print how many ended how."""
        counts = Counter(result.outcome for result in results)
        words = ", ".join(f"{counts[each]} {each.value}" for each in Outcome if counts[each])
        seconds = sum(result.seconds for result in results)
        failed = [result.name for result in results if result.outcome is Outcome.FAILURE]
        end = f"; failed: {', '.join(failed)}" if failed else ""
        self.words.write(f"{len(results)} examinations: {words}; {seconds:.1f} s{end}.", str)
        self.words.flush()


def address(text: str) -> str:
    """The address of a site, with a slash at its end."""
    try:
        found = parts(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    if found.scheme not in ("http", "https"):
        raise ArgumentTypeError(f"{text!r} is no address of the form https://your.site/")
    return text if text.endswith("/") else f"{text}/"


COLUMN = max(len(examination.name) for examination in EXAMINATIONS) + 2
STYLES = {
    Outcome.OK: "SUCCESS",
    Outcome.SKIPPED: "NOTICE",
    Outcome.WARNING: "WARNING",
    Outcome.FAILURE: "ERROR",
}
