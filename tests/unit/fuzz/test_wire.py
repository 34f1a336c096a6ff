"""Whatever a server says, from the first byte on, is an event, an answer, or an error of ours."""

import select
import xml.etree.ElementTree as ET
from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pubsub.entries import read_entry
from pubsub.exceptions import PubSubError, StreamError
from pubsub.wire import stanzas
from pubsub.wire.account import Account
from pubsub.wire.events import NS_EVENT, parse_events
from pubsub.wire.ledger import Ledger, Pending
from pubsub.wire.session import open_session
from tests.proxy import Impostor
from tests.unit.fuzz import values
from tests.unit.wire.nodes import parse

SERVICE = "pubsub.example.org"
SOME = settings(max_examples=30)
#: One request of each kind, so that each parser reads each answer.
REQUESTS = (
    stanzas.publish(SERVICE, "/n", "<e/>", "1"),
    stanzas.create(SERVICE, "/n", {}),
    stanzas.configuration(SERVICE, "/n"),
    stanzas.items(SERVICE, "/n"),
    stanzas.subscribe(SERVICE, "/n", "a@b"),
    stanzas.subscriptions(SERVICE, "/n"),
    stanzas.affiliations(SERVICE, "/n"),
    stanzas.count(SERVICE, "/n"),
    stanzas.own_nodes(SERVICE),
    stanzas.ping(SERVICE),
)

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='1' version='1.0' "
    b"xmlns:stream='http://etherx.jabber.org/streams' from='localhost'>"
)
OFFER = (
    b"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
    b"<mechanism>PLAIN</mechanism></mechanisms></stream:features>"
)
BOUND = (
    b"<iq type='result' id='open'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
    b"<jid>django@localhost/1</jid></bind></iq>"
)
SUCCESS = b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
LOGIN = (HEADER + OFFER, SUCCESS, HEADER + b"<stream:features/>", BOUND)
EVENT = (
    f"<message from='{SERVICE}'><event xmlns='{NS_EVENT}'><items node='/n'><item id='1'>"
    "<entry xmlns='http://www.w3.org/2005/Atom'>Hello</entry></item><retract id='2'/></items>"
    "</event></message>"
)
ANSWER = (
    f"<iq type='result' id='0' from='{SERVICE}'><pubsub xmlns='http://jabber.org/protocol/pubsub'>"
    "<items node='/n'><item id='1'/></items><set xmlns='http://jabber.org/protocol/rsm'>"
    "<count>1</count></set></pubsub></iq>"
)
ASKED = "<iq type='get' id='2' from='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"
GOODBYE = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"


@st.composite
def spoilt(draw, texts):
    """A text of those given, with something cut out of it and something put in its place."""
    text = draw(st.sampled_from(texts))
    at = draw(st.integers(0, len(text)))
    put = draw(st.just("") | values.text | st.sampled_from(texts))
    return text[:at] + put + text[at + draw(st.integers(0, 12)) :]


words = st.lists(spoilt([EVENT, ANSWER, ASKED, GOODBYE]) | st.just(EVENT), max_size=4).map("".join)
said = words.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=20)


def hear(stanza, ledger):
    """Do with a stanza what those who own a stream do."""
    for event in parse_events(stanza, SERVICE):
        assert event.node
        assert event.payload is None or read_entry(event.payload)
    if stanza.getName() == "iq" and stanza.getAttr("type") in ("get", "set"):
        ET.fromstring(stanzas.answer(stanza))
    ledger.settle(stanza)


def waiting():
    """A ledger in which each kind of request waits, and their Futures."""
    ledger, futures = Ledger(timeout=10), []
    for number, request in enumerate(REQUESTS):
        futures.append(Future())
        ledger.add(str(number), Pending(request, futures[-1]))
    return ledger, futures


@pytest.fixture(scope="module")
def server():
    """Says what ``server.parts`` holds, one after each thing that it hears, and hangs up."""

    async def script(link):
        for part in server.parts:
            if not await link.hear():
                return
            link.writer.write(part)
        link.writer.write_eof()

    with Impostor(script) as server:
        yield server


def open_at(server):
    account = Account("django@localhost", "secret", server.host, server.port, tls="off")
    return open_session(account)


@SOME
@given(step=st.integers(0, 3), word=spoilt([part.decode() for part in LOGIN]) | words)
def test_a_login_at_a_server_that_says_anything_is_done_or_an_error_of_ours(server, step, word):
    server.parts = (*LOGIN[:step], word.encode("utf-8", "surrogatepass"))
    try:
        session = open_at(server)
    except StreamError:
        return
    assert session.jid
    session.abandon()


@SOME
@given(word=said)
def test_a_stream_of_anything_ends_by_an_error_of_ours(server, word):
    server.parts = (*LOGIN[:-1], LOGIN[-1] + word)
    ledger, _ = waiting()
    session = open_at(server)
    poll = select.poll()
    poll.register(session, select.POLLIN)
    try:
        with pytest.raises(StreamError):
            while True:
                for stanza in session.read():
                    hear(stanza, ledger)
                assert poll.poll(10_000)
    finally:
        session.abandon()


@SOME
@given(trees=st.lists(values.sound_trees, max_size=3), error=st.booleans())
def test_an_answer_of_any_shape_settles_its_request_by_a_value_or_an_error_of_ours(trees, error):
    body = "".join(ET.tostring(tree, encoding="unicode") for tree in trees)
    ledger, futures = waiting()
    for number in range(len(REQUESTS)):
        kind = "error" if error else "result"
        ledger.settle(parse(f"<iq type='{kind}' id='{number}'>{body}</iq>"))
    for future in futures:
        assert future.done()
        assert future.exception() is None or isinstance(future.exception(), PubSubError)


@pytest.mark.parametrize("outer", [EVENT, ANSWER, GOODBYE.replace("stream:", "")])
def test_a_stanza_nested_beyond_measure_is_heard(outer):
    at = outer.index(">", len(outer) // 2) + 1
    ledger, _ = waiting()
    hear(parse(outer[:at] + "<a>" * 10_000 + "</a>" * 10_000 + outer[at:]), ledger)
