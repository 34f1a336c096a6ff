"""The process that sends events to nchan by POST, over one connection."""

import os
import socket
from http.client import HTTPConnection

from bench.peers.publishing import obey


class Publisher:
    """A connection to a location with ``nchan_publisher``."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def publish(self, text: str) -> None:
        """Publish a message.

        :raises RuntimeError: when nchan does not take it.
        """
        self._connection.request(
            "POST", "/pub/bench", text.encode(), {"Content-Type": "text/plain"}
        )
        answer = self._connection.getresponse()
        words = answer.read()
        if answer.status not in (201, 202):
            raise RuntimeError(f"nchan answered {answer.status}: {words!r}")


if __name__ == "__main__":
    obey(Publisher(int(os.environ["BENCH_PORT"])).publish)
