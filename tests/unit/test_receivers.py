"""pubsub/receivers.py: whatever Django saves or deletes is heard, as it is in the database."""

import copy
import datetime as dt
import json
import pickle
import uuid
import xml.etree.ElementTree as ET
from contextlib import contextmanager

import django
import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core import serializers
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.db.models import F
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from django.test.utils import CaptureQueriesContext

from pubsub import Publication, pubsub
from tests.aio import run
from tests.testapp import models as testapp
from tests.testapp.models import (
    Author,
    Badge,
    Parcel,
    Penname,
    Person,
    Pizzeria,
    Place,
    Post,
    Restaurant,
    Ticket,
)

pytestmark = pytest.mark.django_db(transaction=True)

JSON = "{urn:xmpp:json:0}json"


def told(items):
    return [(item.node, item.id, item.event) for item in items]


def data_of(item):
    return json.loads(ET.fromstring(item.payload).findtext(JSON))


@pytest.fixture
def late_models():
    """Takes models that a test defines, and forgets them afterwards."""
    before = set(apps.all_models["testapp"])
    yield
    for name in set(apps.all_models["testapp"]) - before:
        del apps.all_models["testapp"][name]
    apps.clear_cache()


@contextmanager
def tables_for(*late):
    with connection.schema_editor() as editor:
        for model in late:
            editor.create_model(model)
    yield
    with connection.schema_editor() as editor:
        for model in reversed(late):
            editor.delete_model(model)


# Multi-table inheritance


def test_a_row_of_a_child_is_one_of_each_of_its_parents(sent, register):
    register([Place, Restaurant, Pizzeria])
    pizzeria = Pizzeria.objects.create(name="Da Michele", stars=3, oven="wood")
    pk = str(pizzeria.pk)
    assert sorted(told(sent)) == [
        ("/testapp/Pizzeria", pk, "created"),
        ("/testapp/Place", pk, "created"),
        ("/testapp/Restaurant", pk, "created"),
    ]
    by_node = {item.node: item.payload for item in sent}
    assert "wood" in by_node["/testapp/Pizzeria"]
    assert "Da Michele" in by_node["/testapp/Pizzeria"]
    assert ">3<" in by_node["/testapp/Restaurant"]
    assert "oven" not in by_node["/testapp/Restaurant"]
    assert "stars" not in by_node["/testapp/Place"]


def test_a_row_of_a_parent_is_none_of_its_children(sent, register):
    register([Place, Restaurant, Pizzeria])
    Place.objects.create(name="a bank").save()
    assert {item.node for item in sent} == {"/testapp/Place"}


def test_hooks_get_a_row_of_the_registered_model(sent, register):
    rows = []

    def get_nodes(self, instance, event):
        rows.append((type(instance), event, instance.name))
        return "/n"

    register(Place, get_nodes=get_nodes)
    pizzeria = Pizzeria.objects.create(name="Da Michele")
    pizzeria.save()
    pizzeria.delete()
    assert rows == [(Place, event, "Da Michele") for event in ("created", "updated", "deleted")]


@pytest.mark.parametrize(
    ("update_fields", "published"),
    [(["name"], ("new", 0, "")), (["stars"], ("old", 3, "")), (["oven"], ("old", 0, "wood"))],
)
def test_update_fields_of_a_child_publish_what_each_table_holds(
    sent, register, update_fields, published
):
    register([Place, Restaurant, Pizzeria], format="json")
    pizzeria = Pizzeria.objects.create(name="old")
    sent.clear()
    pizzeria.name, pizzeria.stars, pizzeria.oven = "new", 3, "wood"
    pizzeria.save(update_fields=update_fields)
    data = {item.node: data_of(item) for item in sent}
    name, stars, oven = published
    assert data["/testapp/Place"]["name"] == name
    assert (data["/testapp/Restaurant"]["name"], data["/testapp/Restaurant"]["stars"]) == (
        name,
        stars,
    )
    assert data["/testapp/Pizzeria"]["oven"] == oven
    assert data["/testapp/Pizzeria"]["name"] == name


def test_deleting_a_child_deletes_the_rows_of_its_parents(sent, register):
    register([Place, Restaurant, Pizzeria])
    pizzeria = Pizzeria.objects.create(name="Da Michele")
    pk = str(pizzeria.pk)
    sent.clear()
    pizzeria.delete()
    assert sorted(told(sent)) == [
        ("/testapp/Pizzeria", pk, "deleted"),
        ("/testapp/Place", pk, "deleted"),
        ("/testapp/Restaurant", pk, "deleted"),
    ]


