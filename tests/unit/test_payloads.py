"""pubsub/payloads.py: values become entries, and what would break a stream is refused."""

import json
import xml.etree.ElementTree as ET
from datetime import date, datetime, timezone
from decimal import Decimal

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from pubsub.exceptions import InvalidItem, PayloadTooBig
from pubsub.payloads import (
    MARK,
    MAX_PAYLOAD,
    XML,
    is_payload,
    make_payload,
    marked,
    timestamp,
    unwritten,
)
from pubsub.rowxml import freeze
from tests.testapp.models import Author, Post

ATOM = "{http://www.w3.org/2005/Atom}"
META = "{urn:django-pubsub:1}meta"
NOON = datetime(2026, 11, 22, 12, 0, 0, 5, tzinfo=timezone.utc)

xml_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufffe\uffff").filter(
        lambda c: c >= " " or c in "\t\n"
    )
)


def payload(value, event="published", origin=""):
    return make_payload(value, event=event, at=NOON, origin=origin, about="the payload")


def entry(value, **kwargs):
    return ET.fromstring(payload(value, **kwargs))


def text(element):
    return "".join(element.itertext())


@given(xml_text)
def test_the_text_of_an_entry_is_exactly_the_text_published(value):
    assert text(entry(value)) == value


def test_facts_about_an_item_are_attributes_of_its_meta():
    meta = entry("Hello", event="updated")[0]
    assert meta.tag == META
    assert meta.attrib == {"event": "updated", "at": f"{NOON:%Y-%m-%dT%H:%M:%S.%fZ}"}


@pytest.mark.parametrize("value", [{"a": [1, None, "<&>"]}, [], {"ü": "\u2028"}])
def test_dicts_and_lists_are_json(value):
    payload = entry(value)[1]
    assert payload.tag == "{urn:xmpp:json:0}json"
    assert json.loads(payload.text) == value


def test_json_knows_djangos_types():
    value = {"on": date(2026, 11, 22), "price": Decimal("9.90"), "word": gettext_lazy("Hello")}
    assert json.loads(text(entry(value))) == {"on": "2026-11-22", "price": "9.90", "word": "Hello"}


@pytest.mark.parametrize("value", [{"x": float("nan")}, [object()], [{1, 2}]])
def test_what_is_no_json_is_refused(value):
    with pytest.raises(InvalidItem, match="JSON"):
        payload(value)


def test_a_list_that_contains_itself_is_refused():
    value: list = []
    value.append(value)
    with pytest.raises(InvalidItem, match="JSON"):
        payload(value)


def test_lazy_text_is_text():
    assert text(entry(gettext_lazy("Hello"))) == "Hello"


def test_an_element_keeps_its_namespace_and_children():
    element = ET.fromstring('<a xmlns="urn:x" b="&quot;"><c>1</c>2</a>')
    element.tail = "behind it"
    payload = entry(element)
    assert payload[1].tag == "{urn:x}a"
    assert payload[1].attrib == {"b": '"'}
    assert text(payload) == "12"


def test_an_element_of_no_namespace_stays_without_one():
    assert [child.tag for child in entry(ET.fromstring("<a><b/></a>")).iter()] == [
        f"{ATOM}entry",
        META,
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    "source",
    [
        '<a xmlns="urn:x" b="&lt;"><c xmlns="">1</c>2</a>',
        '<a xmlns="urn:x"><b xmlns="urn:y" xmlns:z="urn:z" z:c="d"/></a>',
        "<a><b xmlns='urn:y'><c/></b></a>",
        "<a b=' xmlns=&quot;urn:x&quot;'/>",
    ],
)
def test_an_element_is_the_same_inside_the_entry(source):
    element = ET.fromstring(source)
    assert ET.canonicalize(ET.tostring(entry(element)[1])) == ET.canonicalize(ET.tostring(element))


