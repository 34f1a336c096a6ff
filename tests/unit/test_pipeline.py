"""pubsub/pipeline.py: many items one behind the other, however slow the server is."""

import threading
import time
from concurrent.futures import Future

import pytest
from django.db import transaction

from pubsub import pubsub
from pubsub.backends import get_backend
from pubsub.backends.base import BaseBackend
from pubsub.exceptions import (
    ConnectError,
    QueueFull,
    RequestRefused,
    RequestTimeout,
    ServerLost,
    StreamLost,
)
from pubsub.pipeline import WINDOW, Pipeline
from pubsub.signals import item_published
from tests.aio import close_connections
from tests.testapp.models import Author, Seat
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


class Slow(BaseBackend):
    """Answers when the test says so, in the thread of the test."""

    def __init__(self):
        self.asked = []
        self.full = 0  # how often there is no room
        self.why = None

    def send(self, item):
        future = Future()
        if self.full:
            self.full -= 1
            future.set_exception(QueueFull("no room"))
            return future
        future.set_running_or_notify_cancel()
        self.asked.append((item, future))
        return future

    def resolves_here(self):
        return threading.current_thread() is threading.main_thread()

    def trouble(self):
        return self.why

    def answer(self, start=0, stop=None, error=None):
        for _, future in self.asked[start:stop]:
            if error is None:
                future.set_result("1")
            else:
                future.set_exception(error)


@pytest.fixture
def slow(settings):
    settings.PUBSUB_BACKEND = f"{__name__}.Slow"
    settings.PUBSUB_QUEUE_SIZE = 20  # a window of ten
    backend = get_backend()
    yield backend
    for _, future in backend.asked:
        if not future.done():
            future.set_exception(StreamLost("localhost:5222", "the test is over"))


class Publishing:
    """Rows that are published in a thread of their own."""

    def __init__(self, rows):
        self.result = None
        self._rows = rows
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        self.result = pubsub.publish_rows(self._rows)
        close_connections()

    @property
    def waits(self):
        return self._thread.is_alive()

    def join(self):
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.result


@pytest.fixture
def rows(register):
    register(Author)
    return Author.objects.bulk_create(Author(pk=n, name=str(n)) for n in range(100))


def test_no_more_items_are_unanswered_than_the_window_is_wide(slow, rows):
    publishing = Publishing(rows)
    for answered in range(90):
        until(lambda n=answered: len(slow.asked) == n + 10, "the window is full")
        assert publishing.waits
        slow.answer(answered, answered + 1)
    assert publishing.join().done() is False
    slow.answer(90)
    assert publishing.join().result(1) == 100
    assert [item.id for item, _ in slow.asked] == [str(n) for n in range(100)]


@pytest.mark.parametrize(("size", "window"), [(1, 1), (2, 1), (20, 10), (10_000, WINDOW)])
def test_the_window_leaves_room_in_the_queue(settings, size, window):
    settings.PUBSUB_QUEUE_SIZE = size
    assert Pipeline()._window == window


def test_the_future_fails_with_the_first_error_when_all_have_been_answered(slow, rows, failures):
    first, second = RequestRefused("forbidden"), RequestRefused("conflict")
    publishing = Publishing(rows[:5])
    future = publishing.join()
    slow.answer(3, 4, first)
    slow.answer(0, 1, second)
    assert not future.done()
    slow.answer(1, 3)
    slow.answer(4, 5)
    assert future.exception(1) is first
    assert [error for _, error in failures] == [first, second]


def test_an_item_that_somebody_cancels_fails_the_future(slow, rows):
    class Cancelling(Slow):
        def send(self, item):
            future = Future()
            future.cancel()
            return future

    slow.send = Cancelling().send
    assert "cancelled" in str(pubsub.publish_rows(rows[:3]).exception(1))


def test_a_server_that_is_lost_is_told_of_once_for_all_the_rest(slow, rows, failures):
    publishing = Publishing(rows)
    until(lambda: len(slow.asked) == 10, "the window is full")
    slow.answer(0, 10, StreamLost("localhost:5222", "cut"))
    future = publishing.join()
    # One more may have been on its way while the first of them failed.
    slow.answer(10, None, RequestTimeout("no answer"))
    assert isinstance(future.exception(1), StreamLost)
    assert len(slow.asked) < 20
    assert len(failures) == len(slow.asked) + 1
    assert [isinstance(error, ServerLost) for _, error in failures].count(True) == 1