def test_parents_that_are_kept_are_not_retracted(sent, register):
    register([Place, Restaurant, Pizzeria])
    pizzeria = Pizzeria.objects.create(name="Da Michele")
    sent.clear()
    pizzeria.delete(keep_parents=True)
    assert [(item.node, item.event) for item in sent] == [("/testapp/Pizzeria", "deleted")]
    assert Restaurant.objects.count() == 1


def test_deleting_a_parent_deletes_its_children(sent, register):
    register([Restaurant, Pizzeria])
    pizzeria = Pizzeria.objects.create(name="Da Michele")
    sent.clear()
    Place.objects.get(pk=pizzeria.pk).delete()
    assert {(item.node, item.event) for item in sent} == {
        ("/testapp/Restaurant", "deleted"),
        ("/testapp/Pizzeria", "deleted"),
    }


def test_a_tracked_parent_is_retracted_from_where_a_child_leaves(sent, register):
    @register(Place)
    class ByName(Publication):
        track = True

        def get_nodes(self, instance, event):
            return f"/{instance.name}"

    pizzeria = Pizzeria.objects.create(name="old")
    pk = str(pizzeria.pk)
    sent.clear()
    pizzeria.name = "new"
    pizzeria.save()
    assert told(sent) == [("/new", pk, "updated"), ("/old", pk, "deleted")]


def test_children_of_an_abstract_child_defined_later_are_heard_too(sent, register, late_models):
    register(Author)

    class Famous(Author):
        class Meta:
            abstract = True
            app_label = "testapp"

    class Nobelist(Famous):
        class Meta:
            app_label = "testapp"

    with tables_for(Nobelist):
        Nobelist.objects.create(name="Toni Morrison")
    assert [item.node for item in sent] == ["/testapp/Author"]


# Deferred fields


def test_a_row_read_without_some_columns_is_published_with_all_for_one_query(
    sent, register, django_assert_num_queries
):
    register(Post, format="json")
    Post.objects.create(title="old", body="B")
    sent.clear()
    post = Post.objects.only("title").get()
    post.title = "new"
    with django_assert_num_queries(2):
        post.save()
    assert (data_of(sent[0])["title"], data_of(sent[0])["body"]) == ("new", "B")
    assert post.get_deferred_fields() == {"body", "author_id", "created"}


def test_columns_that_are_not_published_stay_deferred(sent, register, django_assert_num_queries):
    register(Post, fields=["title"])
    Post.objects.create(title="old", body="B")
    post = Post.objects.defer("body").get()
    with django_assert_num_queries(1):
        post.save()
    assert post.get_deferred_fields() == {"body"}


def test_a_hook_that_reads_a_deferred_column_pays_for_it_and_the_caller_keeps_his(
    sent, register, django_assert_num_queries
):
    register(Post, fields=["title"], get_nodes=lambda self, instance, event: f"/{instance.body}")
    Post.objects.create(title="old", body="B")
    post = Post.objects.defer("body").get()
    sent.clear()
    with django_assert_num_queries(2):
        post.save()
    assert [item.node for item in sent] == ["/B"]


def test_rows_deleted_without_their_columns_are_retracted(sent, register):
    register(Author)
    pk = str(Author.objects.create(name="Ada").pk)
    sent.clear()
    Author.objects.only("pk").get().delete()
    assert told(sent) == [("/testapp/Author", pk, "deleted")]


def test_rows_deleted_by_a_cascade_are_retracted_with_all_their_columns(sent, register):
    register(Post, get_nodes=lambda self, instance, event: f"/{instance.title}")
    post = Post.objects.create(title="T", author=Author.objects.create(name="Ada"))
    sent.clear()
    Author.objects.all().delete()
    assert told(sent) == [("/T", str(post.pk), "deleted")]


# update_fields, and values that are not saved


@pytest.mark.parametrize("fields", [None, ["title", "body"]])
def test_values_that_update_fields_leaves_out_are_not_published(sent, register, fields):
    register(Post, format="json", fields=fields)
    post = Post.objects.create(title="saved", body="saved")
    post.title, post.body = "unsaved", "new"
    post.save(update_fields=["body"])
    assert (data_of(sent[1])["title"], data_of(sent[1])["body"]) == ("saved", "new")
    assert (post.title, post.body) == ("unsaved", "new")


def test_hooks_see_what_was_saved_of_columns_that_are_not_published(
    sent, register, django_assert_num_queries
):
    register(Post, fields=["body"], get_nodes=lambda self, instance, event: f"/{instance.title}")
    post = Post.objects.create(title="saved", body="saved")
    post.title, post.body = "unsaved", "new"
    with django_assert_num_queries(2):
        post.save(update_fields=["body"])
    assert [item.node for item in sent] == ["/saved", "/saved"]


