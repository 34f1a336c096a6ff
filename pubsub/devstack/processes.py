"""A child process that is started, waited for, listened to and stopped; mirakuru does the work.

Children die with the process that started them, even when it is killed: see ``tied``.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mirakuru import Executor
from mirakuru.base import ENV_UUID
from mirakuru.exceptions import ExecutorError

from pubsub.devstack.errors import StackError
from pubsub.devstack.ports import LOOPBACK

OnLine = Callable[[str, str], None]

MOST_OPEN_FILES = 65_536
TELLING = re.compile(r"\[(error|critical|emerg|alert|crit)\]|Error|error:|Traceback")


def tied(command: list[str]) -> list[str]:
    """The command as one that gets SIGTERM when the thread that started it ends.

    Without util-linux's setpriv the command is returned as it is; the stack still stops its
    children when it is left, and at exit.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--", *command] if setpriv else command


def most_open_files() -> int:
    """How many files a child may open, each visitor being one of ejabberd's and two of nginx's.

    It is the hard limit, unless that is so high that Erlang would make tables for millions.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)


def with_open_files(command: list[str]) -> list[str]:
    """The command as one that may open :func:`most_open_files`.

    Without util-linux's prlimit the command is returned as it is.
    """
    prlimit = shutil.which("prlimit")
    return [prlimit, f"--nofile={most_open_files()}:", "--", *command] if prlimit else command


class Child(Executor):
    """One child process in the foreground, its output read line by line.

    :param name: the prefix of its lines, and what errors call it.
    :param command: the program and its arguments; output is its stdout and stderr together.
    :param folder: its working directory.
    :param ready: tells whether it serves, asked every 20 ms once it runs.
    :param banner: with a text, it is asked only after a line that contains the text.
    :param environment: variables added to ours.
    :param before_start: raises StackError if it cannot be started (a port is taken).
    :param on_line: called with name and line, from a thread of the child's own.
    """

    START_SECONDS = 60.0
    STOP_SECONDS = 15.0
    LINES_KEPT = 200

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        folder: Path,
        ready: Callable[[], bool],
        banner: str | None = None,
        environment: Mapping[str, str] | None = None,
        before_start: Callable[[], None] = lambda: None,
        on_line: OnLine | None = None,
    ) -> None:
        super().__init__(
            tied(command),
            cwd=str(folder),
            sleep=0.02,
            timeout=self.START_SECONDS,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            envvars=dict(environment or {}),
        )
        self.name = name
        self.lines: deque[str] = deque(maxlen=self.LINES_KEPT)
        self._ready = ready
        self._banner = banner
        self._banner_seen = threading.Event()
        self._before_start = before_start
        self._on_line = on_line
        self._reader: threading.Thread | None = None
        self._owner = os.getpid()

    @property
    def envvars(self) -> dict[str, str]:
        # mirakuru marks children by its process's id and at exit kills every process whose mark
        # contains that number, other stacks' children included; ours need no mark to be found.
        return {name: value for name, value in super().envvars.items() if name != ENV_UUID}

    @property
    def _popen_kwargs(self) -> dict[str, Any]:
        # A preexec_fn in a process with threads can deadlock, and Python 3.12 warns of it.
        kwargs = {**super()._popen_kwargs, "start_new_session": True}
        kwargs.pop("preexec_fn", None)
        return kwargs

    def pre_start_check(self) -> bool:
        """mirakuru's question whether it runs already; never, but a port may be taken."""
        self._before_start()
        return False

    def after_start_check(self) -> bool:
        """mirakuru's question whether it serves."""
        if not self.running():
            raise ExecutorError(self)
        if self._banner is not None and not self._banner_seen.is_set():
            return False
        return self._ready()

    def start(self) -> Child:
        """Start the process and wait until it serves.

        Call it from a thread that lives as long as the process should.

        :raises StackError: when it ends, or does not serve within 60 s; the message quotes the
            process's own words.
        """
        if self.running():
            return self
        self.kill()
        self.lines.clear()
        self._banner_seen.clear()
        self._owner = os.getpid()
        self._timeout = self.START_SECONDS
        # A pipe of our own, and not mirakuru's: it would be closed under the reader's hands.
        reading, writing = os.pipe()
        self._stdout = writing
        self._reader = threading.Thread(
            target=self._read, args=(reading,), name=f"{self.name} output", daemon=True
        )
        self._reader.start()
        try:
            super().start()
        except (ExecutorError, OSError) as error:
            self.kill()
            os.close(writing)
            writing = -1
            self._join_reader()
            raise StackError(f"{self.name} did not start: {self.last_words() or error}") from error
        except BaseException:
            self.kill()
            raise
        finally:
            if writing >= 0:
                os.close(writing)
        return self

    def stop(self, stop_signal: int | None = None, expected_returncode: int | None = None) -> Any:
        """Stop the process, wait for its end, and kill it if it takes longer than 15 s."""
        if os.getpid() != self._owner:
            return self  # a fork's copy: the process is not its child
        self._timeout = self.STOP_SECONDS
        try:
            super().stop(stop_signal, expected_returncode)
        except ExecutorError as error:
            # How a process that was told to end has ended changes nothing for us.
            self.lines.append(str(error))
        self._join_reader()
        return self

    def kill(self, wait: bool = True, sig: int | None = None) -> Any:
        """Kill the process at once, as the kernel would when memory runs out."""
        if os.getpid() != self._owner:
            return self
        return super().kill(wait, sig)

    def last_words(self) -> str:
        """What a person needs to know of the output: errors, or else the last lines."""
        telling = [line for line in self.lines if TELLING.search(line)]
        return "\n".join((telling or list(self.lines))[-8:])

    # Private

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as output:
            for raw in output:
                line = raw.rstrip("\n")
                self.lines.append(line)
                if self._banner is not None and self._banner in line:
                    self._banner_seen.set()
                elif self._on_line is not None:
                    self._on_line(self.name, line)

    def _join_reader(self) -> None:
        # A grandchild that outlives its parent for a moment holds the pipe; never wait for long.
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join(timeout=2)


def listening(at: int | str) -> bool:
    """Whether something listens on a loopback port, or at the path of a unix socket."""
    family = socket.AF_UNIX if isinstance(at, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(1)
        return client.connect_ex(at if isinstance(at, str) else (LOOPBACK, at)) == 0


def stop_all(children: Iterable[Child | None]) -> None:
    """Stop children one after the other; each is told, whatever happens to the others."""
    errors = []
    for child in children:
        if child is None:
            continue
        try:
            child.stop()
        except BaseException as error:  # noqa: BLE001 - a second Ctrl-C must not leave the next ones running
            child.kill(sig=signal.SIGKILL)
            errors.append(error)
    if errors:
        raise errors[0]
