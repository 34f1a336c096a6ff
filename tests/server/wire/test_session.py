"""Logging in: at a real ejabberd, through men in the middle, and at what is no XMPP server."""

import asyncio
import base64
import dataclasses
import datetime as dt
import json
import re
import select
import socket
import ssl
import threading
import time
from contextlib import ExitStack

import psutil
import pytest

from pubsub.devstack import Stack
from pubsub.exceptions import AuthenticationError, ConnectError, StreamLost, TLSError
from pubsub.wire import stanzas
from pubsub.wire.session import open_session
from tests.proxy import LOOPBACK, Impostor, Proxy
from tests.server.wire.conftest import publisher, server_context

SECONDS = 20  # for what has a far shorter limit; only what hangs takes as long

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='1' version='1.0' "
    b"xmlns:stream='http://etherx.jabber.org/streams' from='localhost'>"
)
SASL = b'xmlns="urn:ietf:params:xml:ns:xmpp-sasl"'
PLAIN_OFFER = (
    b"<stream:features><mechanisms " + SASL + b"><mechanism>PLAIN</mechanism></mechanisms>"
    b"</stream:features>"
)


def said_by_client(server):
    """What a man in the middle got to read, as text."""
    return bytes(server.received).decode("utf-8", "replace")


def at(account, server, **changes):
    """The account, at a server of the test's."""
    return dataclasses.replace(account, host=server.host, port=server.port, **changes)


def read_iqs(session):
    """The IQs of a session, as they come, until it ends."""
    poll = select.poll()
    poll.register(session, select.POLLIN)
    while True:
        yield from (stanza for stanza in session.read() if stanza.getName() == "iq")
        assert session.has_pending or poll.poll(10_000)


def read_iq(session):
    """The next IQ of a session."""
    return next(read_iqs(session))


def says(*parts):
    """An impostor's script: say these, one after each thing that the client says."""

    async def script(link):
        for part in parts:
            await link.hear()
            link.writer.write(part)
            await link.writer.drain()

    return script


# Who may in


def test_starttls_logs_in(account, login):
    session = login(account, tls="starttls")
    assert session.jid.startswith(f"{account.jid}/")


def test_direct_tls_logs_in(account, login, stack):
    session = login(account, tls="direct", port=stack.ports.xmpp_tls)
    assert session.jid.startswith(f"{account.jid}/")


def test_an_open_session_asks_and_is_answered(account, login):
    session = login(account)
    request = stanzas.ping("localhost").to_xml("a ping").encode()
    assert session.write(bytearray(request)) == len(request)
    answer = read_iq(session)
    assert (answer.getAttr("id"), answer.getAttr("type")) == ("a ping", "result")


def test_two_sessions_of_one_account_do_not_throw_each_other_out(account, login):
    sessions = [login(account), login(account)]
    assert sessions[0].jid != sessions[1].jid
    for session in sessions:
        session.write(bytearray(stanzas.ping("localhost").to_xml("1").encode()))
        assert read_iq(session).getAttr("type") == "result"


def test_what_came_before_the_end_is_handed_out_before_the_end_is_told(account, login, open_proxy):
    def rewrite(link, stanza):
        return stanza + b"</stream:stream>" if b"last one" in stanza else stanza

    session = login(at(account, open_proxy(rewrite=rewrite), tls="off"))
    for id in ("first one", "last one"):
        session.write(bytearray(stanzas.ping("localhost").to_xml(id).encode()))
    answers = read_iqs(session)
    assert [next(answers).getAttr("id") for _ in range(2)] == ["first one", "last one"]
    with pytest.raises(StreamLost, match="ended the stream"):
        next(answers)


