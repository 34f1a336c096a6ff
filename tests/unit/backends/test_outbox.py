"""Tests of pubsub.backends.outbox, and of what registry and publish() write through it."""

import gc

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection, transaction
from django.utils.translation import gettext_lazy

from pubsub import Publication, apublish, muted, publish, publish_rows, pubsub, retract
from pubsub.backends import get_backend, get_outbox
from pubsub.context import originating
from pubsub.items import lane_of, make_item
from pubsub.models import OutboxItem, State
from tests.aio import run
from tests.testapp.models import Author, Post, Seat

# A transaction around each test would be the one that everything waits for.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("outbox")]


@pytest.fixture
def outbox(settings):
    """Publish into the outbox."""
    settings.PUBSUB_BACKEND = "pubsub.backends.outbox.OutboxBackend"


class Refusal(Exception):
    """Rolls a block back."""


def told(using="default"):
    """What is in the outbox: of each row the event, the id, and what it says."""
    rows = OutboxItem.objects.using(using).order_by("pk")
    return [(row.event, row.item_id, row.payload) for row in rows]


def events():
    return [(event, item_id) for event, item_id, _ in told()]


def test_a_save_is_a_row_of_the_outbox_with_all_that_the_relay_needs(register):
    register(Author, access="private")
    with originating("page"):
        author = Author.objects.create(name="Ada")
    (row,) = OutboxItem.objects.all()
    assert (row.state, row.lane) == (State.WAITING, lane_of("/testapp/Author"))
    assert (row.node, row.item_id, row.event) == ("/testapp/Author", str(author.pk), "created")
    assert "Ada" in row.payload
    assert 'origin="page"' in row.payload
    assert row.configuration == {"access_model": "whitelist"}
    assert (row.interval, row.change, row.due, row.sent, row.tries) == (None, None, None, None, 0)


def test_a_save_in_a_transaction_costs_one_insert(register, django_assert_num_queries):
    register(Author)
    author = Author.objects.create(name="Ada")
    with transaction.atomic(), django_assert_num_queries(2) as queries:
        author.save()
    assert queries.captured_queries[1]["sql"].startswith('INSERT INTO "pubsub_outboxitem"')


def test_a_save_without_a_transaction_gets_one(register, django_assert_num_queries):
    register(Author)
    with django_assert_num_queries(4) as queries:
        Author.objects.create(name="Ada")
    words = [query["sql"].split()[0] for query in queries.captured_queries]
    assert words == ["BEGIN", "INSERT", "INSERT", "COMMIT"]


def test_a_model_that_is_not_registered_saves_as_before(register, django_assert_num_queries):
    register(Author)
    pubsub.unregister(Author)
    try:
        with django_assert_num_queries(1):
            Author.objects.create(name="Ada")
    finally:
        register(Author)


def test_with_another_backend_a_save_begins_no_transaction(
    register, settings, django_assert_num_queries
):
    settings.PUBSUB_BACKEND = "pubsub.backends.locmem.LocmemBackend"
    register(Author)
    with django_assert_num_queries(1):
        Author.objects.create(name="Ada")


def test_a_save_that_cannot_be_announced_is_not_made(register, monkeypatch):
    register(Author)

    def refuse(self, *args):
        raise DatabaseError("no such table: pubsub_outboxitem")

    monkeypatch.setattr(type(get_outbox()), "write", refuse)
    with pytest.raises(DatabaseError, match="no such table"):
        Author.objects.create(name="Ada")
    assert not Author.objects.exists()


def test_a_save_base_of_the_model_itself_is_called(register, monkeypatch):
    called = []

    def save_base(self, *args, **kwargs):
        called.append(kwargs["using"])
        super(Author, self).save_base(*args, **kwargs)

    monkeypatch.setattr(Author, "save_base", save_base, raising=False)
    register(Author)
    Author.objects.create(name="Ada")
    pubsub.unregister(Author)
    assert Author.__dict__["save_base"] is save_base
    register(Author)
    assert called == ["default"]
    assert len(told()) == 1


def test_what_is_rolled_back_is_not_in_the_outbox(register):
    register(Author)
    with pytest.raises(Refusal), transaction.atomic():
        Author.objects.create(name="Ada")
        future = publish("/home", "Hello")
        raise Refusal
    gc.collect()
    assert told() == []
    assert future.cancelled()


