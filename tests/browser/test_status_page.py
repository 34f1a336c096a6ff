"""The status page: posted in one window, seen in the other, through the whole real stack."""

import re
import uuid

import pytest
from playwright.sync_api import Page, expect

from pubsub import publish
from tests.browser.conftest import NODE, subscribers
from tests.waiting import until


@pytest.fixture
def message():
    """A text that no other test posts."""
    return f"message {uuid.uuid4().hex}"


def post(page: Page, message: str, nick: str = "Ada") -> None:
    page.fill("[name=nick]", nick)
    page.fill("[name=message]", message)
    page.click("button")


def status(page: Page, message: str):
    return page.locator("#statuses li", has_text=message)


@pytest.mark.parametrize("transport", ["websocket", "bosh"])
def test_two_visitors_see_each_others_posts(visit, message, transport):
    ada, bo = visit(f"?transport={transport}"), visit(f"?transport={transport}")
    post(ada, f"{message} of Ada", "Ada")
    expect(status(bo, f"{message} of Ada").locator(".nick")).to_have_text("Ada")
    post(bo, f"{message} of Bo", "Bo")
    expect(status(ada, f"{message} of Bo").locator(".nick")).to_have_text("Bo")
    for page in (ada, bo):
        expect(status(page, message)).to_have_count(2)
        expect(page.locator("#statuses li").first).to_contain_text(f"{message} of Bo")


@pytest.mark.parametrize(("transport", "sockets"), [("websocket", 1), ("bosh", 0)])
def test_the_transport_is_the_one_of_the_address(new_context, transport, sockets):
    page = new_context().new_page()
    opened, polled = [], []
    page.on("websocket", lambda socket: opened.append(socket.url))
    page.on("request", lambda request: polled.append(request.url))
    page.goto(f"/?transport={transport}&shared=0")  # Playwright sees a page's own sockets only
    page.locator("#connection[data-state=online]").wait_for()
    assert len(opened) == sockets
    assert any(url.endswith("/http-bind") for url in polled) == (transport == "bosh")


def test_the_state_is_told_in_plain_words(visit):
    page = visit()
    told = page.locator("#connection")
    expect(told).to_have_text("online")
    for state, words in {
        "connecting": "connecting …",
        "catching-up": "catching up …",
        "offline": "offline, trying again",
        "denied": "not let in: reload the page",
    }.items():
        page.evaluate("(detail) => client.dispatchEvent(new CustomEvent('state', {detail}))", state)
        expect(told).to_have_text(words)
        expect(told).to_have_attribute("data-state", state)


def test_a_post_is_made_without_a_reload(visit, message):
    page = visit()
    page.evaluate("window.stillHere = true")
    post(page, message)
    expect(status(page, message)).to_have_count(1)
    expect(page.locator("[name=message]")).to_have_value("")
    assert page.evaluate("window.stillHere")


def test_a_page_opened_later_shows_what_was_posted_and_that_it_is_no_news(visit, message):
    post(first := visit(), message)
    expect(status(first, message)).to_have_class("new")
    expect(status(later := visit(), message)).to_have_count(1)
    assert later.locator("#statuses .new").count() == 0


def test_the_title_counts_what_came_while_the_visitor_was_away(visit, message):
    ada, bo = visit(), visit()
    bo.evaluate("window.dispatchEvent(new Event('blur'))")
    for number in (1, 2):
        post(ada, f"{message} {number}")
        expect(bo).to_have_title(re.compile(rf"^\({number}\) Status"))
    bo.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(bo).to_have_title(re.compile("^Status"))
    expect(ada).to_have_title(re.compile("^Status"))