def test_what_came_before_a_reset_is_handed_out_though_writing_fails(account, login, open_proxy):
    def rewrite(link, stanza):
        if b"last one" in stanza:
            asyncio.get_running_loop().call_soon(link.reset)
        return stanza

    session = login(at(account, open_proxy(rewrite=rewrite), tls="off"))
    ping = bytearray(stanzas.ping("localhost").to_xml("last one").encode())
    session.write(ping)
    hung_up = select.poll()
    hung_up.register(session, 0)  # answers and resets are always told; here only the reset is
    assert hung_up.poll(10_000)
    session.write(ping)
    answers = read_iqs(session)
    assert next(answers).getAttr("id") == "last one"
    with pytest.raises(StreamLost, match=r"broke|closed the connection"):
        next(answers)


@pytest.fixture(scope="module")
def all_mechanisms(tmp_path_factory):
    """A proxy in front of an ejabberd that knows passwords, and so offers every mechanism."""
    stack = Stack(tmp_path_factory.mktemp("mechanisms"))
    with ExitStack() as running:
        running.callback(stack.stop)
        stack.prepare()
        path = stack.folder / "ejabberd.yml"
        config = json.loads(path.read_text())
        (shipped,) = config["include_config_file"].values()
        shipped["disallow"].append("auth_password_format")
        path.write_text(json.dumps(config | {"auth_password_format": "plain"}))
        stack.ejabberd.start()
        tls = ssl.create_default_context(cafile=stack.settings["XMPP_CA_FILE"])
        proxy = running.enter_context(Proxy(stack.ports.xmpp_tls, server_tls=tls, by_stanza=True))
        proxy.account = at(publisher(stack), proxy, tls="off")
        yield proxy


@pytest.mark.parametrize(
    ("withheld", "used"),
    [
        (b"SCRAM-SHA-512", "SCRAM-SHA-256"),
        (b"SCRAM-SHA-(256|512)", "SCRAM-SHA-1"),
        (b"SCRAM-[A-Z0-9-]*", "PLAIN"),
    ],
)
def test_the_best_mechanism_on_offer_is_used(all_mechanisms, login, withheld, used):
    pattern = b"<mechanism>" + withheld + b"(-PLUS)?</mechanism>"
    all_mechanisms.rewrite = lambda link, stanza: re.sub(pattern, b"", stanza)
    session = login(all_mechanisms.account)
    assert session.jid.startswith(f"{all_mechanisms.account.jid}/")
    said = bytes(all_mechanisms.links[-1].received).decode()
    assert re.findall(r'<auth [^>]*mechanism="([^"]*)"', said) == [used]


def test_a_wrong_password_is_refused_by_every_mechanism(all_mechanisms, login):
    for withheld in (b"none", b"SCRAM-SHA-256", b"SCRAM-[A-Z0-9-]*"):
        pattern = b"<mechanism>" + withheld + b"</mechanism>"
        all_mechanisms.rewrite = lambda link, stanza, p=pattern: re.sub(p, b"", stanza)
        with pytest.raises(AuthenticationError, match="not-authorized"):
            login(all_mechanisms.account, password="wrong")


def test_a_server_without_a_mechanism_that_we_accept_learns_nothing(all_mechanisms, login):
    all_mechanisms.rewrite = lambda link, stanza: re.sub(
        b"<mechanism>[^<]*</mechanism>", b"<mechanism>DIGEST-MD5</mechanism>", stanza
    )
    with pytest.raises(AuthenticationError, match="no mechanism that we accept"):
        login(all_mechanisms.account)
    assert b"<auth" not in bytes(all_mechanisms.links[-1].received)


# Who may not


@pytest.mark.parametrize(
    "changes",
    [{"password": "wrong"}, {"password": ""}, {"jid": "nobody@localhost"}],
    ids=["wrong password", "empty password", "unknown user"],
)
def test_who_does_not_know_the_password_is_told_so(account, login, changes):
    with pytest.raises(
        AuthenticationError, match=r"cannot log in as .*: not-authorized"
    ) as refused:
        login(account, **changes)
    assert f"{account.host}:{account.port}" in str(refused.value)


@pytest.mark.parametrize("secret", ["a\0b", "\ud800"])
def test_an_account_that_nobody_can_have_is_told_so(account, login, secret):
    with pytest.raises(AuthenticationError):
        login(account, password=secret)
    with pytest.raises(AuthenticationError):
        login(account, jid=f"{secret}@localhost")


