"""The page of peers."""

import pytest

from bench.measure import Turn
from bench.pages import Conditions
from bench.peers import page
from bench.peers.page import (
    LOSING,
    OURS,
    PEERS,
    UNBOUND,
    alternate,
    beside,
    let_rest,
    lines,
    unbound,
)
from bench.peers.peer import Channels
from bench.pushing import Pace


class Playing:
    """Takes turns without publishing anything."""

    def __init__(self, name: str, played: list[str]) -> None:
        self._name = name
        self._played = played

    def turn(self, pace: Pace, ahead: int = 0) -> Turn:
        self._played.append(f"{self._name} {ahead}")
        return Turn([float(len(self._played))], 1.0, 1.0, 1.0)


class Busy:
    """Takes a second of CPU time whenever it is asked, a few times."""

    def __init__(self, times: int) -> None:
        self.asked = 0
        self._times = times

    def cpu_seconds(self) -> float:
        self.asked += 1
        return float(min(self.asked, self._times))


def test_each_line_of_a_peer_is_compared_with_ours_in_the_turns_between():
    ours, *theirs = lines()
    assert (ours.name, ours.base) == (OURS, None)
    assert [line.name for line in theirs if line.base != beside(line.name)] == []
    assert {line.name for line in theirs} == {*PEERS, *(unbound(name) for name in LOSING)}
    assert all(line.name.startswith("peers: ") for line in (ours, *theirs))


@pytest.mark.parametrize(("bound", "ahead", "rounds"), [(True, 10, 3), (False, UNBOUND, 2)])
def test_ours_and_theirs_take_turns(monkeypatch, bound: bool, ahead: int, rounds: int):
    played: list[str] = []
    monkeypatch.setattr(page, "let_rest", lambda peer: played.append("rest"))
    ours, theirs = Playing("ours", played), Playing("theirs", played)
    pairs = alternate(Conditions(60, 1, {}), ours, theirs, Channels("", 1), bound)
    assert played == ["ours 0", f"theirs {ahead}", "rest"] * rounds
    times = [(our.delays[0], their.delays[0]) for our, their in pairs]
    assert times == [(1, 2), (4, 5), (7, 8)][:rounds]


def test_a_peer_may_end_what_it_does_before_the_next_turn(monkeypatch):
    monkeypatch.setattr(page.time, "sleep", lambda seconds: None)
    peer = Busy(times=3)
    let_rest(peer)
    assert peer.asked == 4
