"""The requests of a page in Chromium: which of them say from which page they come."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.waiting import until

PACKAGES = "media/strophe/node_modules"
LIBRARIES = (f"{PACKAGES}/jquery/dist/jquery.js", f"{PACKAGES}/htmx.org/dist/htmx.js")

#: Ways to send a POST to `url`, as the body of a function; "htmx" is an element that is clicked.
WAYS = {
    "fetch": "await mine.fetch(url, {method: 'POST'}).catch(() => {});",
    "jquery": "await new Promise((done) => $.ajax(url, {method: 'POST'}).always(done));",
    "htmx": """
        const button = document.createElement("button");
        button.setAttribute("hx-post", url);
        button.setAttribute("hx-swap", "none");
        document.body.append(button);
        htmx.process(button);
        const sent = new Promise((done) => button.addEventListener("htmx:afterRequest", done));
        button.click();
        await sent;
    """,
}


@pytest.fixture
def page(visit):
    """A page with the client, jQuery and htmx; what its site is asked for is in ``page.asked``."""
    page = visit(bypass_csp=True)  # or no request would go anywhere else
    page.evaluate(
        """() => {
            // Its policy for styles is not the matter here, nor is htmx's for addresses.
            const config = {includeIndicatorStyles: false, selfRequestsOnly: false};
            const meta = document.createElement("meta");
            meta.name = "htmx-config";
            meta.content = JSON.stringify(config);
            document.head.append(meta);
        }"""
    )
    for library in LIBRARIES:
        with open(library, encoding="utf-8") as source:
            page.evaluate(source.read())
    page.evaluate("window.mine = new PubSubClient()")
    page.wait_for_function("() => mine.state === 'online'")
    page.asked = []

    def answer(route):
        page.asked.append(route.request)
        route.fulfill(status=204)

    page.route("**/asked/**", answer)
    return page


@pytest.fixture
def elsewhere():
    """Another origin, which lets everybody in; what it is asked for is in ``elsewhere.asked``."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            elsewhere.asked.append((self.command, dict(self.headers)))
            self.send_response(204)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Access-Control-Allow-Headers", "*")
            self.end_headers()

        def do_OPTIONS(self):
            self.answer()

        def do_POST(self):
            self.answer()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as elsewhere:
        elsewhere.asked = []
        elsewhere.url = f"http://127.0.0.1:{elsewhere.server_port}/elsewhere/"
        thread = threading.Thread(target=elsewhere.serve_forever)
        thread.start()
        yield elsewhere
        elsewhere.shutdown()
        thread.join()


def send(page, way, url="/asked/"):
    page.evaluate(f"async (url) => {{ {WAYS[way]} }}", url)


def marks(page):
    """The ids that the site has been told, or None where it was not, request by request."""
    return [request.headers.get("x-pubsub-client") for request in page.asked]


def client_id(page, client="mine"):
    return page.evaluate(f"{client}.headers['X-PubSub-Client']")


@pytest.mark.parametrize("way", ["jquery", "htmx"])
def test_marked_requests_bear_the_header_until_that_is_undone(page, way):
    send(page, way)
    page.evaluate("() => { window.undo = mine.markRequests(); }")
    send(page, way)
    page.evaluate("() => undo()")
    send(page, way)
    assert marks(page) == [None, client_id(page), None]


@pytest.mark.parametrize("way", ["jquery", "htmx"])
def test_a_client_that_has_left_marks_nothing(page, way):
    page.evaluate("() => { mine.markRequests(); }")
    send(page, way)
    page.evaluate("mine.disconnect()")
    send(page, way)
    page.evaluate("() => { mine.markRequests(); }")
    send(page, way)
    assert marks(page) == [client_id(page), None, None]


@pytest.mark.parametrize("way", WAYS)
def test_a_request_to_another_origin_bears_no_header(page, elsewhere, way):
    page.evaluate("() => { mine.markRequests(); }")
    send(page, way, elsewhere.url)
    until(lambda: any(method == "POST" for method, _ in elsewhere.asked), "the request")
    assert client_id(page) not in str(elsewhere.asked)
    assert "x-pubsub-client" not in str(elsewhere.asked).lower()
    page.errors.clear()  # htmx asks for headers of the answer that it may not see


def test_fetch_takes_whatever_fetch_takes(page):
    page.evaluate(
        """async () => {
            const own = {"X-Own": "1"};
            const post = {method: "POST", body: "text"};
            await mine.fetch("/asked/", {...post, headers: own});
            await mine.fetch("asked/", {...post, headers: Object.entries(own)});
            await mine.fetch(new URL("/asked/", location), {...post, headers: new Headers(own)});
            await mine.fetch(new Request("/asked/", {...post, headers: own}));
            await mine.fetch(new Request("/asked/", post), {headers: own});
        }"""
    )
    assert marks(page) == [client_id(page)] * 5
    assert [request.headers["x-own"] for request in page.asked] == ["1"] * 5
    assert [request.post_data for request in page.asked] == ["text"] * 5


def test_fetch_does_otherwise_what_fetch_does(page):
    answers = page.evaluate(
        """async () => {
            const stopped = new AbortController();
            stopped.abort();
            const name = (error) => error.name;
            return [
                (await mine.fetch("/asked/")).status,
                await mine.fetch("http://", {}).catch(name),
                await mine.fetch("/asked/", {method: "GET", body: "x"}).catch(name),
                await mine.fetch("/asked/", {signal: stopped.signal}).catch(name),
            ];
        }"""
    )
    assert answers == [204, "TypeError", "TypeError", "AbortError"]


@pytest.mark.parametrize("referrer", ["/asked/before/", ""])
def test_fetch_keeps_the_referrer(page, site, referrer):
    page.evaluate(
        "async (referrer) => { await mine.fetch(new Request('/asked/', {referrer})); }", referrer
    )
    expected = f"{site.url.rstrip('/')}{referrer}" if referrer else None
    assert page.asked[0].all_headers().get("referer") == expected


def test_fetch_does_not_follow_a_redirect_that_would_take_the_header_elsewhere(page, elsewhere):
    page.route(
        "**/moved/", lambda route: route.fulfill(status=307, headers={"Location": elsewhere.url})
    )
    answer = "(answer) => answer.status, (error) => error.name"
    assert page.evaluate(f"fetch('/moved/', {{method: 'POST'}}).then({answer})") == 204
    assert [method for method, _ in elsewhere.asked] == ["POST"]
    assert page.evaluate(f"mine.fetch('/moved/', {{method: 'POST'}}).then({answer})") == "TypeError"
    assert len(elsewhere.asked) == 1
    page.errors.clear()  # Chromium's own words on the redirect


def test_two_clients_of_a_page_have_an_id_each(page):
    page.evaluate("window.other = new PubSubClient()")
    page.evaluate("async () => { await mine.fetch('/asked/'); await other.fetch('/asked/'); }")
    assert marks(page) == [client_id(page), client_id(page, "other")]
    assert len(set(marks(page))) == 2
