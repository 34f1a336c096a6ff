"""One listener at a real ejabberd, with a proxy between them wherever something shall fail."""

import dataclasses
import threading
import time
from contextlib import ExitStack

import psutil
import pytest

from pubsub.exceptions import (
    AuthenticationError,
    ConnectError,
    StreamLost,
    SubscriptionRefused,
)
from pubsub.wire import stanzas
from pubsub.wire.events import NS_EVENT
from pubsub.wire.listening import Listener
from tests.server.wire.conftest import publisher
from tests.waiting import until

SECONDS = 20  # for what should come at once; nothing waits as long unless it hangs
ENTRY = "<entry xmlns='urn:x'>{}</entry>"
EVENT = f"<event xmlns='{NS_EVENT}'><items node='/n'><item id='x'/></items></event>"


@pytest.fixture
def ask(account, connect):
    """A function that makes a request by another stream of the publisher's, and its result."""
    connection = connect(account)
    return lambda request: connection.request(request).result(SECONDS)


@pytest.fixture
def publish(ask, service):
    """A function that publishes an item whose text is its id."""
    return lambda node, item: ask(stanzas.publish(service, node, ENTRY.format(item), item))


@pytest.fixture
def subscribers(ask, service):
    """A function that tells the JIDs that are subscribed to a node."""
    return lambda node: [found.jid for found in ask(stanzas.subscriptions(service, node))]


@pytest.fixture
def nodes(ask, service, node):
    """Two nodes that tell of everything."""
    made = [f"{node}/{which}" for which in "ab"]
    for name in made:
        ask(stanzas.create(service, name, {"notify_retract": True, "notify_delete": True}))
    return made


@pytest.fixture
def reports():
    """What the listeners have reported."""
    return []


@pytest.fixture
def listen(account, service, reports):
    """A function that makes a listener, with changes to the account; it is closed in the end."""
    with ExitStack() as opened:

        def listen(*nodes, ping_after=30.0, answer_within=None, **changes):
            changed = dataclasses.replace(account, **changes)
            return opened.enter_context(
                Listener(
                    changed,
                    service,
                    nodes,
                    report=reports.append,
                    ping_after=ping_after,
                    answer_within=answer_within,
                )
            )

        yield listen


@pytest.fixture
def behind():
    """A function: what makes a listener go by a proxy that sees what is said."""
    return lambda proxy: {"port": proxy.port, "tls": "off"}


class Reading(threading.Thread):
    """Reads a listener in a thread, as far as it goes."""

    def __init__(self, listener):
        super().__init__(daemon=True)
        self.listener = listener
        self.events = []
        self.error = None
        self.start()

    def run(self):
        try:
            for event in self.listener:
                self.events.append(event)
                if event.id == "last":
                    break
        except Exception as error:  # noqa: BLE001 (whatever it is, the test looks at it)
            self.error = error

    @property
    def ids(self):
        return [event.id for event in self.events]


# In good weather


@pytest.mark.delivery
def test_events_of_all_nodes_come_in_the_order_in_which_they_happened(
    ask, service, nodes, listen, publish
):
    a, b = nodes
    listener = listen(a, b, a)
    assert listener.nodes == nodes
    publish(a, "1")
    publish(b, "2")
    ask(stanzas.retract(service, a, "1"))
    ask(purge(service, b))
    ask(stanzas.delete(service, b))
    found = [next(listener) for _ in range(5)]
    assert [(event.node, event.kind, event.id) for event in found] == [
        (a, "item", "1"),
        (b, "item", "2"),
        (a, "retract", "1"),
        (b, "purge", ""),
        (b, "delete", ""),
    ]
    assert found[0].payload.getData() == "1"


def purge(service, node):
    body = f'<purge node="{node}"/>'
    namespace = "http://jabber.org/protocol/pubsub#owner"
    return stanzas.Request(
        "set", service, f'<pubsub xmlns="{namespace}">{body}</pubsub>', lambda result: None
    )


