"""A process that saves rows and publishes by hand: ``manage.py write_and_note``.

In each transaction it leaves a mark in the database, a ``Place`` of the transaction's name, so that
the database itself tells which ones it has committed.  SIGTERM ends it after the transactions of
the moment.
"""

import os
import random
import signal
import threading
import warnings
from contextlib import suppress
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.db import Error, connection, connections, transaction

from pubsub import publish
from tests.blog.models import Tag
from tests.server.faults.book import OWN, SHARED, Book, Orders
from tests.testapp.models import Author, Place


class RolledBack(Exception):
    """Ends a transaction on purpose."""


class Thread(threading.Thread):
    """One thread's transactions, one after the other."""

    def __init__(self, orders: Orders, number: int, book: Book, told: threading.Event) -> None:
        super().__init__(name=f"{orders.name}.{number}")
        self.error: BaseException | None = None
        self._orders = orders
        self._number = number
        self._book = book
        self._told = told
        self._random = random.Random(f"{orders.seed} {self.name}")
        first = 100 + (orders.number * 100 + number) * OWN
        self._versions = dict.fromkeys(range(first, first + OWN), 0)
        self._changes: list[dict[str, Any]] = []
        self._undone: list[dict[str, Any]] = []

    def run(self) -> None:
        n = 0
        try:
            while not self._told.is_set() and n != self._orders.transactions:
                n += 1
                self._transact(n)
                if self._orders.pause:
                    self._told.wait(self._random.uniform(0, 2 * self._orders.pause))
        except BaseException as error:
            self.error = error
            raise
        finally:
            connections.close_all()

    # Private

    def _transact(self, n: int) -> None:
        name = f"{self.name}.{n}"
        last = self._number == 0 and n == self._orders.transactions
        try:
            with transaction.atomic():
                if last and self._orders.die == "commit":
                    transaction.on_commit(die)
                # A write first: SQLite lets one wait for its turn only before it has read.
                Place.objects.create(name=name)
                self._change(name, n)
                self._book.write(transaction=name, changes=self._changes, undone=self._undone)
                if not last and self._random.random() < 0.15:
                    raise RolledBack
        except RolledBack:
            outcome = "rolled back"
        except Error as error:  # the database went away, or had no turn for us
            connection.close()
            outcome = f"{type(error).__name__}: {error}"
            self._told.wait(0.05)
        else:
            outcome = "committed"
            if last and self._orders.die == "return":
                die()
        self._book.write(transaction=name, outcome=outcome)

    def _change(self, name: str, n: int) -> None:
        self._changes, self._undone = [], []
        parts = [self._save_own, self._save_tag, self._publish, self._undo]
        if self._orders.shared:
            parts.append(self._save_shared)
        for part in self._random.sample(parts, k=self._random.randint(1, 3)):
            part(name, n)
        if not self._changes:
            self._publish(name, n)

    def _save_own(self, name: str, n: int) -> None:
        """Save a row of the thread's own, or delete it."""
        pk = self._random.choice(list(self._versions))
        self._versions[pk] += 1  # whatever becomes of this transaction, it is not used again
        row = Author.objects.filter(pk=pk).first()
        if row is not None and self._orders.deletes and self._random.random() < 0.2:
            row.delete()
            self._note("authors", str(pk), None, f"row {pk}", self._versions[pk])
            return
        state = f"{self._versions[pk]} of {pk} by {name}"
        if row is None:
            Author.objects.create(pk=pk, name=state)
        else:
            row.name = state
            row.save()
        self._note("authors", str(pk), state, f"row {pk}", self._versions[pk])

    def _save_shared(self, name: str, n: int) -> None:
        """Save a row that others want, too."""
        pk = self._random.choice(SHARED)
        row = Author.objects.select_for_update().get(pk=pk)
        version = int(row.name.split()[0]) + 1
        row.name = f"{version} of {pk} by {name}"
        row.save()
        self._note("authors", str(pk), row.name, f"row {pk}", version)

    def _save_tag(self, name: str, n: int) -> None:
        Tag.objects.create(word=f"tag {name}")
        self._note("tags", None, f"tag {name}", self.name, n)

    def _publish(self, name: str, n: int) -> None:
        node = f"hand/{self._random.randrange(self._orders.nodes)}"
        publish(f"{settings.FAULTS_NODES}/{node}", f"hand {name}")
        self._note(node, None, f"hand {name}", self.name, n)

    def _undo(self, name: str, n: int) -> None:
        """Save and publish within a savepoint, and go back to it."""
        node = f"{settings.FAULTS_NODES}/hand/0"
        with suppress(RolledBack), transaction.atomic():
            Tag.objects.create(word=f"undone tag {name}")
            publish(node, f"undone hand {name}")
            raise RolledBack
        self._undone.append(change("tags", None, f"undone tag {name}", self.name, n))
        self._undone.append(change("hand/0", None, f"undone hand {name}", self.name, n))

    def _note(self, *facts: Any) -> None:
        self._changes.append(change(*facts))


def change(
    node: str, id: str | None, state: str | None, order: str, version: int
) -> dict[str, Any]:
    node = f"{settings.FAULTS_NODES}/{node}"
    return {"node": node, "id": id, "state": state, "order": order, "version": version}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(orders: Orders) -> int:
    if orders.forks:
        return fork(orders)
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    print("Writing", flush=True)
    book = Book(orders.book)
    threads = [Thread(orders, number, book, told) for number in range(orders.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1 if any(thread.error for thread in threads) else 0


def fork(orders: Orders) -> int:
    """Write something, and then go on as several processes."""
    first = replace(orders, name=f"{orders.name}-0", transactions=5, forks=0)
    codes = [main(first)]
    children = []
    for n in range(1, orders.forks + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: that is the test
            pid = os.fork()
        if pid == 0:
            return main(
                replace(
                    first,
                    name=f"{orders.name}-{n}",
                    number=orders.number * 10 + n,
                    transactions=orders.transactions,
                )
            )
        children.append(pid)
    codes.append(
        main(
            replace(
                first,
                name=f"{orders.name}-p",
                number=orders.number * 10,
                transactions=orders.transactions,
            )
        )
    )
    codes += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    return max(map(abs, codes))