def test_update_fields_cost_no_query_where_nobody_asks_for_the_rest(
    sent, register, django_assert_num_queries
):
    register(Post, fields=["body"])
    post = Post.objects.create(title="saved", body="saved")
    post.title = "unsaved"
    with django_assert_num_queries(1):
        post.save(update_fields=["body"])
    assert "unsaved" not in sent[1].payload


def test_a_relation_that_update_fields_leaves_out_is_the_saved_one(sent, register):
    ada, bo = Author.objects.create(name="Ada"), Author.objects.create(name="Bo")
    register(Post, get_nodes=lambda self, instance, event: f"/{instance.author.name}")
    post = Post.objects.create(title="T", author=ada)
    post.author = bo
    post.save(update_fields=["title"])
    assert [item.node for item in sent] == ["/Ada", "/Ada"]
    assert post.author is bo


def test_update_fields_of_nothing_publish_nothing(sent, register):
    register(Author)
    author = Author.objects.create(name="Ada")
    author.save(update_fields=[])
    assert [item.event for item in sent] == ["created"]


def test_expressions_are_published_as_what_they_came_to(sent, register):
    register(Ticket, format="json", get_nodes=lambda self, instance, event: f"/{instance.visits}")
    ticket = Ticket.objects.create(visits=1)
    ticket.visits = F("visits") + 1
    ticket.save()
    assert sent[1].node == "/2"
    assert data_of(sent[1])["visits"] == 2


@pytest.mark.parametrize("price", ["1.005", "1.5", 1, 1.25, "1.2345"])
def test_a_decimal_is_published_as_the_column_holds_it(sent, register, price):
    register(Ticket, format="json")
    ticket = Ticket.objects.create(price=price)
    published = data_of(sent[0])["price"]
    assert published == str(Ticket.objects.get(pk=ticket.pk).price)


def test_a_decimal_that_is_what_the_column_holds_costs_no_query(
    sent, register, django_assert_num_queries
):
    register(Ticket, format="json")
    with django_assert_num_queries(1):
        Ticket.objects.create(price="1.5")


@pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime")
def test_a_time_without_a_zone_is_published_as_the_column_holds_it(sent, register, settings):
    settings.TIME_ZONE = "Europe/Vienna"
    register(Parcel, format="json", fields=["sent_at"])
    parcel = Parcel.objects.create(sent_at=dt.datetime(2026, 7, 1, 12, 0))  # noqa: DTZ001
    assert data_of(sent[0])["sent_at"] == "2026-07-01T10:00:00Z"
    assert Parcel.objects.get(pk=parcel.pk).sent_at.hour == 10


def test_related_rows_that_were_prefetched_are_read_again(sent, register):
    ada, bo = Author.objects.create(name="Ada"), Author.objects.create(name="Bo")
    register(Post, m2m=["readers"], format="json")
    Post.objects.create(title="T").readers.set([ada, bo])
    some = models.Prefetch("readers", Author.objects.filter(name="Ada"))
    post = Post.objects.prefetch_related(some).get()
    sent.clear()
    post.save()
    assert data_of(sent[0])["readers"] == [ada.pk, bo.pk]
    assert list(post.readers.all()) == [ada]  # the caller's stays as it is


# Fixtures, databases, keys


@pytest.mark.parametrize("options", [{}, {"track": True}])
def test_fixtures_are_not_published_and_neither_are_their_relations(
    sent, register, tmp_path, options
):
    register(Post, m2m=["readers"], **options)
    ada = Author.objects.create(name="Ada")
    fields = {"title": "T", "created": "2026-01-01T00:00:00Z", "readers": [ada.pk]}
    fixture = tmp_path / "posts.json"
    fixture.write_text(json.dumps([{"model": "testapp.post", "pk": 1, "fields": fields}]))
    call_command("loaddata", str(fixture), verbosity=0)
    assert list(Post.objects.get().readers.all()) == [ada]
    assert sent == []


