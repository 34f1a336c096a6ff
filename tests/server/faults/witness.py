"""A guest over WebSocket who is subscribed to nodes and keeps a diary of all that he is told."""

import contextlib
import itertools
import secrets
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any
from xml.sax.saxutils import quoteattr

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import connect

from tests.server.faults.ledger import Diary, Seen, Synced
from tests.visitors import JID, WebSocketStream

ATOM = "{http://www.w3.org/2005/Atom}"
DELAY = "{urn:xmpp:delay}delay"
EVENT = "{http://jabber.org/protocol/pubsub#event}"
META = "{urn:django-pubsub:1}meta"
NS_PUBSUB = "http://jabber.org/protocol/pubsub"

#: How a stream says that it is not there, or not any more.
GONE = (OSError, TimeoutError, ConnectionClosed, InvalidHandshake, InvalidMessage, AssertionError)


class Refused(Exception):
    """The server's answer was an error."""


class Stream(WebSocketStream):
    """A stream that takes stanzas of any length: those that bring the items of a node."""

    def _connect(self, url: str, address: str | None) -> None:
        self._stack = ExitStack()
        self._socket = self._stack.enter_context(
            connect(url, subprotocols=["xmpp"], max_size=None, open_timeout=10)
        )

    def read(self) -> str | None:
        """The next stanza, or None when there was none for a moment."""
        try:
            return str(self._socket.recv(timeout=0.5))
        except TimeoutError:
            return None


class Witness:
    """A page that subscribes, fetches what the nodes hold, and then hears of every change.

    A context manager; a thread of its own reads the stream.  When the stream is lost he comes back
    and fetches again; his diary then says that he was interrupted.
    """

    def __init__(self, name: str, settings: dict[str, Any], nodes: Iterable[str]) -> None:
        self.diary = Diary(name)
        self._settings = settings
        self._service = settings["XMPP_PUBSUB_HOST"]
        self._nodes = list(nodes)
        self._ids = itertools.count(1)
        self._answers: dict[str, ET.Element] = {}
        self._answered = threading.Condition()
        self._leaves = threading.Event()
        self._is_there = threading.Event()
        self._stream: Stream | None = None
        self._thread = threading.Thread(target=self._live, name=f"witness {name}", daemon=True)

    def __enter__(self) -> "Witness":
        self._thread.start()
        if not self._is_there.wait(30):
            self.__exit__()
            raise TimeoutError(f"{self.diary.name} could not subscribe within 30 s")
        return self

    def __exit__(self, *error: object) -> None:
        self._leaves.set()
        self._thread.join()

    def fetch(self, node: str) -> list[Seen]:
        """What a node holds now; everything that the node told before is in the diary by then."""
        while True:
            assert self._is_there.wait(30), f"{self.diary.name} has not come back within 30 s"
            with contextlib.suppress(*GONE):
                return self._items(node, self._ask_from_outside(_items_request(node)))

    # Private

    def _live(self) -> None:
        while not self._leaves.is_set():
            try:
                self._arrive()
                self._is_there.set()
                while not self._leaves.is_set():
                    self._take(self._stream.read())
            except (*GONE, Refused):
                if self._is_there.is_set():
                    self.diary.interrupted = True
                    self._is_there.clear()
                self._leaves.wait(0.1)
            finally:
                if self._stream is not None:
                    with contextlib.suppress(*GONE):
                        self._stream.vanish()
                    self._stream = None

    def _arrive(self) -> None:
        """Log in, subscribe, and then fetch: what happens in between comes as an event."""
        url, domain = self._settings["PUBSUB_WEBSOCKET_URL"], self._settings["PUBSUB_GUEST_DOMAIN"]
        self._stream = Stream(url, domain)
        answer = self._stream.log_in(secrets.token_hex(8)).find(f".//{JID}")
        assert answer is not None
        jid = quoteattr(str(answer.text))
        for node in self._nodes:
            self._ask(f"<subscribe node={quoteattr(node)} jid={jid}/>", kind="set")
        for node in self._nodes:
            items = self._items(node, self._ask(_items_request(node)))
            self.diary.entries.append(Synced(node, tuple(items)))

    def _send(self, request: str, kind: str) -> str:
        assert self._stream is not None
        id = f"q{next(self._ids)}"
        self._stream._socket.send(
            f'<iq xmlns="jabber:client" type="{kind}" id="{id}" to={quoteattr(self._service)}>'
            f'<pubsub xmlns="{NS_PUBSUB}">{request}</pubsub></iq>'
        )
        return id

    def _ask(self, request: str, kind: str = "get") -> ET.Element:
        """The answer to a request, for the thread that reads."""
        assert self._stream is not None
        id = self._send(request, kind)
        while id not in self._answers:
            self._take(self._stream.hear())
        return _result(self._answers.pop(id))

    def _ask_from_outside(self, request: str) -> ET.Element:
        id = self._send(request, "get")
        with self._answered:
            if not self._answered.wait_for(lambda: id in self._answers, timeout=20):
                raise TimeoutError
            return _result(self._answers.pop(id))

    def _take(self, text: str | None) -> None:
        """Keep a stanza: as an answer, or in the diary."""
        if text is None:
            return
        stanza = ET.fromstring(text)
        if stanza.tag == "{jabber:client}iq":
            with self._answered:
                self._answers[stanza.get("id", "")] = stanza
                self._answered.notify_all()
        elif stanza.find(DELAY) is not None:
            pass  # the node's last item, which is no event
        elif stanza.tag == "{jabber:client}message":
            for items in stanza.iter(f"{EVENT}items"):
                for child in items:
                    self.diary.entries.append(_seen(items.get("node", ""), child))

    def _items(self, node: str, answer: ET.Element) -> list[Seen]:
        items = [_seen(node, item) for item in answer.iter(f"{{{NS_PUBSUB}}}item")]
        return [item for item in items if item.state is not None]


def _items_request(node: str) -> str:
    return f"<items node={quoteattr(node)}/>"


def _result(answer: ET.Element) -> ET.Element:
    if answer.get("type") != "result":
        raise Refused(ET.tostring(answer, encoding="unicode"))
    return answer


def _seen(node: str, child: ET.Element) -> Seen:
    """An item, or a retraction, as the diary has it."""
    entry = child.find(f"{ATOM}entry")
    if entry is None:
        return Seen(node, child.get("id", ""), None)
    meta = entry.find(META)
    if meta is not None and meta.get("event") == "deleted" and len(entry) == 1:
        return Seen(node, child.get("id", ""), None)  # a tombstone
    seq = None if meta is None else meta.get("seq")
    return Seen(node, child.get("id", ""), "".join(entry.itertext()).strip(), seq)
