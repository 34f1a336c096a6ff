"""Requests over HTTP, each within a deadline.

They go over verified TLS, or to this very machine.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from urllib.parse import urlsplit

from pubsub.exceptions import ConnectError, TLSError
from pubsub.wire.cipher import trusting
from pubsub.wire.transport import Deadline, connected_to, is_loopback

#: Bytes that an answer may have.
MAX_ANSWER = 4 * 1024 * 1024

CHUNK = 65536


class HTTPPeer(http.client.HTTPConnection):
    """HTTP to one address, within deadlines; what is no TLS reaches this machine only.

    :raises ConnectError: for what is no address.
    """

    def __init__(self, url: str, ca_file: str | None) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise ConnectError(url, f"it is no address: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConnectError(url, "it is no address that begins with https:// or http://")
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._is_safe = parts.scheme == "https"
        self._ca_file = ca_file
        self._deadline = Deadline(0)
        self._is_new = True
        super().__init__(parts.hostname, port)

    @property
    def server(self) -> str:
        """As errors name it."""
        return f"{self.host}:{self.port}"

    def connect(self) -> None:
        """Connect, and verify who is there; http.client calls this."""
        peer = connected_to(self.host, self.port, self._deadline)
        try:
            if self._is_safe:
                context = trusting(self._ca_file)
                peer.settimeout(max(self._deadline.remaining(), 0.001))
                peer = context.wrap_socket(peer, server_hostname=self.host)
            elif not is_loopback(peer):
                raise TLSError(
                    self.server,
                    "only this machine itself is talked to without TLS; nothing was sent.  Set "
                    "PUBSUB_PREBIND_URL to an address that begins with https://",
                )
        except BaseException:
            peer.close()
            raise
        # Head and body are two writes: the second must not wait for an acknowledgement (40 ms).
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = peer

    def post(self, text: str, deadline: Deadline) -> bytes:
        """The answer to a request (XEP-0124 §5).

        :raises StreamError: when there is none in time, or it is none.
        """
        self._deadline = deadline
        try:
            try:
                return self._exchange(text)
            except BaseException:
                self.close()
                raise
        except ssl.SSLCertVerificationError as error:
            raise TLSError(
                self.server,
                f"its certificate is not valid for {self.host!r}: {error.verify_message}; "
                "set XMPP_CA_FILE if it is signed by an authority of your own",
            ) from error
        except ssl.SSLError as error:
            raise TLSError(self.server, f"TLS failed: {error}") from error
        except TimeoutError as error:
            reason = f"no answer within {deadline.seconds:g} s"
            raise ConnectError(self.server, reason) from error
        except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
            reason = str(error) or type(error).__name__
            words = "cannot connect" if self._is_new else "the connection broke"
            raise ConnectError(self.server, f"{words}: {reason}") from error

    # Private

    def _exchange(self, text: str) -> bytes:
        self._is_new = self.sock is None
        if self.sock is not None:
            self.sock.settimeout(self._left())
        headers = {"Content-Type": "text/xml; charset=utf-8"}
        self.request("POST", self._path, text.encode(), headers)
        self.sock.settimeout(self._left())
        with self.getresponse() as response:
            return self._read(response)

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        if response.status != 200:
            words = f"it answered with HTTP {response.status} {response.reason}"
            raise ConnectError(self.server, f"{words} at {self._path}, where BOSH should be")
        found = b""
        while chunk := response.read1(CHUNK):
            found += chunk
            if len(found) > MAX_ANSWER:
                raise ConnectError(self.server, f"an answer of more than {MAX_ANSWER:,} bytes")
            if self.sock is not None:  # http.client gives it away where the server will close it
                self.sock.settimeout(self._left())
        return found

    def _left(self) -> float:
        """The seconds that are left.

        :raises TimeoutError: when there are none.
        """
        seconds = self._deadline.remaining()
        if not seconds:
            raise TimeoutError
        return seconds
