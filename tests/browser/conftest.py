"""The demo as visitors see it: Chromium, nginx, FastCGI, Django and ejabberd.

site          the running demo, shared by the tests of one worker
visit         opens a page of its own browser context, and fails the test on errors in it
publisher     pytest-django's ``settings``, so that the test itself publishes as the site does
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect

from demo.__main__ import serving
from pubsub import nodes
from pubsub.devstack import Stack
from tests.conftest import ACCOUNTS
from tests.waiting import until

NODE = "/demo/Status"

expect.set_options(timeout=20_000)  # milliseconds; as long as tests.waiting waits

CHROMIUM = shutil.which("chromium-headless-shell") or "/usr/bin/chromium"


@dataclass
class Site:
    """The demo, and the processes behind it."""

    url: str
    stack: Stack
    environment: dict[str, str]

    def manage(self, *arguments: str) -> str:
        """Run a command of Django in a process of its own; returns what it prints."""
        command = [sys.executable, "-m", "django", *arguments]
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Debian's Chromium, which asks nobody for updates while it is tested.

    Where it is installed, the one that has never had windows: it takes two thirds of the time.
    """
    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": quiet}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The demo on ports of its own."""
    folder = tmp_path_factory.mktemp("site")
    with Stack(folder, nginx=True, accounts=ACCOUNTS) as stack:
        environment = {name: str(value) for name, value in stack.settings.items()}
        environment |= {"DJANGO_SETTINGS_MODULE": "demo.settings", "DEMO_FOLDER": str(folder)}
        url = f"http://127.0.0.1:{stack.ports.nginx}/"
        site = Site(url, stack, environment)
        for command in ("migrate", "collectstatic"):
            site.manage(command, "--no-input", "--verbosity=0")
        with serving(stack, environment, "threaded", url):
            yield site


@pytest.fixture(scope="session")
def base_url(site: Site) -> str:
    """pytest-playwright's: what addresses are relative to."""
    return site.url


@pytest.fixture
def publisher(site: Site, settings: Any) -> Any:
    """The settings with which the test itself publishes."""
    for name, value in site.stack.settings.items():
        setattr(settings, name, value)
    return settings


def subscribers() -> set[str]:
    """Who is subscribed to the status page's node."""
    return {entry.jid for entry in nodes.subscriptions(NODE).result(10)}


@pytest.fixture
def visit(
    publisher: Any, new_context: Callable[..., BrowserContext]
) -> Iterator[Callable[..., Page]]:
    """A function that opens the demo in a context of its own, subscribed unless told otherwise.

    ``at`` is another address of the demo; ``before`` is called with the page before it is opened.

    Whatever a page reports as an error, in its console or by an uncaught exception, fails the
    test, unless the test has taken it out of ``page.errors``.
    """
    nodes.create(NODE).result(10)  # the site does it, too, but perhaps not yet
    pages: list[Page] = []

    def open_page(
        query: str = "",
        *,
        at: str = "/",
        online: bool = True,
        before: Callable[[Page], object] = lambda page: None,
        **options: Any,
    ) -> Page:
        page = new_context(**options).new_page()
        errors: list[str] = []

        def note(message: ConsoleMessage) -> None:
            if message.type == "error":
                errors.append(message.text)

        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.errors = errors  # type: ignore[attr-defined]
        others = subscribers()
        before(page)
        page.goto(f"{at}{query}")
        if online:
            page.locator("#connection[data-state=online]").wait_for()
            until(lambda: subscribers() - others, "the page has subscribed")
        pages.append(page)
        return page

    yield open_page
    assert [error for page in pages for error in page.errors] == []  # type: ignore[attr-defined]
