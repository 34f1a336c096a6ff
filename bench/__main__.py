"""``python -m bench``: measures, and prints a table for each page."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import django
from django.utils.module_loading import import_string

from bench import machine, table
from bench.errors import BenchError
from bench.pages import PAGES, Conditions, Line, Page, Result, Run
from bench.progress import say
from pubsub.devstack import Stack, StackError, until_told_to_end

ROUNDS, CALLS = 100, 200
QUICK_ROUNDS, QUICK_CALLS = 5, 20
INTERRUPTED = 130  # what shells say of a program that Ctrl-C has ended

Chosen = list[tuple[Page, list[tuple[Run, list[Line]]]]]


def main() -> int:
    """Run the bench.

    :returns: the exit code, 0 if everything was measured.
    """
    arguments = parser().parse_args()
    code = INTERRUPTED
    try:
        with until_told_to_end():
            prepare_django()
            run(arguments)
            code = 0
    except (BenchError, StackError) as error:
        say(str(error))
        code = 1
    if code == INTERRUPTED:
        say("ended before everything was measured")
    return code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures what django-pubsub costs, with an ejabberd of its own.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="few rounds: a look, not a measurement"
    )
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        action="append",
        default=[],
        help="only lines whose name holds this, such as 'dummy:' or 'xmpp*atomic'; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="print the names of the lines, and end")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there, too")
    return parser


def prepare_django() -> None:
    """Set Django up."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "bench.settings"
    django.setup()


def run(arguments: argparse.Namespace) -> None:
    """Measure what was asked for, and print it page by page.

    :raises BenchError: when a pattern fits no line, or something cannot be measured.
    :raises StackError: when ejabberd or PostgreSQL does not start.
    """
    pages = chosen(arguments.only)
    if arguments.list:
        print("\n".join(line.name for _, runs in pages for _, lines in runs for line in lines))
        return
    versions = machine.versions()
    rounds, calls = (QUICK_ROUNDS, QUICK_CALLS) if arguments.quick else (ROUNDS, CALLS)
    values = []
    with servers([run for _, runs in pages for run, _ in runs]) as settings:
        conditions = Conditions(rounds, calls, settings)
        print(f"{table.header(versions)}; {rounds} rounds of {calls} calls", flush=True)
        for page, runs in pages:
            results: list[Result] = []
            for run, lines in runs:
                say(f"measuring {lines[0].name} …")
                results += run.results(conditions, lines)
            print(f"\n{table.page_text(page, results)}", flush=True)
            values.append(table.page_values(page, results))
    if arguments.json:
        found = {"versions": versions, "rounds": rounds, "calls": calls, "pages": values}
        arguments.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")


def chosen(patterns: Sequence[str]) -> Chosen:
    """The pages, their runs and the lines of these that patterns ask for.

    :raises BenchError: when they ask for none.
    """
    pages: Chosen = []
    for path in PAGES:
        page = import_string(path)
        runs = [(run, lines) for run in page.runs if (lines := run.chosen(patterns))]
        if runs:
            pages.append((page, runs))
    if not pages:
        raise BenchError(f"no line's name holds {' or '.join(patterns)}: see --list")
    return pages


@contextmanager
def servers(runs: Sequence[Run]) -> Iterator[Mapping[str, Any]]:
    """What runs need, as long as the block lasts: the settings of an ejabberd, and databases."""
    # Django has to be ready before its models can be imported.
    database = import_string("bench.databases.database")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pubsub-bench-")))
        for alias in sorted({"default"} | {run.database for run in runs}):
            if alias == "postgresql":
                say("starting PostgreSQL …")
            stack.enter_context(database(alias, folder))
        if any(run.needs_server for run in runs):
            say("starting ejabberd …")
            yield stack.enter_context(Stack(folder / "stack")).settings
        else:
            yield {}


if __name__ == "__main__":
    sys.exit(main())
