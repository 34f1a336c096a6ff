"""Ends what a user has open at the XMPP server, and makes his tokens worthless."""

from __future__ import annotations

import time
from concurrent.futures import Future
from functools import partial
from typing import Any

from pubsub.backends import get_backend
from pubsub.credentials import session_id
from pubsub.errands import after_commit
from pubsub.identities import jid_of

#: By how many seconds the clocks of Django's machines may differ.
CLOCKS = 2.0


def end_sessions(user: Any, *, session: Any = None, using: str | None = None) -> Future[None]:
    """End all sessions of a user at the XMPP server.

    His pages come back by themselves as soon as the site gives them credentials again.  Inside a
    transaction this is done when it commits; a rollback cancels the Future.

    :param user: an instance of the user model, also one that was deleted and still has its key.
    :param session: the session of Django that has ended, such as ``request.session``: then only
        the tokens that were given in it are refused from now on.  By default all are that were
        given until now.
    :param using: alias of the database whose transaction to wait for; by default the default one.
    :returns: a Future, resolved when they have ended; it fails with a PubSubError.
    :raises TypeError: for AnonymousUser, and for what is no user.
    :raises BackendError: when the configured backend has no server.
    """
    jid, sid = jid_of(user), session_id(session)
    return end_sessions_of(jid, sid, using, for_good=not getattr(user, "is_active", True))


def end_sessions_of(
    jid: str, sid: str | None, using: str | None, *, for_good: bool = False
) -> Future[None]:
    """End all sessions of a bare JID; see :func:`end_sessions`.

    :param sid: of :func:`~pubsub.credentials.session_id`.
    :param for_good: whether he gets no new token.  Then one is worthless, too, that a machine has
        just given whose clock is fast.  Of others those are good that they come back with at once.
    """
    get_backend().require_server("end_sessions")
    return after_commit(partial(_end, jid, sid, CLOCKS if for_good else 0.0), using)


# Private


def _end(jid: str, sid: str | None, margin: float) -> Future[None]:
    return get_backend().end_sessions(jid, time.time() + margin, sid)