def test_of_several_saves_in_a_transaction_the_last_one_stays(register):
    register(Author)
    with transaction.atomic():
        author = Author.objects.create(name="first")
        for name in ("second", "third"):
            author.name = name
            author.save()
    ((event, item_id, payload),) = told()
    assert (event, item_id) == ("created", str(author.pk))
    assert "third" in payload


def test_what_is_created_and_deleted_in_one_transaction_is_not_told(register):
    register(Author)
    with transaction.atomic():
        Author.objects.create(name="Ada").delete()
    assert told() == []


def test_what_is_deleted_and_made_again_is_updated(register):
    register(Author)
    author = Author.objects.create(name="Ada")
    OutboxItem.objects.all().delete()
    pk = str(author.pk)
    with transaction.atomic():
        author.delete()
        Author.objects.create(pk=pk, name="Bo")
    assert events() == [("updated", pk)]


def test_a_savepoint_that_is_rolled_back_brings_back_what_it_took_away(register):
    register(Author)
    author = Author.objects.create(name="Ada")
    with transaction.atomic():
        author.name = "outer"
        author.save()
        with pytest.raises(Refusal), transaction.atomic():
            author.name = "inner"
            author.save()
            raise Refusal
    (_, (_, _, payload)) = told()
    assert "outer" in payload
    with transaction.atomic():
        author.name = "last"
        author.save()
    assert len(told()) == 3


def test_a_place_that_a_row_leaves_is_told_once_however_often_it_is_saved_afterwards(register):
    @register(Post)
    class PostPublication(Publication):
        track = True

        def get_nodes(self, instance, event):
            return [f"/shelf/{instance.body}"]

    post = Post.objects.create(title="Tea", body="a")
    OutboxItem.objects.all().delete()
    with transaction.atomic():
        for body in ("b", "c", "c"):
            post.body = body
            post.save()
    rows = [(row.node, row.event) for row in OutboxItem.objects.order_by("pk")]
    assert sorted(rows) == [
        ("/shelf/a", "deleted"),
        ("/shelf/b", "deleted"),
        ("/shelf/c", "updated"),
    ]


def test_each_item_of_a_log_has_an_id_of_its_own(register):
    register(Author, item_id=None)
    author = Author.objects.create(name="Ada")
    author.save()
    first, second = (item_id for _, item_id in events())
    assert len(first) == len(second) == 32
    assert first != second


def test_the_items_of_one_row_are_numbered_and_those_that_rows_share_are_not(register):
    class Shared(Publication):
        def get_item_id(self, instance):
            return "the newest"

    register(Author)
    register(Post, Shared)
    register(Seat, item_id="number")
    Author.objects.create(name="Ada")
    Post.objects.create(title="Tea")
    Seat.objects.create(number=7)
    numbered = dict(OutboxItem.objects.values_list("node", "is_numbered"))
    assert numbered == {
        "/testapp/Author": True,
        "/testapp/Post": False,
        "/testapp/Seat": True,
    }


def test_a_publication_with_relations_is_left_to_be_read(register):
    register(Post, m2m=["readers"])
    post = Post.objects.create(title="Tea")
    post.readers.add(Author.objects.create(name="Ada"))
    rows = OutboxItem.objects.order_by("pk")
    assert [row.state for row in rows] == [State.UNREAD, State.UNREAD]
    assert len({row.lane for row in rows}) == 1
    assert rows[0].change == {
        "publication": "testapp.Post",
        "model": "testapp.Post",
        "pk": str(post.pk),
        "event": "created",
        "before": None,
        "origin": "",
        "only_left": False,
        "by_hand": False,
    }


def test_several_changes_of_a_row_with_relations_are_read_once(register):
    register(Post, m2m=["readers"])
    ada, bo = Author.objects.create(name="Ada"), Author.objects.create(name="Bo")
    with transaction.atomic():
        post = Post.objects.create(title="Tea")
        post.readers.add(ada)
        post.readers.add(bo)
    (row,) = OutboxItem.objects.all()
    assert row.change["event"] == "created"


def test_bulk_operations_are_left_to_be_read(register):
    register(Seat)
    Seat.objects.bulk_create([Seat(number=n) for n in range(3)])
    first, second, _ = Seat.objects.all()
    Seat.objects.filter(pk=first.pk).update(number=7)
    Seat.objects.filter(pk=second.pk).delete()
    assert [(row.event, row.state) for row in OutboxItem.objects.order_by("pk")] == [
        ("created", State.UNREAD),
        ("created", State.UNREAD),
        ("created", State.UNREAD),
        ("updated", State.UNREAD),
        ("deleted", State.WAITING),
    ]


