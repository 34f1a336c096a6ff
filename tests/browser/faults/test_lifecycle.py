"""A tab is hidden, and frozen, and looked at again."""

import pytest

from tests.browser.faults.chromium import chromium
from tests.browser.faults.judge import right
from tests.waiting import until


@pytest.fixture
def context(browser_type, browser_type_launch_args, tmp_path):
    with chromium(browser_type, tmp_path, browser_type_launch_args["args"]) as context:
        yield context


def test_tabs_that_were_hidden_and_frozen_are_right_when_they_are_looked_at(context, editor, site):
    pages = []
    for query in ("", "?shared=0", "?shared=0&transport=bosh"):
        pages.append(context.new_page())
        pages[-1].goto(f"{site.url}{query}")
        right(pages[-1], site)
    context.new_page().bring_to_front()
    for page in pages:
        page.wait_for_function("() => document.visibilityState === 'hidden'")
    editor.stir("while the tabs are hidden")
    for page in pages:
        right(page, site)
        freeze(page)
    editor.stir("while the tabs are frozen")
    editor.settle()
    for page in pages:
        thaw(page)
        page.bring_to_front()
        right(page, site)


def freeze(page):
    """Let a hidden page stand still, as the browser does to save power."""
    page.evaluate(
        "() => document.addEventListener('freeze', () => { document.body.dataset.frozen = 1; })"
    )
    page.context.new_cdp_session(page).send("Page.setWebLifecycleState", {"state": "frozen"})
    until(lambda: page.evaluate("() => document.body.dataset.frozen"), "the page is frozen")


def thaw(page):
    page.context.new_cdp_session(page).send("Page.setWebLifecycleState", {"state": "active"})
