"""The site from outside: BOSH and WebSocket by the address that browsers use, and what else."""

from __future__ import annotations

import secrets
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from urllib.parse import urljoin, urlsplit
from xml.sax.saxutils import quoteattr

from pubsub.conf import conf
from pubsub.doctor.findings import Finding, Outcome, Skipped, failure, fine, warning
from pubsub.doctor.site import Site, is_this_machine
from pubsub.doctor.web import SECURE, Answer, Refused, ask, origin_of
from pubsub.doctor.websocket import WebSocket

NS_BOSH = "http://jabber.org/protocol/httpbind"
NS_FRAMING = "urn:ietf:params:xml:ns:xmpp-framing"
STRANGE_HOST = "pubsub-doctor.invalid"
STRANGER = f"https://{STRANGE_HOST}"
NO_BOSH = "Browsers that cannot use WebSocket have no other way."
NO_WEBSOCKET = "Browsers fall back to BOSH, which costs the server three times as much."

#: What ejabberd serves beside, if it is told to, and whose business it is not.
INNER = ("api/status", "admin/", "oauth/authorization_token", "register/new", "captcha/", "upload/")


def examine_bosh(site: Site) -> Iterator[Finding]:
    """Whether a guest's browser gets a BOSH session (XEP-0124, XEP-0206)."""
    url = site.front(conf.bosh_url, "PUBSUB_BOSH_URL")
    yield from _clear_text(url)
    page = origin_of(site.url or url)
    try:
        answer = _begin_session(url, page)
    except OSError as error:
        yield away(url, error, NO_BOSH)
        return
    sid, condition = _session(answer)
    if not sid:
        yield _no_session(url, page, answer, condition)
        return
    yield fine(f"{url} gives a guest a session")


def examine_websocket(site: Site) -> Iterator[Finding]:
    """Whether a guest's browser gets a stream (RFC 7395)."""
    url = _of_websocket(site.front(conf.websocket_url, "PUBSUB_WEBSOCKET_URL"))
    yield from _clear_text(url)
    page = origin_of(site.url or url)
    try:
        answer = _greeting(url, page)
    except Refused as error:
        yield _no_upgrade(url, page, error)
        return
    except OSError as error:
        yield away(url, error, NO_WEBSOCKET)
        return
    if "<open" not in answer:
        yield failure(
            f"{url} answers to <open to={conf.guest_domain!r}/> with {answer[:200]!r}",
            NO_WEBSOCKET,
            f"In ejabberd.yml, `hosts:` must list {conf.guest_domain!r} (PUBSUB_GUEST_DOMAIN), and "
            "`request_handlers:` say `/ws: ejabberd_http_ws`.",
        )
        return
    yield fine(f"{url} opens a guest's stream for pages of {page}")


def examine_origin(site: Site) -> Iterator[Finding]:
    """Whether a page of another site is refused: it has the visitor's address, and his cookies."""
    if not (conf.websocket_url or conf.bosh_url):
        raise Skipped("PUBSUB_WEBSOCKET_URL and PUBSUB_BOSH_URL are empty: pages use neither")
    ways = [
        (site.front(address, setting), is_served)
        for setting, address, is_served in (
            ("PUBSUB_WEBSOCKET_URL", conf.websocket_url, _opens_stream),
            ("PUBSUB_BOSH_URL", conf.bosh_url, _opens_session),
        )
        if address
    ]
    open_to_all: list[str] = []
    unknown: list[str] = []
    by_any_name: list[str] = []
    for url, is_served in ways:
        try:
            if is_served(url, STRANGER):
                open_to_all.append(url)
            elif _is_served_by_any_name(url, is_served):
                by_any_name.append(url)
        except (Refused, OSError) as error:
            unknown.append(f"{url}: {error}")
    if unknown:
        yield Finding(
            Outcome.SKIPPED,
            f"it is not seen whether a page of {STRANGER} is refused by {'; '.join(unknown)}",
        )
    if open_to_all:
        yield failure(
            f"{' and '.join(open_to_all)} serve a page of {STRANGER}, too",
            "Any site can use its visitors' browsers to fill your server, and reach it inside "
            "their networks.",
            "In nginx.conf, `location = /ws` and `location = /http-bind`: `if ($foreign_origin) { "
            "return 403; }`, with the map of deploy/nginx.conf.",
        )
    if by_any_name:
        yield warning(
            f"{' and '.join(by_any_name)} serve whoever calls the server {STRANGE_HOST}",
            "Anybody can make a name of his lead to your server; his page is then of one origin "
            "with it (DNS rebinding), and ALLOWED_HOSTS protects Django only.",
            "In nginx.conf: the site's names as `server_name`, and a server with `default_server` "
            "and `return 444;` for all others, as in deploy/nginx.conf.",
        )
    if not (open_to_all or unknown or by_any_name):
        yield fine(f"a page of {STRANGER} is refused")


