"""Proxies between a relay and ejabberd that see stanzas, and do harm at the worst moment."""

import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pubsub.devstack import Stack
from tests.proxy import Link, Proxy

#: Settings of who connects to them: they end TLS, and so speak it from the first byte.
SETTINGS = {"XMPP_TLS": "direct"}

PUBLISHES = re.compile(rb"<publish\b")
SIGN_OF_LIFE = re.compile(rb"urn:xmpp:ping|http://jabber.org/protocol/disco#info")
RESULT = re.compile(rb"<iq\b[^>]*type='result'")


def tls_of(stack: Stack) -> dict[str, Any]:
    """What a proxy needs to end TLS on both sides: as the server, and as a client of it."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(stack.folder / "server.pem")
    theirs = ssl.create_default_context(cafile=stack.settings["XMPP_CA_FILE"])
    return {"client_tls": ours, "server_tls": theirs}


class Cutter(Proxy):
    """Cuts the stream within a stanza that publishes: each time some bytes further into it.

    :param step: so many bytes further.
    :param times: after so many cuts it does no more harm.
    :param relentless: whether it cuts again before anything was acknowledged.
    """

    def __init__(self, stack: Stack, *, step: int, times: int, relentless: bool = False) -> None:
        super().__init__(stack.ports.xmpp_tls, rewrite=self._pass, by_stanza=True, **tls_of(stack))
        self.cuts = 0
        self._step = step
        self._times = times
        self._relentless = relentless
        self._is_armed = True

    def _pass(self, link: Link, stanza: bytes) -> bytes:
        if RESULT.search(stanza) and PUBLISHES.search(stanza):
            self._is_armed = True
        return stanza

    async def _to_server(self, link: Link) -> None:
        assert link.upstream is not None
        while data := await link.hear():
            armed = self._is_armed and self.cuts < self._times
            found = PUBLISHES.search(data) if armed else None
            if found:
                self.cuts += 1
                self._is_armed = self._relentless
                data = data[: found.start() + self.cuts * self._step]
            link.upstream.write(data)
            await link.upstream.drain()
            if found:
                with suppress(OSError):
                    link.reset()
                return


class Holder(Proxy):
    """Freezes, once it is told to, as soon as something is asked; ``thaw()`` passes it on.

    :param what: how that begins; by default it is something published.
    :param skip: the first ones are passed on.
    """

    def __init__(self, stack: Stack, what: re.Pattern[bytes] = PUBLISHES, skip: int = 0) -> None:
        super().__init__(stack.ports.xmpp_tls, **tls_of(stack))
        self.waits = False
        self.holds = False
        self._what = what
        self._skip = skip

    async def _to_server(self, link: Link) -> None:
        assert link.upstream is not None
        while data := await link.hear():
            if self.waits and self._what.search(data):
                if self._skip:
                    self._skip -= 1
                else:
                    self.waits, self.holds = False, True
                    self._requests_flow.clear()
            await self._requests_flow.wait()
            link.upstream.write(data)
            await link.upstream.drain()


class Acknowledgements(Proxy):
    """Calls a function as it passes an acknowledgement of something published.

    :param fault: called with the number of the acknowledgement, from 1, before it is passed on.
    """

    def __init__(self, stack: Stack, fault: Callable[[int], None]) -> None:
        super().__init__(stack.ports.xmpp_tls, rewrite=self._pass, by_stanza=True, **tls_of(stack))
        self.passed = 0
        self._fault = fault

    def _pass(self, link: Link, stanza: bytes) -> bytes:
        if RESULT.search(stanza) and PUBLISHES.search(stanza):
            self.passed += 1
            self._fault(self.passed)
        return stanza
