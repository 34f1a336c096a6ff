"""pubsub/credentials.py: tokens, and the keys that they are signed with."""

import functools
import logging
import time
import traceback
from types import SimpleNamespace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends import cache, db, signed_cookies
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.views.debug import ExceptionReporter

from pubsub.credentials import (
    ALGORITHMS,
    make_credentials,
    new_key,
    session_id,
    signing_key,
)
from pubsub.exceptions import NotAllowed

SECRET = "a secret of the site, which has 32 bytes or more"
ADA = User(pk=5, username="ada")


pytestmark = pytest.mark.django_db(databases=["default", "other"])

key_of = functools.cache(new_key)


@pytest.fixture(autouse=True)
def key(settings):
    settings.PUBSUB_JWT_KEY = SECRET


@pytest.fixture(autouse=True)
def row():
    ADA.save(using="default")


def claims_of(password, secret=SECRET):
    return jwt.decode(password, secret, algorithms=["HS256"], options={"verify_exp": False})


def private(key, encryption=None):
    encryption = encryption or NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def test_a_token_names_the_jid_and_ends_after_a_minute():
    before = time.time()
    found = make_credentials(ADA)
    claims = claims_of(found.password)
    assert found.jid == claims["sub"] == "5@users.localhost"
    assert before <= claims["iat"] <= time.time()
    assert found.expires == claims["exp"] == int(claims["iat"] + 60)
    assert sorted(claims) == ["exp", "iat", "jti", "sub"]


def test_the_site_says_how_long_a_token_is_good(settings):
    settings.PUBSUB_TOKEN_LIFETIME = 300
    claims = claims_of(make_credentials(ADA).password)
    assert claims["exp"] == int(claims["iat"] + 300)


def test_no_two_tokens_are_alike():
    assert make_credentials(ADA).password != make_credentials(ADA).password


@pytest.mark.parametrize("user", [AnonymousUser(), User(pk=5, is_active=False), None])
def test_who_is_not_logged_in_or_not_active_gets_none(user):
    with pytest.raises(NotAllowed):
        make_credentials(user)


def test_who_has_been_deactivated_or_deleted_since_he_was_read_gets_none():
    User.objects.update(is_active=False)
    with pytest.raises(NotAllowed, match="not active"):
        make_credentials(ADA)
    User.objects.all().delete()
    with pytest.raises(NotAllowed, match="not active"):
        make_credentials(ADA)


class Replica:
    """Reads where an old state of the site is."""

    def db_for_read(self, model, **hints):
        return "other"

    def db_for_write(self, model, **hints):
        return "default"


def test_a_replica_that_is_late_lets_nobody_in(settings):
    User.objects.using("other").create(pk=5, username="ada")
    User.objects.using("default").update(is_active=False)
    settings.DATABASE_ROUTERS = [Replica()]
    with pytest.raises(NotAllowed, match="not active"):
        make_credentials(User.objects.get())


def test_a_token_is_older_than_what_is_known_of_the_user():
    times = []

    def note(execute, *args):
        times.append(time.time())
        return execute(*args)

    with connection.execute_wrapper(note):
        found = make_credentials(ADA)
    assert claims_of(found.password)["iat"] <= times[0]


@pytest.mark.parametrize("attempt", [0, 1])
def test_no_report_of_an_error_shows_a_key(settings, attempt):
    keys = [SECRET, SECRET * 2]
    keys[attempt] = "short"
    settings.PUBSUB_JWT_KEY, *settings.PUBSUB_JWT_KEY_FALLBACKS = keys
    with pytest.raises(ImproperlyConfigured) as raised:
        make_credentials(ADA, attempt=attempt)
    report = ExceptionReporter(None, raised.type, raised.value, raised.tb.tb_next)
    assert "make_credentials" in report.get_traceback_text()
    assert SECRET not in report.get_traceback_html()


