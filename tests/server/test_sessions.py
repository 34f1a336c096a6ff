"""deploy/ejabberd/mod_pubsub_sessions.erl in ejabberd: what its subscribers and the owner see."""

import re
import secrets
import subprocess
import tempfile
import threading
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from websockets.exceptions import ConnectionClosed

from pubsub import nodes, publish, retract
from pubsub.backends import get_backend
from pubsub.devstack import Stack
from pubsub.devstack.erlang import erlang_libraries
from pubsub.exceptions import RequestRefused
from tests.listener import listening
from tests.server import erlang
from tests.visitors import BoshVisitor, WebSocketStream, WebSocketVisitor, subscribe
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

SERVICE, GUESTS, USERS = "pubsub.localhost", "guests.localhost", "users.localhost"
ALICE = "alice@users.localhost"
PUBSUB = "http://jabber.org/protocol/pubsub"
EVENT = f"{PUBSUB}#event"
ITEM = f"{{{EVENT}}}item"
ATOM = "{http://www.w3.org/2005/Atom}"
FIRST, SECOND = "a@127.0.0.1", "b@127.0.0.2"
TESTS = Path(__file__).parent.parent / "erlang"
MODULES = Path(__file__).parents[2] / "deploy" / "ejabberd"


@pytest.fixture(scope="module")
def port() -> int:
    return erlang.free_port()


@pytest.fixture(scope="module")
def ejabberd(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Stack]:
    """An ejabberd with the module, whatever the environment says, which can be asked in Erlang."""
    folder = tmp_path_factory.mktemp("sessions")
    stack = Stack(
        folder / "a", sessions=True, log_level="info", accounts={ALICE: "alice's password"}
    )
    with running(stack, "a", "127.0.0.1", port):
        yield stack


@contextmanager
def running(stack: Stack, name: str, address: str, port: int) -> Iterator[None]:
    """The stack runs, with an ejabberd that others can talk to, as long as the block lasts."""
    with erlang.distributed(name, address, port):
        stack.start()
    try:
        yield
    finally:
        stack.stop()


@pytest.fixture(autouse=True)
def publisher(ejabberd: Stack, settings: Any) -> None:
    for name, value in ejabberd.settings.items():
        setattr(settings, name, value)


@pytest.fixture
def node() -> str:
    name = f"/test/{uuid.uuid4().hex}"
    nodes.create(name).result(20)
    return name


@pytest.fixture
def guest(ejabberd: Stack) -> Iterator[Callable[[str], WebSocketVisitor]]:
    """A function that lets a guest in, who subscribes to a node."""
    with ExitStack() as stack:

        def enter(node: str) -> WebSocketVisitor:
            visitor = WebSocketVisitor(ejabberd.settings, node)
            stack.callback(visitor.vanish)
            return visitor

        yield enter


def request(visitor: WebSocketStream, kind: str, body: str, identifier: str = "") -> ET.Element:
    """The answer to a request to the service, and what is said before it is forgotten."""
    return visitor.request(iq(kind, body, identifier))


def iq(kind: str, body: str, identifier: str = "") -> str:
    identifier = identifier or secrets.token_hex(4)
    return (
        f'<iq xmlns="jabber:client" type="{kind}" id="{identifier}" to="{SERVICE}">'
        f'<pubsub xmlns="{PUBSUB}">{body}</pubsub></iq>'
    )


def items(node: str) -> str:
    return f"<items node={quoteattr(node)}/>"


def unsubscribe(node: str, jid: str, subid: str = "") -> str:
    return f'<unsubscribe node={quoteattr(node)} jid="{jid}" subid="{subid}"/>'


def texts(stanza: str | ET.Element) -> list[str]:
    """The texts of the items in an event."""
    element = ET.fromstring(stanza) if isinstance(stanza, str) else stanza
    return ["".join(item.itertext()) for item in element.iter(ITEM)]


