"""PubSubClient in Chromium, against the real servers: the original's surface, and ours."""

import json
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Page

from pubsub import nodes, publish, retract
from pubsub.wire import stanzas
from pubsub.wire.connection import Connection
from tests.conftest import ACCOUNTS
from tests.server.wire.conftest import publisher as account_of
from tests.visitors import BoshVisitor
from tests.waiting import until

JQUERY = "media/strophe/node_modules/jquery/dist/jquery.js"

pytestmark = pytest.mark.usefixtures("publisher")

#: For what has nothing to do with the transport.
by_websocket = pytest.mark.parametrize("page", ["websocket"], indirect=True)


@pytest.fixture
def node():
    """A node that no other test uses, and that exists."""
    name = f"/test/{uuid.uuid4().hex}"
    nodes.create(name).result(10)
    return name


@pytest.fixture(params=["websocket", "bosh"])
def page(request, visit):
    """A page with the client; ``connect(options)`` makes one over this test's transport.

    Each has a connection of its own; that of several tabs is the affair of test_sharing.py.
    """
    page = visit()
    page.evaluate(
        """(bosh) => {
            window.said = [];
            window.connect = (options) => new PubSubClient({
                shared: false, ...options, url: bosh ? "/http-bind" : `ws://${location.host}/ws`,
            });
            window.online = (client) => new Promise((done) => {
                client.addEventListener("state", () => client.state === "online" && done());
            });
        }""",
        request.param == "bosh",
    )
    return page


def subscribed(node: str, count: int = 1) -> None:
    until(lambda: len(nodes.subscriptions(node).result(10)) == count, f"{count} on {node}")


def said(page: Page, count: int) -> list:
    """What the page's callbacks have noted, once there are so many."""
    page.wait_for_function("(count) => said.length >= count", arg=count)
    return page.evaluate("said")


def test_the_originals_call_hears_the_text_of_an_item(page, node):
    page.evaluate(
        """(node) => {
            window.mine = connect({nick: "Ada", node, event_cb(entry, client) {
                said.push([entry.localName, entry.textContent, client === window.mine]);
            }});
        }""",
        node,
    )
    subscribed(node)
    publish(node, "Hello <b>").result(10)
    assert said(page, 1) == [["entry", "Hello <b>", True]]
    assert page.evaluate("mine.updates.map((entry) => entry.textContent)") == ["Hello <b>"]


@by_websocket
def test_with_jquery_the_entry_is_wrapped(page, node):
    with open(JQUERY) as source:
        page.evaluate(source.read())
    page.evaluate(
        """(node) => {
            connect({nick: "Ada", node, event_cb(entry) {
                said.push([entry.text(), $(entry).text(), entry.find("*").length]);
            }});
        }""",
        node,
    )
    subscribed(node)
    publish(node, "Hello").result(10)
    assert said(page, 1) == [["Hello", "Hello", 1]]


def test_an_item_brings_fields_data_and_what_happened(page, node):
    page.evaluate(
        """(node) => connect({}).subscribe(node, {
            onItem(item) { said.push({...item, entry: item.entry.namespaceURI}); },
            onRetract(id) { said.push({retracted: id}); },
        })""",
        node,
    )
    subscribed(node)
    publish(node, {"a": [1, None]}, item_id="7").result(10)
    retract(node, "7").result(10)
    item, gone = said(page, 2)
    published = item.pop("published")
    assert published.endswith("Z")
    assert item == {
        "node": node,
        "id": "7",
        "event": "published",
        "origin": None,
        "entry": "http://www.w3.org/2005/Atom",
        "fields": None,
        "data": {"a": [1, None]},
    }
    assert gone == {"retracted": "7"}


@by_websocket
def test_several_nodes_share_one_connection(page, node):
    other = f"{node}/other"
    nodes.create(other).result(10)
    page.evaluate(
        """([node, other]) => {
            window.mine = connect({
                node: [node, other], event_cb(entry) { said.push(entry.textContent); },
            });
        }""",
        [node, other],
    )
    page.wait_for_function("() => mine.state === 'online'")
    (here,), (there,) = (nodes.subscriptions(name).result(10) for name in (node, other))
    assert here.jid == there.jid
    publish(node, "here").result(10)
    publish(other, "there").result(10)
    assert said(page, 2) == ["here", "there"]


def test_a_node_is_subscribed_once_and_until_its_last_listener_goes(page, node):
    page.evaluate(
        """(node) => {
            const client = connect({});
            window.first = client.subscribe(node, {onItem() { said.push("first"); }});
            window.second = client.subscribe(node, {onItem() { said.push("second"); }});
        }""",
        node,
    )
    subscribed(node)
    publish(node, "to both").result(10)
    assert said(page, 2) == ["first", "second"]
    page.evaluate("first.unsubscribe()")
    publish(node, "to the second").result(10)
    assert said(page, 3) == ["first", "second", "second"]
    page.evaluate("second.unsubscribe()")
    subscribed(node, 0)


