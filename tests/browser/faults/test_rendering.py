"""Rows change between the rendering of a page and its subscription."""

import re

import pytest

from tests.browser.faults.judge import right

CLIENT = re.compile(r"/static/pubsub/pubsub\.client\b.*\.js$")

MOVE = """(hours) => {
    const element = document.getElementById("pubsub-config");
    const config = JSON.parse(element.textContent);
    const since = new Date(Date.parse(config.since) + hours * 3_600_000);
    element.textContent = JSON.stringify({...config, since: since.toISOString()});
}"""


@pytest.mark.parametrize("hours", [0, -1])
def test_what_changes_before_the_client_runs_is_shown(demo, editor, site, hours):
    """The page is a new one, or an old one out of a cache."""
    editor.stir("before the page is rendered")

    def hold_back(page):
        def meanwhile(route):
            editor.stir("after the page was rendered")
            editor.settle()
            page.evaluate(MOVE, hours)
            route.continue_()

        page.route(CLIENT, meanwhile)

    right(demo(before=hold_back), site)
