"""pubsub/rowxml.py: the XML of a row is Django's, byte for byte."""

import xml.etree.ElementTree as ET
from datetime import date, datetime, timezone, tzinfo
from decimal import Decimal
from uuid import UUID

import pytest
from django.core.serializers.xml_serializer import Serializer
from django.db import models
from django.db.models import F
from django.test.utils import isolate_apps
from hypothesis import given
from hypothesis import strategies as st

from pubsub.exceptions import InvalidItem
from pubsub.rowxml import freeze, to_xml
from tests.testapp.models import (
    Author,
    Badge,
    Everything,
    Penname,
    Person,
    Pizzeria,
    Place,
    Post,
    Ticket,
)

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff").filter(
        lambda c: c >= " " or c in "\t\n\r"
    )
)
VALUES = {
    "char": texts,
    "text": texts,
    "slug": texts,
    "url": texts,
    "email": texts,
    "integer": st.integers(),
    "big": st.integers(),
    "boolean": st.booleans(),
    "float": st.floats(),
    "decimal": st.decimals(allow_nan=False),
    "date": st.dates(),
    "datetime": st.datetimes(timezones=st.timezones()),
    "time": st.times(),
    "duration": st.timedeltas(),
    "uuid": st.uuids(),
    "json": st.recursive(st.none() | texts | st.integers(), st.lists),
    "binary": st.binary(),
    "ip": st.ip_addresses().map(str),
    "file": texts,
    "shouted": texts,
    "whispered": texts,
    "hidden": texts,
    "author_id": st.integers(),
    "person_id": texts,
}


def by_django(instances, **options):
    text = Serializer().serialize(instances, **options)
    return text[text.index("<django-objects") :].replace("<django-objects", "", 1)


def ours(instance, fields=None, **options):
    text = to_xml(instance, fields, **options)
    assert text.startswith('<django-objects xmlns=""')
    return text.removeprefix('<django-objects xmlns=""')


@given(st.fixed_dictionaries({}, optional={k: st.none() | v for k, v in VALUES.items()}))
def test_a_row_is_written_as_django_writes_it(values):
    instance = Everything(pk=1)
    instance.__dict__.update(values)  # as they are after a save
    names = [field.name for field in Everything._meta.concrete_fields]
    assert ours(instance, names) == by_django([instance])


@given(st.sets(st.sampled_from([f.name for f in Everything._meta.concrete_fields])))
def test_some_fields_are_written_as_django_writes_them(names):
    instance = Everything(pk=1, char="x", author_id=7)
    assert ours(instance, names) == by_django([instance], fields=names)


@pytest.mark.parametrize(
    "instance",
    [
        Author(name="no key yet"),
        Penname(pk=1, name="a proxy"),
        Ticket(pk=UUID(int=7), price="1.50"),
        Badge(pk='"<&>\n', person_id=7),
    ],
    ids=lambda instance: type(instance).__name__,
)
def test_kinds_of_rows_are_written_as_django_writes_them(instance):
    assert ours(instance) == by_django([instance])


def test_a_row_with_parents_is_written_with_theirs_the_eldest_first():
    """A page reads several objects as one record."""
    objects = ET.fromstring(to_xml(Pizzeria(pk=1, name="P", stars=2, oven="wood")))
    assert [o.get("model") for o in objects] == [
        "testapp.place",
        "testapp.restaurant",
        "testapp.pizzeria",
    ]
    fields = {f.get("name"): f.text for f in objects.iter("field")}
    assert fields == {"name": "P", "stars": "2", "oven": "wood"}


@pytest.mark.django_db
def test_relations_are_written_as_django_writes_them():
    post = Post.objects.create(title="T", author=Author.objects.create(name="Ada"))
    post.readers.add(post.author, Author.objects.create(name="Bo"))
    names = ["title", "author", "readers"]
    assert ours(post, names) == by_django([post], fields=names)
    assert ours(post, names).count("<object pk=") == 2


@pytest.mark.django_db
def test_natural_keys_are_written_as_django_writes_them():
    person = Person.objects.create(email="a@b")
    instance = Everything(pk=1, person=person)
    names = ["person", "author"]
    expected = by_django([instance], fields=names, use_natural_foreign_keys=True)
    assert ours(instance, names, natural_keys=True) == expected
    assert "<natural>a@b</natural>" in expected


@pytest.mark.django_db
def test_columns_and_nothing_else_are_written_by_default(django_assert_num_queries):
    place = Place.objects.create(name="P")
    with django_assert_num_queries(0):
        assert "guests" not in to_xml(place)


