"""pubsub/test.py: what the tests of a project can say about what it publishes."""

import unittest
import uuid
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from django.db import transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from pubsub import publish, retract
from pubsub.backends import get_backend
from pubsub.backends.locmem import LocmemBackend
from pubsub.items import UPDATED, make_item
from pubsub.test import Published, PubSubTestMixin
from pubsub.test import published as published_fixture
from pubsub.throttling import throttle
from tests.testapp.models import Author, Everything, Penname, Post

NOON = datetime(2026, 5, 4, 12, 0, 0, 123000, tzinfo=timezone.utc)
ENTRY = "<entry xmlns='http://www.w3.org/2005/Atom'><title>T</title></entry>"


@pytest.mark.django_db
def test_a_capture_is_the_transaction_that_a_test_never_commits(published, register):
    register(Author)
    author = Author.objects.create(name="before")
    with published.capture() as items:
        author.name = "Ada"
        author.save()
        assert items == []
    assert [(item.id, item.event) for item in items] == [(str(author.pk), "updated")]
    assert published.items == items
    with published.capture() as items:
        author.delete()
    assert [item.event for item in items] == ["deleted"]


@pytest.mark.django_db(databases=["default", "other"])
def test_a_capture_commits_every_database(published, register):
    register(Author)
    with published.capture() as items:
        Author(name="Ada").save(using="other")
        Author(name="Bo").save()
    assert len(items) == 2


@pytest.mark.django_db
def test_what_a_callback_publishes_is_captured_too(published):
    with published.capture():
        transaction.on_commit(lambda: publish("/home", "Hello"))
    published.assertPublished("/home", count=1, payload="Hello")


@pytest.mark.django_db
def test_what_is_throttled_goes_out_at_the_end_of_a_capture(published, register):
    register(Author, throttle=3600)
    author = Author.objects.create(name="Ada")
    with published.capture() as items:
        author.save()
    with published.capture() as more:
        author.name = "Bo"
        author.save()
    assert len(items) == len(more) == 1


def hold_back(send):
    """Leave an update in the throttle."""
    for text in ("goes at once", "is held"):
        throttle.pass_on(make_item("/home", text, id="1", event=UPDATED), 3600, send)


def test_what_is_throttled_is_dropped_before_and_after_a_test():
    sent = []
    hold_back(sent.append)
    with contextmanager(published_fixture.__wrapped__)():
        throttle.flush()
        hold_back(sent.append)
    throttle.flush()
    assert ["is held" in item.payload for item in sent] == [False, False]


def test_what_is_throttled_is_dropped_before_and_after_a_test_of_unittest():
    sent = []

    class Case(PubSubTestMixin, SimpleTestCase):
        def runTest(self):
            throttle.flush()
            hold_back(sent.append)

    hold_back(sent.append)
    result = unittest.TestResult()
    Case().run(result)
    throttle.flush()
    assert (result.errors, result.failures) == ([], [])
    assert ["is held" in item.payload for item in sent] == [False, False]


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_nothing_has_to_be_captured(published, register):
    register(Author)
    Author.objects.create(name="Ada")
    published.assertPublished("/testapp/Author", payload={"name": "Ada"})


def test_nothing_that_was_published_before_counts(settings):
    settings.PUBSUB_BACKEND = "pubsub.backends.locmem.LocmemBackend"
    publish("/home", "Hello")
    Published().assertNothingPublished()


def test_nothing_leaves_the_process(published):
    assert isinstance(get_backend(), LocmemBackend)


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ("Hello", "hello"),
        ("", "x"),
        ({"a": [1, None]}, {"a": [1, 0]}),
        ([], [1]),
        (ET.fromstring("<a b='1'/>"), ET.fromstring("<a b='2'/>")),
        (ET.fromstring(ENTRY), ET.fromstring(ENTRY.replace("T<", "U<"))),
        (Author(pk=7, name="Ada"), Author(pk=7, name="Bo")),
    ],
)
def test_a_payload_is_known_by_what_was_published(published, value, other):
    publish("/home", value)
    published.assertPublished("/home", payload=value)
    with pytest.raises(AssertionError, match="found 0"):
        published.assertPublished("/home", payload=other)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "options", [{}, {"format": "json"}, {"format": "atom"}, {"fields": ["name"]}]
)
def test_an_instance_is_known_however_its_model_is_published(published, register, options):
    register(Author, **options)
    author = Author.objects.create(name="Ada")
    published.assertPublished("/testapp/Author", payload=author)
    author.name = "Bo"
    with pytest.raises(AssertionError):
        published.assertPublished("/testapp/Author", payload=author)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("options", [{}, {"format": "json"}, {"format": "atom"}])
@pytest.mark.parametrize("saved", [Author, Penname])
def test_an_instance_of_a_proxy_is_known_where_its_model_is_registered(
    published, register, saved, options
):
    register(Author, **options)
    pk = saved.objects.create(name="Ada").pk
    published.assertPublished("/testapp/Author", count=1, payload=Penname(pk=pk, name="Ada"))
    published.assertPublished("/testapp/Author", count=0, payload=Penname(pk=pk, name="Bo"))


@pytest.mark.django_db(transaction=True)
def test_an_instance_is_known_where_it_was_published_by_hand(published, register):
    register(Author, format="json")
    author = Author.objects.create(name="Ada")
    publish("/home", author)
    published.assertPublished("/home", payload=author)


