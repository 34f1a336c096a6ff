"""ejabberd and nginx end, reload and come back while pages are open."""

import os
import signal
import uuid
from contextlib import suppress

import psutil
import pytest

from tests.browser.faults.judge import right, uncertain
from tests.waiting import until


@pytest.fixture
def before():
    """What the last statuses end with before the fault; no other test uses it."""
    return uuid.uuid4().hex


@pytest.fixture
def pages(demo, editor, before):
    """A page over each transport, and something for them to show."""
    editor.stir(before)
    editor.settle()
    return [demo("?transport=websocket"), demo("?transport=bosh")]


def is_on_disk(site, text):
    """Whether ejabberd would know a text after a crash, by Mnesia's log or by its tables."""
    spool = site.stack.folder / "spool"
    files = [spool / "LATEST.LOG", spool / "PREVIOUS.LOG", *spool.glob("pubsub_item.*")]
    for file in files:
        with suppress(FileNotFoundError):  # Mnesia is moving from one to the other
            if text.encode() in file.read_bytes():
                return True
    return False


def test_ejabberd_is_killed_and_started_again(pages, editor, site, before):
    # What it has acknowledged, and not written down yet, it forgets.
    until(lambda: is_on_disk(site, f"created and changed {before}"), "the items are on disk")
    site.stack.ejabberd.kill()
    for page in pages:
        uncertain(page)
    editor.stir("while ejabberd is away")  # published when it is there again
    site.stack.ejabberd.start()
    editor.stir("when ejabberd is back")
    for page in pages:
        right(page, site)
    assert pages[0].evaluate("() => sessionStorage.getItem('pubsub-transport')") != "bosh"


def workers(nginx):
    return psutil.Process(nginx.process.pid).children()


def test_nginx_is_reloaded_and_its_old_workers_go_later(pages, editor, site):
    nginx = site.stack.nginx
    old = workers(nginx)
    os.kill(nginx.process.pid, signal.SIGHUP)
    until(lambda: set(workers(nginx)) - set(old), "nginx has new workers")
    editor.stir("when nginx has reloaded")
    for page in pages:
        right(page, site)
    for worker in old:
        with suppress(psutil.NoSuchProcess):  # who serves nobody goes at once
            worker.kill()
    editor.stir("when the old workers are gone")
    for page in pages:
        right(page, site)


def test_nginx_is_restarted(pages, editor, site):
    site.stack.nginx.stop()
    for page in pages:
        uncertain(page)
    editor.stir("while nginx is away")
    editor.settle()
    site.stack.nginx.start()
    for page in pages:
        right(page, site)
