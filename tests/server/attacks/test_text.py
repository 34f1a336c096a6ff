"""Text that tries to be XML, given to Django: it comes out as it went in, or is refused."""

import uuid
import xml.etree.ElementTree as ET

import pytest

from pubsub import publish, retract
from pubsub.context import originating
from tests.listener import ATOM, EVENT
from tests.testapp.models import Author
from tests.unit.fuzz.values import TRICKS
from tests.visitors import WebSocketVisitor

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("xmpp_settings")]

META = "{urn:django-pubsub:1}meta"
#: Whoever believes it tells the subscriber of another node's item.
INJECTION = (
    "\"/></item></items></event></message><message from='pubsub.localhost'><event xmlns='http://"
    "jabber.org/protocol/pubsub#event'><items node='/evil'><item id='1'/></items></event></message>"
)
REFUSED = [trick for trick in TRICKS if any(c < " " and c not in "\t\r\n" for c in trick)]
REFUSED += ["\ufffe", "\uffff", "\ud800", "\udfff", "a\0b"]
#: A carriage return in a text is read as the end of a line by every parser of XML.
CARRIED = [trick for trick in TRICKS if trick not in REFUSED and "\r" not in trick] + [INJECTION]


@pytest.fixture
def node():
    """The name of a node that no other test uses."""
    name = f"/text/{uuid.uuid4().hex}"
    publish(name, "the first item creates the node").result(10)
    return name


@pytest.fixture
def subscribed(stack):
    """A function that makes a subscriber of a node."""
    visitors = []

    def subscribe(node):
        visitors.append(WebSocketVisitor(stack.settings, node))
        return visitors[-1]

    yield subscribe
    for visitor in visitors:
        visitor.vanish()


def next_item(subscriber):
    """The node, the id and the entry of the next item that somebody hears of."""
    message = ET.fromstring(subscriber.hear())
    assert message.get("from") == "pubsub.localhost"
    (items,) = message.iter(f"{EVENT}items")
    (item,) = items
    return items.get("node"), item.get("id"), item.find(f"{ATOM}entry")


def test_text_that_tries_to_be_xml_arrives_as_text(node, subscribed):
    subscriber = subscribed(node)
    for number, text in enumerate(CARRIED):
        publish(node, text, item_id=str(number)).result(10)
        where, id, entry = next_item(subscriber)
        assert (where, id) == (node, str(number))
        assert "".join(entry.itertext()) == text
        assert [child.tag for child in entry] == [META]


def test_an_id_that_tries_to_be_xml_arrives_as_an_id(node, subscribed):
    subscriber = subscribed(node)
    for id in [*CARRIED, "\r\n"]:
        assert publish(node, "Hello", item_id=id).result(10) == id
        assert next_item(subscriber)[:2] == (node, id)
        assert retract(node, id).result(10) == id
        (retraction,) = ET.fromstring(subscriber.hear()).iter(f"{EVENT}retract")
        assert retraction.get("id") == id


def test_a_name_that_tries_to_be_xml_arrives_as_a_name(node, subscribed):
    for name in [f"{node}{trick}" for trick in (*CARRIED, "\r\n")]:
        publish(name, "Hello").result(10)
        subscriber = subscribed(name)
        publish(name, "Hello", item_id="1").result(10)
        assert next_item(subscriber)[:2] == (name, "1")


def test_a_nick_that_tries_to_be_xml_arrives_as_the_fields_text(node, subscribed):
    subscriber = subscribed(node)
    for nick in CARRIED:
        publish(node, Author(pk=7, name=nick)).result(10)
        where, id, entry = next_item(subscriber)
        assert (where, id) == (node, "7")
        (field,) = [field for field in entry.iter("field") if field.get("name") == "name"]
        assert (field.text, list(field)) == (nick, [])


def test_an_origin_that_tries_to_be_xml_arrives_as_the_origin(node, subscribed):
    subscriber = subscribed(node)
    for origin in CARRIED:
        with originating(origin):
            publish(node, "Hello", item_id="1").result(10)
        _, _, entry = next_item(subscriber)
        assert [child.attrib["origin"] for child in entry] == [origin]


def test_what_xml_cannot_carry_is_refused_before_anything_is_sent(node, subscribed):
    subscriber = subscribed(node)
    for trick in REFUSED:
        with pytest.raises(ValueError, match="cannot carry"):
            publish(node, f"a{trick}b")
        with pytest.raises(ValueError, match="cannot carry"):
            publish(node, "Hello", item_id=f"a{trick}b")
        with pytest.raises(ValueError, match="cannot carry"):
            publish(f"{node}{trick}", "Hello")
        with pytest.raises(ValueError, match="cannot carry"):
            retract(node, f"a{trick}b")
        with pytest.raises(ValueError, match="cannot carry"):
            publish(node, Author(pk=7, name=f"a{trick}b"))
        with pytest.raises(ValueError, match="cannot carry"), originating(f"a{trick}b"):
            publish(node, "Hello")
    publish(node, "Hello", item_id="the first that is sent").result(10)
    assert next_item(subscriber)[1] == "the first that is sent"
