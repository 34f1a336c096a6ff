"""What surrounds a call: whether publishing is muted, and whom and when the request comes from.

All are context variables: a thread or an asyncio task has its own, and what is called from it,
through ``sync_to_async`` too, inherits them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

_muted: ContextVar[bool] = ContextVar("pubsub_muted", default=False)
_origin: ContextVar[str] = ContextVar("pubsub_origin", default="")
_began: ContextVar[datetime | None] = ContextVar("pubsub_began", default=None)

_SCOPE_KEY = "pubsub.began"


@contextmanager
def muted() -> Iterator[None]:
    """Silence automatic publishing: of saves, deletes, relations and bulk operations.

    What is published by hand is published all the same.  Other threads and tasks are not
    concerned.
    """
    token = _muted.set(True)
    try:
        yield
    finally:
        _muted.reset(token)


def is_muted() -> bool:
    """Whether automatic publishing is silenced here."""
    return _muted.get()


@contextmanager
def originating(origin: str) -> Iterator[None]:
    """Mark what is published: it was caused by this one.

    :param origin: as :func:`origin_of` gives it; empty where nobody is known.
    """
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def current_origin() -> str:
    """Who causes what is published here; empty where nobody is known."""
    return _origin.get()


def origin_of(client_id: str) -> str:
    """The public form of a client's id.

    Every subscriber sees it.  The id itself is the client's secret: with somebody else's, a
    visitor could hide what he publishes from the screen of whom it belongs to.

    :param client_id: what the page sends in ``X-PubSub-Client``.
    :returns: 22 characters of base64url (RFC 4648 §5): 132 bits of its SHA-256.
    """
    digest = hashlib.sha256(client_id.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest)[:22].decode()


def request_began(scope: dict[str, Any] | None = None, **_: Any) -> None:
    """Remember this moment, for :func:`page_began` (a receiver of Django's ``request_started``).

    :param scope: of ASGI.  There Django calls us in a context of our own, so it is the scope, which
        the request brings along, that remembers.
    """
    moment = datetime.now(timezone.utc)
    _began.set(moment)
    if scope is not None:
        scope[_SCOPE_KEY] = moment


def request_ended(**_: Any) -> None:
    """Forget it (a receiver of ``request_finished``)."""
    _began.set(None)


def page_began(request: object = None) -> datetime:
    """A time before the page that is rendered has read anything: what was committed then it shows.

    :param request: for which the page is rendered, where that is known; ASGI needs it.
    :returns: when the request came, in UTC; now, outside of requests.
    """
    scope = getattr(request, "scope", {})
    return scope.get(_SCOPE_KEY) or _began.get() or datetime.now(timezone.utc)
