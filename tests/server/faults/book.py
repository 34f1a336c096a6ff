"""What a writer is told to do, and the book that it keeps."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.server.faults.ledger import Change

#: Rows that all writers change, and how many rows are each thread's own.
SHARED = range(1, 5)
OWN = 6


@dataclass(frozen=True)
class Orders:
    """What a writer is told to do.

    :param book: path of its book.
    :param name: differs from that of every other writer of the run.
    :param number: likewise; it decides which rows are its own.
    :param transactions: of each thread; None: until SIGTERM.
    :param shared: whether it changes rows that other threads and processes change, too.
    :param deletes: whether it deletes rows.
    :param nodes: how many nodes there are to publish to by hand.
    :param pause: seconds between two transactions of a thread, on average.
    :param die: ``commit``: the first thread's last transaction ends with SIGKILL in the first
        callback of its commit; ``return``: when the commit has returned.
    :param forks: into so many processes more it splits after its first transactions.
    """

    book: str
    name: str
    number: int
    seed: int = 1
    threads: int = 4
    transactions: int | None = 25
    shared: bool = True
    deletes: bool = True
    nodes: int = 3
    pause: float = 0.0
    die: str = ""
    forks: int = 0

    def as_json(self) -> str:
        return json.dumps(asdict(self))


class Book:
    """A file of JSON lines that is whole up to its last line, even if the process is killed.

    Before each commit it says what the transaction changes, afterwards how it ended.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, **line: object) -> None:
        os.write(self._file, f"{json.dumps(line)}\n".encode())


@dataclass
class Reading:
    """What all books say together, and what the database says to that.

    :ivar missing: transactions whose commit had returned, and that the database does not know.
    """

    committed: list[Change]
    undone: list[Change]
    missing: list[str]


def read(books: Iterable[Path], marks: set[str]) -> Reading:
    """Read the books of a run.

    :param marks: the transactions that the database has committed.
    """
    lines: list[dict[str, Any]] = [
        json.loads(line) for book in books for line in book.read_text().splitlines()
    ]
    reading = Reading([], [], [])
    for line in lines:
        if line.get("outcome") == "committed" and line["transaction"] not in marks:
            reading.missing.append(line["transaction"])
        changes = [Change(**change) for change in line.get("changes", ())]
        kept = reading.committed if line["transaction"] in marks else reading.undone
        kept += changes
        reading.undone += [Change(**change) for change in line.get("undone", ())]
    return reading
