"""pubsub/formats.py: a row becomes JSON, an Atom entry, or what a serializer makes of it."""

import base64
import datetime as dt
import json
import uuid
import xml.etree.ElementTree as ET
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.exceptions import InvalidItem
from pubsub.formats import serializer, to_atom, to_data, uri_of
from pubsub.items import make_item
from tests.testapp.models import Author, Badge, Parcel, Person, Pizzeria, Post

pytestmark = pytest.mark.django_db

ATOM = "{http://www.w3.org/2005/Atom}"
AT = dt.datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=dt.timezone.utc)
KEY = uuid.UUID("12345678-1234-5678-9abc-123456789abc")

COLUMNS = [f.name for f in Parcel._meta.concrete_fields]


def as_json(data):
    """What a browser reads."""
    return json.loads(
        ET.fromstring(make_item("/n", data).payload).findtext("{urn:xmpp:json:0}json")
    )


def atom(instance, fields=(), **options):
    return to_atom(
        instance, list(fields), uri="xmpp:pubsub.localhost", author="localhost", at=AT, **options
    )


def test_every_kind_of_column_can_be_written_as_json():
    parcel = Parcel.objects.create(
        weight=Decimal("1.500"),
        label=b"\x00\xff",
        invoice="invoices/1.pdf",
        contents={"socks": [2, None], "wool": True},
        travels=dt.timedelta(days=1, seconds=2, microseconds=3),
        token=KEY,
        sent_at=AT,
        opens=dt.time(9, 30),
    )
    expected = {
        "id": parcel.pk,
        "weight": "1.500",
        "label": base64.b64encode(b"\x00\xff").decode(),
        "invoice": "invoices/1.pdf",
        "contents": {"socks": [2, None], "wool": True},
        "travels": "1 00:00:02.000003",
        "token": str(KEY),
        "sent_at": "2026-11-22T10:00:00.123Z",
        "opens": "09:30:00",
        "sender": None,
    }
    assert as_json(to_data(parcel, COLUMNS)) == expected
    parcel.refresh_from_db()
    assert as_json(to_data(parcel, COLUMNS)) == expected


def test_columns_without_a_value_are_null_in_json():
    parcel = Parcel.objects.create(invoice=None)
    data = as_json(to_data(parcel, COLUMNS))
    nulls = {name for name, value in data.items() if value is None}
    assert nulls >= {"label", "contents", "travels", "sent_at", "opens", "sender"}


def test_the_primary_key_is_there_whatever_the_fields():
    assert to_data(Badge(code="gold"), []) == {"code": "gold"}
    assert to_data(Author(pk=7, name="Ada"), []) == {"id": 7}


def test_relations_are_the_keys_of_what_they_lead_to():
    post = Post.objects.create(title="T", author=Author.objects.create(name="Ada"))
    readers = [Author.objects.create(name=name) for name in ("Bo", "Cy")]
    post.readers.set(readers)
    assert to_data(post, ["author", "readers"]) == {
        "id": post.pk,
        "author": post.author_id,
        "readers": [reader.pk for reader in readers],
    }


def test_a_row_with_parents_is_one_flat_object():
    pizzeria = Pizzeria.objects.create(name="Da Michele", stars=3, oven="wood")
    assert to_data(pizzeria, ["name", "stars", "oven"]) == {
        "id": pizzeria.pk,
        "place_ptr": pizzeria.pk,
        "restaurant_ptr": pizzeria.pk,
        "name": "Da Michele",
        "stars": 3,
        "oven": "wood",
    }


def test_what_json_has_no_words_for_is_refused():
    with pytest.raises(InvalidItem, match="no JSON"):
        as_json(to_data(Parcel(contents=float("nan")), ["contents"]))


@given(st.text())
def test_text_that_xml_carries_comes_through_json_unchanged(text):
    try:
        read = as_json(to_data(Author(pk=1, name=text), ["name"]))
    except InvalidItem:
        assert set(text) & {"\ufffe", "\uffff"}
    else:
        assert read == {"id": 1, "name": text}


