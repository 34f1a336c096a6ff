"""Five tabs of a browser, and one connection."""

import psutil
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import subscribers
from tests.browser.faults.judge import right, uncertain
from tests.waiting import until

TABS = 5


@pytest.fixture
def others(publisher):
    """Who was subscribed before, perhaps a page of an earlier test, not missed yet."""
    return subscribers()


@pytest.fixture
def idle(site):
    """How many connections nginx keeps open to ejabberd for whoever comes next, over BOSH."""
    return sockets(site)


@pytest.fixture
def tabs(demo, others, idle):
    first = demo()
    pages = [first, *(first.context.new_page() for _ in range(TABS - 1))]
    for page in pages[1:]:
        page.goto(first.url)
    return pages


def sockets(site):
    """How many connections ejabberd holds to browsers, by way of nginx."""
    connections = psutil.Process(site.stack.ejabberd.process.pid).net_connections("unix")
    listeners = 1
    return sum(c.laddr == site.stack.http_socket.name for c in connections) - listeners


def test_five_tabs_have_one_connection_and_all_are_right(tabs, editor, site, others, idle):
    def all_are_right():
        for page in tabs:
            right(page, site)

    editor.stir("for five tabs")
    all_are_right()
    assert len(subscribers() - others) == 1
    until(lambda: sockets(site) <= idle + 1, "there is one socket more, or some less are idle")
    site.stack.ejabberd.stop()  # in order: what it has acknowledged it keeps
    for page in tabs:
        uncertain(page)
    editor.stir("while ejabberd is away")
    site.stack.ejabberd.start()
    all_are_right()
    assert len(subscribers() - others) == 1
    while tabs:
        editor.stir(f"for {len(tabs)} tabs")
        all_are_right()
        tabs.pop(0).close(run_before_unload=True)
    until(lambda: not subscribers() - others, "no subscription is left")


def test_each_tab_counts_what_its_own_visitor_has_not_seen(tabs, editor):
    away, back, present = tabs[:3]
    for page in (away, back):
        page.evaluate("window.dispatchEvent(new Event('blur'))")
    editor.create("news")
    for page in (away, back):
        expect(page).to_have_title("(1) Status · django-pubsub")
    back.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(back).to_have_title("Status · django-pubsub")
    editor.create("more news")
    expect(away).to_have_title("(2) Status · django-pubsub")
    for page in (back, present):
        expect(page.locator("#statuses")).to_contain_text("more news")
        expect(page).to_have_title("Status · django-pubsub")
