"""pubsub/middleware.py: what a request publishes bears the mark of the page that sent it."""

import asyncio
import re

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from pubsub import publish
from pubsub.context import current_origin, origin_of
from pubsub.middleware import OriginMiddleware

CLIENT = "0123456789abcdefghijklmnopqrst_-"


def request(client_id=None):
    headers = {} if client_id is None else {"HTTP_X_PUBSUB_CLIENT": client_id}
    return RequestFactory().post("/", **headers)


def answer(request):
    publish("/home", "Hello")
    return HttpResponse()


def origin(item):
    found = re.search(r' origin="([^"]*)"', item.payload)
    return found and found[1]


def test_what_a_request_publishes_bears_the_public_form_of_its_client(sent):
    OriginMiddleware(answer)(request(CLIENT))
    assert origin(sent[0]) == origin_of(CLIENT)
    assert CLIENT not in sent[0].payload


def test_what_is_published_afterwards_bears_none(sent):
    OriginMiddleware(answer)(request(CLIENT))
    publish("/home", "Hello")
    assert current_origin() == ""
    assert origin(sent[1]) is None


@pytest.mark.parametrize(
    "client_id",
    [None, "", "short", "x" * 129, '"/><evil/>', "a b c d e f", "ü" * 10, "x" * 9 + "\n"],
)
def test_what_is_no_clients_id_is_ignored(sent, client_id):
    OriginMiddleware(answer)(request(client_id))
    assert origin(sent[0]) is None


def test_an_exception_in_the_view_ends_it_too():
    def fail(request):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        OriginMiddleware(fail)(request(CLIENT))
    assert current_origin() == ""


def test_requests_that_are_answered_at_once_by_one_thread_have_their_own(sent):
    both = asyncio.Event()

    async def view(request):
        if request.GET:
            both.set()
        await both.wait()
        publish(request.path, "Hello")
        return HttpResponse()

    async def serve():
        middleware = OriginMiddleware(view)
        first = RequestFactory().get("/a", HTTP_X_PUBSUB_CLIENT=CLIENT)
        second = RequestFactory().get("/b?x=1", HTTP_X_PUBSUB_CLIENT=CLIENT[::-1])
        third = RequestFactory().get("/c?x=1")
        await asyncio.gather(*(middleware(r) for r in (first, second, third)))

    asyncio.run(serve())
    found = {item.node: origin(item) for item in sent}
    assert found == {"/a": origin_of(CLIENT), "/b": origin_of(CLIENT[::-1]), "/c": None}


def test_the_public_form_is_what_the_browser_computes_too():
    # printf abcdefgh | openssl dgst -sha256 -binary | basenc --base64url | head -c 22
    assert origin_of("abcdefgh") == "nFbMUbN0w7oYkhDVttS_V3"