@pytest.mark.parametrize("tls", ["starttls", "direct"])
@pytest.mark.delivery
def test_much_that_comes_at_once_is_read_to_the_end(account, stack, connect, listen, nodes, tls):
    listener = listen(
        nodes[0], tls=tls, port=stack.ports.xmpp if tls == "starttls" else stack.ports.xmpp_tls
    )
    connection = connect(account)
    text = ENTRY.format("x" * 10_000)
    futures = [
        connection.request(stanzas.publish(listener._service, nodes[0], text, str(number)))
        for number in range(300)
    ]
    assert [next(listener).id for _ in range(300)] == [str(number) for number in range(300)]
    assert all(future.result(SECONDS) for future in futures)


@pytest.mark.delivery
def test_what_a_node_holds_already_is_no_event(ask, service, listen, nodes, publish):
    for node in nodes:
        ask(stanzas.configure(service, node, {"send_last_published_item": "on_sub"}))
        publish(node, "old")
    listener = listen(*nodes)
    publish(nodes[0], "new")
    assert next(listener).id == "new"


def test_two_listeners_do_not_disturb_each_other(listen, nodes, publish, subscribers):
    first, second = listen(*nodes), listen(*nodes)
    publish(nodes[0], "1")
    assert next(first).id == next(second).id == "1"
    first.close()
    assert len(subscribers(nodes[0])) == 1
    publish(nodes[0], "2")
    assert next(second).id == "2"


def test_nothing_is_left_on_the_server_or_here_when_it_is_closed(listen, nodes, subscribers):
    listener = listen(*nodes)
    descriptors = psutil.Process().num_fds()
    assert [len(subscribers(node)) for node in nodes] == [1, 1]
    listener.close()
    listener.close()
    assert [subscribers(node) for node in nodes] == [[], []]
    assert list(listener) == []
    assert psutil.Process().num_fds() == descriptors - 1


@pytest.mark.delivery
def test_it_ends_when_no_node_is_left(ask, service, listen, nodes, reports):
    listener = listen(*nodes)
    for node in nodes:
        ask(stanzas.delete(service, node))
    assert [event.kind for event in listener] == ["delete", "delete"]
    assert reports == [f"Nothing comes from {node!r} any more: it was deleted" for node in nodes]


@pytest.mark.delivery
def test_an_owner_who_excludes_it_is_reported(ask, service, listen, nodes, subscribers, reports):
    listener = listen(nodes[0])
    (jid,) = subscribers(nodes[0])
    ask(stanzas.set_subscriptions(service, nodes[0], {jid: "none"}))
    assert [event.kind for event in listener] == ["unsubscribed"]
    assert "excluded us" in reports[0]


def test_a_ping_of_the_server_is_answered(open_proxy, behind, listen, nodes, publish):
    proxy = open_proxy()
    listener = listen(nodes[0], **behind(proxy))
    proxy.inject(b"<iq type='get' from='localhost' id='a ping'><ping xmlns='urn:xmpp:ping'/></iq>")
    publish(nodes[0], "1")
    assert next(listener).id == "1"
    publish(nodes[0], "2")
    assert next(listener).id == "2"
    until(lambda: b'<iq type="result" id="a ping"' in proxy.received, "the answer")


@pytest.mark.parametrize(
    "said",
    [
        f"<message from='mallory@localhost'>{EVENT}</message>".encode(),
        b"<message/><presence/><iq type='result' id='unknown'/><x/>",
    ],
)
def test_what_is_not_meant_for_it_is_passed_over(
    open_proxy, behind, listen, nodes, publish, said, reports
):
    proxy = open_proxy()
    listener = listen(nodes[0], **behind(proxy))
    proxy.inject(said)
    publish(nodes[0], "1")
    assert next(listener).id == "1"
    assert reports == []


# What cannot be listened to


def test_a_node_that_does_not_exist_is_named_and_nothing_stays_subscribed(
    listen, nodes, node, subscribers
):
    with pytest.raises(SubscriptionRefused, match="publish something to it first") as refused:
        listen(nodes[0], f"{node}/'missing'", nodes[1])
    assert refused.value.node == f"{node}/'missing'"
    assert refused.value.condition == "item-not-found"
    assert repr(f"{node}/'missing'") in str(refused.value)
    assert [subscribers(name) for name in nodes] == [[], []]


