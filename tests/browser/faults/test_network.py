"""The network is taken away from a page, and given back."""

import pytest

from tests.browser.faults.judge import note_screens, right, right_at_once, state, uncertain
from tests.browser.faults.network import Slow
from tests.proxy import Proxy
from tests.waiting import until


@pytest.fixture(params=["websocket", "bosh"])
def transport(request):
    return request.param


def test_without_a_network_for_a_while_nothing_is_missed(demo, editor, site, transport):
    page = demo(f"?shared=0&transport={transport}")  # a worker's network cannot be taken away
    page.context.set_offline(True)
    uncertain(page)
    editor.stir("while there is no network")
    editor.settle()
    page.context.set_offline(False)
    right(page, site)


def test_the_connections_break_and_the_screen_is_right_again(demo, editor, site, transport):
    with Proxy(site.stack.ports.nginx) as proxy:
        page = demo(f"?transport={transport}", at=f"http://127.0.0.1:{proxy.port}/")
        note_screens(page)
        proxy.go_down()
        uncertain(page)
        editor.stir("while nothing gets through")
        editor.settle()
        proxy.come_up()
        right_at_once(page, site)
        right(page, site)


def test_while_somebody_is_busy_a_slow_page_gets_right_and_is_so_after_a_break(demo, editor, site):
    with Slow(site.stack.ports.nginx) as proxy:
        with editor.busy():
            page = demo(at=f"http://127.0.0.1:{proxy.port}/")
        right(page, site)
        with editor.busy():
            proxy.cut()
            uncertain(page)
            until(lambda: state(page) == "online", "the page has come back")
        right(page, site)
