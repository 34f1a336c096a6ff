"""Whoever tries to log in as somebody else, by a token or a password: he does not get in."""

import base64
import json
import secrets
import time

import jwt
import pytest

from pubsub.wire import guard
from tests.server.attacks.conftest import ADA, GUESTS, OUTSIDE, USERS, refusal, token
from tests.visitors import WebSocketStream, auth, bind

#: An address that is shut out of the publisher's host in the end, and no other.
GUESSER = "127.0.0.10"


@pytest.fixture
def answer_to(stack):
    """What a host says to somebody from outside who gives a name and a password."""

    def answer(name, password, domain=USERS, address=OUTSIDE):
        stream = WebSocketStream(stack.settings["PUBSUB_WEBSOCKET_URL"], domain, address)
        try:
            return stream.ask(auth(name, password))
        finally:
            stream.vanish()

    return answer


def unsigned(claims, **header):
    """A token without a signature, whatever its header says."""

    def encoded(part):
        return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")

    return f"{encoded({'typ': 'JWT', **header})}.{encoded(claims)}."


def for_another(wanted, name, password):
    """SASL PLAIN, with a name of somebody to act for."""
    secret = base64.b64encode(f"{wanted}\0{name}\0{password}".encode()).decode()
    return f'<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="PLAIN">{secret}</auth>'


def claims(user="77", **more):
    now = time.time()
    return {"sub": f"{user}@{USERS}", "iat": now, "exp": int(now) + 60, **more}


def test_a_token_of_django_lets_its_user_in_so_that_the_others_are_refused_for_what_they_are(
    answer_to, stack
):
    assert "<success" in answer_to("77", token(stack, "77"))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None])
def test_a_token_that_needs_no_signature_is_refused(answer_to, log, algorithm):
    assert "not-authorized" in answer_to("77", unsigned(claims(), alg=algorithm))
    log.says("Failed c2s PLAIN authentication for 77@users.localhost", OUTSIDE)


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "EdDSA"])
def test_a_token_without_its_signature_is_refused(answer_to, algorithm):
    assert "not-authorized" in answer_to("77", unsigned(claims(), alg=algorithm))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_token_signed_by_another_key_is_refused(answer_to, stack, log, algorithm):
    forged = token(stack, "77", key=secrets.token_urlsafe(64), algorithm=algorithm)
    assert "not-authorized" in answer_to("77", forged)
    log.says("Failed c2s PLAIN authentication for 77@users.localhost", OUTSIDE)