def test_a_node_that_is_closed_to_it_is_named(ask, service, listen, nodes, account):
    ask(stanzas.configure(service, nodes[0], {"access_model": "whitelist"}))
    with pytest.raises(SubscriptionRefused, match=r"cannot listen to the node .*closed-node"):
        listen(nodes[0], jid="alice@users.localhost", password="alice's password")


def test_wrong_credentials_are_told_at_once(listen, nodes):
    with pytest.raises(AuthenticationError, match="not-authorized"):
        listen(nodes[0], password="wrong")


def test_a_server_that_is_not_there_is_told_at_once(listen, nodes):
    with pytest.raises(ConnectError, match="refused"):
        listen(nodes[0], port=1)


def test_a_server_that_freezes_while_it_is_asked_is_told_in_time(open_proxy, behind, nodes, listen):
    def rewrite(link, data):
        return b"" if b"subscription" in data else data

    begin = time.monotonic()
    with pytest.raises(StreamLost, match="no answer within"):
        listen(nodes[0], answer_within=0.3, timeout=3, **behind(open_proxy(rewrite=rewrite)))
    assert time.monotonic() - begin < SECONDS


# The weather


@pytest.mark.parametrize("rst", [True, False])
def test_a_stream_that_is_cut_is_opened_again_and_leaves_one_subscription(
    open_proxy, behind, listen, nodes, publish, subscribers, reports, rst
):
    proxy = open_proxy()
    reading = Reading(listen(*nodes, **behind(proxy)))
    publish(nodes[0], "before")
    until(lambda: reading.ids == ["before"], "an event")
    before = subscribers(nodes[0])
    proxy.cut(rst=rst)
    until(lambda: "Listening again" in reports[-1] if reports else False, "it listens again")
    assert "trying again in" in reports[0]
    until(lambda: len(subscribers(nodes[0])) == 1, "one subscription is left")
    (after,) = subscribers(nodes[0])
    assert after not in before
    publish(nodes[1], "last")
    until(lambda: reading.ids[-1] == "last", "an event of the new stream")
    reading.join(SECONDS)
    reading.listener.close()
    assert [subscribers(node) for node in nodes] == [[], []]


def test_a_server_that_was_killed_is_found_again_with_its_nodes(
    private_stack, listen, connect, node, reports
):
    stack = private_stack()
    there = publisher(stack)
    service = stack.settings["XMPP_PUBSUB_HOST"]
    connection = connect(there)
    connection.request(stanzas.create(service, node, {})).result(SECONDS)
    # A server that is killed forgets what is not on its disk yet; one that ends writes it down.
    stack.ejabberd.stop()
    stack.ejabberd.start()
    changes = dataclasses.asdict(there)
    reading = Reading(listen(node, **changes))
    stack.ejabberd.kill()
    until(lambda: len(reports) >= 2, "attempts that fail")
    stack.ejabberd.start()
    until(lambda: "Listening again" in reports[-1] or reading.error, "it listens again", 60)
    assert reading.error is None
    request = stanzas.publish(service, node, ENTRY.format("x"), "last")
    until(lambda: connection.request(request).exception(SECONDS) is None, "it is published")
    until(lambda: reading.ids[-1:] == ["last"], "an event of the server that came back")
    reading.join(SECONDS)
    reading.listener.close()
    left = connection.request(stanzas.subscriptions(service, node)).result(SECONDS)
    assert left == []


def test_a_server_that_freezes_is_noticed_and_left(
    open_proxy, behind, listen, nodes, publish, reports
):
    proxy = open_proxy()
    reading = Reading(listen(nodes[0], ping_after=0.2, answer_within=0.5, **behind(proxy)))
    until(lambda: proxy.count(b"urn:xmpp:ping") >= 2, "it asks for signs of life")
    proxy.freeze()
    until(lambda: reports, "it has noticed")
    assert "no answer within 0.5 s" in reports[0]
    proxy.thaw()
    until(lambda: "Listening again" in reports[-1], "it listens again")
    until(lambda: publish(nodes[0], "last") and reading.ids[-1:] == ["last"], "an event")


