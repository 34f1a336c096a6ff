"""deploy/ejabberd/mod_pubsub_guard.erl, asked by visitors and by the publisher, in ejabberd."""

import base64
import json
import os
import secrets
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.exceptions import ConnectionClosed

from pubsub import nodes
from pubsub.backends import get_backend
from pubsub.devstack import Stack, files
from pubsub.devstack.erlang import erlang_libraries
from pubsub.exceptions import RequestRefused
from tests.visitors import BoshVisitor, WebSocketStream, auth, bind, subscribe
from tests.waiting import until

SERVICE, GUESTS, USERS = "pubsub.localhost", "guests.localhost", "users.localhost"
ACCOUNTS = {
    user: f"{user}'s password"
    for user in ("alice@users.localhost", "bob@users.localhost", "eve@localhost")
}

#: The stack's own address, 127.0.0.1, is not counted.
VISITOR, CROWD, GUESSER = "127.0.0.2", "127.0.0.3", "127.0.0.4"

GUARD = "urn:django-pubsub:guard:1"
PUBSUB = "http://jabber.org/protocol/pubsub"
ERRORS = f"{{{PUBSUB}#errors}}"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
PING = '<ping xmlns="urn:xmpp:ping"/>'
INFO, ITEMS = (
    f'<query xmlns="http://jabber.org/protocol/disco#{what}"/>' for what in ("info", "items")
)
STATUS = f'<status xmlns="{GUARD}"/>'


