"""pubsub/templatetags/pubsub.py: what {% pubsub_client %} puts on a page."""

import json
import re
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.http import JsonResponse
from django.template import Context, Template
from django.test import RequestFactory
from django.urls import include, path

from pubsub.backends import get_backend
from pubsub.items import now
from pubsub.payloads import timestamp
from pubsub.templatetags import pubsub as tags
from tests.testapp.models import Author, Post

TEMPLATE = Template("{% load pubsub %}{% pubsub_client %}")


@pytest.fixture(autouse=True)
def without_a_server(settings):
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"


def render(**context):
    return TEMPLATE.render(Context(context))


def configuration_of(html):
    found = re.search(r'<script id="pubsub-config" type="application/json">(.*)</script>\n', html)
    return json.loads(found[1])


def page(request):
    """A view that says when it began to read."""
    reading = timestamp(now())
    return JsonResponse({"reading": reading, **configuration_of(render(request=request))})


async def async_page(request):
    return page(request)


urlpatterns = [
    path("page/", page),
    path("async/", async_page),
    path("pubsub/", include("pubsub.urls")),
]


@pytest.mark.urls(__name__)
def test_a_page_bears_the_time_when_its_request_came(client):
    for _ in range(2):
        before = timestamp(now())
        answer = client.get("/page/").json()
        assert before <= answer["since"] <= answer["reading"]
    assert configuration_of(render())["since"] > answer["reading"]


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("address", ["/page/", "/async/"])
def test_under_asgi_a_page_bears_the_time_when_its_request_came_too(async_client, address):
    before = timestamp(now())
    answer = async_to_sync(async_client.get)(address).json()
    assert before <= answer["since"] <= answer["reading"]
    assert configuration_of(render())["since"] > answer["reading"]


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
    before = timestamp(now())
    html = render()
    configuration = configuration_of(html)
    assert before <= configuration.pop("since") <= timestamp(now())
    assert configuration == {
        "service": "pubsub.localhost",
        "boshUrl": "/http-bind",
        "websocketUrl": "/ws",
        "guestDomain": "guests.localhost",
        "userDomain": "users.localhost",
        "workerUrl": "/static/pubsub/pubsub.worker.js",
        "nodes": {},
    }
    assert "secret" not in html


def test_of_each_node_the_page_learns_how_many_items_it_keeps(settings, register):
    register(Author)
    register(Post, node=["/posts", "/all"], max_items="max")
    expected = {"/testapp/Author": {"max": 1000}, "/posts": {"max": "max"}, "/all": {"max": "max"}}
    assert configuration_of(render())["nodes"] == expected
    settings.PUBSUB_NODE_DEFAULTS = {"max_items": 7}
    assert configuration_of(render())["nodes"] == {**expected, "/testapp/Author": {"max": 7}}


def test_a_log_is_named_as_one_unless_the_node_mirrors_rows_too(register):
    register(Author, node=["/log", "/both"], item_id=None)
    register(Post, node="/both")
    expected = {"/log": {"max": 1000, "log": True}, "/both": {"max": 1000}}
    assert configuration_of(render())["nodes"] == expected


def test_a_worker_that_was_not_collected_keeps_no_page_from_being_rendered(monkeypatch):
    def static(path):
        if "worker" in path:
            raise ValueError(f"Missing staticfiles manifest entry for '{path}'")
        return path

    monkeypatch.setattr(tags, "static", static)
    assert configuration_of(render())["workerUrl"] == ""


def test_settings_cannot_break_out_of_the_page(settings):
    settings.PUBSUB_BOSH_URL = "/</script><script>alert(1)//"
    assert render().count("<script") == 2


def test_a_nonce_is_taken_from_the_context_or_the_request():
    assert ' nonce="abc">' in render(csp_nonce="abc")
    assert ' nonce="abc">' in render(request=SimpleNamespace(csp_nonce="abc"))
    assert "nonce" not in render(request=SimpleNamespace())


SECRET = "a secret of the site, which has 32 bytes or more"


@pytest.mark.parametrize(
    ("key", "user", "expected"),
    [
        (SECRET, User(pk=5), ("/pubsub/credentials/", "5@users.localhost")),
        (SECRET, AnonymousUser(), (None, None)),
        (SECRET, None, (None, None)),
        ("", User(pk=5), (None, None)),
    ],
    ids=["user", "anonymous", "no users", "no key"],
)
@pytest.mark.urls(__name__)
def test_a_users_page_is_told_whose_it_is_and_where_his_credentials_are(
    settings, key, user, expected
):
    settings.PUBSUB_JWT_KEY = key
    request = RequestFactory().get("/")
    if user is not None:
        request.user = user
    told = configuration_of(render(request=request))
    assert (told.get("credentialsUrl"), told.get("user")) == expected


def test_without_the_addresses_a_users_page_is_told_of_none(settings):
    settings.PUBSUB_JWT_KEY = SECRET
    request = RequestFactory().get("/")
    request.user = User(pk=5)
    assert "credentialsUrl" not in configuration_of(render(request=request))
