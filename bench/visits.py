"""Visitors by the thousand, from a program of their own in C (``visits.c``).

Each does what a page of a guest does, in as many round trips, since Strophe asks for one thing at a
time: over WebSocket it connects, upgrades, opens the stream, logs in, opens it again, binds a
resource and subscribes to one node (six round trips after TCP's own), and says goodbye by
``<close/>``; over BOSH the same in five requests, and a sixth that ends the session.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.errors import BenchError
from pubsub.devstack.processes import tied

SOURCE = Path(__file__).with_suffix(".c")
BOSH = "http://jabber.org/protocol/httpbind"
HOST = "127.0.0.1"
AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 "
    "Safari/537.36"
)
GUESTS, SERVICE = "guests.localhost", "pubsub.localhost"
#: What the program puts its own values in place of: their lengths are always the same.
NAME, NAME64, RID, SID = "\1" * 15, "\2" * 20, "\3" * 10, "\4" * 40
RESOURCE = "page"
#: SASL PLAIN of a name, ``v-`` and the visitor's own, and a password of no worth.
PLAIN = base64.b64encode(b"\0v-").decode() + NAME64 + base64.b64encode(b"\0guest").decode()
JID = f"v-{NAME}@{GUESTS}/{RESOURCE}"

Kind = Literal["websocket", "bosh"]


@dataclass(frozen=True)
class Step:
    """What a visitor sends, and what the answer holds.

    :param framed: whether the answer is read until it holds that, and is not an HTTP response.
    :param who: takes the step: all, only who leaves, or only who stays.
    """

    send: bytes
    expect: str
    framed: bool
    who: Literal["all", "leaving", "staying"] = "all"

    def __bytes__(self) -> bytes:
        expected = self.expect.encode()
        kind = "f" if self.framed else "h"
        return f"{len(self.send)} {len(expected)} {kind} {self.who[0]}\n".encode() + (
            self.send + expected
        )


@dataclass(frozen=True)
class Visits:
    """What became of visitors.

    :param cpu: seconds that the program itself took of a processor.
    :param repeated: of connections that were closed at once, and made again.
    """

    count: int
    seconds: float
    cpu: float
    repeated: int


class Visitors:
    """Visitors who come from one program, which has been started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def visit(self, count: int, at_once: int) -> Visits:
        """Come and go so many times, with so many visitors at a time."""
        return self._come("visit", count, at_once)

    def stay(self, count: int, at_once: int) -> Visits:
        """Come, and stay until :meth:`leave`."""
        return self._come("stay", count, at_once)

    def leave(self) -> None:
        """Close the connections of all who have stayed."""
        self._ask("leave")

    # Private

    def _come(self, command: str, count: int, at_once: int) -> Visits:
        made, seconds, cpu, repeated = self._ask(f"{command} {count} {at_once}").split()
        return Visits(int(made), float(seconds), float(cpu), int(repeated))

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has told why
        if answer := self._process.stdout.readline():
            return answer
        raise BenchError(f"The visitors failed at `{command}`: see what they said above.")


@contextmanager
def visitors(kind: Kind, port: int, node: str, folder: Path) -> Iterator[Visitors]:
    """Visitors of a node, who come by a port of this machine, as long as the block lasts.

    :param folder: where the program is compiled, if it has not been.
    :raises BenchError: when it cannot be compiled.
    """
    program = compiled(folder)
    script = folder / f"{kind}-{port}.script"
    script.write_bytes(b"".join(map(bytes, steps(kind, port, node))))
    with subprocess.Popen(
        tied([str(program), str(port), str(script)]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Visitors(process)
        finally:
            process.kill()


def compiled(folder: Path) -> Path:
    """The program, compiled in a folder.

    :raises BenchError: when it cannot be; the message quotes the compiler.
    """
    program = folder / SOURCE.stem
    if not program.exists():
        try:
            done = subprocess.run(
                ["cc", "-O2", "-o", str(program), str(SOURCE)],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise BenchError("cc is missing: install Debian's package gcc.") from None
        if done.returncode:
            raise BenchError(f"cc could not compile {SOURCE}:\n{done.stderr.strip()}")
    return program


def steps(kind: Kind, port: int, node: str) -> list[Step]:
    """The steps of one visit."""
    bind = (
        '<iq xmlns="jabber:client" type="set" id="b">'
        '<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind">'
        f"<resource>{RESOURCE}</resource></bind></iq>"
    )
    auth = f'<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="PLAIN">{PLAIN}</auth>'
    subscribe = (
        f'<iq xmlns="jabber:client" type="set" id="s" to="{SERVICE}">'
        '<pubsub xmlns="http://jabber.org/protocol/pubsub">'
        f'<subscribe node="{node}" jid="{JID}"/></pubsub></iq>'
    )
    subscribed = "subscription='subscribed'"
    if kind == "websocket":
        opened = f'<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="{GUESTS}" version="1.0"/>'
        closed = '<close xmlns="urn:ietf:params:xml:ns:xmpp-framing"/>'
        return [
            Step(upgrade(port), "\r\n\r\n", framed=True),
            Step(frame(opened), "</stream:features>", framed=True),
            Step(frame(auth), "<success", framed=True),
            Step(frame(opened), "</stream:features>", framed=True),
            Step(frame(bind), "</jid>", framed=True),
            Step(frame(subscribe), subscribed, framed=True),
            Step(frame(closed), "<close", framed=True, who="leaving"),
        ]
    stream = f'to="{GUESTS}" xml:lang="en" xmlns:xmpp="urn:xmpp:xbosh"'
    begin = f'{stream} wait="60" hold="1" content="text/xml" ver="1.6" xmpp:version="1.0"'
    sid = f'sid="{SID}"'
    return [
        Step(post(port, begin), "</stream:features>", framed=False),
        Step(post(port, sid, auth), "<success", framed=False),
        Step(post(port, f'{sid} {stream} xmpp:restart="true"'), "</stream:features>", framed=False),
        Step(post(port, sid, bind), "</jid>", framed=False),
        Step(post(port, sid, subscribe), subscribed, framed=False),
        Step(post(port, sid), "<body", framed=False, who="staying"),
        Step(post(port, f'{sid} type="terminate"'), "terminate", framed=False, who="leaving"),
    ]


def upgrade(port: int) -> bytes:
    """The request by which a browser opens a WebSocket (RFC 6455), with as many headers."""
    return (
        f"GET /ws HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: Upgrade\r\nPragma: no-cache\r\n"
        f"Cache-Control: no-cache\r\nUser-Agent: {AGENT}\r\nUpgrade: websocket\r\n"
        f"Origin: http://{HOST}:{port}\r\nSec-WebSocket-Version: 13\r\n"
        "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        "Sec-WebSocket-Protocol: xmpp\r\n\r\n"
    ).encode()


def frame(text: str) -> bytes:
    """A text as one WebSocket frame of a client, masked by zeros, which change nothing."""
    payload = text.encode()
    size = len(payload)
    length = bytes([128 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload


def post(port: int, attributes: str, children: str = "") -> bytes:
    """One request of a BOSH session, with as many headers as a browser's."""
    body = f'<body xmlns="{BOSH}" rid="{RID}" {attributes}>{children}</body>'
    return (
        f"POST /http-bind HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: keep-alive\r\n"
        f"Content-Length: {len(body)}\r\nUser-Agent: {AGENT}\r\n"
        "Content-Type: text/xml; charset=utf-8\r\nAccept: */*\r\n"
        f"Origin: http://{HOST}:{port}\r\nReferer: http://{HOST}:{port}/page.html\r\n"
        "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n"
        f"{body}"
    ).encode()
