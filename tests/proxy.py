"""Real TCP servers in a thread of their own, to make the faults of the network with.

Proxy       stands between us and a real server: it passes, freezes, cuts, slows, lies
Impostor    is no XMPP server at all: it says and does what a test wants

Both record what their clients sent, so that a test can say what a man in the middle got.  A proxy
may end TLS on either side (``client_tls``, ``server_tls``) and so see the stanzas in between; with
``by_stanza`` its ``rewrite`` gets them one by one.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from xml.parsers import expat

LOOPBACK = "127.0.0.1"


class Link:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.upstream: asyncio.StreamWriter | None = None
        #: Every byte that the client has sent, as the proxy sees it.
        self.received = bytearray()

    async def hear(self) -> bytes:
        """Return, and record, what the client says next; nothing once it has ended."""
        data = await self.reader.read(65536)
        self.received += data
        return data

    def reset(self) -> None:
        """Cut as a crashed machine's kernel does: RST, to both sides."""
        for writer in filter(None, (self.writer, self.upstream)):
            linger = struct.pack("ii", 1, 0)  # close() drops what is unsent and sends RST
            with contextlib.suppress(OSError, AttributeError):  # it is closed already
                connected = writer.get_extra_info("socket")
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    def finish(self) -> None:
        """Cut as an ending process does: FIN, to both sides."""
        for writer in filter(None, (self.writer, self.upstream)):
            if not writer.is_closing():  # closing TLS a second time forgets what is to be closed
                writer.close()


