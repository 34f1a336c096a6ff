"""Keeps a transaction from what the code of others does in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction


@contextmanager
def sheltered(using: str | None) -> Iterator[None]:
    """What fails in the block takes back its own queries, and leaves the transaction as it was.

    A statement that fails would make PostgreSQL refuse all that come after it.  A savepoint is
    made before the first query; a block without one costs nothing.

    :param using: database alias; None means the default one.
    """
    connection = transaction.get_connection(using)
    if not connection.in_atomic_block or connection.needs_rollback:
        yield
        return
    waiting = len(connection.run_on_commit)
    savepoints: list[Any] = []

    def execute(call: Callable[..., Any], *query: Any) -> Any:
        if not savepoints:
            savepoints.append(None)  # what makes it is a query, too
            savepoints.append(connection.savepoint())
        return call(*query)

    try:
        with connection.execute_wrapper(execute):
            yield
    except BaseException:
        if savepoints:
            transaction.set_rollback(False, using)
            connection.rollback_exc = None  # it would keep alive what it has passed through
            connection.savepoint_rollback(savepoints[-1])
            # What was to be done after the commit concerned what has been taken back.
            del connection.run_on_commit[waiting:]
        raise
    if savepoints:
        connection.savepoint_commit(savepoints[-1])