def test_a_row_of_a_fixture_is_published_when_it_is_saved_again(sent, register):
    register(Post, m2m=["readers"])
    ada = Author.objects.create(name="Ada")
    fields = {"title": "T", "created": "2026-01-01T00:00:00Z"}
    (loaded,) = serializers.deserialize(
        "python", [{"model": "testapp.post", "pk": 1, "fields": fields}]
    )
    loaded.save()
    assert sent == []
    loaded.object.save()
    loaded.object.readers.add(ada)
    assert [item.event for item in sent] == ["updated", "updated"]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_row_is_read_in_the_database_that_it_was_saved_in(sent, register):
    register(Post, format="json", track=True, m2m=["readers"])
    pk = Post.objects.create(title="in the default one").pk
    post = Post.objects.using("other").create(pk=pk, title="old", body="B")
    sent.clear()
    post.title, post.body = "unsaved", "new"
    post.save(update_fields=["body"])
    assert (data_of(sent[0])["title"], data_of(sent[0])["body"]) == ("old", "new")
    reader = Author.objects.using("other").create(name="Ada")
    post.readers.add(reader)
    assert data_of(sent[1])["readers"] == [reader.pk]
    post.delete()
    assert sent[2].is_retraction
    assert Post.objects.count() == 1


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_row_saved_into_another_database_is_published_after_that_ones_commit(sent, register):
    register(Author, track=True)
    author = Author.objects.create(name="Ada")
    sent.clear()
    with transaction.atomic(using="other"):
        author.save(using="other")
        assert sent == []
    assert [(item.id, item.event) for item in sent] == [(str(author.pk), "created")]


def test_a_key_is_the_same_id_at_each_event_however_it_was_written(sent, register):
    register(Ticket, track=True)
    key = uuid.uuid4()
    ticket = Ticket.objects.create(pk=key.hex)
    ticket.save()
    ticket.delete()
    assert [item.id for item in sent] == [str(key)] * 3


@pytest.mark.parametrize("code", ["2024/a-b:c", "a b", "ü", "<&>'\"", "x" * 200])
def test_a_key_of_text_is_the_id_as_it_is(sent, register, code):
    register(Badge)
    Badge.objects.create(code=code).delete()
    assert told(sent) == [("/testapp/Badge", code, e) for e in ("created", "deleted")]


if django.VERSION >= (5, 2):

    @pytest.mark.parametrize("format", ["xml", "json", "atom"])
    @pytest.mark.parametrize("options", [{}, {"track": True}])
    def test_a_key_of_two_columns_is_the_id_as_django_writes_it(sent, register, format, options):
        register(testapp.Booking, format=format, **options)
        booking = testapp.Booking.objects.create(day="2024-05-01", number=7, name="Ada")
        booking.name = "Bo"
        booking.save()
        booking.save(update_fields=["name"])
        booking.delete()
        assert [item.event for item in sent] == ["created", "updated", "updated", "deleted"]
        assert {item.id for item in sent} == {'["2024-05-01", "7"]'}
        assert "Ada" in sent[0].payload
        assert "Bo" in sent[2].payload


if django.VERSION >= (5, 0):

    def test_a_key_that_the_database_makes_is_not_asked_for_before(sent, register, late_models):
        class Receipt(models.Model):
            number = models.IntegerField(primary_key=True, db_default=41 + 1)

            class Meta:
                app_label = "testapp"

            def __str__(self):
                return "a receipt"

        with tables_for(Receipt):
            register(Receipt, track=True)
            with CaptureQueriesContext(connection) as queries:
                Receipt.objects.create()
            pubsub.unregister(Receipt)
        assert told(sent) == [("/testapp/Receipt", "42", "created")]
        assert [q["sql"] for q in queries if q["sql"].startswith("SELECT")] == []


# async


def test_the_async_orm_is_heard_as_the_other_one(sent, register):
    register(Author)

    async def life():
        author = await Author.objects.acreate(name="Ada")
        author.name = "Bo"
        await author.asave()
        await Author.objects.aupdate_or_create(pk=author.pk, defaults={"name": "Cy"})
        await author.adelete()
        return author

    async_to_sync(life)()
    assert [item.event for item in sent] == ["created", "updated", "updated", "deleted"]
    assert [">Ada<" in sent[0].payload, ">Bo<" in sent[1].payload, ">Cy<" in sent[2].payload] == [
        True
    ] * 3


def test_relations_changed_by_the_async_orm_are_heard(sent, register):
    post = Post.objects.create(title="T")
    ada = Author.objects.create(name="Ada")
    register(Post, m2m=["readers"])

    async def change():
        await post.readers.aadd(ada)
        await post.readers.aset([])

    async_to_sync(change)()
    assert [item.event for item in sent] == ["updated", "updated"]


def test_async_publishing_ends_with_asyncio_run_too(sent, register):
    register(Author, track=True)

    async def life():
        author = await Author.objects.acreate(name="Ada")
        await author.asave()
        await author.adelete()

    run(life())
    assert [item.event for item in sent] == ["created", "updated", "deleted"]


# What a save must not suffer from


