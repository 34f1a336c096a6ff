"""What is compared: something to subscribe to, and something that publishes."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import psutil

from bench.crowd import Kind
from bench.errors import BenchError
from bench.peers import nginx, servers
from bench.peers.joining import Joined, event_stream, websocket
from bench.pushing import cpu_seconds
from pubsub.devstack.errors import StackError
from pubsub.devstack.processes import Child, stop_all


class Peer:
    """One way to put events onto screens: servers, subscribers, and a process that publishes.

    :ivar kind: what its subscribers speak.
    :ivar ahead: how many events may be under way without any being lost.
    :ivar publisher: the module that publishes.
    """

    kind: Kind
    ahead: ClassVar[int]
    publisher: ClassVar[str]

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._running = ExitStack()

    def start(self, folder: Path) -> None:
        """Start its servers and what publishes, with their files in a folder.

        :raises StackError: when a program is missing, or does not start.
        """
        folder.mkdir()
        try:
            # Started first, stopped last.
            self._running.callback(lambda: stop_all(reversed(self._children)))
            environment = self._start(folder)
            self._publisher = servers.Publisher(self.publisher, folder, environment)
            self._running.callback(self._publisher.close)
        except BaseException:
            self._running.close()
            raise

    def stop(self) -> None:
        """Stop what runs."""
        self._running.close()

    def join(self) -> Joined:
        """A new subscriber."""
        raise NotImplementedError(f"{type(self).__name__} must define join()")

    def joined(self, count: int) -> bool:
        """Whether so many subscribers are on the server's list, and it is ready for events."""
        return True

    def publish(self, number: int) -> Future[None]:
        """Publish an event with this number; done when the server has accepted it."""
        return self._publisher.publish(number)

    def cpu_seconds(self) -> float:
        """What all its servers have taken of the CPU until now; what publishes is none of them."""
        processes = [child.process for child in self._children]
        return cpu_seconds(psutil.Process(each.pid) for each in processes if each is not None)

    # Private

    def _start(self, folder: Path) -> dict[str, str]:
        """Start servers; returns the variables that the Python processes need."""
        raise NotImplementedError(f"{type(self).__name__} must define _start()")

    def _run(self, *children: Child) -> None:
        for child in children:
            self._children.append(child)
            child.start()


class Site(Peer):
    """Servers in Python behind nginx, and Redis.

    :param processes: how many servers.
    :ivar modules: that must be installed.
    """

    modules: ClassVar[Sequence[str]]
    settings: ClassVar[str]

    def __init__(self, processes: int) -> None:
        super().__init__()
        self._processes = processes

    def _start(self, folder: Path) -> dict[str, str]:
        servers.need_modules(*self.modules)
        redis, self._redis = servers.redis(folder)
        self._run(redis)
        environment = {"DJANGO_SETTINGS_MODULE": self.settings, "BENCH_REDIS": str(self._redis)}
        environment |= self._environment()
        sockets = [folder / f"{number}.sock" for number in range(self._processes)]
        self._run(*(self._server(path, environment) for path in sockets))
        self.port = free_port()
        self._run(servers.nginx(folder, self.port, nginx.proxy(self.port, sockets)))
        return environment

    def _environment(self) -> dict[str, str]:
        return {}

    def _server(self, path: Path, environment: dict[str, str]) -> Child:
        raise NotImplementedError(f"{type(self).__name__} must define _server()")


class Eventstream(Site):
    """django-eventstream, on uvicorn.

    uvicorn takes uvloop and httptools by itself where they are installed
    (https://www.uvicorn.org/installation/#optional-dependencies); they are.  A listener for whom
    ten events wait loses the next one.
    """

    kind = "sse"
    ahead = 5
    publisher = "bench.peers.eventstream.publisher"
    modules = ("uvicorn", "uvloop", "httptools", "django_eventstream", "redis")
    settings = "bench.peers.eventstream.settings"

    def join(self) -> Joined:
        return event_stream(self.port, "/events/", b"event: stream-open")

    def joined(self, count: int) -> bool:
        """A process subscribes to Redis when its first client has come."""
        words = [b"PUBSUB", b"NUMSUB", b"events_channel"]
        return redis_answer(self._redis, words, 3).split()[-1] == b":%d" % self._processes

    def _server(self, path: Path, environment: dict[str, str]) -> Child:
        options = ["--no-access-log", "--log-level", "warning", "--forwarded-allow-ips", "*"]
        application = "bench.peers.eventstream.asgi:application"
        command = ["uvicorn", "--uds", str(path), *options, application]
        return servers.server("uvicorn", command, path, environment)


class Channels(Site):
    """Channels, on daphne; as many processes as there are CPUs, as its page on deploying advises.

    A process for which a hundred messages wait in Redis loses the next one.

    :param layer: the channel layer.
    """

    kind = "websocket"
    ahead = 10
    publisher = "bench.peers.channels.publisher"
    modules = ("daphne", "channels", "channels_redis")
    settings = "bench.peers.channels.settings"

    def __init__(self, layer: str, processes: int) -> None:
        super().__init__(processes)
        self._layer = layer

    def join(self) -> Joined:
        return websocket(self.port, "/ws/")

    def _environment(self) -> dict[str, str]:
        return {"BENCH_CHANNEL_LAYER": self._layer}

    def _server(self, path: Path, environment: dict[str, str]) -> Child:
        command = ["daphne", "-v", "0", "-u", str(path), "--proxy-headers"]
        command.append("bench.peers.channels.asgi:application")
        return servers.server("daphne", command, path, environment)


class Nchan(Peer):
    """nchan, which is in nginx.

    :param kind: what its subscribers speak.
    """

    ahead = 50
    publisher = "bench.peers.nchan.publisher"

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind

    def join(self) -> Joined:
        if self.kind == "sse":
            return event_stream(self.port, "/sub/bench", b"")
        return websocket(self.port, "/sub/bench")

    def joined(self, count: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/pub/bench", headers={"Accept": "text/json"})
        answer = connection.getresponse()
        words = answer.read()
        connection.close()
        return answer.status == 200 and json.loads(words)["subscribers"] == count

    def _start(self, folder: Path) -> dict[str, str]:
        if not nginx.NCHAN.exists():
            raise StackError(
                f"Not found: {nginx.NCHAN}. Install Debian's packages: "
                "apt-get install libnginx-mod-nchan"
            )
        self.port = free_port()
        self._run(servers.nginx(folder, self.port, nginx.nchan(self.port)))
        return {"BENCH_PORT": str(self.port)}


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def redis_answer(path: Path, words: Sequence[bytes], lines: int) -> bytes:
    """What Redis answers at a unix socket: at least so many lines."""
    request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
    answer = b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(request)
        while answer.count(b"\n") < lines:
            more = sock.recv(4096)
            if not more:
                raise BenchError(f"Redis has closed its connection after {answer!r}")
            answer += more
    return answer
