"""Rows change between the rendering of a page and its subscription."""

import re
import urllib.request
from datetime import datetime, timedelta

import pytest

from tests.browser.faults.judge import right


def test_what_changes_before_the_clients_script_runs_is_shown(demo, editor, site):
    editor.stir("before the page is rendered")

    def hold_back(page):
        def meanwhile(route):
            editor.stir("before the script runs")
            editor.settle()
            route.continue_()

        page.route(re.compile(r"/static/.*\bclient\b.*\.js"), meanwhile)

    right(demo(before=hold_back), site)


@pytest.mark.parametrize("hours", [-1, 1])
def test_an_old_page_is_made_right_whatever_the_clock_says(demo, editor, site, hours):
    """A page out of a cache; the site's clock and ejabberd's differ by an hour."""
    editor.stir("before the page is rendered")
    with urllib.request.urlopen(site.url) as response:
        old = moved(response.read().decode(), timedelta(hours=hours))
    editor.stir("after the page was rendered")
    editor.settle()
    page = demo(before=lambda page: page.route(site.url, lambda route: route.fulfill(body=old)))
    right(page, site)


def moved(html: str, by: timedelta) -> str:
    """A page that says that it was rendered at another time."""
    said = re.search(r'"since": ?"([^"]+)"', html)
    assert said is not None
    time = datetime.fromisoformat(said[1].replace("Z", "+00:00")) + by
    return html.replace(said[1], time.isoformat().replace("+00:00", "Z"))
