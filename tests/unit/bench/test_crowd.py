"""What a crowd makes of the bytes that it gets; they come from real sockets, piece by piece."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from bench.crowd import Crowd, Heard, Kind, compile_to, mark
from bench.errors import BenchError
from tests.waiting import until

OTHER = '<iq from="ada@users.localhost/@1:x" type="result"/>'


class Listener:
    """A crowd of one, and the server's end of its connection."""

    def __init__(self, crowd: Crowd, server: socket.socket) -> None:
        self.crowd = crowd
        self.server = server

    def hears(self, data: bytes, deliveries: int, step: int = 0) -> Heard:
        """What it has heard once so many deliveries have come of bytes that come in pieces."""
        for start in range(0, len(data), step or len(data)):
            self.server.sendall(data[start : start + (step or len(data))])
        assert self.crowd.wait(deliveries, 20)
        return self.crowd.result()

    def is_closed(self) -> bool:
        return self.crowd.result().closed == 1


Listening = Callable[..., Listener]


@pytest.fixture
def listening() -> Iterator[Listening]:
    with ExitStack() as opened:

        def listening(kind: Kind, **for_kind) -> Listener:
            crowd = opened.enter_context(closing(Crowd(kind)))
            server, client = socket.socketpair()
            opened.enter_context(server).settimeout(20)
            crowd.add(client, **for_kind)
            crowd.start()
            return Listener(crowd, server)

        yield listening


def frame(text: str, code: int = 1) -> bytes:
    data = text.encode()
    if len(data) < 126:
        size = bytes([len(data)])
    elif len(data) < 65536:
        size = b"\x7e" + len(data).to_bytes(2, "big")
    else:
        size = b"\x7f" + len(data).to_bytes(8, "big")
    return bytes([0x80 | code]) + size + data


def marks(*numbers: int) -> list[str]:
    return [f"<message>{mark(number)}</message>" for number in numbers]


# What a delivery is


@pytest.mark.parametrize("step", [1, 2, 7, 0])
@pytest.mark.parametrize("padding", [0, 200, 70_000])
def test_frames_are_heard_however_they_are_cut(listening: Listening, step: int, padding: int):
    texts = [each + "." * padding for each in marks(1, 2, 3)]
    if padding > 1000:
        step *= 5000
    heard = listening("websocket").hears(b"".join(map(frame, texts)), 3, step)
    assert (heard.deliveries, heard.lost, heard.disordered, heard.others) == (3, 0, 0, 0)
    assert len(heard.latencies) == 3
    assert all(0 < latency < 20e9 for latency in heard.latencies)


def test_what_has_no_mark_is_no_delivery(listening: Listening):
    texts = [OTHER, *marks(1), "@12:@", "@:1@ @1@ @"]
    heard = listening("websocket").hears(b"".join(map(frame, texts)), 1)
    assert heard.deliveries == 1


def test_what_comes_late_or_again_is_told_apart(listening: Listening):
    numbers = [1, 3, 2, 2, 4, 200, 4]
    listener = listening("websocket")
    listener.crowd.reset(1)
    heard = listener.hears(b"".join(map(frame, marks(*numbers, 201))), 6)
    assert (heard.deliveries, heard.disordered, heard.repeated) == (6, 1, 2)


def test_what_does_not_come_is_lost(listening: Listening):
    listener = listening("websocket")
    listener.hears(b"".join(map(frame, marks(1, 3))), 2)
    assert not listener.crowd.wait(3, 0.01)
    assert listener.crowd.result().lost == 1


def test_numbers_of_an_earlier_turn_are_not_heard(listening: Listening):
    listener = listening("websocket")
    listener.hears(b"".join(map(frame, marks(1, 2))), 2)
    listener.crowd.reset(10)
    heard = listener.hears(b"".join(map(frame, marks(3, 10, 11))), 2)
    assert (heard.deliveries, heard.disordered, heard.repeated) == (2, 0, 0)


def test_bytes_that_were_read_before_are_heard(listening: Listening):
    data = frame(marks(1)[0])
    listener = listening("websocket", rest=data[:9])
    assert listener.hears(data[9:], 1).deliveries == 1


