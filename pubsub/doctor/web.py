"""One request over HTTP, as from a browser outside: verified TLS, no proxy, a time limit."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

#: So much of an answer is read, in bytes.
MOST = 1024 * 1024

SECURE = {"https", "wss"}
SCHEMES = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class Refused(Exception):
    """An answer that is not the wanted one.

    :param status: of HTTP.
    :param body: the beginning of it.
    """

    def __init__(self, status: int, body: str) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body

    def __str__(self) -> str:
        beginning = " ".join(self.body.split())[:80]
        return f"status {self.status}" + (f" ({beginning})" if beginning else "")


@dataclass(frozen=True)
class Answer:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    body: str

    def header(self, name: str) -> str:
        """One of the headers, whose names have no case; empty where it is missing."""
        found = (value for key, value in self.headers.items() if key.lower() == name.lower())
        return next(found, "")


def parts(url: str) -> SplitResult:
    """An address in its parts; the path is that of a request, with its query.

    :raises ValueError: for what is no address.
    """
    found = urlsplit(url)
    try:
        is_address = found.scheme in SCHEMES and found.hostname and found.port != 0
    except ValueError:  # the port is no number
        is_address = False
    if not is_address:
        raise ValueError(f"{url!r} is no address of the form https://your.site/")
    path = (found.path or "/") + (f"?{found.query}" if found.query else "")
    return found._replace(path=path)


def origin_of(url: str) -> str:
    """The origin of the pages behind an address (RFC 6454 §6.2)."""
    found = parts(url)
    scheme = "https" if found.scheme in SECURE else "http"
    return f"{scheme}://{found.netloc.rpartition('@')[2]}"


def connection(url: str, timeout: float) -> http.client.HTTPConnection:
    """A connection that opens with the first request; the system's authorities are trusted."""
    there = parts(url)
    assert there.hostname is not None
    port = there.port or SCHEMES[there.scheme]
    if there.scheme not in SECURE:
        return http.client.HTTPConnection(there.hostname, port, timeout=timeout)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(there.hostname, port, timeout=timeout, context=context)


def ask(
    url: str,
    *,
    timeout: float,
    method: str = "GET",
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Make a request; redirects are not followed.

    :raises OSError: when there is no connection, no verified TLS, or no answer in time.
    """
    asked = connection(url, timeout)
    try:
        data = None if body is None else body.encode()
        asked.request(method, parts(url).path, data, dict(headers or {}))
        response = asked.getresponse()
        text = response.read(MOST).decode(errors="replace")
        return Answer(response.status, dict(response.headers.items()), text)
    except http.client.HTTPException as error:
        raise OSError(f"no answer of HTTP: {error!r}") from error
    finally:
        asked.close()
