"""A publisher that sends again what it has sent, in Chromium: pages drop what they have had."""

import uuid

import pytest

from pubsub import nodes, retract
from pubsub.items import make_item
from pubsub.payloads import marked
from pubsub.wire import stanzas
from pubsub.wire.connection import Connection
from tests.server.wire.conftest import publisher as account_of
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("publisher")


@pytest.fixture
def node():
    """A node that no other test uses, and that exists."""
    name = f"/test/{uuid.uuid4().hex}"
    nodes.create(name).result(10)
    return name


@pytest.fixture
def send(site, node):
    """Publishes texts as a relay does: each under its number."""
    owner = Connection(account_of(site.stack))
    service = site.stack.settings["XMPP_PUBSUB_HOST"]

    def publish(*numbers, item_id="42", source="a1"):
        for number in numbers:
            item = make_item(node, f"s{number}", id=item_id)
            payload = marked(item.payload, f"{source}.{number}")
            owner.request(stanzas.publish(service, node, payload, item_id)).result(10)

    yield publish
    owner.close()


@pytest.fixture(params=["websocket", "bosh"])
def page(request, visit, node):
    """A page that listens in each way, and shows the newest text as its title."""
    page = visit()
    page.evaluate(
        """([bosh, node]) => {
            window.said = {event_cb: [], onItem: [], onRetract: []};
            window.mine = new PubSubClient({
                shared: false,
                node,
                event_cb(entry) { said.event_cb.push(entry.textContent); },
                url: bosh ? "/http-bind" : `ws://${location.host}/ws`,
            });
            mine.subscribe(node, {
                onItem({entry}) {
                    document.title = entry.textContent;
                    said.onItem.push(document.title);
                },
                onRetract(id) { said.onRetract.push(id); },
            });
        }""",
        [request.param == "bosh", node],
    )
    subscribed(node)
    page.wait_for_function("() => mine.state === 'online'")
    return page


def subscribed(node, count=1):
    until(lambda: len(nodes.subscriptions(node).result(10)) == count, f"{count} on {node}")


def said(page, last):
    """What the callbacks have noted, once the last is there."""
    page.wait_for_function("(last) => said.onItem.includes(last)", arg=last)
    return page.evaluate("said")


def test_a_run_that_is_sent_again_is_not_shown_again(page, send):
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    send(1, 2, 3)
    send(1, 2, 3)
    send(4)
    once = ["s1", "s2", "s3", "s4"]
    assert said(page, "s4") == {"event_cb": once, "onItem": once, "onRetract": []}
    assert page.evaluate("mine.updates.map((entry) => entry.textContent)") == once
    assert page.evaluate("mine.unread") == 4
    assert page.title() == "s4"


def test_another_source_is_another_publisher(page, send):
    send(1, 2)
    send(1, source="b2")
    send(3)
    assert said(page, "s3")["onItem"] == ["s1", "s2", "s1", "s3"]


def test_what_was_taken_back_is_away_in_the_end(page, node, send):
    for _ in range(2):
        send(1, 2)
        retract(node, "42").result(10)
    send(3, item_id="43")
    heard = said(page, "s3")
    # Whether it is the old retraction that came again nobody can tell.
    assert heard["onItem"] == heard["event_cb"] == ["s1", "s2", "s2", "s3"]
    assert heard["onRetract"] == ["42", "42"]


def test_numbers_are_remembered_over_a_new_connection(page, node, send):
    send(1, 2)
    said(page, "s2")
    (before,) = nodes.subscriptions(node).result(10)
    page.evaluate("window.dispatchEvent(new Event('pagehide'))")
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    until(
        lambda: [s.subid for s in nodes.subscriptions(node).result(10) if s.subid != before.subid],
        "the page has subscribed anew",
    )
    send(1, 2)
    send(3)
    assert said(page, "s3")["onItem"] == ["s1", "s2", "s3"]
    page.errors.clear()  # Chromium's own words on sockets that a page leaves which stays


def test_a_listener_that_comes_later_hears_what_is_there_and_nothing_that_is_over(page, node, send):
    send(1, 2)
    said(page, "s2")
    page.evaluate(
        """(node) => {
            said.late = [];
            mine.subscribe(node, {onItem({entry}) { said.late.push(entry.textContent); }});
        }""",
        node,
    )
    send(1, 2)
    send(3)
    heard = said(page, "s3")
    assert heard["onItem"] == heard["event_cb"] == ["s1", "s2", "s3"]
    assert heard["late"] == ["s2", "s3"]
    assert page.evaluate("mine.updates.length") == 3
