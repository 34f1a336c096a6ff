"""The demo under faults: somebody works on the site while a page has trouble to hear of it.

demo      opens the demo as ``visit`` does, and forgives it what Chromium says of a broken network
editor    saves, changes and deletes statuses, from a process of its own
tabs      opens several pages of one browser
hidden    a browser whose tabs are hidden behind each other, as a visitor's are
"""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Site
from tests.browser.faults.editor import Editor

BROKEN = re.compile(r"WebSocket connection to|Failed to load resource|net::ERR_")


@pytest.fixture(scope="session")
def editor(site: Site) -> Iterator[Editor]:
    """Somebody else at work on the site."""
    with Editor(site) as editor:
        yield editor


@pytest.fixture
def demo(visit: Callable[..., Page]) -> Iterator[Callable[..., Page]]:
    """A function that opens the demo; it takes the arguments of ``visit``."""
    pages = []

    def open_page(query: str = "", **options: object) -> Page:
        pages.append(visit(query, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.errors[:] = [error for error in page.errors if not BROKEN.search(error)]