def examine_paths(site: Site) -> Iterator[Finding]:
    """Whether what else ejabberd serves stays inside."""
    base = site.url or site.front(conf.bosh_url, "PUBSUB_BOSH_URL")
    found = []
    for path in INNER:
        url = urljoin(base, f"/{path}")
        try:
            answer = ask(url, timeout=conf.timeout)
        except OSError as error:
            yield away(url, error, "Nobody reaches the site there.")
            return
        if _is_ejabberds(answer):
            found.append(url)
    if found:
        yield failure(
            f"ejabberd itself answers at {', '.join(found)}",
            "Whoever has, or guesses, an administrator's password rules the server from outside.",
            "In nginx.conf pass on `location = /http-bind` and `location = /ws` only; in "
            "ejabberd.yml take the rest out of `request_handlers:`.",
        )
        return
    yield fine(f"none of {len(INNER)} other addresses of ejabberd is to be reached")


def away(url: str, error: OSError, why: str) -> Finding:
    """Nobody answers at an address of the site."""
    return failure(
        f"{url}: {error}",
        why,
        "Is nginx running, is that its address, and does its certificate name it?  For an "
        "authority of your own set SSL_CERT_FILE.",
    )


# Private


def _is_served_by_any_name(url: str, is_served: Callable[[str, str, str], bool]) -> bool:
    scheme = origin_of(url).partition(":")[0]
    try:
        return is_served(url, f"{scheme}://{STRANGE_HOST}", STRANGE_HOST)
    except (Refused, OSError):  # to say nothing is the best that it can do
        return False


def _opens_stream(url: str, origin: str, host: str = "") -> bool:
    """Whether a page gets in; else it is refused for what it is.

    :raises Refused, OSError: for all that says neither.
    """
    try:
        greeting = _greeting(_of_websocket(url), origin, host)
    except Refused as error:
        if error.status == 403:
            return False
        raise
    if "<open" not in greeting:
        raise Refused(101, greeting)
    return True


def _opens_session(url: str, origin: str, host: str = "") -> bool:
    """See :func:`_opens_stream`."""
    answer = _begin_session(url, origin, host)
    if answer.status == 403:
        return False
    if not _session(answer)[0]:
        raise Refused(answer.status, answer.body)
    return True


def _begin_session(url: str, origin: str, host: str = "") -> Answer:
    """The answer to a guest's browser that begins a BOSH session, which is then ended."""
    first = secrets.randbelow(2**31)
    to = quoteattr(conf.guest_domain)
    beginning = f'to={to} wait="5" hold="1" ver="1.6" xmlns:xmpp="urn:xmpp:xbosh" '

    def post(rid: int, attributes: str) -> Answer:
        body = f'<body xmlns="{NS_BOSH}" rid="{rid}" {attributes}/>'
        headers = {"Content-Type": "text/xml; charset=utf-8", "Origin": origin}
        if host:
            headers["Host"] = host
        return ask(url, timeout=conf.timeout, method="POST", body=body, headers=headers)

    answer = post(first, beginning + 'xmpp:version="1.0"')
    if sid := _session(answer)[0]:
        post(first + 1, f'sid={quoteattr(sid)} type="terminate"')
    return answer


