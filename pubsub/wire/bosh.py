"""A session over BOSH (XEP-0124, XEP-0206), opened here so that a page may go on with it.

Passwords go over verified TLS, or to this very machine.  There is no thread: who asks waits.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import NoReturn
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape, quoteattr

import xmpp
from xmpp.simplexml import Node, NodeBuilder

from pubsub.exceptions import AuthenticationError, ConnectError, StreamError, StreamLost
from pubsub.wire import sasl
from pubsub.wire.posting import HTTPPeer
from pubsub.wire.transport import Deadline

NS_BOSH = "http://jabber.org/protocol/httpbind"
NS_XBOSH = "urn:xmpp:xbosh"

#: As Strophe asks for it: seconds that the server may hold a request, and how many of them.
WAIT, HOLD = 60, 1


class BoshSession:
    """A session that is logged in; made by :func:`open_bosh`.

    :ivar jid: the full JID that was bound.
    :ivar sid: by which the server knows the session.
    :ivar rid: the number of the next request: whoever goes on with the session begins with it.
    :ivar stanzas: what has come and nobody has asked for yet, oldest first.
    """

    def __init__(self, url: str, domain: str, *, ca_file: str | None, timeout: float) -> None:
        self.jid = ""
        self.sid = ""
        # So large that nobody guesses it, and small enough for the numbers of JavaScript.
        self.rid = secrets.randbelow(2**32) + 1
        self._domain = domain
        self._timeout = timeout
        self._deadline = Deadline(timeout)
        self.stanzas: deque[Node] = deque()
        self._http = HTTPPeer(url, ca_file)

    def request(self, stanza: str) -> Node:
        """Send an IQ, and wait for the next IQ that comes (RFC 6120 §8.2.3).

        :param stanza: as XML text, its namespace ``jabber:client`` included.
        :raises StreamError: when there is none within the timeout, or the session has ended.
        """
        self._deadline = Deadline(self._timeout)
        before = len(self.stanzas)
        self._post(children=stanza)
        while True:
            for index in range(before, len(self.stanzas)):
                if self.stanzas[index].getName() == "iq":
                    found = self.stanzas[index]
                    del self.stanzas[index]
                    return found
            before = len(self.stanzas)
            self._post()

    def receive(self) -> Node:
        """The next stanza that comes and was not an answer to :meth:`request`.

        :raises StreamError: as :meth:`request` does.
        """
        self._deadline = Deadline(self._timeout)
        return self._next()

    def heard(self) -> list[Node]:
        """What has come already and was not asked for; it is not received again."""
        found = list(self.stanzas)
        self.stanzas.clear()
        return found

    def close(self) -> None:
        """End the session (XEP-0124 §13); errors do not matter any more."""
        self._deadline = Deadline(self._timeout)
        try:
            self._post('type="terminate"')
        except StreamError:
            pass
        finally:
            self.leave()

    def leave(self) -> None:
        """Let go of the session, which stays as it is for whoever goes on with it."""
        self._http.close()

    # Private

    def _open(self, username: str, password: str, resource: str) -> None:
        to = f"to={quoteattr(self._domain)}"
        version = f'xmlns:xmpp="{NS_XBOSH}" xmpp:version="1.0"'
        answer = self._post(
            f'{to} wait="{WAIT}" hold="{HOLD}" ver="1.6" content="text/xml; charset=utf-8" '
            f'xml:lang="en" {version}'
        )
        self.sid = answer.getAttr("sid") or ""
        if not self.sid:
            self._fail(f"it opened no session: {_words(answer)}")
        self._authenticate(username, password)
        self.stanzas.clear()  # of the stream before the login
        self._post(f'{to} xml:lang="en" {version} xmpp:restart="true"')
        features = self._expect("features")
        self._bind(resource)
        offer = features.getTag("session", namespace=xmpp.NS_SESSION)
        if offer and not offer.getTag("optional"):
            self._ask(f'<session xmlns="{xmpp.NS_SESSION}"/>')

    def _authenticate(self, username: str, password: str) -> None:
        jid = f"{username}@{self._domain}"
        offer = self._expect("features").getTag("mechanisms", namespace=xmpp.NS_SASL)
        offered = [str(tag.getData()) for tag in offer.getTags("mechanism")] if offer else []
        # A token is no password that SCRAM could be made of.
        if "PLAIN" not in offered:
            names = ", ".join(sorted(offered)) or "none"
            self._refuse(jid, f"it does not offer PLAIN (RFC 4616), but {names}")
        try:
            initial = sasl.Plain(username, password).initial()
        except sasl.SASLError as error:
            self._refuse(jid, str(error))
        self._post(children=f'<auth xmlns="{xmpp.NS_SASL}" mechanism="PLAIN">{initial}</auth>')
        answer = self._expect("success", "failure")
        if answer.getName() == "failure":
            if answer.getTag("temporary-auth-failure"):
                self._fail(f"cannot log in now: {_words(answer)}")
            self._refuse(jid, _words(answer))

    def _bind(self, resource: str) -> None:
        wish = f"<resource>{escape(resource)}</resource>" if resource else ""
        bound = self._ask(f'<bind xmlns="{xmpp.NS_BIND}">{wish}</bind>')
        self.jid = str((bound.getTag("bind") and bound.getTag("bind").getTagData("jid")) or "")
        if not self.jid:
            self._fail(f"it bound no resource: {bound}")

    def _ask(self, child: str) -> Node:
        self._post(children=f'<iq xmlns="jabber:client" type="set" id="open">{child}</iq>')
        answer = self._expect("iq")
        if answer.getAttr("type") != "result":
            self._fail(f"it refused the session: {answer.getTag('error') or answer}")
        return answer

    def _expect(self, *names: str) -> Node:
        """The next stanza, which must bear one of the names."""
        stanza = self._next()
        if stanza.getName() not in names:
            expected = " or ".join(f"<{name}/>" for name in names)
            self._fail(f"it sent <{stanza.getName()}/> where {expected} was due")
        return stanza

    def _next(self) -> Node:
        while not self.stanzas:
            self._post()
        return self.stanzas.popleft()

    def _post(self, attributes: str = "", children: str = "") -> Node:
        """One request and its answer, whose stanzas are kept."""
        try:
            return self._exchange(attributes, children)
        except StreamError:
            self.leave()
            raise

    def _exchange(self, attributes: str, children: str) -> Node:
        sid = f" sid={quoteattr(self.sid)}" if self.sid else ""
        text = f'<body xmlns="{NS_BOSH}" rid="{self.rid}"{sid} {attributes}>{children}</body>'
        self.rid += 1
        answer = self._http.post(text, self._deadline)
        body = self._parsed(answer)
        if body.getAttr("type") in ("terminate", "error") and "terminate" not in attributes:
            condition = body.getAttr("condition") or ""
            reason = f"it ended the session: {condition or 'it does not say why'}"
            raise StreamLost(self._http.server, reason, condition)
        self.stanzas += filter(None, body.getChildren())
        return body

    def _parsed(self, answer: bytes) -> Node:
        builder = NodeBuilder()
        # Entities can only be declared in a document type, which RFC 6120 §11.1 forbids.
        builder._parser.StartDoctypeDeclHandler = self._restricted
        try:
            builder.Parse(answer, 1)
            body = builder.getDom()
        except (ExpatError, ValueError, LookupError, AttributeError, TypeError) as error:
            raise ConnectError(self._http.server, f"what it sent is no BOSH ({error})") from error
        if body is None or body.getName() != "body":
            self._fail("what it sent is no BOSH")
        return body

    def _restricted(self, *args: object) -> NoReturn:
        self._fail("it sent a document type, which XMPP forbids")

    def _fail(self, reason: str) -> NoReturn:
        raise ConnectError(self._http.server, reason)

    def _refuse(self, jid: str, reason: str) -> NoReturn:
        raise AuthenticationError(self._http.server, f"cannot log in as {jid}: {reason}")


def open_bosh(
    url: str,
    domain: str,
    username: str,
    password: str,
    *,
    resource: str = "",
    ca_file: str | None = None,
    timeout: float = 10.0,
) -> BoshSession:
    """Log in over BOSH, by SASL PLAIN (XEP-0206, RFC 4616).

    :param url: of the service, such as ``https://example.org/http-bind``; without TLS only this
        machine itself is talked to.
    :param domain: the virtual host.
    :param resource: to be bound; empty: the server chooses.
    :param ca_file: PEM file of trusted authorities; None trusts the system's.
    :param timeout: seconds that the login, and later each request, may take.
    :raises ConnectError: when nobody answers in time, or answers something else.
    :raises TLSError: when TLS is missing or cannot be verified; nothing was sent then.
    :raises AuthenticationError: when the server refuses the name or the password.
    :raises StreamLost: when it ends the session.
    """
    session = BoshSession(url, domain, ca_file=ca_file, timeout=timeout)
    try:
        session._open(username, password, resource)
    except BaseException:
        session.leave()
        raise
    return session


# Private


def _words(answer: Node) -> str:
    """The reason of a failure, in the server's words (RFC 6120 §6.5)."""
    names = [child.getName() for child in answer.getChildren() if child]
    reason = next((name for name in names if name != "text"), "no reason given")
    text = answer.getTagData("text")
    return f"{reason} ({text})" if text else str(reason)
