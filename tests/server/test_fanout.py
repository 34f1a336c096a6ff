"""A crowd of guests at a real ejabberd."""

from contextlib import ExitStack

import pytest

from bench.crowd import Kind
from bench.fanout import Audience, Servers, Task
from bench.pushing import Pace
from pubsub.devstack import Stack


@pytest.mark.parametrize("kind", ["websocket", "bosh"])
def test_all_guests_hear_all_items_in_order(stack: Stack, kind: Kind):
    with ExitStack() as running:
        there = Servers(stack)
        running.callback(there.backend.close)
        audience = Audience(running, Task(kind, "direct", 3, sessions=True), there)
        for size in (3, 5):
            audience.grow(size)
            turn = audience.publisher.turn(Pace(1, 0.05))
            assert len(turn.delays) == size
            assert (turn.lost, turn.disordered, turn.repeated, turn.closed) == (0, 0, 0, 0)
