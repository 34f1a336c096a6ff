"""pubsub/publications.py: each option and each hook, and what is said when a hook goes wrong."""

import datetime as dt
import json
import uuid
import xml.etree.ElementTree as ET
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils.functional import lazystr

from pubsub import Publication, nodes, pubsub
from pubsub.exceptions import InvalidItem
from pubsub.signals import publish_failed
from tests.testapp.models import Author, Badge, Person, Post, Restaurant, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

ATOM = "{http://www.w3.org/2005/Atom}"
JSON = "{urn:xmpp:json:0}json"
DJANGOS_JSON = "django.core.serializers.json.Serializer"
META = "{urn:django-pubsub:1}meta"


def told(items):
    return [(item.node, item.id, item.event) for item in items]


def data_of(item):
    return json.loads(ET.fromstring(item.payload).findtext(JSON))


def fields_of(item):
    """Names of the fields in Django's XML → their text."""
    return {f.get("name"): f.text for f in ET.fromstring(item.payload).iter("field")}


def meta_of(item):
    return ET.fromstring(item.payload).find(META)


@pytest.fixture
def failures():
    """What publish_failed told, in order."""
    told = []
    publish_failed.connect(lambda **kw: told.append(kw), weak=False, dispatch_uid="failures")
    yield told
    publish_failed.disconnect(dispatch_uid="failures")


# node, get_nodes


@pytest.mark.parametrize(
    ("node", "nodes"),
    [
        (None, ["/testapp/Author"]),
        ("/people", ["/people"]),
        (["/people", "/home"], ["/people", "/home"]),
        ((), []),
        (["/people", "/people"], ["/people"]),
    ],
)
def test_a_row_is_on_the_nodes_that_the_option_names(sent, register, node, nodes):
    register(Author, node=node)
    author = Author.objects.create(name="Ada")
    assert told(sent) == [(node, str(author.pk), "created") for node in nodes]


@pytest.mark.parametrize(
    ("returned", "nodes"),
    [
        ("/one", ["/one"]),
        (["/one", "/two"], ["/one", "/two"]),
        (("/one", "/one"), ["/one"]),
        ({"/one"}, ["/one"]),
        (iter(["/one", "/two"]), ["/one", "/two"]),
        (lazystr("/one"), ["/one"]),
        (None, []),
        ("", []),
        ([], []),
        (iter([]), []),
    ],
)
def test_a_row_is_on_the_nodes_that_the_hook_returns(sent, register, returned, nodes):
    register(Author, get_nodes=lambda self, instance, event: returned)
    Author.objects.create(name="Ada")
    assert [item.node for item in sent] == nodes


def test_nodes_may_depend_on_the_row_and_on_the_event(sent, register):
    @register(Post)
    class PostPublication(Publication):
        def get_nodes(self, instance, event):
            yield f"/blog/{instance.author.name}"
            if event == "created":
                yield "/new"

    ada = Author.objects.create(name="Ada")
    post = Post.objects.create(title="T", author=ada)
    post.save()
    assert [item.node for item in sent] == ["/blog/Ada", "/new", "/blog/Ada"]
    sent.clear()
    pk = str(post.pk)
    post.delete()
    assert told(sent) == [("/blog/Ada", pk, "deleted")]


def test_the_default_node_names_the_app_and_the_model(sent, register):
    register(Author)
    assert pubsub.publication_for(Author).default_node == "/testapp/Author"


# events


@pytest.mark.parametrize(
    "events",
    [("created",), ["updated"], {"deleted"}, ("created", "deleted"), ()],
)
def test_only_the_named_events_are_published(sent, register, events):
    register(Author, events=events)
    author = Author.objects.create(name="Ada")
    author.save()
    author.delete()
    assert [item.event for item in sent] == [
        e for e in ("created", "updated", "deleted") if e in events
    ]


def test_the_item_tells_its_event_and_its_time(sent, register):
    register(Author)
    author = Author.objects.create(name="Ada")
    author.save()
    assert [meta_of(item).get("event") for item in sent] == ["created", "updated"]
    assert [meta_of(item).get("at") for item in sent] == [
        f"{item.at:%Y-%m-%dT%H:%M:%S.%f}Z" for item in sent
    ]


