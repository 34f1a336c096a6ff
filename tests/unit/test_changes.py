"""pubsub/changes.py: what goes wrong with a publication is told, and nothing else suffers."""

import logging

import pytest
from django.db import transaction

from pubsub import Publication
from pubsub.changes import items_for
from pubsub.exceptions import InvalidItem
from pubsub.items import UPDATED, Item
from pubsub.signals import publish_failed
from tests.testapp.models import Author, Badge, Parcel, Post, Seat

pytestmark = pytest.mark.django_db(transaction=True)

HOOKS = [
    *["get_nodes", "should_publish", "get_item_id", "get_fields", "get_payload"],
    *["get_configuration", "get_throttle"],
]


@pytest.fixture
def failures():
    """What publish_failed told, in order."""
    told = []
    publish_failed.connect(lambda **kw: told.append(kw), weak=False, dispatch_uid="failures")
    yield told
    publish_failed.disconnect(dispatch_uid="failures")


def raising(error, *args):
    """A hook that raises; each time an error of its own, which knows of no other call."""

    def hook(self, *_):
        raise error(*args)

    return hook


@pytest.mark.parametrize("in_transaction", [True, False])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_raises_is_told_and_breaks_nothing(
    sent, register, failures, caplog, hook, in_transaction
):
    broken = {hook: raising(LookupError, "the hook's own words")}
    register(Author, type("Broken", (Publication,), broken))
    if in_transaction:
        with transaction.atomic():
            author = Author.objects.create(name="Ada")
    else:
        author = Author.objects.create(name="Ada")
    assert Author.objects.get() == author
    assert sent == []
    (failure,) = failures
    assert failure["sender"] is Item
    assert type(failure["error"]) is LookupError
    assert failure["item"] is None
    assert failure["about"] == f"testapp.Author {author.pk} (created)"
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pubsub", logging.ERROR)
    assert f"testapp.Author {author.pk} (created)" in caplog.text
    assert "the hook's own words" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("hook", ["get_nodes", "get_item_id"])
def test_a_hook_that_raises_breaks_no_delete(sent, register, failures, hook):
    author = Author.objects.create(name="Ada")
    pk = author.pk
    register(Author, type("Broken", (Publication,), {hook: raising(LookupError)}))
    author.delete()
    assert not Author.objects.exists()
    assert sent == []
    assert [failure["about"] for failure in failures] == [f"testapp.Author {pk} (deleted)"]


@pytest.mark.parametrize("hook", ["get_nodes", "should_publish", "get_item_id"])
def test_a_hook_that_raises_while_a_row_is_looked_for_breaks_no_save(
    sent, register, failures, hook
):
    author = Author.objects.create(name="Ada")
    register(Author, type("Broken", (Publication,), {hook: raising(LookupError), "track": True}))
    author.save()
    author.delete()
    assert not Author.objects.exists()
    assert sent == []
    assert {type(failure["error"]) for failure in failures} == {LookupError}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_raises_breaks_no_relation(sent, register, failures, hook):
    post = Post.objects.create(title="T")
    ada = Author.objects.create(name="Ada")
    broken = {hook: raising(LookupError), "m2m": ["readers"], "track": True}
    register(Post, type("Broken", (Publication,), broken))
    post.readers.add(ada)
    ada.read.clear()
    assert list(post.readers.all()) == []
    assert sent == []
    assert {type(failure["error"]) for failure in failures} == {LookupError}


def test_a_hook_that_raises_breaks_no_other_publication(sent, register, failures):
    register(Author, get_payload=raising(LookupError))
    register(Post)
    with transaction.atomic():
        Post.objects.create(title="T", author=Author.objects.create(name="Ada"))
    assert [item.node for item in sent] == ["/testapp/Post"]
    assert len(failures) == 1


def test_a_receiver_of_publish_failed_that_raises_breaks_nothing(sent, register, caplog):
    def broken(**kwargs):
        raise ZeroDivisionError

    register(Author, get_payload=raising(LookupError))
    publish_failed.connect(broken)
    try:
        Author.objects.create(name="Ada")
    finally:
        publish_failed.disconnect(broken)
    assert Author.objects.exists()
    assert "LookupError" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_no_failure_of_a_publication(sent, register, failures, stop):
    register(Author, get_payload=raising(stop))
    with pytest.raises(stop):
        Author.objects.create(name="Ada")
    assert failures == []


