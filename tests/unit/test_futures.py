"""pubsub/futures.py: Futures made by hand."""

import threading
from concurrent.futures import Future, wait

import pytest

from pubsub.exceptions import PubSubError
from pubsub.futures import failed, follow, resolved, total


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


def test_what_has_failed_has_failed():
    error = PubSubError("no")
    assert failed(error).exception(0) is error


def test_the_total_of_nothing_is_nothing():
    assert total([]).result(0) == 0


def test_the_total_is_known_when_the_last_one_is():
    futures = [Future() for _ in range(3)]
    future = total(futures)
    for n in (2, 0, 1):
        assert not future.done()
        futures[n].set_result(10**n)
    assert future.result(0) == 111


def test_the_total_of_what_is_known_is_known():
    assert total([resolved(1), resolved(2)]).result(0) == 3


def test_a_total_fails_with_the_error_of_the_first_that_failed_when_all_are_done():
    first, second = PubSubError("first"), PubSubError("second")
    futures = [Future() for _ in range(3)]
    future = total(futures)
    futures[2].set_exception(second)
    futures[1].set_exception(first)
    assert not future.done()
    futures[0].set_result(1)
    assert future.exception(0) is first


def test_a_total_of_which_one_is_cancelled_is_cancelled():
    futures = [resolved(1), Future()]
    future = total(futures)
    futures[1].cancel()
    assert future.cancelled()
    assert wait([future], 0).done == {future}


def test_a_total_that_somebody_has_cancelled_stays_cancelled(caplog):
    other = Future()
    future = total([other])
    assert future.cancel()
    other.set_result(1)
    assert future.cancelled()
    assert caplog.text == ""


def test_a_total_is_counted_right_by_threads():
    for _ in range(50):
        futures = [Future() for _ in range(8)]
        threads = [threading.Thread(target=f.set_result, args=(1,)) for f in futures]
        for thread in threads[:4]:
            thread.start()
        future = total(futures)
        for thread in threads[4:]:
            thread.start()
        assert future.result(10) == 8
        for thread in threads:
            thread.join()
