"""pubsub/views.py: how a page gets in, as HTTP sees it."""

import json
import time
from concurrent.futures import Future

import django
import jwt
import pytest
from django.contrib.auth.models import User
from django.core.handlers.base import BaseHandler
from django.test import Client
from django.urls import include, path

from pubsub import rules, views
from pubsub.backends import get_backend
from pubsub.backends.base import BaseBackend
from pubsub.conf import conf
from pubsub.credentials import session_id
from pubsub.exceptions import ConnectError, RequestRefused
from pubsub.futures import failed, resolved

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

urlpatterns = [path("pubsub/", include("pubsub.urls"))]

SECRET = "a secret of the site, which has 32 bytes or more"
CREDENTIALS, AUTHORIZE = "/pubsub/credentials/", "/pubsub/authorize/"
NODE = "/testapp/Author"


class Server(BaseBackend):
    """Keeps who was made a member."""

    manages_nodes = True

    def __init__(self):
        self.members = []
        self.error = None
        self.is_away = False
        self.meanwhile = lambda: None

    def trouble(self):
        return ConnectError("127.0.0.1:1", "nobody listens") if self.is_away else None

    def set_affiliations(self, node, affiliations) -> Future[None]:
        self.meanwhile()
        self.members.append((node, dict(affiliations)))
        return resolved(None) if self.error is None else failed(self.error)


@pytest.fixture
def server(settings):
    settings.PUBSUB_BACKEND = f"{__name__}.Server"
    return get_backend()


@pytest.fixture(autouse=True)
def key(settings):
    settings.PUBSUB_JWT_KEY = SECRET


@pytest.fixture
def ada(client):
    user = User.objects.create_user("ada")
    client.force_login(user)
    return user


@pytest.fixture
def rule():
    """A rule whose answer can be changed."""

    def may(user):
        asked.append(user)
        return answers[0]

    answers, asked = [True], []
    may.answers, may.asked = answers, asked
    rules.authorize(NODE)(may)
    yield may
    rules.withdraw(may)


def ask(client, node=NODE, **headers):
    return client.post(
        AUTHORIZE, json.dumps({"node": node}), content_type="application/json", headers=headers
    )


def test_a_user_gets_a_token_that_ends_with_his_session(client, ada):
    found = client.get(CREDENTIALS).json()
    claims = jwt.decode(found["password"], SECRET, algorithms=["HS256"])
    assert found["jid"] == claims["sub"] == f"{ada.pk}@users.localhost"
    assert found["expires"] == claims["exp"]
    assert claims["sid"] == session_id(client.session)
    assert found["authorizeUrl"] == AUTHORIZE
    assert found["csrfHeader"] == "X-CSRFTOKEN"


def test_what_comes_with_the_token_passes_the_csrf_check(settings, ada, server, rule):
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    found = client.get(CREDENTIALS).json()
    assert ask(client).status_code == 403
    assert ask(client, **{found["csrfHeader"]: found["csrfToken"]}).status_code == 200


def test_a_second_attempt_is_signed_with_the_key_before(client, ada, settings):
    old = "the secret before that one, as long as the other"
    settings.PUBSUB_JWT_KEY_FALLBACKS = [old]
    password = client.get(CREDENTIALS, {"attempt": "1"}).json()["password"]
    assert jwt.decode(password, old, algorithms=["HS256"])


@pytest.mark.parametrize("attempt", ["", "x", "-1", "9" * 5000, "1.5", "\u0661"])
def test_an_attempt_that_is_no_number_is_the_first(client, ada, attempt):
    password = client.get(CREDENTIALS, {"attempt": attempt}).json()["password"]
    assert jwt.decode(password, SECRET, algorithms=["HS256"])


@pytest.mark.parametrize("url", [CREDENTIALS, AUTHORIZE])
def test_who_is_not_logged_in_is_told_so_in_json(client, url):
    response = client.get(url) if url == CREDENTIALS else ask(client)
    assert (response.status_code, response.json()) == (401, {"error": "log in first"})


def test_a_site_without_users_tells_everybody_so(client, settings):
    settings.MIDDLEWARE = []
    assert client.get(CREDENTIALS).status_code == 401


def test_who_is_not_active_gets_no_token(client, ada, settings):
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
    client.force_login(ada)
    User.objects.update(is_active=False)
    response = client.get(CREDENTIALS)
    assert (response.status_code, response.json()) == (403, {"error": "this account is not active"})


@pytest.mark.skipif(django.VERSION < (5, 1), reason="there is no such middleware")
def test_a_site_that_is_closed_to_all_who_are_not_logged_in_answers_in_json_too(client, settings):
    middleware = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]
    assert client.get(CREDENTIALS).status_code == ask(client).status_code == 401


def test_no_answer_is_cached(client, ada):
    for response in (client.get(CREDENTIALS), ask(client), client.put(CREDENTIALS)):
        assert response["Cache-Control"] == "no-store, private"
        assert "Cookie" in response["Vary"]


@pytest.mark.parametrize("method", ["post", "head", "options", "put", "delete"])
def test_credentials_are_only_got(client, ada, method):
    response = getattr(client, method)(CREDENTIALS)
    assert (response.status_code, response["Allow"]) == (405, "GET")


