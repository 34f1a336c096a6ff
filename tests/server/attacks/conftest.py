"""The ground of the attacks: a site that serves its visitors, and somebody who means it no good.

All of them are made against the worker's shared ejabberd, with deploy/ejabberd.yml and its guard.
After each test a bystander hears the site's next item: whatever was tried, he has noticed nothing.

site        the publisher, a node that everybody may read, and the private node of another user
attacker    a guest or a user of the site, logged in as pages are; each test is made by both
visit       makes more of them
log         what ejabberd has logged since the test began
"""

import re
import secrets
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from xml.sax.saxutils import quoteattr

import jwt
import pytest
from websockets.exceptions import ConnectionClosed

from pubsub.devstack import Stack
from pubsub.exceptions import RequestRefused
from pubsub.wire import stanzas
from pubsub.wire.connection import Connection
from tests.server.wire.conftest import publisher
from tests.visitors import JID, WebSocketStream, WebSocketVisitor
from tests.waiting import until

#: Where visitors come from; the stack's own address, 127.0.0.1, has rights that no visitor has.
OUTSIDE = "127.0.0.9"

PUBSUB = "http://jabber.org/protocol/pubsub"
OWNER = f"{PUBSUB}#owner"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
GUESTS, USERS = "guests.localhost", "users.localhost"
SERVICE = "pubsub.localhost"
#: Of Ada: the user whose node, and whose token, others try to get.
ADA = f"77@{USERS}"


def token(
    stack: Stack, user: str, *, key: Any = None, algorithm: str = "HS256", **claims: Any
) -> str:
    """A token as Django gives it to a user, but for what an attacker has changed.

    :param claims: laid over the usual ones; None leaves one out.
    """
    now = time.time()
    usual = {"sub": f"{user}@{USERS}", "iat": now, "exp": int(now) + 60}
    kept = {name: value for name, value in (usual | claims).items() if value is not None}
    key = stack.settings["PUBSUB_JWT_KEY"] if key is None else key
    return jwt.encode(kept, key, algorithm=algorithm)


class Log:
    """What ejabberd has logged since this was made."""

    def __init__(self, stack: Stack) -> None:
        self._path = stack.folder / "ejabberd.log"
        self._begin = self._path.stat().st_size

    @property
    def text(self) -> str:
        with self._path.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode("utf-8", "replace")

    def says(self, *words: str) -> None:
        """Wait for a line in which all the words are, in this order."""
        pattern = ".*".join(map(re.escape, words))
        until(lambda: re.search(pattern, self.text), f"the log says {' … '.join(words)}", 5)


@dataclass
class Site:
    """What there is to be attacked, and how its owner sees it."""

    stack: Stack
    connection: Connection
    node: str
    private: str

    def ask(self, request: stanzas.Request[Any]) -> Any:
        """What the publisher gets for a request."""
        return self.connection.request(request).result(10)

    def publish(self, node: str, text: str, id: str = "1") -> None:
        self.ask(stanzas.publish(SERVICE, node, f'<entry xmlns="urn:x">{text}</entry>', id))

    def items(self, node: str) -> dict[str, str]:
        """Id → text, of what a node holds."""
        held = self.ask(stanzas.items(SERVICE, node))
        return {item.id: item.payload.getData() for item in held}

    def subscribers(self, node: str) -> set[str]:
        return {entry.jid for entry in self.ask(stanzas.subscriptions(SERVICE, node))}

    def has(self, node: str) -> bool:
        """Whether there is such a node, whoever it belongs to."""
        try:
            self.ask(stanzas.items(SERVICE, node))
        except RequestRefused as error:
            return error.condition != "item-not-found"
        return True


