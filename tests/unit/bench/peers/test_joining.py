"""Subscribers of peers, whose servers answer here as they are told."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.errors import BenchError
from bench.peers.joining import Joined, event_stream, websocket

Serve = Callable[..., "tuple[int, list[bytes]]"]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answers the next connection with pieces; returns the port, and what it was asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
        asked: list[bytes] = []

        def answer(pieces: tuple[bytes, ...]) -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(65536))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in pieces:
                    connection.sendall(piece)

        def served(*pieces: bytes) -> tuple[int, list[bytes]]:
            thread.submit(answer, pieces)
            return listener.getsockname()[1], asked

        yield served


def left(joined: Joined) -> Joined:
    joined.sock.close()
    return joined


def test_a_stream_is_joined_when_its_opening_has_come_and_nothing_of_it_is_lost(serve: Serve):
    port, asked = serve(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chu", b"nked\r\n\r\n5\r\n", b"hi\n\n:"
    )
    joined = left(event_stream(port, "/events/", b"hi\n\n:"))
    assert (joined.rest, joined.chunked) == (b"5\r\nhi\n\n:", True)
    assert asked[0].startswith(b"GET /events/ HTTP/1.1\r\n")
    assert b"Accept: text/event-stream\r\n" in asked[0]


def test_a_stream_without_chunks_is_known_by_its_headers(serve: Serve):
    port, _ = serve(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hi\n")
    assert not left(event_stream(port, "/sub/bench", b"hi")).chunked


def test_what_comes_at_once_with_a_websocket_is_kept(serve: Serve):
    port, asked = serve(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02ab")
    assert left(websocket(port, "/ws/")).rest == b"\x81\x02ab"
    assert b"Upgrade: websocket\r\n" in asked[0]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"HTTP/1.1 10"])
def test_a_refusal_is_quoted(serve: Serve, answer: bytes):
    port, _ = serve(answer)
    with pytest.raises(BenchError, match="A subscriber was refused: b'HTTP"):
        websocket(port, "/ws/")