def test_names_of_the_roots_namespace_need_no_prefix():
    """getElementsByTagName() in a page goes by the name as it is written."""
    element = ET.fromstring('<x:a xmlns:x="urn:x"><x:b/></x:a>')
    assert '<a xmlns="urn:x"><b /></a>' in payload(element)


@pytest.mark.parametrize("tag", ["", "a b", "1", "a>", "{urn:x}a b", "{urn:x", "a:b"])
def test_an_element_whose_name_is_none_is_refused(tag):
    with pytest.raises(InvalidItem, match="cannot be written"):
        payload(ET.Element(tag))


@pytest.mark.parametrize("child", [ET.Comment("x"), ET.ProcessingInstruction("x")])
def test_comments_and_instructions_are_refused(child):
    element = ET.Element("a")
    element.append(child)
    with pytest.raises(InvalidItem, match="RFC 6120"):
        payload(element)


@pytest.mark.parametrize("attributes", [{"a b": "c"}, {"": "c"}, {"a": 1}, {"xmlns": "urn:x"}])
def test_an_element_whose_attributes_are_none_is_refused(attributes):
    with pytest.raises(InvalidItem, match="cannot be written"):
        payload(ET.Element("a", attributes))


@pytest.mark.parametrize("source", ["<entry/>", "<entry a='>'><title>T</title></entry>"])
def test_an_atom_entry_is_the_entry_itself(source):
    element = ET.fromstring(source.replace("<entry", '<entry xmlns="http://www.w3.org/2005/Atom"'))
    payload = entry(element)
    assert payload.tag == f"{ATOM}entry"
    assert payload[0].tag == META
    assert [child.tag for child in payload[1:]] == [child.tag for child in element]
    assert payload.attrib == element.attrib


def test_an_instance_is_djangos_xml():
    author = Author(pk=7, name="Bo <b>")
    objects = entry(author)[1]
    assert objects.tag == "django-objects"
    assert objects.attrib == {"version": "1.0"}
    assert objects[0].attrib == {"model": "testapp.author", "pk": "7"}
    assert [(f.get("name"), f.text) for f in objects[0]] == [("name", "Bo <b>")]


def test_foreign_keys_are_written_and_many_to_many_fields_are_not_asked_for():
    """The test has no database: a query would fail it."""
    fields = {f.get("name"): f.text for f in entry(Post(pk=1, title="T", author_id=7))[1][0]}
    assert fields["author"] == "7"
    assert "readers" not in fields


@pytest.mark.parametrize("bad", ["\0", "\x08", "\x0c", "\x1b", "\ufffe", "\uffff", "\ud800"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda bad: f"a{bad}",
        lambda bad: {"key": f"a{bad}"} if bad > "\x1f" else f"a{bad}",  # JSON escapes controls
        lambda bad: _element_with(bad),
        lambda bad: Author(pk=1, name=f"a{bad}"),
    ],
    ids=["text", "json", "element", "instance"],
)
def test_what_xml_cannot_carry_is_refused(bad, wrap):
    with pytest.raises(InvalidItem, match="cannot"):
        payload(wrap(bad))


def _element_with(text):
    element = ET.Element("a")
    element.text = text
    return element


@given(st.text())
def test_whatever_is_accepted_is_well_formed(value):
    try:
        text = payload(value)
    except InvalidItem:
        return
    ET.fromstring(text)


@pytest.mark.parametrize("value", [None, 1, 2.5, b"bytes", True, object(), {1}, Author])
def test_values_of_other_types_are_refused_by_name(value):
    with pytest.raises(TypeError, match=type(value).__name__):
        payload(value)


def test_a_payload_may_have_250_000_bytes_with_its_mark_and_no_more():
    room = MAX_PAYLOAD - MARK - len(payload(""))
    biggest = payload("x" * room)
    assert len(marked(biggest, f"{'z' * 16}.{2**63}")) <= MAX_PAYLOAD
    with pytest.raises(PayloadTooBig, match="250,001 bytes"):
        payload("x" * (room + 1))


