"""pubsub/nodes.py: what the registered models say of their nodes."""

from concurrent.futures import Future

import pytest

from pubsub import Publication, authorize, nodes, publish, pubsub, rules
from pubsub.backends import get_backend
from pubsub.backends.base import BaseBackend
from pubsub.futures import resolved
from tests.testapp.models import Author, Post

pytestmark = pytest.mark.django_db(transaction=True)


class Recording(BaseBackend):
    """Keeps how nodes were to be created."""

    def __init__(self):
        self.created = []

    def send(self, item):
        self.ensure_node(item.node, item.configuration)
        return resolved("1")

    def ensure_node(self, node, configuration):
        self.created.append((node, dict(configuration)))

    def configure_node(self, node, configuration):
        self.ensure_node(node, configuration)
        return resolved(None)

    def create_node(self, node, configuration):
        self.ensure_node(node, configuration)
        future = Future()
        future.set_result(None)
        return future


@pytest.fixture
def created(settings):
    settings.PUBSUB_BACKEND = f"{__name__}.Recording"
    return get_backend().created


def test_of_a_node_that_no_model_has_nothing_is_declared():
    assert nodes.declared("/home") == {}


def test_a_registered_model_declares_its_nodes_until_it_is_unregistered():
    pubsub.register(Author, node=["/a", "/b"], access="private", max_items=7, expire=60)
    try:
        for node in ("/a", "/b"):
            assert nodes.declared(node) == {
                "access_model": "whitelist",
                "max_items": 7,
                "item_expire": 60,
            }
        assert nodes.declared("/testapp/Author") == {}
    finally:
        pubsub.unregister(Author)
    assert nodes.declared("/a") == nodes.declared("/b") == {}


def test_two_models_on_one_node_declare_together(register):
    register(Author, node="/both", max_items=7)
    register(Post, node="/both", access="private")
    assert nodes.declared("/both") == {"max_items": 7, "access_model": "whitelist"}
    pubsub.unregister(Post)
    assert nodes.declared("/both") == {"max_items": 7}


@pytest.mark.parametrize(
    "use",
    [
        lambda node: publish(node, "by hand"),
        lambda node: nodes.ensure(node),
        lambda node: nodes.create(node),
        lambda node: Author.objects.create(name="Ada"),
        lambda node: pubsub.publish_rows(Author.objects.bulk_create([Author(name="Ada")])),
    ],
    ids=["publish", "ensure", "create", "save", "publish_rows"],
)
def test_whoever_comes_first_creates_the_node_as_its_model_wants_it(created, register, use):
    register(Author, access="private", max_items=7)
    use("/testapp/Author")
    assert created == [("/testapp/Author", {"access_model": "whitelist", "max_items": 7})]


def test_a_node_under_a_rule_is_private_whatever_is_said(created):
    def may(user):
        return True

    authorize("/ruled")(may)
    try:
        nodes.create("/ruled", access_model="open", max_items=9)
        nodes.configure("/ruled", access_model="open")
        nodes.configure("/ruled", max_items=7)
        nodes.configure("/free", access_model="open")
    finally:
        rules.withdraw(may)
    assert created == [
        ("/ruled", {"access_model": "whitelist", "max_items": 9}),
        ("/ruled", {"access_model": "whitelist"}),
        ("/ruled", {"max_items": 7}),
        ("/free", {"access_model": "open"}),
    ]


def test_what_is_said_at_the_creation_goes_first(created, register):
    register(Author, access="private", max_items=7)
    nodes.create("/testapp/Author", max_items=9)
    assert created == [("/testapp/Author", {"access_model": "whitelist", "max_items": 9})]


def test_the_configuration_may_depend_on_the_node(created, register):
    class Mine(Publication):
        node = ("/open", "/secret")

        def get_configuration(self, node):
            return {"access_model": node.removeprefix("/")}

    register(Author, Mine)
    Author.objects.create(name="Ada")
    assert created == [("/open", {"access_model": "open"}), ("/secret", {"access_model": "secret"})]


def test_a_node_is_wanted_as_its_models_ask_and_else_as_the_site_does(settings, register):
    settings.PUBSUB_NODE_DEFAULTS = {"max_items": "7", "deliver_payloads": True}
    register(Author, max_items="max")
    assert nodes.wanted("/testapp/Author")["max_items"] == "max"
    assert nodes.wanted("/testapp/Author")["deliver_payloads"] is True
    assert nodes.wanted("/home")["publish_model"] == "publishers"
    assert (nodes.max_items("/testapp/Author"), nodes.max_items("/home")) == ("max", 7)
