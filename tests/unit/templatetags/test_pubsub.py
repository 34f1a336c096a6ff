"""pubsub/templatetags/pubsub.py: what {% pubsub_client %} puts on a page."""

import json
import re
from types import SimpleNamespace

import pytest
from django.template import Context, Template

from pubsub.backends import get_backend
from tests.testapp.models import Author, Post

TEMPLATE = Template("{% load pubsub %}{% pubsub_client %}")


@pytest.fixture(autouse=True)
def without_a_server(settings):
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"


def render(**context):
    return TEMPLATE.render(Context(context))


def test_the_tag_loads_the_client():
    assert render().endswith('<script src="/static/pubsub/pubsub.client.js"></script>')


def test_the_nodes_of_registered_models_are_created(register, monkeypatch):
    ensured = []
    monkeypatch.setattr(get_backend(), "ensure_node", lambda *told: ensured.append(told))
    register(Author)
    register(Post, node=["/posts", "/all"], access="private", max_items=7)
    render()
    closed = {"max_items": 7, "access_model": "whitelist"}
    assert ensured == [("/testapp/Author", {}), ("/posts", closed), ("/all", closed)]


def test_the_configuration_is_json_that_names_no_secret(settings):
    settings.XMPP_PASSWORD = "secret"
    html = render()
    found = re.search(r'<script id="pubsub-config" type="application/json">(.*)</script>\n', html)
    assert json.loads(found[1]) == {
        "service": "pubsub.localhost",
        "boshUrl": "/http-bind",
        "websocketUrl": "/ws",
        "guestDomain": "guests.localhost",
        "userDomain": "users.localhost",
    }
    assert "secret" not in html


def test_settings_cannot_break_out_of_the_page(settings):
    settings.PUBSUB_BOSH_URL = "/</script><script>alert(1)//"
    assert render().count("<script") == 2


def test_a_nonce_is_taken_from_the_context_or_the_request():
    assert ' nonce="abc">' in render(csp_nonce="abc")
    assert ' nonce="abc">' in render(request=SimpleNamespace(csp_nonce="abc"))
    assert "nonce" not in render(request=SimpleNamespace())
