"""pubsub/publishing.py: publish and retract, now or at the commit."""

import gc
import logging
import weakref
from concurrent.futures import Future
from contextlib import nullcontext

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from pubsub import apublish, aretract, publish, pubsub, retract
from pubsub.backends import get_backend
from pubsub.context import originating
from pubsub.exceptions import InvalidItem, QueueFull
from pubsub.futures import failed
from pubsub.signals import item_published, publish_failed
from tests.aio import run
from tests.testapp.models import Author

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def signals():
    """What our signals said, in order."""
    said = []
    item_published.connect(
        lambda **kw: said.append(("published", kw["item"].node, kw["item_id"])),
        weak=False,
        dispatch_uid="test",
    )
    publish_failed.connect(
        lambda **kw: said.append(("failed", kw["item"].node, kw["error"])),
        weak=False,
        dispatch_uid="test",
    )
    yield said
    item_published.disconnect(dispatch_uid="test")
    publish_failed.disconnect(dispatch_uid="test")


def test_publish_resolves_to_the_items_id(sent):
    assert publish("/home", "Hello", item_id="7").result(1) == "7"
    assert publish("/home", "Hello").result(1)
    assert [item.id for item in sent] == ["7", None]


def test_an_instance_is_published_under_its_primary_key(sent):
    author = Author.objects.create(name="Ada")
    assert publish("/home", author).result(1) == str(author.pk)


def test_retract_sends_a_retraction(sent):
    assert retract("/home", "7").result(1) == "7"
    assert (sent[0].node, sent[0].id, sent[0].is_retraction) == ("/home", "7", True)


def test_inside_a_transaction_publishing_waits_for_the_commit(sent):
    with transaction.atomic():
        first, second = publish("/home", "Hello"), retract("/home", "7")
        assert sent == []
        assert not first.done()
    assert second.result(1) == "7"
    assert first.result(1)
    assert [item.event for item in sent] == ["published", "deleted"]


def test_a_rollback_cancels_the_future(sent):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        future = publish("/home", "Hello")
        raise ZeroDivisionError
    gc.collect()
    assert future.cancelled()
    assert sent == []


def test_a_rolled_back_savepoint_cancels_its_futures_and_no_others(sent):
    with transaction.atomic():
        kept = publish("/home", "kept")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            lost = publish("/home", "lost")
            raise ZeroDivisionError
    gc.collect()
    assert lost.cancelled()
    assert kept.result(1)
    assert len(sent) == 1


def test_a_future_cancelled_before_the_commit_is_not_sent(sent):
    with transaction.atomic():
        assert publish("/home", "Hello").cancel()
    assert sent == []


def test_the_item_is_frozen_when_it_is_published(sent):
    author = Author.objects.create(name="Ada")
    with transaction.atomic():
        publish("/home", author)
        author.name = "changed later"
    assert ">Ada<" in sent[0].payload


def test_bad_values_are_refused_at_the_call(sent):
    with pytest.raises(InvalidItem):
        publish("", "Hello")
    with pytest.raises(InvalidItem):
        publish("/home", "\x08")
    with pytest.raises(InvalidItem):
        retract("/home", "")
    with pytest.raises(TypeError):
        publish("/home", 7)
    assert sent == []


def test_a_backend_that_is_none_is_refused_at_the_call(settings):
    settings.PUBSUB_BACKEND = "pubsub.items.Item"
    with pytest.raises(ImproperlyConfigured, match="BaseBackend"):
        publish("/home", "Hello")


def test_without_autocommit_publishing_is_refused(sent):
    """Django cannot tell of a commit then; what is rolled back must never be announced."""
    transaction.set_autocommit(False)
    try:
        Author.objects.create(name="Ada")
        with pytest.raises(transaction.TransactionManagementError, match="on_commit"):
            publish("/home", "Hello")
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    assert sent == []


def test_signals_tell_what_was_published(sent, signals):
    publish("/home", "Hello", item_id="7").result(1)
    assert signals == [("published", "/home", "7")]


@pytest.mark.parametrize("in_transaction", [True, False])
def test_signals_tell_what_failed_and_the_future_too(sent, signals, monkeypatch, in_transaction):
    error = QueueFull("full")

    def refuse(item):
        future = Future()
        future.set_exception(error)
        return future

    monkeypatch.setattr(get_backend(), "send", refuse)
    if in_transaction:
        with transaction.atomic():
            future = publish("/home", "Hello")
    else:
        future = publish("/home", "Hello")
    assert future.exception(1) is error
    assert signals == [("failed", "/home", error)]