# fields, exclude, get_fields


@pytest.mark.parametrize("format", ["xml", "json", "atom"])
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"title", "body", "author", "created"}),
        ({"fields": "__all__"}, {"title", "body", "author", "created"}),
        ({"fields": ["title"]}, {"title"}),
        ({"fields": ["title", "author"]}, {"title", "author"}),
        ({"exclude": ["body", "created"]}, {"title", "author"}),
        ({"fields": ["title", "body"], "exclude": ("body",)}, {"title"}),
        ({"m2m": ["readers"]}, {"title", "body", "author", "created", "readers"}),
        ({"m2m": ["readers"], "exclude": ["readers", "body"]}, {"title", "author", "created"}),
        ({"fields": []}, set()),
        ({"get_fields": lambda self, instance, event: ["body"]}, {"body"}),
        ({"get_fields": lambda self, instance, event: {"body", "author"}}, {"body", "author"}),
    ],
)
def test_the_fields_that_are_chosen_are_published_and_no_others(
    sent, register, format, options, names
):
    register(Post, format=format, **options)
    Post.objects.create(title="a title", body="a secret")
    if format == "xml":
        published = set(fields_of(sent[0]))
    elif format == "json":
        published = set(data_of(sent[0])) - {"id"}
    else:
        lines = ET.fromstring(sent[0].payload).findtext(f"{ATOM}content").splitlines()
        published = {line.partition(":")[0] for line in lines} - {"id"}
    assert published == names
    assert ("a secret" in sent[0].payload) == ("body" in names)


@pytest.mark.parametrize("format", ["xml", "json", "atom", DJANGOS_JSON])
@pytest.mark.parametrize(
    "returned", [None, "title", b"title", 7, {"title": True}, [7], ["title", None]]
)
def test_a_get_fields_without_an_answer_publishes_nothing_and_is_named(
    sent, register, failures, format, returned
):
    register(Post, format=format, get_fields=lambda self, instance, event: returned)
    Post.objects.create(title="a title", body="a secret")
    assert sent == []
    assert isinstance(failures[0]["error"], TypeError)
    assert "Publication.get_fields() returned" in str(failures[0]["error"])


def test_many_to_many_fields_that_are_not_asked_for_cost_no_query(
    sent, register, django_assert_num_queries
):
    register(Post)
    with django_assert_num_queries(1):
        post = Post.objects.create(title="T")
    with django_assert_num_queries(1):
        post.save()
    assert "readers" not in sent[1].payload


# format, get_payload


def test_xml_is_what_djangos_serializer_writes(sent, register):
    register(Author, format="xml")
    author = Author.objects.create(name="Ada & Bo")
    row = ET.fromstring(sent[0].payload).find("django-objects/object")
    assert row.attrib == {"model": "testapp.author", "pk": str(author.pk)}
    assert fields_of(sent[0]) == {"name": "Ada & Bo"}


def test_json_is_a_flat_object_in_the_element_of_xep_0335(sent, register):
    register(Author, format="json")
    author = Author.objects.create(name="Ada & Bo")
    assert data_of(sent[0]) == {"id": author.pk, "name": "Ada & Bo"}


def test_an_atom_entry_is_complete(sent, register, settings):
    """RFC 4287 §4.1.2: one id, title, updated; an author with a name; content or a link."""
    settings.XMPP_JID = "django@example.org"
    register(Badge, format="atom", node=["/badges", "/news"])
    badge = Badge.objects.create(code="gold/1")
    entry = ET.fromstring(sent[0].payload)
    assert entry.tag == f"{ATOM}entry"
    assert [child.tag.removeprefix(ATOM) for child in entry if child.tag != META] == [
        *["id", "title", "updated", "author", "link", "content"],
    ]
    assert entry.findtext(f"{ATOM}id") == (
        "xmpp:pubsub.example.org?;node=/testapp/Badge;item=gold%2F1"
    )
    assert entry.findtext(f"{ATOM}title") == "gold/1"
    updated = dt.datetime.fromisoformat(entry.findtext(f"{ATOM}updated").replace("Z", "+00:00"))
    assert abs(updated - sent[0].at) < timedelta(seconds=60)
    assert entry.findtext(f"{ATOM}author/{ATOM}name") == "example.org"
    assert entry.find(f"{ATOM}link").attrib == {
        "rel": "alternate",
        "href": "https://example.org/badges/gold/1",
    }
    assert entry.find(f"{ATOM}content").get("type") == "text"
    badge.save()
    assert {ET.fromstring(i.payload).findtext(f"{ATOM}id") for i in sent} == {
        entry.findtext(f"{ATOM}id")
    }


