"""pubsub/instances.py: what is published is what was saved."""

import datetime as dt
import json
import uuid
from decimal import Decimal

import django
import pytest
from django.db.models import F, Value
from hypothesis import given
from hypothesis import strategies as st

from pubsub.instances import (
    as_held,
    as_parent,
    as_saved,
    key_of,
    name_of,
    parents_of,
    primary_key,
)
from pubsub.rowxml import to_xml
from tests.testapp import models as testapp
from tests.testapp.models import Author, Pizzeria, Place, Restaurant, Ticket

pytestmark = pytest.mark.django_db

KEY = uuid.UUID("12345678-1234-5678-9abc-123456789abc")


def test_values_that_django_converts_while_it_saves_are_published_converted():
    ticket = Ticket.objects.create(day="2024-05-01", price="1.50", visits="7")
    saved = as_saved(ticket)
    assert (saved.day, saved.price, saved.visits) == (dt.date(2024, 5, 1), Decimal("1.50"), 7)
    assert ">2024-05-01<" in to_xml(ticket)
    assert ticket.day == "2024-05-01"  # the caller's stays as he left it


def test_an_expression_is_published_as_the_value_that_it_came_to():
    ticket = Ticket.objects.create(visits=1)
    ticket.visits = F("visits") + 1
    ticket.save()
    saved = as_saved(ticket)
    assert (saved.visits, saved.pk) == (2, ticket.pk)


def test_an_expression_of_a_row_that_is_not_there_cannot_be_published():
    with pytest.raises(ValueError, match=r"visits.*no row"):
        to_xml(Ticket(visits=Value(1)))


@pytest.mark.parametrize("text", [KEY.hex, str(KEY), str(KEY).upper(), f"{{{KEY}}}"])
def test_a_row_has_one_id_however_its_key_was_written(text):
    ticket = Ticket.objects.create(pk=text)
    assert primary_key(ticket) == str(KEY) == primary_key(Ticket.objects.get())


def test_a_generated_column_is_published_as_the_database_has_it(monkeypatch):
    ticket = Ticket.objects.create(price=1)
    monkeypatch.setattr(Ticket._meta.get_field("price"), "generated", True, raising=False)
    ticket.price = 7  # as after an update: Django before 6.0 does not read it again
    assert as_saved(ticket).price == 1


def test_a_key_is_known_when_the_row_is_gone_and_another_column_is_an_expression():
    ticket = Ticket.objects.create()
    key = ticket.pk
    ticket.visits = F("visits") + 1
    Ticket.objects.all().delete()
    assert primary_key(ticket) == str(key)


def test_an_instance_as_the_database_gave_it_is_taken_as_it_is(django_assert_num_queries):
    Ticket.objects.create(author=Author.objects.create(name="Ada"), day="2024-05-01")
    ticket = Ticket.objects.get()
    with django_assert_num_queries(0):
        assert as_saved(ticket) is ticket


def test_what_the_caller_has_cached_stays_cached(django_assert_num_queries):
    author = Author.objects.create(name="Ada")
    ticket = Ticket.objects.create(author_id=str(author.pk))
    ticket._state.fields_cache["author"] = author
    assert as_saved(ticket).author_id == author.pk
    with django_assert_num_queries(0):
        assert ticket.author is author


def test_a_field_that_cannot_convert_what_it_has_saved_is_left_alone(monkeypatch):
    monkeypatch.setattr(Ticket._meta.get_field("visits"), "to_python", json.loads)
    assert as_saved(Ticket(visits=7)).visits == 7


def test_a_value_that_its_field_does_not_take_is_left_alone():
    assert as_saved(Ticket(day="some day")).day == "some day"


NUMBERS = st.decimals(-9999, 9999, allow_nan=False, places=None).filter(
    lambda number: abs(number) < Decimal("9999.99")
)
VALUES = st.fixed_dictionaries(
    {
        "day": st.none() | st.dates().flatmap(lambda day: st.sampled_from([day, str(day)])),
        "price": NUMBERS.flatmap(lambda n: st.sampled_from([n, str(n)])) | st.integers(0, 9999),
        "visits": st.integers(-1000, 1000).flatmap(lambda n: st.sampled_from([n, str(n)])),
    }
)


