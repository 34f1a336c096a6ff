"""pubsub/querysets.py: what bulk operations change is published, and nothing else."""

import datetime as dt
import gc
import tracemalloc
import warnings

import django
import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q
from django.db.models.signals import post_delete
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from pubsub import Publication, PublishedQuerySet, pubsub
from pubsub.signals import publish_failed
from tests.testapp import models
from tests.testapp.models import Author, Lounge, Seat, Shelf

pytestmark = pytest.mark.django_db(transaction=True)


def told(items):
    return [(item.id, item.event) for item in items]


def seats(*numbers, **values):
    return [Seat(number=number, **values) for number in numbers]


@pytest.fixture
def failures():
    """What publish_failed said."""
    said = []
    publish_failed.connect(lambda **kw: said.append(kw), weak=False, dispatch_uid="test")
    yield said
    publish_failed.disconnect(dispatch_uid="test")


@pytest.fixture
def three(sent, register):
    """Three seats that are there, of a model that is registered now."""
    created = Seat.objects.bulk_create(seats(1, 2, 3))
    assert sent == []
    register(Seat)
    return created


# bulk_create


def test_bulk_create_publishes_each_new_row_in_order(sent, register):
    register(Seat)
    created = Seat.objects.bulk_create(seats(3, 1, 2))
    assert told(sent) == [(str(seat.pk), "created") for seat in created]
    assert [f">{n}<" in item.payload for n, item in zip([3, 1, 2], sent, strict=True)] == [True] * 3


def test_bulk_create_takes_a_generator_and_returns_what_django_returns(sent, register):
    register(Seat)
    created = Seat.objects.bulk_create(seat for seat in seats(1, 2))
    assert [seat.number for seat in created] == [1, 2]
    assert len(sent) == 2
    assert Seat.objects.bulk_create([]) == []


def test_ignored_conflicts_are_not_published(sent, three):
    Seat.objects.bulk_create(seats(3, 4, row="Z"), ignore_conflicts=True, unique_fields=["number"])
    assert told(sent) == [(str(Seat.objects.get(number=4).pk), "created")]


def test_conflicts_of_other_columns_than_the_key_are_not_published(sent, three):
    keyed = [Seat(pk=100, number=3), Seat(pk=101, number=4)]
    Seat.objects.bulk_create(keyed, ignore_conflicts=True)
    assert told(sent) == [("101", "created")]


def test_updated_conflicts_are_published_as_updates(sent, three):
    Seat.objects.bulk_create(
        seats(3, 4, row="Z"),
        update_conflicts=True,
        update_fields=["row"],
        unique_fields=["number"],
    )
    assert sorted(told(sent)) == sorted(
        [(str(three[2].pk), "updated"), (str(Seat.objects.get(number=4).pk), "created")]
    )
    assert all(">Z<" in item.payload for item in sent)


def test_conflicts_of_the_primary_key_are_told_apart_from_new_rows(sent, three):
    new = three[2].pk + 1000  # keys grow from one test to the next
    for pk in ("pk", "id"):
        sent.clear()
        rows = [Seat(pk=three[0].pk, number=1, row=pk), Seat(number=9, row=pk)]
        rows[1].pk = new
        Seat.objects.bulk_create(
            rows, update_conflicts=True, update_fields=["row"], unique_fields=[pk]
        )
        assert told(sent) == [(str(three[0].pk), "updated"), (str(new), "created")]
        Seat.objects.filter(pk=new).delete()


def test_relations_among_the_unique_fields_cost_no_query_for_each_row(sent, register):
    authors = [Author.objects.create(name=str(n)) for n in range(10)]
    Shelf.objects.create(owner=authors[0], number=1)
    register(Shelf)
    shelves = [Shelf(owner_id=author.pk, number=1, label="new") for author in authors]
    with CaptureQueriesContext(connection) as queries:
        Shelf.objects.bulk_create(
            shelves,
            update_conflicts=True,
            update_fields=["label"],
            unique_fields=["owner", "number"],
        )
    assert sorted(item.event for item in sent) == ["created"] * 9 + ["updated"]
    assert [q["sql"] for q in queries if "testapp_author" in q["sql"].split("WHERE")[0]] == []


def test_new_rows_that_nobody_can_know_are_told_of_once(sent, three, failures):
    Seat.objects.bulk_create(seats(*range(3, 50)), ignore_conflicts=True)
    assert Seat.objects.count() == 49
    assert sent == []
    (failure,) = failures
    assert failure["about"] == "47 rows of testapp.Seat"
    assert "unique_fields" in str(failure["error"])


