"""A page and its own echo in Chromium: left out where it wishes so, by the origin of the items."""

import base64
import hashlib
import uuid

import pytest

from pubsub import nodes, retract
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
def page(visit):
    """A page with a list for what its callbacks hear."""
    page = visit()
    page.evaluate("window.said = []")
    return page


@pytest.fixture
def publish_from(site, node):
    """Publishes an item as the site does for a request of a page's, or of nobody's."""
    owner = Connection(account_of(site.stack))

    def publish(item_id, origin=None):
        attribute = "" if origin is None else f' origin="{origin}"'
        payload = (
            '<entry xmlns="http://www.w3.org/2005/Atom"><meta xmlns="urn:django-pubsub:1" '
            f'event="updated" at="2026-11-22T10:00:00.123456Z"{attribute}/>{item_id}</entry>'
        )
        service = site.stack.settings["XMPP_PUBSUB_HOST"]
        owner.request(stanzas.publish(service, node, payload, item_id)).result(10)

    yield publish
    owner.close()


def subscribed(node, count=1):
    until(lambda: len(nodes.subscriptions(node).result(10)) == count, f"{count} on {node}")


def subscribers(node):
    return {subscription.jid for subscription in nodes.subscriptions(node).result(10)}


def origin_of(page, client="mine"):
    """The public form of a client's id, as the site makes it."""
    client_id = page.evaluate(f"{client}.headers['X-PubSub-Client']")
    digest = hashlib.sha256(client_id.encode()).digest()
    return base64.urlsafe_b64encode(digest)[:22].decode()


def said(page, last):
    """What the callbacks have noted, once the last is there."""
    page.wait_for_function("(last) => said.flat().includes(last)", arg=last)
    return page.evaluate("said")


def test_a_page_does_not_hear_of_what_its_own_request_saves_and_others_do(visit):
    """All the way: fetch, nginx, FastCGI, the middleware, save(), ejabberd, and back."""
    page = visit()
    before = subscribers("/demo/Status")
    page.evaluate(
        """() => {
            window.said = [];
            window.mine = new PubSubClient({shared: false, excludeSelf: true});
            const note = (who) => ({onItem: ({fields}) => said.push([who, fields.message])});
            mine.subscribe("/demo/Status", note("mine"));
            const other = new PubSubClient({shared: false, excludeSelf: true});
            other.subscribe("/demo/Status", note("other"));
        }"""
    )
    until(lambda: len(subscribers("/demo/Status") - before) == 2, "both clients are subscribed")
    page.evaluate(
        """async () => {
            const post = (message, send) => {
                const body = new FormData(document.getElementById("post"));
                body.set("nick", "Ada");
                body.set("message", message);
                return send(location.pathname, {method: "POST", body});
            };
            await post("mine alone knows", (...call) => mine.fetch(...call));
            await post("everybody hears", (...call) => fetch(...call));
        }"""
    )
    page.wait_for_function("() => said.filter(([, text]) => text === 'everybody hears').length > 1")
    assert sorted(page.evaluate("said")) == [
        ["mine", "everybody hears"],
        ["other", "everybody hears"],
        ["other", "mine alone knows"],
    ]


def test_an_item_tells_its_origin(page, node, publish_from):
    page.evaluate(
        """(node) => {
            window.mine = new PubSubClient({shared: false});
            const note = ({id, origin}) => said.push([id, typeof origin, origin]);
            mine.subscribe(node, {onItem: note});
        }""",
        node,
    )
    subscribed(node)
    publish_from("1", "AnotherPageOfThisSite-")
    publish_from("2")
    assert said(page, "2") == [
        ["1", "string", "AnotherPageOfThisSite-"],
        ["2", "undefined", None],
    ]


def test_by_default_a_page_hears_its_own_echo(page, node, publish_from):
    page.evaluate(
        """(node) => {
            window.mine = new PubSubClient({shared: false});
            mine.subscribe(node, {onItem({id}) { said.push(id); }});
        }""",
        node,
    )
    subscribed(node)
    publish_from("own", origin_of(page))
    assert said(page, "own") == ["own"]


def test_a_client_that_excludes_itself_hears_all_others_in_order(page, node, publish_from):
    page.evaluate(
        """(node) => {
            window.mine = new PubSubClient({shared: false, excludeSelf: true});
            window.other = new PubSubClient({shared: false});
            mine.subscribe(node, {onItem({id}) { said.push(id); }});
        }""",
        node,
    )
    subscribed(node)
    own, others = origin_of(page), origin_of(page, "other")
    origins = [None, own, others, own, own, None, others]
    for number, origin in enumerate(origins):
        publish_from(str(number), origin)
    assert said(page, "6") == ["0", "2", "5", "6"]


