"""pubsub/wire/builder.py: the nodes are those that xmpppy's own builder makes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xmpp.simplexml import NodeBuilder

from pubsub.wire.builder import Builder

HEADER = (
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1'>"
)
STANZAS = [
    "<iq type='result' id='1' from='pubsub.localhost'/>",
    (
        "<iq type='result' id='2'><pubsub xmlns='http://jabber.org/protocol/pubsub'>"
        "<publish node='/a/B'><item id='7'/></publish></pubsub></iq>"
    ),
    "<iq type='error' id='3'><error type='cancel'><a xmlns='urn:x'/><b>a &lt; b</b></error></iq>",
    "<message> one <b>two</b> three <c/><d>four<e/>five</d> six </message>",
    "<stream:e><a:b xmlns:a='urn:a' a:c='d'><a:e/><f xmlns='urn:f'><g/></f></a:b></stream:e>",
    "<x:y z='&amp;'>\u00fc\U0001f600</x:y>",
]


def built(text, make, size=None):
    """The stanzas that come of a stream which arrives in pieces."""
    found = []
    stream = NodeBuilder()
    stream._dispatch_depth = 2
    make(stream, found.append)
    data = text.encode()
    step = size or len(data)
    for start in range(0, len(data), step):
        stream.Parse(data[start : start + step])
    return found


def by_xmpppy(stream, dispatch):
    def collect(stanza):
        stream._mini_dom = None
        dispatch(stanza)

    stream.dispatch = collect


def facts(node):
    """All that a node holds."""
    kids = [facts(kid) for kid in node.kids]
    return node.name, node.namespace, node.attrs, node.data, node.nsd, kids, str(node)


@given(st.lists(st.sampled_from(STANZAS), max_size=5), st.integers(1, 200))
def test_a_node_is_what_xmpppy_would_have_made_of_it(stanzas, size):
    text = HEADER + "".join(stanzas)
    ours, theirs = built(text, Builder, size), built(text, by_xmpppy)
    assert [facts(node) for node in ours] == [facts(node) for node in theirs]


def test_what_keeps_the_connection_alive_is_in_no_stanza():
    """xmpppy puts it into the one before."""
    before, after = built(f"{HEADER} {STANZAS[0]} \n {STANZAS[0]} ", Builder)
    assert before.data == after.data == []


def test_a_child_knows_its_parent():
    (stanza,) = built(HEADER + STANZAS[1], Builder)
    assert stanza.kids[0].kids[0].parent is stanza.kids[0]
    assert stanza.parent is None


def test_the_header_is_looked_at_by_xmpppy_and_the_footer_is_told_of():
    told = []
    stream = NodeBuilder()
    stream.stream_header_received = lambda *header: told.append(header)
    stream.stream_footer_received = lambda: told.append("footer")
    Builder(stream, told.append)
    stream.Parse(HEADER + "</stream:stream>")
    assert [header[:2] for header in told[:1]] == [("http://etherx.jabber.org/streams", "stream")]
    assert told[1:] == ["footer"]


def test_what_a_handler_raises_ends_the_parsing():
    def refuse(stanza):
        raise ValueError("no")

    stream = NodeBuilder()
    Builder(stream, refuse)
    with pytest.raises(ValueError, match="no"):
        stream.Parse(HEADER + STANZAS[0])
