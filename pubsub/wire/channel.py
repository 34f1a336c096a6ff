"""One open stream of a connection, with all that holds for it alone.

That is what was asked on it, which nodes are there, and what may be sent next.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from xmpp.simplexml import Node

from pubsub.exceptions import InvalidItem, PubSubError, RequestRefused, StreamError
from pubsub.wire import stanzas
from pubsub.wire.ledger import Ledger, Pending
from pubsub.wire.session import Session

logger = logging.getLogger("pubsub.wire")

#: How much is handed to the socket ahead of what the server has read, in bytes.
BUFFER = 256 * 1024

#: From so many requests on that the server has yet to answer nobody hurries to bring it more.
MANY = 8

#: A server that takes less than that for a request would be without work, in seconds; and for so
#: many of them is waited at most.
LEAST, MOST = 60e-6, 64

#: How many nodes of a stream are remembered as existing, so that they are not created again.
REMEMBERED = 10_000

#: How often the creation of a node is tried again when it is refused for a reason that passes:
#: ejabberd 23.01 refuses some that other streams ask for at the same time.
TRIES, PASSING = 20, {"internal-server-error"}


class Channel:
    """An open stream; it belongs to the thread that owns it.

    :param session: the stream itself.
    :param domain: whom to ping.
    :param answer_within: seconds that the server has for an answer.
    :param next_mark: gives the mark of the next item that is sent for the first time.
    :param is_careful: whether something was lost with the last stream, and may be what that ended
        over.  Then the server is asked for a sign of life, one request is sent alone, then two,
        then four, each lot when the one before has been answered: so the one is soon found, even
        if the answers to those before it are lost with each stream.
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
        #: What has to wait until its node has been created; nothing overtakes it.
        self._waiting: Pending[Any] | None = None
        self._tries = 0
        #: When the creation is to be tried again, by the monotonic clock.
        self.resume_at: float | None = None
        self._without_node: Pending[Any] | None = None
        self._is_careful = False
        self._lot, self._left = 0, 0  # how many are sent at once, and may be sent yet
        if is_careful:
            self.ping()
            self._is_careful = True

    @property
    def is_writing(self) -> bool:
        """Whether there is something to be written."""
        return bool(self.buffer) or self.session.wants_write

    @property
    def leisure(self) -> float:
        """For how many seconds the server has enough to do, whatever it has answered meanwhile."""
        waiting = self.ledger.size
        return min(waiting, MOST) * LEAST if waiting >= MANY else 0.0

    def knows(self, node: str) -> bool:
        """Whether a node was created on this stream, or found to exist; any thread may ask."""
        return node in self._nodes

    def accepts(self, pending: Pending[Any]) -> bool:
        """Whether a request may be sent now, or its node be created."""
        if len(self.buffer) >= BUFFER or self._waiting is not None:
            return False
        if not self._is_careful or self.ledger.size == 0:
            return True
        return self._left > 0 and pending.sendings > 0

    def lacks_node(self, pending: Pending[Any]) -> bool:
        """Whether the node that a request needs has to be created first, by :meth:`create`."""
        request = pending.request
        if request.prepare is None or request.node in self._nodes:
            return False
        return pending is not self._without_node

    def create(self, pending: Pending[Any]) -> None:
        """Create the node that a request needs; nothing is accepted until the server has answered.

        The item must wait: the server would refuse it, or create the node as it pleases.
        """
        assert pending.request.prepare is not None
        self.resume_at = None
        self._without_node = None
        try:
            creation = pending.request.prepare()
        except Exception as error:  # noqa: BLE001 (whatever the configuration holds)
            is_ours = isinstance(error, PubSubError)
            pending.fail(error if is_ours else InvalidItem(f"its node cannot be made: {error!r}"))  # type: ignore[arg-type]
            self._without_node = pending
            return
        self._waiting = pending
        future: Future[None] = Future()
        future.add_done_callback(self._prepared)
        self.ask(Pending(creation, future, prepares=pending))

    def resume(self) -> None:
        """Try the creation of a node again, if it is time."""
        if self.resume_at is not None and time.monotonic() >= self.resume_at:
            assert self._waiting is not None
            self.create(self._waiting)

    def ask(self, pending: Pending[Any]) -> None:
        """Send a request."""
        if not pending.starts():
            return
        request = pending.request
        if self._is_careful and pending.prepares is None:
            self._count(pending)
        if request.mark is not None and not pending.mark:
            pending.mark = self._next_mark()
        self._send(pending)
        if request.creates:
            self._note(request.node, pending.future)
        elif request.deletes:
            self._nodes.pop(request.node, None)
        if request.also is not None:
            self.ask(Pending(request.also, Future(), prepares=pending.prepares or pending))

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

    def _prepared(self, created: Future[None]) -> None:
        """A node was created, or not: go on, or try again."""
        pending, error = self._waiting, created.exception()
        if pending is None or isinstance(error, StreamError):
            return  # the stream is gone: it will be created on the next one
        is_passing = isinstance(error, RequestRefused) and error.condition in PASSING
        if is_passing and self._tries < TRIES:
            self._tries += 1
            # By chance, or those who were in each other's way would be so again.
            self.resume_at = time.monotonic() + random.random() * 0.01 * self._tries  # noqa: S311
            return
        if error is not None:
            logger.warning("Could not create the node %s: %s", pending.request.node, error)
            self._without_node = pending
        self._waiting = None
        self._tries = 0

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
