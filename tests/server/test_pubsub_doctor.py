"""manage.py pubsub_doctor: passes where all is well, and finds what was broken on purpose."""

import io
import json
import signal
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import trustme
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from pubsub import nodes, pubsub, rules
from pubsub.devstack import Stack
from pubsub.doctor import EXAMINATIONS, encryption, guarding
from pubsub.doctor.site import FOLDER
from pubsub.models import OutboxItem
from tests.proxy import Proxy
from tests.server.ailing import EXPIRED, WITHOUT, Ailing, replaced, urls_that_answer
from tests.server.processes import managing, settings_file
from tests.testapp.models import Author
from tests.visitors import WebSocketVisitor
from tests.waiting import until

PATIENCE = 60.0

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """ejabberd and nginx as they are shipped; nobody answers behind nginx for Django."""
    with Stack(tmp_path_factory.mktemp("well"), nginx=True) as stack:
        yield stack


@pytest.fixture(scope="module")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ailing]:
    with Ailing(tmp_path_factory.mktemp("ill"), nginx=True, sessions=False) as stack:
        yield stack


def address(stack: Stack) -> str:
    """Where browsers find it: nginx, or ejabberd itself where there is none."""
    return f"http://127.0.0.1:{stack.ports.nginx if stack.with_nginx else stack.ports.http}/"


def examine(stack: Stack, *names: str, url: str = "", **settings: Any) -> tuple[int, str]:
    """The exit code of some examinations, and the words of their report, all on one line."""
    output = io.StringIO()
    code = 0
    words = ["--only", *names] if names else []
    with override_settings(**{**stack.settings, **settings}):
        try:
            at = f"--url={url or address(stack)}"
            call_command("pubsub_doctor", at, *words, stdout=output, stderr=output)
        except SystemExit as error:
            code = int(str(error.code))
    return code, " ".join(output.getvalue().split())


def left(stack: Stack) -> list[str]:
    """The nodes of the doctor's that are on the server."""
    with override_settings(**stack.settings):
        return [name for name in nodes.names().result(10) if name.startswith(FOLDER)]


def assert_dead_ones_are_counted(stack: Stack) -> None:
    with override_settings(**stack.settings):
        nodes.create("/doctor/dead").result(10)
        try:
            jids = {f"gone@guests.localhost/{number}": "subscribed" for number in range(3)}
            nodes.set_subscriptions("/doctor/dead", jids).result(10)
            code, words = examine(stack, "subscriptions")
        finally:
            nodes.delete("/doctor/dead").result(10)
    assert code == 0
    assert "subscriptions warning 3 subscriptions belong to sessions that have ended" in words
    assert "Restart ejabberd with mod_pubsub_guard" in words


def test_it_reports_in_json_to_programs_and_in_words_beside(stack: Stack, tmp_path: Path) -> None:
    environment = settings_file(tmp_path, {**stack.settings, "PUBSUB_BOSH_URL": "/http-bind"})
    words = ["pubsub_doctor", "--json", "--only", "canary", "bosh"]
    with managing(environment, *words) as process:
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    found = {result["name"]: result for result in json.loads(output)}
    needed = ["backend", "tls", "login", "service", "publisher", "guests"]
    assert list(found) == [*needed, "bosh", "canary"]
    assert set(found["canary"]) == {"name", "outcome", "seen", "why", "remedy", "seconds"}
    assert found["canary"]["outcome"] == "ok"
    assert "ms from publishing to a guest over BOSH (median of 5)" in found["canary"]["seen"]
    assert found["bosh"]["outcome"] == "skipped"
    assert "say whose, with --url" in found["bosh"]["seen"]
    assert "8 examinations: 7 ok, 1 skipped" in errors


def test_ctrl_c_leaves_no_node_behind(stack: Stack, tmp_path: Path) -> None:
    def swallow(link: Any, data: bytes) -> bytes:
        return b"" if b"<subscribe" in link.received else data

    with Proxy(stack.ports.http, rewrite=swallow) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/http-bind"
        environment = settings_file(tmp_path, {**stack.settings, "PUBSUB_PREBIND_URL": url})
        with managing(environment, "pubsub_doctor", "--only", "canary") as process:
            until(lambda: proxy.count(b"<subscribe"), "the canary waits")
            assert len(left(stack)) == 1
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, "Interrupted.\n"), output
    assert left(stack) == []


