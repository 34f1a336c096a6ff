"""Somebody else at work on the site: a process that saves, changes and deletes statuses."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pubsub.devstack.processes import tied
from tests.browser.conftest import Site


class Editor:
    """The process; a context manager."""

    def __init__(self, site: Site) -> None:
        self._process = subprocess.Popen(
            tied([sys.executable, "-m", "tests.browser.faults.editing"]),
            env={**os.environ, **site.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Editor":
        return self

    def __exit__(self, *error: object) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def create(self, message: str, nick: str = "Ada") -> int:
        """Save a new status; returns its key."""
        return int(self._call("create", message=message, nick=nick))

    def change(self, pk: int, message: str) -> None:
        """Save a status with another message."""
        self._call("change", pk=pk, message=message)

    def delete(self, pk: int) -> None:
        """Delete a status."""
        self._call("delete", pk=pk)

    def stir(self, word: str) -> None:
        """Create, change and delete statuses; their messages end with the word."""
        self._call("stir", word=word)

    def burst(self, items: int) -> None:
        """Save statuses, new ones and the same again, until so many items are published."""
        self._call("burst", items=items)

    def clear(self) -> None:
        """Delete all statuses."""
        self._call("clear")

    def settle(self) -> None:
        """Wait until the server has acknowledged whatever was published."""
        self._call("settle")

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Save, change and delete statuses, one after the other, while the block runs."""
        self._call("begin")
        yield
        self._call("end")

    # Private

    def _call(self, name: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([name, arguments]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, f"the editor has ended with {self._process.wait()}"
        return json.loads(answer)