@pytest.mark.parametrize("method", ["get", "head", "options", "put"])
def test_admission_is_only_posted_for(client, ada, method):
    response = getattr(client, method)(AUTHORIZE)
    assert (response.status_code, response["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "nonsense"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://sub.testserver"},
        {"Origin": "http://testserver:8080"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "ftp://testserver"},
        {"Referer": "http://evil.example/http://testserver/"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
    ],
    ids=str,
)
def test_pages_of_other_origins_are_refused(client, ada, headers):
    assert client.get(CREDENTIALS, headers=headers).status_code == 403
    assert ask(client, **headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://testserver"},  # of a proxy that Django does not know of
        {"Referer": "http://TESTSERVER/some/page"},
    ],
    ids=str,
)
def test_pages_of_the_site_are_answered(client, ada, headers):
    assert client.get(CREDENTIALS, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://www.example.org", 200),
        ("https://WWW.example.org", 200),
        ("https://a.b.example.net", 200),
        ("http://www.example.org", 403),
        ("https://example.org", 403),
        ("https://www.example.org.evil.example", 403),
        ("https://evilexample.net", 403),
    ],
)
def test_behind_a_proxy_that_says_another_host_the_origins_that_the_site_trusts_are_its_own(
    client, ada, settings, origin, status
):
    settings.CSRF_TRUSTED_ORIGINS = ["https://www.example.org", "https://*.example.net"]
    for headers in ({"Origin": origin}, {"Referer": f"{origin}/page"}):
        headers |= {"Host": "app:8000", "Sec-Fetch-Site": "same-origin"}
        assert client.get(CREDENTIALS, headers=headers).status_code == status
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    assert client.get(CREDENTIALS, headers=headers).status_code == 403


def test_a_page_that_came_in_the_clear_is_of_another_origin(client, ada):
    headers = {"Origin": "http://testserver"}
    assert client.get(CREDENTIALS, headers=headers, secure=True).status_code == 403


def test_a_user_whom_the_rule_allows_is_made_a_member(client, ada, server, rule):
    assert (ask(client).status_code, ask(client).json()) == (200, {})
    assert server.members[0] == (NODE, {f"{ada.pk}@users.localhost": "member"})
    assert {user.pk for user in rule.asked} == {ada.pk}


def test_a_user_whom_the_rule_does_not_allow_is_not(client, ada, server, rule):
    rule.answers[0] = False
    response = ask(client)
    assert (response.status_code, response.json()) == (403, {"error": "you may not read this node"})
    assert server.members == []


@pytest.mark.parametrize("node", ["/private", "/home", f"{NODE}/"])
def test_nodes_without_a_rule_let_nobody_in(client, ada, server, register, node):
    assert ask(client, node).status_code == 403
    assert server.members == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b'"node"',
        b"{}",
        b'{"node": null}',
        b'{"node": 5}',
        b'{"node": ["/a"]}',
        b'{"node": ""}',
        b'{"node": "\\ud800"}',
        b'{"node": "\\u0000"}',
        b'{"node": "' + b"n" * 9000 + b'"}',
        b"\xff\xfe",
        b"[" * 60000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_names_no_node_is_a_bad_request(client, ada, server, body):
    response = client.post(AUTHORIZE, body, content_type="application/json")
    assert response.status_code == 400
    assert response.json()["error"]


def test_a_request_that_is_too_big_is_not_read(client, ada, server):
    response = ask(client, "n" * 70000)
    assert response.status_code == 413


def test_when_the_server_is_away_the_page_is_told_to_ask_again(client, ada, server, rule, caplog):
    server.error = ConnectError("127.0.0.1:1", "nobody listens")
    response = ask(client)
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert "127.0.0.1" not in response.content.decode()
    assert "127.0.0.1:1: nobody listens" in caplog.text


def test_a_node_that_is_not_there_is_not_found(client, ada, server, rule):
    server.error = RequestRefused("item-not-found", "cancel")
    assert ask(client).status_code == 404


def test_a_server_that_does_not_answer_is_not_waited_for(client, ada, server, rule, monkeypatch):
    assert conf.timeout > views.PATIENCE
    monkeypatch.setattr(views, "PATIENCE", 0.01)
    monkeypatch.setattr(server, "set_affiliations", lambda node, affiliations: Future())
    before = time.monotonic()
    assert ask(client).status_code == 503
    assert time.monotonic() - before < views.RETRY_AFTER


def test_what_the_server_refuses_else_is_no_answer(client, ada, server, rule):
    server.error = RequestRefused("forbidden", "auth")
    assert ask(client).status_code == 503


@pytest.mark.parametrize(("is_away", "most"), [(False, views.MOST_WAITING), (True, 1)])
def test_only_so_many_wait_for_the_server_at_a_time(client, ada, server, rule, is_away, most):
    def one_more():
        codes.append(ask(client).status_code)

    codes = []
    server.is_away = is_away
    server.meanwhile = one_more  # while each of them waits
    one_more()
    assert codes == [503] + most * [200]
    assert len(server.members) == most
    server.meanwhile = lambda: None
    assert ask(client).status_code == 200


def test_without_a_server_nobody_is_let_in(client, ada, settings, rule):
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"
    assert ask(client).status_code == 503


@pytest.mark.parametrize("view", [views.credentials, views.authorize])
def test_a_transaction_around_each_request_is_not_one_around_these(view):
    assert BaseHandler().make_view_atomic(view) is view
