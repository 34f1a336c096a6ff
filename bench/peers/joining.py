"""Subscribers that have joined: connections by Server-Sent Events and by WebSocket."""

from __future__ import annotations

import base64
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from bench.errors import BenchError

PATIENCE = 60.0  # seconds
END = b"\r\n\r\n"
CHUNKED = re.compile(rb"^transfer-encoding: *chunked", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Joined:
    """A connection on which events will come.

    :param rest: what was read of them already.
    :param chunked: whether they come in chunks of HTTP.
    """

    sock: socket.socket
    rest: bytes
    chunked: bool = False


def event_stream(port: int, path: str, opening: bytes) -> Joined:
    """Open a stream of events.

    :param opening: what the server writes when it has put a subscriber on its list.
    :raises BenchError: when it is refused.
    """
    sock = _asked(port, path, {"Accept": "text/event-stream"})
    head, _, rest = _until(sock, b"200", END, opening).partition(END)
    return Joined(sock, rest, bool(CHUNKED.search(head)))


def websocket(port: int, path: str) -> Joined:
    """Open a WebSocket.

    :raises BenchError: when it is refused.
    """
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Origin": f"http://127.0.0.1:{port}",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
    }
    sock = _asked(port, path, headers)
    _, _, rest = _until(sock, b"101", END).partition(END)
    return Joined(sock, rest)


# Private


def _asked(port: int, path: str, headers: Mapping[str, str]) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    return sock


def _until(sock: socket.socket, status: bytes, *words: bytes) -> bytes:
    read = b""
    while not all(word in read for word in words):
        more = sock.recv(4096)
        read += more
        if not more or (len(read) > 11 and read[9:12] != status):
            sock.close()
            raise BenchError(f"A subscriber was refused: {read[:200]!r}")
    return read
