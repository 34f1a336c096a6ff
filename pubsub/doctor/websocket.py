"""A WebSocket for a few words (RFC 6455), as a browser opens it: no library, no thread.

Text frames go out masked, and whole messages come back; each step is bounded by a time limit.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import secrets
import struct
from typing import IO, cast

from pubsub.doctor.web import Refused, connection, parts

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG, CONTINUATION = 1, 8, 9, 10, 0
MOST = 1024 * 1024


class WebSocket:
    """An open one; a context manager.

    :param url: ``ws://…`` or ``wss://…``.
    :param origin: of the page that would open it.
    :param host: what to call the server; as in the url, if not given.
    :param timeout: seconds that each step may take.
    :raises Refused: when the answer is not an upgrade to the subprotocol.
    :raises OSError: when there is no connection.
    """

    def __init__(
        self, url: str, *, origin: str, host: str = "", timeout: float, subprotocol: str = "xmpp"
    ) -> None:
        self._connection = connection(url, timeout)
        try:
            self._open(url, origin, host, subprotocol)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()
        self._file.close()

    def send(self, text: str) -> None:
        """Send a text."""
        self._send(TEXT, text.encode())

    def receive(self) -> str:
        """The next text; empty when the server has closed.

        :raises OSError: when none comes in time, or what comes is no frame.
        """
        message = b""
        while True:
            is_last, code, data = self._frame()
            if code == CLOSE:
                return ""
            if code == PING:
                self._send(PONG, data)
            elif code in (TEXT, CONTINUATION):
                message += data
                if is_last:
                    return message.decode(errors="replace")

    # Private

    def _open(self, url: str, origin: str, host: str, subprotocol: str) -> None:
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": subprotocol,
            "Origin": origin,
            **({"Host": host} if host else {}),
        }
        try:
            self._connection.request("GET", parts(url).path, headers=headers)
            response = self._connection.getresponse()
        except http.client.HTTPException as error:
            raise OSError(f"no answer of HTTP: {error!r}") from error
        accepted = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()  # noqa: S324
        if response.status != 101:
            raise Refused(response.status, response.read(MOST).decode(errors="replace"))
        if response.headers.get("Sec-WebSocket-Accept") != accepted:
            raise Refused(101, "without the right Sec-WebSocket-Accept")
        if response.headers.get("Sec-WebSocket-Protocol") != subprotocol:
            raise Refused(101, f"without the subprotocol {subprotocol!r}")
        # What has been read ahead is in the response's own buffer.
        self._file = cast("IO[bytes]", response.fp)

    def _send(self, code: int, data: bytes) -> None:
        size = len(data)
        if size < 126:
            head = struct.pack("!BB", 0x80 | code, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | code, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | code, 0x80 | 127, size)
        mask = secrets.token_bytes(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self._connection.sock.sendall(head + mask + masked)

    def _frame(self) -> tuple[bool, int, bytes]:
        first, second = self._read(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._read(8))
        if size > MOST or second & 0x80:
            raise OSError("it sent what is no frame of a WebSocket server")
        return bool(first & 0x80), first & 0x0F, self._read(size)

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise OSError("the connection was closed")
        return data
