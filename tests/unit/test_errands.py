"""pubsub/errands.py: what has to be done behind a request."""

import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest
from django.db import transaction

from pubsub import errands
from pubsub.errands import after_commit, answer, run
from pubsub.exceptions import ConnectError, RequestTimeout
from pubsub.futures import failed, resolved

db = pytest.mark.django_db(transaction=True)


def do(act, **options):
    return run(act, what="do it", remedy="manage.py do_it", **options)


def test_an_errand_runs_in_a_thread_of_its_own():
    name = do(lambda: threading.current_thread().name).result(10)
    assert name.startswith("pubsub errand")


def test_an_errand_that_fails_says_so():
    assert isinstance(do(lambda: 1 / 0).exception(10), ZeroDivisionError)


def test_what_is_urgent_does_not_stand_behind_what_is_not():
    go_on = threading.Event()
    others = [do(lambda: go_on.wait(20)) for _ in range(3 * errands.THREADS)]
    assert do(lambda: "done", is_urgent=True).result(20) == "done"
    assert not others[0].done()
    go_on.set()
    for other in others:
        other.result(20)


def test_at_the_exit_what_was_begun_is_finished_and_the_rest_is_told():
    script = """if True:
        import logging
        import sys
        import threading

        from django.conf import settings

        settings.configure(INSTALLED_APPS=["pubsub"], XMPP_TIMEOUT=20)
        from pubsub.errands import THREADS, run

        begun, exiting = threading.Barrier(THREADS + 1), threading.Event()

        class Log(logging.StreamHandler):
            def emit(self, record):
                super().emit(record)
                exiting.set()

        logging.getLogger("pubsub").addHandler(Log())

        def errand():
            begun.wait(20)
            if exiting.wait(20):
                print("finished\\n", end="")

        for number in range(3 * THREADS):
            run(errand, what=f"do {number}", remedy="manage.py do")
        begun.wait(20)
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout == "finished\n" * errands.THREADS
    told = [f"Could not do {n}: the process ends" in done.stderr for n in range(12)]
    assert told == [False] * errands.THREADS + [True] * 2 * errands.THREADS


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
