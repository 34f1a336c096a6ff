"""What is done with an outbox by hand, on the rows that it may meet."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext

from pubsub import outbox
from pubsub.items import now
from pubsub.models import OutboxItem, State

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.fixture(params=["default", "other"])
def database(request):
    return request.param


@pytest.fixture
def row(database):
    """A function that writes a row, which has failed three times unless told otherwise."""

    def write(state, **fields):
        failed = {"tries": 3, "due": now(), "error": "the server was away"}
        fixed = {"lane": 1, "node": "/n", "item_id": "42", "event": "updated", "at": now()}
        return OutboxItem.objects.using(database).create(
            **{**fixed, **failed, "state": state, "payload": "<entry/>", **fields}
        )

    return write


@pytest.fixture
def rows(database):
    return OutboxItem.objects.using(database)


def test_the_migrations_make_the_models_as_they_are():
    call_command("makemigrations", "pubsub", check=True, dry_run=True, verbosity=0)


def test_what_has_failed_is_tried_again_as_if_for_the_first_time(row, rows):
    for state in (State.LATER, State.REFUSED):
        row(state)
    assert outbox.retry(rows.all()) == 2
    assert set(rows.values_list("state", "tries", "error")) == {(State.LATER, 0, "")}
    assert not rows.filter(due__gt=now()).exists()


def test_a_row_that_had_to_be_read_is_read_again(row, rows):
    row(State.REFUSED, change={"pk": 7})
    row(State.LATER, change={})
    row(State.REFUSED)
    assert outbox.retry(rows.all()) == 3
    states = list(rows.order_by("id").values_list("state", flat=True))
    assert states == [State.UNREAD, State.UNREAD, State.LATER]


@pytest.mark.parametrize("state", [State.UNREAD, State.WAITING, State.SENT])
def test_what_has_not_failed_is_not_tried_again(row, rows, state):
    before = row(state)
    assert outbox.retry(rows.all()) == 0
    after = rows.get()
    assert (after.state, after.tries, after.error) == (state, before.tries, before.error)


def test_all_is_discarded_but_what_was_acknowledged(row, rows):
    for state in State:
        row(state)
    assert outbox.discard(rows.all()) == 4
    assert [kept.state for kept in rows.all()] == [State.SENT]


def test_only_the_rows_of_the_queryset_are_touched(row, rows):
    row(State.REFUSED, node="/other")
    row(State.REFUSED)
    assert outbox.retry(rows.filter(node="/n").order_by("-id")) == 1
    assert outbox.discard(rows.filter(node="/other").order_by("-id").defer("payload")) == 1
    assert [(kept.node, kept.state) for kept in rows.all()] == [("/n", State.LATER)]


@pytest.mark.parametrize("operation", [outbox.retry, outbox.discard])
def test_each_is_one_statement_that_looks_at_the_state(row, rows, database, operation):
    """Somebody who hears of deletions does not make Django read the rows before."""
    row(State.REFUSED)
    heard = []
    pre_delete.connect(lambda **kw: heard.append(kw), sender=OutboxItem, weak=False, dispatch_uid=1)
    try:
        with CaptureQueriesContext(connections[database]) as queries:
            assert operation(rows.filter(node="/n")) == 1
    finally:
        pre_delete.disconnect(sender=OutboxItem, dispatch_uid=1)
    (query,) = queries
    assert '"state" IN' in query["sql"].partition("WHERE")[2]
    assert heard == []


def test_a_slice_is_refused_rather_than_widened(row, rows):
    row(State.REFUSED)
    for operation in (outbox.retry, outbox.discard):
        with pytest.raises(TypeError, match="slice"):
            operation(rows.all()[:1])
    assert rows.count() == 1


def test_a_status_says_in_words_what_waits():
    status = outbox.Status(waiting=3, later=1, refused=2, lag=1.25)
    assert str(status) == "3 waiting, 1 later, 2 set aside; lag 1.2 s"


def test_an_empty_outbox_has_no_lag(row, database):
    row(State.SENT, at=now() - timedelta(hours=1))
    assert outbox.status(database) == outbox.Status(waiting=0, later=0, refused=0, lag=0.0)


def test_the_status_counts_rows_and_tells_how_long_the_oldest_waits(row, database):
    hour = timedelta(hours=1)
    row(State.LATER, at=now() - 3 * hour)
    row(State.REFUSED, at=now() - 3 * hour)
    row(State.REFUSED)
    row(State.WAITING)
    row(State.WAITING, at=now() - hour)
    row(State.UNREAD, at=now() - 2 * hour)
    with CaptureQueriesContext(connections[database]) as queries:
        status = outbox.status(database)
    assert len(queries) == 1
    assert (status.waiting, status.later, status.refused) == (3, 1, 2)
    assert timedelta(seconds=status.lag) >= 2 * hour
    assert timedelta(seconds=status.lag) < 3 * hour


def test_the_status_is_of_the_default_database_unless_told_otherwise(row, database):
    row(State.WAITING)
    assert outbox.status().waiting == (1 if database == "default" else 0)


def test_a_clock_that_goes_before_ours_makes_no_negative_lag(row, database):
    row(State.WAITING, at=now() + timedelta(hours=1))
    assert outbox.status(database).lag == 0.0
