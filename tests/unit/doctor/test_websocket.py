"""The doctor's WebSocket, against a real server of another make."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from websockets.sync.server import ServerConnection, serve

from pubsub.doctor.web import Refused
from pubsub.doctor.websocket import WebSocket

Start = Callable[..., str]


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts a server, and returns its address."""
    with ExitStack() as running:

        def start(handler: Callable[[ServerConnection], None], **options: object) -> str:
            server = running.enter_context(
                serve(handler, "127.0.0.1", 0, **{"subprotocols": ["xmpp"], **options})
            )
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            running.callback(thread.join)
            running.callback(server.shutdown)
            return f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws"

        yield start


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 70000])
def test_texts_of_all_sizes_go_there_and_back(start: Start, size: int) -> None:
    text = "é" * (size // 2) + "x" * (size % 2)
    with WebSocket(start(echo), origin="http://here", timeout=10) as socket:
        socket.send(text)
        assert socket.receive() == text


def test_pings_are_answered_and_fragments_put_together(start: Start) -> None:
    answered = threading.Event()

    def handler(connection: ServerConnection) -> None:
        pong = connection.ping()
        connection.send(["in ", "three ", "parts"])
        if pong.wait(10):
            answered.set()
        connection.recv()

    with WebSocket(start(handler), origin="http://here", timeout=10) as socket:
        assert socket.receive() == "in three parts"
        assert answered.wait(10)
        socket.send("goodbye")


def test_the_end_is_an_empty_text(start: Start) -> None:
    with WebSocket(start(lambda c: None), origin="http://here", timeout=10) as socket:
        assert socket.receive() == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"origins": ["http://there"]}, "status 403"),
        ({"subprotocols": None}, "without the subprotocol 'xmpp'"),
    ],
)
def test_what_is_no_upgrade_is_told(start: Start, options: dict, words: str) -> None:
    with pytest.raises(Refused, match=words):
        WebSocket(start(echo, **options), origin="http://here", timeout=10)


def test_silence_ends_in_time(start: Start) -> None:
    url = start(lambda c: c.recv())
    with WebSocket(url, origin="http://here", timeout=0.1) as socket:
        with pytest.raises(TimeoutError):
            socket.receive()
        socket.send("goodbye")