def test_a_tracked_row_may_be_copied_and_pickled_while_it_is_saved(sent, register):
    """Whatever is on the instance meanwhile is none of the others' business."""
    register(Author, track=True, node="/a")  # a class that pickle cannot find
    copies = []

    def receiver(sender, instance, **kwargs):
        copies.append(pickle.loads(pickle.dumps(instance)))
        copies.append(copy.deepcopy(instance))

    pubsub_first = [pre_save, post_save]
    for signal in pubsub_first:
        signal.connect(receiver, sender=Author)
    try:
        author = Author.objects.create(name="Ada")
        author.save()
    finally:
        for signal in pubsub_first:
            signal.disconnect(receiver, sender=Author)
    assert len(copies) == 8
    assert len(sent) == 2


def test_a_save_that_failed_leaves_nothing_for_the_next_one(sent, register):
    @register(Parcel)
    class BySender(Publication):
        track = True
        fields = ["token"]

        def get_nodes(self, instance, event):
            return f"/{instance.weight.to_integral_value()}"

    taken = Parcel.objects.create(weight=1)
    parcel = Parcel.objects.create(weight=2)
    parcel.token = taken.token
    with pytest.raises(IntegrityError):
        parcel.save()
    assert pickle.loads(pickle.dumps(parcel)) == parcel
    sent.clear()
    # The idiom that makes a copy of a row.
    parcel.pk, parcel._state.adding, parcel.token = None, True, uuid.uuid4()
    parcel.save()
    assert told(sent) == [("/2", str(parcel.pk), "created")]


def test_what_is_kept_between_two_signals_is_not_left_on_the_instance(sent, register):
    register(Author, track=True)
    author = Author.objects.create(name="Ada")
    author.save()
    assert {name for name in vars(author) if "pubsub" in name} == set()


def test_a_tracked_ticket_that_becomes_a_copy_does_not_retract_the_original(sent, register):
    """Its key is there before it is saved, so nothing is read; nothing is remembered either."""
    register(Ticket, track=True)
    original = Ticket.objects.create(visits=1)
    ticket = Ticket.objects.get()
    ticket.visits = "no number"
    with pytest.raises(ValueError, match="no number"):
        ticket.save()
    sent.clear()
    ticket.pk, ticket._state.adding, ticket.visits = uuid.uuid4(), True, 2
    ticket.save()
    assert told(sent) == [("/testapp/Ticket", str(ticket.pk), "created")]
    assert Ticket.objects.filter(pk=original.pk).exists()


def test_hooks_are_not_asked_by_a_model_that_is_not_registered(sent, register):
    register(Post)
    with CaptureQueriesContext(connection) as queries:
        Author.objects.create(name="Ada").delete()
    assert sent == []
    assert not [q for q in queries if q["sql"].startswith("SELECT") and "author" not in q["sql"]]


# Models that are defined late


def test_a_relation_through_a_model_that_is_defined_later_is_heard(sent, register, late_models):
    """As in the original's example, a model may be registered right after its definition."""

    class Club(models.Model):
        members = models.ManyToManyField(Author, through="Membership")

        class Meta:
            app_label = "testapp"

        def __str__(self):
            return "a club"

    register(Club, m2m=["members"])
    assert not [receiver for receiver in m2m_changed.receivers if receiver[0][1] == id(None)]

    class Membership(models.Model):
        club = models.ForeignKey(Club, models.CASCADE)
        author = models.ForeignKey(Author, models.CASCADE)

        class Meta:
            app_label = "testapp"

        def __str__(self):
            return "a membership"

    with tables_for(Club, Membership):
        club = Club.objects.create()
        sent.clear()
        club.members.add(Author.objects.create(name="Ada"))
    assert told(sent) == [("/testapp/Club", str(club.pk), "updated")]


def test_deleting_through_a_proxy_is_told_once(sent, register):
    register([Author, Penname])
    Author.objects.create(name="Ada")
    sent.clear()
    Penname.objects.get().delete()
    assert [(item.node, item.event) for item in sent] == [
        ("/testapp/Penname", "deleted"),
        ("/testapp/Author", "deleted"),
    ]
    assert post_delete.has_listeners(Penname)


def test_natural_keys_are_those_of_the_saved_row(sent, register):
    register(Badge, natural_keys=True, format="json")
    ada = Person.objects.create(email="ada@example.org")
    bo = Person.objects.create(email="bo@example.org")
    badge = Badge.objects.create(code="gold", person=ada)
    badge.person = bo
    badge.save()
    assert [data_of(item)["person"] for item in sent] == [["ada@example.org"], ["bo@example.org"]]
