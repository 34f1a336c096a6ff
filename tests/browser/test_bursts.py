"""Many items at once: a page tells of all of them, and does not stand still meanwhile."""

import json
import uuid

import pytest
from playwright.sync_api import Page

from pubsub import nodes, publish

pytestmark = pytest.mark.usefixtures("publisher")

ITEMS = 1000
LIMIT = 50  # milliseconds: what browsers call a long task

#: As if the page had been rendered before all items, so that they are news to it.
SINCE = "2020-01-01T00:00:00Z"

#: Options of the client, for each way to connect.
WAYS = {"websocket": {"shared": False}, "worker": {}, "bosh": {"url": "/http-bind"}}

#: Each callback costs a fifth of a millisecond, and all of them four times the limit.
LISTEN = """([node, options, effort]) => {
    window.told = [];
    window.mine = new PubSubClient(options);
    window.all = mine.collection(node);
    window.other = mine.subscribe(node, {
        onItem({id}) {
            told.push(id);
            for (const end = performance.now() + effort; performance.now() < end;);
        },
        onSync(items) { told.push(items?.length ?? "synced"); },
    });
}"""


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    return {}


def fill(node: str, ids: range) -> list[str]:
    """Publish items of the size of a small row; returns their ids."""
    done = [publish(node, {"n": n, "text": "<b> " * 150}, item_id=str(n)) for n in ids]
    return [future.result(60) for future in done]


@pytest.fixture
def full(names):
    """The name of a node that holds :data:`ITEMS` items, from "0" on."""
    if not names:
        name = f"/test/{uuid.uuid4().hex}"
        nodes.create(name).result(10)
        fill(name, range(ITEMS))
        names["full"] = name
    return names["full"]


def longest(page: Page, act) -> float:
    """How many milliseconds of CPU time the longest task of a page took, while this was done."""
    browser = page.context.browser
    assert browser is not None
    browser.start_tracing(page=page, categories=["toplevel"])
    try:
        act()
    finally:
        trace = json.loads(browser.stop_tracing())["traceEvents"]
    threads = {
        (event["pid"], event["tid"])
        for event in trace
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        event["tdur"] / 1000
        for event in trace
        # One that has begun and is not over ("B") has no time yet.
        if "RunTask" in event["name"]
        and event["ph"] == "X"
        and (event["pid"], event["tid"]) in threads
    ]
    assert tasks
    return max(tasks)


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_a_large_node_is_told_in_order_and_the_page_goes_on_meanwhile(visit, full, options):
    page = visit()

    def load():
        page.evaluate(LISTEN, [full, {**options, "since": SINCE}, 0.2])
        page.wait_for_function("() => mine.state === 'online'")

    assert longest(page, load) < LIMIT
    ids = [str(n) for n in range(ITEMS)]
    assert page.evaluate("told") == [*ids, ITEMS]
    assert page.evaluate("[...all.keys()]") == ids


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_what_has_piled_up_is_told_in_order_and_the_page_goes_on_meanwhile(visit, options):
    node = f"/test/{uuid.uuid4().hex}"
    nodes.create(node).result(10)
    page = visit()
    page.evaluate(LISTEN, [node, options, 0.1])
    page.wait_for_function("() => mine.state === 'online'")
    # The page stands still until all is published.
    page.route("**/still", lambda route: (fill(node, range(ITEMS // 2)), route.fulfill(body="")))
    page.evaluate(
        """() => {
            const request = new XMLHttpRequest();
            request.open("GET", "/still", false);
            setTimeout(() => request.send());
        }"""
    )

    def go_on():
        page.wait_for_function("(count) => told.length > count", arg=ITEMS // 2)

    assert longest(page, go_on) < LIMIT
    assert page.evaluate("told") == [0, *(str(n) for n in range(ITEMS // 2))]
    assert page.evaluate("all.size") == ITEMS // 2


@pytest.mark.parametrize("end", ["disconnect", "unsubscribe"])
def test_who_goes_in_the_middle_hears_nothing_more(visit, full, end):
    page = visit()
    page.evaluate(
        """([node, since, end]) => {
            window.told = [];
            window.mine = new PubSubClient({shared: false, since});
            window.other = mine.subscribe(node, {
                onItem({id}) {
                    told.push(id);
                    for (const end = performance.now() + 1; performance.now() < end;);
                },
                onSync() { told.push("synced"); },
            });
            setTimeout(function stop() {
                if (!told.length) {
                    setTimeout(stop);
                    return;
                }
                window.heard = told.length;
                end === "disconnect" ? mine.disconnect() : other.unsubscribe();
            });
        }""",
        [full, SINCE, end],
    )
    page.wait_for_function("() => window.heard")
    heard = page.evaluate("heard")
    assert 0 < heard < ITEMS
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 100))")
    assert page.evaluate("told") == [str(n) for n in range(heard)]