def test_bulk_create_without_the_keys_of_new_rows_is_told_once(
    sent, register, failures, monkeypatch
):
    monkeypatch.setattr(connection.features, "can_return_columns_from_insert", False)
    register(Seat)
    Seat.objects.bulk_create(seats(1, 2, 3))
    assert Seat.objects.count() == 3
    assert sent == []
    (failure,) = failures
    assert failure["about"] == "3 rows of testapp.Seat"
    assert "publish_rows" in str(failure["error"])


def test_a_bulk_create_that_fails_publishes_nothing_and_raises_as_django_does(sent, three):
    with pytest.raises(IntegrityError):
        Seat.objects.bulk_create(seats(4, 5, 3))
    assert Seat.objects.count() == 3
    assert sent == []


# bulk_update


def test_bulk_update_publishes_each_row_once(sent, three):
    for seat in three:
        seat.row = "Z"
    assert Seat.objects.bulk_update(three, ["row"]) == 3
    assert told(sent) == [(str(seat.pk), "updated") for seat in three]
    assert all(">Z<" in item.payload for item in sent)


def test_bulk_update_in_batches_publishes_each_row_once(sent, three):
    for seat in three:
        seat.row = "Z"
    assert Seat.objects.bulk_update(iter(three), ["row"], batch_size=2) == 3
    assert told(sent) == [(str(seat.pk), "updated") for seat in three]


def test_bulk_update_with_expressions_publishes_their_values(sent, three):
    for seat in three:
        seat.number = F("number") + 100
    Seat.objects.bulk_update(three, ["number"])
    assert [f">{n}<" in item.payload for n, item in zip([101, 102, 103], sent, strict=True)] == [
        True
    ] * 3


def test_a_bulk_update_of_rows_that_are_gone_publishes_those_that_are_there(sent, three):
    Seat.objects.filter(number=2).delete()
    sent.clear()
    assert Seat.objects.bulk_update(three, ["row"]) == 2
    assert told(sent) == [(str(three[0].pk), "updated"), (str(three[2].pk), "updated")]


@pytest.mark.parametrize("fields", [[], ["id"]])
def test_a_bulk_update_that_django_refuses_is_refused_alike(sent, three, fields):
    with pytest.raises(ValueError, match=r"Field names|primary key"):
        Seat.objects.bulk_update(three, fields)
    with transaction.atomic():
        with pytest.raises(ValueError, match=r"Field names|primary key"):
            Seat.objects.bulk_update(three, fields)
        assert Seat.objects.count() == 3  # the transaction goes on
    assert sent == []


# update


def test_update_publishes_what_it_changed(sent, three):
    assert Seat.objects.filter(number__gte=2).update(row="Z") == 2
    assert told(sent) == [(str(seat.pk), "updated") for seat in three[1:]]
    assert all(">Z<" in item.payload for item in sent)


def test_update_publishes_rows_that_its_own_filter_does_not_find_any_more(sent, three):
    assert Seat.objects.filter(row="A").update(row="Z") == 3
    assert len(sent) == 3


def test_update_with_an_expression_publishes_the_value_of_each_row(sent, three):
    Seat.objects.update(number=F("number") + 100)
    assert [f">{n}<" in item.payload for n, item in zip([101, 102, 103], sent, strict=True)] == [
        True
    ] * 3


def test_update_of_nothing_publishes_nothing(sent, three):
    assert Seat.objects.filter(number=99).update(row="Z") == 0
    assert Seat.objects.none().update(row="Z") == 0
    assert sent == []


def test_a_row_found_twice_by_a_join_is_published_once(sent, three):
    sitters = [Author.objects.create(name=str(n)) for n in range(2)]
    three[0].sitters.set(sitters)
    assert Seat.objects.filter(sitters__in=sitters).update(taken=True) == 1
    assert told(sent) == [(str(three[0].pk), "updated")]


@pytest.mark.parametrize(
    "chosen",
    [
        lambda: Seat.objects.order_by("-number"),
        lambda: Seat.objects.distinct(),
        lambda: Seat.objects.annotate(next=F("number") + 1).filter(next__gt=0),
        lambda: Seat.objects.annotate(n=django.db.models.Count("sitters")).filter(n=0),
        lambda: Seat.objects.values("row"),
        lambda: Seat.objects.select_for_update(),
        lambda: Seat.objects.exclude(number=99),
        lambda: Seat.objects.filter(Q(number=1) | Q(number__gt=1)),
        lambda: Seat.objects.only("row"),
        lambda: Seat.objects.filter(number__in=[1, 2, 3]).filter(pk__gt=0).select_related(),
    ],
    ids=range(10),
)
def test_whatever_queryset_is_updated_is_published(sent, three, chosen):
    assert chosen().update(row="Z") == 3
    assert sorted(told(sent)) == sorted((str(seat.pk), "updated") for seat in three)