class WithData:
    """As Django REST framework's serializers: made of an instance, read by ``data``."""

    def __init__(self, instance):
        self.instance = instance

    @property
    def data(self):
        return {"shout": self.instance.name.upper()}


def as_text(instance):
    return f"{instance.name}!"


@pytest.mark.parametrize(
    ("format", "holds"),
    [
        ("django.core.serializers.xml_serializer.Serializer", ">Ada<"),
        (DJANGOS_JSON, '"fields": {"name": "Ada"}'),
        ("django.core.serializers.python.Serializer", '"fields": {"name": "Ada"}'),
        ("django.core.serializers.jsonl.Serializer", '"fields": {"name": "Ada"}'),
        (f"{__name__}.WithData", '{"shout": "ADA"}'),
        (f"{__name__}.as_text", ">Ada!<"),
        (f"{__name__}.as_text", 'event="created"'),
    ],
)
def test_a_format_may_be_the_path_of_a_serializer(sent, register, format, holds):
    register(Author, format=format)
    Author.objects.create(name="Ada")
    assert holds in ("".join(ET.fromstring(sent[0].payload).itertext()) + sent[0].payload)


def element():
    parent = ET.Element("mood")
    parent.text = "merry"
    return parent


@pytest.mark.parametrize(
    ("payload", "holds"),
    [
        ("a < b", "a &lt; b"),
        (lazystr("lazy"), ">lazy<"),
        ({"a": [1]}, '{"a": [1]}'),
        ([1, None], "[1, null]"),
        (element(), '<mood xmlns="">merry</mood>'),
        (Author(pk=7, name="Bo"), ">Bo<"),
        ("", 'event="created"'),
    ],
)
def test_a_payload_is_anything_that_publish_takes(sent, register, payload, holds):
    register(Author, get_payload=lambda self, instance, event: payload)
    Author.objects.create(name="Ada")
    assert holds in sent[0].payload
    assert "Ada" not in sent[0].payload


def test_a_payload_is_made_once_for_all_nodes(sent, register):
    calls = []

    def get_payload(self, instance, event):
        calls.append(event)
        return "text"

    register(Author, node=["/a", "/b"], get_payload=get_payload)
    Author.objects.create(name="Ada").delete()
    assert calls == ["created"]
    assert len(sent) == 4


# should_publish


def test_a_row_that_does_not_fulfil_the_condition_is_not_published(sent, register):
    register(Author, should_publish=lambda self, instance, event: instance.name != "hidden")
    hidden = Author.objects.create(name="hidden")
    shown = Author.objects.create(name="shown")
    assert told(sent) == [("/testapp/Author", str(shown.pk), "created")]
    sent.clear()
    hidden.save()
    assert [item.is_retraction for item in sent] == [True]


def test_a_row_is_retracted_when_it_is_deleted_whatever_the_condition_says(sent, register):
    """It may have become untrue unseen, by update() or as time went by."""
    register(Author, should_publish=lambda self, instance, event: instance.name != "hidden")
    author = Author.objects.create(name="shown")
    pk = str(author.pk)
    Author.objects.update(name="hidden")
    Author.objects.get().delete()
    assert told(sent)[-1] == ("/testapp/Author", pk, "deleted")
    assert sent[-1].is_retraction