class Attacker(WebSocketStream):
    """A visitor who says whatever he likes; his page is logged in.

    :param name: of the guest; a user has a number, and a token for it.
    """

    def __init__(self, stack: Stack, domain: str, name: str, password: str) -> None:
        http = urlsplit(stack.settings["PUBSUB_WEBSOCKET_URL"])
        super().__init__(http.geturl(), domain, OUTSIDE)
        self.bare = f"{name}@{domain}"
        self.jid = self.log_in(name, password).find(f".//{JID}").text

    def iq(self, type: str, content: str, to: str = SERVICE) -> Any:
        """The answer to a request; all that comes before it is passed over."""
        return self.request(
            f'<iq xmlns="jabber:client" type="{type}" id="{secrets.token_hex(4)}" '
            f"to={quoteattr(to)}>{content}</iq>"
        )

    def send_bytes(self, raw: bytes) -> None:
        """Say something as text that need not be any."""
        self._socket.send(raw, text=True)

    def rest_until(self, *words: str) -> str:
        """What comes until one of the words has come, or the server ends the stream."""
        heard = ""
        with suppress(ConnectionClosed):
            while not any(word in heard for word in words):
                heard += self.hear()
        return heard

    def next(self) -> ET.Element:
        """The next stanza."""
        return ET.fromstring(self.hear())

    def rest(self) -> str:
        """What comes until the server ends the stream."""
        return self.rest_until()

    def pubsub(self, type: str, content: str, namespace: str = PUBSUB) -> Any:
        """The answer to a request of XEP-0060."""
        return self.iq(type, f'<pubsub xmlns="{namespace}">{content}</pubsub>')


def refusal(answer: Any) -> str:
    """The condition with which something was refused; empty where it was not."""
    if answer.get("type") != "error":
        return ""
    error = answer.find("{jabber:client}error")
    return next(
        child.tag.removeprefix(STANZAS)
        for child in error
        if child.tag.startswith(STANZAS) and not child.tag.endswith("}text")
    )


@pytest.fixture(scope="package")
def site(stack: Stack) -> Iterator[Site]:
    name = secrets.token_hex(4)
    connection = Connection(publisher(stack))
    site = Site(stack, connection, f"/attacked/{name}", f"/private/{name}")
    site.ask(stanzas.create(SERVICE, site.node, {"access_model": "open"}))
    site.ask(stanzas.create(SERVICE, site.private, {"access_model": "whitelist"}))
    site.ask(stanzas.set_affiliations(SERVICE, site.private, {ADA: "member"}))
    for node in (site.node, site.private):
        site.publish(node, "first", "first")
    yield site
    connection.close()


@pytest.fixture(scope="package")
def bystander(site: Site) -> Iterator[WebSocketVisitor]:
    visitor = WebSocketVisitor(site.stack.settings, site.node)
    yield visitor
    visitor.vanish()


@pytest.fixture(autouse=True)
def _nobody_notices(site: Site, bystander: WebSocketVisitor) -> Iterator[None]:
    """After each test the site publishes, and its visitors hear of it, and of nothing else."""
    yield
    word = secrets.token_hex(8)
    site.publish(site.node, word, "next")
    heard = ""
    while word not in heard:
        heard = bystander.hear()
        assert f"from='{SERVICE}'" in heard


@pytest.fixture
def visit(stack: Stack) -> Iterator[Callable[..., Attacker]]:
    """A function that lets somebody log in: a guest, or a user by his number."""
    with ExitStack() as gone:

        def visit(kind: str, name: str = "", password: str = "") -> Attacker:
            if kind == "guest":
                name, password, domain = name or secrets.token_hex(8), "any password", GUESTS
            else:
                name, domain = name or str(secrets.randbelow(10**9) + 1000), USERS
                password = password or token(stack, name)
            visitor = Attacker(stack, domain, name, password)
            gone.callback(visitor.vanish)
            return visitor

        yield visit


@pytest.fixture(params=["guest", "user"])
def attacker(request: pytest.FixtureRequest, visit: Callable[..., Attacker]) -> Attacker:
    return visit(request.param)


@pytest.fixture
def log(stack: Stack) -> Log:
    return Log(stack)
