"""Tests of pubsub.relay.worker."""

import re
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.db.models import F

from pubsub import outbox, publish, retract
from pubsub.exceptions import ConnectError, QueueFull, RequestRefused, RequestTimeout, StreamLost
from pubsub.items import LANES, lane_of, make_retraction
from pubsub.models import OutboxItem, OutboxLane, State
from pubsub.relay import worker as workers
from pubsub.relay.lanes import Stripe, open_lanes
from pubsub.relay.worker import Worker
from pubsub.signals import item_published
from tests.testapp.models import Author
from tests.unit.relay.conftest import ACCUSED, LOST
from tests.waiting import until

pytestmark = pytest.mark.django_db


def age(seconds=60):
    """Let what was acknowledged have been so some time ago."""
    OutboxItem.objects.filter(state=State.SENT).update(sent=F("sent") - timedelta(seconds=seconds))


def look(worker):
    """Let a worker do at once what it does now and then."""
    worker._next_look = 0.0
    return worker.turn() + worker.turn()


def test_rows_are_sent_in_their_order_and_marked_with_their_numbers(worker, server, put):
    pks = [put(str(n), id=str(n % 3)) for n in range(10)]
    assert worker.turn() == 10
    assert server.texts == [str(n) for n in range(10)]
    source = OutboxLane.objects.get(pk=lane_of("/n")).source
    assert server.marks == [f"{source}.{pk}" for pk in pks]


def test_what_two_transactions_may_commit_in_another_order_bears_no_number(worker, server, put):
    """The page could not tell the later one by it."""
    publish("/n", "by hand, on an id that others publish on", item_id="7")
    publish("/n", "by hand, with an id of its own")
    worker.turn()
    first, second = server.marks
    assert first == ""
    assert second != ""


def test_a_row_that_has_settled_is_removed(worker, put, states):
    pk = put("x")
    worker.turn()
    assert states() == {pk: State.SENT}
    look(worker)
    assert states() == {pk: State.SENT}
    age()
    look(worker)
    assert states() == {}


def test_what_was_acknowledged_on_a_lost_stream_is_sent_again_before_anything_newer(
    worker, server, put, states
):
    """ejabberd may have died before it had written it to its disk."""
    put("one", id="1"), put("two", id="2")
    worker.turn()
    put("three", id="1")
    server.stream = "second"
    with pytest.raises(StreamLost):
        worker.turn()
    while worker.turn():
        pass
    assert server.texts == ["one", "two", "one", "two", "three"]
    assert server.marks[:2] == server.marks[2:4]
    look(worker)
    assert server.texts[5:] == []


def test_what_was_acknowledged_on_a_lost_stream_is_sent_again_though_nothing_new_comes(
    worker, server, put
):
    put("one")
    worker.turn()
    server.stream = "second"
    look(worker)  # learns it
    look(worker)
    assert server.texts == ["one", "one"]


def test_an_idle_relay_looks_after_what_another_one_has_sent(worker, server, put, states):
    idle = Worker(Stripe("default"), server)
    look(idle)
    put("one")
    worker.turn()
    server.stream = "second"  # the other relay dies, and so does ejabberd
    look(idle)
    look(idle)
    assert server.texts == ["one", "one"]


def test_what_was_rolled_back_is_not_believed(worker, server, put, monkeypatch, states):
    put("one")
    worker.turn()
    server.stream = "second"
    with monkeypatch.context() as patch, pytest.raises(OperationalError):
        patch.setattr(worker, "_send_again", fail_after(worker))
        look(worker)
        look(worker)
    OutboxItem.objects.update(state=State.SENT)  # as the database rolls it back
    worker.forget()
    age(1)
    look(worker)
    look(worker)
    assert server.texts[-1] == "one"
    assert len(server.texts) == 2


def fail_after(worker):
    send_again = worker._send_again

    def fail(lanes):
        send_again(lanes)
        raise OperationalError("server closed the connection unexpectedly")

    return fail


def test_without_time_zones_everything_works_too(settings, server, put, register, states):
    settings.USE_TZ = False
    worker = Worker(Stripe("default"), server)
    open_lanes("default")
    register(Author)
    Author.objects.create(name="Ada")
    put("x", interval=60), put("y", interval=60)
    worker.turn()
    assert len(server.texts) == 2
    assert outbox.status().later == 1
    assert outbox.retry(OutboxItem.objects.all()) == 1
    OutboxItem.objects.update(interval=None)
    look(worker)
    look(worker)
    age()
    look(worker)
    assert states() == {}


def test_what_another_relay_has_sent_before_our_stream_was_there_is_sent_again(
    worker, server, put, states
):
    put("one")
    worker.turn()
    age(1)
    other = Worker(Stripe("default"), server)
    put("two")
    other.turn()
    assert server.texts == ["one", "one", "two"]


