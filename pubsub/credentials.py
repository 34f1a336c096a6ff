"""How users of the site log in at the XMPP server: a token that Django signs is the password.

The token is a JWT (RFC 7519) that names the JID and is good for a minute.  ejabberd has the key, or
its public half, as a JWK (RFC 7517), and knows no passwords of users.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import jwt
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookies
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables
from jwt.algorithms import Algorithm, get_default_algorithms, has_crypto

from pubsub.conf import conf
from pubsub.exceptions import NotAllowed
from pubsub.identities import jid_of

if has_crypto:
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

#: Bytes that a secret must have at least, for HS256 (RFC 7518 §3.2).
MIN_SECRET = 32

#: Bits that an RSA key must have at least, for RS256 (RFC 7518 §3.3).
MIN_RSA = 2048

#: What a key can be made for.
ALGORITHMS = ("HS256", "RS256", "EdDSA")

MAKE_ONE = "`manage.py pubsub_key --new HS256` makes one"


class Credentials(NamedTuple):
    """What a page logs in with.

    :ivar jid: the bare JID.
    :ivar password: the token, for SASL PLAIN (RFC 4616).
    :ivar expires: when it ends to be good, in seconds since 1970.
    """

    jid: str
    password: str
    expires: int

    def __repr__(self) -> str:
        return f"Credentials(jid={self.jid!r}, expires={self.expires})"


@dataclass(frozen=True)
class SigningKey:
    """A key that signs tokens.

    :ivar algorithm: of JWS (RFC 7518 §3.1, RFC 8037 §3.1): HS256, RS256 or EdDSA.
    """

    algorithm: str
    _private: Any = field(repr=False)
    _shared: Any = field(repr=False)

    def sign(self, claims: dict[str, Any]) -> str:
        """A token with these claims (RFC 7519 §4)."""
        return jwt.encode(claims, self._private, algorithm=self.algorithm)

    def jwk(self) -> dict[str, Any]:
        """The key as the server needs it, to verify (RFC 7517 §4): secret if it is one of HS256."""
        written = _algorithm(self.algorithm).to_jwk(self._shared, as_dict=True)
        # Of RSA and Ed25519 it says what can be done with it, which is no news.
        return {**{k: v for k, v in written.items() if k != "key_ops"}, "alg": self.algorithm}


@sensitive_variables()
def make_credentials(user: Any, *, session: Any = None, attempt: int = 0) -> Credentials:
    """New credentials of a user, who is read again: he may have been deactivated meanwhile.

    :param session: the session of Django that they are given in, and end with.
    :param attempt: how often the server has refused others just before: then it may not have got
        the present key yet, and one before it is tried.
    :raises NotAllowed: for a user that is anonymous, not active, or gone.
    :raises ImproperlyConfigured: when PUBSUB_JWT_KEY is missing or no usable key.
    """
    if getattr(user, "is_anonymous", True):
        raise NotAllowed("log in first")
    jid = jid_of(user)
    # Before anything is read: what ends his sessions after that comes later than this token.
    issued = time.time()
    if not (user.is_active and _is_active_now(user)):
        raise NotAllowed("this account is not active")
    keys = conf.jwt_keys
    if not keys:
        raise ImproperlyConfigured(f"PUBSUB_JWT_KEY is not set: {MAKE_ONE}")
    number = attempt % len(keys)
    key = signing_key(keys[number], "PUBSUB_JWT_KEY_FALLBACKS" if number else "PUBSUB_JWT_KEY")
    expires = int(issued + conf.token_lifetime)
    claims: dict[str, Any] = {
        "sub": jid,
        "iat": issued,
        "exp": expires,
        "jti": secrets.token_hex(16),
    }
    sid = session_id(session)
    if sid is not None:
        claims["sid"] = sid
    return Credentials(jid, key.sign(claims), expires)


def session_id(session: Any) -> str | None:
    """By what the server knows a session of Django: 32 hexadecimal digits that give nothing away.

    :param session: ``request.session``; None where there is none.
    :returns: None of a session that has no key, or one that is not the same each time it is looked
        at, as that of signed cookies.
    """
    if session is None or isinstance(session, SignedCookies):
        return None
    key = session.session_key
    if not key:
        return None
    return salted_hmac("pubsub.session", key, algorithm="sha256").hexdigest()[:32]


@sensitive_variables()
def signing_key(text: str, setting: str = "PUBSUB_JWT_KEY") -> SigningKey:
    """The key that a text is: a PEM private key, or else a secret.

    :param setting: which it comes from, for error messages.
    :raises ImproperlyConfigured: when it cannot be used; the message does not quote it.
    """
    try:
        return _read(text)
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        reason = error
    raise ImproperlyConfigured(f"{setting} is no usable key: {reason}")


@sensitive_variables()
def new_key(algorithm: str) -> str:
    """A new key for the settings, as text.

    :param algorithm: ``HS256`` makes a secret; ``RS256`` and ``EdDSA`` a private key in PEM
        (RFC 7468), for which the package ``cryptography`` is needed.
    :raises ImproperlyConfigured: when it is missing.
    """
    if algorithm == "HS256":
        return secrets.token_urlsafe(48)
    if not has_crypto:
        raise ImproperlyConfigured(_needs_cryptography(algorithm))
    private = (
        rsa.generate_private_key(public_exponent=65537, key_size=3072)
        if algorithm == "RS256"
        else ed25519.Ed25519PrivateKey.generate()
    )
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


# Private


def _is_active_now(user: Any) -> bool:
    model = get_user_model()
    # A replica may not know it yet.
    users = model._default_manager.using(router.db_for_write(model))
    found = users.filter(pk=user.pk).first()
    return found is not None and bool(found.is_active)


def _needs_cryptography(algorithm: str) -> str:
    return (
        f"{algorithm} needs the package cryptography: pip install 'django-pubsub[crypto]', or take "
        "a secret, for HS256"
    )


def _algorithm(name: str) -> Algorithm:
    return get_default_algorithms()[name]


@lru_cache(16)
@sensitive_variables()
def _read(text: str) -> SigningKey:
    if "-----BEGIN" in text:
        return _read_pem(text)
    size = len(text.encode())
    if size < MIN_SECRET:
        raise ValueError(
            f"a secret has {MIN_SECRET} bytes or more, and this one {size}; {MAKE_ONE}"
        )
    secret = _algorithm("HS256").prepare_key(text)
    return SigningKey("HS256", secret, secret)


@sensitive_variables()
def _read_pem(text: str) -> SigningKey:
    if not has_crypto:
        raise ValueError(_needs_cryptography("a PEM key"))
    try:
        private = load_pem_private_key(text.strip().encode(), password=None)
    except Exception:  # noqa: BLE001 (cryptography raises many kinds, and may quote the text)
        raise ValueError(
            "it is no private key in PEM without a password; `manage.py pubsub_key --new EdDSA` "
            "makes one"
        ) from None
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return SigningKey("EdDSA", private, private.public_key())
    if not isinstance(private, rsa.RSAPrivateKey):
        raise ValueError("a private key is one of RSA or Ed25519, and this is another kind")  # noqa: TRY004
    if private.key_size < MIN_RSA:
        raise ValueError(f"an RSA key has {MIN_RSA} bits or more, and this one {private.key_size}")
    return SigningKey("RS256", private, private.public_key())
