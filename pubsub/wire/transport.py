"""The bytes below a stream: TCP and TLS, never blocking longer than it was told to.

Knows sockets and certificates; knows no XML and no XMPP.  It replaces xmpppy's own TCP and TLS
plug-ins, which switch certificate checks off, swallow every error of ``send`` and wait with
``select`` (no descriptor above 1023).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
import ssl
import threading
import time
import weakref
from concurrent import futures
from concurrent.futures import Future
from functools import partial
from typing import Any

import xmpp

from pubsub.exceptions import ConnectError, StreamLost, TLSError
from pubsub.wire.cipher import Cipher, trusting

#: How much is read or written in one go, in bytes.
CHUNK = 65536


class Deadline:
    """A point in time that every step of an operation must keep.

    :param seconds: the time allowed from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """The seconds that are left, never negative."""
        return max(0.0, self._end - time.monotonic())


class Transport(xmpp.client.PlugIn):  # type: ignore[misc]
    """A non-blocking TCP connection that can be turned into TLS.

    An xmpppy plug-in: once plugged into an ``xmpp.Client`` it is the client's ``send``, so that
    xmpppy's dispatcher writes its stream headers through it.

    :param host: name or address to connect to.
    :param port: TCP port.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._exported_methods = [self.send]
        self.host = host
        self.port = port
        self._socket: socket.socket | None = None
        self._tls: Cipher | None = None
        self._deadline = Deadline(0)
        _transports.add(self)

    @property
    def server(self) -> str:
        """The peer as it is named in errors: ``host:port``."""
        return f"{self.host}:{self.port}"

    def plugin(self, owner: xmpp.Client) -> str:
        """Called by xmpppy when this is plugged into a client."""
        owner.Connection = self
        return "ok"

    def connect(self, deadline: Deadline) -> None:
        """Open the TCP connection.

        :raises ConnectError: when no address of the host accepts it in time.
        """
        self._deadline = deadline
        try:
            connected = connected_to(self.host, self.port, deadline)
        except (OSError, ValueError, OverflowError) as error:  # no host, no name, no port
            reason = "timed out" if isinstance(error, TimeoutError) else str(error)
            raise ConnectError(self.server, f"cannot connect: {reason}") from error
        # Small stanzas must not wait for the acknowledgement of earlier ones.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setblocking(False)
        self._socket = connected

    def start_tls(self, domain: str, ca_file: str | None) -> None:
        """Turn the connection into verified TLS.

        :param domain: the XMPP domain that the certificate must be made out to (RFC 6120
            §13.7.2.1), whatever host was connected to.
        :param ca_file: PEM file of trusted authorities; None trusts the system's.
        :raises TLSError: when the certificate does not verify or TLS cannot be agreed on.
        """
        try:
            context = trusting(ca_file)
        except OSError as error:
            raise TLSError(self.server, f"cannot read the CA file {ca_file!r}: {error}") from error
        try:
            self._tls = tls = Cipher(self._open(), context, domain)
            while not tls.agree():
                self._wait(select.POLLOUT if tls.has_unsent else select.POLLIN)
        except ssl.SSLCertVerificationError as error:
            raise TLSError(
                self.server,
                f"its certificate is not valid for {domain!r}: {error.verify_message}; "
                "set XMPP_CA_FILE if it is signed by an authority of your own",
            ) from error
        except ssl.SSLEOFError as error:
            raise StreamLost(self.server, "the connection broke while TLS began") from error
        except (ssl.SSLError, ValueError) as error:
            raise TLSError(self.server, f"TLS failed: {error}") from error
        except OSError as error:
            raise StreamLost(self.server, f"the connection broke: {error}") from error

    def is_loopback(self) -> bool:
        """Whether the peer is this very machine, so that clear text leaves it nowhere.

        :raises StreamLost: when the peer is gone.
        """
        try:
            return is_loopback(self._open())
        except OSError as error:  # it has reset the connection since it accepted it
            raise StreamLost(self.server, f"the connection broke: {error}") from error

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._open().fileno()

    def send(self, data: str) -> None:
        """Write all of ``data``, waiting until the deadline of :meth:`connect` at most.

        For the opening of a stream only; an open stream is written with :meth:`write`.
        """
        unsent = memoryview(data.encode())
        while unsent:
            sent = self.write(unsent)
            unsent = unsent[sent:]
            if unsent:
                self._wait(select.POLLOUT)

    def write(self, data: memoryview | bytearray) -> int:
        """Write what the kernel takes now.

        :returns: the number of bytes taken; the same bytes must be offered again after 0.
        :raises StreamLost: when the peer is gone.
        """
        try:
            return (self._tls or self._open()).send(memoryview(data)[:CHUNK])
        except BlockingIOError:
            return 0
        except OSError as error:
            raise StreamLost(self.server, f"the connection broke: {error}") from error

    def read(self) -> bytes:
        """Read what is there now.

        :returns: b"" when nothing is.
        :raises StreamLost: when the peer closed the connection or is gone.
        """
        try:
            data = (self._tls or self._open()).recv(CHUNK)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise StreamLost(self.server, f"the connection broke: {error}") from error
        if not data:
            raise StreamLost(self.server, "the server closed the connection")
        return data

    @property
    def has_pending(self) -> bool:
        """Whether TLS holds decrypted bytes that no poll of the descriptor would show."""
        return self._tls is not None and self._tls.has_unread

    @property
    def wants_write(self) -> bool:
        """Whether TLS has something left that must be written before anything else."""
        return self._tls is not None and self._tls.has_unsent

    def wait_readable(self) -> None:
        """Wait for the peer's bytes, until the deadline of :meth:`connect` at most.

        :raises ConnectError: when the time is over.
        """
        if not (self.has_pending and self._deadline.remaining()):
            self._wait(select.POLLIN)

    def close(self) -> None:
        """Close the descriptor; nothing is said to the peer."""
        if self._socket is not None:
            self._socket.close()

    # Private

    def _open(self) -> socket.socket:
        if self._socket is None:
            raise ConnectError(self.server, "not connected")
        return self._socket

    def _wait(self, events: int) -> None:
        poll = select.poll()
        poll.register(self._open(), events)
        remaining = self._deadline.remaining()
        # A peer that always has a byte for us must not make us forget the time.
        if not remaining or not poll.poll(remaining * 1000):
            raise ConnectError(
                self.server, f"no answer within {self._deadline.seconds:g} s while logging in"
            )


def connected_to(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connect to one of the host's addresses; each gets its share of the time that is left.

    :raises OSError, ValueError, OverflowError: when none of them accepts it in time.
    """
    found = _resolve(host, port, deadline.remaining())
    for left in range(len(found), 0, -1):
        family, kind, protocol, _, address = found[-left]
        connected = socket.socket(family, kind, protocol)
        connected.settimeout(max(deadline.remaining() / left, 0.001))
        try:
            connected.connect(address)
        except OSError:
            connected.close()
            if left == 1:
                raise
        else:
            return connected
    raise OSError("it has no address")


