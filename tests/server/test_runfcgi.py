"""manage.py runfcgi, run as a process and spoken to over its socket."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

PATIENCE = 30.0  # seconds for what takes milliseconds


def fastcgi_record(kind: int, content: bytes) -> bytes:
    return struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content


def fastcgi_request(
    address: str | tuple[str, int], path: str = "/", query: str = "", body: bytes = b""
) -> str:
    """Make one FastCGI request as nginx would, and return the response with its headers."""
    params = {
        "REQUEST_METHOD": "POST" if body else "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    pairs = [(name.encode(), value.encode()) for name, value in params.items()]
    encoded = b"".join(bytes([len(n), len(v)]) + n + v for n, v in pairs)
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(address)
        connection.sendall(fastcgi_record(1, struct.pack("!HB5x", 1, 0)))
        connection.sendall(fastcgi_record(4, encoded) + fastcgi_record(4, b""))
        for start in range(0, len(body), 60000):
            connection.sendall(fastcgi_record(5, body[start : start + 60000]))
        connection.sendall(fastcgi_record(5, b""))
        output = b""
        with connection.makefile("rb") as stream:
            while header := stream.read(8):
                _, kind, _, length, padding = struct.unpack("!BBHHBx", header)
                content = stream.read(length)
                stream.read(padding)
                if kind == 6:
                    output += content
    return output.decode()


class Served:
    """A running runfcgi, its socket, and the folder where its site leaves marks."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = str(folder / "s")
        self.process = subprocess.Popen(
            command(f"socket={self.socket}", "daemonize=false", *options),
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def get(self, path: str = "/", query: str = "", body: bytes = b"") -> str:
        return fastcgi_request(self.socket, path, query, body)

    def marks(self, kind: str) -> set[int]:
        return {int(path.name.split("-")[1]) for path in self.folder.glob(f"{kind}-*")}

    def end(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "django", "runfcgi", "--skip-checks", *options]


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.server.fcgi_site",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "FCGI_SITE_FOLDER": str(folder),
    }


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def start(*options: str) -> Served:
        served = Served(tmp_path, *options)
        made.append(served)
        # The socket's file is there a moment before anybody listens.
        said = []
        assert served.process.stdout is not None
        for line in served.process.stdout:
            if line.startswith("Serving"):
                return served
            said.append(line)
        pytest.fail("".join(said))

    yield start
    for served in made:
        if served.process.poll() is None:
            served.process.kill()
        served.process.communicate()


