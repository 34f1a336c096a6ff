"""All workers of a relay, each in a thread with a connection to the database of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence

from django.db import Error, connections

from pubsub.backends import import_backend
from pubsub.backends.base import BaseBackend
from pubsub.conf import conf
from pubsub.exceptions import PubSubError, ServerLost
from pubsub.models import State
from pubsub.relay.bell import OFTEN, RARELY, Bell, Ear
from pubsub.relay.lanes import Stripe, open_lanes
from pubsub.relay.worker import SETTLED, Worker

logger = logging.getLogger("pubsub.relay")

#: Seconds after an error of the server, which has been waited for already, and of the database.
PAUSE, LONG_PAUSE = 0.2, 1.0


class Crew:
    """Relays what is in the outboxes of some databases, until it is told to stop.

    A context manager: the workers are at work within the block.

    :param using: aliases of the databases.
    :param drains: whether workers end when there is nothing left, and wait for no interval.
    """

    def __init__(self, using: Sequence[str], *, drains: bool = False) -> None:
        self._drains = drains
        self._stopping = threading.Event()
        backend_class = import_backend(conf.relay_backend, "PUBSUB_RELAY_BACKEND")
        self._backend: BaseBackend = backend_class.for_relay()
        self._bells = {alias: Bell() for alias in using}
        self._ears = [
            Ear(alias, bell)
            for alias, bell in self._bells.items()
            if connections[alias].vendor == "postgresql"
        ]
        self.workers = [
            Worker(Stripe(alias, number, conf.connections), self._backend, throttles=not drains)
            for alias in using
            for number in range(conf.connections)
        ]
        self._threads = [
            threading.Thread(target=self._work, args=[worker], name=f"pubsub relays {number}")
            for number, worker in enumerate(self.workers)
        ]
        #: Why a worker cannot go on at the moment, or could not drain its lanes.
        self.troubles: dict[Worker, BaseException] = {}

    def __enter__(self) -> Crew:
        try:
            for alias in self._bells:
                open_lanes(alias)
            for ear in self._ears:
                ear.start()
            for thread in self._threads:
                thread.start()
        except BaseException:  # SIGTERM, too: those that have started would never end
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        for thread in self._threads:
            thread.join()
        for ear in self._ears:
            ear.stop()
        self._backend.close()

    @property
    def counts(self) -> Counter[str]:
        """How many rows were ``sent``, ``read``, ``refused`` and put off until ``later``."""
        return sum((worker.counts for worker in self.workers), Counter())

    @property
    def is_at_work(self) -> bool:
        """Whether a worker has not ended yet."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Let the workers end when they have done what they have in their hands."""
        self._stopping.set()
        for bell in self._bells.values():
            bell.ring()

    def wait(self, seconds: float) -> None:
        """Wait until all workers have ended, or the time is over."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    # Private

    def _work(self, worker: Worker) -> None:
        """The life of a worker's thread."""
        using = worker.stripe.using
        bell = self._bells[using]
        connection = connections[using]
        look = RARELY if connection.vendor == "postgresql" else OFTEN
        since, moved = time.monotonic(), 0
        try:
            while not self._stopping.is_set():
                heard = bell.rings
                try:
                    done = worker.turn()
                    if self._drains and not done and self._is_drained(worker):
                        return
                    if (counts := worker.counts["sent"] + worker.counts["read"]) != moved:
                        since, moved = time.monotonic(), counts
                    if self._drains and time.monotonic() - since > conf.timeout:
                        raise ServerLost("the server refuses what is left, for now")
                except Exception as error:  # noqa: BLE001 (whatever it is, the others go on)
                    self._in_trouble(worker, error)
                    if self._drains and time.monotonic() - since > conf.timeout:
                        return
                    continue
                if self.troubles.pop(worker, None) is not None:
                    logger.info("Relaying again")
                if not self._drains:
                    since = time.monotonic()
                if not done:
                    bell.wait(heard, min(look, worker.patience))
        finally:
            connection.close()

    def _is_drained(self, worker: Worker) -> bool:
        """Whether nothing is left in the lanes of a worker."""
        unfinished = [State.UNREAD, State.WAITING, State.LATER]
        rows = worker.stripe.items()
        if rows.filter(state__in=unfinished).exists():
            return False
        if rows.filter(state=State.SENT).exists():
            self._stopping.wait(SETTLED)
            return worker.settle()
        return True

    def _in_trouble(self, worker: Worker, error: BaseException) -> None:
        known = self.troubles.get(worker)
        self.troubles[worker] = error
        worker.forget()
        is_ours = isinstance(error, PubSubError)
        if str(known) != str(error):
            trace = None if isinstance(error, (PubSubError, Error)) else error
            logger.warning("Cannot relay for now: %s", error, exc_info=trace)
        if not is_ours:
            # A connection to a database that has gone does not come back by itself.
            connections[worker.stripe.using].close()
        self._stopping.wait(PAUSE if is_ours else LONG_PAUSE)