def test_a_domain_that_the_server_does_not_serve_is_told_so(account, login):
    with pytest.raises(AuthenticationError, match="host-unknown"):
        login(account, jid="django@elsewhere.example")


def test_no_password_is_shown_by_an_account(account):
    assert account.password not in repr(account)


# Certificates


@pytest.mark.parametrize("tls", ["starttls", "direct"])
def test_an_unknown_authority_is_not_trusted(account, login, stack, ca_file, tls):
    port = stack.ports.xmpp if tls == "starttls" else stack.ports.xmpp_tls
    with pytest.raises(TLSError, match=r"not valid for 'localhost': .*XMPP_CA_FILE"):
        login(account, tls=tls, port=port, ca_file=ca_file)


def test_the_systems_authorities_do_not_vouch_for_a_private_one(account, login):
    with pytest.raises(TLSError, match="XMPP_CA_FILE"):
        login(account, ca_file=None)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("other.example", {}, "Hostname mismatch"),
        ("localhost.example", {}, "Hostname mismatch"),
        (LOOPBACK, {}, "Hostname mismatch"),
        ("localhost", {"not_after": dt.datetime(2020, 1, 1)}, "certificate has expired"),  # noqa: DTZ001
    ],
    ids=["another name", "a longer name", "the address", "expired"],
)
def test_a_certificate_that_is_not_the_domains_is_refused(
    account, ca_file, authority, name, options, reason
):
    context = server_context(authority, name, **options)
    with (
        Impostor(says(b""), tls=context) as server,
        pytest.raises(TLSError, match=f"not valid for 'localhost': {reason}"),
    ):
        open_session(at(account, server, tls="direct", ca_file=ca_file))
    assert said_by_client(server) == ""


def test_a_certificate_of_the_domain_is_accepted_whatever_the_address(
    account, login, ca_file, authority, stack
):
    upstream = ssl.create_default_context(cafile=account.ca_file)
    context = server_context(authority, "localhost")
    with Proxy(stack.ports.xmpp_tls, client_tls=context, server_tls=upstream) as proxy:
        session = login(at(account, proxy, tls="direct", ca_file=ca_file))
        assert session.jid.startswith("django@localhost/")


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_file_that_cannot_be_read_is_named(account, login, tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TLSError, match=re.escape(f"cannot read the CA file {str(path)!r}")):
        login(account, ca_file=str(path))


# No TLS, no password


def secrets_of(account):
    """What must not be seen by others: in clear, and in the ways in which SASL writes it."""
    plain = f"\0{account.username}\0{account.password}".encode()
    return [account.password, base64.b64encode(plain).decode(), "<auth", "<response"]


def assert_nothing_but_a_header(server):
    said = said_by_client(server)
    assert re.fullmatch(r"<\?xml version='1\.0'\?><stream:stream [^<]*>", said), said


def test_a_man_in_the_middle_who_takes_starttls_away_gets_nothing(account, proxy, login):
    middle = proxy(
        rewrite=lambda link, data: re.sub(rb"<starttls.*?</starttls>", PLAIN_OFFER[17:-18], data)
    )
    with pytest.raises(TLSError, match="does not offer STARTTLS, so the password was not sent"):
        login(at(account, middle))
    assert_nothing_but_a_header(middle)
    assert not any(secret in said_by_client(middle) for secret in secrets_of(account))


def test_a_server_that_refuses_starttls_gets_nothing(account):
    offer = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" + PLAIN_OFFER[17:-18]
    script = says(
        HEADER + b"<stream:features>" + offer + b"</stream:features>",
        b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    )
    with Impostor(script) as server, pytest.raises(TLSError, match="refused STARTTLS"):
        open_session(at(account, server))
    assert said_by_client(server).endswith('<starttls xmlns="urn:ietf:params:xml:ns:xmpp-tls"/>')
    assert not any(secret in said_by_client(server) for secret in secrets_of(account))


