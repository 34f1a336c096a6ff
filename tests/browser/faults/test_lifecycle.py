"""A tab is hidden, and frozen, and looked at again."""

import pytest

from tests.browser.faults.chromium import chromium
from tests.browser.faults.judge import right
from tests.waiting import until


@pytest.fixture
def context(browser_type, browser_type_launch_args, tmp_path):
    with chromium(browser_type, tmp_path, browser_type_launch_args["args"]) as context:
        yield context


def test_a_tab_that_was_hidden_and_frozen_is_right_when_it_is_looked_at(context, editor, site):
    for query in ("", "?shared=0", "?shared=0&transport=bosh"):
        page, other = context.new_page(), context.new_page()
        page.goto(f"{site.url}{query}")
        editor.stir("before")
        right(page, site)
        other.bring_to_front()
        page.wait_for_function("() => document.visibilityState === 'hidden'")
        editor.stir("while the tab is hidden")
        right(page, site)
        freeze(page)
        editor.stir("while the tab is frozen")
        editor.settle()
        thaw(page)
        page.bring_to_front()
        right(page, site)
        other.close()


def freeze(page):
    """Let a hidden page stand still, as the browser does to save power."""
    page.evaluate(
        "() => document.addEventListener('freeze', () => { document.body.dataset.frozen = 1; })"
    )
    page.context.new_cdp_session(page).send("Page.setWebLifecycleState", {"state": "frozen"})
    until(lambda: page.evaluate("() => document.body.dataset.frozen"), "the page is frozen")


def thaw(page):
    page.context.new_cdp_session(page).send("Page.setWebLifecycleState", {"state": "active"})