def test_a_single_answer_shows_that_the_server_is_there(slow, rows, failures):
    publishing = Publishing(rows)
    lost = StreamLost("localhost:5222", "cut")
    for start in range(0, 100, 10):
        until(lambda n=start: len(slow.asked) == n + 10, "the window is full")
        slow.answer(start, start + 9, lost)
        slow.answer(start + 9, start + 10)
    assert publishing.join().exception(1) is lost
    assert len(slow.asked) == 100


def test_a_server_that_never_answers_is_waited_for_within_bounds(slow, rows, failures, settings):
    settings.XMPP_TIMEOUT = 0.05
    slow = get_backend()
    publishing = Publishing(rows)
    until(lambda: not publishing.waits, "nobody waits any more")
    (failure,) = failures
    assert failure[0] == "the rest of the rows"
    assert isinstance(failure[1], ServerLost)
    assert len(slow.asked) == 10
    slow.answer()
    assert isinstance(publishing.join().exception(1), ServerLost)


def test_a_server_that_is_away_is_waited_for_a_third_of_the_time(slow, rows, failures, settings):
    settings.XMPP_TIMEOUT = 2
    slow = get_backend()
    slow.why = ConnectError("localhost:5222", "refused")
    begin = time.monotonic()
    publishing = Publishing(rows)
    until(lambda: not publishing.waits, "nobody waits any more")
    assert 1.9 < time.monotonic() - begin < 5.5
    ((_, error),) = failures
    assert isinstance(error, ServerLost)
    assert "refused" in str(error)


def test_the_future_fails_at_once_when_the_server_is_not_waited_for(slow, rows, settings):
    """What has been sent may be kept by the backend, and be acknowledged hours later."""
    settings.XMPP_TIMEOUT = 0.05
    slow = get_backend()
    future = Publishing(rows).join()
    assert isinstance(future.exception(1), ServerLost)
    slow.answer()
    assert isinstance(future.exception(1), ServerLost)


def test_a_queue_that_others_have_filled_is_waited_for(slow, rows, failures):
    slow.full = 5
    publishing = Publishing(rows[:3])
    assert not publishing.join().done()
    slow.answer()
    assert publishing.join().result(1) == 3
    assert failures == []


def test_a_queue_that_stays_full_is_waited_for_within_bounds(slow, rows, failures, settings):
    settings.XMPP_TIMEOUT = 0.02
    slow = get_backend()
    slow.full = 10**9
    publishing = Publishing(rows)
    assert isinstance(publishing.join().exception(1), QueueFull)
    assert [type(error) for _, error in failures] == [QueueFull, ServerLost]


def test_in_the_thread_of_the_answers_nobody_waits(slow, rows, failures):
    """A receiver that publishes rows would otherwise wait for what only its own thread can do."""
    results = []

    def publish_more(item, **kwargs):
        if item.id == "0" and not results:
            results.append(pubsub.publish_rows(rows[1:]))

    item_published.connect(publish_more)
    try:
        publishing = Publishing(rows[:1])
        publishing.join()
        slow.answer(0, 1)
    finally:
        item_published.disconnect(publish_more)
    assert len(slow.asked) == 100
    slow.answer(1)
    assert results[0].result(1) == 99
    assert failures == []


def test_in_the_thread_of_the_answers_what_does_not_fit_fails_and_is_told_of_once(
    slow, rows, failures
):
    slow.full = 10**9
    future = pubsub.publish_rows(rows)
    assert isinstance(future.exception(1), QueueFull)
    assert [type(error) for _, error in failures] == [QueueFull, ServerLost]


def test_a_bulk_operation_in_a_receiver_is_published(settings, sent, register):
    """With a backend that answers at once the receiver runs in the middle of another one."""
    register([Author, Seat])
    done = []

    def create_more(item, **kwargs):
        if item.node == "/testapp/Author" and not done:
            done.append(True)
            Seat.objects.bulk_create([Seat(number=n) for n in range(50)])

    item_published.connect(create_more)
    try:
        with transaction.atomic():
            Author.objects.create(name="Ada")
    finally:
        item_published.disconnect(create_more)
    assert len(sent) == 51


def test_an_empty_pipeline_has_published_nothing():
    assert Pipeline().finish().result(0) == 0


def test_what_was_not_even_sent_fails_the_future(sent):
    pipeline = Pipeline()
    pipeline.fail(ZeroDivisionError())
    pipeline.fail(KeyError())
    assert isinstance(pipeline.finish().exception(0), ZeroDivisionError)