def test_a_man_in_the_middle_who_breaks_tls_gets_nothing(account, proxy, login):
    def rewrite(link, data):
        return b"no TLS at all" if b"\x16\x03" in data[:2] else data

    middle = proxy(rewrite=rewrite)
    with pytest.raises(TLSError, match="TLS failed"):
        login(at(account, middle))
    assert not any(secret in said_by_client(middle) for secret in secrets_of(account))


def test_a_server_that_ends_while_tls_begins_gets_nothing(account):
    async def script(link):
        await link.hear()
        link.writer.close()

    with Impostor(script) as server, pytest.raises(StreamLost, match="broke"):
        open_session(at(account, server, tls="direct"))


def test_clear_text_is_refused_where_the_server_demands_tls(account, login):
    with pytest.raises(TLSError, match="nobody log in without TLS"):
        login(account, tls="off")


@pytest.mark.parametrize("tls", ["tls", "StartTLS", "", False, None])
def test_a_word_for_tls_that_nobody_knows_is_never_taken_for_none(account, tls):
    with (
        Impostor(says(HEADER + PLAIN_OFFER)) as server,
        pytest.raises(TLSError, match=re.escape(f"XMPP_TLS = {tls!r} is unknown")),
    ):
        open_session(at(account, server, tls=tls))
    assert said_by_client(server) == ""


