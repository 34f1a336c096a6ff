"""The processes of peers: Redis, nginx, servers in Python, and what publishes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from bench.errors import BenchError
from bench.peers.publishing import READY
from pubsub.devstack.errors import StackError
from pubsub.devstack.files import find_programs
from pubsub.devstack.processes import Child, listening, tied

CHECKOUT = Path(__file__).parents[2]


def redis(folder: Path) -> tuple[Child, Path]:
    """A Redis of one's own, and its unix socket; it keeps nothing, since no peer asks for that."""
    path = folder / "redis.sock"
    program = find_programs({"redis-server": "redis-server"})["redis-server"]
    reachable = ["--port", "0", "--unixsocket", str(path)]
    command = [program, *reachable, "--save", "", "--appendonly", "no"]
    return Child("Redis", command, folder=folder, ready=lambda: answers(path)), path


def nginx(folder: Path, port: int, configuration: str) -> Child:
    """An nginx with such a configuration, which listens on the port."""
    (folder / "nginx.conf").write_text(configuration, encoding="utf-8")
    program = find_programs({"nginx": "nginx-light"})["nginx"]
    return Child(
        "nginx",
        [program, "-e", "stderr", "-p", f"{folder}/", "-c", f"{folder}/nginx.conf"],
        folder=folder,
        ready=lambda: listening(port),
    )


def server(name: str, command: list[str], path: Path, environment: Mapping[str, str]) -> Child:
    """A Python module that serves at a unix socket."""
    return Child(
        name,
        [sys.executable, "-m", *command],
        folder=path.parent,
        environment=in_checkout(environment),
        ready=lambda: answers(path),
    )


def need_modules(*names: str) -> None:
    """Find out whether Python modules are there.

    :raises StackError: when they are not.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        raise StackError(
            f"Not found: {', '.join(missing)}. Install the extra of the bench: "
            "pip install -e '.[bench]'"
        )


def in_checkout(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables of a process that finds the modules of the bench."""
    return {**environment, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}


def answers(path: Path) -> bool:
    """Whether somebody listens at a unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


class Publisher:
    """A process that publishes what it is told to; see :func:`bench.peers.publishing.obey`.

    :param module: its module.
    :raises BenchError: when it ends at once.
    """

    def __init__(self, module: str, folder: Path, environment: Mapping[str, str]) -> None:
        self._module = module
        self._process = subprocess.Popen(
            tied([sys.executable, "-m", module]),
            cwd=folder,
            env={**os.environ, **in_checkout(environment)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the bench, which ends it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._waiting: SimpleQueue[Future[None]] = SimpleQueue()
        if self._output.readline().strip() != READY:
            self.close()
            self._output.close()
            raise self._gone()
        Thread(target=self._read, name=module, daemon=True).start()

    def publish(self, number: int) -> Future[None]:
        """Publish an event with this number; done when the server has accepted it."""
        future: Future[None] = Future()
        self._waiting.put(future)
        try:
            print(number, file=self._input, flush=True)
        except OSError as error:
            raise self._gone() from error
        return future

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._input.close()

    # Private

    def _read(self) -> None:
        """Events are accepted in the order in which they were published."""
        for _ in self._output:
            self._waiting.get().set_result(None)
        self._output.close()
        while not self._waiting.empty():
            self._waiting.get().set_exception(self._gone())

    def _gone(self) -> BenchError:
        return BenchError(f"The publisher {self._module} has ended; it says above why.")