def test_an_atom_entry_has_all_that_rfc_4287_demands_once():
    entry = atom(Author(pk=7, name="Ada"), ["name"])
    assert entry.tag == f"{ATOM}entry"
    assert [child.tag for child in entry] == [
        f"{ATOM}{name}" for name in ("id", "title", "updated", "author", "content")
    ]
    assert entry.findtext(f"{ATOM}id") == "xmpp:pubsub.localhost"
    assert entry.findtext(f"{ATOM}title") == "Ada"
    assert entry.findtext(f"{ATOM}updated") == "2026-11-22T10:00:00.123456Z"
    assert entry.findtext(f"{ATOM}author/{ATOM}name") == "localhost"


def test_the_content_of_an_atom_entry_is_a_line_for_each_field():
    person = Person.objects.create(email="ada@example.org")
    parcel = Parcel(pk=1, weight=Decimal("1.5"), contents=["socks", "wool"], sender=person)
    entry = atom(parcel, ["weight", "contents", "sender", "travels"], natural_keys=True)
    content = entry.find(f"{ATOM}content")
    assert content.get("type") == "text"
    assert content.text.splitlines() == [
        "id: 1",
        "weight: 1.5",
        "contents: socks, wool",
        "travels: ",
        "sender: ada@example.org",
    ]


@pytest.mark.parametrize(
    ("url", "href"),
    [
        ("https://example.org/badges/ü", "https://example.org/badges/%C3%BC"),
        ("/badges/gold", None),
        ("/go?to=https://example.org/", None),
        ("", None),
    ],
)
def test_only_an_absolute_address_is_an_alternate_link(monkeypatch, url, href):
    monkeypatch.setattr(Badge, "get_absolute_url", lambda self: url)
    link = atom(Badge(code="gold")).find(f"{ATOM}link")
    assert (None if link is None else link.get("href")) == href


def test_the_entry_that_is_published_is_the_atom_entry_itself():
    payload = make_item("/n", atom(Badge(code="a & b"), ["code"])).payload
    entry = ET.fromstring(payload)
    assert entry.tag == f"{ATOM}entry"
    assert entry[0].tag == "{urn:django-pubsub:1}meta"
    assert entry.findtext(f"{ATOM}title") == "a & b"
    assert payload.count("<entry") == 1


@pytest.mark.parametrize(
    ("node", "item_id", "uri"),
    [
        ("/blog/Post", "7", "xmpp:pubsub.localhost?;node=/blog/Post;item=7"),
        ("/a b", "x/y;z", "xmpp:pubsub.localhost?;node=/a%20b;item=x%2Fy%3Bz"),
        ("/ü", "é", "xmpp:pubsub.localhost?;node=/%C3%BC;item=%C3%A9"),
    ],
)
def test_the_address_of_an_item_is_a_uri(node, item_id, uri):
    assert uri_of("pubsub.localhost", node, item_id) == uri
    assert uri.isascii()


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("xml_serializer", lambda e: [o.get("model") for o in e.iter("object")]),
        ("json", lambda rows: [row["model"] for row in rows]),
        ("python", lambda rows: [row["model"] for row in rows]),
        ("jsonl", lambda text: [json.loads(line)["model"] for line in text.splitlines()]),
    ],
)
def test_djangos_serializers_write_a_row_and_its_parents(kind, read):
    pizzeria = Pizzeria.objects.create(name="Da Michele", stars=3, oven="wood")
    serialize = serializer(f"django.core.serializers.{kind}.Serializer")
    written = serialize(pizzeria, ["name", "oven"])
    assert read(written) == ["testapp.place", "testapp.restaurant", "testapp.pizzeria"]


@pytest.mark.parametrize("kind", ["xml_serializer", "json", "python", "jsonl"])
def test_djangos_serializers_write_the_chosen_fields_only(kind):
    post = Post.objects.create(title="a title", body="a secret")
    serialize = serializer(f"django.core.serializers.{kind}.Serializer")
    payload = make_item("/n", serialize(post, ["title"])).payload
    assert "a title" in payload
    assert "a secret" not in payload


def test_a_path_that_leads_nowhere_is_an_import_error():
    with pytest.raises(ImportError):
        serializer("no.such.serializer")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("os.path", "os.path is neither a serializer class nor a function, but .* module"),
        ("os.sep", "os.sep is neither .* str"),
        (None, "None is no text, but of type NoneType"),
        (7, "7 is no text, but of type int"),
    ],
)
def test_what_cannot_be_called_is_no_serializer(path, says):
    with pytest.raises(TypeError, match=says):
        serializer(path)
