"""What tabs share, below the client: the worker, its stream, and the locks of the nodes."""

import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from pubsub import nodes
from tests.waiting import until

CLIENT = Path(__file__).parents[2] / "media" / "strophe"
WORKER = "/static/pubsub/pubsub.worker.js"
CONNECTED, ATTACHED = 5, 8

BUNDLE = """
import { build } from "esbuild";
import { slimStrophe } from "./strophe.js";
const { outputFiles } = await build({
  bundle: true,
  define: { WORKER_BUILD: '"of this test"' },
  stdin: {
    contents: 'export * from "./sharing.js"; export * from "./interests.js";',
    resolveDir: "src",
  },
  format: "esm",
  plugins: [slimStrophe()],
  write: false,
});
process.stdout.write(outputFiles[0].text);
"""

#: Connects as a guest; ``told`` resolves to the status that lets it go on, or to what went wrong.
CONNECT = """async ([nick, identity, script]) => {
    const { SharedStream, workerUrl } = await import("/sharing.mjs");
    const { guestDomain } = JSON.parse(document.getElementById("pubsub-config").textContent);
    const url = `ws://${location.host}/ws`;
    const worker = await workerUrl({ workerUrl: script }, url, identity);
    window.stream = new SharedStream(url, { guest: true }, worker);
    addEventListener("pagehide", () => stream.leave());
    return new Promise((resolve) => {
        stream.connect(`${nick}@${guestDomain}/page`, "password", (status) => {
            [2, 4, 5, 6, 8].includes(status) && resolve(status);
        });
    });
}"""

SUBSCRIBE = """(node) => {
    const { service } = JSON.parse(document.getElementById("pubsub-config").textContent);
    const parse = (text) => new DOMParser().parseFromString(text, "text/xml").documentElement;
    stream.send(parse(`<iq xmlns="jabber:client" type="set" to="${service}" id="s">
        <pubsub xmlns="http://jabber.org/protocol/pubsub">
        <subscribe node="${node}" jid="${stream.jid}"/></pubsub></iq>`));
}"""

pytestmark = pytest.mark.usefixtures("publisher")


@pytest.fixture(scope="module")
def module() -> str:
    """The ES module src/sharing.js, with what it imports."""
    node = ["node", "--input-type=module", "--eval", BUNDLE]
    return subprocess.run(node, cwd=CLIENT, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def tab(module: str, site: Any, new_context: Callable[..., BrowserContext]) -> Callable[[], Page]:
    """A function that opens a tab of one browser."""
    context = new_context()
    answer = {"body": module, "content_type": "text/javascript"}
    context.route("**/sharing.mjs", lambda route: route.fulfill(**answer))

    def open_tab() -> Page:
        page = context.new_page()
        page.goto("/")
        return page

    return open_tab


def connect(page: Page, nick: str, identity: str, worker: str = WORKER) -> Any:
    return page.evaluate(CONNECT, [nick, identity, worker])


def jid(page: Page) -> str:
    return page.evaluate("stream.jid")


def test_tabs_of_one_identity_share_a_stream_until_the_last_has_gone(tab):
    node = f"/test/{uuid.uuid4().hex}"
    nodes.create(node).result(10)

    def subscriptions() -> int:
        return len(nodes.subscriptions(node).result(10))

    first, second, other = tab(), tab(), tab()
    assert connect(first, "ada", "a guest") == CONNECTED
    assert connect(second, "bo", "a guest") == ATTACHED
    assert connect(other, "grace", "another guest") == CONNECTED
    assert jid(second) == jid(first) != jid(other)
    second.evaluate(SUBSCRIBE, node)
    until(lambda: subscriptions() == 1, "the shared stream is subscribed")
    first.close()
    # The next page, in the one tab that is left, finds the stream that the last one has left.
    shared = jid(second)
    second.goto("/")
    assert connect(second, "bo", "a guest") == ATTACHED
    assert jid(second) == shared
    assert subscriptions() == 1
    second.close()
    until(lambda: subscriptions() == 0, "the guest has left, and nothing stays behind")


def test_a_page_whose_worker_cannot_be_loaded_comes_online_by_itself(tab):
    page = tab()
    # Chromium tells of the failure at once, or, once in a hundred times, never.
    page.evaluate(
        """(workerUrl) => {
            window.mine = new PubSubClient({ nick: "ada", workerUrl });
        }""",
        f"{WORKER}.gone",
    )
    page.wait_for_function("() => mine.state === 'online'")


def test_who_listens_last_in_a_browser_unsubscribes(tab):
    first, second = tab(), tab()
    for page in (first, second):
        page.evaluate(
            """async () => {
                const { Interests } = await import("/sharing.mjs");
                window.interests = new Interests("a stream");
                window.unsubscribed = 0;
                await interests.hold("/node");
            }"""
        )
    release = "interests.release('/node', async () => unsubscribed++).then(() => unsubscribed)"
    assert first.evaluate(release) == 0
    assert second.evaluate(release) == 1
    first.evaluate("interests.hold('/node')")
    assert second.evaluate(release) == 1  # not last
    first.close()
    until(lambda: second.evaluate(release) == 2, "the lock of a tab that has gone is free")
