"""Something between page and server lets no WebSocket through."""

import pytest

from tests.browser.faults.judge import right
from tests.browser.faults.network import (
    front,
    open_and_hang,
    websocket_at,
    without_upgrade,
    without_websocket,
)
from tests.proxy import Impostor

TRANSPORT = "() => sessionStorage.getItem('pubsub-transport')"


@pytest.mark.parametrize("fault", [without_websocket, without_upgrade])
def test_where_nginx_breaks_websocket_a_page_takes_bosh(demo, editor, site, tmp_path, fault):
    with front(site.stack, tmp_path, fault) as url:
        page = demo(at=url)
        assert page.evaluate(TRANSPORT) == "bosh"
        editor.stir("over BOSH")
        right(page, site)


def test_where_websocket_hangs_a_page_takes_bosh_and_does_not_try_again(
    demo, editor, site, tmp_path
):
    with (
        Impostor(open_and_hang) as silent,
        front(site.stack, tmp_path, websocket_at(silent.port)) as url,
    ):
        page = demo(at=url)
        assert page.evaluate(TRANSPORT) == "bosh"
        editor.stir("over BOSH")
        right(page, site)
        tried = len(silent.links)
        assert tried > 0
        page.reload()
        editor.stir("after a reload")
        right(page, site)
        assert len(silent.links) == tried