def test_a_log_is_told_of_a_delete_if_the_condition_says_so(sent, register):
    register(
        Author,
        item_id=None,
        should_publish=lambda self, instance, event: instance.name != "hidden",
    )
    Author.objects.create(name="hidden").delete()
    assert sent == []
    Author.objects.create(name="shown").delete()
    assert [item.event for item in sent] == ["created", "deleted"]


@pytest.mark.parametrize("events", [["created"], ["created", "deleted"]])
def test_a_row_that_stops_fulfilling_is_retracted_where_updates_are_not_published(
    sent, register, events
):
    register(
        Author,
        events=events,
        should_publish=lambda self, instance, event: instance.name != "hidden",
    )
    author = Author.objects.create(name="shown")
    author.name = "still shown"
    author.save()
    assert len(sent) == 1
    author.name = "hidden"
    author.save()
    assert [item.is_retraction for item in sent] == [False, True]


def test_a_row_that_moves_is_retracted_where_updates_are_not_published(sent, register):
    register(
        Author,
        events=["created"],
        track=True,
        get_nodes=lambda self, instance, event: f"/{instance.name}",
    )
    author = Author.objects.create(name="a")
    author.name = "b"
    author.save()
    assert told(sent) == [("/a", str(author.pk), "created"), ("/a", str(author.pk), "deleted")]


@pytest.mark.parametrize("answer", [0, False, b"", {}, 7.5])
def test_what_is_no_node_is_refused_though_it_is_empty(sent, register, caplog, answer):
    register(Author, get_nodes=lambda self, instance, event: answer)
    Author.objects.create(name="Ada")
    assert sent == []
    assert "get_nodes() returned" in caplog.text


def test_a_condition_that_answers_nothing_is_refused(sent, register, caplog):
    register(Author, should_publish=lambda self, instance, event: None)
    Author.objects.create(name="Ada")
    assert sent == []
    assert "should_publish() returned None" in caplog.text
    assert "True or False" in caplog.text


def test_fields_that_do_not_exist_are_refused(sent, register, caplog):
    register(Author, get_fields=lambda self, instance, event: ["name", "nome"])
    Author.objects.create(name="Ada")
    assert sent == []
    assert "get_fields() returned ['name', 'nome']" in caplog.text


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), True, -1])
def test_an_interval_that_is_none_is_refused(sent, register, caplog, answer):
    register(Author, get_throttle=lambda self, instance, event: answer)
    Author.objects.create(name="Ada")
    assert sent == []
    assert "get_throttle() returned" in caplog.text


def nothing(instance):
    return 7


def test_a_serializer_that_makes_no_payload_is_named(sent, register, caplog):
    register(Author, format=f"{__name__}.nothing")
    Author.objects.create(name="Ada")
    assert sent == []
    assert f"the format {__name__}.nothing of Publication made 7 of type int" in caplog.text


@pytest.mark.parametrize("format", ["json"])
def test_a_primary_key_is_left_out_where_it_is_excluded(sent, register, format):
    register(Author, format=format, exclude=["id"])
    Author.objects.create(name="Ada")
    assert '"id"' not in sent[0].payload


def test_a_row_that_stops_fulfilling_the_condition_is_retracted(sent, register):
    register(Author, should_publish=lambda self, instance, event: instance.name != "hidden")
    author = Author.objects.create(name="shown")
    author.name = "hidden"
    author.save()
    author.name = "shown"
    author.save()
    assert [item.event for item in sent] == ["created", "deleted", "updated"]
    assert sent[1].is_retraction


def test_a_condition_may_depend_on_the_event(sent, register):
    register(Author, should_publish=lambda self, instance, event: event != "updated")
    author = Author.objects.create(name="Ada")
    author.delete()
    assert [item.event for item in sent] == ["created", "deleted"]


# item_id, get_item_id


def test_a_mirror_knows_its_items_by_the_primary_key(sent, register):
    register(Ticket)
    ticket = Ticket.objects.create()
    ticket.save()
    ticket.delete()
    assert len({item.id for item in sent}) == 1
    assert uuid.UUID(sent[0].id)


