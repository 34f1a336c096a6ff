"""The process that publishes to a peer, and what peers need; nchan is played by a web server."""

from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bench.errors import BenchError
from bench.peers import nginx
from bench.peers.peer import Nchan
from bench.peers.servers import Publisher, need_modules
from pubsub.devstack import StackError

MODULE = "bench.peers.nchan.publisher"


class Accepting(BaseHTTPRequestHandler):
    """Accepts what is posted; what has the number 13 is too much for it."""

    protocol_version = "HTTP/1.1"
    posted: list[str] = []

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.posted.append(text)
        self.send_response(413 if "@13:" in text else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    Accepting.posted.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Accepting) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_events_are_published_in_order_until_the_process_ends(port: int, tmp_path: Path):
    with closing(Publisher(MODULE, tmp_path, {"BENCH_PORT": str(port)})) as publisher:
        futures = [publisher.publish(number) for number in (1, 2)]
        assert [future.result(20) for future in futures] == [None, None]
        assert [f"@{number}:" in Accepting.posted[number - 1] for number in (1, 2)] == [True, True]
        with pytest.raises(BenchError, match=f"The publisher {MODULE} has ended"):
            publisher.publish(13).result(20)


def test_who_measures_is_told_which_modules_are_missing():
    with pytest.raises(StackError, match=r"Not found: no_such_module\. Install the extra"):
        need_modules("json", "no_such_module")


def test_who_measures_is_told_how_to_install_nchan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(nginx, "NCHAN", tmp_path / "nothing.so")
    with pytest.raises(StackError, match="apt-get install libnginx-mod-nchan"):
        Nchan("sse").start(tmp_path / "nchan")
