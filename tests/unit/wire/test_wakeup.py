"""pubsub/wire/wakeup.py: ready after a wake, not ready after a clear."""

import select

import pytest

from pubsub.wire.wakeup import Wakeup


@pytest.fixture
def wakeup():
    wakeup = Wakeup()
    yield wakeup
    wakeup.close()


def is_ready(wakeup):
    poll = select.poll()
    poll.register(wakeup, select.POLLIN)
    return bool(poll.poll(0))


def test_it_is_ready_once_it_has_been_woken(wakeup):
    assert not is_ready(wakeup)
    wakeup.wake()
    assert is_ready(wakeup)
    wakeup.clear()
    assert not is_ready(wakeup)


def test_it_can_be_woken_more_often_than_the_pipe_holds(wakeup):
    for _ in range(100_000):
        wakeup.wake()
    assert is_ready(wakeup)


def test_clearing_what_is_not_ready_does_not_wait(wakeup):
    wakeup.clear()
    assert not is_ready(wakeup)
