"""Catching up in Chromium: what a page has missed it is told, at no more cost than that takes."""

import re
import uuid

import pytest

from pubsub import nodes, publish, retract
from pubsub.wire import stanzas
from pubsub.wire.connection import Connection
from tests.conftest import ACCOUNTS
from tests.server.wire.conftest import publisher as account_of

pytestmark = pytest.mark.usefixtures("publisher")

LISTEN = """([node, options]) => {
    window.told = [];
    window.states = [];
    const text = (item) => item.entry.textContent;
    window.mine = new PubSubClient({shared: false, ...options});
    mine.addEventListener("state", (event) => states.push(event.detail));
    mine.subscribe(node, {
        onItem(item) { told.push(text(item)); },
        onRetract(id) { told.push(`-${id}`); },
        onSync(items) { told.push(items ? items.map(text) : "synced"); },
    });
}"""
LEAVE = "() => window.dispatchEvent(new Event('pagehide'))"
RETURN = "() => window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))"


@pytest.fixture
def node():
    """A node that no other test uses, with items 1 to 3."""
    name = f"/test/{uuid.uuid4().hex}"
    nodes.create(name).result(10)
    for number in "123":
        publish(name, f"item {number}", item_id=number).result(10)
    return name


@pytest.fixture
def listen(visit, node):
    """A function that opens a page that listens to the node, and has caught up."""
    pages = []

    def open_page(**options):
        page = visit()
        pages.append(page)
        page.evaluate(LISTEN, [node, options])
        page.wait_for_function("() => mine.state === 'online'")
        return page

    yield open_page
    for page in pages:  # Chromium has a word for a socket that a page leaves and yet is there
        page.errors[:] = [error for error in page.errors if "after close" not in error]


@pytest.fixture(params=["/ws", "/http-bind"], ids=["websocket", "bosh"])
def transport(request, site):
    """The address of one way to connect."""
    host = site.url.removeprefix("http://").rstrip("/")
    return f"ws://{host}/ws" if request.param == "/ws" else request.param


def told(page):
    return page.evaluate("told.splice(0)")


def away(page, happening):
    """Lets the page lose its connection, something happen, and the page come back."""
    page.evaluate(LEAVE)
    page.wait_for_function("() => mine.state === 'offline'")
    happening()
    page.evaluate(RETURN)
    page.wait_for_function("() => mine.state === 'online'")


def frames_sent(page, doing):
    """What the page sends over WebSockets that it opens meanwhile."""
    frames = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda f: frames.append(f)))
    doing()
    page.title()  # lets Playwright hear what has happened meanwhile
    return "".join(frames)


def test_after_an_interruption_a_page_is_told_what_it_missed_and_then_the_state(
    listen, node, transport
):
    page = listen(url=transport)
    assert told(page) == [["item 1", "item 2", "item 3"]]  # which were there before the page was

    def happening():
        publish(node, "item 2 changed", item_id="2").result(10)
        retract(node, "1").result(10)
        publish(node, "item 4", item_id="4").result(10)

    away(page, happening)
    *changes, sync = told(page)
    assert sorted(changes) == ["-1", "item 2 changed", "item 4"]
    # The last word is but "synced" where ejabberd hands what it had for the old session to the new.
    assert sync in (["item 2 changed", "item 3", "item 4"], "synced")
    publish(node, "item 5", item_id="5").result(10)
    page.wait_for_function("() => told.length === 1")
    assert told(page) == ["item 5"]


def test_a_page_says_when_something_may_be_missing(listen):
    page = listen()
    assert page.evaluate("states") == ["catching-up", "online"]
    away(page, lambda: None)
    again = ["offline", "connecting", "catching-up", "online"]
    assert page.evaluate("states.slice(2)") == again


