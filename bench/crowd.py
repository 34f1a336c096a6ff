"""A crowd of listeners whose reading costs next to nothing: ``crowd.c``, driven from here.

What is published holds :func:`mark` somewhere in its payload, by which each delivery is known.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import socket
import subprocess
import time
from array import array
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from bench.errors import BenchError

Kind = Literal["websocket", "bosh", "sse"]

SOURCE = Path(__file__).with_name("crowd.c")
BUILT = Path(__file__).parent.parent / "var" / "bench"
COMPILE = ("-O2", "-shared", "-fPIC", "-pthread")
KINDS: dict[Kind, int] = {"websocket": 0, "bosh": 1, "sse": 2}
LATENCIES = 4_000_000  # that are noted between two resets


class _Heard(ctypes.Structure):
    """As crowd.c has it."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("connections", "deliveries", "disordered", "repeated", "others", "closed"),
            *("reconnected", "noted", "last", "cpu"),
        )
    ]


@dataclass(frozen=True)
class Heard:
    """What a crowd has heard since the last reset.

    :param deliveries: those that were awaited, each once.
    :param lost: how many of those that :meth:`Crowd.wait` waited for have not come.
    :param disordered: those that came after one that was sent later.
    :param repeated: those that had come before.
    :param others: frames, bodies or lines with no mark in them.
    :param closed: connections that the server has closed.
    :param reconnected: how often a BOSH client had to open a new connection.
    :param latencies: nanoseconds from :func:`mark` to the delivery; of the first four millions.
    :param last: when the last one came, as ``time.monotonic_ns()`` has it.
    :param cpu_seconds: what the crowd itself took.
    """

    deliveries: int
    lost: int
    disordered: int
    repeated: int
    others: int
    closed: int
    reconnected: int
    latencies: array[int]
    last: int
    cpu_seconds: float


def mark(sequence: int) -> str:
    """The text by which a delivery is known: its number, and the time."""
    return f"@{sequence}:{time.monotonic_ns()}@"


class Crowd:
    """Open, subscribed connections, and a thread that reads them all.

    :param kind: what is spoken on them.  A "websocket" gets text frames, and answers pings; "bosh"
        answers each response with the next request; "sse" is a response that does not end.
    :raises BenchError: when there is no C compiler, or it fails.
    """

    def __init__(self, kind: Kind) -> None:
        self._library = library()
        self._crowd = self._library.crowd_new(KINDS[kind], LATENCIES)
        if not self._crowd:
            raise BenchError(f"there is no memory, or no open file left, for a crowd of {kind}")
        self._expected = 0
        self._before = self._told()

    def __len__(self) -> int:
        """How many of the connections are open."""
        told = self._told()
        return int(told.connections - told.closed)

    def add(
        self,
        sock: socket.socket,
        *,
        rest: bytes = b"",
        chunked: bool = False,
        host: str = "",
        path: str = "",
        sid: str = "",
        rid: int = 0,
    ) -> None:
        """Take a connection over; its socket is closed with the crowd.

        :param rest: bytes that have been read from it already, and are to be heard.
        :param chunked: of "sse": whether the response is (its header says Transfer-Encoding).
        :param host: of "bosh": as the header names it.
        :param path: of "bosh".
        :param sid: of "bosh": the session.
        :param rid: of "bosh": the number of the next request; none waits for its answer.
        """
        error = self._library.crowd_add(
            self._crowd,
            sock.detach(),
            rest,
            len(rest),
            chunked,
            *(text.encode() for text in (host, path, sid)),
            rid,
        )
        if error:
            raise BenchError(f"a connection cannot be listened to: {os.strerror(error)}")

    def start(self) -> None:
        """Listen from now on; more connections may be added."""
        if error := self._library.crowd_start(self._crowd):
            raise BenchError(f"a crowd cannot listen: {os.strerror(error)}")

    def reset(self, first: int = 0) -> None:
        """Forget what was heard, and whatever has a sequence number below this one."""
        self._expected = 0
        self._library.crowd_reset(self._crowd, first)
        self._before = self._told()

    def wait(self, deliveries: int, timeout: float) -> bool:
        """Wait for so many deliveries since the last reset; returns whether they have come.

        :param timeout: in seconds.
        """
        self._expected = deliveries
        return bool(self._library.crowd_wait(self._crowd, deliveries, int(timeout * 1e9)))

    def deliveries(self) -> int:
        """How many have come since the last reset."""
        return int(self._told().deliveries)

    def result(self) -> Heard:
        """What has been heard since the last reset."""
        told = self._told()
        latencies = array("Q", bytes(8 * told.noted))
        address, _ = latencies.buffer_info()
        self._library.crowd_tell(self._crowd, ctypes.byref(told), address, len(latencies))
        return Heard(
            told.deliveries,
            max(0, self._expected - told.deliveries),
            told.disordered,
            told.repeated,
            told.others,
            told.closed - self._before.closed,
            told.reconnected,
            latencies,
            told.last,
            (told.cpu - self._before.cpu) / 1e9,
        )

    def close(self) -> None:
        """Close all connections; closing twice is harmless."""
        crowd, self._crowd = self._crowd, None
        if crowd:
            self._library.crowd_close(crowd)

    # Private

    def _told(self) -> _Heard:
        told = _Heard()
        self._library.crowd_tell(self._crowd, ctypes.byref(told), None, 0)
        return told


@lru_cache
def library() -> ctypes.CDLL:
    """crowd.c, compiled unless that has been done.

    :raises BenchError: when there is no C compiler, or it fails.
    """
    source = SOURCE.read_bytes()
    built = BUILT / f"crowd-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if not built.exists():
        compile_to(built)
    loaded = ctypes.CDLL(str(built))
    pointer, number, text = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p
    loaded.crowd_new.restype = pointer
    loaded.crowd_new.argtypes = [ctypes.c_int, number]
    loaded.crowd_add.argtypes = [
        *(pointer, ctypes.c_int, text, ctypes.c_size_t, ctypes.c_int),
        *(text, text, text, number),
    ]
    loaded.crowd_start.argtypes = [pointer]
    loaded.crowd_reset.argtypes = [pointer, number]
    loaded.crowd_reset.restype = None
    loaded.crowd_wait.argtypes = [pointer, number, number]
    loaded.crowd_tell.argtypes = [pointer, pointer, pointer, number]
    loaded.crowd_tell.restype = None
    loaded.crowd_close.argtypes = [pointer]
    loaded.crowd_close.restype = None
    return loaded


def compile_to(built: Path) -> None:
    """Compile crowd.c.

    :raises BenchError: when there is no C compiler, or it fails.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError("Not found: cc. Install Debian's packages: apt-get install gcc libc6-dev")
    built.parent.mkdir(parents=True, exist_ok=True)
    # Others may do the same at this moment: the file appears when it is complete.
    new = built.with_suffix(f".{os.getpid()}")
    done = subprocess.run(
        [compiler, *COMPILE, "-o", str(new), str(SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"cc could not compile {SOURCE}:\n{done.stderr.strip()}")
    new.rename(built)