def test_a_value_that_its_field_cannot_write_is_refused_by_name():
    with pytest.raises(InvalidItem, match=r"testapp\.Everything 1 cannot be written"):
        to_xml(Everything(pk=1, json=object()))


#: Columns whose values nobody can change, so that they need not be written at once.
PLAIN = [
    *["char", "text", "slug", "url", "email", "integer", "big", "boolean", "float", "decimal"],
    *["date", "datetime", "uuid", "ip", "author_id", "person_id"],
]
plain_names = [name.removesuffix("_id") for name in PLAIN]


@given(st.fixed_dictionaries({k: st.none() | VALUES[k] for k in PLAIN}))
def test_a_frozen_row_is_written_as_the_row_would_have_been(values):
    instance = Everything(pk=1)
    instance.__dict__.update(values)
    written = to_xml(instance, plain_names)
    frozen = freeze(instance, plain_names)
    instance.__dict__.update(dict.fromkeys(PLAIN, "something else"))
    if frozen is None:
        assert any(abs(values[k] or 0) > 2**64 for k in ("integer", "big", "author_id"))
    else:
        assert frozen.to_xml() == written
        assert len(written) < frozen.most + sum(map(len, frozen.texts)) * 6


@given(st.fixed_dictionaries({}, optional={k: st.none() | v for k, v in VALUES.items()}))
def test_any_row_is_frozen_as_it_is_or_not_at_all(values):
    instance = Everything(pk=1)
    instance.__dict__.update(values)
    for field in Everything._meta.concrete_fields:
        frozen = freeze(instance, [field.name])
        assert frozen is None or frozen.to_xml() == to_xml(instance, [field.name])


@pytest.mark.parametrize(
    "instance",
    [
        Author(pk=7, name="<&>"),
        Penname(pk=1, name="a proxy"),
        Ticket(pk=UUID(int=7), price=Decimal("1.50"), day=date(2026, 11, 26)),
        Badge(pk='"<&>\n', person_id=7),
        Post(pk=1, author_id=None, created=datetime.now(timezone.utc)),
    ],
    ids=lambda instance: type(instance).__name__,
)
def test_rows_of_such_columns_are_frozen(instance):
    names = [field.name for field in instance._meta.concrete_fields]
    assert freeze(instance, names).to_xml() == to_xml(instance, names)


class Loud(str):
    """A text that is written in a way of its own."""

    __slots__ = ()

    def __str__(self):
        return self.upper()


class Nowhere(tzinfo):
    """A zone that is somebody else's."""

    def utcoffset(self, moment):
        return None


with isolate_apps("tests.testapp"):

    class Masking(models.Model):  # noqa: DJ008
        """Shows something else than it holds."""

        name = models.TextField()

        class Meta:
            app_label = "testapp"

        def __getattribute__(self, name):
            return "masked" if name == "name" else super().__getattribute__(name)

    class Renumbered(models.Model):  # noqa: DJ008
        """Has a primary key of its own making."""

        name = models.TextField()
        pk = property(lambda self: 1000 + self.id, lambda self, value: None)

        class Meta:
            app_label = "testapp"


@pytest.mark.parametrize(
    ("instance", "names"),
    [
        (Masking(id=1, name="held"), ["name"]),
        (Renumbered(id=1, name="held"), ["name"]),
        (Everything(pk=1, datetime=datetime(2026, 11, 26, tzinfo=Nowhere())), ["datetime"]),
        (Everything(pk=1, json={}), ["json"]),
        (Everything(pk=1, binary=b""), ["binary"]),
        (Everything(pk=1, file="name"), ["file"]),
        (Everything(pk=1, time="noon"), ["time"]),
        (Everything(pk=1, shouted="hey"), ["shouted"]),
        (Everything(pk=1, date="2026-11-26"), ["date"]),
        (Everything(pk=1, datetime=date(2026, 11, 26)), ["datetime"]),
        (Everything(pk=1, integer=2**64 + 1), ["integer"]),
        (Everything(pk=1, integer=F("big")), ["integer"]),
        (Everything(pk=2**64 + 1), ["char"]),
        (Everything(pk=1, char=Loud("hey")), ["char"]),
        (Author(name="no key yet"), ["name"]),
        (Author.from_db("default", ["id"], [1]), ["name"]),
        (Pizzeria(pk=1, name="P", stars=2, oven="wood"), ["name", "stars", "oven"]),
        (Post(pk=1), ["title", "readers"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_what_may_change_or_needs_the_row_is_not_frozen(instance, names):
    assert freeze(instance, names) is None