def test_it_ends_quietly_when_nobody_reads_on(stack: Stack, tmp_path: Path) -> None:
    environment = settings_file(tmp_path, stack.settings)
    with managing(environment, "pubsub_doctor", "--only", "canary") as process:
        assert process.stdout is not None
        process.stdout.close()
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (1, "")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--only", "health"], "no examination 'health'; there are: backend, checks, tls,"),
        (["--url", "example.org"], "'example.org' is no address of the form https://your.site/"),
    ],
)
def test_wrong_usage_exits_with_2(tmp_path: Path, words: list[str], error: str) -> None:
    with managing(settings_file(tmp_path, {}), "pubsub_doctor", *words) as process:
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (2, "")
    assert error in errors


def test_the_names_of_all_examinations_are_listed() -> None:
    output = io.StringIO()
    call_command("pubsub_doctor", "--list", stdout=output)
    assert [line.split()[0] for line in output.getvalue().splitlines()] == [
        examination.name for examination in EXAMINATIONS
    ]


def test_without_a_server_there_is_a_warning_and_nothing_to_examine(stack: Stack) -> None:
    code, words = examine(stack, "canary", PUBSUB_BACKEND="pubsub.backends.dummy.DummyBackend")
    assert code == 0
    assert "talks to no server Why: No page hears of anything" in words
    assert "canary skipped it needs 'publisher', which was skipped" in words


def test_errors_of_djangos_checks_are_found(stack: Stack) -> None:
    code, words = examine(stack, "checks", PUBSUB_BOSH_URL="", PUBSUB_WEBSOCKET_URL="")
    assert code == 1
    assert "pubsub.E010: Neither PUBSUB_BOSH_URL nor PUBSUB_WEBSOCKET_URL is set." in words


def test_a_domain_that_is_not_there_is_found(stack: Stack) -> None:
    code, words = examine(stack, "tls", XMPP_JID="django@example.org")
    assert code == 1
    assert "knows no host 'example.org'" in words
    assert "Mend the domain of XMPP_JID = 'django@example.org', or list it in" in words


def test_an_unknown_authority_is_found(stack: Stack, tmp_path: Path) -> None:
    other = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    code, words = examine(stack, "tls", XMPP_CA_FILE=str(other))
    assert code == 1
    assert "Do: Set XMPP_CA_FILE to a PEM file with the certificate of the authority" in words


def test_a_server_that_is_not_there_is_found(stack: Stack) -> None:
    code, words = examine(stack, "canary", XMPP_PORT=1)
    assert code == 1
    assert "XMPP server 127.0.0.1:1: cannot connect" in words
    assert "Is ejabberd running, and does it listen there" in words
    assert "canary skipped" in words


def test_tls_from_the_first_byte_is_examined_as_well(stack: Stack) -> None:
    code, words = examine(stack, "login", XMPP_PORT=stack.ports.xmpp_tls, XMPP_TLS="direct")
    assert (code, f"127.0.0.1:{stack.ports.xmpp_tls} proves to be" in words) == (0, True), words


def test_a_certificate_that_ends_soon_is_warned_of(stack: Stack) -> None:
    with patch.object(encryption, "SOON", 10_000):
        code, words = examine(stack, "tls")
    assert code == 0
    assert "tls warning the certificate of localhost, guests.localhost, users" in words
    assert "Renew what ejabberd.yml names under `certfiles:`" in words


def test_a_stream_without_tls_is_told_from_one_to_another_machine(stack: Stack) -> None:
    code, words = examine(stack, "login", XMPP_TLS="off")
    assert code == 1
    assert "tls ok XMPP_TLS = 'off': not encrypted, but 127.0.0.1:" in words
    assert "login failure" in words
    assert "it lets nobody log in without TLS" in words
    code, words = examine(stack, "tls", "checks", XMPP_TLS="off", XMPP_HOST="192.0.2.1")
    assert code == 1
    assert "pubsub.E005: XMPP_TLS = 'off' would send the password to 192.0.2.1" in words
    assert "tls failure XMPP_TLS = 'off' towards 192.0.2.1:" in words
    assert "Do: Remove XMPP_TLS" in words


