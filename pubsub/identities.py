"""Under which JIDs the server knows the site's users: made from the primary key, and back again.

No username is in them, so nobody can choose a name that the server takes for somebody else.
"""

from __future__ import annotations

import re
from base64 import b32hexdecode, b32hexencode
from typing import Any

from django.contrib.auth import get_user_model

from pubsub.conf import conf
from pubsub.instances import key_of
from pubsub.payloads import shortened

#: Keys that are written as they are: whatever the server folds (RFC 7622 §3.3), they stay.
_PLAIN = re.compile(r"[0-9a-z][0-9a-z-]{0,199}")

_ENCODED = re.compile(r"_([0-9a-v]+)")

#: Characters that the local part of a JID may have here; XMPP allows 1,023 bytes.
MAX_LOCAL_PART = 500


def jid_of(user: Any) -> str:
    """The bare JID of a user of the site (RFC 7622 §3.1).

    :param user: an instance of the user model that is or was in the database.
    :raises TypeError: for AnonymousUser, and for what is no user.
    :raises ValueError: for a user without a primary key, or with one too long.
    """
    return f"{local_part(key_of_user(user))}@{conf.user_domain}"


def key_of_user(user: Any) -> str:
    """The primary key of a user as text.

    :raises TypeError, ValueError: see :func:`jid_of`.
    """
    if getattr(user, "is_anonymous", False):
        raise TypeError("an anonymous user has no JID; guests log in under names of their own")
    model = get_user_model()
    if not isinstance(user, model):  # one of a proxy or a child is a user, too
        expected = f"an instance of the user model {model._meta.label}"
        raise TypeError(f"only a user has a JID, {expected}, not {user!r}")
    if user.pk is None:
        raise ValueError(
            f"this {model._meta.label} has no primary key, and so no JID: save it first"
        )
    return key_of(model, user.pk)


def local_part(key: str) -> str:
    """What stands before the @: the key itself, or an encoding of it; no two keys share one.

    :param key: a primary key as text.
    :raises ValueError: for a key whose JID would be too long.
    """
    if _PLAIN.fullmatch(key):
        return key
    local = "_" + b32hexencode(key.encode("utf-8", "surrogatepass")).decode().rstrip("=").lower()
    if len(local) > MAX_LOCAL_PART:
        raise ValueError(
            f"the primary key {shortened(key)} is too long for a JID, which has room for "
            f"{MAX_LOCAL_PART} characters"
        )
    return local


def key_in(jid: str) -> str | None:
    """The primary key in a JID, as text; None where it is none of a user of the site.

    An account that was registered by hand is none if the user model could have no such key.

    :param jid: a bare or a full one.
    """
    bare = bare_jid(jid)
    local, at, domain = bare.rpartition("@")
    if not at or domain != conf.user_domain.lower():
        return None
    if _PLAIN.fullmatch(local):
        return local if _is_key(local) else None
    found = _ENCODED.fullmatch(local)
    if found is None:
        return None
    encoded = found[1].upper()
    try:
        key = b32hexdecode(encoded + "=" * (-len(encoded) % 8)).decode("utf-8", "surrogatepass")
    except ValueError:
        return None
    return key if local_part(key) == local and _is_key(key) else None


def bare_jid(jid: str) -> str:
    """A JID without its resource, as servers compare it."""
    return jid.partition("/")[0].lower()


# Private


def _is_key(key: str) -> bool:
    """Whether a user can have this key, so written."""
    model = get_user_model()
    field: Any = model._meta.pk
    try:
        field.to_python(key)
    except Exception:  # noqa: BLE001 (the field of somebody else; he says that it is none)
        return False
    return key_of(model, key) == key