VALUES = [
    ("datetime", NOON, NOON + timedelta(seconds=1)),
    ("datetime", NOON, None),
    ("date", NOON.date(), date(2026, 5, 5)),
    ("time", time(12, 30), time(12, 31)),
    ("duration", timedelta(hours=30), timedelta(hours=31)),
    ("decimal", Decimal("9.5"), Decimal("9.51")),
    ("float", 1.5, 1.25),
    ("integer", 7, 8),
    ("boolean", True, False),
    ("boolean", False, None),
    ("boolean", None, False),
    ("uuid", uuid.UUID(int=7), uuid.UUID(int=8)),
    ("json", {"a": [1, None]}, {"a": [1, 0]}),
    ("binary", b"abc", b"abd"),
    ("char", "7", "8"),
    ("char", "", None),
    ("char", "abc", NOON),
]


@pytest.mark.parametrize(("name", "value", "other"), VALUES)
def test_a_field_in_djangos_xml_is_compared_with_its_value(published, name, value, other):
    publish("/home", Everything(pk=7, **{name: value}))
    published.assertPublished("/home", payload={name: value})
    published.assertPublished("/home", count=0, payload={name: other})


def test_a_field_in_djangos_xml_is_compared_by_what_it_means(published):
    publish("/home", Everything(pk=7, decimal=Decimal("9.500"), datetime=NOON, char="9.500"))
    there = NOON.astimezone(timezone(timedelta(hours=2)))
    published.assertPublished("/home", payload={"decimal": 9.5, "datetime": there})
    for wrong in ({"char": 9.5}, {"datetime": NOON.replace(tzinfo=None)}, {"decimal": "9.5"}):
        published.assertPublished("/home", count=0, payload=wrong)


def test_what_is_no_value_of_a_field_is_not_published(published):
    publish("/home", Everything(pk=7, char="abc", decimal="much"))
    for wrong in ({"char": NOON}, {"decimal": 1}, {"decimal": True}, {"char": timedelta(1)}):
        published.assertPublished("/home", count=0, payload=wrong)


@pytest.mark.django_db(transaction=True)
def test_a_relation_in_djangos_xml_is_a_list_of_primary_keys(published, register):
    register(Post, m2m=["readers"])
    ada, bo = Author.objects.create(name="Ada"), Author.objects.create(name="Bo")
    post = Post.objects.create(title="Hello", author=ada)
    published.assertPublished("/testapp/Post", payload={"readers": []})
    post.readers.set([ada, bo])
    for right in ([ada.pk, bo.pk], (str(bo.pk), str(ada.pk)), {ada.pk, bo.pk}):
        published.assertPublished("/testapp/Post", count=1, payload={"readers": right})
    published.assertPublished("/testapp/Post", payload={"author": ada.pk, "created": post.created})
    for wrong in ([ada.pk], [ada.pk, bo.pk, bo.pk], f"{ada.pk}", ada.pk, None):
        published.assertPublished("/testapp/Post", count=0, payload={"readers": wrong})


@pytest.mark.parametrize("value", [NOON, NOON.date(), Decimal("9.50"), uuid.UUID(int=7)])
def test_data_for_json_is_compared_as_it_is_written(published, value):
    publish("/home", {"value": value, "values": [value]})
    published.assertPublished("/home", payload={"value": value, "values": [value]})
    published.assertPublished("/home", count=0, payload={"value": value, "values": []})


def test_some_fields_of_an_instance_will_do(published):
    publish("/home", Author(pk=7, name=None))
    published.assertPublished("/home", payload={"name": None})
    for wrong in ({"name": "None"}, {"nome": None}):
        with pytest.raises(AssertionError):
            published.assertPublished("/home", payload=wrong)


def test_counts_and_events_are_exact(published):
    publish("/home", "Hello")
    retract("/home", "7")
    published.assertPublished("/home", count=2)
    published.assertPublished("/home", count=1, event="deleted")
    published.assertPublished("/away", count=0)
    for wrong in ({"count": 1}, {"event": "created"}, {"event": "deleted", "payload": "Hello"}):
        with pytest.raises(AssertionError):
            published.assertPublished("/home", **wrong)


def test_a_failure_lists_what_was_published(published):
    with pytest.raises(AssertionError, match="Nothing was published"):
        published.assertPublished("/home")
    publish("/home", "Hello", item_id="7")
    with pytest.raises(AssertionError, match="/home 7 published <entry"):
        published.assertNothingPublished()
    published.assertNothingPublished("/away")


@pytest.mark.django_db
def test_a_failure_says_that_something_waits_for_a_commit(published):
    publish("/home", "Hello")
    with pytest.raises(AssertionError, match=r"1 wait for a commit: put a capture"):
        published.assertPublished("/home")


@pytest.mark.parametrize("base", [SimpleTestCase, TestCase, TransactionTestCase])
def test_the_mixin_serves_each_of_djangos_test_cases(base, settings, django_db_blocker):
    before = settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"

    class Case(PubSubTestMixin, base):
        def runTest(self):
            self.assertNothingPublished()
            with self.capturePublished() as items:
                publish("/home", "Hello")
            assert len(items) == 1
            self.assertPublished("/home", count=1, event="published", payload="Hello")

    with django_db_blocker.unblock():
        result = unittest.TestResult()
        unittest.TestSuite([Case()]).run(result)
    assert result.testsRun == 1
    assert (result.errors, result.failures) == ([], [])
    assert before == settings.PUBSUB_BACKEND
