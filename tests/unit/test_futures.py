"""pubsub/futures.py: Futures made by hand."""

from concurrent.futures import Future

import pytest

from pubsub.exceptions import PubSubError
from pubsub.futures import follow, resolved


@pytest.fixture
def follower():
    future = Future()
    future.set_running_or_notify_cancel()
    return future


def test_what_is_known_is_resolved():
    assert resolved("7").result(0) == "7"


def test_a_result_is_followed(follower):
    other = Future()
    follow(follower, other)
    assert not follower.done()
    other.set_result("7")
    assert follower.result(0) == "7"


def test_an_error_is_followed(follower):
    error = PubSubError("no")
    other = Future()
    other.set_exception(error)
    follow(follower, other)
    assert follower.exception(0) is error


def test_a_cancelled_future_leaves_nobody_waiting(follower):
    other = Future()
    follow(follower, other)
    other.cancel()
    other.set_running_or_notify_cancel()
    assert isinstance(follower.exception(0), PubSubError)
