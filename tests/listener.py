"""A visitor by an independent XMPP library (slixmpp), who subscribes and keeps what arrives."""

import asyncio
import queue
import secrets
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import slixmpp

EVENT = "{http://jabber.org/protocol/pubsub#event}"
ATOM = "{http://www.w3.org/2005/Atom}"
DELAY = "{urn:xmpp:delay}delay"


@dataclass
class Event:
    """One item, or one retraction, as it arrived."""

    node: str
    id: str
    entry: ET.Element | None

    @property
    def text(self) -> str:
        assert self.entry is not None
        return "".join(self.entry.itertext())

    @property
    def meta(self) -> dict[str, str]:
        assert self.entry is not None
        return dict(self.entry[0].attrib)


class Listener:
    """A guest with a stream of his own, in a thread of his own.

    :param settings: the Django settings of the stack.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        # His alone: the server forgets what a name has subscribed to when its session ends.
        self._name = name = f"listener-{secrets.token_hex(4)}"
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name)

    def __enter__(self) -> "Listener":
        self._thread.start()
        self._wait(self._open())
        return self

    def __exit__(self, *args: object) -> None:
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def subscribe(self, node: str) -> None:
        """Subscribe by full JID, as a page does."""
        self._wait(self._subscribe(node))

    def next(self) -> Event:
        """The next event; waits for it."""
        return self._events.get(timeout=10)

    def is_idle(self) -> bool:
        """Whether everything that has arrived has been looked at."""
        return self._events.empty()

    # Private

    def _wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _open(self) -> None:
        domain = self._settings["PUBSUB_GUEST_DOMAIN"]
        self._client = slixmpp.ClientXMPP(f"{self._name}@{domain}", "any password")
        self._client.register_plugin("xep_0060")
        self._client.ca_certs = self._settings["XMPP_CA_FILE"]
        self._client.add_event_handler("pubsub_publish", self._keep)
        self._client.add_event_handler("pubsub_retract", self._keep)
        online = self._loop.create_future()
        self._client.add_event_handler("session_start", online.set_result)
        self._client.connect(self._settings["XMPP_HOST"], self._settings["XMPP_PORT"])
        await asyncio.wait_for(online, 15)

    async def _subscribe(self, node: str) -> None:
        service = self._settings["XMPP_PUBSUB_HOST"]
        await self._client.plugin["xep_0060"].subscribe(service, node, bare=False, timeout=10)

    async def _close(self) -> None:
        await self._client.disconnect()
        # slixmpp leaves tasks of its own behind.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _keep(self, message: Any) -> None:
        if message.xml.find(DELAY) is not None:
            return  # the node's last item, which is no event
        for items in message.xml.iter(f"{EVENT}items"):
            for child in items:
                entry = child.find(f"{ATOM}entry")
                self._events.put(Event(items.get("node", ""), child.get("id", ""), entry))


@contextmanager
def listening(settings: dict[str, Any], *nodes: str) -> Iterator[Listener]:
    """A listener that is subscribed to some nodes."""
    with Listener(settings) as listener:
        for node in nodes:
            listener.subscribe(node)
        yield listener
