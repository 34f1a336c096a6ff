"""pubsub/wire/events.py: what a service tells its subscribers is read, whatever its shape."""

import string
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.wire.events import NS_DELAY, NS_EVENT, Event, parse_events
from tests.unit.wire.nodes import parse

SERVICE = "pubsub.example.org"


def message(body, *, sender=SERVICE, type="headline", more=""):
    """A message that holds an event."""
    return parse(
        f'<message xmlns="jabber:client" from="{sender}" to="a@b/c" type="{type}">'
        f'<event xmlns="{NS_EVENT}">{body}</event>{more}</message>'
    )


def events(body, **options):
    return parse_events(message(body, **options), SERVICE)


def test_items_and_retractions_come_in_the_order_of_the_message():
    found = events(
        '<items node="/n"><item id="2" publisher="django@b"><entry xmlns="urn:x">two</entry></item>'
        '<retract id="1"/><item id="0"/></items>'
    )
    assert [(event.node, event.kind, event.id) for event in found] == [
        ("/n", "item", "2"),
        ("/n", "retract", "1"),
        ("/n", "item", "0"),
    ]
    assert found[0].payload.getNamespace() == "urn:x"
    assert found[0].payload.getData() == "two"
    assert found[1].payload is None
    assert found[2].payload is None


@pytest.mark.parametrize("what", ["purge", "delete"])
def test_the_end_of_all_items_and_of_the_node_is_told(what):
    assert events(f'<{what} node="/n"/>') == [Event("/n", what)]


def test_the_end_of_a_subscription_is_told_and_its_beginning_is_not():
    found = events(
        '<subscription node="/a" jid="a@b/c" subscription="none"/>'
        '<subscription node="/b" jid="a@b/c" subscription="subscribed"/>'
    )
    assert found == [Event("/a", "unsubscribed")]


def test_a_late_item_is_no_event():
    late = f'<delay xmlns="{NS_DELAY}" stamp="2026-01-02T03:04:05Z"/>'
    assert events(ITEM, more=late) == []
    assert len(events(ITEM, more=late.replace(NS_DELAY, "urn:x"))) == 1


ITEM = '<items node="/n"><item id="1"/></items>'


@pytest.mark.parametrize("sender", ["mallory@example.org", "example.org", "", f"{SERVICE}/x"])
def test_what_others_say_is_not_believed(sender):
    assert events(ITEM, sender=sender) == []


def test_the_service_is_known_however_its_name_is_written():
    assert len(parse_events(message(ITEM, sender="PubSub.Example.org"), SERVICE.upper())) == 1


def test_an_error_tells_nothing_and_neither_do_other_stanzas():
    assert events(ITEM, type="error") == []
    assert events('<configuration node="/n"/><items><item id="1"/></items>text') == []
    for stanza in (
        f'<iq from="{SERVICE}"><event xmlns="{NS_EVENT}">{ITEM}</event></iq>',
        f'<message from="{SERVICE}"><body>Hello</body></message>',
        f'<message from="{SERVICE}"><event xmlns="urn:x">{ITEM}</event></message>',
        f'<message from="{SERVICE}"/>',
        "<message/>",
    ):
        assert parse_events(parse(stanza), SERVICE) == []


# Whatever a server may send

tags = st.sampled_from(
    ["event", "items", "item", "retract", "purge", "delete", "subscription", "delay", "entry"]
)
attributes = st.dictionaries(
    st.sampled_from(["id", "node", "stamp", "subscription", "jid"]),
    st.sampled_from(["none", ""]) | st.text(string.ascii_letters + "<&\"'#", max_size=5),
    max_size=3,
)


@st.composite
def elements(draw, children):
    element = ET.Element(draw(tags), draw(attributes))
    if (namespace := draw(st.sampled_from([None, NS_EVENT, NS_DELAY, "urn:x"]))) is not None:
        element.set("xmlns", namespace)
    element.text = draw(st.text(string.printable[:95], max_size=3))
    element.extend(draw(children))
    return element


trees = st.recursive(
    elements(st.just([])), lambda inner: elements(st.lists(inner, max_size=4)), max_leaves=12
)


@given(body=st.lists(trees, max_size=3), delay=trees)
def test_no_message_of_whatever_shape_makes_the_parser_raise(body, delay):
    text = "".join(ET.tostring(element, encoding="unicode") for element in body)
    more = ET.tostring(delay, encoding="unicode")
    for stanza in (message(text, more=more), message("", more=text + more)):
        for event in parse_events(stanza, SERVICE):
            assert event.node
            assert event.kind in ("item", "retract", "purge", "delete", "unsubscribed")
            assert isinstance(event.id, str)