def test_rows_that_are_published_by_hand_are_left_to_be_read(register):
    register(Author)
    Author.objects.bulk_create([Author(name=str(n)) for n in range(3)])
    assert publish_rows(Author.objects.all()).result(0) == 3
    changes = [row.change for row in OutboxItem.objects.all()]
    assert [change["by_hand"] for change in changes] == [True, True, True]


def test_a_future_knows_when_the_item_is_there_for_good():
    with transaction.atomic():
        future = publish("/home", "Hello")
        assert not future.done()
    ((_, item_id, _),) = told()
    assert future.result(0) == item_id
    assert retract("/home", "7").result(0) == "7"
    assert run(apublish("/home", "Hello", item_id="8")) == "8"


def test_the_interval_of_a_throttle_stays_with_the_row(register):
    register(Author, throttle=2.5)
    Author.objects.create(name="Ada")
    assert OutboxItem.objects.get().interval == 2.5


def test_what_a_hook_raises_in_a_bulk_deletion_is_told_and_the_rows_are_deleted(register, failures):
    @register(Seat)
    class SeatPublication(Publication):
        def get_nodes(self, instance, event):
            raise Refusal("no opinion")

    with muted():
        Seat.objects.create(number=1)
    Seat.objects.all().delete()
    assert [str(error) for _, error in failures] == ["no opinion"]
    assert not Seat.objects.exists()


def test_where_the_database_tells_no_keys_of_many_rows_they_are_taken_back_all_the_same(
    register, monkeypatch
):
    monkeypatch.setattr(type(connection.features), "can_return_rows_from_bulk_insert", False)
    register(Author, node=["/a", "/b"])
    with transaction.atomic():
        Author.objects.create(name="Ada").delete()
    assert told() == []


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_what_was_read_elsewhere_is_written_where_it_is_saved(register, settings):
    class Replica:
        def db_for_write(self, model, **hints):
            return "default"

    settings.DATABASE_ROUTERS = [Replica()]
    register(Author)
    Author.objects.using("other").bulk_create([Author(name="Ada")])
    read = Author.objects.using("other").get()
    publish("/n", read)
    publish_rows([read])
    publish_rows(Author.objects.using("other"))
    assert len(told()) == 3
    assert told("other") == []


def test_what_a_hook_raises_is_told_and_the_save_goes_on(register, failures):
    @register(Author)
    class AuthorPublication(Publication):
        def should_publish(self, instance, event):
            raise Refusal("no opinion")

    with transaction.atomic():
        Author.objects.create(name="Ada")
    assert [str(error) for _, error in failures] == ["no opinion"]
    assert Author.objects.exists()
    assert told() == []


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_row_is_written_into_the_database_of_what_it_tells_of(register):
    register(Author)
    Author.objects.using("other").create(name="Ada")
    publish("/home", "Hello", using="other")
    assert told() == []
    assert len(told("other")) == 2


def test_what_another_apps_callback_raises_after_the_commit_loses_nothing(register):
    register(Author)

    def fail():
        raise Refusal

    with pytest.raises(Refusal), transaction.atomic():
        transaction.on_commit(fail)
        Author.objects.create(name="Ada")
    assert len(told()) == 1


def test_a_change_after_the_commit_is_one_of_its_own(register):
    """What waits for its turn among the callbacks has been committed already."""
    register(Author)
    with transaction.atomic():
        transaction.on_commit(lambda: author.delete())
        author = Author.objects.create(name="Ada")
    assert [event for event, _ in events()] == ["created", "deleted"]


def test_where_autocommit_is_off_a_save_is_kept_too(register, failures):
    register(Author)
    transaction.set_autocommit(False)
    try:
        Author.objects.create(name="Ada")
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert len(told()) == 1
    assert failures == []


def test_a_configuration_is_written_as_json_has_it():
    fields = {"title": gettext_lazy("Yes"), "max_items": 7, "roster": ["a"]}
    get_outbox().write([make_item("/x", "text", configuration=fields)], None)
    assert OutboxItem.objects.get().configuration == {
        "title": "Yes",
        "max_items": 7,
        "roster": ["a"],
    }


def test_nodes_are_the_servers():
    backend = get_backend()
    assert backend.manages_nodes
    assert backend.is_outbox


def test_an_outbox_cannot_be_what_relays():
    with pytest.raises(ImproperlyConfigured, match="only fills the outbox"):
        type(get_outbox()).for_relay()
