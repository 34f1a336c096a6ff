"""SASL for clients (RFC 6120 §6): pure mechanisms, text in, text out.

xmpppy has no SCRAM and falls back to what the server prefers; here the strongest mechanism that
both sides know is taken, and there is nothing to fall back to.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from typing import Protocol

import scramp

from pubsub.wire.forks import whole

#: A server that asks for more iterations wants to keep us busy: some seconds of one processor.
MOST_ITERATIONS = 1_000_000


class SASLError(Exception):
    """The exchange cannot go on; the message says why."""


class Mechanism(Protocol):
    """One exchange: the first words, answers to challenges, and a check of the last."""

    name: str

    def initial(self) -> str:
        """The base64 text of ``<auth/>``."""

    def respond(self, challenge: str) -> str:
        """The base64 text of ``<response/>`` to a base64 challenge."""

    def verify(self, additional: str) -> None:
        """Check the base64 text of ``<success/>``."""


def choose(offered: Collection[str], username: str, password: str) -> Mechanism:
    """Take the strongest mechanism offered.

    :param offered: the names in the server's ``<mechanisms/>``.
    :raises SASLError: when none of them is acceptable.
    """
    for name in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
        if name in offered:
            return Scram(name, username, password)
    if "PLAIN" in offered:
        return Plain(username, password)
    names = ", ".join(sorted(offered)) or "none"
    raise SASLError(
        f"it offers no mechanism that we accept (SCRAM-SHA-256, SCRAM-SHA-1, PLAIN), but {names}"
    )


class Plain:
    """PLAIN (RFC 4616): only ever spoken inside TLS or to this machine itself."""

    name = "PLAIN"

    def __init__(self, username: str, password: str) -> None:
        for what, text in (("name", username), ("password", password)):
            if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
                raise SASLError(f"the {what} holds a character that PLAIN cannot carry")
        self._text = f"\0{username}\0{password}"

    def initial(self) -> str:
        return base64.b64encode(self._text.encode()).decode()

    def respond(self, challenge: str) -> str:
        raise SASLError("it sent a challenge where PLAIN has none")

    def verify(self, additional: str) -> None:
        """PLAIN proves nothing about the server; TLS did."""


class Scram:
    """SCRAM (RFC 5802, RFC 7677): the password is not sent, and the server proves itself too."""

    def __init__(self, name: str, username: str, password: str) -> None:
        self.name = name
        try:
            self._client = scramp.ScramClient([name], username, password)
        except scramp.ScramException as error:  # what SASLprep does not let pass
            raise SASLError(f"the account cannot be used with {name}: {error}") from error
        self._challenged = False
        self._verified = False

    def initial(self) -> str:
        return self._encode(self._client.get_client_first())

    def respond(self, challenge: str) -> str:
        message = self._decode(challenge)
        count = re.search(r"(?:^|,)i=(\d+)", message)
        if count and int(count[1][:9]) > MOST_ITERATIONS:
            raise SASLError(f"it asks for {count[1][:40]} iterations of {self.name}")
        if self._challenged:  # the server's proof may come as a challenge, too
            self._check(message)
            return ""
        self._challenged = True
        try:
            with whole():
                self._client.set_server_first(message)
                return self._encode(self._client.get_client_final())
        except scramp.ScramException as error:
            raise SASLError(f"{self.name} failed: {error}") from error

    def verify(self, additional: str) -> None:
        if not self._verified:
            self._check(self._decode(additional))

    # Private

    def _check(self, message: str) -> None:
        if not self._challenged:
            raise SASLError(f"it accepted {self.name} before the exchange took place")
        try:
            self._client.set_server_final(message)
        except scramp.ScramException as error:
            raise SASLError(f"it does not know the password itself: {error}") from error
        self._verified = True

    @staticmethod
    def _encode(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    @staticmethod
    def _decode(text: str) -> str:
        try:
            return base64.b64decode(text, validate=True).decode()
        except ValueError as error:
            raise SASLError(f"it sent {text[:40]!r}, which is not base64 text") from error