class Server:
    """Accepts connections on a loopback port, in a thread with an event loop of its own.

    A context manager; everything is closed and the thread is gone when it is left.

    :param tls: what is spoken to clients from the first byte; None is clear text.
    :param host: the address to listen on.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = LOOPBACK) -> None:
        self.host = host
        self.port = 0
        self.links: list[Link] = []
        self._tls = tls
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._mistakes: list[Exception] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        self.call(self._listen())
        return self

    def __exit__(self, *error: object) -> None:
        self.call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._mistakes:
            raise self._mistakes[0]

    @property
    def received(self) -> bytes:
        """Everything that clients have sent, one connection after the other."""
        return b"".join(bytes(link.received) for link in self.links)

    def count(self, text: bytes) -> int:
        """How often clients have sent a text."""
        return sum(bytes(link.received).count(text) for link in self.links)

    def go_down(self, *, rst: bool = True) -> None:
        """Refuse new connections and cut all there are."""
        self.call(self._unlisten())
        self.cut(rst=rst)

    def come_up(self) -> None:
        """Accept again, on the same port."""
        self.call(self._listen())

    def cut(self, *, rst: bool = True) -> None:
        """Cut all connections, by RST or by FIN; new ones are welcome."""

        async def cut() -> None:
            for link in self.links:
                link.reset() if rst else link.finish()

        self.call(cut())

    def inject(self, data: bytes) -> None:
        """Say something to every client."""

        async def write() -> None:
            for link in self.links:
                if not link.writer.is_closing():
                    link.writer.write(data)

        self.call(write())

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the thread, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def serve(self, link: Link) -> None:
        """What happens to a connection; it is closed on return."""
        raise NotImplementedError

    # Private

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._accept, self.host, self.port, ssl=self._tls, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _unlisten(self) -> None:
        assert self._listener is not None
        # asyncio forgets, without closing it, what was accepted and is not set up at this moment.
        for listening in self._listener.sockets:
            self._loop.remove_reader(listening.fileno())
        await self._let_the_loop_turn()
        self._listener.close()

    async def _close(self) -> None:
        await self._unlisten()
        ours = asyncio.current_task()
        # Not our links only: asyncio has a task for each handshake, which closes what it opened.
        others = [task for task in asyncio.all_tasks() if task is not ours]
        for task in others:
            task.cancel()
        for link in self.links:
            link.reset()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in filter(
            None, [w for link in self.links for w in (link.writer, link.upstream)]
        ):
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 5)
        await self._let_the_loop_turn()  # what is being closed is closed

    async def _let_the_loop_turn(self) -> None:
        for _ in range(10):  # a connection takes four turns from accept() to its link
            await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link = Link(reader, writer)
        self.links.append(link)
        try:
            # A fault on the wire is what these servers are for, and not an error in them.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self.serve(link)
        except Exception as error:  # noqa: BLE001 (a mistake in a test: told when it ends)
            self._mistakes.append(error)
        finally:
            link.finish()
            self._tasks.discard(task)


class Impostor(Server):
    """Is no XMPP server: runs a script for every connection.

    :param script: a coroutine function that gets the link; with None it accepts and says nothing.
    """

    def __init__(self, script: Callable[[Link], Awaitable[None]] | None = None, **options: Any):
        super().__init__(**options)
        self._script = script

    async def serve(self, link: Link) -> None:
        if self._script is not None:
            await self._script(link)
        while await link.hear():
            pass


class Proxy(Server):
    """Passes bytes between its clients and a server, as long as it is not told otherwise.

    :param target: port of the server on the loopback.
    :param server_tls: what is spoken to the server from the first byte; None is clear text.
    :param rewrite: gets the link and what the server sent, and returns what the client gets.
    :param by_stanza: ``rewrite`` gets one stanza, or stream header, at a time.
    """

    def __init__(
        self,
        target: int,
        *,
        client_tls: ssl.SSLContext | None = None,
        server_tls: ssl.SSLContext | None = None,
        rewrite: Callable[[Link, bytes], bytes] = lambda link, data: data,
        by_stanza: bool = False,
    ) -> None:
        super().__init__(tls=client_tls)
        #: Bytes per second towards the server; None is as fast as it goes.
        self.rate: float | None = None
        self.rewrite = rewrite
        self._target = target
        self._server_tls = server_tls
        self._by_stanza = by_stanza
        self._requests_flow, self._answers_flow = asyncio.Event(), asyncio.Event()
        self._requests_flow.set()
        self._answers_flow.set()

    def freeze(self, *, requests: bool = True, answers: bool = True) -> None:
        """Forward nothing any more, on connections old and new, and close none."""

        async def freeze() -> None:
            if requests:
                self._requests_flow.clear()
            if answers:
                self._answers_flow.clear()

        self.call(freeze())

    def thaw(self) -> None:
        """Forward again, what was held back first."""

        async def thaw() -> None:
            self._requests_flow.set()
            self._answers_flow.set()

        self.call(thaw())

    async def serve(self, link: Link) -> None:
        reader, link.upstream = await asyncio.open_connection(
            LOOPBACK,
            self._target,
            ssl=self._server_tls,
            server_hostname="localhost" if self._server_tls else None,
        )
        pumps = [
            asyncio.ensure_future(self._to_server(link)),
            asyncio.ensure_future(self._to_client(reader, link)),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    # Private

    async def _to_server(self, link: Link) -> None:
        assert link.upstream is not None
        while data := await link.hear():
            if self.rate is not None:
                await asyncio.sleep(len(data) / self.rate)
            await self._requests_flow.wait()
            link.upstream.write(data)
            await link.upstream.drain()

    async def _to_client(self, reader: asyncio.StreamReader, link: Link) -> None:
        splitter = Splitter()
        while data := await reader.read(65536):
            await self._answers_flow.wait()
            for part in splitter.feed(data) if self._by_stanza else [data]:
                link.writer.write(self.rewrite(link, part))
            await link.writer.drain()


class Splitter:
    """Cuts the bytes of an XMPP stream into its header and its stanzas."""

    def __init__(self) -> None:
        self._begin()

    def feed(self, data: bytes) -> list[bytes]:
        """Return what has become whole by these bytes, in order."""
        if data.lstrip().startswith(b"<?xml"):
            self._begin()  # the stream was restarted
        self._buffer += data
        self._ends.clear()
        self._parser.Parse(data)
        parts = []
        for end in self._ends:
            cut = end - self._offset
            parts.append(bytes(self._buffer[:cut]))
            del self._buffer[:cut]
            self._offset += cut
        return parts

    # Private

    def _begin(self) -> None:
        self._buffer = bytearray()
        self._offset = 0
        self._depth = 0
        self._tag = 0
        self._ends: list[int] = []
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth <= 2:
            self._tag = self._parser.CurrentByteIndex
        if self._depth == 1:
            self._ends.append(self._behind(self._tag))

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._depth <= 1:
            here = self._parser.CurrentByteIndex
            # Of <a/> expat gives the place behind it, of <a></a> that of the second tag.
            empty = self._depth == 1 and self._behind(self._tag) == here
            self._ends.append(here if empty else self._behind(here))

    def _behind(self, tag: int) -> int:
        return self._buffer.index(b">", tag - self._offset) + 1 + self._offset
