"""What may stand between a page and the site: nginxes set up otherwise, and a slow network."""

import asyncio
import base64
import hashlib
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pubsub.devstack import Child, Ports, Stack, files
from pubsub.devstack.processes import listening
from tests.proxy import Link, Proxy

Change = Callable[[str], str]


@contextmanager
def front(stack: Stack, folder: Path, change: Change) -> Iterator[str]:
    """A second nginx before the same servers, as long as the block lasts; gives its address.

    :param folder: where its files may live.
    :param change: gets the configuration of the site, and returns another one.
    """
    port = Ports().resolved().nginx
    site = (stack.folder / "site.conf").read_text(encoding="utf-8")
    changed = change(site)
    assert changed != site, "the configuration is as it was"
    changed = changed.replace(f"listen 127.0.0.1:{stack.ports.nginx}", f"listen 127.0.0.1:{port}")
    (folder / "site.conf").write_text(changed, encoding="utf-8")
    shutil.copy(stack.folder / "nginx.conf", folder)
    nginx = files.find_programs({"nginx": "nginx-light"})["nginx"]
    command = [nginx, "-e", "stderr", "-p", f"{folder}/", "-c", f"{folder}/nginx.conf"]
    with Child("front", command, folder=folder, ready=lambda: listening(port)):
        yield f"http://127.0.0.1:{port}/"


def without_websocket(site: str) -> str:
    """An nginx that knows of no WebSocket."""
    block = r"(?:[^{}]|\{[^{}]*\})*"
    return re.sub(rf"(location = /ws \{{){block}\}}", r"\1 return 404; }", site)


def without_upgrade(site: str) -> str:
    """An nginx that passes the request for a WebSocket on without the headers that make it one."""
    return re.sub(r'proxy_set_header (Upgrade|Connection) ("upgrade"|\$http_upgrade);', "", site)


def websocket_at(port: int) -> Change:
    """An nginx that finds the WebSocket somewhere else."""
    return lambda site: re.sub(
        r"(location = /ws \{\s*proxy_pass http://)ejabberd;", rf"\g<1>127.0.0.1:{port};", site
    )


def ejabberd_at(port: int, stack: Stack) -> Change:
    """An nginx that finds ejabberd behind another port."""
    return lambda site: site.replace(f'"unix:{stack.http_socket}";', f"127.0.0.1:{port};")


async def open_and_hang(link: Link) -> None:
    """Open a WebSocket (RFC 6455 §4.2), and say nothing in it; for an ``Impostor``."""
    request = await link.hear()
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", request, re.I)
    assert key is not None
    guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key[1] + guid).digest())
    link.writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: xmpp\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


class Slow(Proxy):
    """Keeps each answer back for a moment."""

    SECONDS = 0.1

    async def _to_client(self, reader: asyncio.StreamReader, link: Link) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(self.SECONDS)
            link.writer.write(data)
            await link.writer.drain()


class Jittery(Proxy):
    """Lets requests on different connections overtake each other, as wireless networks do."""

    SECONDS = 0.02

    async def _to_server(self, link: Link) -> None:
        assert link.upstream is not None
        while data := await link.hear():
            await asyncio.sleep(random.uniform(0, self.SECONDS))
            link.upstream.write(data)
            await link.upstream.drain()
