"""pubsub/wire/stanzas.py: what is built is read back by Python's own XML parser."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xmpp.simplexml import Node

from pubsub.wire import stanzas
from tests.unit.wire.nodes import parse, result

SERVICE = "pubsub.example.org"
PUBSUB = "{http://jabber.org/protocol/pubsub}"
OWNER = "{http://jabber.org/protocol/pubsub#owner}"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"

#: All that XML 1.0 can carry; callers refuse the rest.
xml_text = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r&<>\"']")
)
names = xml_text.filter(bool)


def build(request):
    return ET.fromstring(request.to_xml("id1"))


# What is built


@given(node=names, item_id=names)
def test_any_name_and_any_id_survive_publishing(node, item_id):
    iq = build(stanzas.publish(SERVICE, node, "<entry/>", item_id))
    assert iq.attrib == {"type": "set", "to": SERVICE, "id": "id1"}
    publish = iq.find(f"{PUBSUB}pubsub/{PUBSUB}publish")
    assert publish.attrib == {"node": node}
    assert publish.find(f"{PUBSUB}item").attrib == {"id": item_id}
    assert publish.find(f"{PUBSUB}item/*") is not None


def test_an_item_without_an_id_leaves_the_choice_to_the_server():
    iq = build(stanzas.publish(SERVICE, "/n", "<entry/>"))
    assert iq.find(f".//{PUBSUB}item").attrib == {}


def test_an_empty_id_is_not_taken_for_none():
    iq = build(stanzas.publish(SERVICE, "/n", "<entry/>", ""))
    assert iq.find(f".//{PUBSUB}item").attrib == {"id": ""}


def test_the_payload_is_sent_as_it_is():
    payload = '<entry xmlns="http://www.w3.org/2005/Atom">a &amp; <b xmlns=""/></entry>'
    assert payload in stanzas.publish(SERVICE, "/n", payload, "1").to_xml("id1")


def test_the_mark_of_its_sending_is_put_in_when_the_item_is_written():
    request = stanzas.publish(SERVICE, "/n", "<e/>", "1", mark=lambda body, mark: body + mark)
    assert request.to_xml("id1", "abc.7").endswith("</pubsub>abc.7</iq>")
    assert request.to_xml("id1").endswith("</pubsub></iq>")
    unmarked = stanzas.publish(SERVICE, "/n", "<e/>", "1")
    assert unmarked.to_xml("id1", "abc.7") == unmarked.to_xml("id1")


def test_only_what_changes_nothing_when_it_is_repeated_endures():
    assert stanzas.publish(SERVICE, "/n", "<e/>", "1").endures
    assert stanzas.retract(SERVICE, "/n", "1").endures
    assert not stanzas.publish(SERVICE, "/n", "<e/>").endures  # each would be a new item
    for request in (stanzas.create(SERVICE, "/n", {}), stanzas.delete(SERVICE, "/n")):
        assert not request.endures
        assert request.node == "/n"


@given(node=names, item_id=names)
def test_any_name_and_any_id_survive_retracting(node, item_id):
    retract = build(stanzas.retract(SERVICE, node, item_id)).find(f"{PUBSUB}pubsub/{PUBSUB}retract")
    assert retract.attrib == {"node": node, "notify": "true"}
    assert retract.find(f"{PUBSUB}item").attrib == {"id": item_id}


@given(node=names, value=xml_text)
def test_any_value_survives_in_a_configuration(node, value):
    iq = build(stanzas.configure(SERVICE, node, {"title": value}))
    configure = iq.find(f"{OWNER}pubsub/{OWNER}configure")
    assert configure.attrib == {"node": node}
    assert fields(configure) == {
        "FORM_TYPE": "http://jabber.org/protocol/pubsub#node_config",
        "pubsub#title": value,
    }


@pytest.mark.parametrize(
    ("value", "written"), [(True, "1"), (False, "0"), (1000, "1000"), ("max", "max"), (0, "0")]
)
def test_a_configuration_is_written_in_the_servers_words(value, written):
    iq = build(stanzas.create(SERVICE, "/n", {"field": value}))
    assert iq.find(f"{PUBSUB}pubsub/{PUBSUB}create").attrib == {"node": "/n"}
    assert fields(iq)["pubsub#field"] == written


def fields(element):
    form = element.find(".//{jabber:x:data}x")
    assert form.attrib == {"type": "submit"}
    return {
        field.get("var"): field.findtext("{jabber:x:data}value")
        for field in form.iter("{jabber:x:data}field")
    }


@given(node=names, jid=names)
def test_any_name_and_any_jid_survive_subscribing(node, jid):
    for request in (stanzas.subscribe, stanzas.unsubscribe):
        child = build(request(SERVICE, node, jid)).find(f"{PUBSUB}pubsub/*")
        assert child.tag == f"{PUBSUB}{request.__name__}"
        assert child.attrib == {"node": node, "jid": jid}


@given(node=names, states=st.dictionaries(names, st.sampled_from(["none", "member", "owner"])))
def test_what_the_owner_sets_reaches_every_jid(node, states):
    for request, tag, attribute in (
        (stanzas.set_subscriptions, "subscription", "subscription"),
        (stanzas.set_affiliations, "affiliation", "affiliation"),
    ):
        iq = build(request(SERVICE, node, states))
        assert iq.get("type") == "set"
        assert iq.find(f"{OWNER}pubsub/{OWNER}{tag}s").attrib == {"node": node}
        found = iq.iter(f"{OWNER}{tag}")
        assert {child.get("jid"): child.get(attribute) for child in found} == states


@given(node=names, ids=st.lists(names, max_size=3))
def test_items_are_asked_for_by_number_and_by_id(node, ids):
    items = build(stanzas.items(SERVICE, node, max_items=7, item_ids=ids)).find(f".//{PUBSUB}items")
    assert items.attrib == {"node": node, "max_items": "7"}
    assert [item.get("id") for item in items] == ids


def test_all_items_are_asked_for_without_a_limit():
    assert build(stanzas.items(SERVICE, "/n")).find(f".//{PUBSUB}items").attrib == {"node": "/n"}


@pytest.mark.parametrize(
    ("request_", "type", "tag"),
    [
        (stanzas.configuration(SERVICE, "/n"), "get", f"{OWNER}configure"),
        (stanzas.delete(SERVICE, "/n"), "set", f"{OWNER}delete"),
        (stanzas.subscriptions(SERVICE, "/n"), "get", f"{OWNER}subscriptions"),
        (stanzas.affiliations(SERVICE, "/n"), "get", f"{OWNER}affiliations"),
    ],
)
def test_an_owner_asks_in_the_owners_namespace(request_, type, tag):
    iq = build(request_)
    assert iq.attrib == {"type": type, "to": SERVICE, "id": "id1"}
    child = iq.find(f"{OWNER}pubsub/*")
    assert (child.tag, child.attrib) == (tag, {"node": "/n"})


def test_the_service_is_asked_for_our_affiliations():
    iq = build(stanzas.own_nodes(SERVICE))
    assert iq.attrib == {"type": "get", "to": SERVICE, "id": "id1"}
    assert iq.find(f"{PUBSUB}pubsub/{PUBSUB}affiliations").attrib == {}


def test_items_are_counted_by_a_page_of_none_of_them():
    pubsub = build(stanzas.count(SERVICE, "/n"))[0]
    assert pubsub.find(f"{PUBSUB}items").attrib == {"node": "/n"}
    assert pubsub.findtext("{http://jabber.org/protocol/rsm}set/{*}max") == "0"


def test_a_ping_goes_to_the_domain():
    iq = build(stanzas.ping("example.org"))
    assert iq.attrib == {"type": "get", "to": "example.org", "id": "id1"}
    assert iq[0].tag == "{urn:xmpp:ping}ping"


# What others ask us


@given(id=xml_text, sender=xml_text)
def test_a_ping_is_answered_to_whoever_sent_it(id, sender):
    request = Node("iq", {"type": "get", "id": id, "from": sender})
    request.addChild("ping", namespace="urn:xmpp:ping")
    answer = ET.fromstring(stanzas.answer(request))
    assert answer.attrib == {"type": "result", "id": id, "to": sender}


def test_other_requests_are_told_that_we_serve_nothing():
    request = parse('<iq type="get" id="x" from="a@b/c"><query xmlns="jabber:iq:version"/></iq>')
    answer = ET.fromstring(stanzas.answer(request))
    assert answer.attrib == {"type": "error", "id": "x", "to": "a@b/c"}
    assert answer.find(f"error/{{{STANZAS}}}service-unavailable") is not None


def test_a_request_without_id_and_sender_is_answered_all_the_same():
    assert ET.fromstring(stanzas.answer(parse('<iq type="get"/>'))).get("type") == "error"


# Results


def test_publishing_resolves_to_the_id_that_the_server_gave():
    answer = result(
        '<pubsub xmlns="http://jabber.org/protocol/pubsub"><publish node="/n">'
        '<item id="from server"/></publish></pubsub>'
    )
    assert stanzas.publish(SERVICE, "/n", "<e/>").parse(answer) == "from server"
    assert stanzas.publish(SERVICE, "/n", "<e/>", "ours").parse(answer) == "from server"


def test_publishing_resolves_to_our_id_where_the_server_repeats_none():
    assert stanzas.publish(SERVICE, "/n", "<e/>", "ours").parse(result("")) == "ours"
    assert stanzas.publish(SERVICE, "/n", "<e/>").parse(result("")) == ""


def test_retracting_resolves_to_the_id_and_takes_a_missing_item_as_done():
    request = stanzas.retract(SERVICE, "/n", "42")
    assert request.parse(result("")) == "42"
    assert request.done_when == {"item-not-found"}


def test_creating_takes_an_existing_node_as_done():
    assert stanzas.create(SERVICE, "/n", {}).done_when == {"conflict"}


def test_subscribing_resolves_to_the_state_of_the_subscription():
    answer = result(
        '<pubsub xmlns="http://jabber.org/protocol/pubsub">'
        '<subscription node="/n" jid="a@b" subscription="pending"/></pubsub>'
    )
    assert stanzas.subscribe(SERVICE, "/n", "a@b").parse(answer) == "pending"
