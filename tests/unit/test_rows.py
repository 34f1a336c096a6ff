"""pubsub/rows.py: rows published by hand, however many."""

import gc
import tracemalloc
from concurrent.futures import CancelledError, Future

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from pubsub import Publication, pubsub
from pubsub.backends.base import BaseBackend
from pubsub.context import originating
from pubsub.exceptions import InvalidItem, NotRegistered, ServerLost, StreamLost
from pubsub.futures import resolved
from tests.testapp.models import Author, Place, Post, Restaurant, Seat, Ticket

pytestmark = pytest.mark.django_db(transaction=True)


def told(items):
    return [(item.id, item.event) for item in items]


@pytest.fixture
def authors(sent):
    """Three authors, whose model is not registered yet."""
    return [Author.objects.create(name=name) for name in ("Ada", "Bo", "Cy")]


# What may be given


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        (lambda: Author.objects.order_by("name"), [0, 1, 2]),
        (lambda: Author.objects.order_by("-name"), [2, 1, 0]),
        (lambda: Author.objects.filter(name__gt="Ada").order_by("pk"), [1, 2]),
        (lambda: Author.objects.order_by("name")[1:], [1, 2]),
        (lambda: Author.objects.order_by("name").only("pk"), [0, 1, 2]),
        (lambda: list(Author.objects.order_by("-name")), [2, 1, 0]),
        (lambda: (author for author in Author.objects.order_by("name")), [0, 1, 2]),
        (lambda: Author.objects.order_by("name").iterator(), [0, 1, 2]),
        (lambda: Author.objects.none(), []),
        (list, []),
    ],
    ids=["all", "reversed", "filter", "slice", "only", "list", "generator", "iterator", "none", ""],
)
@pytest.mark.parametrize("in_transaction", [False, True])
def test_rows_are_published_in_their_order(
    sent, register, authors, choose, expected, in_transaction
):
    register(Author)
    if in_transaction:
        with transaction.atomic():
            future = pubsub.publish_rows(choose())
            assert sent == []
    else:
        future = pubsub.publish_rows(choose())
    assert future.result(1) == len(expected)
    assert told(sent) == [(str(authors[n].pk), "updated") for n in expected]
    assert all(f">{authors[n].name}<" in i.payload for n, i in zip(expected, sent, strict=True))


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("event", ["created", "updated", "deleted"])
def test_the_event_is_the_one_that_is_asked_for_whatever_the_publication_is_for(
    sent, register, authors, event, in_transaction
):
    register(Author, events=[])
    with transaction.atomic() if in_transaction else originating(""):
        future = pubsub.publish_rows(Author.objects.order_by("pk"), event=event)
    assert future.result(1) == 3
    assert told(sent) == [(str(author.pk), event) for author in authors]
    assert [item.is_retraction for item in sent] == [event == "deleted"] * 3


@pytest.mark.parametrize("event", ["published", "", None, "create"])
def test_another_event_is_refused(sent, register, authors, event):
    register(Author)
    with pytest.raises(ValueError, match="'created', 'updated' or 'deleted', not"):
        pubsub.publish_rows(Author.objects.all(), event=event)
    assert sent == []


@pytest.mark.parametrize("rows", [None, 7, "rows", b"rows", Author(name="x"), Author])
def test_what_are_no_rows_is_refused(sent, register, rows):
    register(Author)
    with pytest.raises(TypeError, match="queryset or an iterable of instances"):
        pubsub.publish_rows(rows)


@pytest.mark.parametrize("in_transaction", [False, True])
def test_what_is_no_instance_is_refused(sent, register, authors, in_transaction):
    register(Author)
    with (
        transaction.atomic() if in_transaction else originating(""),
        pytest.raises(TypeError, match="model instances, not"),
    ):
        pubsub.publish_rows(Author.objects.values("name"))
    assert sent == []


@pytest.mark.parametrize("in_transaction", [False, True])
def test_rows_of_a_model_that_is_not_registered_are_refused(sent, authors, in_transaction):
    with (
        transaction.atomic() if in_transaction else originating(""),
        pytest.raises(NotRegistered, match=r"testapp\.Author is not registered"),
    ):
        pubsub.publish_rows(authors)


@pytest.mark.parametrize("in_transaction", [False, True])
def test_rows_of_several_models_go_where_each_belongs(sent, register, authors, in_transaction):
    register([Author, Post])
    posts = [Post(title=str(n)) for n in range(2)]
    Post.objects.bulk_create(posts)
    with transaction.atomic() if in_transaction else originating(""):
        future = pubsub.publish_rows([authors[0], posts[0], authors[1], posts[1]])
    assert future.result(1) == 4
    assert sorted((item.node, item.id) for item in sent) == sorted(
        [
            *(("/testapp/Author", str(author.pk)) for author in authors[:2]),
            *(("/testapp/Post", str(post.pk)) for post in posts),
        ]
    )


