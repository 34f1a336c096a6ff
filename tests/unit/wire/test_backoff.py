import pytest

from pubsub.wire import backoff


def test_the_first_wait_is_at_most_half_a_second():
    assert backoff.delay(1, chance=lambda: 1.0) == 0.5


def test_each_failure_doubles_the_wait():
    waits = [backoff.delay(failures, chance=lambda: 1.0) for failures in range(1, 7)]
    assert waits == [0.5, 1, 2, 4, 8, 16]


@pytest.mark.parametrize("failures", [7, 8, 100, 10**9])
def test_no_wait_is_longer_than_thirty_seconds(failures):
    assert backoff.delay(failures, chance=lambda: 1.0) == 30


@pytest.mark.parametrize("failures", [1, 3, 50])
def test_chance_takes_off_up_to_one_half(failures):
    longest = backoff.delay(failures, chance=lambda: 1.0)
    assert backoff.delay(failures, chance=lambda: 0.0) == longest / 2
    assert backoff.delay(failures, chance=lambda: 0.5) == longest * 3 / 4


def test_two_processes_do_not_come_back_at_the_same_time():
    assert len({backoff.delay(5) for _ in range(20)}) > 1
