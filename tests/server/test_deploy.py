"""What the files in deploy/ forbid to visitors, asked from the servers that they configure."""

import json
import re
import shutil
import ssl
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPSConnection, RemoteDisconnected
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from websockets.exceptions import InvalidStatus
from websockets.sync.client import unix_connect

from pubsub.devstack import Child, Stack, StackError
from pubsub.devstack.processes import listening
from tests.server import erlang
from tests.visitors import WebSocketStream, auth
from tests.waiting import until

CLIENT = Path(__file__).parents[2] / "media" / "strophe" / "dist"

#: Addresses of visitors; the stack's own, 127.0.0.1, has rights that no visitor has.
VISITOR, GUESSER, CROWD = "127.0.0.2", "127.0.0.3", "127.0.0.4"
RUSH, HURRY = "127.0.0.5", "127.0.0.6"
#: Where nginx itself listens, too.
ENCRYPTED = "127.0.0.7"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Site(Stack):
    """A stack whose nginx lets an address ask for less over BOSH than this machine can ask for.

    At ENCRYPTED it ends TLS itself.
    """

    def prepare(self) -> None:
        super().prepare()
        path = self.folder / "site.conf"
        text = path.read_text(encoding="utf-8")
        plain = f"listen 127.0.0.1:{self.ports.nginx};"
        over_tls = f"listen {ENCRYPTED}:{self.ports.nginx} ssl; ssl_certificate server.pem;"
        for word, other in (
            ("rate=300r/s", "rate=20r/s"),
            ("burst=1000", "burst=200"),
            ("server_name 127.0.0.1 ", f"server_name 127.0.0.1 {ENCRYPTED} "),
            (plain, f"{plain} {over_tls} ssl_certificate_key server.pem;"),
        ):
            assert word in text
            text = text.replace(word, other)
        path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """nginx, ejabberd and a Django site behind it."""
    folder = tmp_path_factory.mktemp("site")
    checkout = Path(__file__).parents[2]
    with Site(folder, nginx=True) as stack:
        django = Child(
            "django",
            [sys.executable, "-m", "django", "runfcgi", "--skip-checks", "daemonize=false"]
            + [f"socket={stack.fastcgi_socket}"],
            folder=checkout,
            environment={
                "DJANGO_SETTINGS_MODULE": "tests.server.fcgi_site",
                "FCGI_SITE_FOLDER": str(folder),
            },
            banner="Serving",
            ready=lambda: True,
        )
        with django:
            yield stack


def websocket(site: Stack, domain: str, address: str) -> WebSocketStream:
    return WebSocketStream(f"ws://127.0.0.1:{site.ports.nginx}/ws", domain, address)


def greeting(site: Stack, domain: str, address: str) -> str:
    stream = websocket(site, domain, address)
    stream.vanish()
    return stream.greeting


def fetch(site: Stack, path: str, data: bytes | None = None, **headers: str) -> Any:
    """An answer of nginx, once its body has been read into ``body``."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{site.ports.nginx}{path}",
        data=data,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    with DIRECT.open(request, timeout=20) as response:
        response.body = response.read()
        return response


@contextmanager
def asking(site: Stack, address: str) -> Iterator[Callable[..., int]]:
    """A function that asks for a path, from an address, and returns the status of the answer."""
    with closing(
        HTTPConnection("127.0.0.1", site.ports.nginx, timeout=20, source_address=(address, 0))
    ) as connection:

        def ask(path: str, origin: str = "") -> int:
            connection.request("GET", path, headers={"Origin": origin} if origin else {})
            with connection.getresponse() as response:
                response.read()
                return response.status

        yield ask


def test_a_guest_reaches_no_other_server(site: Stack) -> None:
    guest = websocket(site, "guests.localhost", VISITOR)
    guest.log_in("guest")
    ping = '<ping xmlns="urn:xmpp:ping"/>'
    for stanza in (
        '<message xmlns="jabber:client" to="x@127.0.0.1" id="m"><body>hello</body></message>',
        f'<iq xmlns="jabber:client" to="127.0.0.1" id="i" type="get">{ping}</iq>',
    ):
        answer = ET.fromstring(guest.ask(stanza))
        # Any other error would come from an attempt to get there.
        assert answer.find(f".//{STANZAS}forbidden") is not None, ET.tostring(answer)
    guest.vanish()


def test_the_publisher_logs_in_from_his_machine_only(site: Stack) -> None:
    password = site.settings["XMPP_PASSWORD"]
    visitor = websocket(site, "localhost", VISITOR)
    assert visitor.log_in("django", password).find(f".//{STANZAS}not-allowed") is not None
    visitor.vanish()
    here = websocket(site, "localhost", "127.0.0.1")
    assert here.log_in("django", password).get("type") == "result"
    here.vanish()


class AtSocket(WebSocketStream):
    """A stream by ejabberd's unix socket, of somebody who is not nginx."""

    def _connect(self, url: str, address: str | None) -> None:
        self._stack = ExitStack()
        quiet = unix_connect(url, "ws://localhost/ws", subprotocols=["xmpp"], ping_interval=None)
        self._socket = self._stack.enter_context(quiet)


