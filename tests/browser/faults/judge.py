"""The judge: what a page of the demo shows against what the demo's database holds."""

import sqlite3
from collections import Counter
from contextlib import closing
from typing import NamedTuple

from playwright.sync_api import Page

from tests.browser.conftest import Site
from tests.waiting import until

NEWEST = 50  # rows on a page of the demo
PATIENCE = 60.0  # seconds; a page that has tried in vain waits for up to half of that


SCREEN = """() => Array.from(document.querySelectorAll("#statuses > li"), (row) => [
    row.dataset.pubsubId,
    row.querySelector(".nick").textContent,
    row.querySelector(".message").textContent,
])"""


class Row(NamedTuple):
    """A status, as it is stored and as it is shown."""

    id: str
    nick: str
    message: str


def stored(site: Site) -> list[Row]:
    """What a page of the demo has to show: the newest rows, the newest first."""
    path = site.stack.folder / "db.sqlite3"
    query = "SELECT id, nick, message FROM demo_status ORDER BY id DESC LIMIT ?"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as database:
        return [Row(str(id), nick, text) for id, nick, text in database.execute(query, [NEWEST])]


def shown(page: Page) -> list[Row]:
    """What a page of the demo shows, from the top."""
    return [Row(*row) for row in page.evaluate(SCREEN)]


def note_screens(page: Page) -> None:
    """Let a page note what it shows when it says that it is online: the next frame is painted."""
    page.evaluate(
        f"""() => {{
            const screen = {SCREEN};
            const connection = document.getElementById("connection");
            window.screens = [];
            new MutationObserver(() => {{
                if (connection.dataset.state === "online") {{
                    requestAnimationFrame(() => screens.push(screen()));
                }}
            }}).observe(connection, {{attributeFilter: ["data-state"]}});
        }}"""
    )


def right_at_once(page: Page, site: Site) -> None:
    """Wait until a page says that it is online again, and see that it was right then."""
    page.wait_for_function("() => screens.length")
    assert [Row(*row) for row in page.evaluate("() => screens[0]")] == stored(site)


def state(page: Page) -> str:
    """What the page says of its connection."""
    return page.locator("#connection").get_attribute("data-state") or ""


def uncertain(page: Page, seconds: float = PATIENCE) -> None:
    """Wait until a page says that what it shows may be wrong."""
    until(lambda: state(page) != "online", "the page knows that it may be wrong", seconds)


def right(page: Page, site: Site, seconds: float = PATIENCE) -> None:
    """Wait until a page says that it is online and shows what the database holds.

    On failure it is told what is wrong.
    """

    def is_right() -> bool:
        return state(page) == "online" and shown(page) == stored(site)

    try:
        until(is_right, "the screen equals the database", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{state(page)}\n{difference(page, site)}") from None


def difference(page: Page, site: Site) -> str:
    """In what the screen differs from the database, in words."""
    screen, database = shown(page), stored(site)
    lines = [
        *(f"not shown: {row}" for row in database if row not in screen),
        *(f"shown, not stored: {row}" for row in screen if row not in database),
        *(f"shown again: {row}" for row, count in Counter(screen).items() if count > 1),
    ]
    if not lines and screen != database:
        lines.append(f"wrong order: {', '.join(row.id for row in screen)}")
    return "\n".join(lines) or "no difference"
