"""A Chromium whose tabs are hidden behind each other.

To pages that Playwright has opened by itself it always says that they are visible.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, BrowserType

from pubsub.devstack import Child


@contextmanager
def chromium(kind: BrowserType, folder: Path, options: list[str]) -> Iterator[BrowserContext]:
    """The browser's own context, as long as the block lasts.

    :param folder: where its files may live.
    :param options: of the command line.
    """
    lines: list[str] = []
    child = Child(
        "chromium",
        ["/usr/bin/chromium", "--headless", "--remote-debugging-port=0", *options]
        + [f"--user-data-dir={folder}", "about:blank"],
        folder=folder,
        ready=lambda: any(map(address, lines)),
        on_line=lambda name, line: lines.append(line),
    )
    with child:
        (url,) = filter(None, map(address, lines))
        browser = kind.connect_over_cdp(url, no_defaults=True)
        yield browser.contexts[0]
        browser.close()


def address(line: str) -> str:
    """Where the browser takes commands, if a line of its output says so."""
    said = re.search(r"DevTools listening on (\S+)", line)
    return said[1] if said else ""
