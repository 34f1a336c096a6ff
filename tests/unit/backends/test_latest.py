"""pubsub/backends/latest.py: of a row's states no older one follows a later one."""

import gc
import weakref
from concurrent.futures import Future

import pytest

from pubsub.backends import latest as module
from pubsub.backends.latest import Latest
from pubsub.exceptions import QueueFull
from pubsub.futures import failed
from pubsub.items import make_item, make_retraction, next_number


class Wire:
    """What was sent, in order, and the Futures that wait for the server."""

    def __init__(self):
        self.sent = []
        self.futures = []

    def __call__(self, item):
        self.sent.append(item)
        self.futures.append(Future())
        return self.futures[-1]

    @property
    def texts(self):
        return [item.payload.partition("/>")[2].partition("<")[0] for item in self.sent]


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def latest():
    return Latest()


def frozen(text, number=None):
    sequence = next_number() if number is None else number
    return make_item("/node", text, id="7", sequence=sequence)


def reread(text, number):
    item = frozen(text, number)
    object.__setattr__(item, "is_reread", True)
    return item


def test_states_in_their_order_are_all_sent(wire, latest):
    for text in ("first", "second"):
        latest.send(frozen(text), wire)
    assert wire.texts == ["first", "second"]


def test_a_state_that_was_frozen_before_the_last_one_fares_as_that_one(wire, latest):
    older = frozen("older")
    latest.send(frozen("newer"), wire)
    outcome = latest.send(older, wire)
    assert wire.texts == ["newer"]
    assert not outcome.done()
    wire.futures[0].set_result("7")
    assert outcome.result(0) == "7"
    assert latest.send(older, wire).result(0) == "7"


def test_a_state_shares_the_error_of_the_later_one(wire, latest):
    older = frozen("older")
    latest.send(frozen("newer"), wire)
    error = QueueFull("full")
    wire.futures[0].set_exception(error)
    assert latest.send(older, wire).exception(0) is error


def test_a_row_read_back_does_not_overtake_a_state_that_was_not_committed_yet(wire, latest):
    """It was read without a lock, while a transaction held the later state back."""
    uncommitted = frozen("committed last")
    latest.send(reread("before the commit", next_number()), wire)
    latest.send(uncommitted, wire)
    assert wire.texts == ["before the commit", "committed last"]


def test_a_row_read_back_is_left_out_when_something_was_sent_since_the_reading_began(wire, latest):
    reading = next_number()
    latest.send(frozen("saved meanwhile"), wire)
    latest.send(reread("read before that", reading), wire)
    assert wire.texts == ["saved meanwhile"]


def test_a_state_frozen_before_the_reading_and_sent_after_it_began_is_not_undone(wire, latest):
    saved = frozen("saved")
    reading = next_number()
    latest.send(saved, wire)
    latest.send(reread("perhaps older", reading), wire)
    assert wire.texts == ["saved"]


def test_of_two_rows_read_back_the_one_whose_reading_began_later_stays(wire, latest):
    first, second = next_number(), next_number()
    latest.send(reread("second", second), wire)
    latest.send(reread("first", first), wire)
    assert wire.texts == ["second"]
    latest.send(reread("third", next_number()), wire)
    assert wire.texts == ["second", "third"]


def test_a_retraction_is_a_state_like_others(wire, latest):
    older = frozen("older")
    latest.send(make_retraction("/node", "7", sequence=next_number()), wire)
    latest.send(older, wire)
    assert [item.is_retraction for item in wire.sent] == [True]


def test_items_of_other_nodes_and_ids_have_states_of_their_own(wire, latest):
    numbers = [next_number() for _ in range(3)]
    latest.send(make_item("/node", "a", id="7", sequence=numbers[2]), wire)
    latest.send(make_item("/node", "b", id="8", sequence=numbers[1]), wire)
    latest.send(make_item("/other", "c", id="7", sequence=numbers[0]), wire)
    assert wire.texts == ["a", "b", "c"]


def test_what_was_cancelled_before_it_was_sent_overtakes_nothing(wire, latest):
    older = frozen("older")
    latest.send(frozen("newer"), wire).cancel()
    latest.send(older, wire)
    assert wire.texts == ["newer", "older"]


def test_what_has_an_outcome_is_not_kept(wire, latest):
    item = frozen("x")
    latest.send(item, wire)
    gone = weakref.ref(item)
    wire.futures.pop().set_result("7")
    wire.sent.clear()
    del item
    gc.collect()
    assert gone() is None


def test_the_oldest_are_forgotten(wire, latest, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 2)
    older = frozen("older")
    latest.send(frozen("newer"), wire)
    for item_id in ("8", "9"):
        item = make_item("/node", item_id, id=item_id, sequence=next_number())
        latest.send(item, wire)
    latest.send(older, wire)
    assert wire.texts == ["newer", "8", "9", "older"]


def test_what_was_refused_at_once_overtakes_nothing(latest, wire):
    older = frozen("older")
    latest.send(frozen("newer"), lambda item: failed(QueueFull("full")))
    latest.send(older, wire)
    assert wire.texts == ["older"]