def test_an_update_of_a_slice_is_refused_as_django_does_and_the_transaction_goes_on(sent, three):
    with transaction.atomic():
        with pytest.raises(TypeError, match="slice"):
            Seat.objects.all()[:2].update(row="Z")
        with pytest.raises(django.core.exceptions.FieldDoesNotExist):
            Seat.objects.update(nothing="Z")
        assert Seat.objects.filter(row="Z").count() == 0
    assert sent == []


# delete


def test_delete_retracts_each_row(sent, three):
    assert Seat.objects.filter(number__gte=2).delete() == (2, {"testapp.Seat": 2})
    assert sorted(told(sent)) == sorted((str(seat.pk), "deleted") for seat in three[1:])
    assert all(item.is_retraction for item in sent)


def test_a_delete_takes_what_hangs_on_the_rows_along(sent, register):
    owner = Author.objects.create(name="Ada")
    shelf = Shelf.objects.create(owner=owner, number=1)
    register([Author, Shelf])
    pk = owner.pk
    PublishedQuerySet(Author).delete()
    assert sorted((item.node, item.id) for item in sent) == [
        ("/testapp/Author", str(pk)),
        ("/testapp/Shelf", str(shelf.pk)),
    ]


def test_a_delete_that_is_rolled_back_retracts_nothing(sent, three):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Seat.objects.all().delete()
        raise ZeroDivisionError
    assert Seat.objects.count() == 3
    assert sent == []


def test_of_a_log_a_delete_is_an_entry(sent, register):
    register(Seat, item_id=None)
    Seat.objects.bulk_create(seats(1, 2))
    sent.clear()
    Seat.objects.all().delete()
    assert [(item.id, item.event, item.is_retraction) for item in sent] == [
        (None, "deleted", False),
        (None, "deleted", False),
    ]


# The async twins


def test_the_async_twins_publish_alike(sent, register):
    register(Seat)

    async def change():
        created = await Seat.objects.abulk_create(seats(1, 2))
        for seat in created:
            seat.row = "B"
        await Seat.objects.abulk_update(created, ["row"])
        await Seat.objects.filter(number=2).aupdate(taken=True)
        await Seat.objects.filter(number=1).adelete()

    async_to_sync(change)()
    assert [item.event for item in sent] == [
        *["created", "created", "updated", "updated", "updated", "deleted"]
    ]


def test_the_async_twins_are_muted_alike(sent, three):
    async def change():
        with pubsub.muted():
            await Seat.objects.aupdate(row="Z")
            await Seat.objects.abulk_create(seats(4))
            await Seat.objects.all().adelete()

    async_to_sync(change)()
    assert Seat.objects.count() == 0
    assert sent == []


# Who is concerned


def operations():
    created = Seat.objects.bulk_create(seats(1, 2, 3))
    Seat.objects.bulk_update(created, ["row"])
    Seat.objects.filter(number=1).update(row="Z")
    Seat.objects.filter(number=2).delete()


def test_a_model_that_is_not_registered_costs_not_one_query_more(sent):
    with CaptureQueriesContext(connection) as ours:
        operations()
    Seat.objects.all().delete()
    plain = django.db.models.QuerySet(Seat)
    with CaptureQueriesContext(connection) as theirs:
        created = plain.bulk_create(seats(1, 2, 3))
        plain.bulk_update(created, ["row"])
        plain.filter(number=1).update(row="Z")
        plain.filter(number=2).delete()
    assert len(ours) == len(theirs) > 4
    assert sent == []


def test_what_is_muted_is_not_published_and_costs_no_query(sent, three):
    with CaptureQueriesContext(connection) as queries, pubsub.muted():
        Seat.objects.update(row="Z")
    assert len(queries) == 1
    assert sent == []
    with pubsub.muted():
        Seat.objects.bulk_create(seats(4))
        Seat.objects.bulk_update(three, ["row"])
        Seat.objects.all().delete()
    assert sent == []


