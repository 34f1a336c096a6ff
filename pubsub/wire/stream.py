"""A stream on its way up: xmpppy with its traps closed.  RFC 6120 throughout.

xmpppy's client goes on in clear text when TLS fails, falls back to legacy authentication when
SASL is missing, and checks no certificate.  Of xmpppy the stream headers and the nodes are used;
every step between them is taken here, and none can be skipped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

import xmpp
from xmpp.simplexml import Node

from pubsub.exceptions import (
    AuthenticationError,
    ConnectError,
    StreamError,
    StreamLost,
    TLSError,
)
from pubsub.wire import sasl
from pubsub.wire.account import Account
from pubsub.wire.builder import Builder
from pubsub.wire.transport import Deadline, Transport

#: A server that sends more than this without finishing a stanza is not followed any further.
MAX_STANZA_BYTES = 16 * 1024 * 1024

#: Stream errors that another attempt would meet again (RFC 6120 §4.9.3).
LASTING = ("host-unknown", "not-authorized", "invalid-from")


class Stream:
    """A stream on its way up; xmpppy writes the headers and parses what comes."""

    def __init__(self, account: Account, resource: str = "") -> None:
        self.account = account
        self._resource = resource
        self.transport = Transport(account.host, account.port)
        #: What has arrived and nobody has looked at yet.
        self.stanzas: list[Node] = []
        #: Why nothing more will arrive; what came before it is in ``stanzas`` and counts.
        self.end: StreamError | None = None
        self._unfinished = 0
        self._client = xmpp.Client(account.domain, debug=[])
        self._client.disconnect_handlers = []  # the default one raises out of anywhere
        self._client.DEBUG = lambda *args, **kwargs: None

    def open(self) -> str:
        """Take all steps; returns the bound full JID."""
        if self.account.tls not in ("starttls", "direct", "off"):
            raise TLSError(
                self.transport.server,
                f"XMPP_TLS = {self.account.tls!r} is unknown, so nothing was sent; choose "
                "'starttls', 'direct' or 'off'",
            )
        self.transport.PlugIn(self._client)
        self.transport.connect(Deadline(self.account.timeout))
        if self.account.tls == "direct":
            self.transport.start_tls(self.account.domain, self.account.ca_file)
        features = self._restart()
        if self.account.tls == "starttls":
            features = self._start_tls(features)
        elif self.account.tls != "direct" and not self.transport.is_loopback():
            raise TLSError(
                self.transport.server,
                "TLS is switched off (XMPP_TLS = 'off'), which is accepted towards this machine "
                "itself only; nothing was sent",
            )
        self._authenticate(features)
        return self._bind(self._restart())

    def receive(self) -> bool:
        """Read once without waiting; tells whether something came and more may come."""
        if self.end is None:
            try:
                data = self.transport.read()
                self._parse(data)
            except StreamError as error:
                self.end = error
            else:
                return bool(data)
        return False

    # Private

    def _parse(self, data: bytes) -> None:
        """Feed bytes to xmpppy's parser, which calls :meth:`_collect`."""
        before = len(self.stanzas)
        with self._no_xmpp():
            self._client.Dispatcher.Stream.Parse(data)
        if len(self.stanzas) > before:
            self._unfinished = 0
        self._unfinished += len(data)
        if self._unfinished > MAX_STANZA_BYTES:
            raise StreamLost(
                self.transport.server, f"a stanza of more than {MAX_STANZA_BYTES} bytes"
            )

    def _restart(self) -> Node:
        """Open a fresh stream on the same connection and await its features (§4.3.3)."""
        # What came before belongs to the old stream: bytes that somebody slipped in ahead of
        # TLS must not be taken for what the verified server says.
        self.stanzas.clear()
        if "Dispatcher" in self._client.__dict__:
            self._client.Dispatcher.PlugOut()
        with self._no_xmpp():
            xmpp.dispatcher.Dispatcher().PlugIn(self._client)
        parser = self._client.Dispatcher.Stream
        Builder(parser, self._collect)
        parser.stream_footer_received = self._ended
        # Entities can only be declared in a document type, which §11.1 forbids.
        parser._parser.StartDoctypeDeclHandler = self._restricted
        return self._await("features")

    def _start_tls(self, features: Node) -> Node:
        if not features.getTag("starttls", namespace=xmpp.NS_TLS):
            raise TLSError(
                self.transport.server,
                "it does not offer STARTTLS, so the password was not sent; somebody between may "
                "have taken the offer away",
            )
        self.transport.send(f'<starttls xmlns="{xmpp.NS_TLS}"/>')
        if self._await("proceed", "failure").getName() == "failure":
            raise TLSError(self.transport.server, "it refused STARTTLS")
        self.transport.start_tls(self.account.domain, self.account.ca_file)
        return self._restart()

    def _authenticate(self, features: Node) -> None:
        offered = _mechanisms(features)
        if not offered and features.getTag("starttls", namespace=xmpp.NS_TLS):
            raise TLSError(
                self.transport.server, "it lets nobody log in without TLS, and XMPP_TLS is 'off'"
            )
        try:
            self._exchange(offered)
        except sasl.SASLError as error:
            raise AuthenticationError(
                self.transport.server, f"cannot log in as {self.account.jid}: {error}"
            ) from error

    def _exchange(self, offered: list[str]) -> None:
        account = self.account
        mechanism = sasl.choose(offered, account.username, account.password)
        self.transport.send(
            f'<auth xmlns="{xmpp.NS_SASL}" mechanism="{mechanism.name}">'
            f"{mechanism.initial()}</auth>"
        )
        while True:
            answer = self._await("challenge", "success", "failure")
            if answer.getName() == "success":
                return mechanism.verify(answer.getData())
            if answer.getName() == "failure":
                if answer.getTag("temporary-auth-failure"):
                    raise ConnectError(
                        self.transport.server, f"cannot log in now: {_failure(answer)}"
                    )
                raise sasl.SASLError(_failure(answer))
            response = mechanism.respond(answer.getData())
            self.transport.send(f'<response xmlns="{xmpp.NS_SASL}">{response}</response>')

    def _bind(self, features: Node) -> str:
        bound = self._request_binding()
        jid = bound.getTag("bind").getTagData("jid") if bound.getTag("bind") else None
        if not jid:
            raise ConnectError(self.transport.server, f"it bound no resource: {bound}")
        offer = features.getTag("session", namespace=xmpp.NS_SESSION)
        if offer and not offer.getTag("optional"):
            self._request(f'<session xmlns="{xmpp.NS_SESSION}"/>')
        return str(jid)

    def _request_binding(self) -> Node:
        """Bind the resource that was asked for, or where the server refuses it, one of its own."""
        if self._resource:
            wish = f"<resource>{escape(self._resource)}</resource>"
            answer = self._ask(f'<bind xmlns="{xmpp.NS_BIND}">{wish}</bind>')
            if answer.getAttr("type") == "result":
                return answer
        return self._request(f'<bind xmlns="{xmpp.NS_BIND}"/>')

    def _ask(self, body: str) -> Node:
        self.transport.send(f'<iq type="set" id="open">{body}</iq>')
        return self._await("iq")

    def _request(self, body: str) -> Node:
        answer = self._ask(body)
        if answer.getAttr("type") != "result":
            reason = answer.getTag("error")
            raise ConnectError(self.transport.server, f"it refused the session: {reason or answer}")
        return answer

    def _await(self, *names: str) -> Node:
        """The next stanza, which must bear one of the names."""
        while not self.stanzas:
            if self.end is not None:
                raise self.end
            self.transport.wait_readable()
            self.receive()
        stanza = self.stanzas.pop(0)
        if stanza.getName() not in names:
            expected = " or ".join(f"<{name}/>" for name in names)
            raise ConnectError(
                self.transport.server,
                f"it sent <{escape(stanza.getName())}/> where {expected} was due",
            )
        return stanza

    def _collect(self, stanza: Node) -> None:
        if stanza.getName() == "error" and stanza.getNamespace() == xmpp.NS_STREAMS:
            self._refuse(stanza)
        self.stanzas.append(stanza)

    def _refuse(self, error: Node) -> NoReturn:
        """End by the server's own words (§4.9)."""
        conditions = [child.getName() for child in error.getChildren() if child]
        if not conditions:
            raise ValueError("an error without a condition")
        text = error.getTagData("text")
        reason = ", ".join(name for name in conditions if name != "text")
        words = f"it ended the stream with {reason}" + (f": {text}" if text else "")
        if reason in LASTING:
            raise AuthenticationError(self.transport.server, words)
        raise StreamLost(self.transport.server, words, reason)

    def _ended(self) -> NoReturn:
        raise StreamLost(self.transport.server, "it ended the stream")

    def _restricted(self, *args: Any) -> NoReturn:
        raise StreamLost(self.transport.server, "it sent a document type, which XMPP forbids")

    @contextlib.contextmanager
    def _no_xmpp(self) -> Iterator[None]:
        """Translate what xmpppy's parser raises on input that is no XMPP."""
        try:
            yield
        except (ExpatError, ValueError, LookupError, AttributeError, TypeError) as error:
            raise StreamLost(
                self.transport.server, f"it sent what is no XMPP stream ({error})"
            ) from error


def _mechanisms(features: Node) -> list[str]:
    offer = features.getTag("mechanisms", namespace=xmpp.NS_SASL)
    return [str(tag.getData()) for tag in offer.getTags("mechanism")] if offer else []


def _failure(answer: Node) -> str:
    """The reason of a SASL failure, in words (RFC 6120 §6.5)."""
    conditions = [child.getName() for child in answer.getChildren() if child]
    reason = next((name for name in conditions if name != "text"), "no reason given")
    text = answer.getTagData("text")
    return f"{reason} ({text})" if text else str(reason)