def test_who_comes_by_the_socket_without_nginx_is_any_visitor(site: Stack) -> None:
    guest = AtSocket(str(site.http_socket), "guests.localhost")
    assert guest.log_in("guest").get("type") == "result"
    guest.vanish()
    publisher = AtSocket(str(site.http_socket), "localhost")
    answer = publisher.log_in("django", site.settings["XMPP_PASSWORD"])
    assert answer.find(f".//{STANZAS}not-allowed") is not None
    publisher.vanish()


def configure(stack: Stack, **options: Any) -> None:
    """Give options of ejabberd's other values; HTTP_IP is a macro."""
    path = stack.folder / "ejabberd.yml"
    config = json.loads(path.read_text(encoding="utf-8"))
    if ip := options.pop("HTTP_IP", ""):
        config["define_macro"]["HTTP_IP"] = ip
    (included,) = config["include_config_file"].values()
    included["disallow"] += options
    path.write_text(json.dumps(config | options), encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"HTTP_IP": "0.0.0.0"}, r"port \d+: trusted_proxies is `all`"),
        ({"HTTP_IP": "::"}, r"port \d+: trusted_proxies is `all`"),
        ({"trusted_proxies": ["192.0.2.1"]}, r"at unix:http.sock: trusted_proxies names addresses"),
    ],
)
def test_a_server_that_would_believe_the_wrong_ones_does_not_start(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    stack = Stack(tmp_path)
    try:
        stack.prepare()
        configure(stack, **options)
        with pytest.raises(StackError, match=words):
            stack.ejabberd.start()
    finally:
        stack.stop()


def test_a_reload_after_which_other_machines_would_be_believed_closes_the_port(
    tmp_path: Path,
) -> None:
    port = erlang.free_port()
    stack = Stack(tmp_path, nginx=True)
    with ExitStack() as running:
        running.callback(stack.stop)
        with erlang.distributed("listeners", "127.0.0.8", port):
            stack.start()
        configure(stack, HTTP_IP="0.0.0.0")
        assert erlang.call("listeners@127.0.0.8", port, "ejabberd_config:reload()") == "ok"
        log = stack.folder / "ejabberd.log"
        words = f"port {stack.ports.http}: trusted_proxies is `all`"
        until(lambda: words in log.read_text(encoding="utf-8"), words)
        assert not listening(stack.ports.http)
        assert listening(str(stack.http_socket))


def test_wrong_passwords_shut_an_address_out_of_the_publishers_host(site: Stack) -> None:
    guesser = websocket(site, "localhost", GUESSER)
    for guess in range(4):
        assert "not-authorized" in guesser.ask(auth("django", f"guess {guess}"))
    assert "policy-violation" in guesser.ask(auth("django", "guess 4"))
    guesser.vanish()
    assert "policy-violation" in greeting(site, "localhost", GUESSER)
    assert "mechanisms" in greeting(site, "guests.localhost", GUESSER)
    assert "mechanisms" in greeting(site, "localhost", VISITOR)


def test_wrong_passwords_never_shut_out_the_publishers_machine(site: Stack) -> None:
    for guess in range(6):
        here = websocket(site, "localhost", "127.0.0.1")
        assert "not-authorized" in here.ask(auth("django", f"guess {guess}"))
        here.vanish()


def test_an_address_holds_a_hundred_connections(site: Stack) -> None:
    with ExitStack() as crowd:
        for _ in range(100):
            crowd.callback(websocket(site, "guests.localhost", CROWD).vanish)
        with pytest.raises(InvalidStatus) as refused:
            websocket(site, "guests.localhost", CROWD)
        assert refused.value.response.status_code == 429
        for address in (VISITOR, "127.0.0.1"):
            crowd.callback(websocket(site, "guests.localhost", address).vanish)


@pytest.mark.parametrize("path", ["/ws", "/http-bind"])
def test_pages_of_another_site_reach_no_stream(site: Stack, path: str) -> None:
    host = f"127.0.0.1:{site.ports.nginx}"
    with asking(site, VISITOR) as ask:
        for origin in (
            *["http://evil.example", f"http://{host}.evil.example", f"http://evil.example {host}"],
            *["null", "http://127.0.0.1", host, f"http://evil.example/http://{host}"],
            *[
                f"ftp://{host}",
                f"https://{host}.evil.example",
                f"https://evil.example http://{host}",
            ],
        ):
            assert ask(path, origin) == 403, origin
        # Over https it would have come by a proxy that has ended TLS.
        for own in (f"http://{host}", f"HTTP://{host}", f"https://{host}", ""):
            assert ask(path, own) != 403, own


@pytest.mark.parametrize("path", ["/ws", "/http-bind"])
def test_a_page_that_came_in_the_clear_reaches_no_stream_over_tls(site: Site, path: str) -> None:
    """Anybody on its way could have written it."""
    here = f"{ENCRYPTED}:{site.ports.nginx}"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with closing(
        HTTPSConnection(ENCRYPTED, site.ports.nginx, timeout=20, context=context)
    ) as connection:
        for origin, is_refused in ((f"http://{here}", True), (f"https://{here}", False)):
            connection.request("GET", path, headers={"Origin": origin})
            with connection.getresponse() as response:
                response.read()
                assert (response.status == 403) is is_refused, origin


@pytest.mark.parametrize("path", ["/ws", "/http-bind", "/", "/static/a.js"])
@pytest.mark.parametrize("name", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example"])
def test_by_a_name_that_is_not_the_sites_nothing_is_answered(
    site: Site, name: str, path: str
) -> None:
    """Whoever makes it lead here has pages of the same origin (DNS rebinding)."""
    host = name.format(port=site.ports.nginx)
    with closing(HTTPConnection("127.0.0.1", site.ports.nginx, timeout=20)) as connection:
        connection.request("GET", path, headers={"Host": host, "Origin": f"http://{host}"})
        with pytest.raises(RemoteDisconnected):
            connection.getresponse()


@pytest.mark.parametrize(
    ("path", "burst"), [("/ws", 200), ("/http-bind", 200), ("/pubsub/credentials/", 400)]
)
def test_an_address_that_asks_too_often_is_refused(site: Stack, path: str, burst: int) -> None:
    with asking(site, RUSH) as ask:
        asked = next(number for number in range(5 * burst) if ask(path) == 429)
        assert asked > burst
    with asking(site, VISITOR) as ask:
        assert ask(path) != 429


def test_of_djangos_pages_only_those_that_give_access_are_counted(site: Stack) -> None:
    with asking(site, HURRY) as ask:
        next(number for number in range(2000) if ask("/pubsub/authorize/") == 429)
        assert ask("/pubsub/credentials/") == 429
        assert 429 not in {ask("/pubsub/credentials/other/"), ask("/")}


def test_a_long_bosh_request_is_not_read(site: Stack) -> None:
    with pytest.raises(urllib.error.HTTPError, match="413") as refused:
        fetch(site, "/http-bind", data=b"<body>" + bytes(1024 * 1024))
    refused.value.close()


def test_pages_are_not_compressed_and_scripts_are(site: Stack) -> None:
    page = fetch(site, f"/{'a' * 500}", Accept_Encoding="gzip")
    assert len(page.body) > 500
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.headers["Content-Encoding"] is None
    site.static_root.mkdir(exist_ok=True)
    (site.static_root / "a.js").write_text("//" + "a" * 500)
    assert fetch(site, "/static/a.js", Accept_Encoding="gzip").headers["Content-Encoding"] == "gzip"


def test_a_deploy_gives_the_workers_script_another_address(site: Stack) -> None:
    """Tabs keep the worker that they have; a page that a deploy has renewed asks for another."""
    shutil.copytree(CLIENT, site.static_root / "pubsub")
    names = [f"pubsub/{path.relative_to(CLIENT)}" for path in CLIENT.rglob("*.*")]
    storage = ManifestStaticFilesStorage(site.static_root, "/static/")
    for name, _hashed, done in storage.post_process({name: (storage, name) for name in names}):
        assert done is True, f"{name}: {done}"
    url = storage.url("pubsub/pubsub.worker.js")
    assert re.fullmatch(r"/static/pubsub/pubsub\.worker\.[0-9a-f]{12}\.js", url)
    response = fetch(site, url, Accept_Encoding="gzip")
    assert "javascript" in response.headers["Content-Type"]
    assert response.headers["Content-Encoding"] == "gzip"
    assert "immutable" in response.headers["Cache-Control"]
    comment = fetch(site, url).body.decode().splitlines()[-1]
    source_map = fetch(site, urljoin(url, comment.removeprefix("//# sourceMappingURL=")))
    assert "immutable" in source_map.headers["Cache-Control"]
    # Under its own name, which pages have without such a storage, it is asked for again.
    unhashed = fetch(site, "/static/pubsub/pubsub.worker.js")
    assert unhashed.headers["Cache-Control"] == "no-cache"


def test_a_visitor_does_not_tell_django_by_which_way_he_came(site: Stack) -> None:
    response = fetch(
        site,
        "/headers",
        X_Forwarded_Proto="https",
        X_Forwarded_Host="evil.example",
        X_Forwarded_Port="1",
        X_Forwarded_For="203.0.113.7",
        X_Real_IP="203.0.113.7",
        Forwarded="for=203.0.113.7;proto=https",
        Proxy="http://evil.example",
        X_Harmless="kept",
    )
    headers = json.loads(response.body)
    assert headers["HTTP_X_HARMLESS"] == "kept"
    told = {name for name in headers if "FORWARDED" in name or "PROXY" in name or "REAL" in name}
    assert {name: headers[name] for name in told} == {
        "HTTP_X_FORWARDED_PROTO": "http",
        "HTTP_X_FORWARDED_FOR": "127.0.0.1",
        "HTTP_X_REAL_IP": "127.0.0.1",
    }