@given(VALUES)
def test_what_is_published_after_a_save_is_what_a_reader_of_the_row_sees(values):
    ticket = Ticket.objects.create(**values)
    read = Ticket.objects.get(pk=ticket.pk)
    assert to_xml(as_saved(ticket)) == to_xml(read)
    assert primary_key(ticket) == primary_key(read) == key_of(Ticket, str(ticket.pk))


@given(VALUES, VALUES, st.sets(st.sampled_from(["day", "price", "visits"])))
def test_what_is_published_after_update_fields_is_what_a_reader_of_the_row_sees(
    first, second, written
):
    ticket = Ticket.objects.create(**first)
    for name, value in second.items():
        setattr(ticket, name, value)
    ticket.save(update_fields=written)
    held = dict(vars(ticket))
    read = Ticket.objects.get(pk=ticket.pk)
    assert to_xml(as_saved(ticket, written=written)) == to_xml(read)
    row = as_saved(ticket, (), written)
    assert [row.day, row.price, row.visits] == [read.day, read.price, read.visits]
    assert {name: value for name, value in vars(ticket).items() if name in held} == held


def test_what_is_not_needed_is_not_asked_for(django_assert_num_queries):
    Ticket.objects.create(visits=7)
    ticket = Ticket.objects.defer("visits", "price").get()
    with django_assert_num_queries(0):
        assert as_saved(ticket, ()) is ticket
    price = Ticket._meta.get_field("price")
    with django_assert_num_queries(1):
        row = as_saved(ticket, {price})
    assert row.get_deferred_fields() == {"visits"}
    assert ticket.get_deferred_fields() == {"visits", "price"}


def test_a_row_that_is_gone_is_not_asked(django_assert_num_queries):
    ticket = Ticket.objects.create(day="2024-05-01", price="1.5")
    ticket.visits = F("visits") + 1
    Ticket.objects.all().delete()
    with django_assert_num_queries(0):
        held = as_held(ticket)
        assert (held.day, str(held.price)) == (dt.date(2024, 5, 1), "1.50")
    assert held.get_deferred_fields() == {"visits"}
    assert ticket.day == "2024-05-01"


def test_an_instance_that_is_gone_is_taken_as_it_is_where_nothing_differs():
    Ticket.objects.create()
    ticket = Ticket.objects.get()
    assert as_held(ticket) is ticket


def test_a_caller_who_has_a_relation_cached_keeps_it_when_another_is_saved(
    django_assert_num_queries,
):
    ada, bo = Author.objects.create(name="Ada"), Author.objects.create(name="Bo")
    ticket = Ticket.objects.create(author=ada)
    ticket.author = bo
    row = as_saved(ticket, written=["visits"])
    assert row.author == ada
    with django_assert_num_queries(0):
        assert ticket.author is bo


def test_the_part_of_a_row_in_a_parents_table_has_no_more_than_that():
    pizzeria = Pizzeria.objects.create(name="P", stars=3, oven="wood")
    place = as_parent(pizzeria, Place)
    assert type(place) is Place
    assert (place.pk, place.name) == (pizzeria.pk, "P")
    assert not hasattr(place, "stars")
    assert not place._state.adding
    assert place._state.db == "default"


def test_a_column_of_a_parent_that_was_deferred_stays_so(django_assert_num_queries):
    Pizzeria.objects.create(name="P")
    with django_assert_num_queries(1):
        place = as_parent(Pizzeria.objects.defer("name").get(), Place)
    with django_assert_num_queries(1):
        assert place.name == "P"


def test_parents_are_named_from_the_eldest_on():
    assert parents_of(Pizzeria) == (Place, Restaurant)
    assert parents_of(Place) == ()


def test_a_row_is_named_by_its_key_and_not_by_its_text():
    author = Author.objects.create(name="a secret")
    assert name_of(author) == f"testapp.Author {author.pk}"


if django.VERSION >= (5, 2):

    @pytest.mark.parametrize("day", ["2024-05-01", dt.date(2024, 5, 1)])
    @pytest.mark.parametrize("number", [7, "7"])
    def test_a_key_of_two_columns_is_one_id_however_it_was_written(day, number):
        booking = testapp.Booking.objects.create(day=day, number=number)
        expected = '["2024-05-01", "7"]'
        assert primary_key(booking) == primary_key(testapp.Booking.objects.get()) == expected
        assert key_of(testapp.Booking, (day, number)) == expected
