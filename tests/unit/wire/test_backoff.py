import pytest

from pubsub.exceptions import AuthenticationError, ConnectError, StreamLost, TLSError
from pubsub.wire import backoff


def test_the_first_wait_is_at_most_half_a_second():
    assert backoff.delay(1, chance=lambda: 1.0) == 0.5


def test_each_failure_doubles_the_wait():
    waits = [backoff.delay(failures, chance=lambda: 1.0) for failures in range(1, 6)]
    assert waits == [0.5, 1, 2, 4, 8]


@pytest.mark.parametrize("failures", [6, 7, 100, 10**9])
def test_no_wait_is_longer_than_ten_seconds(failures):
    assert backoff.delay(failures, chance=lambda: 1.0) == 10


@pytest.mark.parametrize("failures", [1, 3, 50])
def test_chance_takes_off_up_to_one_half(failures):
    longest = backoff.delay(failures, chance=lambda: 1.0)
    assert backoff.delay(failures, chance=lambda: 0.0) == longest / 2
    assert backoff.delay(failures, chance=lambda: 0.5) == longest * 3 / 4


def test_two_processes_do_not_come_back_at_the_same_time():
    assert len({backoff.delay(5) for _ in range(20)}) > 1


def test_without_a_failure_an_attempt_is_due():
    attempts = backoff.Attempts()
    assert attempts.is_due
    assert not attempts.is_hopeless


@pytest.mark.parametrize("error", [ConnectError("h:1", "refused"), StreamLost("h:1", "reset")])
def test_after_a_passing_failure_the_next_attempt_is_worth_waiting_for(error):
    attempts = backoff.Attempts()
    attempts.failed(error)
    assert attempts.error is error
    assert not attempts.is_due
    assert not attempts.is_hopeless


@pytest.mark.parametrize("error", [TLSError("h:1", "expired"), AuthenticationError("h:1", "no")])
def test_after_a_lasting_failure_waiting_is_hopeless_until_the_next_attempt_is_due(error):
    attempts = backoff.Attempts()
    attempts.failed(error)
    assert attempts.is_hopeless
    attempts.next = 0.0
    assert attempts.is_due
    assert not attempts.is_hopeless


def test_success_forgets_the_failures():
    attempts = backoff.Attempts()
    attempts.failed(TLSError("h:1", "self-signed"))
    attempts.succeeded()
    assert (attempts.failures, attempts.error, attempts.is_hopeless) == (0, None, False)


def test_an_attempt_that_is_hastened_is_due():
    attempts = backoff.Attempts()
    attempts.failed(ConnectError("h:1", "refused"))
    assert not attempts.is_due
    attempts.hasten()
    assert attempts.is_due
