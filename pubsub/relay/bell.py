"""What wakes the workers: PostgreSQL tells of new rows by NOTIFY; elsewhere they look often."""

from __future__ import annotations

import logging
import select
import threading
from typing import Any

from django.db import Error, connections

from pubsub.wire.wakeup import Wakeup

logger = logging.getLogger("pubsub.relay")

#: What the trigger of the outbox calls (see the migration).
CHANNEL = "pubsub_outbox"

#: Seconds between two looks at the outbox: where NOTIFY wakes, and where it does not.
RARELY, OFTEN = 1.0, 0.1


class Bell:
    """Rings for all workers of a database at once."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        #: How often it has rung; who remembers it misses nothing.
        self.rings = 0

    def ring(self) -> None:
        """Wake everybody."""
        with self._rung:
            self.rings += 1
            self._rung.notify_all()

    def wait(self, heard: int, seconds: float) -> None:
        """Wait until it has rung since, or the time is over.

        :param heard: what :attr:`rings` was before the outbox was looked at.
        """
        with self._rung:
            self._rung.wait_for(lambda: self.rings != heard, seconds)


class Ear:
    """Hears NOTIFY in a thread of its own, and rings.

    :param using: alias of a PostgreSQL database.
    """

    def __init__(self, using: str, bell: Bell) -> None:
        self._using = using
        self._bell = bell
        self._stopping = threading.Event()
        self._wakeup = Wakeup()
        self._thread = threading.Thread(target=self._run, name=f"pubsub hears {using}", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._stopping.set()
        self._wakeup.wake()
        self._thread.join()
        self._wakeup.close()

    # Private

    def _run(self) -> None:
        connection = connections[self._using]
        while not self._stopping.is_set():
            try:
                with connection.cursor() as cursor:
                    cursor.execute(f"LISTEN {CHANNEL}")
                self._bell.ring()  # nobody has told of what came before
                self._listen(connection)
            except Error as error:
                logger.info("Nobody tells of new rows in %s for now: %s", self._using, error)
                connection.close()
                self._stopping.wait(RARELY)
        connection.close()

    def _listen(self, connection: Any) -> None:
        raw = connection.connection
        poll = select.poll()
        poll.register(raw.fileno(), select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while not self._stopping.is_set():
            poll.poll()
            with connection.wrap_database_errors:
                _consume(raw)
            self._bell.ring()


def _consume(raw: Any) -> None:
    """Read the notifications that have come, with either of Django's drivers."""
    if hasattr(raw, "pgconn"):  # psycopg 3
        raw.pgconn.consume_input()
        while raw.pgconn.notifies() is not None:
            pass
    else:
        raw.poll()
        raw.notifies.clear()