def test_items_may_be_known_by_another_unique_field(sent, register):
    register(Person, item_id="email")
    ada = Person.objects.create(email="ada@example.org")
    ada.save()
    ada.delete()
    assert [item.id for item in sent] == ["ada@example.org"] * 3


def test_a_row_without_the_value_that_it_would_be_known_by_is_not_published(
    sent, register, failures
):
    register(Person, item_id="email")
    person = Person.objects.create()
    assert sent == []
    assert isinstance(failures[0]["error"], InvalidItem)
    assert "email" in str(failures[0]["error"])
    assert failures[0]["about"] == f"testapp.Person {person.pk} (created)"


def test_in_a_log_each_save_is_an_item_and_a_delete_too(sent, register):
    register(Author, item_id=None)
    author = Author.objects.create(name="Ada")
    author.save()
    author.delete()
    assert told(sent) == [
        ("/testapp/Author", None, "created"),
        ("/testapp/Author", None, "updated"),
        ("/testapp/Author", None, "deleted"),
    ]
    assert [meta_of(item).get("event") for item in sent] == ["created", "updated", "deleted"]
    assert all(">Ada<" in item.payload for item in sent)


def test_a_log_holds_a_deleted_row_as_it_was_saved(sent, register):
    register(Ticket, item_id=None, format="json")
    ticket = Ticket.objects.create(day="2024-05-01", price="1.50")
    ticket.delete()
    assert data_of(sent[1]) == data_of(sent[0])


def test_an_unique_field_is_the_same_id_at_each_event_however_it_was_written(sent, register):
    register(Ticket, item_id="day")
    ticket = Ticket.objects.create(day="2024-05-01")
    ticket.delete()
    assert [item.id for item in sent] == ["2024-05-01", "2024-05-01"]


def test_a_deleted_row_of_a_log_is_not_told_with_what_only_the_database_knew(
    sent, register, failures
):
    register(Ticket, item_id=None)
    ticket = Ticket.objects.create()
    ticket.visits = F("visits") + 1
    ticket.delete()
    assert [item.event for item in sent] == ["created"]
    assert isinstance(failures[0]["error"], Ticket.DoesNotExist)


def test_a_generated_column_of_a_deleted_row_is_told_as_it_was_read(sent, register, monkeypatch):
    register(Ticket, item_id=None, format="json")
    ticket = Ticket.objects.create(visits=7)
    monkeypatch.setattr(Ticket._meta.get_field("visits"), "generated", True, raising=False)
    ticket.delete()
    assert data_of(sent[1])["visits"] == 7


@pytest.mark.parametrize(
    ("returned", "item_id"),
    [("x/y", "x/y"), (7, "7"), (uuid.UUID(int=7), str(uuid.UUID(int=7))), (None, None)],
)
def test_an_id_is_what_the_hook_returns(sent, register, returned, item_id):
    register(Author, get_item_id=lambda self, instance: returned)
    Author.objects.create(name="Ada")
    assert sent[0].id == item_id


# track


class ByAuthor(Publication):
    track = True

    def get_nodes(self, instance, event):
        return None if instance.author is None else f"/by/{instance.author.name}"


def test_a_tracked_row_is_retracted_from_the_nodes_that_it_leaves(sent, register):
    ada, bo = Author.objects.create(name="Ada"), Author.objects.create(name="Bo")
    register(Post, ByAuthor)
    post = Post.objects.create(title="T", author=ada)
    pk = str(post.pk)
    sent.clear()
    post.author = bo
    post.save()
    assert told(sent) == [("/by/Bo", pk, "updated"), ("/by/Ada", pk, "deleted")]
    sent.clear()
    post.author = None
    post.save()
    assert told(sent) == [("/by/Bo", pk, "deleted")]


def test_a_row_that_is_not_tracked_stays_where_it_was(sent, register):
    ada, bo = Author.objects.create(name="Ada"), Author.objects.create(name="Bo")
    register(Post, ByAuthor, track=False)
    post = Post.objects.create(title="T", author=ada)
    post.author = bo
    post.save()
    assert [item.node for item in sent] == ["/by/Ada", "/by/Bo"]


