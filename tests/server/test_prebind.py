"""pubsub/prebinding.py and pubsub/wire/bosh.py against a real ejabberd."""

import asyncio
import base64
import contextlib
import http.client
import http.server
import socket
import sqlite3
import threading
from urllib.parse import urlsplit

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.db import connections
from django.utils.functional import SimpleLazyObject
from django.views.debug import ExceptionReporter

from pubsub import aprebind, prebind
from pubsub.conf import conf
from pubsub.exceptions import AuthenticationError, ConnectError, NotAllowed, StreamLost, TLSError
from pubsub.wire.bosh import NS_BOSH, open_bosh
from tests.visitors import BoshVisitor

pytestmark = pytest.mark.usefixtures("xmpp_settings")

PING = '<iq xmlns="jabber:client" type="get" id="p"><ping xmlns="urn:xmpp:ping"/></iq>'


@pytest.fixture
def ada(db):
    return User.objects.create(pk=5, username="ada")


class Page(BoshVisitor):
    """A page that attaches to a session which was opened for it."""

    def __init__(self, settings, prebound):
        self._url = urlsplit(settings["PUBSUB_BOSH_URL"])
        self._connection = http.client.HTTPConnection(self._url.netloc, timeout=20)
        self.jid, self.sid, self._rid = prebound
        self._rid -= 1  # it counts before it asks

    def ping(self):
        return self._request(PING).get("type")


def goes_on(stack, prebound):
    page = Page(stack.settings, prebound)
    try:
        return page.ping() == "result"
    finally:
        page.say_goodbye()


def test_a_page_goes_on_with_the_session_of_a_user(stack, ada):
    prebound = prebind(ada)
    assert prebound.jid.startswith("5@users.localhost/page-")
    assert goes_on(stack, prebound)


@pytest.mark.parametrize("user", [None, AnonymousUser()])
def test_a_page_goes_on_with_the_session_of_a_guest(stack, user):
    prebound = prebind(user)
    assert prebound.jid.startswith("guest-")
    assert "@guests.localhost/" in prebound.jid
    assert goes_on(stack, prebound)


def test_no_two_guests_have_one_name():
    assert prebind().jid.partition("@")[0] != prebind().jid.partition("@")[0]


def test_asynchronous_views_prebind_too(stack, transactional_db, ada):
    assert goes_on(stack, async_to_sync(aprebind)(ada))


def test_the_thread_of_an_asynchronous_view_keeps_no_connection(
    settings, db, tmp_path, monkeypatch
):
    with contextlib.closing(sqlite3.connect(tmp_path / "db")) as copy:
        connections["default"].connection.backup(copy)
    monkeypatch.setitem(connections.settings["default"], "NAME", tmp_path / "db")
    settings.PUBSUB_PREBIND_URL = "nowhere"

    def connection():
        return connections["default"].connection

    async def view():
        in_thread = sync_to_async(connection, thread_sensitive=False)
        request_user = SimpleLazyObject(lambda: User.objects.create(pk=5))  # in the thread
        with pytest.raises(ConnectError):
            await aprebind(request_user)
        return request_user.pk, await in_thread()

    assert asyncio.run(view()) == (5, None)


def test_while_the_server_has_the_key_before_users_get_in_with_that(settings, ada):
    settings.PUBSUB_JWT_KEY_FALLBACKS = [settings.PUBSUB_JWT_KEY]
    settings.PUBSUB_JWT_KEY = "the secret of tomorrow, which nobody has told ejabberd"
    assert prebind(ada).jid.startswith("5@")


def test_a_key_that_the_server_does_not_know_lets_nobody_in(settings, ada):
    settings.PUBSUB_JWT_KEY = "the secret of tomorrow, which nobody has told ejabberd"
    with pytest.raises(AuthenticationError, match=r"cannot log in as 5@users\.localhost"):
        prebind(ada)


def test_a_user_who_is_not_active_is_not_logged_in(ada):
    User.objects.update(is_active=False)
    with pytest.raises(NotAllowed, match="not active"):
        prebind(ada)


def test_whoever_stays_asks_and_hears_over_the_session(stack):
    session = open_bosh(conf.prebind_url, "guests.localhost", "a-guest", "any password")
    assert session.request(PING).getAttr("type") == "result"
    session.request(
        f'<iq xmlns="jabber:client" type="get" id="d" to="{conf.pubsub_host}">'
        '<query xmlns="http://jabber.org/protocol/disco#info"/></iq>'
    )
    session.close()
    with pytest.raises((StreamLost, ConnectError)):
        session.request(PING)


def test_an_unknown_host_opens_no_session():
    with pytest.raises((StreamLost, ConnectError)):
        open_bosh(conf.prebind_url, "nobody.example", "a", "b")


