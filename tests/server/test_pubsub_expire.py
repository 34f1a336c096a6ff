"""manage.py pubsub_expire, against a real ejabberd."""

import io
import uuid
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from pubsub import nodes, publish
from pubsub.items import make_item, now
from pubsub.management.commands import pubsub_expire
from tests.listener import listening

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("xmpp_settings")]


@pytest.fixture
def node():
    """A node that no other test uses, and that keeps items for an hour."""
    name = f"/test/{uuid.uuid4().hex}"
    nodes.create(name, item_expire=3600).result(10)
    yield name
    nodes.delete(name).result(10)


@pytest.fixture
def in_two_hours(monkeypatch):
    """The clock goes on by two hours when the test says so."""
    return lambda: monkeypatch.setattr(pubsub_expire, "now", lambda: now() + timedelta(hours=2))


def manage(*arguments, **options):
    """What the command prints."""
    output = io.StringIO()
    call_command("pubsub_expire", *arguments, stdout=output, **options)
    return output.getvalue()


def test_what_is_too_old_is_retracted_and_told(stack, node, in_two_hours):
    for item_id in ("1", "2"):
        publish(node, "Hello", item_id=item_id).result(10)
    assert manage(node) == f"{node}: 0 of 2 items were too old\n"
    with listening(stack.settings, node) as listener:
        in_two_hours()
        assert f"{node}: 2 of 2 items were too old" in manage().splitlines()
        assert [(event.id, event.entry) for event in (listener.next(), listener.next())] == [
            ("1", None),
            ("2", None),
        ]
    assert nodes.items(node).result(10) == []


def test_a_dry_run_retracts_nothing(node, in_two_hours):
    publish(node, "Hello", item_id="1").result(10)
    in_two_hours()
    assert manage(node, "--dry-run") == f"{node}: 1 of 1 items are too old\n"
    assert nodes.count(node).result(10) == 1


def test_nothing_goes_from_a_node_that_keeps_its_items(node, in_two_hours):
    nodes.configure(node, item_expire=0).result(10)
    publish(node, "Hello", item_id="1").result(10)
    in_two_hours()
    assert manage(node) == ""
    assert nodes.count(node).result(10) == 1


def test_a_node_that_is_not_there_is_an_error(node):
    errors = io.StringIO()
    with pytest.raises(CommandError, match=r"1 nodes failed\."):
        manage(f"{node}/nothing", stderr=errors)
    assert errors.getvalue().startswith(f"{node}/nothing: ")
    assert "item-not-found" in errors.getvalue()


def test_a_node_that_fails_does_not_keep_the_others_from_being_tidied(node, in_two_hours):
    publish(node, "Hello", item_id="1").result(10)
    in_two_hours()
    errors = io.StringIO()
    with pytest.raises(CommandError, match=r"2 nodes failed\."):
        manage(f"{node}/nothing", "", node, stderr=errors)
    assert len(errors.getvalue().splitlines()) == 2
    assert nodes.count(node).result(10) == 0


def test_without_a_server_no_node_is_tried(node, settings):
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"
    try:
        with pytest.raises(CommandError, match="Set it to"):
            manage(node)
    finally:
        settings.PUBSUB_BACKEND = "pubsub.backends.xmpp.XMPPBackend"


@pytest.mark.parametrize("payload", ["<x/>", "no XML", make_item("/n", "x").payload])
def test_an_item_that_does_not_say_when_it_was_published_stays(payload):
    before = now() - timedelta(hours=1)
    assert not pubsub_expire.is_before(payload, before)
    unstamped = payload.replace(' at="', ' on="')
    assert not pubsub_expire.is_before(unstamped, now() + timedelta(hours=1))


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60), ("0", None), ("", None), ("max", None), ("-1", None)]
)
def test_only_a_positive_number_of_seconds_makes_items_expire(text, seconds):
    assert pubsub_expire.seconds_of(text) == seconds
