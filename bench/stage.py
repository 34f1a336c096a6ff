"""What pages are measured with: servers of their own, an address to open, and a Chromium."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
from django.test import override_settings
from playwright.sync_api import Page, Route, sync_playwright

from bench.errors import BenchError
from bench.relaying import DIRECT, NODE
from pubsub import nodes
from pubsub.devstack import Stack
from pubsub.templatetags.pubsub import client_configuration
from tests.waiting import until

CLIENT = Path(__file__).parent.parent / "media" / "strophe" / "dist"
PATIENCE = 60.0  # seconds

HTML = """<!DOCTYPE html>
<title>django-pubsub's bench</title>
<script type="application/json" id="pubsub-config">{config}</script>
<script src="pubsub/pubsub.client.js"></script>
"""

#: Notes what the client tells, and when: in milliseconds since 1970, as Django's clock has it.
NOTE = """([node, options]) => {
    const now = () => performance.timeOrigin + performance.now();
    const client = new PubSubClient(options);
    const heard = {};
    let online = 0;
    client.addEventListener("state", ({detail}) => { online = detail === "online" ? now() : 0; });
    const handlers = {
        onItem({fields}) { heard[fields.votes] ??= now(); },
        onSync() { bench.synced = true; },
    };
    window.bench = {
        listen() {
            bench.synced = false;
            bench.subscription = client.subscribe(node, handlers);
        },
        leave: () => bench.subscription.unsubscribe(),
        heard: (number) => heard[number] ?? 0,
        online: () => online,
        right: (number) => online && heard[number] ? Math.max(online, heard[number]) : 0,
    };
}"""

#: A request that the page waits for, doing nothing else.
STAND_STILL = """() => {
    const request = new XMLHttpRequest();
    request.open("GET", "still", false);
    setTimeout(() => request.send());
}"""

Value = TypeVar("Value")


class Tab:
    """A page with a client that listens to :data:`bench.relaying.NODE`."""

    def __init__(self, browser: Browser, page: Page) -> None:
        self._browser = browser
        self._page = page
        self._held: list[Route] = []

    def open(self, url: str, options: Mapping[str, Any]) -> None:
        """Make a client on a page, with such options."""
        self._browser.call(lambda: self._page.goto(url))
        self._ask(NOTE, [NODE, dict(options)])

    def listen(self) -> None:
        """Listen, once it is known what is there."""
        self._ask("() => bench.listen()")
        self._until("() => bench.synced", "it listens")

    def leave(self) -> None:
        """Listen no more."""
        self._ask("() => bench.leave()")

    def heard(self, number: int) -> float:
        """When it heard of a save; as Django's ``time.time()``."""
        return self._time("(n) => bench.heard(n)", "it hears of a save", number)

    def online(self) -> float:
        """Since when it is online."""
        return self._time("() => bench.online()", "it is online")

    def right(self, number: int) -> float:
        """When it was online and had heard of a save."""
        return self._time("(n) => bench.right(n)", "it is right again", number)

    def set_offline(self, offline: bool) -> None:
        """Take its network away, or give it back."""
        self._browser.call(lambda: self._page.context.set_offline(offline))

    def stand_still(self) -> None:
        """Do nothing more, and read nothing, until :meth:`longest_block`."""
        self._browser.call(
            lambda: self._page.route("**/still", lambda route: self._held.append(route))
        )
        self._ask(STAND_STILL)

        def wait() -> None:
            while not self._held:
                self._page.wait_for_timeout(1)

        self._browser.call(wait)

    def longest_block(self, number: int) -> float:
        """Go on, and hear of a save: how long nothing else could be done, at most.

        :returns: the CPU time of the longest task of the page's main thread, in milliseconds.
        """
        self._browser.call(lambda: self._browser.trace(self._page))
        self._browser.call(lambda: self._held.pop().fulfill(body=""))
        self.heard(number)
        return self._browser.call(self._browser.longest_task)

    # Private

    def _ask(self, script: str, argument: Any = None) -> Any:
        return self._browser.call(lambda: self._page.evaluate(script, argument))

    def _time(self, script: str, what: str, argument: Any = None) -> float:
        return float(self._until(script, what, argument)) / 1000

    def _until(self, script: str, what: str, argument: Any = None) -> Any:
        try:
            return until(lambda: self._ask(script, argument), what, PATIENCE)
        except AssertionError as error:
            raise BenchError(f"in the browser: {error}") from None


