"""pubsub/nodes.py against a real ejabberd: who may read a node."""

import uuid

import pytest
from slixmpp.exceptions import IqError

from pubsub import nodes, publish
from pubsub.exceptions import InvalidItem, RequestRefused
from tests.listener import Listener

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("xmpp_settings")]


@pytest.fixture
def private():
    """A node that only its members may read."""
    name = f"/test/{uuid.uuid4().hex}"
    nodes.create(name, access_model="whitelist").result(10)
    yield name
    nodes.delete(name).result(10)


def jid_of(visitor, stack):
    """The bare JID of a guest."""
    return f"{visitor._name}@{stack.settings['PUBSUB_GUEST_DOMAIN']}"


def test_affiliations_that_are_set_are_there_besides_the_others(private):
    nodes.set_affiliations(private, {"ada@localhost": "member", "bo@localhost": "outcast"}).result(
        10
    )
    nodes.set_affiliations(private, {"bo@localhost": "none"}).result(10)
    assert nodes.affiliations(private).result(10) == {
        "django@localhost": "owner",
        "ada@localhost": "member",
    }


@pytest.mark.delivery
def test_a_private_node_lets_its_members_read(private, stack):
    with Listener(stack.settings) as visitor:
        with pytest.raises(IqError):
            visitor.subscribe(private)
        nodes.set_affiliations(private, {jid_of(visitor, stack): "member"}).result(10)
        visitor.subscribe(private)
        publish(private, "Hello", item_id="1").result(10)
        assert visitor.next().id == "1"


def test_an_affiliation_that_does_not_exist_is_refused(private):
    with pytest.raises(RequestRefused):
        nodes.set_affiliations(private, {"ada@localhost": "friend"}).result(10)


def test_an_affiliation_that_xml_cannot_carry_is_never_sent(private):
    with pytest.raises(InvalidItem, match="affiliation"):
        nodes.set_affiliations(private, {"ada\x08@localhost": "member"})
