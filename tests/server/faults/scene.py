"""One run: a database, a stack, writers, relays and witnesses, and what it all came to."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.test import override_settings

from pubsub.backends.xmpp import XMPPBackend
from pubsub.devstack import Stack
from tests.server.faults import ledger
from tests.server.faults.book import Orders, read
from tests.server.faults.databases import Database
from tests.server.faults.ledger import Verdict
from tests.server.faults.processes import Process
from tests.server.faults.witness import Witness
from tests.server.processes import settings_file
from tests.settings import INSTALLED_APPS
from tests.waiting import until

OUTBOX = "pubsub.backends.outbox.OutboxBackend"
XMPP = "pubsub.backends.xmpp.XMPPBackend"
UNSENT = "SELECT count(*) FROM pubsub_outboxitem WHERE state IN (0, 1, 2)"
SET_ASIDE = "SELECT error FROM pubsub_outboxitem WHERE state = 4"
MARKS = "SELECT name FROM testapp_place"

#: How long the relay has for what is left when all writers have ended, in seconds.
PATIENCE = 40.0


class Scene:
    """What a fault happens to.  A context manager: its processes and witnesses end with it.

    :param stack: a running ejabberd.
    :param database: fresh.
    :param folder: for books, output and settings.
    :param port: where the processes find ejabberd, if not directly: that of a proxy.
    :param backend: PUBSUB_BACKEND of the writers.
    :param nodes: how many nodes are published to by hand.
    """

    def __init__(
        self,
        stack: Stack,
        database: Database,
        folder: Path,
        *,
        port: int | None = None,
        backend: str = OUTBOX,
        nodes: int = 3,
        **settings: Any,
    ) -> None:
        self.database = database
        self.stack = stack
        self.folder = folder
        self.prefix = f"/faults/{uuid.uuid4().hex[:8]}"
        self.names = ["authors", "tags", *(f"hand/{n}" for n in range(nodes))]
        self.nodes = [f"{self.prefix}/{name}" for name in self.names]
        self.witnesses: list[Witness] = []
        self.processes: list[Process] = []
        self._hand_nodes = nodes
        self._writers = 0
        self._settings = {
            **stack.settings,
            "XMPP_PORT": port or stack.settings["XMPP_PORT"],
            "XMPP_TIMEOUT": 5,
            "INSTALLED_APPS": [*INSTALLED_APPS, "tests.server.faults"],
            "DATABASES": {"default": database.settings},
            "PUBSUB_BACKEND": backend,
            "PUBSUB_NODE_DEFAULTS": {"max_items": 10_000},
            "FAULTS_NODES": self.prefix,
            **settings,
        }

    def __enter__(self) -> "Scene":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._environment = settings_file(self.folder, self._settings)
        with override_settings(**self.stack.settings, XMPP_TIMEOUT=20):
            server = XMPPBackend()
            try:
                for made in [
                    server.create_node(node, {"max_items": 10_000}) for node in self.nodes
                ]:
                    made.result(30)
            finally:
                server.close()
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            if process.is_running:
                process.kill()
        for witness in self.witnesses:
            witness.__exit__()

    def watch(self, *names: str) -> list[Witness]:
        """Let witnesses subscribe to all nodes."""
        for name in names:
            self.witnesses.append(Witness(name, self.stack.settings, self.nodes).__enter__())
        return self.witnesses

    def relay(self, *, waits: bool = True, **settings: Any) -> Process:
        """Start a relay, and wait until it relays.

        :param settings: in which it differs from the scene.
        """
        relay = self.run("pubsub_relay", **settings)
        if waits:
            relay.until_said("Relaying")
        return relay

    def writer(self, **orders: Any) -> Process:
        """Start a writer, and wait until it writes; some of its rows are its own."""
        self._writers += 1
        name = f"w{self._writers}"
        book = self.folder / f"{name}.book"
        told = Orders(str(book), name, self._writers, nodes=self._hand_nodes, **orders)
        writer = self._start(name, "write_and_note", told.as_json())
        writer.until_said("Writing")
        return writer

    def run(self, *words: str, **settings: Any) -> Process:
        """Start any command of manage.py."""
        return self._start(f"relay-{len(self.processes)}", *words, **settings)

    def committed(self) -> int:
        """How many transactions have been committed so far."""
        return len(self.database.column(MARKS))

    def until_committed(self, count: int) -> None:
        """Wait until there are so many transactions."""
        until(lambda: self.committed() >= count, f"{count} transactions", PATIENCE)

    def until_sent(self) -> None:
        """Wait until nothing waits in the outbox."""
        until(lambda: self.database.column(UNSENT) == [0], "an outbox that is empty", PATIENCE)

    def judge(self, patience: float = PATIENCE) -> Verdict:
        """What it came to, once nothing is left in the outbox, or the time for it is over."""
        end = time.monotonic() + patience
        while (verdict := self._verdict()).faults and time.monotonic() < end:
            time.sleep(0.2)
        return verdict

    def check(self, patience: float = PATIENCE) -> Verdict:
        """Fail unless nothing was lost, out of order, or wrong."""
        verdict = self.judge(patience)
        assert verdict.is_clean, f"\n{verdict.table()}\n{self.last_words()}"
        assert verdict.committed > 0
        return verdict

    def last_words(self) -> str:
        """What the processes wrote to stderr last."""
        words = []
        for process in self.processes:
            lines = process.errors.splitlines()[-5:]
            words += [f"{process.name}: {line}" for line in lines]
        return "\n".join(words)

    # Private

    def _start(self, name: str, *words: str, **settings: Any) -> Process:
        environment = self._environment
        if settings:
            folder = self.folder / f"settings of {name}"
            folder.mkdir()
            environment = settings_file(folder, {**self._settings, **settings})
        process = Process(name, self.folder, environment, *words)
        self.processes.append(process)
        return process

    def _verdict(self) -> Verdict:
        marks = set(self.database.column(MARKS))
        reading = read(self.folder.glob("*.book"), marks)
        held = {node: self.witnesses[0].fetch(node) for node in self.nodes}
        for witness in self.witnesses[1:]:
            witness.fetch(self.nodes[0])  # what it was told before has been noted then
        diaries = [witness.diary.copy() for witness in self.witnesses]
        verdict = ledger.judge(reading.committed, reading.undone, held, diaries)
        verdict.faults += [
            ledger.Fault(ledger.LOST, "node", f"the database has not committed {name}")
            for name in reading.missing
        ]
        if self._settings["PUBSUB_BACKEND"] == OUTBOX:
            verdict.faults += self._left_behind()
        return verdict

    def _left_behind(self) -> Iterator[ledger.Fault]:
        (count,) = self.database.column(UNSENT)
        if count:
            yield ledger.Fault(ledger.LOST, "node", f"{count} rows are still in the outbox")
        for error in self.database.column(SET_ASIDE):
            yield ledger.Fault(ledger.LOST, "node", f"a row was set aside: {error}")
