"""Fresh databases for the processes of a test: copies of one that was migrated once."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from tests.postgres import Postgres
from tests.server.faults.book import SHARED
from tests.server.processes import settings_file

TEMPLATE = "template_of_faults"


class Database:
    """A database of one test.

    :param engine: ``postgresql`` or ``sqlite``.
    :param settings: what Django's DATABASES says of it.
    """

    def __init__(self, engine: str, settings: dict[str, Any]) -> None:
        self.engine = engine
        self.settings = settings

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in a connection of its own, and return its rows."""
        if self.engine == "sqlite":
            with closing(sqlite3.connect(self.settings["NAME"], timeout=20)) as connection:
                rows = connection.execute(statement).fetchall()
                connection.commit()
                return rows
        address = {name.lower(): self.settings[name] for name in ("HOST", "PORT", "USER")}
        with psycopg.connect(**address, dbname=self.settings["NAME"]) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def column(self, statement: str) -> list[Any]:
        """The first column of a query."""
        return [row[0] for row in self.query(statement)]


class Databases:
    """Makes databases of one engine.

    :param folder: where SQLite's files and the settings for migrating are put.
    :param postgres: the server; None makes SQLite's.
    """

    def __init__(self, folder: Path, postgres: Postgres | None = None) -> None:
        self._folder = folder
        self._postgres = postgres
        self._count = 0
        if postgres is None:
            self._template = self._sqlite(TEMPLATE)
        else:
            postgres.execute(f"CREATE DATABASE {TEMPLATE}")
            self._template = Database("postgresql", postgres.settings(TEMPLATE))
        migrate(folder, self._template.settings)
        rows = ", ".join(f"({pk}, '0 made by nobody')" for pk in SHARED)
        self._template.query(f"INSERT INTO testapp_author (id, name) VALUES {rows}")

    def make(self) -> Database:
        """A database of its own, with all tables."""
        self._count += 1
        name = f"fresh_{self._count}"
        if self._postgres is not None:
            self._postgres.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
            return Database("postgresql", self._postgres.settings(name))
        fresh = self._sqlite(name)
        shutil.copyfile(self._template.settings["NAME"], fresh.settings["NAME"])
        return fresh

    def drop(self, database: Database) -> None:
        if self._postgres is not None:
            self._postgres.execute(f"DROP DATABASE {database.settings['NAME']} WITH (FORCE)")

    # Private

    def _sqlite(self, name: str) -> Database:
        file = self._folder / f"{name}.sqlite3"
        return Database("sqlite", {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)})


def migrate(folder: Path, database: dict[str, Any]) -> None:
    """Make the tables of the tests' apps; in a process, as this one's settings are others."""
    environment = settings_file(folder, {"DATABASES": {"default": database}})
    migrated = subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--skip-checks"],
        env=environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=100,
    )
    assert migrated.returncode == 0, migrated.stderr
