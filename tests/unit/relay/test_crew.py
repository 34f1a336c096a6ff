"""Tests of pubsub.relay.crew: workers in their threads."""

import logging
import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, transaction
from django.utils import timezone

from pubsub import Publication, publish, pubsub
from pubsub.backends import locmem
from pubsub.exceptions import ConnectError, RequestRefused
from pubsub.futures import failed
from pubsub.items import lane_of
from pubsub.models import OutboxItem, State
from pubsub.relay import crew as crews
from pubsub.relay.crew import Crew
from pubsub.relay.worker import Worker
from tests.testapp.models import Author, Seat
from tests.waiting import until


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


def test_what_is_written_while_the_crew_works_is_sent(site, relayed):
    with Crew([site]):
        publish("/n", "x", item_id="7", using=site)
        until(lambda: relayed, "the item is sent")
    assert (relayed[0].node, relayed[0].id) == ("/n", "7")


def test_who_drains_ends_when_nothing_is_left(site, relayed):
    for n in range(30):
        publish(f"/{n}", "x", using=site)
    with Crew([site], drains=True) as crew:
        crew.wait(20)
        assert not crew.is_at_work
    assert len(relayed) == 30
    assert crew.counts["sent"] == 30
    assert crew.troubles == {}
    assert not OutboxItem.objects.using(site).exists()


def test_each_stream_has_a_worker(site, settings, relayed):
    settings.XMPP_CONNECTIONS = 3
    for n in range(30):
        publish(f"/{n}", "x", using=site)
    with Crew([site], drains=True) as crew:
        crew.wait(20)
    assert len(crew.workers) == 3
    for worker in crew.workers:
        lanes = {lane_of(f"/{n}") % 3 for n in range(30)}
        assert worker.stripe.number in lanes
        assert worker.counts["sent"]
    assert len(relayed) == 30


def test_a_worker_in_trouble_tells_of_it_once_and_goes_on(site, relayed, monkeypatch, caplog):
    turn = Worker.turn
    errors = [ConnectError("server:5222", "nobody is there")] * 3
    errors.append(OperationalError("database is locked"))

    def fail(self):
        if errors:
            raise errors.pop(0)
        return turn(self)

    monkeypatch.setattr(Worker, "turn", fail)
    publish("/n", "x", using=site)
    with caplog.at_level(logging.INFO, "pubsub.relay"), Crew([site]) as crew:
        until(lambda: relayed, "the item is sent")
        until(lambda: not crew.troubles, "the trouble is over")
    said = [record.message for record in caplog.records]
    assert said == [
        "Cannot relay for now: XMPP server server:5222: nobody is there",
        "Cannot relay for now: database is locked",
        "Relaying again",
    ]


def test_a_bug_in_a_turn_is_logged_with_its_trace_and_ends_nobody(
    site, relayed, monkeypatch, caplog
):
    turn = Worker.turn
    errors = [ZeroDivisionError("a bug")]

    def fail(self):
        if errors:
            raise errors.pop()
        return turn(self)

    monkeypatch.setattr(Worker, "turn", fail)
    publish("/n", "x", using=site)
    with Crew([site]):
        until(lambda: relayed, "the item is sent")
    assert caplog.records[0].exc_info[1].args == ("a bug",)


def test_who_cannot_drain_says_why_and_ends(site, settings, monkeypatch):
    settings.XMPP_TIMEOUT = 0.2
    error = ConnectError("server:5222", "nobody is there")

    def fail(self):
        raise error

    monkeypatch.setattr(Worker, "turn", fail)
    with Crew([site], drains=True) as crew:
        crew.wait(20)
        assert not crew.is_at_work
    assert list(crew.troubles.values()) == [error]


def test_who_drains_counts_what_a_hook_has_refused_and_sends_what_was_held_back(
    site, relayed, register, failures
):
    class Seats(Publication):
        def get_payload(self, instance, event):
            raise ZeroDivisionError

    register(Seat, Seats)
    Seat.objects.using(site).bulk_create([Seat(number=1)])
    publish("/n", "x", using=site)
    rows = OutboxItem.objects.using(site)
    rows.filter(node="/n").update(state=State.LATER, due=timezone.now() + timedelta(hours=1))
    with Crew([site], drains=True) as crew:
        crew.wait(20)
        assert not crew.is_at_work
    assert crew.counts["refused"] == 1
    assert [item.node for item in relayed] == ["/n"]
    assert len(failures) == 1


def test_who_drains_does_not_wait_for_ever_for_a_server_that_refuses_for_now(
    site, settings, monkeypatch
):
    settings.XMPP_TIMEOUT = 1
    refusal = failed(RequestRefused("resource-constraint", "wait"))
    monkeypatch.setattr(locmem.LocmemBackend, "send", lambda self, item: refusal)
    publish("/n", "x", using=site)
    with Crew([site], drains=True) as crew:
        crew.wait(20)
        assert not crew.is_at_work
    assert "refuses what is left" in str(*crew.troubles.values())


def test_a_crew_that_is_ended_while_it_starts_leaves_nobody_behind(site, settings, monkeypatch):
    settings.XMPP_CONNECTIONS = 3
    before = set(threading.enumerate())
    crew = Crew([site])

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(crew._threads[1], "start", interrupt)
    with pytest.raises(KeyboardInterrupt), crew:
        pass
    until(lambda: set(threading.enumerate()) <= before, "the workers have ended")


def test_rows_of_a_transaction_that_is_open_are_not_seen(site, relayed, register):
    register(Author)
    with Crew([site]):
        publish("/before", "x", using=site)
        until(lambda: relayed, "the item before is sent")
        with pytest.raises(ZeroDivisionError), transaction.atomic(using=site):
            Author.objects.using(site).create(name="Ada")
            raise ZeroDivisionError
        publish("/after", "x", using=site)
        until(lambda: len(relayed) == 2, "the item after it is sent")
    assert [item.node for item in relayed] == ["/before", "/after"]
    assert pubsub.is_registered(Author)


def test_nothing_of_a_crew_stays_behind(site, relayed):
    before = set(threading.enumerate())
    with Crew([site]):
        publish("/n", "x", using=site)
        until(lambda: relayed, "the item is sent")
    assert set(threading.enumerate()) <= before
    assert set(OutboxItem.objects.using(site).values_list("state", flat=True)) <= {State.SENT}