def refused(tmp_path: Path, *options: str) -> str:
    done = subprocess.run(
        command(*options),
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("method", ["threaded", "prefork"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_ends_cleanly(serve: Any, method: str, signum: int) -> None:
    served = serve(f"method={method}")
    assert "/é/x 100000" in served.get("/é/x", body=b"x" * 100000)
    answered = int(re.search(r"process (\d+)", served.get())[1])  # type: ignore[index]
    assert (answered == served.process.pid) == (method == "threaded")
    assert served.end(signum) == 0
    assert {served.process.pid, answered} <= served.marks("exit")
    assert not Path(served.socket).exists()


@pytest.mark.parametrize("method", ["threaded", "prefork"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_ends_although_nobody_has_asked_for_anything(
    serve: Any, method: str, signum: int
) -> None:
    served = serve(f"method={method}")
    if method == "prefork":
        until(lambda: idle(served.process.pid), "the parent's wait for its children")
    assert served.end(signum) == 0
    assert served.process.pid in served.marks("exit")


def idle(pid: int) -> bool:
    """Tell whether a process has its children and sleeps."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return len(children) >= 5 and Path(f"/proc/{pid}/stat").read_text().split()[2] == "S"


@pytest.mark.parametrize("method", ["threaded", "prefork"])
def test_a_request_at_work_is_finished_before_the_end(serve: Any, method: str) -> None:
    served = serve(f"method={method}")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(served.get, "/held", "until=now")
        until(lambda: served.marks("began"), "the request")
        served.process.terminate()
        # Threads: the listener is closed first.  Processes: the idle ones end first.
        until(lambda: not accepts(served.socket) or served.marks("exit"), "the end's beginning")
        (served.folder / "now").touch()
        assert "process" in answer.result(PATIENCE)
    assert served.process.wait(PATIENCE) == 0
    assert served.marks("began") <= served.marks("exit")


def accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


@pytest.mark.parametrize("method", ["threaded", "prefork"])
def test_a_request_that_hangs_does_not_hold_up_the_end_for_ever(serve: Any, method: str) -> None:
    served = serve(f"method={method}")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(served.get, "/held", "until=never")
        until(lambda: served.marks("began"), "the request")
        assert served.end() == 0
        with suppress(ConnectionError):  # cut off, politely or not
            assert "process" not in answer.result(PATIENCE)
    assert served.process.pid in served.marks("exit")
    assert not Path(served.socket).exists()


def test_busy_children_are_joined_by_new_ones(serve: Any) -> None:
    served = serve("method=prefork", "minspare=1", "maxspare=2", "maxchildren=6")
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(served.get, "/held", f"until=now&n={n}") for n in range(5)]
        until(lambda: len(served.marks("began")) == 5, "five processes at work")
        (served.folder / "now").touch()
        assert len({answer.result(PATIENCE) for answer in answers}) == 5
    until(lambda: len(served.marks("exit")) >= 3, "the spare ones' end")
    assert served.end() == 0


def test_a_child_is_replaced_after_maxrequests(serve: Any) -> None:
    served = serve("method=prefork", "maxrequests=1", "minspare=1", "maxspare=1")
    assert served.get() != served.get()
    assert served.end() == 0


@pytest.mark.parametrize("method", ["threaded", "prefork"])
def test_an_error_of_the_application_is_answered(serve: Any, method: str) -> None:
    served = serve(f"method={method}", "debug=true")
    assert "RuntimeError: broken outside Django" in served.get("/broken")
    assert "process" in served.get()
    assert served.end() == 0


def test_a_request_survives_when_every_process_is_told_to_end(serve: Any) -> None:
    served = serve("method=prefork")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(served.get, "/held", "until=now")
        (working,) = until(lambda: served.marks("began"), "the request")
        os.kill(working, signal.SIGTERM)  # as systemd does
        served.process.terminate()
        until(lambda: served.marks("exit"), "the end's beginning")
        (served.folder / "now").touch()
        assert "process" in answer.result(PATIENCE)
    assert served.process.wait(PATIENCE) == 0
    assert working in served.marks("exit")


def test_sigusr1_renews_the_children_and_not_the_parent(serve: Any) -> None:
    served = serve("method=prefork", "minspare=1", "maxspare=1")
    served.get()
    served.process.send_signal(signal.SIGUSR1)
    until(lambda: served.marks("exit"), "a child's end")
    assert "process" in served.get()
    assert served.end() == 0


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(serve: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "s"))
    served = Served(tmp_path, "umask=007")
    try:
        until(lambda: accepts(served.socket), "the listener")
        assert Path(served.socket).stat().st_mode & 0o777 == 0o770
        assert "Another process is listening" in refused(tmp_path, f"socket={served.socket}")
        assert "process" in served.get()
    finally:
        assert served.end() == 0
        served.process.communicate()


def test_it_goes_to_the_background_and_ends_there_cleanly(tmp_path: Path) -> None:
    pidfile, outlog = tmp_path / "pid", tmp_path / "out"
    done = subprocess.run(
        command(
            f"socket={tmp_path}/s", f"pidfile={pidfile}", f"outlog={outlog}", f"errlog={outlog}"
        ),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert "in the background" in done.stdout
    pid = int(until(lambda: pidfile.exists() and pidfile.read_text(), "the pidfile"))
    assert f"process {pid}" in fastcgi_request(str(tmp_path / "s"))
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    os.kill(pid, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{pid}").exists(), "its end")
    assert (tmp_path / f"exit-{pid}").exists()
    assert not pidfile.exists()
    assert not (tmp_path / "s").exists()


def test_scgi_is_served_too(tmp_path: Path) -> None:
    served = Served(tmp_path, "--protocol", "scgi")
    try:
        until(lambda: accepts(served.socket), "the listener")
        headers = (
            b"CONTENT_LENGTH\x000\x00SCGI\x001\x00REQUEST_METHOD\x00GET\x00REQUEST_URI\x00/a?b\x00"
        )
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(served.socket)
            connection.sendall(b"%d:%b," % (len(headers), headers))
            with connection.makefile("rb") as stream:
                assert b"process" in stream.read()
    finally:
        assert served.end() == 0
        served.process.communicate()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["foo=1"], "Unknown option 'foo'"),
        (["--foo", "1"], "--foo"),
        (["method=magic", "port=1"], "method=magic"),
        (["--method", "magic"], "method=magic"),
        (["port=http"], "port=http"),
        (["port=70000"], "port=70000"),
        (["umask=9"], "umask=9"),
        (["daemonize=maybe"], "daemonize=maybe"),
        (["minspare=4", "maxspare=2"], "minspare"),
        (["maxrequests=3"], "prefork"),
        (["protocol=ajp", "socket=s"], "ajp"),
        (["socket=s", "port=4000"], "not both"),
        (["host=127.0.0.1"], "port"),
        ([], "socket=…"),
        (["socket=/proc/s"], "/proc/s"),
        (["socket=s", "workdir=/nowhere"], "/nowhere"),
        (["port=4000", "pidfile=/nowhere/pid"], "/nowhere/pid"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: list[str], words: str) -> None:
    assert words in refused(tmp_path, *options)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in refused(tmp_path, f"port={port}")


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    assert "not a socket" in refused(tmp_path, f"socket={tmp_path}/s")
    assert (tmp_path / "s").read_text() == "mine"


def test_help_names_every_option(tmp_path: Path) -> None:
    done = subprocess.run(
        command("help"), env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    for name in ("protocol", "maxchildren", "errlog", "key=value"):
        assert name in done.stdout
