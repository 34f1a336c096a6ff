"""pubsub/throttling.py: at most one update per item and interval, and the last one for sure."""

import dataclasses
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import transaction

from pubsub import publish, pubsub, retract, throttling
from pubsub.items import CREATED, DELETED, UPDATED, make_item, make_retraction, next_number
from pubsub.throttling import MAX_PAUSES, Throttle, throttle
from tests.testapp.models import Author
from tests.waiting import until

#: Short, so that the thread looks at the clock often; how far that is, a test says itself.
INTERVAL = 0.02


class Clock:
    """A monotonic clock that goes on when it is told to."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throttling, "time", clock)
    return clock


@pytest.fixture
def throttled():
    """A throttle of the test's own, and what it has sent."""
    throttled = Throttle()
    sent = []
    yield SimpleNamespace(
        sent=sent,
        throttle=throttled,
        take=lambda item, interval=INTERVAL: throttled.pass_on(item, interval, sent.append),
    )
    throttled.flush()
    until(lambda: throttled._thread is None, "the thread has ended")


def item(text, id="1", event=UPDATED, node="/a"):
    return make_item(node, text, id=id, event=event, sequence=next_number())


def texts(items):
    return [item.payload.rpartition(">Hello ")[2].partition("<")[0] for item in items]


def hello(n, **options):
    return item(f"Hello {n}", **options)


def test_the_first_goes_at_once_and_the_last_when_the_interval_is_over(clock, throttled):
    for n in range(10):
        throttled.take(hello(n))
    assert texts(throttled.sent) == ["0"]
    clock.now += INTERVAL
    until(lambda: len(throttled.sent) == 2, "the last one")
    assert texts(throttled.sent) == ["0", "9"]


def test_in_each_interval_one_is_sent(clock, throttled):
    for n in range(5):
        throttled.take(hello(n))
        throttled.take(hello(f"{n}b"))
        clock.now += INTERVAL
        until(lambda n=n: len(throttled.sent) == n + 2, "what was held")
        throttled.take(hello(f"{n}c"))  # the interval after what was held has begun
        assert len(throttled.sent) == n + 2
    clock.now += INTERVAL
    until(lambda: len(throttled.sent) == 7, "the last one")
    assert texts(throttled.sent) == ["0", "0b", "1b", "2b", "3b", "4b", "4c"]


def test_after_an_interval_without_updates_the_next_one_goes_at_once(clock, throttled):
    throttled.take(hello(1))
    clock.now += INTERVAL
    until(lambda: throttled.throttle._thread is None, "nothing to wait for")
    throttled.take(hello(2))
    assert texts(throttled.sent) == ["1", "2"]


def test_the_thread_lives_as_long_as_there_is_something_to_wait_for(clock, throttled):
    assert throttled.throttle._thread is None
    throttled.take(hello(1))
    thread = throttled.throttle._thread
    assert thread.is_alive()
    assert thread.daemon
    clock.now += INTERVAL
    until(lambda: not thread.is_alive(), "the end of the thread")


def test_a_shorter_interval_is_not_kept_waiting_by_a_longer_one(clock, throttled):
    throttled.take(hello(1, id="long"), 1000)
    throttled.take(hello(2, id="long"), 1000)
    throttled.take(hello(3, id="short"), INTERVAL)
    throttled.take(hello(4, id="short"), INTERVAL)
    clock.now += INTERVAL
    until(lambda: len(throttled.sent) == 3, "the short one")
    assert texts(throttled.sent) == ["1", "3", "4"]


def test_items_and_nodes_do_not_hold_each_other_back(clock, throttled):
    throttled.take(hello(1))
    throttled.take(hello(2, id="2"))
    throttled.take(hello(3, node="/b"))
    assert texts(throttled.sent) == ["1", "2", "3"]


@pytest.mark.parametrize("interval", [None, 0, 0.0])
def test_without_an_interval_nothing_is_held(throttled, interval):
    for n in range(3):
        throttled.take(hello(n), interval)
    assert len(throttled.sent) == 3
    assert throttled.throttle._thread is None


@pytest.mark.parametrize(
    ("event", "interval"), [(CREATED, INTERVAL), (DELETED, INTERVAL), (UPDATED, None)]
)
def test_what_is_not_held_makes_what_is_held_obsolete(clock, throttled, event, interval):
    throttled.take(hello(1))
    throttled.take(hello("obsolete"))
    throttled.take(hello(2, event=event), interval)
    assert texts(throttled.sent) == ["1", "2"]
    clock.now += INTERVAL
    until(lambda: throttled.throttle._thread is None, "the end of the interval")
    throttled.throttle.flush()
    assert texts(throttled.sent) == ["1", "2"]


