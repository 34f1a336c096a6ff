"""Whatever is asked of the two views, they answer, and give nothing to whom it does not belong."""

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.fuzz import values
from tests.unit.test_views import AUTHORIZE, CREDENTIALS, NODE, key, rule, server  # noqa: F401

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.unit.test_views")]

SOME = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
OWN = ("http://testserver", "https://testserver", "http://testserver/page?x")
FOREIGN = (
    *("null", "", "http://evil.example", "http://testserver.evil.example", "//testserver"),
    *("http://testserver@evil.example", "http://testserver:80", "file://testserver", "testserver"),
    *("http://evil.example/http://testserver", "http://[::1", "http://testserver\\@evil.example"),
    *("http://testserver http://evil.example", "javascript:testserver", "http:testserver"),
)
sources = st.sampled_from(OWN + FOREIGN) | values.text
#: What a server of HTTP lets through.
headers = st.dictionaries(
    st.sampled_from(["Origin", "Referer", "Sec-Fetch-Site", "X-PubSub-Client", "Accept"]),
    sources.map(lambda text: text.encode("latin-1", "replace").decode("latin-1")).filter(
        lambda text: not set(text) & {"\r", "\n", "\0"}
    ),
    max_size=3,
)
bodies = (
    st.binary(max_size=30)
    | st.just(json.dumps({"node": NODE}).encode())
    | values.anything.map(lambda value: json.dumps(value, default=str, skipkeys=True).encode())
    | (values.text | values.anything).map(
        lambda node: json.dumps({"node": node}, default=str, skipkeys=True).encode()
    )
)


@pytest.fixture
def ada(client):
    client.force_login(User.objects.create_user("ada"))
    client.raise_request_exception = False
    return client


def is_foreign(sent):
    """Whether a browser says that another site's page has asked."""
    site = sent.get("Sec-Fetch-Site", "same-origin")
    pages = [sent[name] for name in ("Origin", "Referer") if name in sent]
    return site not in ("same-origin", "none") or not all(page in OWN for page in pages)


@SOME
@given(
    method=st.sampled_from(["GET", "GET", "POST", "HEAD", "PUT"]), sent=headers, query=values.text
)
@example(method="GET", sent={}, query="1")
def test_a_token_is_given_to_its_user_on_a_page_of_the_site_only(ada, method, sent, query):
    for visitor in (ada, Client(raise_request_exception=False)):
        answer = visitor.generic(
            method,
            CREDENTIALS,
            headers=sent,
            QUERY_STRING=f"attempt={query}".encode(errors="replace").decode("latin-1"),
        )
        assert answer.status_code in (200, 400, 401, 403, 405)
        assert "no-store" in answer["Cache-Control"]
        if answer.status_code == 200:
            assert (visitor, method) == (ada, "GET")
            assert not is_foreign(sent)
            assert answer.json()["jid"].endswith("@users.localhost")
        else:
            assert b"eyJ" not in answer.content


@SOME
@given(body=bodies, sent=headers)
@example(body=b'{"node": ' + b"[" * 60_000, sent={})
@example(body=b'{"node": "\\ud800"}', sent={})
def test_a_request_for_admission_of_any_kind_is_answered(ada, server, rule, body, sent):  # noqa: F811
    server.members.clear()
    answer = ada.post(AUTHORIZE, body, content_type="application/json", headers=sent)
    assert answer.status_code in (200, 400, 403, 413)
    assert "error" in answer.json() or answer.status_code == 200
    if answer.status_code == 200:
        assert json.loads(body)["node"] == NODE
        assert not is_foreign(sent)
    else:
        assert server.members == []
