"""pubsub/runners.py: errands that are done, put off, or given up."""

import threading
import time

import pytest

from pubsub import runners
from pubsub.exceptions import (
    ConnectError,
    PubSubError,
    QueueFull,
    RequestFatal,
    RequestRefused,
    RequestTimeout,
)
from pubsub.runners import Errand, Runner
from tests.waiting import until

AWAY = ConnectError("here:1", "nobody listens")


@pytest.fixture
def runner():
    made = Runner("runner of a test", 2)
    yield made
    made.begin_to_close()
    made.close(time.monotonic() + 20)


@pytest.fixture
def pause(monkeypatch):
    """How long nothing is begun after a failure, in seconds."""
    pause = [0.0]
    monkeypatch.setattr(runners, "delay", lambda failures: pause[0])
    return pause


def errand(act, key=None, number=1):
    return Errand(act, f"do errand {number}", f"manage.py errand {number}", key)


def telling(outcomes):
    """An errand that does, one time after another, what it is told."""

    def act():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return act


def raising(error):
    return telling(iter([error]))


def test_an_errand_is_done_when_the_server_is_back(runner, pause, caplog):
    busy = RequestRefused("resource-constraint", "wait")
    outcomes = iter([AWAY, RequestTimeout("silent"), busy, QueueFull("too much"), "done"])
    assert runner.take(errand(telling(outcomes))).result(20) == "done"
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"Could not do errand 1 yet: {AWAY}. It is tried again")
    assert message.endswith("else run manage.py errand 1")


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError(), RequestFatal("here:1", "too big"), RequestRefused("forbidden", "auth")],
)
def test_an_errand_that_fails_by_itself_is_not_done_again(runner, pause, error, caplog):
    assert runner.take(errand(raising(error))).exception(20) is error
    assert "To make up for it: manage.py errand 1" in caplog.text


def test_all_that_waits_for_the_server_is_done_when_one_of_it_was(runner, pause):
    is_away = threading.Event()
    is_away.set()
    tried = []

    def act(number):
        tried.append(number)
        if is_away.is_set():
            raise AWAY
        return number

    taken = [runner.take(errand(lambda n=n: act(n))) for n in range(6)]
    until(lambda: len(tried) > 6, "it is tried again")
    is_away.clear()
    assert [future.result(20) for future in taken] == list(range(6))


def test_while_the_server_is_away_nothing_is_begun_and_all_of_it_is_in_the_log(
    runner, pause, caplog
):
    pause[0] = 3600
    runner.take(errand(raising(AWAY)))
    until(lambda: "do errand 1 yet" in caplog.text, "nobody answers")
    until(lambda: runner._timer is not None, "nothing is begun")
    waiting = runner.take(errand(pytest.fail, number=2))
    assert not waiting.done()
    assert "Could not do errand 2 yet" in caplog.text
    assert "else run manage.py errand 2" in caplog.text


def test_what_is_asked_for_again_before_it_has_begun_is_done_once(runner, caplog):
    go_on, asked = threading.Event(), []
    for _ in range(2):
        runner.take(errand(lambda: go_on.wait(20)))
    taken = [runner.take(errand(lambda n=n: asked.append(n), key="all")) for n in range(5)]
    assert asked == []
    go_on.set()
    for future in taken:
        future.result(20)
    assert asked == [0]
    runner.take(errand(lambda: asked.append("again"), key="all")).result(20)
    assert asked == [0, "again"]


def test_what_is_asked_for_again_while_it_fails_is_done_once_for_both(runner, pause):
    begun, go_on = threading.Event(), threading.Event()
    is_held, over = threading.Event(), threading.Event()
    outcomes = iter([AWAY, "first"])

    def act():
        begun.set()
        assert go_on.wait(20)
        return telling(outcomes)()

    def hold():
        is_held.set()
        over.wait(20)

    first = runner.take(errand(act, key="all"))
    runner.take(errand(hold))  # by the other thread
    assert begun.wait(20)
    assert is_held.wait(20)
    second = runner.take(errand(pytest.fail, key="all"))
    go_on.set()
    assert (first.result(20), second.result(20)) == ("first", "first")
    over.set()


def test_at_the_end_what_has_begun_is_finished_and_the_rest_is_given_up(caplog):
    runner, go_on, begun = Runner("runner of a test", 1), threading.Event(), threading.Event()

    def act():
        begun.set()
        return go_on.wait(20)

    first, second = (
        runner.take(errand(each, number=n)) for n, each in enumerate((act, pytest.fail))
    )
    assert begun.wait(20)
    runner.begin_to_close()
    assert isinstance(second.exception(0), PubSubError)
    assert "Could not do errand 1: the process ends before it is done." in caplog.text
    runner.close(time.monotonic())
    assert "Could not do errand 0: the process ends before it is done." in caplog.text
    go_on.set()
    runner.close(time.monotonic() + 20)
    assert first.result(0)
    assert isinstance(runner.take(errand(pytest.fail)).exception(0), PubSubError)


def test_an_errand_that_meets_no_server_at_the_end_is_given_up(caplog):
    runner, go_on, begun = Runner("runner of a test", 1), threading.Event(), threading.Event()

    def act():
        begun.set()
        assert go_on.wait(20)
        raise AWAY

    future = runner.take(errand(act))
    assert begun.wait(20)
    runner.begin_to_close()
    go_on.set()
    assert future.exception(20) is AWAY
    assert "To make up for it: manage.py errand 1" in caplog.text


def test_where_no_thread_can_be_had_nothing_is_promised(runner, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert isinstance(runner.take(errand(pytest.fail)).exception(0), RuntimeError)


def test_no_thread_is_left_when_nothing_is_to_be_done(runner):
    runner.take(errand(lambda: None)).result(20)
    until(lambda: not runner._threads, "the thread has ended")
