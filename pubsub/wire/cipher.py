"""TLS that reads and writes many records by one system call.

Python's own TLS socket makes two for each record that it reads, and one for each that it writes:
ejabberd sends each stanza as a record, so a lot of acknowledgements would be as many again.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from pubsub.wire.forks import whole

#: How much is read from the socket in one go, in bytes.
CHUNK = 65536


def trusting(ca_file: str | None) -> ssl.SSLContext:
    """What is trusted, and what is agreed on.

    :param ca_file: PEM file of trusted authorities; None trusts the system's.
    :raises OSError: when it cannot be read, or holds none.
    """
    with whole():
        return ssl.create_default_context(cafile=ca_file)


class Cipher:
    """TLS on top of a socket that does not block; its methods are those of a socket.

    :param connected: the socket; whoever has opened it closes it.
    :param context: from :func:`trusting`.
    :param hostname: whom the peer's certificate must be made out to.
    """

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, hostname: str) -> None:
        self._socket = connected
        self._received = ssl.MemoryBIO()
        self._encrypted = ssl.MemoryBIO()
        self._unsent = b""
        with whole():
            self._tls = context.wrap_bio(self._received, self._encrypted, server_hostname=hostname)

    @property
    def has_unread(self) -> bool:
        """Whether there are bytes that no poll of the socket would show."""
        return self._received.pending > 0 or self._tls.pending() > 0

    @property
    def has_unsent(self) -> bool:
        """Whether the socket has not taken all that was encrypted."""
        return bool(self._unsent) or self._encrypted.pending > 0

    def agree(self) -> bool:
        """Go on with the handshake; returns whether it is done.

        :raises ssl.SSLError: when it fails; SSLEOFError when the peer has gone.
        :raises OSError: when the connection breaks.
        """
        while True:
            try:
                with whole():
                    self._tls.do_handshake()
            except ssl.SSLWantReadError:
                if not self._flush() or not self._receive():
                    return False
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()  # the peer is told what is wrong
                raise
            else:
                return self._flush()

    def send(self, data: memoryview) -> int:
        """Encrypt and send as much as can be sent without waiting.

        :returns: the number of bytes that were taken: all or none, and all of what was taken
            before is sent first.
        """
        if not self._flush():
            return 0
        try:
            with whole():
                sent = self._tls.write(data)
        except ssl.SSLWantReadError:
            return 0
        self._flush()
        return sent

    def recv(self, size: int) -> bytes:
        """All that has arrived, decrypted; about so many bytes at most.

        :returns: b"" when the peer has said goodbye, or is gone.
        :raises BlockingIOError: when nothing has.
        """
        data = self._decrypt(size)
        if data is None and self._receive():
            data = self._decrypt(size)
        # What is left of what was sent, and what TLS answers by itself; if the peer is gone that
        # is told after what it said before.
        with contextlib.suppress(OSError):
            self._flush()
        if data is None:
            raise BlockingIOError
        return data

    # Private

    def _flush(self) -> bool:
        """Send what is encrypted, if possible without waiting; returns whether all of it is."""
        while unsent := self._unsent or self._encrypted.read():
            self._unsent = unsent
            try:
                self._unsent = unsent[self._socket.send(unsent) :]
            except BlockingIOError:
                return False
        return True

    def _receive(self) -> bool:
        """Read from the socket; returns whether something has come, or the end."""
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return False
        if data:
            self._received.write(data)
        else:
            self._received.write_eof()
        return True

    def _decrypt(self, size: int) -> bytes | None:
        """What has been received, decrypted; None: nothing yet; b"": nothing will come any more."""
        found: list[bytes] = []
        length = 0
        while length < size:
            try:
                with whole():
                    data = self._tls.read(size - length)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                data = b""
            except ssl.SSLError:
                if not found:
                    raise
                break  # it will be raised again
            if not data:
                return b"".join(found)  # the end is told when all before it has been read
            found.append(data)
            length += len(data)
        return b"".join(found) if found else None