def test_without_a_key_the_error_says_how_to_make_one(settings):
    del settings.PUBSUB_JWT_KEY
    with pytest.raises(ImproperlyConfigured, match=r"PUBSUB_JWT_KEY is not set.*pubsub_key --new"):
        make_credentials(ADA)


def test_refused_attempts_go_through_the_keys_in_turn(settings):
    old = "the secret before that one, as long as the other"
    settings.PUBSUB_JWT_KEY_FALLBACKS = [old]
    for attempt, secret in enumerate([SECRET, old, SECRET, old]):
        assert claims_of(make_credentials(ADA, attempt=attempt).password, secret)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_is_verified_with_the_jwk_alone(settings, algorithm):
    settings.PUBSUB_JWT_KEY = key_of(algorithm)
    verifier = jwt.PyJWK(signing_key(key_of(algorithm)).jwk())
    token = make_credentials(ADA).password
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "JWT"}
    assert jwt.decode(token, verifier, algorithms=[algorithm])["sub"] == "5@users.localhost"


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_a_jwk_holds_the_public_half_only(algorithm):
    assert "d" not in signing_key(key_of(algorithm)).jwk()


def test_a_key_of_bytes_is_one(settings):
    settings.PUBSUB_JWT_KEY = SECRET.encode()
    assert claims_of(make_credentials(ADA).password)


def ed25519():
    return load_pem_private_key(key_of("EdDSA").encode(), None)


def public(key):
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("short", "32 bytes or more, and this one 5"),
        ('{"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ"}', "JWK"),
        (f"ssh-rsa {'A' * 40}", "asymmetric"),
        ("-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----", "no private key"),
        (lambda: private(ec.generate_private_key(ec.SECP256R1())), "RSA or Ed25519"),
        (lambda: private(rsa.generate_private_key(65537, 1024)), "2048 bits or more, .* one 1024"),
        (lambda: private(ed25519(), BestAvailableEncryption(b"p")), "without a password"),
        (lambda: public(ed25519().public_key()), "no private key"),
    ],
    ids=["short", "jwk", "ssh", "nonsense", "curve", "small", "locked", "public"],
)
def test_what_is_no_usable_key_is_refused_with_the_reason_and_never_quoted(text, reason):
    text = text if isinstance(text, str) else text()
    with pytest.raises(ImproperlyConfigured, match=f"PUBSUB_JWT_KEY is no usable .*{reason}") as e:
        signing_key(text)
    told = "".join(traceback.format_exception(e.value))
    assert not any(line in told for line in text.splitlines() if "-----" not in line)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_neither_keys_nor_passwords_are_shown(settings, algorithm, caplog):
    settings.PUBSUB_JWT_KEY = key_of(algorithm)
    with caplog.at_level(logging.DEBUG):
        found = make_credentials(ADA)
    assert found.password not in repr(found)
    assert "_private" not in repr(signing_key(key_of(algorithm)))
    assert found.password not in caplog.text


def test_a_session_is_known_by_a_hash_of_its_key():
    session = SimpleNamespace(session_key="the key in the cookie")
    sid = session_id(session)
    assert claims_of(make_credentials(ADA, session=session).password)["sid"] == sid
    assert len(bytes.fromhex(sid)) == 16
    assert session_id(SimpleNamespace(session_key="another")) != sid


def test_another_secret_of_the_site_makes_another_hash(settings):
    session = SimpleNamespace(session_key="the key in the cookie")
    sid = session_id(session)
    settings.SECRET_KEY = "another"
    assert session_id(session) != sid


@pytest.mark.parametrize("session", [None, db.SessionStore(), cache.SessionStore()])
def test_without_a_key_a_session_is_not_named(session):
    assert session_id(session) is None
    assert "sid" not in claims_of(make_credentials(ADA, session=session).password)


def test_sessions_in_cookies_have_no_name_that_stays():
    session = signed_cookies.SessionStore()
    session["a"] = 1
    assert session_id(session) is None


def test_cached_sessions_have_one():
    session = cache.SessionStore()
    session.create()
    assert session_id(session) == session_id(cache.SessionStore(session.session_key))
