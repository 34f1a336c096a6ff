"""One open stream, driven by the thread that uses it: ask, await the answers, hear the rest.

There is no queue and no thread, and a stream that is lost stays lost.  Whoever drives it may be
interrupted at any point (Ctrl-C); :attr:`Dialogue.is_sound` tells whether one can go on.
"""

from __future__ import annotations

import secrets
import select
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

from xmpp.simplexml import Node

from pubsub.exceptions import StreamLost
from pubsub.wire import stanzas
from pubsub.wire.account import Account
from pubsub.wire.ledger import Ledger, Pending
from pubsub.wire.session import open_session
from pubsub.wire.transport import Deadline

T = TypeVar("T")


class Dialogue:
    """A stream that is open when this has been made.

    :param account: whom to log in as, and where.
    :param hear: gets each message and each presence.
    :param ping_after: seconds of silence after which the server is asked for a sign of life.
    :param answer_within: seconds that the server has for an answer.
    :raises StreamError: when no stream can be opened.
    """

    def __init__(
        self,
        account: Account,
        hear: Callable[[Node], None],
        *,
        ping_after: float,
        answer_within: float,
    ) -> None:
        self._account = account
        self._hear = hear
        self._ping_after = ping_after
        self._answer_within = answer_within
        self._ledger = Ledger(answer_within)
        self._outgoing = bytearray()
        # Ids that nobody can guess, so that nobody can answer in the server's place.
        self._id_prefix = secrets.token_hex(6)
        self._asked = 0
        #: Whether nothing has broken, and every stanza was written and read as a whole.
        self.is_sound = True
        self._session = open_session(account)
        self._last_heard = time.monotonic()

    @property
    def jid(self) -> str:
        """The full JID that the server bound."""
        return self._session.jid

    def ask(self, request: stanzas.Request[T]) -> Future[T]:
        """Note a request, to be sent and answered while the stream is driven."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._asked += 1
        id = f"{self._id_prefix}{self._asked}"
        stanza = request.to_xml(id).encode()
        self._ledger.add(id, Pending(request, future))
        self._outgoing += stanza
        return future

    def drive_until_done(
        self, futures: Iterable[Future[Any]], deadline: Deadline | None = None
    ) -> None:
        """Drive the stream until all requests are answered.

        :raises StreamError: when it ended, or the time is over.
        """
        waiting = list(futures)
        while not all(future.done() for future in waiting):
            if deadline is not None and not deadline.remaining():
                raise StreamLost(self._session.server, f"no answer within {deadline.seconds:g} s")
            self.drive(deadline)

    def drive(self, deadline: Deadline | None = None) -> None:
        """One turn: wait until there is something to do, write, read.

        :raises StreamError: when the stream ended, or the server does not answer.
        """
        self._wait(deadline)
        self.is_sound = False
        if self._outgoing:
            del self._outgoing[: self._session.write(self._outgoing)]
        for stanza in self._session.read():
            self._last_heard = time.monotonic()
            self._handle(stanza)
        self._ledger.expire(self._too_late)
        if self._ledger.silence() is not None:
            raise self._too_late()
        if self._ledger.size == 0 and self._silent_seconds() > self._ping_after:
            self.ask(stanzas.ping(self._account.domain))
        self.is_sound = True

    def close(self) -> None:
        """End the stream, with a goodbye if it is worth one."""
        if self.is_sound:
            self._session.close()
        else:
            self._session.abandon()

    # Private

    def _handle(self, stanza: Node) -> None:
        if stanza.getName() != "iq":
            self._hear(stanza)
        elif stanza.getAttr("type") in ("get", "set"):
            self._outgoing += stanzas.answer(stanza).encode()
        else:
            self._ledger.settle(stanza)

    def _wait(self, deadline: Deadline | None) -> None:
        if self._session.has_pending:
            return
        if self._ledger.size:
            seconds = self._answer_within / 10
        else:
            seconds = max(0.0, self._ping_after - self._silent_seconds()) + 0.001
        if deadline is not None:
            seconds = min(seconds, deadline.remaining())
        writing = select.POLLOUT if self._outgoing or self._session.wants_write else 0
        poll = select.poll()
        poll.register(self._session, select.POLLIN | writing)
        poll.poll(seconds * 1000)

    def _silent_seconds(self) -> float:
        return time.monotonic() - self._last_heard

    def _too_late(self) -> StreamLost:
        return StreamLost(self._session.server, f"no answer within {self._answer_within:g} s")