def is_loopback(peer: socket.socket) -> bool:
    """Whether the peer is this very machine, so that clear text leaves it nowhere."""
    address = peer.getpeername()[0]
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _resolve(host: str, port: int, seconds: float) -> list[Any]:
    """What getaddrinfo says, which knows no time limit and so gets a thread of its own.

    :raises OSError: when it has said nothing in time, too.
    """
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    with contextlib.suppress(socket.gaierror):
        return ask(flags=socket.AI_NUMERICHOST)  # an address: there is nothing to look up
    answer: Future[list[Any]] = Future()

    def look_up() -> None:
        try:
            answer.set_result(ask())
        except (OSError, ValueError, OverflowError) as error:
            answer.set_exception(error)

    thread = threading.Thread(target=look_up, name=f"pubsub looks up {host}", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # since Python 3.12 there are no new threads at the exit
        return ask()
    try:
        return answer.result(seconds)
    except futures.TimeoutError as error:  # Python 3.10 has one of its own
        raise OSError(f"nobody has said in time which address {host!r} has") from error


_transports: weakref.WeakSet[Transport] = weakref.WeakSet()


def _close_parents() -> None:
    """In a forked child: the streams are the parent's, those that are being opened, too."""
    for transport in list(_transports):
        transport.close()


os.register_at_fork(after_in_child=_close_parents)