def test_a_row_with_parents_goes_to_their_nodes_too(sent, register):
    Restaurant.objects.create(name="R", stars=3)
    register([Place, Restaurant])
    assert pubsub.publish_rows(Restaurant.objects.all()).result(1) == 2
    assert sorted(item.node for item in sent) == ["/testapp/Place", "/testapp/Restaurant"]


def test_rows_by_hand_are_not_muted_and_not_throttled(sent, register, authors):
    register(Author, throttle=1000)
    with pubsub.muted():
        for _ in range(3):
            pubsub.publish_rows(Author.objects.all())
    assert len(sent) == 9


def test_a_row_that_does_not_fulfil_the_condition_is_retracted(sent, register, authors):
    class Long(Publication):
        def should_publish(self, instance, event):
            return len(instance.name) > 2

    register(Author, Long)
    pubsub.publish_rows(Author.objects.order_by("pk"))
    assert told(sent) == [
        (str(author.pk), "updated" if author.name == "Ada" else "deleted") for author in authors
    ]


@pytest.mark.parametrize("in_transaction", [False, True])
def test_rows_bear_the_origin_of_who_asked_for_them(sent, register, authors, in_transaction):
    register(Author)
    with transaction.atomic() if in_transaction else originating(""), originating("me"):
        pubsub.publish_rows(Author.objects.all())
    assert all('origin="me"' in item.payload for item in sent)


# Transactions


def test_inside_a_transaction_rows_are_read_again_at_the_commit(sent, register, authors):
    register(Author)
    with transaction.atomic():
        future = pubsub.publish_rows(authors[:1])
        Author.objects.filter(pk=authors[0].pk).update(name="later")
        assert not future.done()
        assert sent == []
    assert future.result(1) == 1
    assert ">later<" in sent[0].payload


def test_rows_that_are_gone_at_the_commit_are_left_out(sent, register, authors):
    register(Author)
    with transaction.atomic():
        future = pubsub.publish_rows(authors)
        with pubsub.muted():
            authors[0].delete()
    assert future.result(1) == 2


def test_what_is_rolled_back_is_not_published_and_its_future_is_cancelled(sent, register, authors):
    register([Author, Seat])
    seat = Seat(pk=1, number=1)
    for rows in (authors, Author.objects.all(), [], [*authors, seat]):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            future = pubsub.publish_rows(rows)
            raise ZeroDivisionError
        gc.collect()
        if rows:
            with pytest.raises(CancelledError):
                future.result(1)
    assert sent == []


def test_a_rolled_back_savepoint_takes_its_rows_along(sent, register, authors):
    register(Author)
    with transaction.atomic():
        kept = pubsub.publish_rows(authors[:1])
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            pubsub.publish_rows(authors[1:])
            raise ZeroDivisionError
    assert kept.result(1) == 1
    assert len(sent) == 1


def test_a_row_saved_before_in_the_same_transaction_is_published_once(sent, register, authors):
    register(Author)
    with transaction.atomic():
        authors[0].name = "saved"
        authors[0].save()
        pubsub.publish_rows(authors)
    assert sorted(told(sent)) == sorted((str(author.pk), "updated") for author in authors)


@pytest.mark.parametrize("events", [["created", "updated", "deleted"], []])
def test_a_row_saved_after_in_the_same_transaction_is_published_once(
    sent, register, authors, events
):
    register(Author, events=events)
    with transaction.atomic():
        future = pubsub.publish_rows(authors)
        authors[0].name = "saved"
        authors[0].save()
    assert sorted(told(sent)) == sorted((str(author.pk), "updated") for author in authors)
    assert [">saved<" in i.payload for i in sent if i.id == str(authors[0].pk)] == [True]
    assert future.result(1) == 3


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_rows_wait_for_the_transaction_of_their_own_database(sent, register):
    register(Author)
    with pubsub.muted():
        there = Author.objects.using("other").create(name="there")
        here = Author.objects.create(name="here")
    with transaction.atomic():
        assert pubsub.publish_rows(Author.objects.using("other").all()).result(1) == 1
        assert pubsub.publish_rows([there]).result(1) == 1
        assert not pubsub.publish_rows([here]).done()
    assert [">there<" in item.payload for item in sent] == [True, True, False]
    sent.clear()
    with transaction.atomic(using="other"):
        mixed = pubsub.publish_rows([there, here])
        assert [">here<" in item.payload for item in sent] == [True]
        assert not mixed.done()
    assert mixed.result(1) == 2
    assert [">there<" in item.payload for item in sent] == [False, True]


# Errors


class Picky(Publication):
    def get_payload(self, instance, event):
        if instance.name == "Bo":
            raise ZeroDivisionError
        return instance.name

    def get_nodes(self, instance, event):
        if event == "deleted" and instance.name == "Bo":
            raise ZeroDivisionError
        return self.nodes


