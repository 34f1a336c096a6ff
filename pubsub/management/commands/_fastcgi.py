"""flup's servers for a socket that is already open, with their Python 3 faults mended.

Each override names the fault; all were seen with flup 1.0.3.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any

PROTOCOLS = ("fcgi", "scgi", "ajp")
PATIENCE_SECONDS = 10.0  # how long a request may go on after the server has been told to end


class _StatusSocket:
    """The parent's end of the line to a child.

    flup compares what it receives with text: with bytes every child counts as idle for ever, and
    no more than ``maxSpare`` are ever started.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.fileno = sock.fileno
        self.close = sock.close

    def recv(self, size: int) -> str:
        return self._sock.recv(size).decode("latin-1")

    def shutdown(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)


class _Given:
    """Mixin: serve the given socket; report an application's error without cgitb."""

    listener: socket.socket
    debug: bool

    def _setupSocket(self) -> socket.socket:  # noqa: N802
        # flup's own unlinks whatever stands at a unix socket's path, a file of yours as well.
        return self.listener

    def error(self, request: Any) -> None:
        # flup's own needs cgitb, which Python 3.13 no longer has.
        text = traceback.format_exc() if self.debug else "The application failed.\n"
        head = (
            "Status: 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        )
        write = getattr(request, "stdout", request).write
        write((head + text).encode())


class _Threading:
    """Mixin: the mended end of a server with threads."""

    _threadPool: Any  # noqa: N815

    def shutdown(self) -> None:
        # flup's own waits for ever for a connection that nginx keeps open, and for a view that
        # hangs.  The threads are daemons: those that are late end with the interpreter.
        pool = self._threadPool
        with pool._lock:
            pool._stop = True
            pool._lock.notify_all()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for worker in pool._threads[:]:
            worker.join(max(0.0, deadline - time.monotonic()))


class _Preforking:
    """Mixin: the mended parent of preforked children."""

    _children: dict[int, dict[str, Any]]

    def _spawnChild(self, sock: socket.socket) -> bool:  # noqa: N802
        spawned: bool = super()._spawnChild(sock)  # type: ignore[misc]
        for child in self._children.values():
            if isinstance(child["file"], socket.socket):
                child["file"] = _StatusSocket(child["file"])
        return spawned

    def _child(self, sock: socket.socket, parent: socket.socket) -> None:
        # systemd tells every process of a service to end, and so would end requests at work.  A
        # child ends when its parent closes the line between them, or is no more.
        for signum in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        super()._child(sock, parent)  # type: ignore[misc]

    # flup's own handlers only set a flag, which nobody looks at before the next request: since
    # Python 3.5 (PEP 475) a signal does not interrupt select().  Dismissing the children does,
    # and is what each of the signals asks for.

    def _intHandler(self, signum: int, frame: object) -> None:  # noqa: N802
        super()._intHandler(signum, frame)  # type: ignore[misc]
        self._dismiss_children()

    def _hupHandler(self, signum: int, frame: object) -> None:  # noqa: N802
        super()._hupHandler(signum, frame)  # type: ignore[misc]
        self._dismiss_children()

    def _usr1Handler(self, signum: int, frame: object) -> None:  # noqa: N802
        # Renews the children; flup's own would send them text, which ends the parent.
        self._dismiss_children()

    def _dismiss_children(self) -> None:
        """Tell the children to end once they are idle; the main loop sees their lines closed."""
        for child in self._children.values():
            if isinstance(child["file"], _StatusSocket):
                child["file"].shutdown()

    def _cleanupChildren(self) -> None:  # noqa: N802
        # flup's own interrupts requests at work, and waits for ever for a child that hangs: since
        # Python 3.5 (PEP 475) the alarm that it sets does not interrupt os.wait().
        for child in self._children.values():
            if child["file"] is not None:
                child["file"].close()  # tells it to end when it has nothing to do
        self._wait_for_children(PATIENCE_SECONDS)
        for signum in (signal.SIGINT, signal.SIGKILL):
            for pid in self._children:
                os.kill(pid, signum)
            self._wait_for_children(2)

    def _wait_for_children(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._children and time.monotonic() < deadline:
            for pid in list(self._children):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del self._children[pid]
            if self._children:
                time.sleep(0.02)


def make_server(
    application: Callable[..., Any],
    listener: socket.socket,
    *,
    protocol: str,
    prefork: bool,
    min_spare: int,
    max_spare: int,
    max_children: int,
    max_requests: int,
    debug: bool,
) -> Any:
    """A flup server; its ``run()`` returns after SIGTERM, SIGINT or SIGHUP.

    In a preforked child ``run()`` does not return: it raises SystemExit.

    :param application: the WSGI application.
    :param listener: the socket to accept connections from.
    :param protocol: one of PROTOCOLS.
    :param prefork: processes instead of threads.
    :param min_spare: idle threads or processes to keep at least.
    :param max_spare: idle threads or processes to keep at most.
    :param max_children: threads or processes at most.
    :param max_requests: requests until a process is replaced, 0 for never; needs ``prefork``.
    :param debug: show a visitor the traceback when the application itself fails.
    """
    module = importlib.import_module(f"flup.server.{protocol}{'_fork' if prefork else ''}")
    bases = (_Given, _Preforking if prefork else _Threading)
    cls = type("Server", (*bases, module.WSGIServer), {"listener": listener})
    options: dict[str, Any] = {"minSpare": min_spare, "maxSpare": max_spare, "debug": debug}
    if prefork:
        options |= {"maxChildren": max_children, "maxRequests": max_requests}
    else:
        options |= {"maxThreads": max_children}
    if protocol != "fcgi":
        # The web server's address is its own affair: unix sockets have none, and a firewall or
        # 127.0.0.1 does better than a list.
        options["allowedServers"] = None
    # An address must be given or flup looks at descriptor 0; it is not used.
    return cls(application, bindAddress=("127.0.0.1", 0), **options)