def test_events_that_are_not_published_are_left_out(sent, register):
    register(Seat, events=["deleted"])
    operations()
    assert [item.event for item in sent] == ["deleted"]


def test_several_batches_cost_two_queries_each_and_no_more(sent, register):
    with pubsub.muted():
        Seat.objects.bulk_create(seats(*range(1200)))
    register(Seat)
    with CaptureQueriesContext(connection) as queries:
        Seat.objects.update(row="Z")
    selects = [q for q in queries if q["sql"].startswith("SELECT")]
    assert len(selects) == 1 + 3
    assert len(sent) == 1200


def test_a_related_manager_publishes_what_it_updates(sent, register):
    owner = Author.objects.create(name="Ada")
    register(Shelf)
    owner.shelf_set.bulk_create([Shelf(owner=owner, number=n) for n in range(2)])
    owner.shelf_set.update(label="new")
    owner.shelf_set.all().delete()
    assert [item.event for item in sent] == ["created"] * 2 + ["updated"] * 2 + ["deleted"] * 2


def test_with_a_published_base_manager_rows_added_to_a_relation_are_published_once(sent, register):
    ada, bo = (Author.objects.create(name=name) for name in ("Ada", "Bo"))
    shelves = [Shelf.objects.create(owner=ada, number=n) for n in range(2)]
    register(Shelf)
    bo.shelf_set.add(*shelves)
    assert told(sent) == [(str(shelf.pk), "updated") for shelf in shelves]
    sent.clear()
    shelves[0].save()
    shelves[1].delete()
    assert [item.event for item in sent] == ["updated", "deleted"]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_what_a_receiver_deletes_elsewhere_is_told_with_the_commit_of_its_own_database(
    sent, register
):
    Seat.objects.bulk_create(seats(1))
    there = Author.objects.using("other").create(name="there")
    register([Seat, Author])

    def delete_there(**kwargs):
        with transaction.atomic(using="other"):
            there.delete()
        assert [item.node for item in sent] == ["/testapp/Author"]
        assert sent[0].is_retraction

    post_delete.connect(delete_there, sender=Seat)
    try:
        Seat.objects.all().delete()
    finally:
        post_delete.disconnect(delete_there, sender=Seat)
    assert [item.node for item in sent] == ["/testapp/Author", "/testapp/Seat"]


def test_the_memory_of_an_update_does_not_grow_with_the_number_of_rows(settings, register):
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"
    Seat.objects.bulk_create(seats(*range(3_000), row="x"))
    register(Seat)

    def peak(count):
        gc.collect()
        tracemalloc.start()
        try:
            assert Seat.objects.filter(number__lt=count).update(taken=True) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(600)
    assert peak(3_000) < 1.5 * peak(1_000) + 500_000


def test_what_a_parent_publishes_is_updated_with_its_child(sent, register):
    lounge = Lounge.objects.create(number=1)
    register([Seat, Lounge])
    assert Lounge.objects.update(row="Z", sofa=True) == 1
    assert sorted((item.node, item.id) for item in sent) == [
        ("/testapp/Lounge", str(lounge.pk)),
        ("/testapp/Seat", str(lounge.pk)),
    ]
    assert all(">Z<" in item.payload for item in sent)
    sent.clear()
    Lounge.objects.all().delete()
    assert sorted((item.node, item.event) for item in sent) == [
        ("/testapp/Lounge", "deleted"),
        ("/testapp/Seat", "deleted"),
    ]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_each_database_is_published_from_with_its_own_commit(sent, register):
    register(Seat)
    with transaction.atomic():
        Seat.objects.using("other").bulk_create(seats(7, row="O"))
        assert len(sent) == 1
        Seat.objects.using("other").update(taken=True)
        Seat.objects.bulk_create(seats(8, row="D"))
        assert len(sent) == 2
    assert [">O<" in item.payload for item in sent] == [True, True, False]
    Seat.objects.using("other").all().delete()
    assert sent[-1].is_retraction
    assert Seat.objects.count() == 1


