"""From save() and publish() in Django to a subscriber, through a real ejabberd."""

import gc
import json
import logging
import os
import shutil
import signal
import threading
import uuid
import weakref
import xml.etree.ElementTree as ET

import pytest
from django.db import transaction
from django.test import override_settings

from pubsub import backends, nodes, publish, pubsub, retract
from pubsub.backends import get_backend
from pubsub.exceptions import (
    AuthenticationError,
    ConnectError,
    InvalidItem,
    RequestRefused,
    TLSError,
)
from pubsub.items import make_item
from pubsub.publishing import announce
from tests.listener import listening
from tests.testapp.models import Author
from tests.waiting import until

TEXTS = ["Hello", "", " a\n\tb ", "<&>\"']]>", "€ \U0001f600", "x" * 200_000]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("xmpp_settings")]


@pytest.fixture
def node():
    """The name of a node that no other test uses."""
    return f"/test/{uuid.uuid4().hex}"


@pytest.fixture
def registered(xmpp_settings):
    """A model that is registered during the test; its node is gone afterwards."""
    nodes.create("/testapp/Author").result(10)
    pubsub.register(Author)
    yield
    pubsub.unregister(Author)
    nodes.delete("/testapp/Author").result(10)


@pytest.fixture
def listener(stack, node):
    publish(node, "the first item creates the node").result(10)
    with listening(stack.settings, node) as listener:
        yield listener


@pytest.mark.usefixtures("registered")
@pytest.mark.delivery
def test_a_save_reaches_a_subscriber_and_so_does_the_delete(stack):
    with listening(stack.settings, "/testapp/Author") as listener:
        author = Author.objects.create(name="Ada <&>")
        created = listener.next()
        author.name = "Bo"
        author.save()
        updated = listener.next()
        pk = str(author.pk)
        author.delete()
        deleted = listener.next()
    assert [e.id for e in (created, updated, deleted)] == [pk, pk, pk]
    assert [e.meta["event"] for e in (created, updated)] == ["created", "updated"]
    assert created.text == "Ada <&>"
    assert created.entry.find("django-objects/object/field").attrib["name"] == "name"
    assert deleted.entry is None
    assert nodes.items("/testapp/Author").result(10) == []


@pytest.mark.usefixtures("registered")
def test_a_node_holds_the_last_state_of_each_row():
    authors = [Author.objects.create(name=f"draft {n}") for n in range(3)]
    for author in authors:
        author.name = author.name.replace("draft", "final")
        author.save()
    publish("/testapp/Author", authors[0]).result(10)
    held = nodes.items("/testapp/Author").result(10)
    assert {item.id for item in held} == {str(author.pk) for author in authors}
    assert all("final" in str(item.payload) for item in held)


@pytest.mark.usefixtures("registered")
def test_what_is_rolled_back_never_reaches_the_server():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Author.objects.create(name="Ada")
        future = publish("/testapp/Author", "Hello")
        raise ZeroDivisionError
    publish("/testapp/Author", "last", item_id="last").result(10)
    assert [item.id for item in nodes.items("/testapp/Author").result(10)] == ["last"]
    assert future.cancelled()


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_text_arrives_exactly(listener, node, text):
    publish(node, text)
    assert listener.next().text == text


def test_json_arrives_as_json(listener, node):
    publish(node, {"a": [1, None, "<ü>"]})
    payload = listener.next().entry[1]
    assert payload.tag == "{urn:xmpp:json:0}json"
    assert json.loads(payload.text) == {"a": [1, None, "<ü>"]}


def test_an_element_arrives_as_it_is(listener, node):
    element = ET.fromstring('<a xmlns="urn:x" b="&lt;"><c xmlns="">1</c>2</a>')
    publish(node, element)
    arrived = listener.next().entry[1]
    assert ET.canonicalize(ET.tostring(arrived)) == ET.canonicalize(ET.tostring(element))


@pytest.mark.delivery
def test_a_retraction_arrives(listener, node):
    publish(node, "Hello", item_id="7").result(10)
    assert listener.next().id == "7"
    assert retract(node, "7").result(10) == "7"
    event = listener.next()
    assert (event.id, event.entry) == ("7", None)


def test_retracting_what_is_not_there_is_no_error(node):
    assert retract(node, "7").result(10) == "7"
    publish(node, "Hello").result(10)
    assert retract(node, "7").result(10) == "7"


def test_without_an_id_items_are_a_log(node):
    ids = [publish(node, "same").result(10) for _ in range(3)]
    assert len(set(ids)) == 3
    assert len(nodes.items(node).result(10)) == 3


@pytest.mark.delivery
def test_events_arrive_in_the_order_of_publishing(listener, node):
    futures = [publish(node, str(n)) for n in range(500)]
    assert [listener.next().text for _ in range(500)] == [str(n) for n in range(500)]
    assert all(future.result(10) for future in futures)


