"""Users of a Django site and their private nodes, as they see them in Chromium.

The site is tests/browser/members, behind nginx, with an ejabberd of its own.
"""

import http.server
import json
import re
import shutil
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from demo.__main__ import serving
from pubsub.devstack import Stack
from tests.visitors import WebSocketStream
from tests.waiting import until

CLIENT = Path(__file__).parents[2] / "media" / "strophe" / "dist"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
REFUSED = "The site does not let {} read {}"
CLOSED = [re.compile(r"status of 40[13]")]  # what Chromium says of a refusal by Django


class Members:
    """The site, while it runs."""

    def __init__(self, stack: Stack, url: str, log: list[str]) -> None:
        self.stack = stack
        self.url = url
        self.log = log

    def change(self, **what: str) -> None:
        """Let somebody else change something; see tests/browser/members/views.py."""
        request = urllib.request.Request(f"{self.url}change/", data=json.dumps(what).encode())
        DIRECT.open(request, timeout=20).close()

    def logins(self, user: str) -> int:
        """How often a user was let in by the XMPP server until now."""
        mark = f"mark-{uuid.uuid4().hex}"  # behind all that it has logged
        url = f"ws://127.0.0.1:{self.stack.ports.nginx}/ws"
        visitor = WebSocketStream(url, "guests.localhost", "127.0.0.1")
        visitor.log_in(mark)
        visitor.vanish()
        pattern = re.compile(rf"Accepted .*\b({user}@users|{mark}@)")
        until(lambda: any(mark in line and pattern.search(line) for line in self.log), "the mark")
        return sum(bool(pattern.search(line)) for line in self.log) - 1


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    folder = tmp_path_factory.mktemp("members")
    log: list[str] = []
    # At the level of info ejabberd tells of logins.
    stack = Stack(
        folder, nginx=True, log_level="info", on_line=lambda _name, line: log.append(line)
    )
    with stack:
        shutil.copytree(CLIENT, stack.static_root / "pubsub")
        environment = {name: str(value) for name, value in stack.settings.items()}
        environment |= {
            "DJANGO_SETTINGS_MODULE": "tests.browser.members.settings",
            "MEMBERS_FOLDER": str(folder),
        }
        url = f"http://127.0.0.1:{stack.ports.nginx}/"
        with serving(stack, environment, "threaded", url):
            yield Members(stack, url, log)


@pytest.fixture
def enter(members: Members, new_context: Callable[..., Any]) -> Iterator[Callable[..., Page]]:
    """A function that opens a page of the site, as a user who has logged in, or as a guest.

    ``beside`` is a page of the browser to open it in; else it is a new one.  ``before`` is called
    with the page before it is opened, ``state`` is what its client comes to.  Whatever a page
    reports as an error fails the test, but for what stands in ``expected``.
    """
    errors: list[str] = []
    expected: list[re.Pattern[str]] = []

    def open_page(
        user: str | None = None,
        at: str = "",
        *,
        beside: Page | None = None,
        before: Callable[[Page], object] = lambda page: None,
        state: str = "online",
    ) -> Page:
        context = beside.context if beside else new_context()
        page: Page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and errors.append(said.text))
        before(page)
        page.goto(f"{members.url}{f'login/{user}/' if user else ''}{at}")
        becomes(page, state)
        return page

    open_page.expected = expected  # type: ignore[attr-defined]
    members.change(clear="all")
    yield open_page
    assert [e for e in errors if not any(wanted.search(e) for wanted in expected)] == []


def becomes(page: Page, state: str) -> None:
    page.locator(f"body[data-state={state}]").wait_for(state="attached")


def rows(page: Page, which: str = "#notes"):
    return page.locator(f"{which} [data-pubsub-id]")


def test_a_user_sees_his_private_list_live_and_nobody_else_does(members, enter):
    enter.expected[:] = CLOSED
    members.change(note="first", of="ada")
    ada = enter("ada", "?of=ada")
    others = [enter("bob", "?of=ada"), enter(None, "?of=ada")]
    expect(rows(ada)).to_have_text(["first"])
    members.change(note="second", of="ada")
    expect(rows(ada)).to_have_text(["first", "second"])
    node = ada.locator("#notes").get_attribute("data-pubsub-collection")
    for page, who in zip(others, ("this user", "guests"), strict=True):
        expect(page.locator("#notes")).to_have_attribute("title", REFUSED.format(who, node))
        expect(rows(page)).to_have_count(0)
        assert page.evaluate("[client.state, client.updates.length]") == ["online", 0]


def test_a_right_that_is_taken_away_empties_the_list_and_given_back_fills_it(members, enter):
    enter.expected[:] = CLOSED
    for name in ("ada", "bob"):
        members.change(permit=name)
    members.change(notice="one")
    ada, bob = enter("ada"), enter("bob")
    members.change(notice="live")
    for page in (ada, bob):
        expect(rows(page, "#notices")).to_have_text(["one", "live"])
        assert page.evaluate("client.updates.length") == 1
    members.change(forbid="ada")
    expect(rows(ada, "#notices")).to_have_count(0)
    expect(ada.locator("#notices")).to_have_attribute("title", re.compile("does not let this user"))
    members.change(notice="two")
    expect(rows(bob, "#notices")).to_have_text(["one", "live", "two"])
    becomes(ada, "online")
    expect(rows(ada, "#notices")).to_have_count(0)
    assert ada.evaluate("client.updates") == []
    members.change(permit="ada")
    ada.reload()
    expect(rows(ada, "#notices")).to_have_text(["one", "live", "two"])
    members.change(notice="three")
    expect(rows(ada, "#notices")).to_have_text(["one", "live", "two", "three"])


