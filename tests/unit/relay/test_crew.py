"""Tests of pubsub.relay.crew: workers in their threads."""

import logging
import threading

import pytest
from django.db import OperationalError, transaction

from pubsub import publish, pubsub
from pubsub.backends import locmem
from pubsub.exceptions import ConnectError
from pubsub.items import lane_of
from pubsub.models import OutboxItem, State
from pubsub.relay import crew as crews
from pubsub.relay.crew import Crew
from pubsub.relay.worker import Worker
from tests.testapp.models import Author
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def relayed(settings):
    """What the relay has sent, oldest first."""
    settings.PUBSUB_BACKEND = "pubsub.backends.outbox.OutboxBackend"
    settings.PUBSUB_RELAY_BACKEND = "pubsub.backends.locmem.LocmemBackend"
    locmem.items.clear()
    return locmem.items


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """What is acknowledged has settled at once: nobody keeps it on a disk."""
    monkeypatch.setattr(crews, "SETTLED", 0.0)
    monkeypatch.setattr("pubsub.relay.worker.SETTLED", 0.0)


def test_what_is_written_while_the_crew_works_is_sent(relayed):
    with Crew(["default"]):
        publish("/n", "x", item_id="7")
        until(lambda: relayed, "the item is sent")
    assert (relayed[0].node, relayed[0].id) == ("/n", "7")


def test_who_drains_ends_when_nothing_is_left(relayed):
    for n in range(30):
        publish(f"/{n}", "x")
    with Crew(["default"], drains=True) as crew:
        crew.wait(20)
        assert not crew.is_at_work
    assert len(relayed) == 30
    assert crew.counts["sent"] == 30
    assert crew.troubles == {}
    assert not OutboxItem.objects.exists()


def test_each_stream_has_a_worker(settings, relayed):
    settings.XMPP_CONNECTIONS = 3
    for n in range(30):
        publish(f"/{n}", "x")
    with Crew(["default"], drains=True) as crew:
        crew.wait(20)
    assert len(crew.workers) == 3
    for worker in crew.workers:
        lanes = {lane_of(f"/{n}") % 3 for n in range(30)}
        assert worker.stripe.number in lanes
        assert worker.counts["sent"]
    assert len(relayed) == 30


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_each_database_has_its_workers(relayed):
    publish("/a", "x")
    publish("/b", "x", using="other")
    with Crew(["default", "other"], drains=True) as crew:
        crew.wait(20)
    assert {item.node for item in relayed} == {"/a", "/b"}


def test_a_worker_in_trouble_tells_of_it_once_and_goes_on(relayed, monkeypatch, caplog):
    turn = Worker.turn
    errors = [ConnectError("server:5222", "nobody is there")] * 3
    errors.append(OperationalError("database is locked"))

    def fail(self):
        if errors:
            raise errors.pop(0)
        return turn(self)

    monkeypatch.setattr(Worker, "turn", fail)
    publish("/n", "x")
    with caplog.at_level(logging.INFO, "pubsub.relay"), Crew(["default"]) as crew:
        until(lambda: relayed, "the item is sent")
        until(lambda: not crew.troubles, "the trouble is over")
    said = [record.message for record in caplog.records]
    assert said == [
        "Cannot relay for now: XMPP server server:5222: nobody is there",
        "Cannot relay for now: database is locked",
        "Relaying again",
    ]


def test_a_bug_in_a_turn_is_logged_with_its_trace_and_ends_nobody(relayed, monkeypatch, caplog):
    turn = Worker.turn
    errors = [ZeroDivisionError("a bug")]

    def fail(self):
        if errors:
            raise errors.pop()
        return turn(self)

    monkeypatch.setattr(Worker, "turn", fail)
    publish("/n", "x")
    with Crew(["default"]):
        until(lambda: relayed, "the item is sent")
    assert caplog.records[0].exc_info[1].args == ("a bug",)


def test_who_cannot_drain_says_why_and_ends(settings, monkeypatch):
    settings.XMPP_TIMEOUT = 0.2
    error = ConnectError("server:5222", "nobody is there")

    def fail(self):
        raise error

    monkeypatch.setattr(Worker, "turn", fail)
    with Crew(["default"], drains=True) as crew:
        crew.wait(20)
        assert not crew.is_at_work
    assert list(crew.troubles.values()) == [error]


def test_rows_of_a_transaction_that_is_open_are_not_seen(relayed, register):
    register(Author)
    with Crew(["default"]):
        publish("/before", "x")
        until(lambda: relayed, "the item before is sent")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Author.objects.create(name="Ada")
            raise ZeroDivisionError
        publish("/after", "x")
        until(lambda: len(relayed) == 2, "the item after it is sent")
    assert [item.node for item in relayed] == ["/before", "/after"]
    assert pubsub.is_registered(Author)


def test_nothing_of_a_crew_stays_behind(relayed):
    before = set(threading.enumerate())
    with Crew(["default"]):
        publish("/n", "x")
        until(lambda: relayed, "the item is sent")
    assert set(threading.enumerate()) <= before
    assert set(OutboxItem.objects.values_list("state", flat=True)) <= {State.SENT}