def test_a_service_that_is_not_there_is_found(stack: Stack) -> None:
    code, words = examine(stack, "service", XMPP_PUBSUB_HOST="pubsub.example.org")
    assert code == 1
    assert "service failure XMPP_PUBSUB_HOST = 'pubsub.example.org': the server refused" in words
    assert "`modules: mod_pubsub: hosts:` must list that name" in words


def test_a_host_that_turns_guests_away_is_found(stack: Stack) -> None:
    code, words = examine(stack, "rights", PUBSUB_GUEST_DOMAIN="localhost")
    assert code == 1
    assert "turns a guest of 'localhost' away: cannot log in" in words
    assert "`anonymous_protocol: login_anon`" in words
    assert "rights skipped it needs 'guests', which failed" in words


def test_nodes_that_everybody_may_publish_on_are_found(stack: Stack) -> None:
    code, words = examine(stack, "rights", "users", PUBSUB_NODE_DEFAULTS={"publish_model": "open"})
    assert code == 1
    assert words.count("can publish on our nodes") == 2
    assert "neither PUBSUB_NODE_DEFAULTS nor ejabberd.yml" in words


def test_a_key_that_differs_from_ejabberds_is_found(stack: Stack) -> None:
    key = "another secret, which has as many bytes as it must"
    code, words = examine(stack, "forgery", PUBSUB_JWT_KEY=key)
    assert code == 1
    assert "a token that is signed with PUBSUB_JWT_KEY is refused: cannot log in" in words
    assert "Do: Write what `manage.py pubsub_key` prints into the file" in words
    assert "forgery skipped it needs 'tokens', which failed" in words
    fallbacks = [stack.settings["PUBSUB_JWT_KEY"]]
    code, words = examine(stack, "tokens", PUBSUB_JWT_KEY=key, PUBSUB_JWT_KEY_FALLBACKS=fallbacks)
    assert code == 0
    assert "tokens warning ejabberd has the key of PUBSUB_JWT_KEY_FALLBACKS[0]" in words


def test_a_host_that_takes_any_password_for_a_token_is_found(stack: Stack) -> None:
    code, words = examine(stack, "forgery", PUBSUB_USER_DOMAIN="guests.localhost")
    assert code == 1
    for forged in ("a token of another key", "(alg: none)", "an expired token", "another user's"):
        assert f"{forged} lets " in words or f"{forged} token lets " in words
    assert "`auth_method:` of that host lists jwt and internal only" in words


def test_pages_of_other_sites_that_get_in_are_found(stack: Stack) -> None:
    ejabberd = f"127.0.0.1:{stack.ports.http}"  # past nginx, which looks at the origin
    websocket, bosh = f"ws://{ejabberd}/ws", f"http://{ejabberd}/http-bind"
    code, words = examine(stack, "origin", PUBSUB_WEBSOCKET_URL=websocket, PUBSUB_BOSH_URL=bosh)
    assert code == 1
    assert f"{websocket} and {bosh} serve a page of https://pubsub-doctor.invalid, too" in words
    assert "`if ($foreign_origin) { return 403; }`" in words


def test_pages_of_other_sites_that_get_in_by_the_only_way_are_found(stack: Stack) -> None:
    bosh = f"http://127.0.0.1:{stack.ports.http}/http-bind"
    code, words = examine(stack, "origin", PUBSUB_WEBSOCKET_URL="", PUBSUB_BOSH_URL=bosh)
    assert (code, f"{bosh} serve a page of" in words) == (1, True), words


@pytest.mark.parametrize("status", [302, 429, 502])
def test_only_who_forbids_counts_as_refusing(live_server: Any, stack: Stack, status: int) -> None:
    code, words = examine(
        stack,
        "origin",
        ROOT_URLCONF=urls_that_answer(status),
        PUBSUB_WEBSOCKET_URL=f"{live_server.url}/pubsub/credentials/",
        PUBSUB_BOSH_URL=f"{live_server.url}/pubsub/credentials/",
    )
    assert (code, words.count(f"status {status}")) == (0, 2), words
    assert "origin skipped it is not seen whether a page of" in words