def test_a_crowd_tells_what_it_costs(listening: Listening):
    heard = listening("websocket").hears(b"".join(map(frame, marks(*range(1000)))), 1000)
    assert 0 < heard.cpu_seconds < 1


# WebSocket


def test_pings_are_answered(listening: Listening):
    listener = listening("websocket")
    listener.server.sendall(frame("hello", 9))
    assert listener.server.recv(100) == b"\x8a\x85" + bytes(4) + b"hello"


@pytest.mark.parametrize("last", [frame("\x03\xe8", 8), b""])
def test_a_connection_that_closes_is_counted(listening: Listening, last: bytes):
    listener = listening("websocket")
    listener.server.sendall(last)
    listener.server.shutdown(socket.SHUT_WR)
    until(listener.is_closed, "it is closed")


# Server-sent events


@pytest.mark.parametrize("step", [1, 5, 0])
@pytest.mark.parametrize("chunk", [0, 3, 11, 1000])
def test_events_are_heard_however_they_are_cut(listening: Listening, step: int, chunk: int):
    events = ": hello\r\n\r\n" + "".join(
        f"id: 7\r\ndata: {each}\r\n\r\n" for each in marks(1, 2, 3)
    )
    data = events.encode()
    if chunk:
        pieces = [data[start : start + chunk] for start in range(0, len(data), chunk)]
        data = b"".join(b"%X;a=b\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    heard = listening("sse", chunked=bool(chunk)).hears(data, 3, step)
    assert (heard.deliveries, heard.disordered, heard.repeated) == (3, 0, 0)


def test_a_stream_that_ends_is_counted(listening: Listening):
    listener = listening("sse", chunked=True)
    listener.server.sendall(b"0\r\n\r\n")
    until(listener.is_closed, "it is closed")


# BOSH

HERE = {"host": "127.0.0.1", "path": "/http-bind", "sid": "s", "rid": 9}


def request(server: socket.socket) -> str:
    """The next request."""
    data = b""
    while b"/>" not in data:
        data += server.recv(1000)
    return data.decode()


def answer(text: str = "", headers: str = "", type: str = "", status: str = "200 OK") -> bytes:
    body = f"<body xmlns='http://jabber.org/protocol/httpbind'{type}>{text}</body>"
    head = f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


@pytest.mark.parametrize("step", [1, 0])
def test_each_response_is_answered_by_the_next_request(listening: Listening, step: int):
    listener = listening("bosh", **HERE)
    asked = request(listener.server)
    assert asked.startswith("POST /http-bind HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    assert "rid='9' " in asked
    listener.hears(answer("".join(marks(1, 2))), 2, step)
    assert "rid='10' " in request(listener.server)
    assert listener.hears(answer(marks(3)[0]), 3, step).disordered == 0
    assert "rid='11' " in request(listener.server)


@pytest.mark.parametrize(
    "last",
    [answer(type=" type='terminate'"), answer(status="404 Not Found")],
)
def test_a_session_that_ends_is_counted(listening: Listening, last: bytes):
    listener = listening("bosh", **HERE)
    request(listener.server)
    listener.server.sendall(last)
    until(listener.is_closed, "it is closed")


def test_a_session_goes_on_when_its_connection_is_closed():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        closing(Crowd("bosh")) as crowd,
    ):
        server.settimeout(20)
        crowd.add(socket.create_connection(server.getsockname()), **HERE)
        crowd.start()
        first, _ = server.accept()
        with first:
            assert "rid='9' " in request(first)
            first.sendall(answer(marks(1)[0], "Connection: close\r\n"))
            second, _ = server.accept()
        with second:
            assert "rid='10' " in request(second)
        third, _ = server.accept()  # the second was closed before an answer
        with third:
            assert "rid='10' " in request(third)
            third.sendall(answer(marks(2)[0]))
            assert crowd.wait(2, 20)
            heard = crowd.result()
    assert (heard.deliveries, heard.reconnected, heard.closed) == (2, 2, 0)


def test_a_crowd_cannot_be_compiled_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="Not found: cc"):
        compile_to(tmp_path / "crowd.so")
