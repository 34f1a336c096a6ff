"""Visitors as the server sees them: pages that connect, subscribe, and leave, politely or not."""

import base64
import http.client
import secrets
import socket
import xml.etree.ElementTree as ET
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

BOSH = "http://jabber.org/protocol/httpbind"
IQ = "{jabber:client}iq"
JID = "{urn:ietf:params:xml:ns:xmpp-bind}jid"


def bind(resource: str = "page") -> str:
    body = f'<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"><resource>{resource}</resource></bind>'
    return f'<iq xmlns="jabber:client" type="set" id="b">{body}</iq>'


def auth(name: str, password: str = "any password") -> str:
    secret = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
    return f'<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="PLAIN">{secret}</auth>'


def subscribe(service: str, node: str, jid: str) -> str:
    return (
        f'<iq xmlns="jabber:client" type="set" id="s" to={quoteattr(service)}>'
        '<pubsub xmlns="http://jabber.org/protocol/pubsub">'
        f"<subscribe node={quoteattr(node)} jid={quoteattr(jid)}/></pubsub></iq>"
    )


def abort(connection: socket.socket) -> None:
    """End a TCP connection without a word of the protocol above it."""
    with suppress(OSError):  # the server may have ended it before
        connection.shutdown(socket.SHUT_RDWR)


class WebSocketStream:
    """A stream over XMPP WebSocket (RFC 7395), not logged in yet.

    :param domain: the virtual host to talk to.
    :param address: the address to come from, one of this machine's; None leaves it to the system.
    """

    def __init__(self, url: str, domain: str, address: str | None = None) -> None:
        self._open = (
            f'<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" to="{domain}" version="1.0"/>'
        )
        # ejabberd 23.01 closes one in some thousands right after the upgrade, or loses its first
        # frame.  The browser client, too, connects again then.
        self._connect(url, address)
        try:
            self.greeting = self.ask(self._open, answers=2)
        except (TimeoutError, ConnectionClosed):
            self.vanish()
            self._connect(url, address)
            self.greeting = self.ask(self._open, answers=2)

    def _connect(self, url: str, address: str | None) -> None:
        there = urlsplit(url)
        self._stack = ExitStack()
        tcp = socket.create_connection(
            (there.hostname, there.port), timeout=20, source_address=address and (address, 0)
        )
        self._stack.callback(tcp.close)
        # Pings of its own would take numbers from ``random`` while other tests look at those.
        quiet = connect(url, sock=tcp, subprotocols=["xmpp"], ping_interval=None)
        self._socket = self._stack.enter_context(quiet)

    def log_in(
        self, name: str, password: str = "any password", resource: str = "page"
    ) -> ET.Element:
        """The answer to the request for a resource, once the password has been accepted."""
        assert "success" in self.ask(auth(name, password))
        self.restart()
        return ET.fromstring(self.ask(bind(resource)))

    def restart(self) -> None:
        """What follows a password that has been accepted (RFC 6120 §6.4.6)."""
        self.ask(self._open, answers=2)

    def send(self, text: str) -> None:
        """Send something, and wait for nothing."""
        self._socket.send(text)

    def ask(self, text: str, answers: int = 1) -> str:
        """Send something; returns the last of so many answers."""
        self.send(text)
        return [self.hear() for _ in range(answers)][-1]

    def request(self, text: str) -> ET.Element:
        """Send a request; returns the answer to it, whatever is said before that."""
        answer = ET.fromstring(self.ask(text))
        while answer.tag != IQ:
            answer = ET.fromstring(self.hear())
        return answer

    def hear(self) -> str:
        """What the server says next."""
        return str(self._socket.recv(timeout=20))

    def vanish(self) -> None:
        """Go without a word."""
        abort(self._socket.socket)
        self._stack.close()


class WebSocketVisitor(WebSocketStream):
    """A page over XMPP WebSocket.

    :param name: of the guest; a new one if not given.
    """

    def __init__(self, settings: dict, node: str, name: str = "") -> None:
        super().__init__(settings["PUBSUB_WEBSOCKET_URL"], settings["PUBSUB_GUEST_DOMAIN"])
        self.jid = self.log_in(name or secrets.token_hex(8)).find(f".//{JID}").text
        answer = self.request(subscribe(settings["XMPP_PUBSUB_HOST"], node, self.jid))
        assert answer.get("type") == "result"

    def say_goodbye(self) -> None:
        self._socket.send('<close xmlns="urn:ietf:params:xml:ns:xmpp-framing"/>')
        self._stack.close()


class BoshVisitor:
    """A page over BOSH (XEP-0124, XEP-0206).

    :param address: the address to come from, one of this machine's; None leaves it to the system.
    :raises PermissionError: with the server's words, when the login is refused.
    """

    def __init__(self, settings: dict, node: str, address: str | None = None) -> None:
        self._url = urlsplit(settings["PUBSUB_BOSH_URL"])
        self._connection = http.client.HTTPConnection(
            self._url.netloc, timeout=20, source_address=address and (address, 0)
        )
        self._rid = secrets.randbelow(10**9)
        self.sid = ""
        to = f'to="{settings["PUBSUB_GUEST_DOMAIN"]}"'
        self.sid = self._post(
            f'{to} wait="1" hold="1" ver="1.6" xmlns:xmpp="urn:xmpp:xbosh" xmpp:version="1.0"'
        ).get("sid")
        said = ET.tostring(self._post(children=auth(secrets.token_hex(8))), "unicode")
        if "success" not in said:
            self._connection.close()
            raise PermissionError(said)
        self._post(f'{to} xmlns:xmpp="urn:xmpp:xbosh" xmpp:restart="true"')
        self.jid = self._post(children=bind()).find(f".//{JID}").text
        answer = self._request(subscribe(settings["XMPP_PUBSUB_HOST"], node, self.jid))
        assert answer.get("type") == "result"

    @property
    def next_rid(self) -> int:
        """The request id with which somebody else may go on (XEP-0124 §14)."""
        return self._rid + 1

    def say_goodbye(self) -> None:
        self._post('type="terminate"')
        self._connection.close()

    def close(self) -> None:
        """Leave the session to whom it was handed."""
        self._connection.close()

    def vanish(self) -> None:
        if self._connection.sock:
            abort(self._connection.sock)
        self._connection.close()

    def post(self, text: str) -> ET.Element:
        """Send something; returns what the server says with it."""
        return self._post(children=text)

    def _request(self, text: str) -> ET.Element:
        """The answer to a request, whatever is said before it."""
        body = self._post(children=text)
        while (answer := body.find(IQ)) is None:
            body = self._post()
        return answer

    def _post(self, attributes: str = "", children: str = "") -> ET.Element:
        self._rid += 1
        sid = f'sid="{self.sid}"' if self.sid else ""
        body = f'<body xmlns="{BOSH}" rid="{self._rid}" {sid} {attributes}>{children}</body>'
        self._connection.request("POST", self._url.path, body.encode())
        return ET.fromstring(self._connection.getresponse().read())
