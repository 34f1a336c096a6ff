"""Guests: visitors without an account, brought to where they listen to a node and then given to a
crowd.  Each says what a page's client says, and nothing is parsed that need not be."""

from __future__ import annotations

import base64
import re
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from xml.sax.saxutils import quoteattr

from bench.crowd import Crowd
from bench.errors import BenchError

AT_ONCE = 32  # guests who come at the same time
ATTEMPTS = 3  # ejabberd 23.01 closes one WebSocket in some thousands right after the upgrade
PATIENCE = 20.0  # seconds
JID = re.compile(rb"<jid>([^<]+)</jid>")
SID = re.compile(rb"""\bsid=['"]([^'"]+)['"]""")
RESULT = re.compile(rb"""<iq [^>]*type=['"]result['"]""")
CLIENT = 'xmlns="jabber:client"'


@dataclass(frozen=True)
class Place:
    """Where guests come in, and what they listen to.

    :param port: of 127.0.0.1: ejabberd's, or that of nginx.
    :param domain: the guests' virtual host.
    :param service: that of pubsub.
    """

    port: int
    domain: str
    service: str
    node: str


class Guest(Protocol):
    """Comes, subscribes, and joins a crowd."""

    def __call__(self, place: Place, crowd: Crowd) -> None: ...


class Reader:
    """What a socket gives, piece by piece.

    :raises ConnectionError: when there is nothing more.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.rest = b""

    def until(self, end: bytes) -> bytes:
        """All up to these bytes, and with them."""
        while end not in self.rest:
            self._more()
        return self.exactly(self.rest.index(end) + len(end))

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self.rest) < size:
            self._more()
        piece, self.rest = self.rest[:size], self.rest[size:]
        return piece

    def _more(self) -> None:
        got = self._socket.recv(65536)
        if not got:
            raise ConnectionError("the server has closed the connection")
        self.rest += got


def connected(port: int) -> socket.socket:
    """A connection to a port of this machine."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


# WebSocket (RFC 7395)


def upgraded(sock: socket.socket, reader: Reader, path: str, host: str, protocol: str = "") -> None:
    """Make a WebSocket of a connection.

    :param protocol: the subprotocol to ask for.
    :raises ConnectionError: when the server does not want to.
    """
    wanted = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{wanted}\r\n".encode()
    )
    answer = reader.until(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"no WebSocket: {answer[:60]!r}")


def frame(text: str) -> bytes:
    """A text frame of a client, whose mask is zero."""
    data = text.encode()
    size = len(data)
    head = bytes([0x81, 0x80 | size]) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + bytes(4) + data


def next_frame(reader: Reader) -> bytes:
    """What the server says next."""
    _, size = reader.exactly(2)
    if size >= 126:
        size = int.from_bytes(reader.exactly(2 if size == 126 else 8), "big")
    return reader.exactly(size)


def by_websocket(place: Place, crowd: Crowd) -> None:
    """Come over WebSocket."""
    sock = connected(place.port)
    try:
        reader = Reader(sock)
        upgraded(sock, reader, "/ws", f"127.0.0.1:{place.port}", "xmpp")
        opening = (
            f'<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="{place.domain}" version="1.0"/>'
        )

        def ask(text: str, answer: str) -> bytes:
            sock.sendall(frame(text))
            while answer.encode() not in (said := next_frame(reader)):
                if b"<close" in said or b"<failure" in said or b"stream:error" in said:
                    raise ConnectionError(f"the server says {said[:300]!r}")
            return said

        ask(opening, "features")
        ask(auth(), "<success")
        ask(opening, "features")
        jid = JID.search(ask(bind(), "<jid>"))
        assert jid is not None
        accepted(ask(subscribe(place, jid[1].decode()), "<iq"))
        crowd.add(sock, rest=reader.rest)
    except BaseException:
        sock.close()
        raise


# BOSH (XEP-0124, XEP-0206)


