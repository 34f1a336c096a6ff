"""Scenes: on PostgreSQL and on SQLite."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pubsub.devstack import Stack
from tests.server.faults.databases import Database, Databases
from tests.server.faults.scene import Scene

ENGINES = ("postgresql", "sqlite")


@pytest.fixture(scope="session")
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Databases]:
    """The databases of an engine, which is started for the first test that wants it."""
    made: dict[str, Databases] = {}

    def of(engine: str) -> Databases:
        if engine not in made:
            server = request.getfixturevalue("postgres") if engine == "postgresql" else None
            made[engine] = Databases(tmp_path_factory.mktemp(engine), server)
        return made[engine]

    return of


@pytest.fixture
def engine() -> str:
    """The engine of the test's database; a test that is for both is parametrized with it."""
    return "postgresql"


@pytest.fixture
def database(engine: str, databases: Callable[[str], Databases]) -> Iterator[Database]:
    made = databases(engine).make()
    yield made
    databases(engine).drop(made)


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """A function that sets a scene; it takes the arguments of ``Scene`` after the database's."""
    with ExitStack() as running:

        def set_up(stack: Stack, **options: Any) -> Scene:
            return running.enter_context(Scene(stack, database, tmp_path / "scene", **options))

        yield set_up