if django.VERSION >= (5, 2):

    def test_rows_with_composite_keys_are_published(sent, register):
        register(models.Booking)
        day = dt.date(2026, 1, 31)
        bookings = [models.Booking(day=day, number=n) for n in range(1200)]
        models.Booking.objects.bulk_create(bookings)
        assert len(sent) == len({item.id for item in sent}) == 1200
        ids = {item.id for item in sent}
        sent.clear()
        models.Booking.objects.filter(number__lt=700).update(name="Ada")
        assert len(sent) == 700
        assert {item.id for item in sent} < ids
        sent.clear()
        models.Booking.objects.bulk_create(
            [models.Booking(day=day, number=n, name="Bo") for n in (0, 2000)],
            update_conflicts=True,
            update_fields=["name"],
            unique_fields=["day", "number"],
        )
        assert sorted(item.event for item in sent) == ["created", "updated"]
        sent.clear()
        models.Booking.objects.bulk_create(
            [models.Booking(day=day, number=n) for n in (0, 3000)], ignore_conflicts=True
        )
        assert [item.event for item in sent] == ["created"]
        sent.clear()
        models.Booking.objects.all().delete()
        assert [item.event for item in sent] == ["deleted"] * 1202


# Transactions


def test_what_is_rolled_back_is_not_published_and_leaves_nothing_open(sent, register):
    register(Seat, fields=["number"], get_payload=lambda self, instance, event: "x" * 2000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Seat.objects.bulk_create(seats(*range(2000)))
            raise ZeroDivisionError
        gc.collect()
    assert sent == []


def test_a_savepoint_that_is_rolled_back_takes_its_rows_along(sent, three):
    with transaction.atomic():
        Seat.objects.filter(number=1).update(row="Y")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Seat.objects.filter(number=2).update(row="Z")
            raise ZeroDivisionError
    assert told(sent) == [(str(three[0].pk), "updated")]


def test_rows_are_published_as_they_are_at_the_commit(sent, three):
    with transaction.atomic():
        Seat.objects.update(row="Y")
        PublishedQuerySet(Seat).filter(number=1).update(row="Z")
    assert ">Z<" in [item for item in sent if item.id == str(three[0].pk)][-1].payload
    assert not any(">Y<" in item.payload for item in sent if item.id == str(three[0].pk))


def test_a_row_saved_before_and_updated_in_bulk_is_published_once(sent, three):
    with transaction.atomic():
        three[0].row = "Y"
        three[0].save()
        Seat.objects.update(row="Z")
    assert sorted(told(sent)) == sorted((str(seat.pk), "updated") for seat in three)
    assert all(">Z<" in item.payload for item in sent)


def test_a_row_updated_in_bulk_and_saved_after_is_published_once(sent, three):
    with transaction.atomic():
        Seat.objects.update(row="Y")
        three[0].row = "Z"
        three[0].save()
    assert sorted(told(sent)) == sorted((str(seat.pk), "updated") for seat in three)
    assert [">Z<" in item.payload for item in sent if item.id == str(three[0].pk)] == [True]


def test_a_row_created_by_hand_and_updated_in_bulk_is_published_once_as_new(sent, register):
    register(Seat)
    with transaction.atomic():
        seat = Seat.objects.create(number=1)
        Seat.objects.update(row="Z")
    assert told(sent) == [(str(seat.pk), "created")]
    assert ">Z<" in sent[0].payload


def test_a_row_created_in_bulk_and_saved_after_is_published_once_as_new(sent, register):
    register(Seat)
    with transaction.atomic():
        first, _ = Seat.objects.bulk_create(seats(1, 2))
        first.row = "Z"
        first.save()
    assert [item.event for item in sent] == ["created", "created"]
    assert [">Z<" in item.payload for item in sent] == [True, False]


def test_a_row_created_in_bulk_and_deleted_is_not_told_to_be_new(sent, register):
    register(Seat)
    with transaction.atomic():
        first, second = Seat.objects.bulk_create(seats(1, 2))
        pk = first.pk
        first.delete()
    assert (str(pk), "created") not in told(sent)
    assert (str(second.pk), "created") in told(sent)


def test_a_row_saved_and_then_deleted_in_bulk_is_retracted_once(sent, three):
    with transaction.atomic():
        three[0].save()
        Seat.objects.all().delete()
    assert sorted(told(sent)) == sorted((str(pk), "deleted") for pk in (1, 2, 3)) or len(sent) == 3
    assert all(item.is_retraction for item in sent)


def test_a_row_created_and_deleted_in_bulk_is_not_published(sent, register):
    register(Seat)
    with transaction.atomic():
        Seat.objects.create(number=1)
        Seat.objects.all().delete()
    assert sent == []


def test_a_row_deleted_in_bulk_and_created_again_is_there_in_the_end(sent, three):
    with transaction.atomic():
        Seat.objects.all().delete()
        Seat(pk=three[0].pk, number=1, row="Z").save(force_insert=True)
    last = [item for item in sent if item.id == str(three[0].pk)][-1] if three[0].pk else sent[-1]
    assert not last.is_retraction
    assert ">Z<" in last.payload


def test_a_rolled_back_save_does_not_silence_the_bulk_update_before_it(sent, three):
    with transaction.atomic():
        Seat.objects.update(row="Y")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            three[0].row = "Z"
            three[0].save()
            raise ZeroDivisionError
    assert len(sent) == 3
    assert all(">Y<" in item.payload for item in sent)


def test_a_rolled_back_bulk_update_does_not_silence_the_save_before_it(sent, three):
    with transaction.atomic():
        three[0].row = "Y"
        three[0].save()
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Seat.objects.update(row="Z")
            raise ZeroDivisionError
    assert told(sent) == [(str(three[0].pk), "updated")]
    assert ">Y<" in sent[0].payload


def test_the_state_of_a_bulk_update_is_older_than_that_of_a_later_transaction(sent, three):
    """Whoever changes a row after us is right, even if he is told of before us."""
    late = []

    def receive(**kwargs):
        """Between the commit and the reading of the rows another one changes a row."""
        if not late:
            late.append(True)
            Seat.objects.get(pk=three[2].pk).save()

    pubsub.unregister(Seat)

    class Interrupted(Publication):
        def get_nodes(self, instance, event):
            if instance.number == 1:
                receive()
            return self.nodes

    pubsub.register(Seat, Interrupted)
    Seat.objects.filter(number__in=[1, 3]).update(row="Z")
    ours, theirs = (
        [item.sequence for item in sent if item.id == str(three[2].pk)][place] for place in (1, 0)
    )
    assert ours < theirs


@pytest.mark.django_db(transaction=False)
def test_what_a_test_keeps_of_commits_that_are_over_silences_no_later_one(sent, register):
    register(Seat)
    with TestCase.captureOnCommitCallbacks(execute=True) as kept:
        (seat,) = Seat.objects.bulk_create(seats(1))
        seat.save()
    assert [item.event for item in sent] == ["created"]
    with TestCase.captureOnCommitCallbacks(execute=True):
        seat.save()
    assert [item.event for item in sent] == ["created", "updated"]
    assert kept


# Options


def test_a_row_that_stops_fulfilling_the_condition_is_retracted(sent, register):
    class Free(Publication):
        def should_publish(self, instance, event):
            return not instance.taken

    with pubsub.muted():
        Seat.objects.bulk_create(seats(1, 2))
    register(Seat, Free)
    Seat.objects.filter(number=1).update(taken=True)
    assert [(item.event, item.is_retraction) for item in sent] == [("deleted", True)]
    sent.clear()
    Seat.objects.update(taken=False)
    assert [item.event for item in sent] == ["updated", "updated"]


@pytest.mark.parametrize("how", ["update", "bulk_update"])
def test_with_track_a_row_is_retracted_from_the_nodes_that_it_leaves(sent, register, how):
    class ByRow(Publication):
        track = True

        def get_nodes(self, instance, event):
            return f"/rows/{instance.row}"

    created = Seat.objects.bulk_create(seats(1, 2))
    register(Seat, ByRow)
    if how == "update":
        Seat.objects.filter(number=1).update(row="B")
    else:
        created[0].row = "B"
        Seat.objects.bulk_update(created[:1], ["row"])
    pk = str(created[0].pk)
    assert sorted((item.node, item.id, item.is_retraction) for item in sent) == [
        ("/rows/A", pk, True),
        ("/rows/B", pk, False),
    ]


def test_a_hook_that_raises_for_one_row_is_told_and_the_others_are_published(
    sent, register, failures
):
    class Picky(Publication):
        def get_payload(self, instance, event):
            if instance.number == 2:
                raise ZeroDivisionError
            return str(instance.number)

    register(Seat, Picky)
    _, bad, _ = Seat.objects.bulk_create(seats(1, 2, 3))
    assert len(sent) == 2
    (failure,) = failures
    assert failure["about"] == f"testapp.Seat {bad.pk} (created)"


def test_throttled_rows_are_held_back_by_bulk_operations_too(sent, register):
    register(Seat, throttle=1000)
    with pubsub.muted():
        Seat.objects.bulk_create(seats(1, 2))
    for row in "XYZ":
        Seat.objects.update(row=row)
    assert [">X<" in item.payload for item in sent] == [True, True]
    Seat.objects.all().delete()
    assert [item.is_retraction for item in sent[2:]] == [True, True]
