"""The process of an ``Editor``, with the settings of the demo: ``python -m`` this module.

It reads calls as lines of JSON, a name and arguments, and answers each with a line.
"""

import json
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import django
from django.db import connection

django.setup()

from demo.models import Status  # noqa: E402 (models want Django to be ready)
from demo.views import NEWEST  # noqa: E402
from pubsub import PublishedQuerySet, publish  # noqa: E402

PATIENCE = 60.0  # seconds
ROWS_OF_BURST = 500
ROWS = 10  # at least so many are shown before any of them is changed


class Busy(threading.Thread):
    """Saves, changes and deletes rows until it is told to end."""

    def __init__(self) -> None:
        super().__init__()
        self._told = threading.Event()
        self._random = random.Random(1)
        self._numbers: Iterator[int] = iter(range(sys.maxsize))

    def run(self) -> None:
        ways = [create, create, self._change, self._delete]
        while not self._told.wait(0.01):
            self._random.choice(ways)(f"busy {next(self._numbers)}")
        connection.close()

    def end(self) -> None:
        self._told.set()
        self.join()

    # Private

    def _change(self, message: str) -> None:
        change(self._any(), message)

    def _delete(self, message: str) -> None:
        delete(self._any())

    def _any(self) -> int:
        """One of the rows that pages show, or that they show when others go."""
        pks = list(Status.objects.values_list("pk", flat=True)[: NEWEST + 10])
        return self._random.choice(pks) if pks else create("the first")


threads: list[Busy] = []


def create(message: str, nick: str = "Ada") -> int:
    return Status.objects.create(nick=nick, message=message).pk


def change(pk: int, message: str) -> None:
    row = Status.objects.get(pk=pk)
    row.message = message
    row.save()


def delete(pk: int) -> None:
    Status.objects.get(pk=pk).delete()


def stir(word: str) -> None:
    """Of each kind of change one, and of those that annul each other, too."""
    while len(seen := Status.objects.values_list("pk", flat=True)[:NEWEST]) < ROWS:
        create(f"row {len(seen)}")
    changed, deleted, both = seen[1], seen[3], seen[5]
    create(f"created {word}")
    change(changed, f"changed {word}")
    delete(deleted)
    change(both, f"changed and to be deleted {word}")
    delete(both)
    delete(create(f"created and deleted {word}"))
    change(create(f"created and to be changed {word}"), f"created and changed {word}")


def burst(items: int) -> None:
    """New rows, the same saved again and again, and new ones; each time one is deleted, too."""
    rows = PublishedQuerySet(Status)
    for n in range(items // ROWS_OF_BURST):
        if n % 10 == 0:
            texts = [f"burst {n}.{i}" for i in range(ROWS_OF_BURST)]
            rows.bulk_create([Status(nick="Ada", message=text) for text in texts])
        else:
            newest = Status.objects.values_list("pk", flat=True)[:ROWS_OF_BURST]
            rows.filter(pk__gte=min(newest)).update(message=f"burst {n}")
        delete(Status.objects.values_list("pk", flat=True)[10])


def clear() -> None:
    PublishedQuerySet(Status).all().delete()


def settle() -> None:
    # The server answers one sender in order (RFC 6120 §10.1): this is the last answer.
    publish("/demo/Editor", "all before this is acknowledged", item_id="mark").result(PATIENCE)


def begin() -> None:
    threads.append(Busy())
    threads[-1].start()


def end() -> None:
    threads.pop().end()


CALLS: dict[str, Callable[..., Any]] = {
    call.__name__: call for call in (create, change, delete, stir, burst, clear, settle, begin, end)
}


def main() -> None:
    """Answer calls until there are no more."""
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(CALLS[name](**arguments)), flush=True)


if __name__ == "__main__":
    main()
