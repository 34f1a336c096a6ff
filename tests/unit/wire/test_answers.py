"""pubsub/wire/answers.py: results and errors are read, whatever their shape."""

import string
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.exceptions import RequestRefused
from pubsub.wire import answers, stanzas
from tests.unit.wire.nodes import parse, result

SERVICE = "pubsub.example.org"
ERRORS = "http://jabber.org/protocol/pubsub#errors"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"


def test_items_keep_the_servers_order_and_their_payloads():
    found = answers.parse_items(
        result(
            '<pubsub xmlns="http://jabber.org/protocol/pubsub"><items node="/n">'
            '<item id="2" publisher="django@b"><entry xmlns="urn:x">two</entry></item>'
            '<item id="1"> <entry/></item><item id="0"/></items></pubsub>'
        )
    )
    assert [(item.id, item.publisher) for item in found] == [
        ("2", "django@b"),
        ("1", ""),
        ("0", ""),
    ]
    assert found[0].payload.getNamespace() == "urn:x"
    assert found[0].payload.getData() == "two"
    assert found[1].payload.getName() == "entry"
    assert found[2].payload is None


def test_subscriptions_that_ended_are_left_out():
    found = answers.parse_subscriptions(
        result(
            '<pubsub xmlns="http://jabber.org/protocol/pubsub#owner"><subscriptions node="/n">'
            '<subscription jid="a@b" subscription="subscribed" subid="7"/>'
            '<subscription jid="c@d" subscription="none"/></subscriptions></pubsub>'
        )
    )
    assert found == [answers.Subscription("a@b", "subscribed", "7")]


def test_affiliations_are_read_by_jid():
    found = answers.parse_affiliations(
        result(
            '<pubsub xmlns="http://jabber.org/protocol/pubsub#owner"><affiliations node="/n">'
            '<affiliation jid="a@b" affiliation="owner"/>'
            '<affiliation jid="c@d" affiliation="member"/></affiliations></pubsub>'
        )
    )
    assert found == {"a@b": "owner", "c@d": "member"}


def test_a_configuration_loses_its_prefix_and_its_form_type():
    found = answers.parse_configuration(
        result(
            '<pubsub xmlns="http://jabber.org/protocol/pubsub#owner"><configure node="/n">'
            '<x xmlns="jabber:x:data" type="form">'
            '<field var="FORM_TYPE" type="hidden"><value>http://…#node_config</value></field>'
            '<field var="pubsub#title"><value>A title</value></field>'
            '<field var="pubsub#roster"><value>a</value><value>b</value></field>'
            '<field var="pubsub#empty"/></x></configure></pubsub>'
        )
    )
    assert found == {"title": "A title", "roster": "a\nb", "empty": ""}


@pytest.mark.parametrize(
    ("text", "number"), [("120", 120), ("0", 0), ("", 0), ("many", 0), ("-1", 0), ("9" * 30, 0)]
)
def test_items_are_counted_where_the_server_says_how_many(text, number):
    counted = f'<set xmlns="http://jabber.org/protocol/rsm"><count>{text}</count></set>'
    found = result(f'<pubsub xmlns="http://jabber.org/protocol/pubsub">{counted}</pubsub>')
    assert answers.parse_count(found) == number


def test_items_are_not_counted_where_the_server_says_nothing():
    assert answers.parse_count(result("")) == 0


def test_of_our_affiliations_those_of_an_owner_name_our_nodes():
    found = answers.parse_own_nodes(
        result(
            '<pubsub xmlns="http://jabber.org/protocol/pubsub"><affiliations>'
            '<affiliation node="/b" affiliation="owner"/><affiliation affiliation="owner"/>'
            '<affiliation node="/c" affiliation="member"/>'
            '<affiliation node="/a" affiliation="owner"/></affiliations></pubsub>'
        )
    )
    assert found == ["/a", "/b"]


# Errors


def test_an_error_carries_condition_type_text_and_refinement():
    error = answers.parse_error(
        parse(
            f'<iq type="error" id="1"><error type="cancel"><closed-node xmlns="{ERRORS}"/>'
            f'<not-allowed xmlns="{STANZAS}"/><text xmlns="{STANZAS}">No &amp; never</text>'
            "</error></iq>"
        )
    )
    assert isinstance(error, RequestRefused)
    assert (error.condition, error.type) == ("not-allowed", "cancel")
    assert (error.text, error.pubsub_condition) == ("No & never", "closed-node")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<error/>",
        "<error>text only</error>",
        '<error type="wait"><text>no namespace</text></error>',
        f'<error><text xmlns="{STANZAS}"/></error>',
    ],
)
def test_an_error_without_a_condition_is_undefined(body):
    assert answers.parse_error(parse(f'<iq type="error">{body}</iq>')).condition == (
        "undefined-condition"
    )


# Whatever a server may send

tags = st.sampled_from(
    ["error", "pubsub", "items", "item", "publish", "subscription", "subscriptions"]
    + ["affiliation", "affiliations", "configure", "x", "field", "value", "text", "not-allowed"]
    + ["query"]
)
namespaces = st.sampled_from(
    [
        None,
        "jabber:client",
        answers.NS_RSM,
        answers.NS_PUBSUB,
        answers.NS_OWNER,
        ERRORS,
        STANZAS,
        "jabber:x:data",
    ]
)
attributes = st.dictionaries(
    st.sampled_from(["id", "jid", "node", "type", "var", "subscription", "affiliation", "subid"]),
    st.text(string.ascii_letters + "<&\"'#", max_size=5),
    max_size=3,
)


@st.composite
def elements(draw, children):
    element = ET.Element(draw(tags), draw(attributes))
    if (namespace := draw(namespaces)) is not None:
        element.set("xmlns", namespace)
    element.text = draw(st.text(string.printable[:95], max_size=3))
    element.extend(draw(children))
    return element


trees = st.recursive(
    elements(st.just([])), lambda inner: elements(st.lists(inner, max_size=4)), max_leaves=12
)


@given(body=st.lists(trees, max_size=3))
def test_no_answer_of_whatever_shape_makes_a_parser_raise(body):
    answer = result("".join(ET.tostring(element, encoding="unicode") for element in body))
    assert isinstance(answers.parse_error(answer), RequestRefused)
    for item in answers.parse_items(answer):
        assert isinstance(item.id, str)
    for subscription in answers.parse_subscriptions(answer):
        assert isinstance(subscription.jid, str)
        assert isinstance(subscription.state, str)
    for jid, affiliation in answers.parse_affiliations(answer).items():
        assert isinstance(jid, str)
        assert isinstance(affiliation, str)
    for name, value in answers.parse_configuration(answer).items():
        assert isinstance(name, str)
        assert isinstance(value, str)
    assert answers.parse_count(answer) >= 0
    for node in answers.parse_own_nodes(answer):
        assert isinstance(node, str)
    assert isinstance(stanzas.publish(SERVICE, "/n", "<e/>").parse(answer), str)
    assert isinstance(stanzas.subscribe(SERVICE, "/n", "a@b").parse(answer), str)


@pytest.mark.parametrize(
    ("parser", "body"),
    [
        (answers.parse_subscriptions, "<subscriptions><subscription/></subscriptions>"),
        (answers.parse_affiliations, "<affiliations><affiliation/></affiliations>"),
    ],
)
def test_an_entry_without_a_jid_speaks_of_nobody(parser, body):
    answer = result(f'<pubsub xmlns="http://jabber.org/protocol/pubsub#owner">{body}</pubsub>')
    assert not parser(answer)
