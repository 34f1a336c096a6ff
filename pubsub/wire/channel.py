"""One open stream of a connection, with all that holds for it alone.

That is what was asked on it, which nodes are there, and what may be sent next.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from xmpp.simplexml import Node

from pubsub.exceptions import InvalidItem, PubSubError, StreamError
from pubsub.wire import stanzas
from pubsub.wire.ledger import Ledger, Pending
from pubsub.wire.session import Session

logger = logging.getLogger("pubsub.wire")

#: How much is handed to the socket ahead of what the server has read, in bytes.
BUFFER = 256 * 1024

#: How many nodes of a stream are remembered as existing, so that they are not created again.
REMEMBERED = 10_000


class Channel:
    """An open stream; it belongs to the thread that owns it.

    :param session: the stream itself.
    :param domain: whom to ping.
    :param answer_within: seconds that the server has for an answer.
    :param next_mark: gives the mark of the next item that is sent for the first time.
    :param is_careful: whether what comes first was lost with another stream, and one of it may be
        what that ended over.  Then the server is asked for a sign of life, one request is sent
        alone, then two, then four, each lot when the one before has been answered: so the one is
        soon found, even if the answers to those before it are lost with each stream.
    """

    def __init__(
        self,
        session: Session,
        domain: str,
        answer_within: float,
        next_mark: Callable[[], str],
        *,
        is_careful: bool = False,
    ) -> None:
        #: Ids that nobody can guess, so that nobody can answer in the server's place, begin so.
        self.name = secrets.token_hex(6)
        self.session = session
        self.ledger = Ledger(answer_within)
        #: What has been asked and is not written yet.
        self.buffer = bytearray()
        #: When the server has said something, by the monotonic clock.
        self.last_heard = time.monotonic()
        self._domain = domain
        self._next_mark = next_mark
        self._asked = 0
        self._nodes: dict[str, None] = {}  # in order of creation, to forget the oldest
        self._is_careful = False
        self._lot, self._left = 0, 0  # how many are sent at once, and may be sent yet
        if is_careful:
            self.ping()
            self._is_careful = True

    def knows(self, node: str) -> bool:
        """Whether a node was created on this stream, or found to exist; any thread may ask."""
        return node in self._nodes

    def accepts(self, pending: Pending[Any]) -> bool:
        """Whether a request may be sent now."""
        if len(self.buffer) >= BUFFER:
            return False
        if not self._is_careful or self.ledger.size == 0:
            return True
        return self._left > 0 and pending.sendings > 0

    def ask(self, pending: Pending[Any]) -> None:
        """Send a request, and before it the creation of its node if need be."""
        if not pending.starts():
            return
        request = pending.request
        if self._is_careful and pending.prepares is None:
            self._count(pending)
        if request.prepare is not None and request.node not in self._nodes:
            try:
                creation = request.prepare()
            except Exception as error:  # noqa: BLE001 (whatever the configuration holds)
                own = isinstance(error, PubSubError)
                pending.fail(error if own else InvalidItem(f"its node cannot be made: {error!r}"))  # type: ignore[arg-type]
                return
            self._create(creation, pending)
        if request.mark is not None and not pending.mark:
            pending.mark = self._next_mark()
        self._send(pending)
        if request.creates:
            self._note(request.node, pending.future)
        elif request.deletes:
            self._nodes.pop(request.node, None)

    def ping(self) -> Future[Any]:
        """Ask the server for a sign of life."""
        future: Future[Any] = Future()
        self.ask(Pending(stanzas.ping(self._domain), future))
        return future

    def write(self) -> None:
        """Write what can be written without waiting."""
        if self.buffer:
            del self.buffer[: self.session.write(self.buffer)]

    def read(self) -> None:
        """Take what has arrived, and give the answers to whom they belong.

        :raises StreamError: when the stream ended.
        """
        for stanza in self.session.read():
            self.last_heard = time.monotonic()
            self._handle(stanza)

    # Private

    def _count(self, pending: Pending[Any]) -> None:
        if pending.sendings == 0:
            self._is_careful = False  # all that was lost has been answered
        elif self.ledger.size == 0:
            self._lot = max(1, 2 * self._lot)
            self._left = self._lot
        self._left -= 1

    def _create(self, creation: stanzas.Request[None], item: Pending[Any]) -> None:
        future: Future[None] = Future()
        future.add_done_callback(partial(_log_refusal, creation.node))
        self.ask(Pending(creation, future, prepares=item))

    def _note(self, node: str, created: Future[Any]) -> None:
        """Remember a node as existing, unless its creation turns out to have failed."""
        self._nodes[node] = None
        if len(self._nodes) > REMEMBERED:
            del self._nodes[next(iter(self._nodes))]
        created.add_done_callback(partial(self._created, node))

    def _created(self, node: str, created: Future[Any]) -> None:
        if created.exception() is not None:
            self._nodes.pop(node, None)

    def _send(self, pending: Pending[Any]) -> None:
        self._asked += 1
        id = f"{self.name}{self._asked}"
        try:
            stanza = pending.request.to_xml(id, pending.mark).encode()
        except UnicodeEncodeError as error:  # a lone surrogate
            pending.fail(InvalidItem(f"it cannot be written: {error}"))
        else:
            self.ledger.add(id, pending)
            self.buffer += stanza

    def _handle(self, stanza: Node) -> None:
        if stanza.getName() != "iq":
            return  # messages and presence are addressed to somebody who does not listen
        if stanza.getAttr("type") in ("get", "set"):
            self.buffer += stanzas.answer(stanza).encode()
        else:
            self.ledger.settle(stanza)


def stream_of(answer: Node) -> str:
    """The name of the channel whose request this answers."""
    return str(answer.getAttr("id") or "")[:12]


def _log_refusal(node: str, created: Future[None]) -> None:
    error = created.exception()
    if error is not None and not isinstance(error, StreamError):  # then it will be made again
        logger.warning("Could not create the node %s: %s", node, error)