@pytest.mark.parametrize("name", [" ", "/a b", "/ü/\U0001f600", "/\"'<&>", "/a\n\tb", "x" * 8192])
def test_any_text_names_a_node(name):
    assert publish(name, "Hello", item_id=name[:2048]).result(10) == name[:2048]
    assert [item.id for item in nodes.items(name).result(10)] == [name[:2048]]
    nodes.delete(name).result(10)


def test_a_state_that_was_overtaken_on_its_way_does_not_replace_the_later_one(node):
    """Two threads commit one after the other, and the second is the first to send."""
    first, second = (
        make_item(node, text, id="7", sequence=n) for n, text in enumerate(["first", "second"])
    )
    later = get_backend().send(second)
    assert get_backend().send(first).result(10) == "7"
    assert later.result(10) == "7"
    (item,) = nodes.items(node).result(10)
    assert item.payload.getCDATA() == "second"


def test_a_state_that_was_overtaken_fares_as_the_later_one(settings, node):
    settings.XMPP_PASSWORD = "wrong"
    first, second = (make_item(node, str(n), id="7", sequence=n) for n in (1, 2))
    later = get_backend().send(second)
    assert isinstance(later.exception(15), AuthenticationError)
    assert isinstance(get_backend().send(first).exception(15), AuthenticationError)


def test_what_is_published_by_hand_is_never_taken_for_overtaken(node):
    """Made first and committed last, it is the last state."""
    with transaction.atomic():
        publish(node, "committed last", item_id="7")
        get_backend().send(make_item(node, "sent meanwhile", id="7")).result(10)
    until(
        lambda: (
            [item.payload.getCDATA() for item in nodes.items(node).result(10)] == ["committed last"]
        ),
        "what was committed last has replaced the other",
    )


def test_what_has_been_acknowledged_is_not_kept(node):
    item = make_item(node, "x" * 100, id="7", sequence=1)
    gone = weakref.ref(item)
    announce(item, None).result(10)
    del item
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "lock_of",
    [
        lambda: get_backend()._ensuring_lock,
        lambda: get_backend()._latest._states_lock,
        lambda: backends._instances_lock,
    ],
    ids=["ensuring", "latest", "instances"],
)
def test_a_lock_held_at_the_fork_does_not_stop_the_child(node, lock_of):
    publish(node, "everything is imported and connected").result(10)
    with lock_of():  # as another thread may hold it
        child = os.fork() or publish_and_exit(node)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(nodes.items(f"{node}/{child}").result(10)) == 1
    assert publish(node, "the parent goes on").result(10)


def publish_and_exit(node):
    """The life of a forked child; it never returns."""
    code = 1
    try:
        signal.alarm(30)  # a deadlock ends it, and the test
        publish(f"{node}/{os.getpid()}", "on a new node", item_id="1").result(20)
        code = 0
    finally:
        os._exit(code)


def test_a_missing_node_is_created_with_safe_defaults(node):
    publish(node, "Hello").result(10)
    configuration = nodes.configuration(node).result(10)
    assert configuration["publish_model"] == "publishers"
    assert configuration["notify_retract"] == "0"
    assert configuration["send_last_published_item"] == "on_sub"
    assert configuration["max_items"] == "1000"
    assert configuration["access_model"] == "open"
    assert nodes.affiliations(node).result(10) == {"django@localhost": "owner"}


def test_defaults_of_the_sites_own_are_used(settings, node):
    settings.PUBSUB_NODE_DEFAULTS = {"max_items": 2}
    for n in range(4):
        publish(node, str(n)).result(10)
    assert len(nodes.items(node).result(10)) == 2


def test_a_node_is_there_before_the_first_item_when_it_is_ensured(stack, node):
    nodes.ensure(node)
    nodes.ensure(node)
    assert nodes.configuration(node).result(10)["send_last_published_item"] == "on_sub"
    with listening(stack.settings, node) as listener:
        publish(node, "the first")
        assert listener.next().text == "the first"


@pytest.mark.delivery
def test_a_node_deleted_meanwhile_is_created_again(node):
    publish(node, "Hello").result(10)
    nodes.delete(node).result(10)
    publish(node, "Hello").result(10)
    assert nodes.configuration(node).result(10)["send_last_published_item"] == "on_sub"


def test_a_server_that_lost_its_nodes_gets_them_again(private_stack, settings, node):
    stack = private_stack()
    for name, value in stack.settings.items():
        setattr(settings, name, value)
    publish(node, "Hello").result(10)
    stack.ejabberd.kill()
    shutil.rmtree(stack.folder / "spool")
    stack.ejabberd.start()
    until(lambda: publish(node, "Hello").exception(30) is None, "a stream to the server")
    assert nodes.configuration(node).result(10)["access_model"] == "open"