def test_what_another_relay_has_sent_meanwhile_follows_what_is_sent_again(worker, server, put):
    put("old")
    worker.turn()
    age(1)
    other = Worker(Stripe("default"), server)
    put("elsewhere", id="8")
    other._connect()  # and is slow
    put("new")
    worker.turn()
    while other.turn():
        pass
    assert server.texts[-1] == "new"
    assert server.texts.count("old") == 2


def test_after_an_error_of_the_database_all_that_has_not_settled_is_sent_again(
    worker, server, put, monkeypatch
):
    """The locks were gone: another relay may have sent newer states before ours arrived."""
    put("one")
    worker.turn()

    def fail(rows):
        raise OperationalError("server closed the connection unexpectedly")

    put("two", id="8")
    with monkeypatch.context() as patch, pytest.raises(OperationalError):
        patch.setattr(worker._notes, "sent", fail)
        worker.turn()
    worker.forget()
    worker.turn()
    assert server.texts == ["one", "two", "one", "two"]


def test_without_a_server_everything_stays_and_the_error_is_told(worker, server, put, states):
    pk = put("x")
    server.error = ConnectError("server:5222", "nobody is there")
    with pytest.raises(ConnectError):
        worker.turn()
    assert states() == {pk: State.WAITING}
    server.error = None
    worker.turn()
    assert server.texts == ["x"]


@pytest.mark.parametrize("error", [LOST, QueueFull("full")], ids=repr)
def test_what_was_lost_is_sent_again_in_order(worker, server, put, error):
    for text in "abcd":
        put(text)
    lost = iter([None, error])
    server.answers = lambda item: next(lost, error)
    with pytest.raises(type(error)):
        worker.turn()
    worker.forget()
    server.answers = lambda item: None
    while worker.turn():
        pass
    assert server.texts[:1] == ["a"]
    assert [text for text in server.texts[1:] if text != "a"] == ["b", "c", "d"]


def turns(worker):
    """Let a worker go on until it has nothing to do, over all streams that it loses."""
    while True:
        try:
            if not worker.turn():
                return
        except StreamLost:
            worker.forget()


def test_a_row_that_the_server_ends_each_stream_over_is_set_aside_and_holds_up_no_other(
    worker, server, put, failures
):
    put("before", id="1")
    poison = put("poison", id="2")
    put("after", id="3")
    server.answers = lambda item: ACCUSED if "poison" in item.payload else None
    turns(worker)
    assert server.texts == ["before", "after"]
    assert server.batches[0] == 3
    assert server.batches.count(1) >= 3
    row = OutboxItem.objects.get(pk=poison)
    assert row.state == State.REFUSED
    assert "it ended the stream" in row.error
    assert len(failures) == 1


def test_a_row_that_streams_end_over_without_a_word_is_tried_again_as_long_as_it_takes(
    worker, server, put, failures
):
    """Perhaps the network is to blame."""
    put("before", id="1")
    poison = put("poison", id="2")
    put("after", id="3")
    server.answers = lambda item: LOST if "poison" in item.payload else None
    turns(worker)
    assert server.texts == ["before", "after"]
    row = OutboxItem.objects.get(pk=poison)
    assert row.state == State.LATER
    assert failures == []
    server.answers = lambda item: None
    OutboxItem.objects.filter(pk=poison).update(due=F("at"))
    look(worker)
    assert server.texts == ["before", "after", "poison"]


def test_a_retraction_of_what_is_not_there_is_made_sure_of(worker, server, put, outbox, states):
    """ejabberd that was killed may have an item, and not know any more whose it is."""
    server.answers = lambda item: (
        RequestRefused("item-not-found", "cancel") if item.is_retraction else None
    )
    outbox.write([make_retraction("/n", "7")], None)
    outbox.write([make_retraction("/n", "8")], None)
    put("again", id="8")
    worker.turn()
    assert server.again == ["7"]
    assert set(states().values()) == {State.SENT}


@pytest.mark.parametrize("condition", ["forbidden", "not-acceptable", "item-not-found"])
def test_a_row_that_the_server_refuses_is_set_aside_after_three_tries(
    worker, server, put, states, failures, condition
):
    bad, good = put("bad", id="1"), put("good", id="2")
    error = RequestRefused(condition, "cancel")
    server.answers = lambda item: error if "bad" in item.payload else None
    worker.turn()
    assert states() == {bad: State.LATER, good: State.SENT}
    for _ in range(2):
        OutboxItem.objects.filter(pk=bad).update(due=F("at"))
        look(worker)
    row = OutboxItem.objects.get(pk=bad)
    assert (row.state, row.tries) == (State.REFUSED, 3)
    assert condition in row.error
    assert [error.condition for _, error in failures] == [condition]


@pytest.mark.parametrize(
    "error",
    [
        RequestRefused("service-unavailable", "cancel"),
        RequestRefused("resource-constraint", "wait"),
        RequestRefused("not-allowed", "wait"),
        RequestTimeout("no answer"),
    ],
    ids=str,
)
def test_what_is_refused_for_now_is_tried_as_long_as_it_takes(
    worker, server, put, states, failures, error
):
    pk = put("x")
    server.answers = lambda item: error
    for _ in range(10):
        look(worker)
        assert states() == {pk: State.LATER}
        OutboxItem.objects.update(due=F("at"))
    server.answers = lambda item: None
    look(worker)
    assert server.texts == ["x"]
    assert failures == []


