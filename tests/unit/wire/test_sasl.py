"""The client's side of SASL, against scramp's server."""

import base64

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from pubsub.wire import sasl

BOTH = ["SCRAM-SHA-256", "SCRAM-SHA-1"]


def b64(text):
    return base64.b64encode(text.encode()).decode()


def clear(text):
    return base64.b64decode(text, validate=True).decode()


class Server:
    """The server's side of SCRAM."""

    def __init__(self, name, password):
        mechanism = scramp.ScramMechanism(name)
        info = mechanism.make_auth_info(password)
        self._server = mechanism.make_server(lambda username: info)

    def first(self, initial):
        self._server.set_client_first(clear(initial))
        return b64(self._server.get_server_first())

    def final(self, response):
        self._server.set_client_final(clear(response))
        return b64(self._server.get_server_final())


# The choice


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"], "SCRAM-SHA-256"),
        (["DIGEST-MD5", "SCRAM-SHA-1", "PLAIN"], "SCRAM-SHA-1"),
        (["SCRAM-SHA-256-PLUS", "X-OAUTH2", "PLAIN"], "PLAIN"),
    ],
)
def test_the_strongest_mechanism_that_both_know_is_taken(offered, chosen):
    assert sasl.choose(offered, "django", "secret").name == chosen


@pytest.mark.parametrize(
    "offered", [[], ["DIGEST-MD5"], ["ANONYMOUS", "X-OAUTH2"], ["plain"], ["SCRAM-SHA-1-PLUS"]]
)
def test_nothing_weaker_is_taken(offered):
    with pytest.raises(sasl.SASLError, match="no mechanism that we accept"):
        sasl.choose(offered, "django", "secret")


def test_the_refusal_names_what_was_offered():
    with pytest.raises(sasl.SASLError, match=r"but DIGEST-MD5, X-OAUTH2$"):
        sasl.choose(["X-OAUTH2", "DIGEST-MD5"], "django", "secret")


# PLAIN


@given(password=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_plain_sends_name_and_password(password):
    assert clear(sasl.Plain("django", password).initial()) == f"\0django\0{password}"


@pytest.mark.parametrize("secret", ["a\0b", "\ud800"])
def test_plain_refuses_what_it_cannot_carry(secret):
    with pytest.raises(sasl.SASLError, match="password"):
        sasl.Plain("django", secret)
    with pytest.raises(sasl.SASLError, match="name"):
        sasl.Plain(secret, "secret")


def test_plain_knows_no_challenge():
    with pytest.raises(sasl.SASLError, match="challenge"):
        sasl.Plain("django", "secret").respond(b64("more"))


# SCRAM


@pytest.mark.parametrize("name", BOTH)
def test_scram_convinces_the_server_and_is_convinced_by_it(name):
    client, server = sasl.Scram(name, "django", "pässword,=\u00a0€"), Server(name, "pässword,= €")
    final = server.final(client.respond(server.first(client.initial())))
    client.verify(final)


@pytest.mark.parametrize("name", BOTH)
def test_the_proof_may_come_as_a_challenge(name):
    client, server = sasl.Scram(name, "django", "secret"), Server(name, "secret")
    final = server.final(client.respond(server.first(client.initial())))
    assert client.respond(final) == ""
    client.verify("")  # an empty <success/> adds nothing


def test_scram_never_sends_the_password():
    client, server = sasl.Scram("SCRAM-SHA-1", "django", "secret"), Server("SCRAM-SHA-1", "secret")
    initial = client.initial()
    final = client.respond(server.first(initial))
    assert "secret" not in clear(initial) + clear(final)


def test_scram_escapes_the_name():
    initial = clear(sasl.Scram("SCRAM-SHA-1", "a=b,c", "secret").initial())
    assert initial.startswith("n,,n=a=3Db=2Cc,r=")


def test_no_two_exchanges_begin_alike():
    initials = {sasl.Scram("SCRAM-SHA-1", "django", "secret").initial() for _ in range(20)}
    assert len(initials) == 20


def test_a_server_that_does_not_know_the_password_is_not_believed():
    client = sasl.Scram("SCRAM-SHA-1", "django", "secret")
    server = Server("SCRAM-SHA-1", "another")
    client.respond(server.first(client.initial()))
    with pytest.raises(sasl.SASLError, match="does not know the password"):
        client.verify(b64("v=" + b64("x" * 20)))


def test_a_success_without_an_exchange_is_not_believed():
    client = sasl.Scram("SCRAM-SHA-1", "django", "secret")
    client.initial()
    with pytest.raises(sasl.SASLError, match="before the exchange"):
        client.verify(b64("v=" + b64("x" * 20)))


def test_a_success_without_a_proof_is_not_believed():
    client, server = sasl.Scram("SCRAM-SHA-1", "django", "secret"), Server("SCRAM-SHA-1", "secret")
    client.respond(server.first(client.initial()))
    with pytest.raises(sasl.SASLError):
        client.verify("")


def test_a_server_that_answers_another_exchange_is_not_followed():
    one, another = (sasl.Scram("SCRAM-SHA-1", "django", "secret") for _ in range(2))
    one.initial()
    with pytest.raises(sasl.SASLError, match="SCRAM-SHA-1 failed"):
        one.respond(Server("SCRAM-SHA-1", "secret").first(another.initial()))


def test_a_server_cannot_keep_us_counting():
    client = sasl.Scram("SCRAM-SHA-1", "django", "secret")
    nonce = clear(client.initial()).rpartition("r=")[2]
    salt = b64("x" * 16)
    with pytest.raises(sasl.SASLError, match="iterations"):
        client.respond(b64(f"r={nonce}more,s={salt},i=9000000"))


def test_a_third_challenge_ends_it():
    client, server = sasl.Scram("SCRAM-SHA-1", "django", "secret"), Server("SCRAM-SHA-1", "secret")
    final = server.final(client.respond(server.first(client.initial())))
    client.respond(final)
    with pytest.raises(sasl.SASLError):
        client.respond(final)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("secret", ["a\0b", "\ud800", "\u0627x"])
def test_scram_refuses_what_it_cannot_carry(name, secret):
    with pytest.raises(sasl.SASLError):  # at once or, by older scramp, when it comes to the proof
        client = sasl.Scram(name, "django", secret)
        client.respond(Server(name, "secret").first(client.initial()))


@given(words=st.lists(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")), max_size=3))
def test_whatever_a_server_says_is_an_error_of_ours(words):
    client = sasl.Scram("SCRAM-SHA-256", "django", "secret")
    client.initial()
    with pytest.raises(sasl.SASLError):
        for word in words:
            client.respond(word)
        client.verify("")


@given(
    nonce=st.text(max_size=4),
    salt=st.binary(max_size=20),
    count=st.integers(-5, 5000).map(str) | st.text(max_size=5),
    tail=st.text(max_size=5),
)
def test_whatever_a_server_says_in_scrams_words_is_an_error_of_ours(nonce, salt, count, tail):
    client = sasl.Scram("SCRAM-SHA-1", "django", "secret")
    ours = clear(client.initial()).rpartition("r=")[2]
    message = f"r={ours}{nonce},s={base64.b64encode(salt).decode()},i={count}{tail}"
    encoded = base64.b64encode(message.encode("utf-8", "surrogatepass")).decode()
    with pytest.raises(sasl.SASLError):
        client.respond(encoded)
        client.verify(encoded)