def test_a_handler_of_our_log_may_publish(node):
    class Handler(logging.Handler):
        said = None

        def emit(self, record):
            if self.said is None:  # not of what goes wrong with its own
                self.said = record.getMessage()
                publish(f"{node}/log", self.said, item_id="1")

    handler = Handler()
    get_backend().close()  # so that it fails at once, and is logged in this thread
    logging.getLogger("pubsub").addHandler(handler)
    try:
        item = make_item(node, "Hello", id="1", sequence=1)
        saving = threading.Thread(target=announce, args=(item, None), daemon=True)
        saving.start()
        saving.join(10)
        assert not saving.is_alive()
    finally:
        logging.getLogger("pubsub").removeHandler(handler)
    assert "Could not publish" in handler.said


def test_a_node_is_configured_when_asked(node):
    nodes.create(node, max_items=5).result(10)
    nodes.create(node, max_items=9).result(10)  # it exists, and stays as it is
    assert nodes.configuration(node).result(10)["max_items"] == "5"
    nodes.configure(node, max_items=7).result(10)
    assert nodes.configuration(node).result(10)["max_items"] == "7"


def test_all_our_nodes_are_known_by_name_private_ones_too(node):
    ours = [f"{node}/{n:03}" for n in range(150)]  # more than ejabberd shows to anybody
    created = [nodes.create(name, access_model="whitelist") for name in ours]
    assert all(future.exception(10) is None for future in created)
    found = nodes.names().result(10)
    assert found == sorted(found)
    assert [name for name in found if name.startswith(node)] == ours


@pytest.mark.delivery
def test_what_is_published_is_heard_by_who_listens(node):
    nodes.create(node).result(10)
    with nodes.listen(node) as events:
        publish(node, "Hello", item_id="7").result(10)
        event = next(events)
        assert (event.node, event.id, event.kind) == (node, "7", "item")
    assert list(events) == []
    assert nodes.subscriptions(node).result(10) == []
    with pytest.raises(InvalidItem, match="name at least one"):
        nodes.listen()


@pytest.mark.delivery
def test_subscribers_are_known_and_gone_when_they_leave(stack, node):
    publish(node, "Hello").result(10)
    with listening(stack.settings, node):
        (subscription,) = nodes.subscriptions(node).result(10)
        assert subscription.jid.startswith("listener-")
        assert subscription.state == "subscribed"
    until(lambda: nodes.subscriptions(node).result(10) == [], "he is gone")


def test_a_node_that_could_not_be_created_is_open_to_nobody(settings, node):
    settings.PUBSUB_NODE_DEFAULTS = {"access_model": "whitelist", "max_items": 10**9}
    publish(node, "Hello").result(10)
    assert nodes.configuration(node).result(10)["access_model"] == "whitelist"


@pytest.mark.parametrize("title", ["\x08", "\ud800", "\uffff"])
def test_a_configuration_that_cannot_be_written_is_refused_at_the_call(node, title):
    nodes.create(node).result(10)
    for change in (nodes.create, nodes.configure):
        with pytest.raises(InvalidItem, match="title"):
            change(node, title=title)
    assert publish(node, "the stream goes on").result(10)


def test_a_refusal_of_the_server_carries_its_condition(node):
    with pytest.raises(RequestRefused) as refused:
        nodes.items(node).result(10)
    assert refused.value.condition == "item-not-found"
    assert refused.value.type == "cancel"
    element = ET.Element("a")
    element.extend(ET.Element("b") for _ in range(20_000))
    with pytest.raises(RequestRefused) as too_big:  # many small elements weigh more over there
        publish(node, element).result(10)
    assert (too_big.value.condition, too_big.value.pubsub_condition) == (
        "not-acceptable",
        "payload-too-big",
    )
    assert publish(node, "the stream goes on").result(10)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("change", "expected", "reason"),
    [
        ({"XMPP_PASSWORD": "wrong"}, AuthenticationError, "not-authorized"),
        ({"XMPP_JID": "django@example.org"}, AuthenticationError, "host-unknown"),
        ({"XMPP_CA_FILE": None}, TLSError, "self-signed certificate"),
        ({"XMPP_PORT": 1, "XMPP_TIMEOUT": 0.5}, ConnectError, "refused"),
        ({"XMPP_HOST": "no-such-host.invalid", "XMPP_TIMEOUT": 0.5}, ConnectError, "invalid"),
        ({"XMPP_TLS": "off"}, TLSError, "without TLS"),
    ],
    ids=lambda value: next(iter(value), None) if isinstance(value, dict) else None,
)
def test_save_goes_on_when_the_server_cannot_be_used(settings, caplog, change, expected, reason):
    with override_settings(**change):
        author = Author.objects.create(name="Ada")
        server = f"{settings.XMPP_HOST}:{settings.XMPP_PORT}"
        future = publish("/testapp/Author", "Hello")
        until(lambda: reason in caplog.text, "the log tells why")
    # The settings have changed, so the backend was closed, which had kept it till then.
    error = future.exception(15)
    assert isinstance(error, expected)
    assert reason in str(error)
    assert server in str(error)
    assert Author.objects.get() == author
