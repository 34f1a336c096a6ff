"""What let somebody in lets him in no more: a password was changed, a token or a session ended."""

import time

import pytest

from tests.browser.faults.logins import Logins
from tests.waiting import until

ALICE = "alice@users.localhost"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Logins(tmp_path_factory.mktemp("logins"), accounts={ALICE: "old"}) as running:
        yield running


class Visitor:
    """A page that asks us for its credentials, each time that it wants to log in."""

    def __init__(self, page, server, **options):
        self.logins = 0
        self.page = page
        page.on("websocket", lambda socket: socket.on("framesent", self._count))
        page.clock.install()
        page.goto(server.page)
        page.evaluate(
            """(options) => {
                window.asked = [];
                window.mine = new PubSubClient({
                    userDomain: "users.localhost",
                    ...options,
                    credentials: () => new Promise((answer) => asked.push(answer)),
                });
            }""",
            options,
        )

    @property
    def state(self):
        return self.page.evaluate("mine.state")

    def answer(self, password):
        """Wait until it asks, and tell it what to log in with."""
        until(lambda: self.page.evaluate("asked.length"), "it asks for credentials")
        self.page.evaluate("(password) => asked.shift()({username: 'alice', password})", password)

    def becomes(self, state):
        until(lambda: self.state == state, f"it is {state}")

    def has_done_all(self):
        """Let ten minutes go by, and things happen at which a page tries to log in again."""
        self.page.evaluate("window.dispatchEvent(new Event('online'))")
        self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        self.page.clock.run_for(10 * 60 * 1000)

    # Private

    def _count(self, frame):
        self.logins += "<auth " in str(frame)


@pytest.fixture
def password_changed(server):
    """A password, a new one, and what makes it so."""
    old = server.accounts[ALICE]
    new = f"{old} and new"
    return old, new, lambda: server.restart({ALICE: new})


@pytest.fixture
def token_ended(server):
    """A token, a new one, and what ends the session that the first one has opened."""
    seconds = 5
    old, new = (server.token("alice", time) for time in (seconds, 3600))
    end = time.time() + seconds

    def wait():
        server.restart({})
        until(lambda: time.time() > end, "the token has ended")

    return old, new, wait


@pytest.mark.parametrize("change", ["password_changed", "token_ended"])
def test_a_refused_login_asks_for_fresh_credentials_once_and_is_denied_after_that(
    server, new_context, request, change
):
    fresh, stale = (Visitor(new_context().new_page(), server, shared=False) for _ in range(2))
    old, new, happens = request.getfixturevalue(change)
    for visitor in (fresh, stale):
        visitor.answer(old)
        visitor.becomes("online")
    happens()
    for visitor, answers in ((fresh, [old, new]), (stale, [old, old])):
        for password in answers:
            visitor.answer(password)
    fresh.becomes("online")
    stale.becomes("denied")
    stale.has_done_all()
    assert (stale.state, stale.page.evaluate("asked.length")) == ("denied", 0)
    assert (fresh.logins, stale.logins) == (3, 3)


@pytest.mark.parametrize(
    "options",
    [{"shared": False}, {"shared": True}, {"websocketUrl": ""}],
    ids=["websocket", "shared", "bosh"],
)
def test_a_page_whose_session_was_ended_comes_back_with_fresh_credentials(
    server, new_context, options
):
    visitor = Visitor(new_context().new_page(), server, **options)
    visitor.answer(server.token("alice", 3600))
    visitor.becomes("online")
    server.end_sessions("alice")
    visitor.answer(server.token("alice", 3600))
    visitor.becomes("online")