def test_a_tracked_row_is_retracted_from_the_id_that_it_leaves(sent, register):
    register(Person, item_id="email", track=True)
    person = Person.objects.create(email="old@example.org")
    person.email = "new@example.org"
    person.save()
    assert [(item.id, item.event) for item in sent] == [
        ("old@example.org", "created"),
        ("new@example.org", "updated"),
        ("old@example.org", "deleted"),
    ]


def test_a_tracked_row_is_retracted_from_where_it_was_when_the_condition_failed(sent, register):
    class Shown(ByAuthor):
        def should_publish(self, instance, event):
            return instance.title != "hidden"

    ada, bo = Author.objects.create(name="Ada"), Author.objects.create(name="Bo")
    register(Post, Shown)
    post = Post.objects.create(title="shown", author=ada)
    pk = str(post.pk)
    sent.clear()
    post.title, post.author = "hidden", bo
    post.save()
    assert told(sent) == [("/by/Ada", pk, "deleted")]
    sent.clear()
    post.save()
    assert sent == []
    post.delete()
    assert sent == []


def test_a_tracked_row_is_deleted_where_the_database_had_it(sent, register):
    ada, bo = Author.objects.create(name="Ada"), Author.objects.create(name="Bo")
    register(Post, ByAuthor)
    post = Post.objects.create(title="T", author=ada)
    pk = str(post.pk)
    sent.clear()
    post.author = bo  # not saved
    post.delete()
    assert told(sent) == [("/by/Ada", pk, "deleted")]


def test_tracking_costs_one_query_for_each_save_and_none_for_new_keys(
    sent, register, django_assert_num_queries
):
    register([Author, Ticket], track=True)
    with django_assert_num_queries(1):
        author = Author.objects.create(name="Ada")
    with django_assert_num_queries(2):
        author.save()
    with django_assert_num_queries(1):
        Ticket.objects.create()  # its key is there before it is saved


def test_a_tracked_row_of_a_log_is_never_retracted(sent, register):
    ada, bo = Author.objects.create(name="Ada"), Author.objects.create(name="Bo")
    register(Post, ByAuthor, item_id=None)
    post = Post.objects.create(title="T", author=ada)
    post.author = bo
    post.save()
    assert told(sent) == [("/by/Ada", None, "created"), ("/by/Bo", None, "updated")]


# max_items, expire, access


@pytest.mark.parametrize(
    ("options", "configuration"),
    [
        ({}, {}),
        ({"max_items": 10}, {"max_items": 10}),
        ({"expire": 60}, {"item_expire": 60}),
        ({"expire": timedelta(hours=1)}, {"item_expire": 3600}),
        ({"access": "open"}, {"access_model": "open"}),
        ({"access": "private"}, {"access_model": "whitelist"}),
        ({"publish_model": "publishers"}, {"publish_model": "publishers"}),
        ({"publish_model": "members"}, {"publish_model": "subscribers"}),
        (
            {"max_items": 1, "expire": 2.0, "access": "private"},
            {"max_items": 1, "item_expire": 2, "access_model": "whitelist"},
        ),
        (
            {"get_configuration": lambda self, node: {"title": f"What is new on {node}"}},
            {"title": "What is new on /testapp/Author"},
        ),
    ],
)
def test_an_item_brings_the_configuration_of_its_node(sent, register, options, configuration):
    register(Author, **options)
    author = Author.objects.create(name="Ada")
    author.delete()
    assert [dict(item.configuration) for item in sent] == [configuration, configuration]
    assert nodes.declared("/testapp/Author") == configuration


def test_what_is_published_by_hand_brings_what_the_publication_says_of_its_node(sent, register):
    register(Author, max_items=5)
    pubsub.publish("/testapp/Author", "Hello")
    pubsub.publish("/elsewhere", "Hello")
    assert [dict(item.configuration) for item in sent] == [{"max_items": 5}, {}]


# natural_keys


