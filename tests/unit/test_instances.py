"""pubsub/instances.py: what is published is what was saved."""

import datetime as dt
import json
import uuid
from decimal import Decimal

import pytest
from django.db.models import F, Value

from pubsub.instances import as_saved, primary_key
from pubsub.rowxml import to_xml
from tests.testapp.models import Author, Ticket

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
    ticket = Ticket.objects.create(visits=1)
    monkeypatch.setattr(Ticket._meta.get_field("visits"), "generated", True, raising=False)
    ticket.visits = 7  # as after an update: Django before 6.0 does not read it again
    assert as_saved(ticket).visits == 1


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