@pytest.mark.urls("tests.server.ailing")
def test_the_view_of_credentials_is_examined(live_server: Any, stack: Stack) -> None:
    code, words = examine(stack, "credentials", url=live_server.url)
    assert code == 0
    assert f"credentials ok {live_server.url}/pubsub/credentials/ gives none to" in words


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        (urls_that_answer(200), "gives credentials to somebody who is not logged in"),
        (urls_that_answer(401), "answers with Cache-Control: ''"),
        (
            urls_that_answer(401, **{"Cache-Control": "no-store"}),
            "answers a page of https://pubsub-doctor.invalid with status 401 where 403 was due",
        ),
    ],
)
def test_credentials_that_others_get_are_found(
    live_server: Any, stack: Stack, urls: type, words: str
) -> None:
    code, report = examine(stack, "credentials", url=live_server.url, ROOT_URLCONF=urls)
    assert (code, words in report) == (1, True), report


def test_silence_ends_each_examination_in_time(stack: Stack) -> None:
    with Proxy(stack.ports.http) as silent:
        silent.freeze()
        front = f"http://127.0.0.1:{silent.port}/"
        start = time.monotonic()
        code, words = examine(
            stack,
            *("tls", "guests", "tokens", "bosh", "websocket", "paths"),
            XMPP_PORT=silent.port,
            XMPP_TIMEOUT=0.2,
            PUBSUB_PREBIND_URL=f"{front}http-bind",
            PUBSUB_BOSH_URL=f"{front}http-bind",
            PUBSUB_WEBSOCKET_URL=f"ws://127.0.0.1:{silent.port}/ws",
        )
        assert time.monotonic() - start < 10
    assert code == 1
    assert words.count("timed out") == 2, words
    assert words.count("no answer within 0.2 s") == 3, words


@pytest.mark.parametrize(
    ("seconds", "code", "outcome"), [(0, 0, "ok"), (5, 0, "warning"), (-45, 1, "failure")]
)
def test_clocks_that_differ_are_found(
    stack: Stack, seconds: float, code: int, outcome: str
) -> None:
    with patch.object(guarding, "now", lambda: time.time() + seconds):
        found, words = examine(stack, "clock")
    assert (found, f"clock {outcome}" in words) == (code, True), words
    if seconds:
        word = "behind" if seconds > 0 else "ahead of"
        assert f"s {word} Django's Why: " in words
        assert "Do: Let both machines keep time" in words


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_rows_that_wait_for_no_relay_are_found(stack: Stack) -> None:
    backend = "pubsub.backends.outbox.OutboxBackend"
    code, words = examine(stack, "outbox", "canary", PUBSUB_BACKEND=backend)
    assert code == 0
    assert "backend ok" in words
    assert "a relay sends by 'pubsub.backends.xmpp.XMPPBackend'" in words
    assert "canary ok" in words
    assert "outbox ok 'default': 0 waiting" in words
    row = OutboxItem(lane=1, node="/x", item_id="1", event="created", payload="<entry/>")
    row.at = timezone.now() - timedelta(minutes=5)
    row.save()
    code, words = examine(stack, "outbox", PUBSUB_BACKEND=backend)
    assert code == 1
    assert "'default': 1 waiting, 0 later, 0 set aside; lag 30" in words
    assert "Start `manage.py pubsub_relay`" in words


# With nginx in front, all of it as it is shipped


def test_a_good_installation_passes_and_nothing_is_left_on_it(well: Stack) -> None:
    code, words = examine(well)
    assert code == 0, words
    assert "failure" not in words
    # Without mod_pubsub_sessions all is well as well, and that is said.
    off = 0 if well.with_sessions else 1
    assert (words.count("warning"), words.count("fanout warning")) == (2 * off, off)
    assert f"{len(EXAMINATIONS)} examinations: {len(EXAMINATIONS) - 2 - off} ok, 2 skipped" in words
    for skipped in ("no outbox", "pubsub.urls is not included"):
        assert skipped in words
    assert left(well) == []