class Browser:
    """Chromium, in a thread of its own: Django's database is not used beside an event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "browser")
        self._running = ExitStack()

    def __enter__(self) -> Browser:
        self.call(self._start)
        return self

    def __exit__(self, *error: object) -> None:
        self.call(self._running.close)
        self._thread.shutdown()

    def call(self, function: Callable[[], Value]) -> Value:
        """What a function returns that runs in the browser's thread."""
        return self._thread.submit(function).result()

    @contextmanager
    def tab(self, url: str, options: Mapping[str, Any]) -> Iterator[Tab]:
        """A tab that listens, of a visitor of its own, as long as the block lasts."""
        context = self.call(lambda: self._browser.new_context())
        try:
            tab = Tab(self, self.call(context.new_page))
            tab.open(url, options)
            tab.listen()
            yield tab
        finally:
            self.call(context.close)

    def trace(self, page: Page) -> None:
        """Note the tasks of a page from now on; in the browser's thread."""
        self._browser.start_tracing(page=page, categories=["toplevel"])

    def longest_task(self) -> float:
        """CPU time of the longest one since then, in milliseconds; in the browser's thread."""
        events = json.loads(self._browser.stop_tracing())["traceEvents"]
        main = {
            (event["pid"], event["tid"])
            for event in events
            if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
        }
        return max(
            float(event["tdur"]) / 1000
            for event in events
            if "RunTask" in event["name"] and (event["pid"], event["tid"]) in main
        )

    # Private

    def _start(self) -> None:
        try:
            playwright = self._running.enter_context(sync_playwright())
            self._browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium",
                args=["--no-sandbox", "--disable-background-networking"],
                handle_sigint=False,
            )
            self._running.callback(self._browser.close)
        except BaseException:
            self._running.close()
            raise


class Stage:
    """The servers and the browser."""

    def __init__(self, servers: Stack, browser: Browser) -> None:
        self.servers = servers
        self._browser = browser

    def tab(self, **options: Any) -> AbstractContextManager[Tab]:
        """A tab that listens, as long as the block lasts; its PubSubClient gets the options."""
        url = f"http://127.0.0.1:{self.servers.ports.nginx}/static/page.html"
        return self._browser.tab(url, options)

    def reload_nginx(self) -> list[psutil.Process]:
        """Reload nginx; returns its old workers, which serve what is open."""
        assert self.servers.nginx.process is not None
        nginx = psutil.Process(self.servers.nginx.process.pid)
        old: list[psutil.Process] = nginx.children()
        nginx.send_signal(signal.SIGHUP)
        until(lambda: set(nginx.children()) - set(old), "nginx has new workers")
        return old


@contextmanager
def stage() -> Iterator[Stage]:
    """Servers, a page and a browser, as long as the block lasts.

    :raises BenchError: when the client has not been built.
    :raises StackError: when a server does not start.
    """
    if not CLIENT.is_dir():
        raise BenchError(f"The browser client {CLIENT} has not been built: run `make client`.")
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="pubsub-bench-"))
        servers = running.enter_context(Stack(Path(folder) / "stack", nginx=True))
        site = {**servers.settings, "STATIC_URL": "/static/", "PUBSUB_BACKEND": DIRECT}
        running.enter_context(override_settings(**site))
        nodes.create(NODE).result(PATIENCE)
        shutil.copytree(CLIENT, servers.static_root / "pubsub")
        html = HTML.format(config=json.dumps(client_configuration()))
        (servers.static_root / "page.html").write_text(html, "utf-8")
        yield Stage(servers, running.enter_context(Browser()))