def test_an_instance_that_cannot_be_shown_is_told_of_all_the_same(
    sent, register, failures, monkeypatch
):
    monkeypatch.setattr(Author, "__str__", raising(LookupError))
    register(Author, item_id="name", fields=["name"])
    Author.objects.create(name="\x08")
    assert sent == []
    assert isinstance(failures[0]["error"], InvalidItem)


@pytest.mark.parametrize(
    "options",
    [
        {"item_id": "sender"},
        {"format": "json", "get_payload": lambda self, instance, event: {"n": {1}}},
        {"get_nodes": lambda self, instance, event: "/\0"},
        {"fields": ["invoice"]},
        {"fields": ["invoice"], "format": "json"},
        {"fields": ["invoice"], "format": "atom"},
    ],
)
def test_what_goes_wrong_does_not_tell_what_is_kept_back(sent, register, failures, caplog, options):
    """Logs are read by others than pages are; an instance as text may hold every field."""
    register(Parcel, **({"fields": ["weight"]} | options))
    parcel = Parcel.objects.create(contents="a secret", invoice="x\uffff")
    assert "a secret" in str(parcel)
    (failure,) = failures
    assert isinstance(failure["error"], InvalidItem)
    assert "a secret" not in str(failure["error"])
    assert "a secret" not in caplog.text


def test_a_failing_row_is_named_on_one_line_whatever_its_key(sent, register, caplog):
    register(Badge, get_payload=raising(InvalidItem, "no"))
    Badge.objects.create(code="x (created): fine\nERROR a forged line")
    assert len(caplog.messages) == 1
    assert "\n" not in caplog.messages[0]


class Writing(Publication):
    """Writes a row of another table when it is asked, and fails at that if it is to."""

    fails = True

    def get_nodes(self, instance, event):
        Badge.objects.create(code="one")
        if self.fails:
            Badge.objects.create(code="one")  # not unique
        return super().get_nodes(instance, event)


@pytest.mark.parametrize("track", [True, False])
def test_a_query_of_a_hook_that_fails_leaves_the_transaction_as_it_was(sent, register, track):
    register(Badge)
    register(Author, Writing, track=track)
    with transaction.atomic():
        author = Author.objects.create(name="Ada")
        author.name = "Bo"
        author.save()
        Seat.objects.create(number=1)
    assert Author.objects.get().name == "Bo"
    assert Seat.objects.exists()
    # What the hook had written before it failed is taken back, and so is its announcement.
    assert not Badge.objects.exists()
    assert sent == []


def test_what_a_hook_has_written_stays_where_it_does_not_fail(sent, register):
    register(Badge)
    register(Author, Writing, fails=False)
    with transaction.atomic():
        Author.objects.create(name="Ada")
    assert Badge.objects.exists()
    assert sorted(item.node for item in sent) == ["/testapp/Author", "/testapp/Badge"]


def test_hooks_that_ask_nothing_cost_no_query_in_a_transaction(
    sent, register, django_assert_num_queries
):
    class Asking(Publication):
        def get_nodes(self, instance, event):
            return f"/authors/{instance.pk}"

    register(Author, Asking)
    with transaction.atomic():
        author = Author.objects.create(name="Ada")
        with django_assert_num_queries(1):
            author.save()


def test_the_row_of_a_failure_is_told_as_such(sent, register, failures):
    register(Author, get_nodes=raising(LookupError))
    author = Author.objects.create(name="Ada")
    (failure,) = failures
    assert (failure["model"], failure["pk"], failure["event"]) == (Author, author.pk, "created")


def test_the_xml_of_a_row_is_left_to_who_sends_it_and_is_that_of_the_saved_state():
    author = Author.objects.create(name="Ada")
    _, (item,) = items_for(Publication(Author), author, UPDATED)
    assert "payload" not in vars(item)
    author.name = "not saved yet"
    assert ">Ada</field>" in item.payload


@pytest.mark.parametrize(
    "options",
    [
        {"get_fields": lambda self, row, event: ["name"]},
        {"get_payload": lambda self, row, event: Publication.get_payload(self, row, event)},
        {"format": "json"},
        {"natural_keys": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_asks_the_code_of_others_is_written_at_once(options):
    author = Author.objects.create(name="Ada")
    publication = type("Asking", (Publication,), options)(Author)
    _, (item,) = items_for(publication, author, UPDATED)
    assert "payload" in vars(item)