def test_where_nothing_happened_no_item_is_fetched(listen, node):
    page = listen()
    told(page)
    sent = frames_sent(page, lambda: away(page, lambda: None))
    assert told(page) == ["synced"]
    assert "<subscribe " in sent
    assert re.findall("<max>([0-9]*)</max>", sent) == ["0"]  # only counted


def test_of_a_log_only_what_is_new_is_fetched(listen, node):
    page = listen(nodes={node: {"max": 1000, "log": True}})
    told(page)

    def happening():
        publish(node, "item 4").result(10)

    sent = frames_sent(page, lambda: away(page, happening))
    assert told(page) == ["item 4", "synced"]
    assert re.findall("<after>20[^<]*</after>", sent)


def test_a_node_of_many_items_is_fetched_in_parts(listen, node):
    publishing = [publish(node, f"more {n}", item_id=f"more-{n}") for n in range(1000 - 3)]
    publishing[-1].result(60)
    page = listen()
    assert page.evaluate("told.at(-1).length") == 1000
    assert page.evaluate("told.at(-1).at(-1)") == "more 996"


def test_a_page_that_wants_news_only_hears_what_was_published_since_it_was_rendered(visit, node):
    page = visit()
    publish(node, "item 2 changed", item_id="2").result(10)
    page.evaluate(
        """(node) => {
            window.said = [];
            window.mine = new PubSubClient({
                shared: false, node, event_cb(entry) { said.push(entry.textContent); },
            });
        }""",
        node,
    )
    page.wait_for_function("() => mine.state === 'online'")
    assert page.evaluate("said") == ["item 2 changed"]


def test_a_page_rendered_long_after_the_last_change_fetches_nothing_for_news(visit, node):
    page = visit()
    sent = frames_sent(
        page,
        lambda: page.evaluate(
            """async (node) => {
                const since = new Date(Date.now() + 600_000).toISOString();
                window.mine = new PubSubClient({shared: false, node, since});
                await new Promise((done) => mine.addEventListener("state", () => {
                    if (mine.state === "online") done();
                }));
            }""",
            node,
        ),
    )
    assert "<subscribe " in sent
    assert "<items " not in sent


def test_each_page_of_a_user_has_a_subscription_of_its_own_and_catches_up(listen, node):
    login = {"username": "alice", "password": ACCOUNTS["alice@users.localhost"]}
    one, two = listen(**login), listen(**login)
    jids = {entry.jid for entry in nodes.subscriptions(node).result(10)}
    assert [jid.partition("/")[0] for jid in jids] == ["alice@users.localhost"] * 2
    told(one), told(two)

    def happening():
        publish(node, "item 2 changed", item_id="2").result(10)

    away(one, happening)
    two.wait_for_function("() => told.length === 1")
    assert told(two) == ["item 2 changed"]
    assert told(one)[0] == "item 2 changed"
    nodes.delete(node).result(10)


def test_a_page_whose_subscription_was_taken_away_subscribes_anew(listen, node, site):
    page = listen()
    told(page)
    (entry,) = nodes.subscriptions(node).result(10)
    owner = Connection(account_of(site.stack))
    service = site.stack.settings["XMPP_PUBSUB_HOST"]
    owner.request(stanzas.set_subscriptions(service, node, {entry.jid: "none"})).result(10)
    owner.close()
    page.wait_for_function("() => told.length === 1")
    assert told(page) == ["synced"]
    publish(node, "item 4", item_id="4").result(10)
    page.wait_for_function("() => told.at(-1) === 'item 4'")


def test_a_node_that_is_deleted_and_made_again_is_listened_to_again(listen, node):
    page = listen()
    told(page)
    nodes.delete(node).result(10)
    page.wait_for_function("() => told.length === 4")
    *gone, sync = told(page)
    assert (sorted(gone), sync) == (["-1", "-2", "-3"], [])
    nodes.create(node).result(10)
    publish(node, "item 9", item_id="9").result(10)
    page.wait_for_function("() => told.flat().includes('item 9') && mine.state === 'online'")