def test_a_wrong_password_is_found_and_hides_nothing_else(well: Stack) -> None:
    code, words = examine(well, XMPP_PASSWORD="wrong")
    assert code == 1
    assert "login failure 'django@localhost' does not get in: cannot log in as" in words
    assert "Compare XMPP_JID and XMPP_PASSWORD with ejabberd's account (ejabberdctl" in words
    assert "service skipped it needs 'login', which failed" in words
    assert "websocket ok" in words
    assert words.endswith("failed: login.")


def test_a_front_over_tls_is_examined_and_verified(
    well: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    names = ("bosh", "holding", "websocket", "origin", "paths")
    with Proxy(well.ports.nginx, client_tls=context) as front:
        url = f"https://127.0.0.1:{front.port}/"
        code, words = examine(well, *names, url=url)
        assert code == 1
        assert words.count("certificate verify failed") == 5  # 'origin' tells of both
        assert "does its certificate name it? For an authority of your own set" in words
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        code, words = examine(well, *names, url=url)
    assert code == 0, words
    assert f"wss://127.0.0.1:{front.port}/ws opens a guest's stream for pages of" in words
    assert "holding ok" in words


def test_a_front_that_answers_to_any_name_is_warned_of(well: Stack) -> None:
    path = well.folder / "site.conf"
    shipped = path.read_text(encoding="utf-8")
    well.nginx.stop()
    try:
        any_name = replaced(shipped, {" localhost;": " localhost pubsub-doctor.invalid;"})
        path.write_text(any_name, encoding="utf-8")
        well.nginx.start()
        code, words = examine(well, "origin")
        well.nginx.stop()
    finally:
        path.write_text(shipped, encoding="utf-8")
        well.nginx.start()
    assert code == 0
    ways = " and ".join(f"http://127.0.0.1:{well.ports.nginx}/{way}" for way in ("ws", "http-bind"))
    assert f"origin warning {ways} serve whoever calls the server pubsub-doctor.invalid" in words
    assert "`default_server` and `return 444;`" in words


@pytest.mark.urls("tests.server.ailing")
def test_credentials_that_are_not_to_be_had_are_found(well: Stack) -> None:
    code, words = examine(well, "credentials")  # nginx has no Django behind it
    assert code == 1
    assert f"{address(well)}pubsub/credentials/ answers with status 502" in words
    assert "where 401 was due" in words


def test_private_nodes_that_are_open_are_found(well: Stack) -> None:
    with override_settings(**well.settings):
        pubsub.register(Author, node=["/doctor/a", "/doctor/b"], access="private")
        try:
            nodes.create("/doctor/a").result(10)
            nodes.create("/doctor/b", access_model="open", publish_model="open").result(10)
            code, words = examine(well, "access")
            call_command("pubsub_sync", stdout=io.StringIO())
            mended, _ = examine(well, "access")
        finally:
            for node in ("/doctor/a", "/doctor/b"):
                nodes.delete(node).exception(10)
            pubsub.unregister(Author)
    assert code == 1
    assert "access failure '/doctor/b' should be private, and the server lets everybody" in words
    assert "'/doctor/b' takes items from others than the publisher" in words
    assert "Run `manage.py pubsub_sync`" in words
    assert mended == 0


def test_nodes_that_a_rule_decides_about_and_that_are_open_are_found(well: Stack) -> None:
    def nobody(user: Any, pk: int) -> bool:
        return False

    node = "/doctor/rule/1"
    with override_settings(**well.settings):
        nodes.create(node, access_model="open").result(10)
    rules.authorize("/doctor/rule/<int:pk>")(nobody)
    try:
        with override_settings(**well.settings):
            code, words = examine(well, "access")
            nodes.configure(node, access_model="whitelist").result(10)  # as it says
            mended, _ = examine(well, "access")
            nodes.delete(node).result(10)
    finally:
        rules.withdraw(nobody)
    assert (code, mended) == (1, 0)
    assert f"access failure '{node}' should be private" in words
    assert f"nodes.configure('{node}', access_model='whitelist')" in words


def test_how_many_sessions_are_served_the_quick_way_is_told(well: Stack) -> None:
    node = "/doctor/served"
    with override_settings(**well.settings):
        nodes.create(node).result(10)
        direct = {"PUBSUB_WEBSOCKET_URL": f"ws://127.0.0.1:{well.ports.http}/ws"}
        visitor = WebSocketVisitor({**well.settings, **direct}, node)
        try:
            code, words = examine(well, "fanout")
        finally:
            visitor.vanish()
            nodes.delete(node).result(10)
    assert code == 0
    assert ("subscriptions that it serves: 1, of nodes: 1" in words) is well.with_sessions, words


def test_subscriptions_of_the_dead_are_counted(well: Stack) -> None:
    assert_dead_ones_are_counted(well)


# Broken on the server


def test_a_front_without_bosh_and_websocket_is_found(ill: Ailing) -> None:
    code, words = examine(ill, "bosh", "websocket", "origin")
    assert code == 1
    assert "/http-bind answers with status 404" in words
    assert "In nginx.conf, `location = /http-bind { proxy_pass http://ejabberd; … }`" in words
    assert "/ws does not become a WebSocket: status 404" in words
    assert '`Upgrade $http_upgrade` and `Connection "upgrade"`' in words
    assert "origin skipped it is not seen whether a page of" in words
    assert "/ws: status 404" in words


def test_paths_of_ejabberd_that_are_open_are_found(ill: Ailing) -> None:
    code, words = examine(ill, "paths")
    assert code == 1
    assert f"ejabberd itself answers at {address(ill)}admin/" in words
    assert "pass on `location = /http-bind` and `location = /ws` only" in words


def test_guests_who_may_create_nodes_are_found_and_own_none(ill: Ailing) -> None:
    code, words = examine(ill, "creating")
    assert code == 1
    assert "may create nodes Why: Whoever makes a node before Django does owns it" in words
    assert "under mod_pubsub: `access_createnode: publisher`" in words
    assert left(ill) == []


def test_an_expired_certificate_is_found(ill: Ailing) -> None:
    code, words = examine(
        ill, "tls", XMPP_JID=f"django@{EXPIRED}", XMPP_CA_FILE=str(ill.expired_authority)
    )
    assert code == 1
    assert f"shows a certificate made out to '{EXPIRED}', signed by 'trustme" in words
    assert "certificate has expired" in words
    assert "Do: Renew what ejabberd.yml names under `certfiles:`." in words


def test_a_certificate_of_another_name_is_found(ill: Ailing) -> None:
    code, words = examine(ill, "tls", XMPP_JID=f"django@{WITHOUT}")
    assert code == 1
    assert "shows a certificate made out to 'localhost', 'guests.localhost'," in words
    assert f"certificate is not valid for '{WITHOUT}'" in words
    assert f"Do: Give ejabberd a certificate of '{WITHOUT}' (ejabberd.yml, `certfiles:`)" in words


def test_a_server_that_offers_plain_only_is_warned_of(ill: Ailing) -> None:
    code, words = examine(ill, "login")
    assert code == 0
    assert "login warning 'django@localhost' logs in by PLAIN only" in words


def test_without_the_guard_it_is_said_what_is_lost(ill: Ailing) -> None:
    code, words = examine(ill, "guard", "neighbours", "database")
    assert code == 1
    assert "no guard answers at 'users.localhost': the server refused with" in words
    assert "Compile deploy/ejabberd/mod_pubsub_guard.erl and pubsub_*.erl beside it" in words
    assert "what a guest sends to another one arrives: iq, message, presence" in words
    assert "database skipped it needs 'guard', which failed" in words


def test_without_the_module_that_serves_sessions_it_is_said_what_that_costs(ill: Ailing) -> None:
    code, words = examine(ill, "fanout")
    assert code == 0
    assert "fanout warning mod_pubsub_sessions is off: at 'sessions.pubsub.localhost'" in words
    assert "each delivery costs it several times as much (docs/performance.rst has" in words
    assert "Compile deploy/ejabberd/mod_pubsub_sessions.erl and pubsub_*.erl beside it" in words


def test_without_the_guard_the_clock_is_read_from_an_item(ill: Ailing) -> None:
    code, words = examine(ill, "clock")
    assert (code, "clock ok ejabberd's clock and Django's agree" in words) == (0, True), words


def test_without_the_guard_subscriptions_of_the_dead_are_counted_all_the_same(ill: Ailing) -> None:
    assert_dead_ones_are_counted(ill)
