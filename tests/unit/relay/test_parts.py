"""Tests of the small rooms of pubsub.relay: alone, bell, outcomes."""

import os
import threading
from datetime import timedelta

import pytest

from pubsub.exceptions import (
    AlreadyRelaying,
    ConnectError,
    InvalidItem,
    QueueFull,
    RequestRefused,
    RequestTimeout,
    StreamLost,
)
from pubsub.relay.alone import alone
from pubsub.relay.bell import Bell
from pubsub.relay.outcomes import Outcome, outcome_of, pause_after


def test_a_second_relay_of_one_sqlite_file_is_refused_by_the_first_ones_name(site, tmp_path):
    with alone(site):
        with pytest.raises(AlreadyRelaying) as refused, alone(site):
            pass
        assert f"(process {os.getpid()})" in str(refused.value)
        assert str(tmp_path / "migrated.sqlite3") in str(refused.value)
    with alone(site):
        pass  # the first one has ended


def test_a_database_in_memory_needs_no_lock():
    with alone("default"), alone("default"):
        pass


def test_a_bell_that_has_rung_before_is_not_waited_for():
    bell = Bell()
    heard = bell.rings
    bell.ring()
    bell.wait(heard, 60)


def test_a_bell_wakes_all_who_wait():
    bell = Bell()
    threads = [threading.Thread(target=bell.wait, args=(0, 60)) for _ in range(3)]
    for thread in threads:
        thread.start()
    bell.ring()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (StreamLost("s", "x"), Outcome.LOST),
        (ConnectError("s", "x"), Outcome.LOST),
        (QueueFull("x"), Outcome.LOST),
        (RequestTimeout("x"), Outcome.LATER),
        (RequestRefused("resource-constraint", "wait"), Outcome.LATER),
        (RequestRefused("service-unavailable", "cancel"), Outcome.LATER),
        (RequestRefused("internal-server-error", "cancel"), Outcome.LATER),
        (RequestRefused("forbidden", "auth"), Outcome.REFUSED),
        (RequestRefused("not-acceptable", "modify"), Outcome.REFUSED),
        (InvalidItem("x"), Outcome.REFUSED),
        (ZeroDivisionError("x"), Outcome.REFUSED),
    ],
    ids=repr,
)
def test_an_error_says_whether_to_try_again(error, outcome):
    assert outcome_of(error) is outcome


def test_pauses_double_and_are_bounded():
    assert [pause_after(n) for n in (1, 2, 3)] == [timedelta(seconds=s) for s in (0.5, 1, 2)]
    assert pause_after(60_000) == timedelta(minutes=5)