def by_bosh(place: Place, crowd: Crowd) -> None:
    """Come over BOSH."""
    sock = connected(place.port)
    host, to = f"127.0.0.1:{place.port}", f'to="{place.domain}"'
    rid, sid = secrets.randbelow(10**9), ""
    try:
        reader = Reader(sock)

        def post(attributes: str = "", children: str = "") -> bytes:
            nonlocal rid
            rid += 1
            body = (
                f'<body xmlns="http://jabber.org/protocol/httpbind" rid="{rid}" {attributes}'
                f"{f' sid={quoteattr(sid)}' if sid else ''}>{children}</body>"
            ).encode()
            head = f"POST /http-bind HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}"
            sock.sendall(f"{head}\r\nContent-Type: text/xml; charset=utf-8\r\n\r\n".encode() + body)
            answer = reader.until(b"\r\n\r\n")
            size = re.search(rb"(?i)\r\ncontent-length: *(\d+)", answer)
            if b" 200 " not in answer[:20] or size is None:
                raise ConnectionError(f"the server says {answer[:60]!r}")
            said = reader.exactly(int(size[1]))
            if b"terminate" in said[: said.index(b">")] or b"<failure" in said:
                raise ConnectionError(f"the server says {said[:300]!r}")
            return said

        def ask(children: str, answer: str) -> bytes:
            said = post(children=children)
            while answer.encode() not in said:
                said = post()
            return said

        xbosh = 'xmlns:xmpp="urn:xmpp:xbosh"'
        opened = SID.search(post(f'{to} wait="60" hold="1" ver="1.6" {xbosh} xmpp:version="1.0"'))
        assert opened is not None
        sid = opened[1].decode()
        ask(auth(), "<success")
        post(f'{to} {xbosh} xmpp:restart="true"')
        jid = JID.search(ask(bind(), "<jid>"))
        assert jid is not None
        accepted(ask(subscribe(place, jid[1].decode()), "<iq"))
        crowd.add(sock, rest=reader.rest, host=host, path="/http-bind", sid=sid, rid=rid + 1)
    except BaseException:
        sock.close()
        raise


# Both


def auth() -> str:
    """Log in under a new name."""
    secret = base64.b64encode(f"\0{secrets.token_hex(8)}\0any password".encode()).decode()
    return f'<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="PLAIN">{secret}</auth>'


def bind() -> str:
    """Ask for a resource."""
    return f'<iq {CLIENT} type="set" id="b"><bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/></iq>'


def subscribe(place: Place, jid: str) -> str:
    """Subscribe by full JID (XEP-0060 §6.1)."""
    return (
        f'<iq {CLIENT} type="set" id="s" to="{place.service}">'
        '<pubsub xmlns="http://jabber.org/protocol/pubsub">'
        f"<subscribe node={quoteattr(place.node)} jid={quoteattr(jid)}/></pubsub></iq>"
    )


def accepted(answer: bytes) -> None:
    """Make sure that a request was accepted.

    :raises BenchError: when it was not.
    """
    if not RESULT.search(answer):
        raise BenchError(f"a guest could not subscribe: {answer[:500]!r}")


def come(guest: Guest, place: Place, crowd: Crowd, count: int) -> None:
    """Let so many guests join a crowd, some dozens at once.

    :raises BenchError: when one of them cannot.
    """

    def one(_: int) -> None:
        for _ in range(ATTEMPTS - 1):
            with suppress(OSError):
                return guest(place, crowd)
        return guest(place, crowd)

    together(one, count)


def together(one: Callable[[int], None], count: int) -> None:
    """Call a function for each of so many numbers, some dozens at once.

    :raises BenchError: when one of them cannot connect.
    """
    with ThreadPoolExecutor(AT_ONCE) as threads:
        calls = [threads.submit(one, number) for number in range(count)]
        try:
            for call in calls:
                call.result()
        except OSError as error:
            raise BenchError(f"a visitor could not come in: {error!r}") from error
        finally:
            for call in calls:
                call.cancel()
