"""What surrounds a call: whether automatic publishing is muted, and whom the request comes from.

Both are context variables: a thread or an asyncio task has its own, and what is called from it,
through ``sync_to_async`` too, inherits them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_muted: ContextVar[bool] = ContextVar("pubsub_muted", default=False)
_origin: ContextVar[str] = ContextVar("pubsub_origin", default="")


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