def test_a_missing_backend_at_the_commit_fails_the_future_and_is_told(signals, settings):
    settings.PUBSUB_BACKEND = "no.such.Backend"
    with transaction.atomic():
        future = publish("/home", "Hello")
    assert isinstance(future.exception(1), ImproperlyConfigured)
    assert [said[0] for said in signals] == ["failed"]


def test_a_future_that_failed_is_not_kept(settings, caplog):
    caplog.set_level(logging.CRITICAL, "pubsub")  # a log record would keep the traceback
    settings.PUBSUB_BACKEND = "no.such.Backend"
    with transaction.atomic():
        future = publish("/home", "Hello")
    assert isinstance(future.exception(1), ImproperlyConfigured)
    kept = weakref.ref(future)
    del future
    gc.collect()
    assert kept() is None


def test_a_receiver_that_raises_breaks_nothing(sent, caplog):
    def broken(**kwargs):
        raise ZeroDivisionError

    item_published.connect(broken)
    try:
        assert publish("/home", "Hello", item_id="7").result(1) == "7"
    finally:
        item_published.disconnect(broken)
    assert "ZeroDivisionError" in caplog.text


# The async twins


def test_apublish_and_aretract_await_the_items_id(sent):
    author = Author.objects.create(name="Ada")

    async def life():
        return [
            await apublish("/home", "Hello", item_id=7),
            await apublish("/home", author),
            await aretract("/home", 7),
        ]

    assert run(life()) == ["7", str(author.pk), "7"]
    assert [item.event for item in sent] == ["published", "published", "deleted"]


def test_apublish_raises_what_the_future_would_fail_with(sent, monkeypatch):
    error = QueueFull("full")
    monkeypatch.setattr(get_backend(), "send", lambda item: failed(error))
    for call in (apublish("/home", "Hello"), aretract("/home", "7")):
        with pytest.raises(QueueFull):
            run(call)


def test_the_async_twins_refuse_bad_values(sent):
    for call in (apublish("", "Hello"), apublish("/home", "\x08"), aretract("/home", "")):
        with pytest.raises(InvalidItem):
            run(call)
    with pytest.raises(TypeError):
        run(apublish("/home", 7))
    assert sent == []


@pytest.mark.parametrize(("call", "names"), [(apublish, "publish"), (aretract, "retract")])
def test_inside_a_transaction_the_async_twins_say_what_to_do(sent, call, names):
    with (
        transaction.atomic(),
        pytest.raises(
            transaction.TransactionManagementError,
            match=rf"^a{names}\(\) waits .* call {names}\(\) here, or a{names}\(\) after",
        ),
    ):
        async_to_sync(call)("/home", "7")
    assert sent == []


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_the_async_twins_look_at_the_database_that_is_named(sent):
    there = Author.objects.using("other").create(name="there")

    async def life():
        await apublish("/home", there)
        await apublish("/home", "Hello", using="other")
        await aretract("/home", 7, using="other")

    with transaction.atomic():
        async_to_sync(life)()
    assert len(sent) == 3
    with (
        transaction.atomic(using="other"),
        pytest.raises(transaction.TransactionManagementError),
    ):
        async_to_sync(life)()
    assert len(sent) == 3


@pytest.mark.django_db(transaction=False)
def test_inside_the_transaction_of_a_test_case_the_async_twins_publish_at_once(sent):
    assert async_to_sync(apublish)("/home", "Hello", item_id=7) == "7"
    assert async_to_sync(aretract)("/home", 7) == "7"
    assert len(sent) == 2
    with transaction.atomic(), pytest.raises(transaction.TransactionManagementError):
        async_to_sync(apublish)("/home", "Hello")


def test_a_save_by_the_async_orm_is_published_alike(sent, register):
    register(Author)

    async def life():
        author = await Author.objects.acreate(name="Ada")
        author.name = "Bo"
        await author.asave()
        await author.adelete()

    run(life())
    assert [item.event for item in sent] == ["created", "updated", "deleted"]


def test_who_is_muted_still_publishes_by_hand(sent, register):
    register(Author)
    with pubsub.muted():
        publish("/home", "Hello")
        retract("/home", "7")
        author = Author.objects.create(name="Ada")
        publish("/testapp/Author", author)
    assert [item.event for item in sent] == ["published", "deleted", "published"]


@pytest.mark.parametrize("in_transaction", [True, False])
def test_what_is_published_by_hand_bears_the_origin_of_the_call(sent, in_transaction):
    with transaction.atomic() if in_transaction else nullcontext():
        with originating("me"):
            publish("/home", "Hello")
        publish("/home", "Hello")
    assert ['origin="me"' in item.payload for item in sent] == [True, False]