def test_a_token_that_brings_its_own_key_is_refused(answer_to):
    key = secrets.token_urlsafe(48)
    own = {"kty": "oct", "k": base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")}
    for header in ({"jwk": own}, {"kid": "../../../../dev/null"}, {"jku": "http://127.0.0.1/"}):
        forged = jwt.encode(claims(), key, algorithm="HS256", headers=header)
        assert "not-authorized" in answer_to("77", forged)


@pytest.mark.parametrize("ago", [1, 3600])
def test_an_expired_token_is_refused(answer_to, stack, log, ago):
    now = int(time.time())
    assert "not-authorized" in answer_to("77", token(stack, "77", iat=now - 60, exp=now - ago))
    log.says("Failed c2s PLAIN authentication for 77@users.localhost", OUTSIDE)


@pytest.mark.parametrize("exp", [None, 10**12, 1e300, "tomorrow", -1])
def test_a_token_without_an_end_is_refused(answer_to, stack, exp):
    assert "not-authorized" in answer_to("77", token(stack, "77", exp=exp))


@pytest.mark.parametrize(
    "sub",
    [
        *("78@users.localhost", "77@users.localhost.evil.example", "77@localhost"),
        *("77@guests.localhost", "django@localhost", "77", "", "@users.localhost", None),
        *("77@users.localhost/page", "77\0@users.localhost", "77@@users.localhost"),
    ],
)
def test_a_token_of_somebody_else_is_refused(answer_to, stack, sub):
    got = answer_to("77", token(stack, "77", sub=sub))
    # With a resource it is the same user's all the same.
    assert ("<success" if sub == "77@users.localhost/page" else "not-authorized") in got


@pytest.mark.parametrize("sub", [7, ["77@users.localhost"], {"a": 1}, True, 1.5])
def test_a_token_of_nobody_is_refused(answer_to, stack, sub):
    # PyJWT writes text only as `sub`.
    forged = unsigned(claims() | {"sub": sub}, alg="HS256").rstrip(".")
    key = jwt.get_algorithm_by_name("HS256")
    signature = key.sign(forged.encode(), stack.settings["PUBSUB_JWT_KEY"].encode())
    signed = f"{forged}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
    assert "not-authorized" in answer_to("77", signed)


def test_a_token_of_a_user_is_worth_nothing_on_the_publishers_host(answer_to, stack, log):
    for sub in ("django@localhost", f"django@{USERS}", ADA):
        got = answer_to("django", token(stack, "django", sub=sub), "localhost", GUESSER)
        assert "not-authorized" in got
    log.says("Failed c2s PLAIN authentication for django@localhost", GUESSER)


@pytest.mark.parametrize(
    "name", ["django@localhost", "django@localhost/x", "admin", "DJANGO", "root"]
)
def test_the_publishers_name_lets_nobody_in_on_the_users_host(answer_to, stack, name):
    password = stack.settings["XMPP_PASSWORD"]
    for secret in (password, token(stack, "77"), token(stack, "django", sub="django@localhost")):
        got = answer_to(name, secret)
        assert "not-authorized" in got or "malformed-request" in got


@pytest.mark.parametrize("wanted", ["django@localhost", f"78@{USERS}", "django", "78"])
def test_who_wants_to_act_for_somebody_else_is_refused_or_stays_a_guest(stack, wanted):
    """SASL PLAIN may name two: who it is, and for whom he wants to act (RFC 4616 §2)."""
    user = WebSocketStream(stack.settings["PUBSUB_WEBSOCKET_URL"], USERS, OUTSIDE)
    assert "not-authorized" in user.ask(for_another(wanted, "77", token(stack, "77")))
    user.vanish()
    guest = WebSocketStream(stack.settings["PUBSUB_WEBSOCKET_URL"], GUESTS, OUTSIDE)
    assert "<success" in guest.ask(for_another(wanted, "guest", "any password"))
    guest.restart()
    assert f"@{GUESTS}/page</jid>" in guest.ask(bind())
    guest.vanish()


@pytest.mark.parametrize(
    "mechanism", ["ANONYMOUS", "EXTERNAL", "X-OAUTH2", "DIGEST-MD5", "SCRAM-SHA-1"]
)
@pytest.mark.parametrize("domain", ["localhost", USERS])
def test_no_other_way_to_log_in_takes_the_place_of_a_password(stack, domain, mechanism):
    stream = WebSocketStream(stack.settings["PUBSUB_WEBSOCKET_URL"], domain, "127.0.0.11")
    got = stream.ask(
        f'<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="{mechanism}">'
        f"{base64.b64encode(b'n,,n=django,r=abc').decode()}</auth>"
    )
    stream.vanish()
    assert "<success" not in got
    assert "<failure" in got or "<challenge" in got


def test_a_token_is_refused_after_the_logout_that_ended_its_sessions(
    visit, site, stack, log, answer_to
):
    user = str(secrets.randbelow(10**9) + 1000)
    stolen = token(stack, user, sid="a" * 32)
    page = visit("user", user, stolen)
    site.ask(guard.end_sessions(USERS, user, time.time(), "a" * 32))
    assert "policy-violation" in page.hear()
    assert "not-authorized" in answer_to(user, stolen)
    assert "not-authorized" in answer_to(user, token(stack, user, sid="a" * 32))
    assert "<success" in answer_to(user, token(stack, user, sid="b" * 32))
    log.says("Refused: a token of", user)


def test_a_token_is_refused_that_is_older_than_the_end_of_all_sessions(site, stack, answer_to):
    user = str(secrets.randbelow(10**9) + 1000)
    old = token(stack, user)
    site.ask(guard.end_sessions(USERS, user, time.time()))
    assert "not-authorized" in answer_to(user, old)
    assert "<success" in answer_to(user, token(stack, user))


def test_nobody_but_the_publisher_ends_sessions(attacker, bystander, log):
    for to in (USERS, GUESTS):
        for content in (
            f'<end xmlns="{guard.NS_GUARD}" user="77" before="{time.time()}"/>',
            f'<status xmlns="{guard.NS_GUARD}"/>',
        ):
            for type in ("set", "get"):
                assert attacker.iq(type, content, to).get("type") == "error"
    log.says("Refused", attacker.jid, guard.NS_GUARD)


@pytest.mark.parametrize("kind", ["guest", "user"])
def test_the_publishers_name_gives_no_rights_on_another_host(visit, kind, site):
    """Of a user it takes a token that Django would never sign."""
    attacker = visit(kind, "django")
    item = '<item id="1"><entry xmlns="urn:x">forged</entry></item>'
    for content in ('<create node="/forged"/>', f'<publish node="{site.node}">{item}</publish>'):
        assert refusal(attacker.pubsub("set", content)) == "forbidden"
    end = f'<end xmlns="{guard.NS_GUARD}" user="77" before="1"/>'
    assert refusal(attacker.iq("set", end, USERS)) == "forbidden"