def test_a_retraction_makes_what_is_held_obsolete_and_begins_no_interval(clock, throttled):
    throttled.take(hello(1))
    throttled.take(hello("obsolete"))
    throttled.take(make_retraction("/a", "1", sequence=next_number()))
    throttled.take(hello(2))
    throttled.throttle.flush()
    assert [i.is_retraction for i in throttled.sent] == [False, True, False]


def test_a_later_state_is_not_replaced_by_one_that_was_made_before(clock, throttled):
    earlier, later = hello("earlier"), hello("later")
    throttled.take(hello(0))
    throttled.take(later)
    throttled.take(earlier)
    throttled.throttle.flush()
    assert texts(throttled.sent) == ["0", "later"]


def reread(text, number):
    return dataclasses.replace(hello(text), sequence=number, is_reread=True)


def test_a_row_read_back_does_not_replace_a_state_that_came_after_its_reading_began(
    clock, throttled
):
    """The state was frozen first, in a transaction that the reading did not see."""
    uncommitted, reading = next_number(), next_number()
    throttled.take(hello(0))
    throttled.take(dataclasses.replace(hello("committed"), sequence=uncommitted))
    throttled.take(reread("older", reading))
    throttled.throttle.flush()
    assert texts(throttled.sent) == ["0", "committed"]


def test_a_row_read_back_later_replaces_what_is_held(clock, throttled):
    throttled.take(hello(0))
    throttled.take(hello(1))
    throttled.take(reread("read back", next_number()))
    throttled.take(reread("read back before", 0))
    throttled.throttle.flush()
    assert texts(throttled.sent) == ["0", "read back"]


def test_a_state_frozen_before_a_row_was_read_back_is_the_later_one_all_the_same(clock, throttled):
    uncommitted, reading = next_number(), next_number()
    throttled.take(hello(0))
    throttled.take(reread("older", reading))
    throttled.take(dataclasses.replace(hello("committed"), sequence=uncommitted))
    throttled.throttle.flush()
    assert texts(throttled.sent) == ["0", "committed"]


def test_what_is_discarded_is_never_sent(clock, throttled):
    throttled.take(hello(0))
    throttled.take(hello(1))
    throttled.throttle.discard()
    throttled.throttle.flush()
    assert texts(throttled.sent) == ["0"]


def test_flush_sends_all_that_is_held(clock, throttled):
    for n in range(20_000):
        throttled.take(hello(n, id=str(n % 5_000)), 1000)
    assert len(throttled.sent) == 5_000
    throttled.throttle.flush()
    assert len(throttled.sent) == 10_000
    assert texts(throttled.sent[5_000:]) == [str(n) for n in range(15_000, 20_000)]


def test_of_more_items_than_can_be_watched_the_others_go_out_as_they_come(clock, throttled):
    for _ in range(2):
        for n in range(MAX_PAUSES + 10):
            throttled.take(hello(n, id=str(n)), 1000)
    assert len(throttled.sent) == MAX_PAUSES + 20
    throttled.throttle.flush()
    assert len(throttled.sent) == 2 * (MAX_PAUSES + 10)


def test_items_that_come_and_go_take_no_memory(clock, throttled):
    for n in range(3 * MAX_PAUSES):
        throttled.take(hello(n, event=CREATED), 1000)
        throttled.take(make_retraction("/a", "1", sequence=next_number()), 1000)
    assert len(throttled.throttle._pauses) == 0
    assert len(throttled.throttle._ends) <= 2 * MAX_PAUSES


