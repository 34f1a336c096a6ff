"""A turn of a crowd, whose server is a few lines here."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing

import psutil
import pytest

from bench.crowd import Crowd, mark
from bench.errors import BenchError
from bench.pages import Conditions
from bench.pushing import Pace, Publisher, allow_files, cpu_seconds, rounds
from tests.waiting import until

PACE = Pace(2, 0.02)


class Server:
    """Sends each item to everybody; its CPU time grows by a second each time that it is asked.

    :param deaf: numbers that nobody gets.
    :param closes_with: the number that one listener does not get any more.
    """

    def __init__(
        self, deaf: set[int] = frozenset(), fails: bool = False, closes_with: int = 0
    ) -> None:
        self._closes_with = closes_with
        self.sockets: list[socket.socket] = []
        self._deaf, self._fails = deaf, fails
        self._seconds = 0

    def publish(self, number: int) -> "Future[None]":
        future: Future[None] = Future()
        if number == self._closes_with:
            self.sockets.pop().close()
        text = f"data: {mark(number)}\n\n".encode()
        for sock in self.sockets:
            if number not in self._deaf:
                sock.sendall(text)
        if self._fails:
            future.set_exception(BenchError("refused"))
        else:
            future.set_result(None)
        return future

    def cpu_seconds(self) -> float:
        self._seconds += 1
        return self._seconds


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def publisher(opened: ExitStack, server: Server) -> Publisher:
    crowd = opened.enter_context(closing(Crowd("sse")))
    for _ in range(3):
        ours, theirs = socket.socketpair()
        server.sockets.append(opened.enter_context(ours))
        crowd.add(theirs)
    crowd.start()
    return Publisher(server.publish, crowd, server.cpu_seconds, silence=0.05)


def test_a_turn_tells_what_a_delivery_costs(opened: ExitStack):
    publishing = publisher(opened, Server())
    publishing.warm_up()
    turn = publishing.turn(PACE)
    assert len(turn.delays) == 2 * 3
    assert turn.steady == pytest.approx(1e6 / 6)
    assert 0 < turn.pushed <= 1e6 / 3
    assert turn.rate > 100
    assert (turn.lost, turn.disordered, turn.repeated, turn.closed) == (0, 0, 0, 0)
    assert 0 < turn.share < 1
    assert publishing.turn(PACE).lost == 0


def test_a_turn_ends_although_something_is_lost(opened: ExitStack):
    publishing = publisher(opened, Server(deaf={3}))
    publishing.warm_up()
    turn = publishing.turn(PACE)
    assert (turn.lost, turn.disordered, len(turn.delays)) == (3, 0, 3)


def test_a_listener_who_is_closed_loses_items_in_that_turn_only(opened: ExitStack):
    server = Server(closes_with=3)
    publishing = publisher(opened, server)
    publishing.warm_up()
    turn = publishing.turn(PACE)
    assert turn.closed == 1
    assert turn.lost > 0
    turn = publishing.turn(PACE)
    assert (turn.closed, turn.lost, len(turn.delays)) == (0, 0, 2 * 2)


def test_nothing_is_measured_when_nobody_listens_any_more(opened: ExitStack):
    server = Server()
    publishing = publisher(opened, server)
    publishing.warm_up()
    while server.sockets:
        server.sockets.pop().close()
    with pytest.raises(BenchError, match="closed all connections"):
        while True:
            publishing.turn(PACE)


def test_a_crowd_that_does_not_hear_is_not_measured(opened: ExitStack):
    with pytest.raises(BenchError, match="reached 0 of 3 listeners"):
        publisher(opened, Server(deaf={1})).warm_up(0.05)


def test_an_item_that_is_refused_ends_the_turn(opened: ExitStack):
    with pytest.raises(BenchError, match="refused"):
        publisher(opened, Server(fails=True)).turn(PACE)


def test_cpu_time_is_that_of_children_too():
    burn = "while True: pass"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    with subprocess.Popen([sys.executable, "-c", start]) as process:
        parent = psutil.Process(process.pid)
        until(parent.children, "it has a child")
        children = parent.children()
        until(lambda: cpu_seconds([parent]) > 0.1 + own(parent), "the child's time is counted")
        for each in (*children, parent):
            each.kill()


def own(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def test_open_files_are_counted_and_allowed():
    assert allow_files(10) <= allow_files(1000) < 10**9
    again = "from bench.pushing import allow_files; print(allow_files(300))"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 250)); {again}"
    done = subprocess.run(
        [sys.executable, "-c", limited],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert 200 < int(done.stdout) < 250


@pytest.mark.parametrize(("wanted", "turns", "items"), [(100, 5, 10), (5, 2, 3)])
def test_a_quick_look_has_short_turns(wanted: int, turns: int, items: int):
    conditions = Conditions(wanted, 20, {})
    assert (rounds(conditions), Pace.of(conditions).items) == (turns, items)
