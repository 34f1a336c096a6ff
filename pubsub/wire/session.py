"""One open, authenticated stream: it has all that was asked for, or it is not returned.

:func:`open_session` keeps the half-open stream to itself; what can be written and read without
waiting is all that an open one offers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from xmpp.simplexml import Node

from pubsub.exceptions import StreamLost
from pubsub.wire.account import Account
from pubsub.wire.stream import Stream

#: After so many reads the owner of the session gets a chance to write, whatever the server sends.
READS_AT_ONCE = 64


class Session:
    """An authenticated stream with a bound resource; made by :func:`open_session`.

    Not thread-safe: it belongs to the one thread that reads and writes it.
    """

    def __init__(self, stream: Stream, jid: str) -> None:
        self._stream = stream
        self._broken: StreamLost | None = None
        # The last words of the login may have brought more, and so may so many reads.
        self._may_hold_more = True
        #: The full JID that the server bound.
        self.jid = jid

    @property
    def server(self) -> str:
        """The server as ``host:port``."""
        return self._stream.transport.server

    @property
    def has_pending(self) -> bool:
        """Whether there is something to read, though the descriptor may not become readable."""
        return self._may_hold_more or self._stream.transport.has_pending or self._broken is not None

    @property
    def wants_write(self) -> bool:
        """Whether TLS has to write before it can go on reading."""
        return self._stream.transport.wants_write

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._stream.transport.fileno()

    def write(self, data: memoryview | bytearray) -> int:
        """Write what can be written without waiting; returns the number of bytes.

        That the stream is gone is told by :meth:`read`, after what arrived before its end.
        """
        try:
            return self._stream.transport.write(data)
        except StreamLost as error:
            self._broken = error
            return 0

    def read(self) -> Iterator[Node]:
        """The stanzas that have arrived, without waiting.

        :raises StreamError: after the last of them, when the stream ended: by error, by goodbye,
            or by what is no XMPP.
        """
        stream = self._stream
        reads = 0
        while reads < READS_AT_ONCE and stream.receive():
            reads += 1
        self._may_hold_more = reads == READS_AT_ONCE
        stanzas, stream.stanzas = stream.stanzas, []
        yield from stanzas
        if end := stream.end or self._broken:
            raise end

    def close(self) -> None:
        """Say goodbye if that is possible at once, and close (RFC 6120 §4.4)."""
        with contextlib.suppress(StreamLost):
            self._stream.transport.write(bytearray(b"</stream:stream>"))
        self.abandon()

    def abandon(self) -> None:
        """Close without a word: the stream is broken, and nobody would hear it."""
        self._stream.transport.close()


def open_session(account: Account, resource: str = "") -> Session:
    """Connect, secure, authenticate and bind (RFC 6120 §4 to 7).

    :param resource: what to bind; a session that has it already is ended by the server (§7.7.2.2),
        where it does not refuse that.  Empty: the server chooses.
    :raises ConnectError: when the server cannot be reached or does not answer in time.
    :raises TLSError: when there is no verified TLS; no credentials have been sent then.
    :raises AuthenticationError: when the server refuses the account.
    :raises StreamLost: when it ends the stream in between.
    """
    stream = Stream(account, resource)
    try:
        jid = stream.open()
    except BaseException:
        stream.transport.close()
        raise
    return Session(stream, jid)
