"""The databases of the bench besides the default one, each there while something needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connections

from pubsub.relay.lanes import open_lanes
from tests.postgres import USER, Postgres

#: Aliases: SQLite in memory, SQLite in a file, and a PostgreSQL of our own.
MEMORY, FILE, POSTGRES = "default", "sqlite", "postgresql"


@contextmanager
def database(alias: str, folder: Path) -> Iterator[None]:
    """A database, with the tables of the bench, as long as the block lasts.

    :param folder: where a file may be.
    :raises StackError: when PostgreSQL does not start.
    """
    if alias == MEMORY:
        prepare(alias)
        yield
    elif alias == FILE:
        with added(alias, {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "bench.db"}):
            yield
    else:
        with Postgres() as server, added(alias, server.settings(USER)):
            yield


@contextmanager
def added(alias: str, settings: dict[str, Any]) -> Iterator[None]:
    """Let Django know a database by an alias."""
    known = {name: connections.settings[name] for name in connections.settings}
    connections.settings[alias] = connections.configure_settings({**known, alias: settings})[alias]
    try:
        prepare(alias)
        yield
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


def prepare(alias: str) -> None:
    """Make the tables of a database."""
    call_command("migrate", database=alias, run_syncdb=True, interactive=False, verbosity=0)
    open_lanes(alias)
