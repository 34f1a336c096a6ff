"""A page of an ejabberd without mod_pubsub_sessions is told the same: all of it in one test."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from pubsub import nodes, publish, retract
from pubsub.devstack import Stack
from tests.browser.test_catchup import LEAVE, RETURN
from tests.waiting import until

CLIENT = Path(__file__).parents[2] / "media" / "strophe" / "dist"

LISTEN = """([node, url]) => {
    window.told = [];
    const text = (item) => item.entry.textContent;
    const options = {service: "pubsub.localhost", guestDomain: "guests.localhost"};
    window.mine = new PubSubClient({...options, shared: false, url});
    window.subscription = mine.subscribe(node, {
        onItem(item) { told.push(text(item)); },
        onRetract(id) { told.push(`-${id}`); },
        onSync(items) { told.push(items ? items.map(text) : "synced"); },
        onError() { told.push("refused"); },
    });
}"""


@pytest.fixture
def plain(tmp_path: Path, settings: Any) -> Iterator[Stack]:
    """ejabberd without the module, and nginx, which has a page with the client and no site."""
    with Stack(tmp_path / "plain", nginx=True, sessions=False) as stack:
        shutil.copytree(CLIENT, stack.static_root)
        script = '<!doctype html><script src="/static/pubsub.client.js"></script>'
        (stack.static_root / "page.html").write_text(script)
        for name, value in stack.settings.items():
            setattr(settings, name, value)
        yield stack


def hears(page: Page, *told: object) -> None:
    """Wait until the page has been told so much since it was last asked, and that is what it is."""
    page.wait_for_function("(count) => told.length >= count", arg=len(told))
    assert page.evaluate("told.splice(0)") == list(told)


def test_pages_are_told_everything_and_nothing_after_they_may_not(
    plain: Stack, new_context: Any
) -> None:
    front = f"127.0.0.1:{plain.ports.nginx}"
    for way in ("ws://{}/ws", "http://{}/http-bind"):
        page = new_context().new_page()
        page.goto(f"http://{front}/static/page.html")
        check(page, way.format(front), f"/test/{uuid.uuid4().hex}")


def check(page: Page, url: str, node: str) -> None:
    publish(node, "item 1", item_id="1").result(10)
    page.evaluate(LISTEN, [node, url])
    hears(page, ["item 1"])
    # In order, all of it.
    for number in range(2, 22):
        publish(node, f"item {number}", item_id=str(number))
    retract(node, "1").result(10)
    hears(page, *(f"item {number}" for number in range(2, 22)), "-1")
    # What it has missed.
    page.evaluate(LEAVE)
    page.wait_for_function("() => mine.state === 'offline'")
    publish(node, "item 22", item_id="22").result(10)
    page.evaluate(RETURN)
    page.wait_for_function("() => mine.state === 'online' && told.length >= 2")
    assert page.evaluate("told.splice(0)[0]") == "item 22"
    # A node that goes, and is there again.
    nodes.delete(node).result(10)
    page.wait_for_function("() => told.at(-1) && told.at(-1).length === 0")
    publish(node, "item 23", item_id="23").result(10)
    page.wait_for_function("() => told.flat().includes('item 23') && mine.state === 'online'")
    page.evaluate("told.splice(0)")
    # It lets go, and comes back.
    (entry,) = nodes.subscriptions(node).result(10)
    page.evaluate("subscription.unsubscribe()")
    until(lambda: nodes.subscriptions(node).result(10) == [], "it has unsubscribed")
    page.evaluate("mine.disconnect()")
    page.evaluate(LISTEN, [node, url])
    hears(page, ["item 23"])
    # Its right is taken away.
    (entry,) = nodes.subscriptions(node).result(10)
    nodes.configure(node, access_model="whitelist").result(10)
    nodes.set_subscriptions(node, {entry.jid: "none"}).result(10)
    publish(node, "secret", item_id="24").result(10)
    page.wait_for_function("() => told.includes('refused')")
    assert "secret" not in page.evaluate("told.flat()")
