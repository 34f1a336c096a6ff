"""Faults at random, one after the other, from a seed: what ``make soak`` does to a scene."""

import random
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.postgres import Postgres
from tests.proxy import Proxy
from tests.server.faults.processes import Process
from tests.server.faults.scene import Scene

#: How many relays and writers there are, unless one is being replaced.
RELAYS = 2
WRITERS = 2


class Chaos:
    """Makes faults; after each one everything is there again.

    :param proxy: between the relays and ejabberd.
    :param orders: what each writer is told.
    """

    def __init__(
        self, scene: Scene, proxy: Proxy, postgres: Postgres, seed: int, **orders: Any
    ) -> None:
        self._scene = scene
        self._proxy = proxy
        self._postgres = postgres
        self._random = random.Random(seed)
        self._orders = {"transactions": None, "seed": seed, **orders}
        self._relays: list[Process] = []
        self._writers: list[Process] = []
        self.faults: list[Callable[[], str]] = [
            *(self.cut, self.cut_politely, self.freeze, self.close),
            *(self.kill_ejabberd, self.crash_postgresql, self.kill_postgresql),
            *(self.kill_relay, self.replace_relay, self.kill_writer, self.replace_writer),
        ]

    def begin(self) -> None:
        """Start the relays and the writers."""
        self._relays = [self._scene.relay() for _ in range(RELAYS)]
        self._writers = [self._scene.writer(**self._orders) for _ in range(WRITERS)]

    def pause(self) -> float:
        """How long to wait before the next fault, in seconds."""
        return self._random.uniform(0.2, 2.0)

    def strike(self) -> str:
        """Make a fault; returns what it was."""
        return self._random.choice(self.faults)()

    def end(self) -> None:
        """Let the writers finish; the relays go on."""
        for writer in self._writers:
            writer.tell()
        for writer in self._writers:
            writer.done()

    def end_relays(self) -> None:
        """Stop the relays, which has to succeed."""
        for relay in self._relays:
            relay.stop()

    # The faults

    def cut(self) -> str:
        self._proxy.cut()
        return "the streams are cut"

    def cut_politely(self) -> str:
        self._proxy.cut(rst=False)
        return "the streams are closed"

    def freeze(self) -> str:
        seconds = self._random.uniform(0.5, 4)
        self._proxy.freeze(answers=self._random.random() < 0.7)
        time.sleep(seconds)
        self._proxy.thaw()
        return f"the streams freeze for {seconds:.1f} s"

    def close(self) -> str:
        self._proxy.go_down(rst=self._random.random() < 0.5)
        time.sleep(self._random.uniform(0.1, 2))
        self._proxy.come_up()
        return "the server refuses connections"

    def kill_ejabberd(self) -> str:
        self._scene.stack.ejabberd.kill(sig=signal.SIGKILL)
        self._scene.stack.ejabberd.start()
        return "ejabberd is killed"

    def crash_postgresql(self) -> str:
        self._postgres.restart()
        return "PostgreSQL crashes"

    def kill_postgresql(self) -> str:
        self._postgres.kill()
        self._postgres.start()
        return "PostgreSQL is killed"

    def kill_relay(self) -> str:
        self._pick(self._relays).kill()
        self._relays.append(self._scene.relay())
        return "a relay is killed"

    def replace_relay(self) -> str:
        self._relays.append(self._scene.relay())
        self._pick(self._relays).stop()
        return "a relay is replaced"

    def kill_writer(self) -> str:
        self._pick(self._writers).kill()
        self._writers.append(self._scene.writer(**self._orders))
        return "a writer is killed"

    def replace_writer(self) -> str:
        self._writers.append(self._scene.writer(**self._orders))
        self._pick(self._writers).stop()
        return "a writer is replaced"

    # Private

    def _pick(self, processes: list[Process]) -> Process:
        return processes.pop(self._random.randrange(len(processes)))