@by_websocket
def test_a_callback_that_raises_harms_nobody(page, node):
    page.evaluate(
        """(node) => {
            const client = connect({node, event_cb() { throw new Error("of event_cb"); }});
            client.subscribe(node, {onItem() { throw new Error("of onItem"); }});
            client.subscribe(node, {onItem(item) { said.push(item.id); }});
        }""",
        node,
    )
    subscribed(node)
    for item_id in ("1", "2"):
        publish(node, "Hello", item_id=item_id).result(10)
    assert said(page, 2) == ["1", "2"]
    assert sorted(page.errors) == ["of event_cb"] * 2 + ["of onItem"] * 2
    page.errors.clear()


@by_websocket
def test_unread_counts_while_the_window_is_not_in_focus(page, node):
    page.evaluate(
        "(node) => { window.mine = connect({node, event_cb(e, c) { said.push(c.unread); }}); }",
        node,
    )
    subscribed(node)
    publish(node, "in focus").result(10)
    said(page, 1)
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    publish(node, "away").result(10)
    publish(node, "away").result(10)
    assert said(page, 3) == [0, 1, 2]
    assert page.evaluate("[mine.focus, mine.unread]") == [False, 2]
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    assert page.evaluate("[mine.focus, mine.unread]") == [True, 0]


def test_a_user_logs_in_with_a_password(page, node):
    page.evaluate(
        """([node, username, password]) => {
            connect({username, password, node, event_cb(entry) { said.push(entry.textContent); }});
        }""",
        [node, "alice", ACCOUNTS["alice@users.localhost"]],
    )
    subscribed(node)
    assert nodes.subscriptions(node).result(10)[0].jid.startswith("alice@users.localhost/")
    publish(node, "Hello").result(10)
    assert said(page, 1) == ["Hello"]
    nodes.delete(node).result(10)


@pytest.mark.parametrize("goodbye", ["mine.disconnect()", "location.reload()"])
def test_an_account_unsubscribes_when_it_says_goodbye(page, node, goodbye):
    """Where the server does not load our guard nobody else would."""
    page.evaluate(
        """([node, username, password]) => {
            localStorage.sent = "";
            for (const {prototype} of [WebSocket, XMLHttpRequest]) {
                const {send} = prototype;
                prototype.send = function (text) {
                    localStorage.sent += text;
                    return send.call(this, text);
                };
            }
            const {fetch} = window;
            window.fetch = (url, options) => {
                localStorage.sent += options.body;
                return fetch(url, options);
            };
            window.mine = connect({username, password, node});
        }""",
        [node, "alice", ACCOUNTS["alice@users.localhost"]],
    )
    page.wait_for_function("() => mine.state === 'online'")
    assert "<unsubscribe " not in page.evaluate("localStorage.sent")
    page.evaluate(goodbye)
    page.wait_for_function("() => localStorage.sent.includes('<unsubscribe ')")
    subscribed(node, 0)


@pytest.mark.parametrize("username", ["alice", "nobody", "django"])
def test_a_wrong_password_is_denied_and_not_tried_again(page, username):
    page.evaluate(
        """(username) => {
            const client = connect({username, password: "wrong"});
            client.addEventListener("state", (event) => said.push(event.detail));
            window.mine = client;
        }""",
        username,
    )
    page.wait_for_function("() => mine.state === 'denied'")
    assert page.evaluate("said") == ["denied"]
    assert any("not-authorized" in error for error in page.errors)
    page.errors.clear()  # Chromium's own words on the closed socket are among them


def test_a_page_attaches_to_a_session_made_by_the_server(page, node, site):
    settings = site.stack.settings
    made = BoshVisitor({**settings, "PUBSUB_BOSH_URL": f"{site.url}http-bind"}, node)
    page.evaluate(
        """([jid, sid, rid, node]) => {
            new PubSubClient({jid, sid, rid, node, event_cb(e) { said.push(e.textContent); }});
        }""",
        [made.jid, made.sid, made.next_rid, node],
    )
    subscribed(node)
    publish(node, "Hello").result(10)
    assert said(page, 1) == ["Hello"]
    made.close()


def test_a_visitor_cannot_publish_and_is_told_why(page, node):
    refusal = page.evaluate(
        """async (node) => {
            const client = connect({});
            await online(client);
            return client.publish(node, "mine").catch((error) => [error.name, error.condition]);
        }""",
        node,
    )
    assert refusal == ["PubSubError", "forbidden"]
    assert nodes.items(node).result(10) == []


def test_where_a_node_allows_it_a_page_publishes(page, node):
    nodes.configure(node, publish_model="open").result(10)
    ids = page.evaluate(
        """async (node) => {
            const client = connect({});
            await online(client);
            return client.publish(node, ["Hello <b>", {a: 1}]);
        }""",
        node,
    )
    items = nodes.items(node).result(10)
    assert sorted(item.id for item in items) == sorted(ids)
    texts = {item.payload.getCDATA() for item in items}
    assert "Hello <b>" in texts
    assert {"a": 1} in [json.loads(text) for text in texts if text.startswith("{")]