def test_who_may_read_may_publish_where_members_do(members, enter):
    enter.expected[:] = CLOSED
    for name in ("ada", "bob"):
        members.change(permit=name)
    ada, bob, eve = enter("ada"), enter("bob"), enter("eve")
    node = "/members/Remark"
    for page in (ada, bob, eve):
        page.evaluate(
            """(node) => new Promise((settled) => {
                window.remarks = client.collection(node);
                remarks.addEventListener("error", settled);
                remarks.ready.then(settled);
            })""",
            node,
        )
    publish = """(node) => client.publish(node, {text: "hello"})
        .then(() => "done", ({condition}) => condition)"""
    assert eve.evaluate(publish, node) == "forbidden"
    assert ada.evaluate(publish, node) == "done"
    said = "[...remarks.values()].map(({data}) => data.text)"
    for page in (ada, bob):
        until(lambda page=page: page.evaluate(said) == ["hello"], "members have heard it")
    assert eve.evaluate(said) == []
    assert bob.evaluate(publish, "/members/Notice") == "forbidden"


def test_tabs_of_one_user_share_a_connection_and_end_with_his_session(members, enter):
    enter.expected[:] = [*CLOSED, re.compile("/pubsub/credentials/.*: log in first")]
    one = enter("ada")
    number = one.locator("#notes").get_attribute("data-pubsub-collection").rpartition("/")[2]
    before = members.logins(number)
    two, other = enter(beside=one), enter("ada")
    members.change(note="for all", of="ada")
    for page in (one, two, other):
        expect(rows(page)).to_have_text(["for all"])
    assert members.logins(number) == before + 1  # that of the other browser
    two.click("form[action='/logout/'] button")
    becomes(one, "denied")
    becomes(two, "online")
    assert two.locator("p").text_content() == "a guest"
    members.change(note="not for all", of="ada")
    expect(rows(other)).to_have_text(["for all", "not for all"])
    expect(rows(one)).to_have_text(["for all"])
    becomes(other, "online")


def test_a_session_that_django_has_opened_is_attached_to_and_ends_with_his_own(members, enter):
    enter.expected[:] = [*CLOSED, re.compile("http-bind: ")]
    page = enter("ada", "prebound/")
    members.change(note="over BOSH", of="ada")
    expect(rows(page)).to_have_text(["over BOSH"])
    enter(beside=page).click("form[action='/logout/'] button")
    becomes(page, "denied")


@pytest.mark.parametrize(("refusals", "state"), [(1, "online"), (2, "denied")])
def test_a_refused_token_is_replaced_once(members, enter, refusals, state):
    enter.expected[:] = [*CLOSED, re.compile("login is refused")]
    asked = []

    def spoil(route: Any) -> None:
        asked.append(route.request.url.partition("credentials/")[2])
        answer = route.fetch()
        body = answer.json()
        if len(asked) <= refusals:
            body["password"] += "x"
        route.fulfill(response=answer, json=body)

    route = re.compile("/pubsub/credentials/")
    enter("eve", before=lambda page: page.route(route, spoil), state=state)
    assert asked == ["", "?attempt=1"]


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A page of another origin, for which browsers send the site's cookies along all the same."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


ATTACK = """async (site) => {
    const socket = (path) => new Promise((resolve) => {
        const opened = new WebSocket(site.replace("http", "ws") + path, "xmpp");
        opened.onopen = () => resolve("open");
        opened.onerror = () => resolve("refused");
    });
    const ask = (path, options) => fetch(site + path, {credentials: "include", ...options})
        .then((answer) => answer.text(), () => "refused");
    const body = "<body xmlns='http://jabber.org/protocol/httpbind' to='users.localhost' rid='1'/>";
    const json = {"Content-Type": "application/json", "X-CSRFToken": "a"};
    const node = JSON.stringify({node: "/members/Notice"});
    return {
        websocket: await socket("ws"),
        bosh: await ask("http-bind", {method: "POST", body, credentials: "omit"}),
        credentials: await ask("pubsub/credentials/"),
        authorize: await ask("pubsub/authorize/", {method: "POST", headers: json, body: node}),
        unread: await ask("pubsub/credentials/", {mode: "no-cors"}) || "refused",
    };
}"""


def test_a_page_of_another_origin_gets_nothing(members, enter, elsewhere):
    enter.expected[:] = [re.compile("CORS|WebSocket|Failed to load resource")]
    ada = enter("ada")
    answers = []
    ada.on("response", lambda answer: answers.append((answer.status, answer.url)))
    for origin in (elsewhere, elsewhere.replace("127.0.0.1", "localhost")):
        ada.goto(origin)
        assert set(ada.evaluate(ATTACK, members.url).values()) == {"refused"}
    # Where a page may not read it, Django has said no all the same.
    told = [status for status, url in answers if "pubsub/credentials/" in url]
    assert told == [403, 403]
