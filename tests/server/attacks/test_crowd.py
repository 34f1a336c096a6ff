"""A thousand sessions from one address, over WebSocket and BOSH."""

import asyncio
import base64
import os
import secrets
import struct
from contextlib import suppress
from urllib.parse import urlsplit

from tests.server.attacks.conftest import GUESTS
from tests.visitors import BOSH, WebSocketStream, auth
from tests.waiting import until

#: Where the crowd comes from; it is full in the end.
CROWD, NEIGHBOUR = "127.0.0.12", "127.0.0.13"
SESSIONS = 1_000
#: As deploy/ejabberd.yml has it.
BOUND = 200
AT_ONCE = 25

OPEN = f'<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="{GUESTS}" version="1.0"/>'
UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
)


OUTCOMES = (b"<success", b"policy-violation")


def post(body: str) -> bytes:
    """A request of BOSH."""
    head = f"POST /http-bind HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def frame(text: str) -> bytes:
    """A text frame of a client (RFC 6455 §5.2), masked by nothing."""
    data = text.encode()
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return b"\x81" + length + bytes(4) + data


async def heard(reader: asyncio.StreamReader, *words: bytes) -> bytes:
    """What the server says until one of some words is in it, or until nothing comes any more."""
    said = b""
    # ejabberd 23.01 closes one WebSocket in some thousands, or loses its first frame.
    with suppress(asyncio.TimeoutError, OSError):
        while not any(word in said for word in words):
            data = await asyncio.wait_for(reader.read(65536), 4)
            if not data:
                break
            said += data
    return said


class Crowd:
    """Visitors who log in, and stay."""

    def __init__(self, url: str) -> None:
        there = urlsplit(url)
        self.host, self.port = there.hostname, there.port
        self.outcomes: list[bytes] = []
        self._few = asyncio.Semaphore(AT_ONCE)
        self._writers: list[asyncio.StreamWriter] = []

    async def over_websocket(self) -> None:
        async with self._few:
            reader, writer = await self._connect()
            key = base64.b64encode(os.urandom(16)).decode()
            writer.write(UPGRADE.format(key).encode())
            await heard(reader, b"\r\n\r\n")
            writer.write(frame(OPEN) + frame(auth(secrets.token_hex(8))))
            self.outcomes.append(await heard(reader, *OUTCOMES))

    async def over_bosh(self) -> None:
        async with self._few:
            reader, writer = await self._connect()
            body = f'<body xmlns="{BOSH}" to="{GUESTS}" ver="1.6" wait="1" hold="1" rid="1" '
            writer.write(post(f'{body} xmlns:xmpp="urn:xmpp:xbosh" xmpp:version="1.0"/>'))
            greeting = await heard(reader, b"</body>")
            sid = greeting.partition(b"sid='")[2].partition(b"'")[0].decode()
            login = auth(secrets.token_hex(8))
            writer.write(post(f'<body xmlns="{BOSH}" rid="2" sid="{sid}">{login}</body>'))
            self.outcomes.append(await heard(reader, *OUTCOMES))

    async def leave(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    # Private

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port, local_addr=(CROWD, 0))
        self._writers.append(writer)
        return reader, writer


def test_of_a_thousand_sessions_from_one_address_the_surplus_is_refused(stack, site, log):
    async def attack() -> list[bytes]:
        crowd = Crowd(stack.settings["PUBSUB_WEBSOCKET_URL"])
        try:
            ways = [
                crowd.over_bosh if n % 10 == 0 else crowd.over_websocket for n in range(SESSIONS)
            ]
            await asyncio.gather(*(way() for way in ways))
            # While they are there another one gets in.
            stream = await asyncio.to_thread(
                WebSocketStream, stack.settings["PUBSUB_WEBSOCKET_URL"], GUESTS, NEIGHBOUR
            )
            assert "<success" in await asyncio.to_thread(stream.ask, auth("neighbour"))
            stream.vanish()
        finally:
            await crowd.leave()
        return crowd.outcomes

    outcomes = asyncio.run(attack())
    let_in, refused = (sum(word in said for said in outcomes) for word in OUTCOMES)
    assert let_in == BOUND
    assert refused >= SESSIONS - BOUND - 5  # some are lost, see above
    log.says("Refused: the login of", CROWD, "200 sessions already")
    until(lambda: has_logged_a_login(stack, log), "the log keeps up again")


def has_logged_a_login(stack, log):
    """Whether the log tells of a wrong password now: in a rush Erlang's logger drops lines."""
    name = secrets.token_hex(8)
    stream = WebSocketStream(stack.settings["PUBSUB_WEBSOCKET_URL"], "users.localhost", NEIGHBOUR)
    stream.ask(auth(name))
    stream.vanish()
    try:
        until(lambda: name in log.text, "the log tells of it", 0.5)
    except AssertionError:
        return False
    return True
