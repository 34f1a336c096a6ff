"""Whatever is published is one element that says what was published, or is refused at the call."""

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pubsub.context import originating
from pubsub.entries import Entry, read_entry
from pubsub.exceptions import InvalidItem
from pubsub.items import make_item, make_retraction
from pubsub.payloads import NS_META, marked
from pubsub.wire import stanzas
from tests.testapp.models import Author
from tests.unit.fuzz import values
from tests.unit.wire.nodes import parse

PUBSUB = "{http://jabber.org/protocol/pubsub}"
SOME = settings(max_examples=30)  # each of them builds trees
ATOM = "{http://www.w3.org/2005/Atom}"
SERVICE = "pubsub.example.org"


def made(value, **options):
    """The entry of an item, as a parser reads it from the whole stanza; None if it was refused."""
    try:
        item = make_item("/n", value, **options)
    except InvalidItem:
        return None
    return sent(item).find(f"{PUBSUB}pubsub/{PUBSUB}publish/{PUBSUB}item/*")


def sent(item):
    """The stanza of an item, when it has a single root and nothing was slipped into it."""
    request = stanzas.publish(SERVICE, item.node, item.payload, item.id, mark=marked)
    iq = ET.fromstring(request.to_xml("id1", "source.1"))
    assert iq.attrib == {"type": "set", "to": SERVICE, "id": "id1"}
    (pubsub,) = iq
    (publish,) = pubsub
    (held,) = publish
    assert len(held) == 1
    assert publish.attrib == {"node": item.node}
    assert held.attrib == ({} if item.id is None else {"id": item.id})
    return iq


@given(values.text)
def test_text_of_any_kind_is_what_was_published_or_refused(value):
    entry = made(value)
    if entry is not None:
        assert "".join(entry.itertext()) == value.replace("\r\n", "\n").replace("\r", "\n")
        assert [child.tag for child in entry] == [f"{{{NS_META}}}meta"]


@given(values.text, values.ids)
def test_a_name_and_an_id_of_any_kind_are_what_was_given_or_refused(node, item_id):
    for make in (lambda: make_item(node, "x", id=item_id), lambda: make_retraction(node, item_id)):
        try:
            item = make()
        except (InvalidItem, TypeError):
            continue
        assert item.node == node
        assert item.id == (None if item_id is None else str(item_id))
        if not item.is_retraction:
            sent(item)


@given(values.text)
@example('"/><evil/>')
def test_an_origin_of_any_kind_is_what_was_given_or_refused(origin):
    with originating(origin):
        entry = made("x")
    if entry is not None:
        (meta,) = entry
        assert meta.get("origin", "") == origin


@given(values.text)
def test_a_row_of_any_text_is_djangos_xml_or_refused(nick):
    entry = made(Author(pk=7, name=nick))
    if entry is not None:
        name = next(field for field in entry.iter("field") if field.get("name") == "name")
        assert (name.text or "") == nick.replace("\r\n", "\n").replace("\r", "\n")
        assert not list(name)


@given(values.anything | st.lists(values.huge, max_size=1))
def test_a_value_of_any_type_is_json_that_comes_back_or_refused(value):
    try:
        item = make_item("/n", value)
    except (InvalidItem, TypeError):
        return
    entry = read_entry(item.payload)
    if isinstance(value, str):
        assert entry.format == "text"
    else:
        assert entry.format == "json"
        again = read_entry(make_item("/n", entry.content).payload)
        assert json.dumps(again.content) == json.dumps(entry.content)


@SOME
@given(values.sound_trees)
def test_an_element_is_the_same_in_the_entry(element):
    wanted = ET.canonicalize(ET.tostring(element))
    entry = made(element)
    assert entry is not None
    assert entry[0].tag == f"{{{NS_META}}}meta"
    if element.tag == f"{ATOM}entry":
        entry.remove(entry[0])
        assert ET.canonicalize(ET.tostring(entry)) == wanted
    else:
        assert ET.canonicalize(ET.tostring(entry[1])) == wanted


@SOME
@given(values.any_trees)
def test_an_element_of_any_kind_has_its_own_names_or_is_refused(element):
    entry = made(element)
    if entry is not None:
        inside = entry if element.tag == f"{ATOM}entry" else entry[1]
        count = sum(1 for _ in element.iter()) + (inside is entry)
        assert sum(1 for _ in inside.iter()) == count


@SOME
@given(st.text() | values.text | values.any_trees.map(lambda tree: f"<{tree.tag}>"))
def test_a_payload_of_any_kind_is_read(payload):
    assert isinstance(read_entry(payload), Entry)


@SOME
@given(values.sound_trees, st.data())
def test_a_payload_that_somebody_has_spoilt_is_read(element, data):
    payload = made(element)
    text = ET.tostring(payload, encoding="unicode")
    at = data.draw(st.integers(0, len(text)))
    spoilt = text[:at] + data.draw(values.text) + text[at + data.draw(st.integers(0, 9)) :]
    assert json.dumps(read_entry(spoilt).content)


@pytest.mark.parametrize("depth", [500, 20_000])
def test_what_is_nested_beyond_measure_is_read(depth):
    text = "<a>" * depth + "</a>" * depth
    (payload,) = parse(f"<item>{text}</item>").getChildren()
    for held in (text, payload):
        assert read_entry(held).format == "xml"
