"""pubsub/errands.py: what has to be done behind a request."""

import threading
from concurrent.futures import Future

import pytest
from django.db import transaction

from pubsub import errands
from pubsub.errands import after_commit, answer, insist, run
from pubsub.exceptions import ConnectError, RequestTimeout
from pubsub.futures import failed, resolved

db = pytest.mark.django_db(transaction=True)


def test_an_errand_runs_in_a_thread_of_its_own():
    name = run(lambda: threading.current_thread().name).result(10)
    assert name.startswith("pubsub errand")


def test_an_errand_that_fails_says_so():
    assert isinstance(run(lambda: 1 / 0).exception(10), ZeroDivisionError)


def test_an_errand_is_done_when_the_server_is_back(monkeypatch):
    outcomes = iter([ConnectError("here:1", "nobody"), RequestTimeout("silent"), "done"])
    reports = []
    monkeypatch.setattr(errands, "delay", lambda failures: 0)

    def errand(argument):
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return f"{argument} {outcome}"

    assert insist(errand, "all", report=reports.append).result(10) == "all done"
    assert [type(report) for report in reports] == [ConnectError]


def test_an_errand_that_fails_by_itself_is_not_done_again():
    reports = []
    assert isinstance(insist(lambda: 1 / 0, report=reports.append).exception(10), ZeroDivisionError)
    assert reports == []


def test_at_the_exit_no_errand_is_begun(monkeypatch):
    class Closed:
        def submit(self, *args):
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(errands, "_threads", Closed())
    assert isinstance(run(print).exception(0), RuntimeError)


@db
def test_without_a_transaction_it_is_done_at_once():
    assert after_commit(lambda: resolved(5), None).result(0) == 5


@db
def test_in_a_transaction_it_is_done_at_the_commit():
    with transaction.atomic():
        future = after_commit(lambda: resolved(5), None)
        assert not future.done()
    assert future.result(0) == 5


@db
def test_a_rollback_cancels_it():
    with transaction.atomic():
        future = after_commit(lambda: pytest.fail("done"), None)
        transaction.set_rollback(True)
    assert future.cancelled()


@db
def test_what_cannot_be_begun_at_the_commit_fails():
    with transaction.atomic():
        future = after_commit(lambda: 1 / 0, None)
    assert isinstance(future.exception(0), ZeroDivisionError)


def test_an_answer_is_what_the_server_says():
    assert answer(resolved(5)) == 5
    with pytest.raises(ConnectError):
        answer(failed(ConnectError("127.0.0.1:1", "nobody listens")))


def test_a_server_that_does_not_answer_is_not_waited_for_longer_than_allowed(settings):
    settings.XMPP_TIMEOUT = -0.9
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"
    waiting: Future[int] = Future()
    with pytest.raises(RequestTimeout):
        answer(waiting)
    assert waiting.cancelled()
    sent: Future[int] = Future()
    sent.set_running_or_notify_cancel()
    with pytest.raises(RequestTimeout):
        answer(sent)