def test_an_older_state_that_was_put_off_does_not_follow_a_newer_one(worker, server, put, states):
    put("old")
    server.answers = lambda item: RequestRefused("resource-constraint", "wait")
    worker.turn()
    server.answers = lambda item: None
    new = put("new")
    worker.turn()
    assert states() == {new: State.SENT}
    OutboxItem.objects.update(due=F("at"))
    look(worker)
    assert server.texts == ["new"]


def test_an_older_state_that_was_set_aside_is_gone_when_a_newer_one_was_sent(
    worker, server, put, states
):
    old = put("old")
    other = put("old", id="8")
    OutboxItem.objects.update(state=State.REFUSED)
    new = put("new")
    worker.turn()
    assert states() == {other: State.REFUSED, new: State.SENT}
    assert old not in states()


def test_an_answer_that_is_late_puts_off_its_row_only_if_no_newer_state_was_sent(
    worker, server, put, states
):
    put("old")
    new = put("new")
    server.answers = lambda item: RequestTimeout("late") if "old" in item.payload else None
    worker.turn()
    assert states() == {new: State.SENT}


def test_of_throttled_updates_the_first_goes_at_once_and_the_last_for_sure(
    worker, server, put, states
):
    for text in "abcd":
        put(text, interval=0.3)
    worker.turn()
    assert server.texts == ["a"]
    put("e", interval=0.3)
    worker.turn()
    assert sorted(states().values()) == [State.LATER, State.SENT]
    until(lambda: worker.turn() and len(server.texts) > 1, "the last state is sent")
    assert server.texts == ["a", "e"]


def test_what_takes_an_item_away_ends_its_pause(worker, server, put, outbox, states):
    put("a", interval=60)
    put("b", interval=60)
    worker.turn()
    outbox.write([make_retraction("/n", "7")], None)
    put("c", interval=60)
    worker.turn()
    assert [item.event for item in server.items] == ["updated", "deleted", "updated"]
    assert list(states().values()) == [State.SENT] * 3


def test_who_drains_waits_for_no_interval(worker, server, put):
    drain = Worker(Stripe("default"), server, throttles=False)
    put("a", interval=60), put("b", interval=60)
    drain.turn()
    assert server.texts == ["a", "b"]


def test_a_worker_sends_what_is_in_its_own_lanes_only(server, put, worker):
    nodes = [f"/{n}" for n in range(40)]
    for node in nodes:
        put("x", node=node)
    second = Worker(Stripe("default", 1, 3), server)
    while second.turn():
        pass
    assert {item.node for item in server.items} == {n for n in nodes if lane_of(n) % 3 == 1}


def test_a_batch_takes_of_each_lane_in_turn_but_all_that_there_is_in_the_end(
    worker, server, put, monkeypatch
):
    monkeypatch.setattr(workers, "AT_ONCE", 10)
    for n in range(30):
        put(str(n), id=str(n))
    for n in range(5):
        put(f"other {n}", id=str(n), node="/other")
    worker.turn()
    assert sum(text.startswith("other") for text in server.texts) == 5
    while worker.turn():
        pass
    assert [t for t in server.texts if not t.startswith("other")] == [str(n) for n in range(30)]


def test_a_batch_is_bounded_by_its_size_too(worker, server, put, monkeypatch):
    monkeypatch.setattr(workers, "SIZE", 1000)
    for n in range(6):
        put("x" * 400, id=str(n))
    while worker.turn():
        pass
    assert max(server.batches) < 6
    assert sum(server.batches) == 6


def test_our_signals_tell_of_what_the_server_has_acknowledged(worker, put):
    heard = []
    item_published.connect(
        lambda item, item_id, **kw: heard.append((item.node, item.event, item_id)),
        weak=False,
        dispatch_uid="test",
    )
    try:
        put("x")
        worker.turn()
    finally:
        item_published.disconnect(dispatch_uid="test")
    assert heard == [("/n", "updated", "7")]


def test_a_retraction_is_sent_as_one(worker, server):
    publish("/n", "x", item_id="7")
    retract("/n", "7")
    worker.turn()
    assert [item.is_retraction for item in server.items] == [False, True]


def test_rows_keep_the_configuration_of_their_node(worker, server, put):
    put("x", configuration={"access_model": "whitelist"})
    worker.turn()
    assert server.items[0].configuration == {"access_model": "whitelist"}


def test_there_are_as_many_lanes_as_nodes_can_have(worker):
    assert OutboxLane.objects.count() == LANES
    sources = set(OutboxLane.objects.values_list("source", flat=True))
    assert len(sources) == LANES
    assert all(re.fullmatch("[0-9a-f]{12}", source) for source in sources)
