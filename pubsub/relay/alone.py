"""Where a database knows no locks on rows, a relay sees to it that it is the only one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import connections

from pubsub.exceptions import AlreadyRelaying


@contextmanager
def alone(using: str) -> Iterator[None]:
    """Be the only relay of a database as long as the block lasts, unless it can be divided.

    The system lets go of the lock when the process ends, however it does.

    :raises AlreadyRelaying: when there is another one.
    """
    connection = connections[using]
    name = str(connection.settings_dict["NAME"])
    if connection.features.has_select_for_update or _is_in_memory(name):
        yield
        return
    # A file of its own: to close the database's would take SQLite's locks away.
    path = f"{name}-pubsub-relay"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.read(descriptor, 20).decode(errors="replace").strip()
            raise AlreadyRelaying(
                f"another pubsub_relay (process {other or 'unknown'}) is at work on {name}, and "
                "SQLite bears one only: end that one, or move to PostgreSQL or MySQL"
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
        with suppress(OSError):
            os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _is_in_memory(name: str) -> bool:
    return name == ":memory:" or "mode=memory" in name or not name
