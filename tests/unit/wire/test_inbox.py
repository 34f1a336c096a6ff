"""pubsub/wire/inbox.py: what is put in by many is taken out by one, who hears of it."""

import select
import socket
import threading
from concurrent.futures import CancelledError, Future

import pytest

from pubsub.exceptions import InvalidItem, QueueFull, StreamLost
from pubsub.wire import stanzas
from pubsub.wire.inbox import Draft, Inbox
from pubsub.wire.ledger import Pending
from tests.waiting import until

REQUEST = stanzas.retract("pubsub.example.org", "/n", "1")


def pending():
    return Pending(REQUEST, Future())


@pytest.fixture
def inbox():
    inbox = Inbox()
    inbox.open()
    yield inbox
    inbox.let_go()


def waiting(inbox, *, is_busy=False, seconds=None):
    """The thread of an owner who waits, and falls asleep."""
    arguments = (None, seconds)
    options = {"is_writing": False, "is_busy": is_busy}
    thread = threading.Thread(target=inbox.wait, args=arguments, kwargs=options, daemon=True)
    thread.start()
    return thread


def test_what_is_put_in_comes_out_in_order_and_once(inbox):
    first, second, third = pending(), pending(), pending()
    inbox.put([first, second])
    inbox.put([third])
    assert len(inbox) == 3
    assert list(inbox.take()) == [first, second, third]
    assert list(inbox.take()) == []


def test_what_is_put_in_while_it_is_emptied_stays_for_the_next_time(inbox):
    inbox.put([pending()])
    for _ in inbox.take():
        inbox.put([pending()])
    assert len(inbox) == 1


def test_what_several_threads_put_in_keeps_the_order_of_each(inbox):
    kept = {}

    def put():
        kept[threading.get_ident()] = mine = [pending() for _ in range(300)]
        for first, second in zip(mine[::2], mine[1::2], strict=True):
            inbox.put([first, second])

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    places = {entry: place for place, entry in enumerate(inbox.take())}
    assert len(places) == 2400
    for mine in kept.values():
        assert sorted(mine, key=places.__getitem__) == mine
        assert all(places[b] == places[a] + 1 for a, b in zip(mine[::2], mine[1::2], strict=True))


@pytest.mark.parametrize("is_busy", [False, True])
def test_who_waits_is_woken_by_what_is_put_in(inbox, is_busy):
    thread = waiting(inbox, is_busy=is_busy)
    inbox.put([pending()])
    thread.join(20)
    assert not thread.is_alive()


def test_who_waits_does_so_no_longer_than_he_wants(inbox):
    inbox.wait(None, 0.001, is_writing=False, is_busy=False)
    inbox.wait(None, 0.0, is_writing=False, is_busy=True)


class Session:
    """A stream's descriptor, and what it has besides."""

    def __init__(self, connected, *, has_pending=False):
        self.fileno = connected.fileno
        self.has_pending = has_pending


def test_who_waits_is_told_whether_the_stream_has_something(inbox):
    here, there = socket.socketpair()
    with here:
        with there:
            there.sendall(b"x")
            assert inbox.wait(Session(here), 20, is_writing=False, is_busy=False)
            here.recv(1)
            inbox.put([pending()])
            assert not inbox.wait(Session(here), 20, is_writing=False, is_busy=False)
            assert inbox.wait(Session(here, has_pending=True), 0, is_writing=False, is_busy=False)
        assert inbox.wait(Session(here), 20, is_writing=False, is_busy=False)  # the end


def test_what_was_put_in_before_is_not_slept_through(inbox):
    inbox.put([pending()])
    inbox.wait(None, None, is_writing=False, is_busy=False)
    assert len(inbox) == 1


def test_nobody_is_woken_who_does_not_sleep(inbox, monkeypatch):
    woken = []
    monkeypatch.setattr(Inbox, "wake", lambda inbox: woken.append(inbox))
    inbox.put([pending()])
    assert woken == []


def test_of_many_who_put_something_in_one_wakes_the_sleeper(inbox):
    thread = waiting(inbox)
    until(lambda: inbox._is_asleep, "it sleeps")
    inbox.put([pending()])
    assert not inbox._is_asleep
    thread.join(20)


def test_to_wake_nobody_is_harmless():
    inbox = Inbox()
    inbox.wake()
    inbox.put([pending()])
    assert len(inbox) == 1


def test_a_closed_inbox_keeps_its_descriptors_for_who_is_about_to_write(inbox):
    held = inbox._wakeup
    inbox.close()
    held.wake()
    poll = select.poll()
    poll.register(held, select.POLLIN)
    assert poll.poll(0)


def test_a_draft_is_made_when_it_is_looked_at():
    made = []
    draft = Draft(lambda future: made.append(future) or REQUEST, Future())
    assert made == []
    opened = draft.open()
    assert made == [draft.future]
    assert opened.request is REQUEST
    assert opened.future is draft.future


def test_a_draft_of_which_nothing_is_to_be_sent_is_no_request():
    assert Draft(lambda future: future.set_result("done"), Future()).open() is None


@pytest.mark.parametrize(
    ("error", "expected"), [(QueueFull("full"), QueueFull), (KeyError("x"), InvalidItem)]
)
def test_what_goes_wrong_with_a_draft_is_what_its_future_fails_with(error, expected):
    def make(future):
        raise error

    draft = Draft(make, Future())
    assert draft.open() is None
    with pytest.raises(expected):
        draft.future.result(0)


def test_a_callback_that_wants_to_end_the_program_disturbs_nobody(caplog):
    def leave(future):
        raise SystemExit

    draft = Draft(lambda future: future.set_result("1"), Future())
    draft.future.add_done_callback(leave)
    assert draft.open() is None
    assert draft.future.result(0) == "1"
    assert "A callback" in caplog.text


def test_a_draft_that_was_cancelled_fails_with_nothing_else():
    draft = Draft(lambda future: REQUEST, Future())
    draft.future.cancel()
    draft.fail(StreamLost("server", "gone"))
    with pytest.raises(CancelledError):
        draft.future.result(0)
