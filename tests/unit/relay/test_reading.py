"""Tests of pubsub.relay.reading."""

import pytest
from django.apps import apps
from django.db import transaction

from pubsub import Publication, publish_rows, pubsub
from pubsub.context import originating
from pubsub.exceptions import InvalidItem
from pubsub.models import OutboxItem, State
from pubsub.relay.lanes import Stripe
from pubsub.relay.reading import Reader, key_from
from tests.testapp.models import Author, Person, Pizzeria, Post, Seat, Ticket

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("worker")]


def read():
    """Let a relay read what has changed."""
    reader = Reader(Stripe("default"))
    return sum(iter(reader.turn, 0))


def told():
    rows = OutboxItem.objects.filter(change__isnull=True).order_by("pk")
    return [(row.node, row.item_id, row.event) for row in rows]


def payloads():
    return [row.payload for row in OutboxItem.objects.filter(change__isnull=True).order_by("pk")]


def test_a_changed_row_is_read_as_it_is_when_the_relay_comes(register):
    register(Post, m2m=["readers"], format="json")
    with originating("page"):
        post = Post.objects.create(title="first")
    Post.objects.update(title="last")
    ada = Author.objects.create(name="Ada")
    Post.readers.through.objects.create(post=post, author=ada)
    assert read() == 1
    (payload,) = payloads()
    assert '"title": "last"' in payload
    assert f'"readers": [{ada.pk}]' in payload
    assert 'origin="page"' in payload
    assert told() == [("/testapp/Post", str(post.pk), "created")]


def test_each_change_of_a_row_with_relations_is_told(register):
    register(Post, m2m=["readers"])
    post = Post.objects.create(title="Tea")
    post.readers.add(Author.objects.create(name="Ada"))
    assert read() == 2
    assert [event for _, _, event in told()] == ["created", "updated"]


def test_a_row_that_is_gone_is_told_by_its_deletion_alone(register):
    register(Post, m2m=["readers"])
    post = Post.objects.create(title="Tea")
    post.delete()
    assert read() == 1
    assert [event for _, _, event in told()] == ["deleted"]


def test_where_a_row_has_left_is_told(register):
    @register(Seat)
    class SeatPublication(Publication):
        track = True

        def get_nodes(self, instance, event):
            return [f"/row/{instance.row}"]

    seat = Seat.objects.create(number=1)
    OutboxItem.objects.all().delete()
    Seat.objects.update(row="B")
    read()
    assert told() == [
        ("/row/B", str(seat.pk), "updated"),
        ("/row/A", str(seat.pk), "deleted"),
    ]


def test_what_is_published_by_hand_waits_for_no_interval(register):
    register(Seat, throttle=60, events=["deleted"])
    Seat.objects.bulk_create([Seat(number=1)])
    publish_rows(Seat.objects.all())
    read()
    assert [(row.event, row.interval) for row in OutboxItem.objects.all()] == [("updated", None)]


def test_an_interval_stays_with_the_items_of_a_row(register):
    register(Seat, throttle=60)
    Seat.objects.bulk_create([Seat(number=1)])
    read()
    assert OutboxItem.objects.get().interval == 60


def test_what_a_hook_raises_sets_the_row_aside_and_is_told(register, failures):
    class Public(Publication):
        def should_publish(self, instance, event):
            if instance.number == 2:
                raise InvalidItem("no opinion")
            return True

    register(Seat, Public)
    Seat.objects.bulk_create([Seat(number=n) for n in (1, 2, 3)])
    assert read() == 3
    assert len(told()) == 2
    row = OutboxItem.objects.get(state=State.REFUSED)
    assert row.error == "InvalidItem: no opinion"
    assert len(failures) == 1


def test_a_row_that_cannot_be_read_holds_up_no_other(register):
    register(Seat)
    Seat.objects.bulk_create([Seat(number=n) for n in (1, 2, 3)])
    bad = OutboxItem.objects.order_by("pk")[1]
    bad.change["pk"] = "no number"
    bad.save()
    assert read() == 3
    assert len(told()) == 2
    bad.refresh_from_db()
    assert bad.state == State.REFUSED
    assert "no number" in bad.error


def test_a_row_that_moved_and_is_gone_leaves_where_it_was(register):
    class Rows(Publication):
        track = True

        def get_nodes(self, instance, event):
            return [f"/row/{instance.row}"]

    register(Seat, Rows)
    seat = Seat.objects.create(number=1)
    pk = str(seat.pk)
    OutboxItem.objects.all().delete()
    Seat.objects.update(row="B")
    Seat.objects.get().delete()
    read()
    assert sorted(told()) == [("/row/A", pk, "deleted"), ("/row/B", pk, "deleted")]


def test_a_model_that_is_no_longer_registered_is_set_aside(register):
    register(Seat)
    Seat.objects.bulk_create([Seat(number=1)])
    pubsub.unregister(Seat)
    try:
        read()
    finally:
        register(Seat)
    assert "testapp.Seat is not registered any more" in OutboxItem.objects.get().error


def test_a_model_that_is_no_longer_there_is_set_aside(register):
    register(Seat)
    Seat.objects.bulk_create([Seat(number=1), Seat(number=2)])
    for row in OutboxItem.objects.all():
        row.change["model"] = "testapp.Gone"
        row.save()
    assert read() == 2
    assert {row.state for row in OutboxItem.objects.all()} == {State.REFUSED}


def test_many_rows_are_read_in_several_turns(register):
    register(Seat)
    Seat.objects.bulk_create([Seat(number=n) for n in range(250)])
    assert read() == 250
    assert len(told()) == 250
    assert not OutboxItem.objects.filter(state=State.UNREAD).exists()


def test_what_was_changed_in_a_transaction_that_rolls_back_is_not_read(register):
    register(Seat)
    seat = Seat.objects.create(number=1)
    OutboxItem.objects.all().delete()
    with transaction.atomic():
        Seat.objects.update(number=2)
        transaction.set_rollback(True)
    assert read() == 0
    assert Seat.objects.get(pk=seat.pk).number == 1


def test_a_row_of_a_child_is_one_of_its_parent(register):
    from tests.testapp.models import Place

    register(Place)
    pizzeria = Pizzeria.objects.create(name="Ada's")
    publish_rows(Pizzeria.objects.all())
    read()
    assert told()[-1] == ("/testapp/Place", str(pizzeria.pk), "updated")


@pytest.mark.parametrize(
    ("model", "text", "key"),
    [
        (Author, "7", 7),
        (Ticket, "00000000-0000-0000-0000-000000000007", None),
        (Person, "7", 7),
    ],
    ids=["number", "uuid", "other"],
)
def test_a_key_is_read_back_as_it_was(model, text, key):
    found = key_from(model, text)
    assert str(found) == text
    assert key is None or found == key


def test_every_model_of_the_tests_has_a_key_that_comes_back():
    for model in apps.get_app_config("testapp").get_models():
        field = model._meta.pk
        if field.get_internal_type() in ("BigAutoField", "AutoField"):
            assert key_from(model, "12") == 12