def test_a_wrong_password_is_refused():
    with pytest.raises(AuthenticationError, match="not-authorized"):
        open_bosh(conf.prebind_url, "users.localhost", "alice", "a guess")


def test_a_name_that_plain_cannot_carry_is_refused():
    with pytest.raises(AuthenticationError, match="PLAIN cannot carry"):
        open_bosh(conf.prebind_url, "guests.localhost", "a\0b", "b")


def test_where_nobody_listens_the_error_says_so(settings):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings.PUBSUB_PREBIND_URL = f"http://127.0.0.1:{port}/http-bind"
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port}: cannot connect"):
        prebind()


def test_a_server_that_does_not_answer_is_not_waited_for_longer_than_allowed(settings):
    settings.XMPP_TIMEOUT = 0.2
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings.PUBSUB_PREBIND_URL = f"http://127.0.0.1:{listener.getsockname()[1]}/http-bind"
        with pytest.raises(ConnectError, match="no answer within"):
            prebind()


@pytest.mark.parametrize("path", ["/", "/ws", "/nothing"])
def test_an_address_where_no_bosh_is_is_told(stack, settings, path):
    settings.PUBSUB_PREBIND_URL = conf.prebind_url.replace("/http-bind", path)
    with pytest.raises(ConnectError, match=r"HTTP \d+"):
        prebind()


@pytest.mark.parametrize("url", ["ws://localhost/ws", "/http-bind", "http://[", "http://a:b/", ""])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConnectError, match="no address"):
        open_bosh(url, "guests.localhost", "a", "b")


def test_no_password_goes_to_another_machine_in_the_clear(monkeypatch):
    monkeypatch.setattr("pubsub.wire.posting.is_loopback", lambda peer: False)
    with pytest.raises(TLSError, match="nothing was sent"):
        open_bosh(conf.prebind_url, "guests.localhost", "a", "b")


def test_a_peer_without_tls_where_it_was_asked_for_hears_nothing():
    url = conf.prebind_url.replace("http://", "https://")
    with pytest.raises(TLSError, match="TLS failed"):
        open_bosh(url, "guests.localhost", "a", "b")


@contextlib.contextmanager
def answering(*answers, heard=None):
    """A server of HTTP that answers what it is told to, and notes what it has heard."""
    left = list(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            request = self.rfile.read(int(self.headers["Content-Length"]))
            if heard is not None:
                heard.append(request.decode())
            answer = left.pop(0)
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/http-bind"
        finally:
            server.shutdown()
            thread.join()


def body(children="", attributes='sid="s"', mechanism="X"):
    features = (
        "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
        f"<mechanism>{mechanism}</mechanism></mechanisms>"
    )
    children = children or f"<features>{features}</features>"
    return f'<body xmlns="{NS_BOSH}" {attributes}>{children}</body>'.encode()


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ([b"nonsense"], ConnectError, "no BOSH"),
        ([b"<html/>"], ConnectError, "no BOSH"),
        ([b""], ConnectError, "no BOSH"),
        ([b'<!DOCTYPE body [<!ENTITY a "a">]><body/>'], ConnectError, "document type"),
        ([body("<features/>", "")], ConnectError, "opened no session"),
        ([body("<message/>")], ConnectError, "where <features/> was due"),
        ([body()], AuthenticationError, "does not offer PLAIN .*, but X"),
        ([body("", 'type="terminate" condition="host-gone"')], StreamLost, "host-gone"),
        ([b" " * (5 * 1024 * 1024)], ConnectError, "more than"),
    ],
    ids=["text", "html", "empty", "doctype", "no sid", "message", "no plain", "end", "big"],
)
def test_what_is_not_as_it_should_be_ends_the_login(answers, error, words):
    with answering(*answers) as url, pytest.raises(error, match=words):
        open_bosh(url, "guests.localhost", "a", "b", timeout=5)


@pytest.mark.parametrize("answer", [b"nonsense", body("<success/>", 'type="terminate"')])
def test_no_report_of_an_error_shows_what_a_user_logs_in_with(settings, ada, answer):
    heard = []
    with (
        answering(body(mechanism="PLAIN"), answer, heard=heard) as url,
        pytest.raises((ConnectError, StreamLost)) as raised,
    ):
        settings.PUBSUB_PREBIND_URL = url
        prebind(ada)
    error = raised.value.with_traceback(raised.tb.tb_next)  # without this frame
    shown = ExceptionReporter(None, type(error), error, error.__traceback__).get_traceback_html()
    assert "_authenticate" in shown
    sent = heard[1].partition('mechanism="PLAIN">')[2].partition("<")[0]
    token = base64.b64decode(sent).decode().rpartition("\0")[2]
    assert token.startswith("eyJ")
    assert sent[:40] not in shown
    assert token[:40] not in shown