def test_clear_text_is_refused_to_any_address_but_the_loopback(account):
    addresses = [
        address.address
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
    assert addresses, "this machine has no address but the loopback's: the test needs one"
    with (
        Impostor(says(HEADER + PLAIN_OFFER), host=addresses[0]) as server,
        pytest.raises(TLSError, match="accepted towards this machine itself only"),
    ):
        open_session(at(account, server, tls="off"))
    assert_nothing_but_a_header(server)


def test_clear_text_reaches_a_loopback_address_when_asked_for(account, login, open_proxy):
    assert login(at(account, open_proxy(), tls="off")).jid.startswith(account.jid)


SLIPPED_IN = (
    b"<stream:features><mechanisms " + SASL + b"><mechanism>X-SLIPPED-IN</mechanism></mechanisms>"
    b"</stream:features>"
)


def test_what_is_slipped_in_ahead_of_tls_is_not_taken_for_the_servers(account, proxy, login):
    middle = proxy(
        rewrite=lambda link, data: data + SLIPPED_IN if data.startswith(b"<proceed") else data
    )
    assert login(at(account, middle)).jid.startswith("django@localhost/")
    assert len(middle.links) == 1


def test_what_is_slipped_in_instead_of_tls_is_not_taken_for_the_servers(account, proxy, login):
    middle = proxy(
        rewrite=lambda link, data: SLIPPED_IN + data if data[:2] == b"\x16\x03" else data
    )
    with pytest.raises(TLSError, match="TLS failed"):
        login(at(account, middle))


# No server


def test_a_server_that_is_down_is_named(account):
    with socket.create_server((LOOPBACK, 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ConnectError, match=rf"{LOOPBACK}:{port}: cannot connect: .*refused"):
        open_session(dataclasses.replace(account, port=port))


@pytest.mark.parametrize(
    "host",
    ["no-such-host.invalid", "", "a" * 64 + ".example", "a..b", "host name", "a\0b"],
)
def test_a_host_that_does_not_exist_is_named(account, host):
    with pytest.raises(ConnectError, match="cannot connect") as error:
        open_session(dataclasses.replace(account, host=host, timeout=5))
    assert error.value.server == f"{host}:{account.port}"


@pytest.mark.parametrize("port", [-1, 65536, 2**40])
def test_a_port_that_cannot_be_is_named(account, port):
    with pytest.raises(ConnectError, match=f"{port}: cannot connect"):
        open_session(dataclasses.replace(account, port=port))


# The time limit


def assert_keeps_time(account, *errors, seconds=0.4):
    """Logging in ends by one of these errors, not before the limit and not long after."""
    begin = time.monotonic()
    with pytest.raises(errors or ConnectError, match=r"no answer within 0\.4 s|timed out"):
        open_session(dataclasses.replace(account, timeout=seconds))
    assert seconds <= time.monotonic() - begin < SECONDS


@pytest.mark.parametrize("tls", ["starttls", "direct", "off"])
def test_a_server_that_never_answers_does_not_hold_us(account, tls):
    with Impostor() as server:
        assert_keeps_time(at(account, server, tls=tls))


def test_a_server_that_freezes_during_the_login_does_not_hold_us(account, proxy):
    middle = proxy(rewrite=lambda link, data: b"" if b"\x17\x03" in data[:2] else data)
    assert_keeps_time(at(account, middle))


async def drip(link):
    for byte in HEADER + b"<stream:features>" + b"<x/>" * 10_000:
        link.writer.write(bytes([byte]))
        await link.writer.drain()
        await asyncio.sleep(0.001)


async def flood(link):
    link.writer.write(HEADER)
    while True:
        link.writer.write(b" " * 65536)
        await link.writer.drain()


# The flood must not come to the limit of a stanza's size before the time is over.
@pytest.mark.parametrize(("script", "seconds"), [(drip, 0.4), (flood, 0.02)])
def test_a_server_that_never_comes_to_the_point_does_not_hold_us(account, script, seconds):
    with Impostor(script) as server:
        begin = time.monotonic()
        with pytest.raises(ConnectError, match=f"no answer within {seconds} s|timed out"):
            open_session(at(account, server, tls="off", timeout=seconds))
        assert time.monotonic() - begin < SECONDS


def test_all_addresses_of_a_host_share_the_time_limit(account, monkeypatch):
    with ExitStack() as opened:
        # A queue of one that is full: the kernel drops whoever comes next without a word.
        full = opened.enter_context(socket.socket())
        full.bind((LOOPBACK, 0))
        full.listen(0)
        for _ in range(2):
            client = opened.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", full.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: [address] * 100)
        begin = time.monotonic()
        with pytest.raises(ConnectError, match="cannot connect: timed out"):
            open_session(dataclasses.replace(account, host="localhost", timeout=0.4))
        assert 0.3 < time.monotonic() - begin < SECONDS  # one after the other: 40


def test_a_name_is_looked_up_at_the_exit_where_no_thread_can_be_started(
    account, login, monkeypatch
):
    def refuse(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert login(account, host="localhost").jid.startswith(account.jid)


def test_a_resolver_that_hangs_does_not_hold_us(account, monkeypatch):
    answers = threading.Event()

    def look_up(*args, flags=0, **options):
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror
        answers.wait(60)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        with pytest.raises(ConnectError, match=r"in time which address 'example\.org' has"):
            open_session(dataclasses.replace(account, host="example.org", timeout=0.2))
    finally:
        answers.set()


# What is no XMPP

DOCTYPE = b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]>"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "no XMPP"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "no XMPP"),
        (bytes(range(256)), "no XMPP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "no XMPP"),
        (b"<html><body>Hello</body></html>", "no XMPP"),
        (b"<?xml version='1.0'?><stream xmlns='jabber:client'>", "no XMPP"),
        (HEADER + b"<a></b>", "no XMPP"),
        (HEADER + b"<stream:error/>", "no XMPP"),
        (HEADER + b"\xff\xfe", "no XMPP"),
        (HEADER + b"<a>&undeclared;</a>", "no XMPP"),
        (b"<?xml version='1.0'?>" + DOCTYPE + HEADER[21:], "document type"),
        (HEADER + b"</stream:stream>", "ended the stream"),
        (HEADER + b"</stream:stream>and more", "ended the stream|no XMPP"),
        (HEADER + b"<message/>", "<message/> where <features/> was due"),
        (HEADER + b"<iq type='result' id='open'/>", "<iq/> where <features/> was due"),
        (
            HEADER + b"<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
            b"<text>go away</text></stream:error></stream:stream>",
            "ended the stream with conflict: go away",
        ),
        (HEADER + b"<stream:features/>", "no mechanism that we accept"),
    ],
)
def test_what_is_no_xmpp_is_told_and_not_followed(account, said, reason):
    with (
        Impostor(says(said)) as server,
        pytest.raises((StreamLost, ConnectError, AuthenticationError), match=reason) as error,
    ):
        open_session(at(account, server, tls="off"))
    assert error.value.server == f"{LOOPBACK}:{server.port}"
    assert_nothing_but_a_header(server)


def test_a_server_that_hangs_up_is_told(account):
    async def script(link):
        link.writer.close()

    with (
        Impostor(script) as server,
        pytest.raises(StreamLost, match=r"closed the connection|broke"),
    ):
        open_session(at(account, server, tls="off"))


def test_a_stanza_without_an_end_is_not_kept(account):
    async def script(link):
        link.writer.write(HEADER + b"<stream:features>")
        while True:
            link.writer.write(b"x" * 100_000)
            await link.writer.drain()

    with Impostor(script) as server, pytest.raises(StreamLost, match="more than 16777216 bytes"):
        open_session(at(account, server, tls="off", timeout=30))


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (b"<challenge %s>!!</challenge>", AuthenticationError, "not base64"),
        (b"<challenge %s>eD0x</challenge>", AuthenticationError, "SCRAM-SHA-1 failed"),
        (b"<success %s/>", AuthenticationError, "before the exchange"),
        (b"<success %s>dj14</success>", AuthenticationError, "before the exchange"),
        (b"<failure %s/>", AuthenticationError, "no reason given"),
        (b"<failure %s><aborted/></failure></stream:stream>", AuthenticationError, "aborted"),
        (
            b"<failure %s><account-disabled/><text>x</text></failure>",
            AuthenticationError,
            "account",
        ),
        (b"<failure %s><temporary-auth-failure/></failure>", ConnectError, "cannot log in now"),
        (b"<features/>", ConnectError, "<features/> where <challenge/> or"),
    ],
)
def test_a_login_that_goes_another_way_is_not_a_login(account, answer, error, reason):
    offer = PLAIN_OFFER.replace(b"PLAIN", b"SCRAM-SHA-1")
    script = says(HEADER + offer, answer.replace(b"%s", SASL))
    with Impostor(script) as server, pytest.raises(error, match=reason):
        open_session(at(account, server, tls="off"))
    assert account.password not in said_by_client(server)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<iq type='error' id='open'><error><conflict/></error></iq>", "refused the session"),
        (b"<iq type='result' id='open'/>", "bound no resource"),
        (b"<iq type='result' id='open'><bind/></iq>", "bound no resource"),
        (b"<message/>", "<message/> where <iq/> was due"),
    ],
)
def test_a_session_that_is_not_bound_is_not_a_session(account, answer, reason):
    script = says(
        HEADER + PLAIN_OFFER, b"<success " + SASL + b"/>", HEADER + b"<stream:features/>", answer
    )
    with Impostor(script) as server, pytest.raises(ConnectError, match=reason):
        open_session(at(account, server, tls="off"))


def test_a_server_that_ends_a_stream_as_it_binds_is_believed_at_once(account, connect):
    bound = b"<iq type='result' id='open'><bind><jid>django@localhost/1</jid></bind></iq>"
    end = (
        b"<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
        b"</stream:error></stream:stream>"
    )
    features = HEADER + b"<stream:features/>"
    script = says(HEADER + PLAIN_OFFER, b"<success " + SASL + b"/>", features, bound + end)
    with Impostor(script) as server:  # which does not hang up
        connection = connect(at(account, server, tls="off"), keeps=False, answer_within=600)
        asked = connection.request(stanzas.ping("localhost"))
        assert "policy-violation" in str(asked.exception(20))


def test_nothing_is_left_open_by_a_login_that_failed(account, login):
    open_before = psutil.Process().num_fds()
    for _ in range(5):
        with pytest.raises(AuthenticationError):
            login(account, password="wrong")
    assert psutil.Process().num_fds() == open_before
