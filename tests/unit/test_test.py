"""pubsub/test.py: what the tests of a project can say about what it publishes."""

import unittest
import xml.etree.ElementTree as ET

import pytest
from django.db import transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from pubsub import publish, retract
from pubsub.backends import get_backend
from pubsub.backends.locmem import LocmemBackend
from pubsub.test import Published, PubSubTestMixin
from tests.testapp.models import Author

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
@pytest.mark.parametrize("options", [{}, {"format": "json"}, {"fields": ["name"]}])
def test_an_instance_is_known_however_its_model_is_published(published, register, options):
    register(Author, **options)
    author = Author.objects.create(name="Ada")
    published.assertPublished("/testapp/Author", payload=author)
    author.name = "Bo"
    with pytest.raises(AssertionError):
        published.assertPublished("/testapp/Author", payload=author)


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
