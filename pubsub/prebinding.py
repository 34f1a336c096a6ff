"""Logs in for a page: opens a BOSH session here, with which the page goes on (XEP-0124 §14).

The page then needs neither a password nor the round trips of a login::

    jid, sid, rid = pubsub.prebind(request.user)
    …
    new PubSubClient({jid, sid, rid})
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.db import connections
from django.views.decorators.debug import sensitive_variables

from pubsub.conf import conf
from pubsub.credentials import make_credentials
from pubsub.exceptions import AuthenticationError
from pubsub.wire.bosh import BoshSession, open_bosh


class Prebound(NamedTuple):
    """A session that waits for a page.

    :ivar jid: the full JID.
    :ivar sid: the session's id; whoever has it and the next number has the session.
    :ivar rid: the number of the next request.
    """

    jid: str
    sid: str
    rid: int


def prebind(user: Any = None) -> Prebound:
    """Open a BOSH session for a page, which attaches to it; waits for the server.

    A page that does not, within the server's ``max_inactivity`` (30 seconds in ejabberd), finds it
    ended; it ends by itself.  Let nobody cache the page.

    :param user: who is logged in; None or AnonymousUser: a guest, under a name of his own.
    :raises NotAllowed: for a user who is not active.
    :raises ImproperlyConfigured: when there is no usable PUBSUB_JWT_KEY for a user.
    :raises ConnectError, TLSError, StreamLost: when PUBSUB_PREBIND_URL does not lead to BOSH within
        XMPP_TIMEOUT.
    :raises AuthenticationError: when the server refuses the login.
    """
    if user is None or getattr(user, "is_anonymous", False):
        session = _open(f"guest-{secrets.token_hex(8)}@{conf.guest_domain}", secrets.token_hex(16))
    else:
        session = _open_for(user)
    session.leave()
    return Prebound(session.jid, session.sid, session.rid)


async def aprebind(user: Any = None) -> Prebound:
    """Open a session as :func:`prebind` does, in a thread."""
    # Of its own: whatever else needs the thread of synchronous code must not wait for the server.
    return await sync_to_async(_prebind_with_clean_hands, thread_sensitive=False)(user)


# Private


def _prebind_with_clean_hands(user: Any) -> Prebound:
    """Leave no connection to a database behind in a thread that belongs to no request."""
    try:
        return prebind(user)
    finally:
        connections.close_all()


def _open_for(user: Any) -> BoshSession:
    """Log in as a user, with the key before if the server has not got the present one yet."""
    for attempt in range(len(conf.jwt_keys) - 1):
        try:
            return _open_with(user, attempt)
        except AuthenticationError:
            continue
    return _open_with(user, max(len(conf.jwt_keys) - 1, 0))


def _open_with(user: Any, attempt: int) -> BoshSession:
    found = make_credentials(user, attempt=attempt)
    return _open(found.jid, found.password)


# What is called from here is hidden in reports of errors, too.
@sensitive_variables()
def _open(jid: str, password: str) -> BoshSession:
    username, _, domain = jid.rpartition("@")
    return open_bosh(
        conf.prebind_url,
        domain,
        username,
        password,
        resource=f"page-{secrets.token_hex(4)}",
        ca_file=conf.ca_file,
        timeout=conf.timeout,
    )
