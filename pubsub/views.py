"""The two views that a page of the site asks: how to log in, and to be let in to a private node.

They speak JSON, to the user of the session and to pages of this very site only.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import RequestDataTooBig
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import is_same_domain
from django.views.decorators.csrf import csrf_protect, ensure_csrf_cookie

from pubsub.admissions import admit
from pubsub.backends import get_backend
from pubsub.conf import conf
from pubsub.credentials import make_credentials
from pubsub.exceptions import InvalidNode, NotAllowed, PubSubError, RequestRefused
from pubsub.items import valid_node
from pubsub.payloads import shortened

View = Callable[[HttpRequest], HttpResponse]

logger = logging.getLogger("pubsub")

#: Bytes that a request may have: a node's name, with every character of it escaped.
MAX_BODY = 65536

#: Seconds after which to ask again when the XMPP server is away.
RETRY_AFTER = 5

#: Seconds that an admission waits for the XMPP server.
PATIENCE = 3.0

#: How many admissions of a process may wait for the XMPP server at a time: the site has other
#: pages.
MOST_WAITING = 16


class Refusal(Exception):
    """An answer other than the one that was wanted.

    :param status: of HTTP.
    :param reason: for whoever looks into the network log of a browser.
    """

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = headers


def json_view(method: str) -> Callable[[View], View]:
    """A view of this module: one method, this site only, logged in, never cached."""

    def decorate(view: View) -> View:
        @wraps(view)
        def answer(request: HttpRequest) -> HttpResponse:
            try:
                if request.method != method:
                    raise Refusal(405, f"only {method} is answered here", Allow=method)
                check_origin(request)
                if not getattr(getattr(request, "user", None), "is_authenticated", False):
                    raise Refusal(401, "log in first")
                response = view(request)
            except Refusal as refusal:
                response = JsonResponse({"error": refusal.reason}, status=refusal.status)
                for name, value in refusal.headers.items():
                    response[name.replace("_", "-")] = value
            return _never_cached(response)

        # LoginRequiredMiddleware would send the page to a form instead of saying 401.
        answer.login_required = False  # type: ignore[attr-defined]
        # A transaction around the view could not see what is committed while it waits.
        for alias in connections:
            answer = transaction.non_atomic_requests(alias)(answer)
        return answer

    return decorate


@ensure_csrf_cookie
@json_view("GET")
def credentials(request: HttpRequest) -> HttpResponse:
    """A JID and the password that goes with it for a minute, of the user who is logged in.

    ``?attempt=1`` says that the server has refused one such password just before.
    """
    try:
        found = make_credentials(
            request.user,
            session=getattr(request, "session", None),
            attempt=_attempt(request),
        )
    except NotAllowed as error:
        raise Refusal(403, str(error)) from error
    namespace = request.resolver_match.namespace if request.resolver_match else None
    return JsonResponse(
        {
            "jid": found.jid,
            "password": found.password,
            "expires": found.expires,
            "authorizeUrl": reverse("pubsub:authorize", current_app=namespace),
            "csrfToken": get_token(request),
            "csrfHeader": conf.csrf_header,
        }
    )


@csrf_protect
@json_view("POST")
def authorize(request: HttpRequest) -> HttpResponse:
    """Let the user in to a private node, ``{"node": "/blog/Blog/5"}``, if its rule allows it.

    The answer comes when the server knows it: the page may subscribe then.
    """
    node = _node(request)
    try:
        with _turn():
            is_admitted = admit(request.user, node, within=PATIENCE)
    except RequestRefused as error:
        if error.condition != "item-not-found":
            raise _later(request, node, error) from error
        raise Refusal(404, "there is no such node yet") from error
    except PubSubError as error:
        raise _later(request, node, error) from error
    if not is_admitted:
        raise Refusal(403, "you may not read this node")
    return JsonResponse({})


def check_origin(request: HttpRequest) -> None:
    """Refuse what a page of another site has caused, a subdomain's included.

    :raises Refusal: where the browser says so (Fetch Metadata; RFC 6454 §7; RFC 9110 §10.1.3).
        Programs that are no browsers say nothing, and have no user's cookies either.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Refusal(403, "only pages of this site are answered here")
    for name in ("Origin", "Referer"):
        origin = request.headers.get(name)
        if origin is not None and not _is_own(request, origin):
            raise Refusal(403, "only pages of this site are answered here")


# Private


@contextmanager
def _turn() -> Iterator[None]:
    """Let so many wait for the server as the site can spare, or one where it is known to be away.

    That one finds out when it is back.

    :raises Refusal: for all others, at once.
    """
    turns = _turns if get_backend().trouble() is None else _lonely_turn
    if not turns.acquire(blocking=False):
        raise _busy()
    try:
        yield
    finally:
        turns.release()


_turns = threading.BoundedSemaphore(MOST_WAITING)
_lonely_turn = threading.BoundedSemaphore(1)


def _later(request: HttpRequest, node: str, error: PubSubError) -> Refusal:
    user: Any = request.user
    logger.warning("Could not let user %s in to %s: %s", user.pk, shortened(node), error)
    return _busy()


def _busy() -> Refusal:
    reason = "the XMPP server cannot be told; ask again"
    return Refusal(503, reason, Retry_After=str(RETRY_AFTER))


def _is_own(request: HttpRequest, origin: str) -> bool:
    """Whether an address is of the site that was asked, and not less safe; or trusted by it."""
    try:
        there = urlsplit(origin)
    except ValueError:
        return False
    schemes = ("https",) if request.is_secure() else ("http", "https")
    netloc = there.netloc.lower()
    if there.scheme in schemes and netloc == request.get_host().lower():
        return True
    # As Django's own check of CSRF does it: "https://*.example.org" means all below that domain.
    trusted = map(urlsplit, conf.trusted_origins)
    return any(
        there.scheme == origin.scheme and is_same_domain(netloc, origin.netloc.lstrip("*"))
        for origin in trusted
    )


def _never_cached(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store, private"
    patch_vary_headers(response, ["Cookie"])
    return response


def _attempt(request: HttpRequest) -> int:
    text = request.GET.get("attempt", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _node(request: HttpRequest) -> str:
    """The node that is asked for.

    :raises Refusal: where the body is no request for one.
    """
    length: Any = request.META.get("CONTENT_LENGTH") or "0"
    try:
        if int(length) > MAX_BODY or len(body := request.body) > MAX_BODY:
            raise Refusal(413, f"a request has {MAX_BODY:,} bytes at most")
        wanted = json.loads(body)
        return valid_node(wanted["node"])
    except RequestDataTooBig as error:
        raise Refusal(413, f"a request has {MAX_BODY:,} bytes at most") from error
    except InvalidNode as error:
        raise Refusal(400, str(error)) from error
    except (UnreadablePostError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise Refusal(400, 'this is no {"node": "the name of a node"}') from error