def _session(answer: Answer) -> tuple[str, str]:
    """The session's id, or the condition under which there is none; empty where it is no BOSH."""
    if "<!DOCTYPE" in answer.body:  # a page, or entities: neither is XMPP
        return "", ""
    try:
        body = ET.fromstring(answer.body)  # noqa: S314 (without entities)
    except ET.ParseError:
        return "", ""
    if body.tag != f"{{{NS_BOSH}}}body":
        return "", ""
    if body.get("type") == "terminate":
        return "", body.get("condition") or "no reason"
    return body.get("sid", ""), ""


def _no_session(url: str, page: str, answer: Answer, condition: str) -> Finding:
    if condition:
        return failure(
            f"{url} ends a session of {conf.guest_domain!r} at once: {condition}",
            NO_BOSH,
            f"In ejabberd.yml, `hosts:` must list {conf.guest_domain!r} (PUBSUB_GUEST_DOMAIN), and "
            "`modules:` mod_bosh.",
        )
    if answer.status == 403:
        remedy = _own_origin(page, "/http-bind")
    elif answer.status in (502, 503, 504):
        remedy = "nginx does not reach ejabberd: compare nginx.conf, `upstream ejabberd`, with "
        remedy += "the port of ejabberd_http in ejabberd.yml, and see that ejabberd runs."
    elif answer.status == 429:
        remedy = "This address has too many connections: nginx.conf, `limit_conn visitors`."
    else:
        remedy = "In nginx.conf, `location = /http-bind { proxy_pass http://ejabberd; … }` as in "
        remedy += "deploy/nginx.conf; in ejabberd.yml, `request_handlers: /http-bind: mod_bosh`."
    return failure(
        f"{url} answers with {Refused(answer.status, answer.body)} where a <body/> was due",
        NO_BOSH,
        remedy,
    )


def _greeting(url: str, origin: str, host: str = "") -> str:
    """What ejabberd says when somebody opens a guest's stream."""
    with WebSocket(url, origin=origin, host=host, timeout=conf.timeout) as stream:
        stream.send(f'<open xmlns="{NS_FRAMING}" to={quoteattr(conf.guest_domain)} version="1.0"/>')
        answer = stream.receive()
        stream.send(f'<close xmlns="{NS_FRAMING}"/>')
        return answer


def _no_upgrade(url: str, page: str, error: Refused) -> Finding:
    if error.status == 403:
        remedy = _own_origin(page, "/ws")
    elif error.status in (502, 503, 504):
        remedy = "nginx does not reach ejabberd: nginx.conf, `upstream ejabberd`."
    elif error.status == 429:
        remedy = "This address has too many connections: nginx.conf, `limit_conn visitors`."
    else:
        remedy = "In nginx.conf, `location = /ws` with `proxy_http_version 1.1`, `Upgrade "
        remedy += '$http_upgrade` and `Connection "upgrade"`, as in deploy/nginx.conf; in '
        remedy += "ejabberd.yml, `request_handlers: /ws: ejabberd_http_ws`."
    return failure(f"{url} does not become a WebSocket: {error}", NO_WEBSOCKET, remedy)


def _own_origin(page: str, location: str) -> str:
    return (
        f"Is {page} the address of your pages?  Then let the map `$foreign_origin` of nginx.conf, "
        f"for `location = {location}`, know it; else give the right --url."
    )


def _of_websocket(url: str) -> str:
    is_of_http = urlsplit(url).scheme in ("http", "https")
    return "ws" + url.removeprefix("http") if is_of_http else url


def _clear_text(url: str) -> Iterator[Finding]:
    there = urlsplit(url)
    if there.scheme not in SECURE and not is_this_machine(there.hostname or ""):
        yield failure(
            f"{url} is not encrypted",
            "Tokens, cookies and private items can be read, and changed, on their way.",
            "Serve the site by https (nginx.conf, `listen 443 ssl;`), and give that as --url.",
        )


def _is_ejabberds(answer: Answer) -> bool:
    challenge = answer.header("WWW-Authenticate")
    api = '"status":"error"' in answer.body.replace(" ", "") and '"code":' in answer.body
    # Its own "not found" has no other mark: then everything is passed on to it.
    missing = answer.status == 404 and "DTD XHTML 1.0" in answer.body
    return api or missing or "ejabberd" in challenge or "ejabberd Web Admin" in answer.body