def test_a_payload_is_measured_in_bytes_of_xml():
    with pytest.raises(PayloadTooBig):
        payload("€" * 84_000)
    with pytest.raises(PayloadTooBig):
        payload("&" * 60_000)


def test_an_element_nested_beyond_measure_is_refused():
    root = element = ET.Element("a")
    for _ in range(200_000):
        element = ET.SubElement(element, "a")
    try:
        with pytest.raises(InvalidItem, match="'a' cannot be written"):
            payload(root)
    finally:
        while len(root):  # taken apart from the top, or Python's own end of it would be one in C
            root = root[0]


def test_the_origin_of_a_payload_is_an_attribute_of_its_meta():
    assert entry("Hello", origin="abc")[0].get("origin") == "abc"
    assert "origin" not in entry("Hello")[0].attrib


def test_xml_of_our_own_is_taken_as_it_is():
    assert entry(XML('<a xmlns="">1</a>'))[1].tag == "a"
    assert text(entry(XML("<a>1</a>") + "")) == "<a>1</a>"  # changed, it is a text like others


@pytest.mark.parametrize("value", ["", gettext_lazy("x"), {}, [], ET.Element("a"), Author()])
def test_what_an_entry_can_carry_is_known(value):
    assert is_payload(value)


@pytest.mark.parametrize("value", [None, 7, b"x", (1, 2), object(), Author])
def test_what_an_entry_cannot_carry_is_known(value):
    assert not is_payload(value)


@pytest.mark.parametrize("microsecond", [0, 5, 999_999])
def test_times_are_written_with_microseconds_in_utc(microsecond):
    at = NOON.replace(microsecond=microsecond)
    assert timestamp(at) == f"2026-11-22T12:00:00.{microsecond:06}Z"


def test_an_origin_is_text_whatever_it_holds():
    meta = entry("Hello", origin='"/><evil a="&')[0]
    assert meta.attrib["origin"] == '"/><evil a="&'


@pytest.mark.parametrize(
    "element",
    [ET.Element("b/><evil"), ET.Element("b", {'c="d" e': "f"})],
)
def test_a_name_that_says_more_than_a_name_is_refused(element):
    outer = ET.Element("a")
    outer.append(element)
    with pytest.raises(InvalidItem, match="is no name"):
        payload(outer)


def test_a_qualified_name_of_an_attribute_is_one():
    element = ET.Element("a", {ET.QName("urn:x", "b"): "c", "xml:lang": "en"})
    assert entry(element)[1].attrib["{urn:x}b"] == "c"


def test_a_value_that_cannot_even_be_shown_is_refused():
    with pytest.raises(InvalidItem, match="of type dict is no JSON"):
        payload({"x": 10**5000})


def unwritten_row(name, origin=""):
    row = freeze(Author(pk=7, name=name), ["id", "name"])
    return unwritten(row, event="updated", at=NOON, origin=origin)


@given(st.text(), st.sampled_from(["", "AAAAAAAAAAAAAAAAAAAAAA", '"<&>']))
def test_what_is_written_later_is_the_same_and_what_may_be_refused_is_not_written_later(
    name, origin
):
    later = unwritten_row(name, origin)
    try:
        at_once = payload(Author(pk=7, name=name), "updated", origin)
    except InvalidItem:
        assert later is None
    else:
        assert later.to_xml() == at_once


def test_an_origin_that_xml_cannot_carry_is_refused_at_once():
    assert unwritten_row("Ada", "\0") is None


@pytest.mark.parametrize("character", ["x", "&", "ü", "\U0001f600"])
def test_what_is_written_later_cannot_turn_out_to_be_too_big(character):
    for length in range(0, MAX_PAYLOAD, 997):
        later = unwritten_row(character * length)
        if later is None:
            break
        assert len(later.to_xml().encode()) + MARK <= MAX_PAYLOAD
    assert length > 20_000  # most are small