def test_a_node_that_is_gone_when_it_comes_back_is_told(
    ask, service, open_proxy, behind, listen, nodes, subscribers
):
    proxy = open_proxy()
    reading = Reading(listen(*nodes, **behind(proxy)))
    proxy.go_down()
    ask(stanzas.delete(service, nodes[1]))
    proxy.come_up()
    reading.join(SECONDS)
    assert isinstance(reading.error, SubscriptionRefused)
    assert reading.error.node == nodes[1]
    reading.listener.close()
    assert subscribers(nodes[0]) == []


def test_a_password_that_was_changed_meanwhile_is_told(open_proxy, behind, listen, nodes, reports):
    proxy = open_proxy()
    listener = listen(nodes[0], **behind(proxy))
    listener.account = dataclasses.replace(listener.account, password="wrong")
    reading = Reading(listener)
    proxy.cut()
    reading.join(SECONDS)
    assert isinstance(reading.error, AuthenticationError)
    listener.close()
    assert "The server keeps the subscription of django@localhost/" in reports[-1]
    assert repr(nodes[0]) in reports[-1]


# The end


def test_a_stream_that_is_gone_when_it_is_closed_leaves_nothing(
    open_proxy, behind, listen, nodes, subscribers
):
    proxy = open_proxy()
    listener = listen(*nodes, **behind(proxy))
    proxy.cut()
    listener.close()
    assert [subscribers(node) for node in nodes] == [[], []]


def test_closing_does_not_wait_for_ever_and_says_what_it_leaves(
    open_proxy, behind, listen, nodes, reports
):
    proxy = open_proxy()
    listener = listen(nodes[0], timeout=0.5, **behind(proxy))
    proxy.freeze()
    begin = time.monotonic()
    listener.close()
    assert time.monotonic() - begin < SECONDS
    assert "The server keeps the subscription of django@localhost/" in reports[-1]
    assert repr(nodes[0]) in reports[-1]


class Interruption(KeyboardInterrupt):
    """What Ctrl-C raises, wherever we are."""


def interrupted_at(monkeypatch, owner, name):
    """Let a method of an object be interrupted at its next call, after it has done its work."""
    method = getattr(owner, name)

    def interrupt(*args):
        monkeypatch.setattr(owner, name, method)
        result = method(*args)
        list(result) if name == "read" else result
        raise Interruption

    monkeypatch.setattr(owner, name, interrupt)


@pytest.mark.parametrize("point", ["read", "write"])
def test_an_interruption_at_any_point_leaves_nothing(
    monkeypatch, listen, nodes, publish, subscribers, point
):
    listener = listen(*nodes, ping_after=0.0)
    interrupted_at(monkeypatch, listener._dialogue._session, point)
    with pytest.raises(Interruption):
        next(listener)
    assert not listener._dialogue.is_sound
    listener.close()
    assert [subscribers(node) for node in nodes] == [[], []]


def test_one_can_go_on_after_an_interruption(
    monkeypatch, listen, nodes, publish, subscribers, reports
):
    listener = listen(*nodes, ping_after=0.0)
    interrupted_at(monkeypatch, listener._dialogue._session, "read")
    with pytest.raises(Interruption):
        next(listener)
    reading = Reading(listener)
    until(lambda: "Listening again" in reports[-1] if reports else False, "it listens again")
    publish(nodes[0], "last")
    reading.join(SECONDS)
    assert reading.ids == ["last"]
    assert [len(subscribers(node)) for node in nodes] == [1, 1]


def test_an_interruption_while_it_subscribes_leaves_nothing(
    monkeypatch, listen, nodes, subscribers
):
    def interrupt(*args):
        monkeypatch.undo()
        raise Interruption

    monkeypatch.setattr("pubsub.wire.dialogue.Dialogue.drive_until_done", interrupt)
    with pytest.raises(Interruption):
        listen(*nodes)
    assert [subscribers(node) for node in nodes] == [[], []]


def test_what_no_server_says_ends_the_stream_and_the_next_one_takes_over(
    open_proxy, behind, listen, nodes, publish, reports
):
    proxy = open_proxy()
    reading = Reading(listen(nodes[0], **behind(proxy)))
    proxy.inject(b"<message>&undeclared;</message>")
    until(lambda: "Listening again" in reports[-1] if reports else False, "it listens again")
    assert "no XMPP" in reports[0]
    publish(nodes[0], "last")
    reading.join(SECONDS)
    assert reading.ids == ["last"]
