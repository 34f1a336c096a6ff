"""The beginning of a stream to ejabberd, step by step: what it offers, and its certificate.

The steps are those of Django's own streams (RFC 6120 §5), by the same code where it verifies.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from xml.sax.saxutils import quoteattr

from pubsub.conf import conf
from pubsub.doctor.certificates import Certificate, read_certificate
from pubsub.exceptions import StreamError, TLSError
from pubsub.wire.transport import Deadline, Transport

#: So much is read before a server is taken for something else, in bytes.
MOST = 65536

#: Of OpenSSL (X509_VERIFY_PARAM_set_flags): a certificate may be trusted that is nobody's
#: authority, and one that has ended.
PARTIAL_CHAIN, NO_CHECK_TIME = 0x80000, 0x200000


class Opening:
    """A stream before anybody has logged in; made by :func:`opening`."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def features(self) -> str:
        """Open the stream (anew); what the server offers on it, as XML text."""
        self.transport.send(
            f"<stream:stream to={quoteattr(conf.domain)} version='1.0' xmlns='jabber:client' "
            "xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        return self.until("</stream:features>", "<stream:features/>")

    def ask_for_tls(self) -> None:
        """Come to where TLS begins.

        :raises TLSError: when the server does not offer it.
        """
        if conf.tls == "direct":
            return
        if "urn:ietf:params:xml:ns:xmpp-tls" not in self.features():
            raise TLSError(self.transport.server, "it does not offer STARTTLS")
        self.transport.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.until("<proceed")

    def until(self, *ends: str) -> str:
        """What the server says until one of these comes."""
        text = ""
        while not any(end in text for end in ends):
            if "</stream:stream>" in text or "<stream:error>" in text or len(text) > MOST:
                said = text[text.find("<stream:error>") :][:300] or text[:300]
                raise StreamError(self.transport.server, f"it said {said!r}")
            self.transport.wait_readable()
            text += self.transport.read().decode(errors="replace")
        return text


@contextmanager
def opening() -> Iterator[Opening]:
    """A connection to where Django logs in.

    :raises StreamError: when there is none, or it does not answer within XMPP_TIMEOUT.
    """
    transport = Transport(conf.host, conf.port)
    try:
        transport.connect(Deadline(conf.timeout))
        yield Opening(transport)
    finally:
        transport.close()


def verified_mechanisms() -> list[str]:
    """How one may log in, over TLS that is verified as Django verifies it.

    :raises StreamError: when it is not to be had.
    """
    with opening() as stream:
        if conf.tls != "off":
            stream.ask_for_tls()
            stream.transport.start_tls(conf.domain, conf.ca_file)
        found: list[str] = re.findall(r"<mechanism>([^<]+)</mechanism>", stream.features())
        return found


def shown_certificate() -> Certificate:
    """The certificate that the server shows, whatever it is worth; nothing else is sent.

    :raises StreamError: when there is none.
    """
    with _encrypted(_context()) as secured:
        shown = secured.getpeercert(binary_form=True) or b""
    # Python reads only what it trusts; so here exactly this one is trusted, whatever its age.
    context = _context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags(PARTIAL_CHAIN | NO_CHECK_TIME)
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(shown))
    with _encrypted(context) as secured:
        return read_certificate(secured.getpeercert() or {})


# Private


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def _encrypted(context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """The server over TLS, verified as the context wants it only."""
    with opening() as stream:
        stream.ask_for_tls()
        # Of its own, because that of the transport is never used without being verified.
        with socket.socket(fileno=os.dup(stream.transport.fileno())) as connection:
            connection.settimeout(conf.timeout)
            try:
                with context.wrap_socket(connection, server_hostname=conf.domain) as secured:
                    yield secured
            except OSError as error:
                raise TLSError(stream.transport.server, f"TLS failed: {error}") from error