@pytest.mark.parametrize("event", ["updated", "deleted"])
@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_hook_that_raises_for_one_row_fails_the_future_and_no_other_row(
    sent, register, authors, failures, event, in_transaction
):
    register(Author, Picky)
    with transaction.atomic() if in_transaction else originating(""):
        future = pubsub.publish_rows(Author.objects.order_by("pk"), event)
    assert told(sent) == [(str(author.pk), event) for author in (authors[0], authors[2])]
    assert isinstance(future.exception(1), ZeroDivisionError)
    assert [about for about, _ in failures] == [f"testapp.Author {authors[1].pk} ({event})"]


def test_a_row_that_xml_cannot_carry_fails_alone(sent, register, failures):
    register(Author)
    with pubsub.muted():
        for name in ("Ada", "\x08", "Cy"):
            Author.objects.create(name=name)
    future = pubsub.publish_rows(Author.objects.all())
    assert isinstance(future.exception(1), InvalidItem)
    assert len(sent) == 2
    assert len(failures) == 1


def test_without_a_backend_each_row_is_told_of_and_the_future_fails(
    settings, register, authors, failures
):
    settings.PUBSUB_BACKEND = "no.such.Backend"
    register(Author)
    for block in (originating(""), transaction.atomic()):
        with block:
            future = pubsub.publish_rows(Author.objects.all())
        assert isinstance(future.exception(1), ImproperlyConfigured)
    assert len(failures) == 6


class Refusing(BaseBackend):
    """Fails all items but the first ones."""

    accepts = 0
    asked = 0
    error: Exception = StreamLost("localhost:5222", "cut")

    def send(self, item):
        cls = type(self)
        cls.asked += 1
        if cls.asked <= cls.accepts:
            return resolved("1")
        future = Future()
        future.set_exception(cls.error)
        return future


@pytest.fixture
def refusing(settings, monkeypatch):
    settings.PUBSUB_BACKEND = f"{__name__}.Refusing"
    settings.PUBSUB_QUEUE_SIZE = 20  # a window of ten
    monkeypatch.setattr(Refusing, "asked", 0)
    return Refusing


@pytest.mark.parametrize("in_transaction", [False, True])
def test_when_the_server_is_lost_the_rest_is_not_tried_and_told_of_once(
    register, refusing, failures, monkeypatch, in_transaction
):
    monkeypatch.setattr(Refusing, "accepts", 5)
    Author.objects.bulk_create([Author(name=str(n)) for n in range(100)])
    register(Author)
    with transaction.atomic() if in_transaction else originating(""):
        future = pubsub.publish_rows(Author.objects.all())
    assert refusing.asked == 15
    assert len(failures) == 11
    assert isinstance(failures[-1][1], ServerLost)
    assert isinstance(future.exception(1), StreamLost)
    if in_transaction:
        assert failures[-1][0] == "85 rows of testapp.Author"
    else:
        assert failures[-1][0] == "the rest of the rows"


def test_rows_that_the_server_refuses_one_by_one_are_all_tried(
    register, refusing, failures, monkeypatch
):
    monkeypatch.setattr(Refusing, "error", InvalidItem("no"))
    Author.objects.bulk_create([Author(name=str(n)) for n in range(100)])
    register(Author)
    assert isinstance(pubsub.publish_rows(Author.objects.all()).exception(1), InvalidItem)
    assert refusing.asked == len(failures) == 100


def test_a_generator_that_raises_in_the_middle_is_heard(sent, register, authors):
    def broken():
        yield authors[0]
        raise ZeroDivisionError

    register(Author)
    with pytest.raises(ZeroDivisionError):
        pubsub.publish_rows(broken())
    assert len(sent) == 1
    sent.clear()
    with transaction.atomic(), pytest.raises(ZeroDivisionError):
        pubsub.publish_rows(broken())
    assert sent == []


# Cost


def test_rows_are_read_again_in_batches(sent, register):
    Ticket.objects.bulk_create([Ticket() for _ in range(1200)])
    register(Ticket)
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        pubsub.publish_rows(Ticket.objects.all())
    selects = [q for q in queries if q["sql"].startswith("SELECT")]
    assert len(selects) == 1 + 3
    assert len(sent) == 1200


@pytest.mark.parametrize(
    ("event", "in_transaction"), [("updated", False), ("updated", True), ("deleted", True)]
)
def test_the_memory_does_not_grow_with_the_number_of_rows(
    settings, register, in_transaction, event
):
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"
    Author.objects.bulk_create([Author(name=f"{n:0100}") for n in range(3_000)])
    register(Author)

    def peak(count):
        rows = Author.objects.filter(name__lt=f"{count:0100}")
        gc.collect()
        tracemalloc.start()
        try:
            with transaction.atomic() if in_transaction else originating(""):
                future = pubsub.publish_rows(rows, event)
            assert future.result(1) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(600)
    assert peak(3_000) < 1.5 * peak(1_000) + 500_000
