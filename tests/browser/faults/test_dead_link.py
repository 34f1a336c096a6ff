"""A link that is dead and that nobody closes."""

import time

from tests.browser.faults.judge import right, uncertain
from tests.browser.faults.network import ejabberd_at, front
from tests.proxy import Proxy

NOTICED = 45  # seconds


def test_a_dead_link_is_noticed_and_the_screen_is_right_when_there_is_another(
    demo, editor, site, tmp_path
):
    with (
        Proxy(site.stack.ports.http) as proxy,
        front(site.stack, tmp_path, ejabberd_at(proxy.port, site.stack)) as url,
    ):
        pages = [demo(query, at=url) for query in ("", "?transport=bosh")]
        frozen = time.monotonic()
        proxy.freeze()
        editor.stir("while nothing gets through")
        for page in pages:
            uncertain(page, frozen + NOTICED - time.monotonic())
        proxy.thaw()
        for page in pages:
            right(page, site)