def test_html_in_a_status_is_text(visit, message):
    ada, bo = visit(), visit()
    hostile = f"<img src=x onerror=alert(1)> {message[:50]}"
    post(ada, hostile, "<b>Ada</b>")
    expect(status(bo, message[:50]).locator(".message")).to_have_text(hostile)
    expect(status(bo, message[:50]).locator(".nick")).to_have_text("<b>Ada</b>")
    assert bo.locator("#statuses img, #statuses b").count() == 0
    bo.reload()
    expect(status(bo, message[:50]).locator(".message")).to_have_text(hostile)


def test_addresses_in_a_status_become_links_alike_live_and_after_a_reload(visit, message):
    page = visit()
    text = f"see (https://example.org/?a=1&b=2). example.com {message}"
    post(page, text)
    for _ in ("live", "reloaded"):
        expect(status(page, message).locator("a")).to_have_count(1)
        link = status(page, message).locator("a")
        expect(link).to_have_attribute("href", "https://example.org/?a=1&b=2")
        expect(status(page, message).locator(".message")).to_have_text(text)
        page.reload()


def test_what_the_form_does_not_take_is_said_by_its_label_and_kept(visit):
    page = visit()
    page.evaluate(
        "document.querySelectorAll('input').forEach((i) => i.removeAttribute('required'))"
    )
    page.evaluate("document.querySelector('[name=message]').removeAttribute('maxlength')")
    post(page, "x" * 141, nick="")
    expect(page.locator("#errors")).to_contain_text("Name: This field is required.")
    expect(page.locator("#errors")).to_contain_text("Message: Ensure this value has at most 140")
    expect(page.get_by_label("Message")).to_have_value("x" * 141)
    expect(page.get_by_label("Name")).to_be_focused()
    page.errors.clear()  # Chromium reports the answer, 400, as one


def test_the_page_works_without_scripts(visit, message):
    page = visit(online=False, java_script_enabled=False)
    post(page, message)
    expect(status(page, message)).to_have_count(1)
    post(page, "")
    expect(page.locator("[name=message]")).to_be_focused()


def test_a_status_saved_again_is_replaced_and_a_deleted_one_goes(visit, site, message):
    """Saved by another process of the site, a command of Django."""
    page = visit()
    post(page, message)
    item = status(page, message)
    expect(item).to_have_count(1)
    row = f"from demo.models import Status; row = Status.objects.get(message='{message}'); "
    site.manage("shell", "-c", row + "row.nick = 'Grace'; row.save()")
    expect(item.locator(".nick")).to_have_text("Grace")
    expect(item).to_have_count(1)
    site.manage("shell", "-c", row + "row.delete()")
    expect(item).to_have_count(0)


def test_an_old_status_that_is_saved_again_is_no_news(visit, site, message):
    page = visit()
    site.manage(
        "shell",
        "-c",
        "from demo.models import Status; from demo.views import NEWEST; "
        f"old = Status.objects.create(nick='Ada', message='old {message}'); "
        f"[Status.objects.create(nick='Ada', message=f'{{n}} {message}') for n in range(NEWEST)]; "
        "old.save(); "
        f"Status.objects.create(nick='Ada', message='last {message}')",
    )
    expect(status(page, f"last {message}")).to_have_count(1)
    expect(status(page, f"old {message}")).to_have_count(0)
    expect(page.locator("#statuses li")).to_have_count(50)


def test_an_item_that_is_no_status_is_passed_over(visit, message, publisher):
    page = visit()
    publish(NODE, "an item that is no status").result(10)
    post(page, message)
    expect(status(page, message)).to_have_count(1)


@pytest.mark.parametrize("transport", ["websocket", "bosh"])
def test_visitors_who_leave_leave_no_subscription(visit, publisher, transport):
    others = subscribers()  # perhaps of an earlier test, and not missed yet
    closed, navigated = visit(f"?transport={transport}"), visit(f"?transport={transport}")
    until(lambda: len(subscribers() - others) == 2, "both are subscribed")
    both = subscribers() - others
    closed.close(run_before_unload=True)
    navigated.goto("about:blank")
    until(lambda: not subscribers() & both, "both are gone")