@pytest.mark.parametrize(
    ("format", "with_natural", "without"),
    [
        ("xml", "<natural>ada@example.org</natural>", ">{pk}<"),
        ("json", '"person": ["ada@example.org"]', '"person": {pk}'),
        ("atom", "person: ada@example.org", "person: {pk}"),
        (
            DJANGOS_JSON,
            '"person": ["ada@example.org"]',
            '"person": {pk}',
        ),
    ],
)
def test_relations_are_written_by_natural_keys_where_that_is_wanted(
    sent, register, format, with_natural, without
):
    ada = Person.objects.create(email="ada@example.org")
    register(Badge, format=format, natural_keys=True)
    Badge.objects.create(code="gold", person=ada)
    pubsub.unregister(Badge)
    register(Badge, format=format)
    Badge.objects.create(code="silver", person=ada)
    natural, plain = (item.payload for item in sent)
    assert with_natural in natural
    assert without.format(pk=ada.pk) in plain
    assert "ada@example.org" not in plain


def test_many_to_many_fields_are_written_by_natural_keys_too(sent, register):
    ada, bo = (Person.objects.create(email=f"{n}@example.org") for n in ("ada", "bo"))
    register(Person, m2m=["friends"], natural_keys=True, format="json")
    ada.friends.add(bo)
    assert {data_of(item)["email"]: data_of(item)["friends"] for item in sent} == {
        "ada@example.org": [["bo@example.org"]],
        "bo@example.org": [["ada@example.org"]],
    }


# Hooks that go wrong


@pytest.mark.parametrize(
    ("hook", "returned"),
    [
        *[("get_nodes", bad) for bad in (7, b"x", [1], {"a": 1}, ["/a", None], [["/a"]], 1.5)],
        *[("get_payload", bad) for bad in (None, 7, b"x", ("a",), {1}, object())],
        *[("get_item_id", bad) for bad in (1.5, b"x", True, ["a"])],
        *[("get_throttle", bad) for bad in ("1", b"1", [1])],
        *[("get_configuration", bad) for bad in (None, 7, "max_items", ["max_items"])],
    ],
)
def test_a_hook_that_returns_what_it_must_not_is_named(sent, register, failures, hook, returned):
    def bad(self, instance, event=None):
        return returned

    register(Author, node="/a" if hook != "get_configuration" else "/b")
    pubsub.unregister(Author)

    class Odd(Publication):
        pass

    setattr(Odd, hook, bad)
    register(Author, Odd)
    author = Author.objects.create(name="Ada")
    assert sent == []
    (failure,) = failures
    assert type(failure["error"]) is TypeError
    assert f"Odd.{hook}() returned " in str(failure["error"])
    assert failure["item"] is None
    assert failure["about"] == f"testapp.Author {author.pk} (created)"


@pytest.mark.parametrize("bad", [7, b"x", [1], {"a": 1}])
def test_publications_of_the_parents_are_not_concerned_by_a_hook_that_goes_wrong(
    sent, register, failures, bad
):
    register(Restaurant, get_nodes=lambda self, instance, event: bad)
    register(Restaurant.__base__, node="/places")
    Restaurant.objects.create(name="R")
    assert [item.node for item in sent] == ["/places"]
    assert len(failures) == 1


@pytest.mark.parametrize("name", ["/\0", "/\ud800", [""]])
def test_a_name_that_no_server_takes_is_refused_by_name(sent, register, failures, name):
    register(Author, get_nodes=lambda self, instance, event: name)
    Author.objects.create(name="Ada")
    assert sent == []
    assert isinstance(failures[0]["error"], InvalidItem)


@pytest.mark.parametrize(
    ("options", "is_log"), [({}, False), ({"item_id": "name"}, False), ({"item_id": None}, True)]
)
def test_a_log_is_what_gives_its_items_no_id(register, options, is_log):
    register(Author, **options)
    assert pubsub.publication_for(Author).is_log is is_log


def test_what_makes_the_ids_of_its_items_by_itself_may_be_no_log(register):
    class ByName(Publication):
        item_id = None

        def get_item_id(self, instance):
            return instance.name

    register(Author, ByName)
    assert not pubsub.publication_for(Author).is_log
