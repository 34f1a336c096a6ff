"""pubsub/backends/latest.py: of a row's states no older one follows a later one."""

import gc
import weakref
from concurrent.futures import Future

import pytest

from pubsub.backends import latest as module
from pubsub.backends.latest import Latest
from pubsub.exceptions import PubSubError, QueueFull
from pubsub.items import make_item, make_retraction, next_number


class Wire:
    """What was sent, in order, and the Futures that wait for the server."""

    def __init__(self):
        self.sent = []
        self.futures = []
        self.latest = Latest()

    def send(self, item, number=None):
        """The Future of an item that is handed over at a moment, now by default."""
        future = Future()
        if self.latest.admits(item, next_number() if number is None else number, future):
            self.sent.append(item)
            self.futures.append(future)
        return future

    @property
    def texts(self):
        return [item.payload.partition("/>")[2].partition("<")[0] for item in self.sent]


@pytest.fixture
def wire():
    return Wire()


def frozen(text, number=None):
    sequence = next_number() if number is None else number
    return make_item("/node", text, id="7", sequence=sequence)


def reread(text, number):
    item = frozen(text, number)
    object.__setattr__(item, "is_reread", True)
    return item


def test_states_in_their_order_are_all_sent(wire):
    for text in ("first", "second"):
        wire.send(frozen(text))
    assert wire.texts == ["first", "second"]


def test_a_state_that_was_frozen_before_the_last_one_fares_as_that_one(wire):
    older = frozen("older")
    wire.send(frozen("newer"))
    outcome = wire.send(older)
    assert wire.texts == ["newer"]
    assert not outcome.done()
    wire.futures[0].set_result("7")
    assert outcome.result(0) == "7"
    assert wire.send(older).result(0) == "7"


def test_a_state_shares_the_error_of_the_later_one(wire):
    older = frozen("older")
    wire.send(frozen("newer"))
    error = QueueFull("full")
    wire.futures[0].set_exception(error)
    assert wire.send(older).exception(0) is error


def test_a_row_read_back_does_not_overtake_a_state_that_was_not_committed_yet(wire):
    """It was read without a lock, while a transaction held the later state back."""
    uncommitted = frozen("committed last")
    wire.send(reread("before the commit", next_number()))
    wire.send(uncommitted)
    assert wire.texts == ["before the commit", "committed last"]


def test_a_row_read_back_is_left_out_when_something_was_sent_since_the_reading_began(wire):
    reading = next_number()
    wire.send(frozen("saved meanwhile"))
    wire.send(reread("read before that", reading))
    assert wire.texts == ["saved meanwhile"]


def test_a_state_frozen_before_the_reading_and_sent_after_it_began_is_not_undone(wire):
    saved = frozen("saved")
    reading = next_number()
    wire.send(saved)
    wire.send(reread("perhaps older", reading))
    assert wire.texts == ["saved"]


def test_of_two_rows_read_back_the_one_whose_reading_began_later_stays(wire):
    first, second = next_number(), next_number()
    wire.send(reread("second", second))
    wire.send(reread("first", first))
    assert wire.texts == ["second"]
    wire.send(reread("third", next_number()))
    assert wire.texts == ["second", "third"]


def test_a_retraction_is_a_state_like_others(wire):
    older = frozen("older")
    wire.send(make_retraction("/node", "7", sequence=next_number()))
    wire.send(older)
    assert [item.is_retraction for item in wire.sent] == [True]


def test_items_of_other_nodes_and_ids_have_states_of_their_own(wire):
    numbers = [next_number() for _ in range(3)]
    wire.send(make_item("/node", "a", id="7", sequence=numbers[2]))
    wire.send(make_item("/node", "b", id="8", sequence=numbers[1]))
    wire.send(make_item("/other", "c", id="7", sequence=numbers[0]))
    assert wire.texts == ["a", "b", "c"]


def test_what_was_cancelled_before_it_was_sent_overtakes_nothing(wire):
    older = frozen("older")
    wire.send(frozen("newer")).cancel()
    wire.send(older)
    assert wire.texts == ["newer", "older"]


def test_what_has_an_outcome_is_not_kept(wire):
    item = frozen("x")
    wire.send(item)
    gone = weakref.ref(item)
    wire.futures.pop().set_result("7")
    wire.sent.clear()
    del item
    gc.collect()
    assert gone() is None


def test_the_oldest_are_forgotten(wire, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 2)
    older = frozen("older")
    wire.send(frozen("newer"))
    for item_id in ("8", "9"):
        item = make_item("/node", item_id, id=item_id, sequence=next_number())
        wire.send(item)
    wire.send(older)
    assert wire.texts == ["newer", "8", "9", "older"]


def test_what_is_cancelled_before_anybody_has_looked_at_it_overtakes_nothing(wire):
    older, cancelled = frozen("older"), Future()
    cancelled.cancel()
    wire.latest.admits(frozen("newer"), next_number(), cancelled)
    wire.send(older)
    assert wire.texts == ["older"]


def test_a_state_is_as_late_as_its_handing_over_not_as_the_look_at_it(wire):
    saved, handed_over = frozen("saved"), next_number()
    reading = next_number()
    wire.send(saved, handed_over)
    wire.send(reread("read after it was committed", reading))
    assert wire.texts == ["saved", "read after it was committed"]


def test_a_state_that_is_overtaken_and_cancelled_is_settled(wire):
    older = frozen("older")
    wire.send(frozen("newer"))
    outcome = wire.send(older)
    assert not outcome.cancel()
    wire.futures[0].cancel()
    assert isinstance(outcome.exception(0), PubSubError)
