"""pubsub/wire/outgoing.py: what waits, in which order, and what is sent again."""

from concurrent.futures import Future

import pytest

from pubsub.wire import stanzas
from pubsub.wire.ledger import Pending
from pubsub.wire.outgoing import STRIKES, WITHOUT_A_WORD, Outgoing, blame


class Clock:
    """The time, to be set; no test waits for it."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("pubsub.wire.ledger.time", clock)
    return clock


@pytest.fixture
def outgoing():
    return Outgoing()


def lasting(**facts):
    """A request that endures."""
    return Pending(stanzas.retract("pubsub.example.org", "/n", "1"), Future(), **facts)


def passing(**facts):
    """A request that does not."""
    return Pending(stanzas.items("pubsub.example.org", "/n"), Future(), **facts)


def fill(outgoing, *pendings):
    for pending in pendings:
        outgoing.append(pending)
    return pendings


def test_the_oldest_comes_first(outgoing):
    queued = fill(outgoing, lasting(), passing(), lasting(), passing())
    assert len(outgoing) == 4
    assert outgoing.first is queued[0]
    assert tuple(outgoing.take() for _ in range(4)) == queued
    assert outgoing.first is None


def test_what_was_lost_comes_back_to_the_head_in_its_order(outgoing):
    first, second, third = fill(outgoing, lasting(), lasting(), lasting())
    sent = [outgoing.take(), outgoing.take()]
    assert outgoing.take_back(sent) == []
    assert [outgoing.take() for _ in range(3)] == [first, second, third]


def test_what_does_not_endure_does_not_come_back(outgoing):
    sent = [passing(), lasting(), passing()]
    assert outgoing.take_back(sent) == [sent[0], sent[2]]
    assert outgoing.take_all() == [sent[1]]


def test_what_has_all_its_strikes_does_not_come_back(outgoing):
    sent = [lasting(strikes=STRIKES), lasting(strikes=STRIKES - 1)]
    assert outgoing.take_back(sent) == [sent[0]]
    assert outgoing.take_all() == [sent[1]]


def test_what_got_its_strikes_by_the_creation_of_its_node_goes_too(outgoing):
    item, other = fill(outgoing, lasting(strikes=STRIKES), lasting())
    creation = passing(prepares=item)
    assert outgoing.take_back([creation]) == [creation, item]
    assert outgoing.take_all() == [other]


def test_only_what_does_not_endure_expires(outgoing, clock):
    old, kept = fill(outgoing, passing(), lasting())
    clock.now += 6
    (young,) = fill(outgoing, passing())
    assert outgoing.next_expiry(10) == 1010
    clock.now += 5
    assert outgoing.take_expired(10) == [old]
    assert outgoing.next_expiry(10) == 1016
    assert [outgoing.take(), outgoing.take()] == [kept, young]
    assert outgoing.next_expiry(10) is None


def test_what_was_taken_out_does_not_expire(outgoing, clock):
    fill(outgoing, passing(), passing())
    outgoing.take()
    clock.now += 100
    assert len(outgoing.take_expired(10)) == 1
    fill(outgoing, passing())
    assert len(outgoing.take_all()) == 1
    assert outgoing.take_expired(0) == []


def test_what_is_cancelled_is_not_wanted(outgoing):
    first, second = fill(outgoing, lasting(), passing())
    assert outgoing.is_wanted
    first.future.cancel()
    assert outgoing.is_wanted
    second.future.cancel()
    assert not outgoing.is_wanted


# Strikes


@pytest.mark.parametrize(
    ("sendings", "answered", "silent", "strikes"),
    [
        (1, True, False, WITHOUT_A_WORD),
        (2, True, False, WITHOUT_A_WORD),
        (1, False, False, 0),  # the server may have been on its way down
        (5, False, False, 0),
        (1, True, True, 0),  # it may be frozen
        (2, True, True, 1),  # it was there, and fell silent over this one again
        (5, False, True, 0),
    ],
)
def test_a_stream_that_ends_is_a_strike_if_the_server_was_there(
    sendings, answered, silent, strikes
):
    oldest, other = lasting(sendings=sendings), lasting(sendings=sendings)
    blame([oldest, other], answered=answered, silent=silent)
    assert (oldest.strikes, other.strikes) == (strikes, 0)


def test_a_strike_of_the_creation_of_a_node_is_one_of_the_item():
    item = lasting(sendings=1)
    creation = passing(sendings=1, prepares=item)
    blame([creation, item], answered=True, silent=False, accused=True)
    assert (creation.strikes, item.strikes) == (0, 1)


def test_the_servers_word_weighs_more_than_its_silence():
    item = lasting(sendings=1)
    for _ in range(3):
        blame([item], answered=True, silent=False, accused=True)
    assert item.strikes == STRIKES
    assert STRIKES / WITHOUT_A_WORD == 12


def test_nobody_is_to_blame_when_all_was_answered():
    blame([], answered=True, silent=False)
