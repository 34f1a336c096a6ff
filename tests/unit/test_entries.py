"""pubsub/entries.py: what was published is read back."""

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.entries import Entry, read_entry
from pubsub.items import make_item
from tests.testapp.models import Author
from tests.unit.wire.nodes import parse

ATOM = "http://www.w3.org/2005/Atom"
JSON = "urn:xmpp:json:0"


def received(payload):
    """What is read when an item of that payload comes by the stream."""
    stanza = parse(f'<message xmlns="jabber:client"><item>{payload}</item></message>')
    return read_entry(stanza.getTag("item").getChildren()[0])


def published(value, **options):
    """What a listener reads of what publish() is given."""
    return received(make_item("/n", value, **options).payload)


#: A carriage return is read as something else by every parser of XML.
text = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))


@given(text)
def test_text_is_read_exactly(value):
    entry = published(value)
    assert (entry.event, entry.format, entry.content) == ("published", "text", value)
    assert entry.at.endswith("Z")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=8,
    ).filter(lambda value: isinstance(value, (dict, list)))
)
def test_json_is_read_as_the_same_value(value):
    entry = published(value)
    assert (entry.format, entry.content) == ("json", value)


@pytest.mark.parametrize("event", ["created", "updated"])
def test_a_row_is_read_as_djangos_xml_with_its_event(event):
    entry = published(Author(pk=7, name="Ada <&>"), event=event)
    assert (entry.event, entry.format) == (event, "xml")
    assert entry.content.startswith("<django-objects ")
    assert ET.fromstring(entry.content).find("object/field").text == "Ada <&>"


@pytest.mark.parametrize(
    "xml",
    [
        '<a xmlns="urn:x" b="&lt;"><c>1</c>2</a>',
        f'<title xmlns="{ATOM}">Hello</title>',
    ],
)
def test_an_element_is_read_as_it_is(xml):
    entry = published(ET.fromstring(xml))
    assert entry.format == "xml"
    assert ET.canonicalize(entry.content) == ET.canonicalize(xml)


@pytest.mark.parametrize(
    "payload",
    [
        '<a xmlns="urn:x">1</a>',
        f'<entry xmlns="{ATOM}">words <b /> and more</entry>',
        f'<entry xmlns="{ATOM}"><json xmlns="{JSON}">{{</json></entry>',
        f'<entry xmlns="{ATOM}"><json xmlns="{JSON}">NaN</json></entry>',
        f'<entry xmlns="{ATOM}"><json xmlns="{JSON}">{"[" * 100_000}</json></entry>',
        f'<entry xmlns="{ATOM}"><json xmlns="{JSON}">{"9" * 5_000}</json></entry>',
        f'<entry xmlns="{ATOM}"><json xmlns="{JSON}" /></entry>',
    ],
)
def test_what_is_not_ours_is_shown_as_it_came(payload):
    assert received(payload) == Entry("published", "", "xml", payload)


def test_what_cannot_be_parsed_alone_is_shown_as_it_came():
    assert read_entry('<a q:b="c" />') == Entry("published", "", "xml", '<a q:b="c" />')


def test_an_event_that_we_do_not_know_is_not_believed():
    payload = '<entry xmlns="{}"><meta xmlns="urn:django-pubsub:1" event="{}"/>x</entry>'
    assert received(payload.format(ATOM, "retract")).event == "published"
    assert received(payload.format(ATOM, "created")) == Entry("created", "", "text", "x")


@given(st.text(max_size=20))
def test_no_payload_makes_it_raise(payload):
    assert json.dumps(read_entry(payload).content)