def subscribers(node: str) -> list[str]:
    return sorted(entry.jid for entry in nodes.subscriptions(node).result(20))


def is_deaf(visitor: WebSocketStream, node: str) -> bool:
    """Whether a visitor, who is asked once more, has not heard of an item published meanwhile."""
    publish(node, "is anybody there?", item_id="question").result(20)
    number = secrets.token_hex(4)
    visitor.send(iq("get", "<subscriptions/>", number))
    is_told = False
    while number not in (said := visitor.hear()):
        is_told = is_told or "is anybody there?" in said
    return not is_told


def erl(port: int, expression: str, at: str = FIRST) -> str:
    return erlang.call(at, port, expression)


def says(stack: Stack, words: str) -> None:
    """Wait until ejabberd's log holds some words."""
    log = stack.folder / "ejabberd.log"
    until(lambda: words in log.read_text(), f"the log holds {words!r}")


# Erlang's own tests


def test_pubsub_fanout_keeps_its_promises(tmp_path):
    tests = sorted(TESTS.glob("*.erl"))
    sources = [*sorted(MODULES.glob("pubsub_*.erl")), *tests]
    environment = {"ERL_LIBS": erlang_libraries(), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    names = ",".join(test.stem for test in tests)
    for command in (
        ["erlc", "+warnings_as_errors", "-o", str(tmp_path), *map(str, sources)],
        ["erl", "-noinput", "-pa", str(tmp_path)]
        + ["-eval", f"halt(case eunit:test([{names}]) of ok -> 0; error -> 1 end)."],
    ):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr


# On the wire


def test_an_event_is_the_one_that_mod_pubsub_sends_but_for_its_addressee(ejabberd, node, guest):
    """alice has subscribed with her bare JID, and is served by mod_pubsub."""
    served = guest(node)
    alice = WebSocketStream(ejabberd.settings["PUBSUB_WEBSOCKET_URL"], USERS)
    alice.log_in("alice", "alice's password")
    alice.send('<presence xmlns="jabber:client"/>')
    assert alice.request(subscribe(SERVICE, node, ALICE)).get("type") == "result"
    publish(node, "<&> \u00e9 'quoted'", item_id="1").result(20)
    expected = next(e for e in map(ET.fromstring, iter(alice.hear, "")) if texts(e))
    alice.vanish()
    event = ET.fromstring(served.hear())
    assert expected.attrib.pop("to").startswith(ALICE)
    assert ET.canonicalize(ET.tostring(event)) == ET.canonicalize(ET.tostring(expected))


def test_sessions_over_websocket_bosh_and_tcp_hear_all_kinds_of_events(ejabberd, node, guest):
    nodes.configure(node, notify_retract=True).result(20)
    websocket, bosh = guest(node), BoshVisitor(ejabberd.settings, node)
    with listening(ejabberd.settings, node) as tcp:
        publish(node, "Hello", item_id="1").result(20)
        retract(node, "1").result(20)
        assert [texts(websocket.hear()), texts(websocket.hear())] == [["Hello"], []]
        assert tcp.next().text == "Hello"
        assert tcp.next().entry is None
        heard = [bosh.post("")]
        while not list(heard[-1].iter(f"{{{EVENT}}}retract")):
            heard.append(bosh.post(""))
        assert [text for body in heard for text in texts(body)] == ["Hello"]
        bosh.say_goodbye()


def rows(port: int, node: str) -> list[tuple[str, str]]:
    """Host and resource of those who are mod_pubsub's subscribers, and have no user."""
    known = (
        f'Service = <<"{SERVICE}">>, Node = <<"{node}">>, '
        "Index = element(3, mod_pubsub:tree_action(Service, get_node, [Service, Node])), "
        'mod_pubsub:node_action(Service, <<"flat">>, get_node_subscriptions, [Index])'
    )
    return sorted(re.findall(r'{{<<>>,<<"([^"]*)">>,<<"([^"]*)">>},subscribed', erl(port, known)))


def test_mod_pubsub_has_one_subscriber_where_there_are_many_sessions(node, guest, port):
    visitors = [guest(node) for _ in range(5)]
    assert rows(port, node) == [(f"sessions.{SERVICE}", FIRST)]
    assert subscribers(node) == sorted(visitor.jid for visitor in visitors)


def test_the_meta_data_of_a_node_count_its_sessions(ejabberd, node, guest):
    for _ in range(3):
        guest(node)
    stream = WebSocketStream(ejabberd.settings["PUBSUB_WEBSOCKET_URL"], "localhost")
    stream.log_in("django", ejabberd.settings["XMPP_PASSWORD"], "meta")
    said = stream.request(
        f'<iq xmlns="jabber:client" type="get" id="m" to="{SERVICE}">'
        f'<query xmlns="http://jabber.org/protocol/disco#info" node={quoteattr(node)}/></iq>'
    )
    stream.vanish()
    field = next(f for f in said.iter("{jabber:x:data}field") if "num_subscribers" in f.get("var"))
    assert "".join(field.itertext()) == "3"


def test_a_session_reads_its_own_subscriptions(node, guest):
    visitor, _ = guest(node), guest(node)
    said = request(visitor, "get", "<subscriptions/>")
    assert [s.get("jid") for s in said.iter(f"{{{PUBSUB}}}subscription")] == [visitor.jid]
    of_node = request(visitor, "get", f"<subscriptions node={quoteattr(node)}/>")
    assert [s.get("jid") for s in of_node.iter(f"{{{PUBSUB}}}subscription")] == [visitor.jid]
    of_another = request(visitor, "get", '<subscriptions node="/another"/>')
    assert not list(of_another.iter(f"{{{PUBSUB}}}subscription"))


def test_only_the_publisher_is_told_what_is_served(ejabberd, node, guest):
    before = get_backend().fanout_status().result(20)
    visitor = guest(node)
    now = get_backend().fanout_status().result(20)
    assert now.subscriptions == before.subscriptions + 1
    said = visitor.request(
        f'<iq xmlns="jabber:client" type="get" id="s" to="sessions.{SERVICE}">'
        '<status xmlns="urn:django-pubsub:sessions:1"/></iq>'
    )
    assert said.get("type") == "error"


# Who leaves, and who is put out


def test_who_unsubscribes_hears_nothing_more(node, guest):
    visitor, other = guest(node), guest(node)
    assert request(visitor, "set", unsubscribe(node, visitor.jid)).get("type") == "result"
    assert subscribers(node) == [other.jid]
    assert is_deaf(visitor, node)
    assert texts(other.hear()) == ["is anybody there?"]
    again = request(visitor, "set", unsubscribe(node, visitor.jid))
    assert again.find(f".//{{{PUBSUB}#errors}}not-subscribed") is not None


def test_who_unsubscribes_by_a_wrong_id_stays(node, guest):
    visitor = guest(node)
    answer = request(visitor, "set", unsubscribe(node, visitor.jid, "of somebody else"))
    assert answer.get("type") == "error"
    assert not is_deaf(visitor, node)
    [entry] = nodes.subscriptions(node).result(20)
    by_his = request(visitor, "set", unsubscribe(node, visitor.jid, entry.subid))
    assert by_his.get("type") == "result"
    assert is_deaf(visitor, node)


def test_who_subscribes_once_more_has_one_subscription(node, guest):
    visitor = guest(node)
    [entry] = nodes.subscriptions(node).result(20)
    answer = visitor.request(subscribe(SERVICE, node, visitor.jid))
    found = answer.find(f".//{{{PUBSUB}}}subscription")
    assert found is not None
    assert found.get("subid") == entry.subid
    publish(node, "Hello", item_id="1").result(20)
    publish(node, "Goodbye", item_id="2").result(20)
    assert [texts(visitor.hear()), texts(visitor.hear())] == [["Hello"], ["Goodbye"]]


def test_a_user_unsubscribes_another_session_of_his(ejabberd, node):
    """Two streams of alice; of the first she has lost sight."""
    streams = []
    for resource in ("lost", "new"):
        stream = WebSocketStream(ejabberd.settings["PUBSUB_WEBSOCKET_URL"], USERS)
        stream.log_in("alice", "alice's password", resource)
        answer = stream.request(subscribe(SERVICE, node, f"{ALICE}/{resource}"))
        assert answer.get("type") == "result"
        streams.append(stream)
    lost, new = streams
    assert request(new, "set", unsubscribe(node, f"{ALICE}/lost")).get("type") == "result"
    assert subscribers(node) == [f"{ALICE}/new"]
    assert is_deaf(lost, node)
    for stream in streams:
        stream.vanish()


@pytest.mark.parametrize("politely", [True, False])
def test_a_session_that_ends_takes_its_subscriptions_along(node, guest, politely):
    visitor = guest(node)
    visitor.say_goodbye() if politely else visitor.vanish()
    until(lambda: subscribers(node) == [], "nobody is subscribed")


def test_whom_the_owner_unsubscribes_is_told_so_and_hears_nothing_more(node, guest):
    visitor, other = guest(node), guest(node)
    nodes.set_subscriptions(node, {visitor.jid: "none"}).result(20)
    assert subscribers(node) == [other.jid]
    told = ET.fromstring(visitor.hear()).find(f".//{{{EVENT}}}subscription")
    assert told is not None
    assert told.get("subscription") == "none"
    assert is_deaf(visitor, node)
    assert texts(other.hear()) == ["is anybody there?"]


def test_who_is_no_owner_unsubscribes_nobody(ejabberd, node, guest, settings):
    """Alice has an account, and asks as an owner would."""
    visitor = guest(node)
    stream = WebSocketStream(ejabberd.settings["PUBSUB_WEBSOCKET_URL"], USERS)
    stream.log_in("alice", "alice's password")
    answer = stream.request(
        f'<iq xmlns="jabber:client" type="set" id="o" to="{SERVICE}">'
        f'<pubsub xmlns="{PUBSUB}#owner">'
        f'<subscriptions node={quoteattr(node)}><subscription jid="{visitor.jid}" '
        'subscription="none"/></subscriptions></pubsub></iq>'
    )
    stream.vanish()
    assert answer.get("type") == "error"
    assert not is_deaf(visitor, node)


@pytest.mark.parametrize("affiliation", ["outcast", "publish-only"])
def test_whom_the_owner_shuts_out_hears_nothing_more(node, guest, affiliation):
    visitor, other = guest(node), guest(node)
    nodes.set_affiliations(node, {visitor.jid.partition("/")[0]: affiliation}).result(20)
    assert subscribers(node) == [other.jid]
    assert is_deaf(visitor, node)


def test_who_is_no_member_any_more_hears_nothing_more_of_a_private_node(ejabberd, node, guest):
    visitor = guest(node)
    name = visitor.jid.partition("/")[0]
    nodes.set_affiliations(node, {name: "member"}).result(20)
    nodes.configure(node, access_model="whitelist").result(20)
    assert not is_deaf(visitor, node)
    nodes.set_affiliations(node, {name: "none"}).result(20)
    assert subscribers(node) == []
    assert is_deaf(visitor, node)


def test_who_may_not_subscribe_is_told_so_and_hears_nothing(ejabberd, node):
    nodes.configure(node, access_model="whitelist").result(20)
    stream = WebSocketStream(ejabberd.settings["PUBSUB_WEBSOCKET_URL"], GUESTS)
    stream.log_in("nobody")
    jid = f"nobody@{GUESTS}/page"
    answer = stream.request(subscribe(SERVICE, node, jid))
    assert answer.find(f".//{{{PUBSUB}#errors}}closed-node") is not None
    assert subscribers(node) == []
    assert is_deaf(stream, node)
    stream.vanish()


def test_who_had_subscribed_to_a_deleted_node_is_no_subscriber_of_the_next(node, guest):
    visitor = guest(node)
    nodes.delete(node).result(20)
    assert ET.fromstring(visitor.hear()).find(f".//{{{EVENT}}}delete") is not None
    nodes.create(node).result(20)
    assert subscribers(node) == []
    assert is_deaf(visitor, node)
    assert visitor.request(subscribe(SERVICE, node, visitor.jid)).get("type") == "result"
    assert not is_deaf(visitor, node)


def test_what_is_for_those_with_presence_is_not_served(node, guest):
    visitor = guest(node)
    nodes.configure(node, presence_based_delivery=True).result(20)
    with pytest.raises(ConnectionClosed):
        while True:
            visitor.hear()
    silent = guest(node)
    assert is_deaf(silent, node)
    silent.send('<presence xmlns="jabber:client"/>')
    while "<presence" not in silent.hear():
        pass
    assert not is_deaf(silent, node)


def test_who_must_be_a_subscriber_to_publish_publishes(node, guest):
    nodes.configure(node, publish_model="subscribers").result(20)
    visitor = guest(node)
    body = (
        f"<publish node={quoteattr(node)}><item id='1'><a xmlns='urn:a'>mine</a></item></publish>"
    )
    assert request(visitor, "set", body).get("type") == "result"
    assert visitor.jid in subscribers(node)
    request(visitor, "set", unsubscribe(node, visitor.jid))
    assert request(visitor, "set", body).get("type") == "error"


def test_a_page_that_has_replaced_itself_can_be_put_out(ejabberd, node):
    """Its connection broke, and it comes again under its old address; the old session ends late."""
    old, new = (WebSocketVisitor(ejabberd.settings, node, name="replaced") for _ in range(2))
    with pytest.raises(ConnectionClosed):
        while True:
            old.hear()
    says(ejabberd, "Closing c2s session for replaced@")
    assert subscribers(node) == [new.jid]
    assert not is_deaf(new, node)
    nodes.set_affiliations(node, {new.jid.partition("/")[0]: "outcast"}).result(20)
    assert is_deaf(new, node)
    new.vanish()


def test_whoever_asks_for_what_mod_pubsub_cannot_answer_goes_on_hearing(node, guest):
    """A page of a result that begins behind its end is too much for mod_pubsub 23.01."""
    nodes.configure(node, access_model="authorize").result(20)
    nodes.configure(node, access_model="open").result(20)
    visitor = guest(node)
    nodes.configure(node, access_model="authorize").result(20)
    page = '<set xmlns="http://jabber.org/protocol/rsm"><max>10</max><index>100</index></set>'
    publish(node, "one", item_id="1").result(20)
    assert request(visitor, "get", items(node) + page).get("type") == "error"
    assert not is_deaf(visitor, node)
    assert subscribers(node) == [visitor.jid]


def test_who_asks_again_and_again_cannot_stay_when_the_owner_unsubscribes_him(node, guest):
    visitor = guest(node)
    wrong = iq("set", unsubscribe(node, visitor.jid, "of somebody else"))
    for _ in range(20):
        for _ in range(10):
            visitor.send(wrong)
        nodes.set_subscriptions(node, {visitor.jid: "none"}).result(20)
        assert subscribers(node) == []
        assert is_deaf(visitor, node)
        assert visitor.request(subscribe(SERVICE, node, visitor.jid)) is not None
        until(lambda: subscribers(node) == [visitor.jid], "he has subscribed again")


def test_a_fan_out_is_started_for_no_node_that_is_gone(node, port):
    server = f"'mod_pubsub_sessions_{GUESTS}'"
    key = f'{{<<"{SERVICE}">>, <<"{node}">>, 1000000}}'
    assert erl(port, f"gen_server:call({server}, {{fanout, {key}}})") == "gone"


# Order


class Counting(threading.Thread):
    """Publishes 1, 2, 3 … as one item, each when the last has been acknowledged."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node
        self._told = threading.Event()
        self.last = 0

    def run(self) -> None:
        backend = get_backend()
        while not self._told.is_set():
            self.last += 1
            publish(self._node, str(self.last), item_id="1").result(20)
        backend.close()

    def __exit__(self, *error: object) -> None:
        self._told.set()
        self.join()

    def __enter__(self) -> "Counting":
        self.start()
        return self


def numbers(stanza: str | ET.Element) -> list[int]:
    """What an event, or an answer, says of the items."""
    element = ET.fromstring(stanza) if isinstance(stanza, str) else stanza
    return [int("".join(entry.itertext())) for entry in element.iter(f"{ATOM}entry")]


def test_an_event_that_comes_after_an_answer_is_not_older_than_it(node, guest):
    """A visitor asks for the item again and again while it changes; he never goes back in time."""
    visitor = guest(node)
    with Counting(node):
        known = 0
        for turn in range(150):
            visitor.send(iq("get", items(node), f"ask{turn}"))
            answered = False
            while not answered:
                said = visitor.hear()
                for number in numbers(said):
                    assert number >= known
                    known = number
                answered = f"ask{turn}" in said
    assert known > 10


@pytest.mark.parametrize("transport", ["WebSocket", "BOSH"])
def test_who_subscribes_while_items_are_published_misses_none_from_then_on(
    ejabberd, node, transport
):
    """From the last item on, which he is told with the answer, he hears of each."""
    with Counting(node) as counting:
        until(lambda: counting.last > 3, "some items have been published")
        for _ in range(15):
            heard: list[int] = []
            if transport == "BOSH":
                bosh = BoshVisitor(ejabberd.settings, node)
                while len(heard) < 10:
                    heard += numbers(bosh.post(""))
                bosh.vanish()
            else:
                visitor = WebSocketStream(ejabberd.settings["PUBSUB_WEBSOCKET_URL"], GUESTS)
                name = secrets.token_hex(4)
                visitor.log_in(name)
                visitor.send(subscribe(SERVICE, node, f"{name}@{GUESTS}/page"))
                while len(heard) < 10:
                    heard += numbers(visitor.hear())
                visitor.vanish()
            fresh = sorted(set(heard))
            assert heard == sorted(heard)
            assert fresh == list(range(fresh[0], fresh[0] + len(fresh)))


# Those who do not read


def test_a_page_that_does_not_read_is_disconnected(ejabberd, node, guest):
    """Ten megabytes may wait for it; others go on."""
    sleeper, other = guest(node), guest(node)
    big = "x" * 200_000

    def is_gone() -> bool:
        publish(node, big, item_id="big").result(20)
        assert len(other.hear()) > len(big)
        return sleeper.jid not in subscribers(node)

    until(is_gone, "the sleeper has been disconnected", seconds=60)
    says(ejabberd, f"Disconnecting {sleeper.jid}, which does not read")
    publish(node, "small", item_id="big").result(20)
    while texts(other.hear()) != ["small"]:
        pass


def test_a_bosh_session_that_nobody_polls_is_ended(ejabberd, node):
    sleeper = BoshVisitor(ejabberd.settings, node)
    big = "x" * 200_000

    def is_gone() -> bool:
        publish(node, big, item_id="big").result(20)
        return sleeper.jid not in subscribers(node)

    until(is_gone, "the sleeper has been ended", seconds=25)
    says(ejabberd, f"Disconnecting {sleeper.jid}, which does not read")
    sleeper.vanish()


# Faults


def test_sessions_come_again_when_a_fan_out_fails(node, guest, port):
    visitor = guest(node)
    erl(
        port,
        f'[exit(Pid, kill) || {{{{_, <<"{node}">>, _}}, Pid, _}} <- '
        f"ets:tab2list('mod_pubsub_sessions_fanouts_{GUESTS}')]",
    )
    with pytest.raises(ConnectionClosed):
        while True:
            visitor.hear()
    until(lambda: subscribers(node) == [], "nobody is subscribed")
    assert not is_deaf(guest(node), node)


def test_sessions_come_again_when_the_module_is_stopped_and_mod_pubsub_serves_them(
    node, guest, port
):
    visitor = guest(node)
    erl(port, f'gen_mod:stop_module(<<"{GUESTS}">>, mod_pubsub_sessions)')
    try:
        with pytest.raises(ConnectionClosed):
            while True:
                visitor.hear()
        plain = guest(node)
        assert not is_deaf(plain, node)
        assert subscribers(node) == [plain.jid]
        with pytest.raises(RequestRefused):
            get_backend().fanout_status().result(20)
    finally:
        erl(
            port,
            f'gen_mod:start_module(<<"{GUESTS}">>, mod_pubsub_sessions)',
        )
    # Who was there before it is mod_pubsub's; both hear.
    served = guest(node)
    assert not is_deaf(plain, node)
    assert texts(served.hear()) == ["is anybody there?"]
    assert subscribers(node) == sorted([plain.jid, served.jid])


def test_sessions_are_served_when_mod_pubsub_was_started_again(node, guest, port):
    erl(port, f'gen_mod:stop_module(<<"{GUESTS}">>, mod_pubsub)')
    erl(port, f'gen_mod:start_module(<<"{GUESTS}">>, mod_pubsub)')
    handler = f'ets:lookup(ejabberd_local, {{<<"{SERVICE}">>, <<"{PUBSUB}">>}})'
    until(lambda: "mod_pubsub_sessions" in erl(port, handler), "requests come to the module")
    before = get_backend().fanout_status().result(20).subscriptions
    assert not is_deaf(guest(node), node)
    assert get_backend().fanout_status().result(20).subscriptions == before + 1


def test_a_cluster_serves_sessions_where_they_are_connected(ejabberd, node, guest, port, settings):
    """An event crosses to the other server once, for both sessions there."""
    with tempfile.TemporaryDirectory() as folder:
        second = Stack(Path(folder) / "b", sessions=True)
        with running(second, "b", "127.0.0.2", port):
            assert erl(port, f"ejabberd_cluster:join('{FIRST}')", SECOND) == "ok"
            # One subscriber for each server.
            here = guest(node)
            there = [WebSocketVisitor(second.settings, node) for _ in range(2)]
            everybody = [here, *there]
            assert subscribers(node) == sorted(visitor.jid for visitor in everybody)
            for number in range(1, 30):
                publish(node, str(number), item_id="1").result(20)
            for visitor in everybody:
                assert [numbers(visitor.hear()) for _ in range(29)] == [[n] for n in range(1, 30)]
            assert rows(port, node) == [
                (f"sessions.{SERVICE}", FIRST),
                (f"sessions.{SERVICE}", SECOND),
            ]
            nodes.set_subscriptions(node, {there[0].jid: "none"}).result(20)
            assert is_deaf(there[0], node)
            assert texts(there[1].hear()) == ["is anybody there?"]
            # Where the module does not run, others go on being told by it.
            erl(port, f'gen_mod:stop_module(<<"{GUESTS}">>, mod_pubsub_sessions)')
            publish(node, "told from elsewhere", item_id="1").result(20)
            erl(port, f'gen_mod:start_module(<<"{GUESTS}">>, mod_pubsub_sessions)')
            assert texts(there[1].hear()) == ["told from elsewhere"]
            for visitor in there:
                visitor.vanish()
            until(lambda: subscribers(node) == [], "everybody is gone")
            erl(port, f"ejabberd_cluster:leave('{SECOND}')")
    assert not is_deaf(guest(node), node)