@by_websocket
@pytest.mark.parametrize("handlers", ["null", "(item) => item", "{onItem: 'show'}"])
def test_wrong_handlers_are_refused_at_the_call_and_harm_nobody(page, node, handlers):
    refusal = page.evaluate(
        f"""(node) => {{
            const client = connect({{}});
            client.subscribe(node, {{onItem(item) {{ said.push(item.id); }}}});
            try {{ client.subscribe(node, {handlers}); }} catch (error) {{ return error.name; }}
        }}""",
        node,
    )
    assert refusal == "TypeError"
    subscribed(node)
    publish(node, "Hello", item_id="7").result(10)
    assert said(page, 1) == ["7"]


@by_websocket
def test_what_the_server_sends_and_nobody_wants_is_declined(page, site, node):
    """As after a last listener that went while there was no connection to say so."""
    page.evaluate("(node) => { connect({node}); }", node)
    subscribed(node)
    (entry,) = nodes.subscriptions(node).result(10)
    other = f"{node}/other"
    nodes.create(other).result(10)
    owner = Connection(account_of(site.stack))
    service = site.stack.settings["XMPP_PUBSUB_HOST"]
    owner.request(stanzas.set_subscriptions(service, other, {entry.jid: "subscribed"})).result(10)
    owner.close()
    subscribed(other)
    publish(other, "unasked for").result(10)
    subscribed(other, 0)
    subscribed(node)


def test_disconnecting_ends_the_session(page, node):
    page.evaluate("(node) => { window.mine = connect({node}); }", node)
    subscribed(node)
    page.evaluate("mine.disconnect()")
    subscribed(node, 0)
    assert page.evaluate("mine.state") == "offline"


def test_over_websocket_the_server_has_the_last_word(visit, node):
    """Or its answer to our goodbye would come after the end, an error in the console."""
    page = visit()
    frames = []
    with page.expect_websocket() as opened:
        page.evaluate("(node) => { window.mine = new PubSubClient({node, shared: false}); }", node)
    subscribed(node)
    socket = opened.value
    socket.on("framereceived", lambda frame: frames.append(frame))
    page.evaluate("mine.disconnect()")
    # Asking the page for something lets Playwright hear what has happened meanwhile.
    until(lambda: page.title() and socket.is_closed(), "the end of the connection")
    assert frames[-1].startswith("<close ")


@by_websocket
def test_a_node_that_appears_later_is_subscribed_then(page):
    node = f"/test/{uuid.uuid4().hex}"
    with page.expect_console_message(lambda message: node in message.text):
        page.evaluate(
            "(node) => { connect({node, event_cb(entry) { said.push(entry.textContent); }}); }",
            node,
        )
    nodes.create(node).result(10)
    subscribed(node)
    publish(node, "Hello").result(10)
    assert said(page, 1) == ["Hello"]


@by_websocket
def test_a_name_used_twice_keeps_nobody_out(page, node):
    page.evaluate("(node) => { for (const n of [1, 2, 3]) connect({nick: 'Ada', node}); }", node)
    subscribed(node, 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ('{url: "ftp://example.org/"}', "ftp://example.org/"),
        ('{event_cb: "text"}', "text"),
        ('{node: ""}', '""'),
        ('{username: "alice"}', "password"),
        ('{jid: "a@b/c"}', "sid"),
    ],
)
def test_wrong_options_are_refused_by_name(visit, options, says):
    error = visit().evaluate(
        f"() => {{ try {{ new PubSubClient({options}); }} catch (e) {{ return String(e); }} }}"
    )
    assert says in (error or "")


def kept(spool: Path, name: bytes) -> bool:
    """Whether Mnesia would know a name after a crash, from its log or from a table's dump."""
    for file in (spool / "LATEST.LOG", *spool.glob("pubsub_state.*")):
        with suppress(FileNotFoundError):  # Mnesia is moving from one to the other
            if name in file.read_bytes():
                return True
    return False


def test_a_page_comes_back_when_ejabberd_was_restarted(page, site, node):
    page.evaluate(
        """(node) => {
            window.mine = connect({node, event_cb(entry) { said.push(entry.textContent); }});
        }""",
        node,
    )
    subscribed(node)
    (before,) = nodes.subscriptions(node).result(10)
    name = before.jid.partition("@")[0].encode()
    until(lambda: kept(site.stack.folder / "spool", name), "the subscription is on disk")
    site.stack.ejabberd.kill()
    page.wait_for_function("() => mine.state !== 'online'")
    site.stack.ejabberd.start()
    page.wait_for_function("() => mine.state === 'online'", timeout=60_000)
    # Under its old address, or the subscription of that one would stay for ever.
    assert [entry.jid for entry in nodes.subscriptions(node).result(10)] == [before.jid]
    publish(node, "back").result(10)
    assert said(page, 1) == ["back"]
    page.errors.clear()  # broken connections