def test_two_threads_lose_nothing(throttled):
    """Whoever comes last, of each thread's items the last state arrives."""
    start = threading.Barrier(2)

    def update(name):
        start.wait()
        for n in range(2_000):
            throttled.take(hello(n, id=f"{name} {n % 10}"), 0.001)

    threads = [threading.Thread(target=update, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    throttled.throttle.flush()
    until(lambda: throttled.throttle._thread is None, "the end of the thread")
    # Their order is the backend's affair, which knows it by the sequence.
    sent = sorted(throttled.sent, key=lambda item: item.sequence)
    last = {i.id: text for i, text in zip(sent, texts(sent), strict=True)}
    assert last == {f"{name} {n}": str(1990 + n) for name in "ab" for n in range(10)}


def test_a_callback_that_raises_does_not_keep_others_from_being_sent(clock, caplog):
    throttled, sent = Throttle(), []

    def send(item):
        if item.id == "bad" and "Hello 1" in item.payload:
            raise SystemExit
        sent.append(item)

    for n in range(2):
        for id in ("bad", "good"):
            throttled.pass_on(hello(n, id=id), INTERVAL, send)
    clock.now += INTERVAL
    until(lambda: texts(sent) == ["0", "0", "1"], "the good one")
    clock.now += INTERVAL
    until(lambda: throttled._thread is None, "the end of the thread")
    assert "bad on /a" in caplog.text


def test_a_thread_that_cannot_be_started_holds_nothing_back(monkeypatch):
    throttled, sent = Throttle(), []

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(throttling.threading.Thread, "start", refuse)
    for n in range(3):
        throttled.pass_on(hello(n), INTERVAL, sent.append)
    assert texts(sent) == ["0", "1", "2"]


# A registered model


@pytest.fixture
def slow(sent, register):
    """A row whose updates are throttled, and one of them is held."""
    register(Author, throttle=1000)
    author = Author.objects.create(name="created")
    author.name = "held"
    author.save()
    yield author
    throttle.flush()
    until(lambda: throttle._thread is None, "the end of the thread")


pytestmark = pytest.mark.django_db(transaction=True)


def test_updates_of_a_row_are_held_and_the_last_one_is_sent(sent, slow):
    for n in range(5):
        slow.name = f"number {n}"
        slow.save()
    assert [i.event for i in sent] == ["created"]
    throttle.flush()
    assert [i.event for i in sent] == ["created", "updated"]
    assert ">number 4<" in sent[-1].payload


@pytest.mark.parametrize(
    "delete",
    [
        lambda author: author.delete(),
        lambda author: Author.objects.all().delete(),
        lambda author: pubsub.publish_rows([author], "deleted"),
        lambda author: retract("/testapp/Author", author.pk),
    ],
    ids=["instance", "queryset", "by hand", "retract"],
)
@pytest.mark.parametrize("in_transaction", [False, True])
def test_what_is_held_of_a_row_is_not_sent_after_its_retraction(sent, slow, delete, in_transaction):
    if in_transaction:
        with transaction.atomic():
            delete(slow)
    else:
        delete(slow)
    throttle.flush()
    assert [(i.event, i.is_retraction) for i in sent] == [("created", False), ("deleted", True)]


def test_what_is_published_by_hand_makes_what_is_held_obsolete(sent, slow):
    slow.name = "by hand"
    publish("/testapp/Author", slow)
    slow.name = "again"
    pubsub.publish_rows([slow])
    throttle.flush()
    assert [i.event for i in sent] == ["created", "published", "updated"]


def test_a_log_is_not_throttled(sent, register):
    register(Author, throttle=1000, item_id=None)
    author = Author.objects.create(name="Ada")
    for _ in range(3):
        author.save()
    assert len(sent) == 4


# The end of a process

PROGRAM = """
import os, sys
sys.path.insert(0, {root!r})
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
from django.conf import settings
settings.PUBSUB_BACKEND = "pubsub.backends.console.ConsoleBackend"
django.setup()
from pubsub.publishing import deliver
from pubsub.items import make_item, next_number

def update(id, count=3):
    for n in range(count):
        item = make_item("/a", f"number {{n}}", id=id, event="updated", sequence=n)
        deliver(item, 1000)

if __name__ == "__main__":
{body}
"""


def output_of(tmp_path, body):
    """What a program says that ends with things held back."""
    path = tmp_path / "program.py"
    root = str(Path(__file__).parents[2])
    path.write_text(PROGRAM.format(root=root, body=body))
    done = subprocess.run(
        [sys.executable, "-W", "error", path], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return [
        (head.split()[1], payload.partition("number ")[2][0])
        for head, payload in zip(*[iter(done.stdout.splitlines())] * 2, strict=True)
    ]


@pytest.mark.parametrize("end", ["", "sys.exit()", "raise SystemExit(0)"])
def test_what_is_held_is_sent_at_the_exit(tmp_path, end):
    said = output_of(tmp_path, f"    update('a')\n    update('b')\n    {end}")
    assert said == [("a", "0"), ("b", "0"), ("a", "2"), ("b", "2")]


def test_what_is_published_at_the_exit_is_sent(tmp_path):
    said = output_of(
        tmp_path, "    import atexit\n    atexit.register(update, 'b')\n    update('a')"
    )
    assert sorted(said) == [("a", "0"), ("a", "2"), ("b", "0"), ("b", "2")]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_sends_what_it_holds_when_it_ends(tmp_path, method):
    said = output_of(
        tmp_path,
        f"    import multiprocessing\n"
        f"    child = multiprocessing.get_context({method!r}).Process(target=update, args=('c',))\n"
        f"    child.start(); child.join()\n"
        f"    assert child.exitcode == 0",
    )
    assert said == [("c", "0"), ("c", "2")]


def test_a_forked_child_leaves_what_its_parent_holds_to_the_parent(tmp_path):
    said = output_of(
        tmp_path,
        "    update('p')\n"
        "    child = os.fork()\n"
        "    update('p' if child else 'c', 2)\n"
        "    if child: os.waitpid(child, 0)",
    )
    assert said == [("p", "0"), ("c", "0"), ("c", "1"), ("p", "2")]


def test_a_child_that_is_forked_while_the_lock_is_held_goes_on(clock):
    with throttle._pauses_lock:
        child = os.fork()
        if child == 0:
            try:
                throttle.pass_on(hello(1), 1000, lambda item: os._exit(0))
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gc.collect()