class Guarded(Stack):
    """A stack with two more hosts, for tokens of other kinds, and what its ejabberd says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder, accounts=ACCOUNTS, on_line=lambda _name, line: self.log.append(line)
        )
        self.log: list[str] = []
        self.keys = {
            "rs256.localhost": ("RS256", generate_private_key(65537, 2048)),
            "eddsa.localhost": ("EdDSA", Ed25519PrivateKey.generate()),
        }

    def prepare(self) -> None:
        super().prepare()
        self.keys[USERS] = ("HS256", self.settings["PUBSUB_JWT_KEY"])
        path = self.folder / "ejabberd.yml"
        config = json.loads(path.read_text(encoding="utf-8"))
        (included,) = config["include_config_file"].values()
        included["disallow"].append("hosts")
        config["hosts"] = ["localhost", GUESTS, *self.keys]
        config["host_config"] = {}
        for domain, (algorithm, key) in self.keys.items():
            if domain != USERS:
                jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key())
                files.write_private(self.folder / domain, jwk)
                config["host_config"][domain] = {
                    "auth_method": ["jwt"],
                    "jwt_key": domain,
                    "jwt_jid_field": "sub",
                }
        files.write_private(path, json.dumps(config))

    def stream(self, domain: str, address: str = VISITOR) -> WebSocketStream:
        return WebSocketStream(self.settings["PUBSUB_WEBSOCKET_URL"], domain, address)

    def token(self, user: str, domain: str = USERS, **claims: Any) -> str:
        algorithm, key = self.keys[domain]
        now = time.time()
        claims = {"sub": f"{user}@{domain}", "iat": now, "exp": int(now) + 60} | claims
        return jwt.encode(claims, key, algorithm)

    def lets_in(self, user: str, token: str, domain: str = USERS) -> bool:
        """Whether a token is accepted."""
        stream = self.stream(domain)
        answer = stream.ask(auth(user, token))
        stream.vanish()
        assert ("<success" in answer) != ("not-authorized" in answer), answer
        return "<success" in answer

    def says(self, *words: str) -> None:
        """Wait until one line of the log has all these words."""
        until(lambda: any(all(w in line for w in words) for line in list(self.log)), str(words))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with Guarded(tmp_path_factory.mktemp("guarded")) as stack:
        yield stack


@pytest.fixture
def streams() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def guest(guarded: Guarded, streams: ExitStack) -> Callable[..., WebSocketStream]:
    """A function that lets a guest in, of that name if it is given."""

    def enter(name: str = "", address: str = VISITOR) -> WebSocketStream:
        stream = guarded.stream(GUESTS, address)
        streams.callback(stream.vanish)
        stream.name = name or secrets.token_hex(8)
        stream.log_in(stream.name)
        stream.jid = f"{stream.name}@{GUESTS}/page"
        return stream

    return enter


@pytest.fixture
def user(guarded: Guarded, streams: ExitStack) -> Callable[..., WebSocketStream]:
    """A function that lets a user in by a token with these claims."""

    def enter(name: str, resource: str = "page", **claims: Any) -> WebSocketStream:
        stream = guarded.stream(USERS)
        streams.callback(stream.vanish)
        stream.log_in(name, guarded.token(name, **claims), resource)
        stream.jid = f"{name}@{USERS}/{resource}"
        return stream

    return enter


@pytest.fixture
def publisher(guarded: Guarded, streams: ExitStack) -> WebSocketStream:
    stream = guarded.stream("localhost", "127.0.0.1")
    streams.callback(stream.vanish)
    stream.log_in("django", guarded.settings["XMPP_PASSWORD"])
    return stream


@pytest.fixture(scope="module")
def crash(guarded: Guarded) -> str:
    """ejabberd was killed while a guest was there, and right after the end of a session.

    :returns: the token of that session.
    """
    publisher = guarded.stream("localhost", "127.0.0.1")
    publisher.log_in("django", guarded.settings["XMPP_PASSWORD"], "crash")
    # The guest's subscription stays mod_pubsub's, on the disc.
    create(publisher, "/guard/crash", presence_based_delivery="1")
    guest = guarded.stream(GUESTS)
    guest.log_in("crash")
    guest.request(subscribe(SERVICE, "/guard/crash", f"crash@{GUESTS}/page"))
    user = guarded.stream(USERS)
    user.log_in("16", guarded.token("16"))
    user.request(subscribe(SERVICE, "/guard/crash", f"16@{USERS}"))
    both = [f"16@{USERS}", f"crash@{GUESTS}/page"]
    assert sorted(subscribers(publisher, "/guard/crash")) == both
    token = guarded.token("15", sid="s")
    assert publisher.request(end("15", session="s")).get("type") == "result"
    guarded.ejabberd.kill()
    for stream in (publisher, guest, user):
        stream.vanish()
    guarded.ejabberd.start()
    return token


def iq(type: str, to: str, body: str, id: str = "i") -> str:
    return f'<iq xmlns="jabber:client" type="{type}" to="{to}" id="{id}">{body}</iq>'


def pubsub(body: str) -> str:
    return f'<pubsub xmlns="{PUBSUB}">{body}</pubsub>'


def end(name: str, before: float | None = None, session: str = "") -> str:
    sid = f'session="{session}"' if session else ""
    before = time.time() if before is None else before
    return iq("set", USERS, f'<end xmlns="{GUARD}" user="{name}" before="{before}" {sid}/>')


def create(publisher: WebSocketStream, *names: str, **fields: str) -> None:
    form = "".join(
        f'<field var="pubsub#{field}"><value>{value}</value></field>'
        for field, value in {"access_model": "open", **fields}.items()
    )
    for name in names:
        publisher.ask(
            iq(
                "set",
                SERVICE,
                pubsub(
                    f'<create node="{name}"/><configure><x xmlns="jabber:x:data" type="submit">'
                    f'<field var="FORM_TYPE"><value>{PUBSUB}#node_config</value></field>'
                    f"{form}</x></configure>"
                ),
            )
        )


def condition(stanza: ET.Element) -> str:
    """The defined condition of an error; empty if it is none."""
    error = stanza.find("{jabber:client}error")
    found = [] if error is None else [child.tag for child in error if STANZAS in child.tag]
    return found[0].removeprefix(STANZAS) if found else ""


def is_quiet(stream: WebSocketStream) -> bool:
    """Whether nothing has been said to a visitor that he has not heard yet."""
    domain = stream.jid.partition("@")[2].partition("/")[0]
    return ET.fromstring(stream.ask(iq("get", domain, PING, "quiet"))).get("id") == "quiet"


def subscribers(publisher: WebSocketStream, node: str) -> list[str]:
    owner = f"{PUBSUB}#owner"
    question = f'<pubsub xmlns="{owner}"><subscriptions node="{node}"/></pubsub>'
    answer = publisher.request(iq("get", SERVICE, question))
    return sorted(entry.get("jid") for entry in answer.iter(f"{{{owner}}}subscription"))


# What a browser may send


@pytest.mark.parametrize(
    "stanza",
    [
        iq("get", GUESTS, PING),
        iq("get", GUESTS, INFO),
        iq("get", SERVICE, INFO),
        iq("get", SERVICE, pubsub("<subscriptions/>")),
        iq("set", GUESTS, '<session xmlns="urn:ietf:params:xml:ns:xmpp-session"/>'),
    ],
)
def test_what_pages_ask_is_answered(guest: Callable, stanza: str) -> None:
    assert guest().request(stanza).get("type") == "result"


@pytest.mark.parametrize(
    "stanza",
    [
        '<message xmlns="jabber:client" to="{to}"><body>Hello</body></message>',
        '<message xmlns="jabber:client" to="{bare}" type="chat"><body>Hello</body></message>',
        f'<message xmlns="jabber:client" to="{SERVICE}"><body>Hello</body></message>',
        '<message xmlns="jabber:client" to="django@localhost"><body>Hello</body></message>',
        '<message xmlns="jabber:client"><body>Hello</body></message>',
        '<presence xmlns="jabber:client" to="{to}"/>',
        '<presence xmlns="jabber:client" type="subscribe"/>',
        '<presence xmlns="jabber:client" to="{bare}" type="subscribe"/>',
        f'<presence xmlns="jabber:client" to="{SERVICE}"/>',
        '<presence xmlns="jabber:client" to="{to}" type="probe"/>',
        iq("get", "{to}", PING),
        iq("get", "{to}", pubsub("<subscriptions/>")),
        iq("get", "{bare}", INFO),
        iq("get", SERVICE, ITEMS),
        iq("get", f"x@{SERVICE}", INFO),
        iq("get", SERVICE, INFO.replace("/>", ' node="/private/plans"/>')),
        iq("get", SERVICE, INFO.replace("/>", ' x:node="y" node="/private/plans" xmlns:x="z"/>')),
        iq("set", SERVICE, f'<pubsub xmlns="{PUBSUB}#owner"><delete node="/"/></pubsub>'),
        iq("get", SERVICE, f'<pubsub xmlns="{PUBSUB}#owner"><default/></pubsub>'),
        iq("get", SERVICE, '<vCard xmlns="vcard-temp"/>'),
        iq("set", SERVICE, '<command xmlns="http://jabber.org/protocol/commands" node="x"/>'),
        iq("get", SERVICE, pubsub("<subscriptions/>") + INFO),
        iq("get", GUESTS, ITEMS),
        iq("set", GUESTS, PING),
        iq("set", GUESTS, INFO),
        iq("get", "localhost", PING),
        iq("get", USERS, PING),
        iq("get", USERS, STATUS),
        iq("get", GUESTS, STATUS),
    ],
)
def test_the_rest_is_refused_and_logged_and_never_arrives(
    guarded: Guarded, guest: Callable, stanza: str
) -> None:
    visitor, other = guest(), guest()
    bare = other.jid.partition("/")[0]
    answer = ET.fromstring(visitor.ask(stanza.format(to=other.jid, bare=bare)))
    assert condition(answer) == "forbidden"
    assert answer.find("{jabber:client}error").get("type") == "auth"
    assert is_quiet(other)
    guarded.says("[warning] Refused:", visitor.jid, VISITOR)


def test_a_page_answers_the_publisher_and_its_server(
    guarded: Guarded, guest: Callable, publisher: WebSocketStream
) -> None:
    visitor = guest()
    publisher.send(iq("get", visitor.jid, PING, "p"))
    assert ET.fromstring(visitor.hear()).get("id") == "p"
    visitor.send(iq("result", "django@localhost/page", "", "p"))
    assert publisher.hear().count("id='p'") == 1
    visitor.send(iq("result", GUESTS, ""))
    visitor.ask(iq("get", GUESTS, ITEMS))
    guarded.says("Refused:", visitor.jid, "disco#items")
    assert sum(visitor.jid in line and "Refused" in line for line in guarded.log) == 1


def test_a_page_answers_nobody_else(guarded: Guarded, guest: Callable) -> None:
    visitor, other = guest(), guest()
    for type in ("result", "error"):
        visitor.send(iq(type, other.jid, ""))
        guarded.says("Refused:", visitor.jid, f"iq ({type})", other.jid)
    assert is_quiet(visitor)  # and gets no answer to an answer
    assert is_quiet(other)


def test_a_flood_of_refusals_fills_no_disk(guarded: Guarded, guest: Callable) -> None:
    visitor = guest()
    for _ in range(50):
        visitor.ask(iq("get", GUESTS, ITEMS))
    guarded.says(visitor.jid, "(what follows is not logged)")
    assert sum(visitor.jid in line and "Refused" in line for line in guarded.log) == 20


@pytest.mark.parametrize(
    "stanza",
    [
        iq("get", SERVICE, "".join(f'<x xmlns="urn:{n}"/>' for n in range(2000))),
        iq("get", SERVICE, f'<x xmlns="{"x" * 20_000}"/>'),
        iq("get", SERVICE, '<x xmlns="e{}"/>'.format("\u0301" * 20_000)),
        iq("get", "x" * 1000 + f"@{SERVICE}/" + "ä" * 500, INFO),
        subscribe(SERVICE, "/\u0301" * 5000, f"x@{GUESTS}/{'x' * 1000}"),
    ],
)
def test_what_is_refused_makes_a_short_line(guarded: Guarded, guest: Callable, stanza: str) -> None:
    visitor = guest(secrets.token_hex(8) + "x" * 900)
    assert visitor.request(stanza).get("type") == "error"
    begin = visitor.jid[:16]
    guarded.says("Refused:", begin, VISITOR)
    refused = [line for line in guarded.log if "Refused:" in line and begin in line]
    assert all(len(line.encode()) < 700 for line in refused)


def test_what_the_guard_cannot_even_refuse_is_dropped(guarded: Guarded) -> None:
    """No stanza is known that it fails on; ejabberd would let one pass."""
    hook = "mod_pubsub_guard:user_send_packet({no_stanza, #{}})"
    quiet = "logger:set_primary_config(level, none)"
    said = subprocess.run(
        ["erl", "-noinput", "-pa", "ebin", "-eval", f'{quiet}, io:format("~p", [{hook}]), halt().'],
        cwd=guarded.folder,
        env={**os.environ, "ERL_LIBS": erlang_libraries()},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said == "{stop,{drop,#{}}}"


@pytest.mark.parametrize("name", ["somebody", ""])
def test_a_subscription_is_of_who_asks_for_it(
    guarded: Guarded, guest: Callable, publisher: WebSocketStream, name: str
) -> None:
    create(publisher, "/guard/own")
    visitor = guest()
    made_up = f"{name or visitor.name}@{GUESTS}/another"
    answer = visitor.request(subscribe(SERVICE, "/guard/own", made_up))
    assert condition(answer) == "bad-request"
    assert answer.find(f".//{ERRORS}invalid-jid") is not None
    guarded.says("Refused:", visitor.jid, "a subscription of", made_up, "/guard/own")
    for own in (visitor.jid, visitor.jid.partition("/")[0]):
        assert visitor.request(subscribe(SERVICE, "/guard/own", own)).get("type") == "result"


@pytest.mark.parametrize("order", [1, -1])
def test_no_trick_of_xml_subscribes_another(
    guest: Callable, publisher: WebSocketStream, order: int
) -> None:
    create(publisher, "/guard/tricks")
    visitor = guest()
    bare = visitor.jid.partition("/")[0]
    own, other = (f'node="/guard/tricks" jid="{jid}"' for jid in (visitor.jid, f"{bare}/other"))
    for first, second in (
        (f"<subscribe {own}/>", f"<subscribe {other}/>"),
        (f'<subscribe xmlns="urn:x" {own}/>', f"<subscribe {other}/>"),
        (f'<p:subscribe xmlns:p="{PUBSUB}" {other}/>', f"<subscribe {own}/>"),
        ("<subscriptions/>", f"<subscribe {other}/>"),
        ("<!-- -->", f"<subscribe {other.replace('jid=', 'JID=')} {own.partition(' ')[2]}/>"),
    ):
        visitor.request(iq("set", SERVICE, pubsub("".join((first, second)[::order]))))
    prefixed = f'<p:pubsub xmlns:p="{PUBSUB}"><p:subscribe {other}/></p:pubsub>'
    assert condition(visitor.request(iq("set", SERVICE, prefixed))) == "forbidden"
    assert set(subscribers(publisher, "/guard/tricks")) <= {visitor.jid, "django@localhost"}


def test_what_is_no_request_of_xep_0060_is_refused(guest: Callable) -> None:
    visitor = guest()
    for body in ('<subscribe node="/n"/>', '<subscribe node="/n" jid="@@"/>', "<items/>"):
        answer = visitor.request(iq("set", SERVICE, pubsub(body)))
        assert condition(answer) == "bad-request"


def test_a_session_holds_two_hundred_subscriptions(
    guarded: Guarded, guest: Callable, publisher: WebSocketStream
) -> None:
    names = [f"/guard/many/{number}" for number in range(201)]
    create(publisher, *names)
    visitor = guest()

    def ask(node: str) -> ET.Element:
        return visitor.request(subscribe(SERVICE, node, visitor.jid))

    # What was refused is not held.
    assert {condition(ask(f"/guard/missing/{number}")) for number in range(50)} == {
        "item-not-found"
    }
    assert {ask(name).get("type") for name in names[:200]} == {"result"}
    refused = ask(names[200])
    assert condition(refused) == "policy-violation"
    assert refused.find(f".//{ERRORS}too-many-subscriptions") is not None
    guarded.says("Refused:", visitor.jid, "more than 200 subscriptions", names[200])
    assert ask(names[0]).get("type") == "result"  # he has it already
    leave = f'<unsubscribe node="{names[0]}" jid="{visitor.jid}"/>'
    visitor.request(iq("set", SERVICE, pubsub(leave)))
    assert ask(names[200]).get("type") == "result"
    assert condition(ask(names[0])) == "policy-violation"


# Who may log in


def test_an_address_holds_two_hundred_sessions(
    guarded: Guarded, publisher: WebSocketStream, streams: ExitStack
) -> None:
    create(publisher, "/guard/crowd")

    def log_in(address: str) -> str:
        stream = guarded.stream(GUESTS, address)
        streams.callback(stream.vanish)
        return stream.ask(auth(secrets.token_hex(8)))

    def over_bosh() -> None:
        bosh = BoshVisitor(guarded.settings, "/guard/crowd", CROWD)
        streams.callback(bosh.say_goodbye)

    leaving = guarded.stream(GUESTS, CROWD)
    assert "<success" in leaving.ask(auth("leaving"))
    for _ in range(49):
        over_bosh()
    for number in range(200):
        assert ("<success" if number < 150 else "policy-violation") in log_in(CROWD), number
    guarded.says("Refused: the login of", GUESTS, CROWD, "200 sessions")
    with pytest.raises(PermissionError, match="policy-violation"):
        over_bosh()
    assert "<success" in log_in(VISITOR)
    leaving.vanish()
    until(lambda: "<success" in log_in(CROWD), "there is room for one again")


def test_sessions_of_the_publishers_machine_are_not_counted(
    guarded: Guarded, streams: ExitStack
) -> None:
    for _ in range(201):
        stream = guarded.stream(GUESTS, "127.0.0.1")
        streams.callback(stream.vanish)
        assert "<success" in stream.ask(auth("load-test"))


def test_a_user_holds_fifty_sessions(guarded: Guarded, streams: ExitStack) -> None:
    first = guarded.stream(USERS)
    streams.callback(first.vanish)
    first.log_in("50", guarded.token("50"))
    for number in range(50):
        stream = guarded.stream(USERS, "127.0.0.1")
        streams.callback(stream.vanish)
        stream.log_in("50", guarded.token("50"), f"page {number}")
    assert "conflict" in first.hear()


@pytest.mark.parametrize("domain", [USERS, "rs256.localhost", "eddsa.localhost"])
def test_keys_of_each_kind_let_their_users_in(guarded: Guarded, domain: str) -> None:
    token = guarded.token("5", domain)
    assert guarded.lets_in("5", token, domain)
    assert not guarded.lets_in("6", token, domain)
    assert not guarded.lets_in("5", guarded.token("5", domain, exp=int(time.time()) - 1), domain)
    for other in {USERS, "rs256.localhost", "eddsa.localhost"} - {domain}:
        assert not guarded.lets_in("5", token, other)


@pytest.mark.parametrize("domain", ["rs256.localhost", "eddsa.localhost"])
def test_the_public_half_of_a_key_signs_nothing(guarded: Guarded, domain: str) -> None:
    """It is no secret, and must not be taken for one because a token says HS256."""
    public = guarded.keys[domain][1].public_key()
    known = [(guarded.folder / domain).read_bytes()] + [
        public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        for encoding in (Encoding.PEM, Encoding.DER)
    ]
    hs256 = jwt.get_algorithm_by_name("HS256")
    token = guarded.token("5", domain).split(".")
    token[0] = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"HS256"}').decode().rstrip("=")
    signed = ".".join(token[:2])
    for key in known:
        signature = base64.urlsafe_b64encode(hs256.sign(signed.encode(), key)).decode().rstrip("=")
        assert not guarded.lets_in("5", f"{signed}.{signature}", domain)


def test_a_password_lets_in_its_account_only(guarded: Guarded) -> None:
    password = ACCOUNTS["alice@users.localhost"]
    assert guarded.lets_in("alice", password)
    assert guarded.lets_in("alice", guarded.token("alice"))
    for name, secret in (("5", password), ("alice", guarded.token("5")), ("5", ""), ("5", "a.b.c")):
        assert not guarded.lets_in(name, secret)


def test_wrong_passwords_shut_out_their_name_and_nobody_else(
    guarded: Guarded, streams: ExitStack
) -> None:
    """From that address, until it is forgotten; the right one is answered like a wrong one."""
    right = ACCOUNTS["alice@users.localhost"]

    def answers(password: str) -> str:
        stream = guarded.stream(USERS, GUESSER)
        streams.callback(stream.vanish)
        return stream.ask(auth("alice", password)) + stream.hear()

    for _ in range(4):
        stream = guarded.stream(USERS, GUESSER)
        streams.callback(stream.vanish)
        for _ in range(5):
            assert "not-authorized" in stream.ask(auth("ALICE", "wrong"))
        assert "policy-violation" in stream.hear()
    wrong = answers("wrong")
    assert "not-authorized" in wrong
    assert "policy-violation" in wrong
    assert answers(right) == wrong
    guarded.says("Refused:", "alice@users.localhost", GUESSER, "wrong passwords")
    for name, password, address in (
        ("alice", guarded.token("alice"), GUESSER),
        ("bob", ACCOUNTS["bob@users.localhost"], GUESSER),
        ("alice", right, VISITOR),
    ):
        stream = guarded.stream(USERS, address)
        streams.callback(stream.vanish)
        assert "<success" in stream.ask(auth(name, password))


def test_a_name_that_is_no_text_is_counted_and_logged_like_others(
    guarded: Guarded, streams: ExitStack
) -> None:
    stream = guarded.stream(USERS, GUESSER)
    streams.callback(stream.vanish)
    name = secrets.token_hex(8)
    word = base64.b64encode(f"\0{name}".encode() + b"\xff\0wrong").decode()
    sasl = 'xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="PLAIN"'
    for _ in range(5):
        assert "<failure" in stream.ask(f"<auth {sasl}>{word}</auth>")
    assert "policy-violation" in stream.hear()
    guarded.says("Refused:", name, GUESSER, "wrong passwords")


def test_a_token_that_would_outlive_the_memory_of_its_end_is_refused(guarded: Guarded) -> None:
    day = int(time.time()) + 86400
    assert guarded.lets_in("7", guarded.token("7", exp=day - 60))
    assert not guarded.lets_in("7", guarded.token("7", exp=day + 60))
    guarded.says("Refused: a token of 7@users.localhost")


@pytest.mark.parametrize("claims", [{"iat": None}, {"iat": "now"}, {"exp": "never"}, {"sid": 5}])
def test_a_token_of_another_shape_is_refused_or_no_harm(guarded: Guarded, claims: dict) -> None:
    algorithm, key = guarded.keys[USERS]
    body = {"sub": f"8@{USERS}", "iat": time.time(), "exp": int(time.time()) + 60} | claims
    assert guarded.lets_in("8", jwt.encode(body, key, algorithm)) == ("sid" in claims)


# Ending sessions


def test_the_end_of_a_session_refuses_its_tokens_and_ends_all_sessions_of_the_user(
    guarded: Guarded, user: Callable, publisher: WebSocketStream
) -> None:
    one, two, other = user("10", sid="one"), user("10", "phone", sid="two"), user("11", sid="one")
    assert publisher.request(end("10", session="one")).get("type") == "result"
    for ended in (one, two):
        assert "policy-violation" in ended.hear()
    assert is_quiet(other)
    assert not guarded.lets_in("10", guarded.token("10", sid="one"))
    assert not guarded.lets_in("10", guarded.token("10", sid="one", iat=time.time() + 50))
    guarded.says("Refused: a token of 10@users.localhost")
    for fine in (guarded.token("10", sid="two"), guarded.token("10")):
        assert guarded.lets_in("10", fine)
    assert guarded.lets_in("11", guarded.token("11", sid="one"))


def test_the_end_of_a_user_refuses_what_was_issued_before(
    guarded: Guarded, user: Callable, publisher: WebSocketStream
) -> None:
    stream, other, now = user("12"), user("13"), time.time()
    assert publisher.request(end("12", now)).get("type") == "result"
    assert "policy-violation" in stream.hear()
    assert is_quiet(other)
    # An earlier one, which was late, takes nothing back.
    assert publisher.request(end("12", now - 100)).get("type") == "result"
    assert not guarded.lets_in("12", guarded.token("12", iat=now))
    assert not guarded.lets_in("12", guarded.token("12", iat=now - 1, sid="any"))
    assert guarded.lets_in("12", guarded.token("12", iat=now + 0.001))
    assert guarded.lets_in("13", guarded.token("13", iat=now))


def test_nobody_slips_through_between_password_and_session(
    guarded: Guarded, publisher: WebSocketStream, streams: ExitStack
) -> None:
    stream = guarded.stream(USERS)
    streams.callback(stream.vanish)
    assert "<success" in stream.ask(auth("14", guarded.token("14", sid="s")))
    stream.restart()
    assert publisher.request(end("14", session="s")).get("type") == "result"
    assert "policy-violation" in stream.ask(bind())
    with pytest.raises(ConnectionClosed):
        while True:
            stream.hear()


def test_a_page_that_reads_nothing_is_ended_all_the_same(
    user: Callable, publisher: WebSocketStream
) -> None:
    create(publisher, "/guard/deaf")
    deaf = user("18")
    assert deaf.request(subscribe(SERVICE, "/guard/deaf", deaf.jid)).get("type") == "result"
    entry = f"<e>{'x' * 200_000}</e>"
    item = pubsub(f'<publish node="/guard/deaf"><item id="1">{entry}</item></publish>')
    for _ in range(60):  # more than fits into the buffers between ejabberd and him
        assert "result" in publisher.ask(iq("set", SERVICE, item))
    assert publisher.request(end("18")).get("type") == "result"
    assert subscribers(publisher, "/guard/deaf") == []


def test_an_end_outlives_a_crash_of_ejabberd(guarded: Guarded, crash: str) -> None:
    assert not guarded.lets_in("15", crash)
    assert guarded.lets_in("15", guarded.token("15"))


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        'user="5"',
        'before="1"',
        'user="" before="1"',
        'user="a@b" before="1"',
        'user="5" before=""',
        'user="5" before="now"',
        'user="5" before="1" session=""',
    ],
)
def test_an_end_that_makes_no_sense_is_refused(publisher: WebSocketStream, attributes: str) -> None:
    answer = publisher.request(iq("set", USERS, f'<end xmlns="{GUARD}" {attributes}/>'))
    assert condition(answer) == "bad-request"


def test_what_else_is_asked_of_the_guard_is_refused(publisher: WebSocketStream) -> None:
    for type, body in (("get", "end"), ("set", "status"), ("get", "other")):
        answer = publisher.request(
            iq(type, USERS, f'<{body} xmlns="{GUARD}" user="5" before="1"/>')
        )
        assert condition(answer) == "bad-request"


def test_only_the_publisher_is_obeyed(guarded: Guarded, user: Callable, streams: ExitStack) -> None:
    eve = guarded.stream("localhost", "127.0.0.1")
    streams.callback(eve.vanish)
    eve.log_in("eve", ACCOUNTS["eve@localhost"])
    stream = user("16")
    for visitor in (eve, stream):
        for stanza in (end("16"), iq("get", USERS, STATUS)):
            assert condition(visitor.request(stanza)) == "forbidden"
    assert is_quiet(stream)
    guarded.says("Refused: end of eve@localhost", "not the publisher")


# Subscriptions of sessions that are not there


@pytest.mark.usefixtures("crash")
def test_what_a_crash_of_ejabberd_leaves_behind_is_removed_when_it_starts(
    guarded: Guarded, publisher: WebSocketStream
) -> None:
    guarded.says(f"{GUESTS}: removed 1 subscriptions of sessions that are not there")
    assert subscribers(publisher, "/guard/crash") == []


def test_a_users_subscriptions_go_with_his_sessions(
    user: Callable, publisher: WebSocketStream
) -> None:
    """By full JID with that one, by bare JID with the last one."""
    create(publisher, "/guard/leaving")
    page, phone = user("17"), user("17", "phone")
    bare = page.jid.partition("/")[0]
    for stream, jid in ((page, page.jid), (page, bare), (phone, phone.jid)):
        assert stream.request(subscribe(SERVICE, "/guard/leaving", jid)).get("type") == "result"
    page.vanish()
    left = [bare, phone.jid]
    until(lambda: subscribers(publisher, "/guard/leaving") == left, "only the page's has gone")
    phone.vanish()
    until(lambda: subscribers(publisher, "/guard/leaving") == [], "nothing is left")


@pytest.mark.usefixtures("crash")
def test_what_a_crash_leaves_of_users_is_removed(
    guarded: Guarded, publisher: WebSocketStream
) -> None:
    guarded.says(f"{USERS}: removed 1 subscriptions of sessions that are not there")
    assert subscribers(publisher, "/guard/crash") == []


def test_only_subscriptions_of_the_dead_are_told(
    guest: Callable, publisher: WebSocketStream
) -> None:
    create(publisher, "/guard/living")
    living = guest()
    for jid in (living.jid, living.jid.partition("/")[0]):
        assert living.request(subscribe(SERVICE, "/guard/living", jid)).get("type") == "result"

    def dead() -> str:
        return publisher.request(iq("get", USERS, STATUS)).find(f"{{{GUARD}}}status").get("dead")

    until(lambda: dead() == "0", "those of other tests have gone")
    owner = f'<pubsub xmlns="{PUBSUB}#owner"><subscriptions node="/guard/living">'
    for state, told in (("subscribed", "1"), ("none", "0")):
        ghost = f'<subscription jid="ghost@{GUESTS}/page" subscription="{state}"/>'
        publisher.request(iq("set", SERVICE, f"{owner}{ghost}</subscriptions></pubsub>"))
        assert dead() == told


# The Python side


@pytest.mark.usefixtures("xmpp_settings")
def test_django_asks_the_guard(stack: Stack) -> None:
    before = time.time()
    status = get_backend().guard_status().result(10)
    assert (status.version, status.db) == (1, "mnesia")
    assert before - 1 < status.time < time.time() + 1
    node = f"/guard/{secrets.token_hex(8)}"
    nodes.create(node).result(10)
    ghost = f"ghost@{stack.settings['PUBSUB_GUEST_DOMAIN']}/page"
    nodes.set_subscriptions(node, {ghost: "subscribed"}).result(10)
    assert get_backend().guard_status().result(10).dead == status.dead + 1
    nodes.set_subscriptions(node, {ghost: "none"}).result(10)
    assert get_backend().guard_status().result(10).dead == status.dead


@pytest.mark.usefixtures("xmpp_settings")
def test_django_ends_sessions(stack: Stack) -> None:
    claims = {"sub": f"20@{USERS}", "iat": time.time(), "exp": int(time.time()) + 60, "sid": "s"}
    token = jwt.encode(claims, stack.settings["PUBSUB_JWT_KEY"], "HS256")
    url = stack.settings["PUBSUB_WEBSOCKET_URL"]
    stream = WebSocketStream(url, USERS)
    stream.log_in("20", token)
    get_backend().end_sessions(f"20@{USERS}", time.time() - 100, "s").result(10)
    assert "policy-violation" in stream.hear()
    stream.vanish()
    again = WebSocketStream(url, USERS)
    assert "not-authorized" in again.ask(auth("20", token))
    again.vanish()
    with pytest.raises(RequestRefused, match="bad-request"):
        get_backend().end_sessions(f"@{USERS}", time.time()).result(10)