def test_each_subscription_may_decide_for_itself(page, node, publish_from):
    page.evaluate(
        """(node) => {
            window.mine = new PubSubClient({shared: false, excludeSelf: true});
            const note = (name) => ({onItem({id}) { said.push([name, id]); }});
            mine.subscribe(node, note("default"));
            mine.subscribe(node, {excludeSelf: true, ...note("without")});
            mine.subscribe(node, {excludeSelf: false, ...note("with")});
        }""",
        node,
    )
    subscribed(node)
    publish_from("own", origin_of(page))
    publish_from("last")
    page.wait_for_function("() => said.length >= 4")
    assert page.evaluate("said") == [
        ["with", "own"],
        ["default", "last"],
        ["without", "last"],
        ["with", "last"],
    ]


def test_the_originals_callback_and_counts_leave_the_echo_out_too(page, node, publish_from):
    page.evaluate(
        """(node) => {
            const options = {shared: false, node, excludeSelf: true};
            window.mine = new PubSubClient({...options, event_cb(entry, client) {
                said.push([entry.textContent, client.unread]);
            }});
            window.dispatchEvent(new Event("blur"));
        }""",
        node,
    )
    subscribed(node)
    publish_from("own", origin_of(page))
    publish_from("other")
    assert said(page, "other") == [["other", 1]]
    assert page.evaluate("mine.updates.map((entry) => entry.textContent)") == ["other"]


def test_a_retraction_is_told_whoever_made_it(page, node, publish_from):
    page.evaluate(
        """(node) => {
            window.mine = new PubSubClient({shared: false, excludeSelf: true});
            mine.subscribe(node, {
                onItem({id}) { said.push(id); },
                onRetract(id) { said.push(`${id} is gone`); },
            });
        }""",
        node,
    )
    subscribed(node)
    publish_from("own", origin_of(page))
    retract(node, "own").result(10)
    assert said(page, "own is gone") == ["own is gone"]


#: The next digest has to wait for openGate().
SLOW_DIGEST = """() => {
    const digest = SubtleCrypto.prototype.digest;
    const gate = new Promise((open) => { window.openGate = open; });
    SubtleCrypto.prototype.digest = async function (...args) {
        SubtleCrypto.prototype.digest = digest;
        await gate;
        return digest.apply(this, args);
    };
}"""


def test_nothing_can_arrive_before_the_page_knows_its_own_items(page, node, publish_from):
    page.evaluate(SLOW_DIGEST)
    page.evaluate(
        """(node) => {
            window.mine = new PubSubClient({shared: false, excludeSelf: true});
            mine.subscribe(node, {onItem({id}) { said.push(id); }});
            window.later = new PubSubClient({shared: false, node});
            // Whatever wakes a connection up does not make this one hurry.
            window.dispatchEvent(new Event("online"));
        }""",
        node,
    )
    page.wait_for_function("() => later.state === 'online'")
    assert page.evaluate("mine.state") == "connecting"
    page.evaluate("openGate()")
    subscribed(node, 2)
    publish_from("own", origin_of(page))
    publish_from("other")
    assert said(page, "other") == ["other"]


def test_a_client_that_leaves_before_it_has_connected_stays_away(page, node):
    page.evaluate(SLOW_DIGEST)
    sockets = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.evaluate(
        """(node) => {
            window.mine = new PubSubClient({shared: false, node});
            mine.disconnect();
            openGate();
            window.later = new PubSubClient({shared: false, node});
        }""",
        node,
    )
    page.wait_for_function("() => later.state === 'online'")
    subscribed(node)
    assert page.evaluate("mine.state") == "offline"
    assert len(sockets) == 1


def test_without_crypto_subtle_the_echo_is_told_and_a_warning_says_why(page, node, publish_from):
    """As on a page on plain http that is not localhost."""
    page.evaluate("Object.defineProperty(crypto, 'subtle', {value: undefined})")
    with page.expect_console_message(lambda message: message.type == "warning") as warning:
        page.evaluate(
            """(node) => {
                window.mine = new PubSubClient({shared: false, excludeSelf: true});
                mine.subscribe(node, {onItem({id}) { said.push(id); }});
            }""",
            node,
        )
    assert "excludeSelf has no effect" in warning.value.text
    subscribed(node)
    publish_from("own", origin_of(page))
    assert said(page, "own") == ["own"]


@pytest.mark.parametrize("wrong", ["null", "1", '"yes"'])
def test_a_wish_that_is_none_is_refused_at_the_call(page, node, wrong):
    refusals = page.evaluate(
        f"""(node) => [
            () => new PubSubClient({{excludeSelf: {wrong}}}),
            () => new PubSubClient().subscribe(node, {{excludeSelf: {wrong}}}),
        ].map((call) => {{ try {{ call(); }} catch (error) {{ return String(error); }} }})""",
        node,
    )
    assert len(refusals) == 2
    assert all("excludeSelf must be true or false" in (refusal or "") for refusal in refusals)
