"""The network is taken away from a page, and given back."""

import uuid

from pubsub import nodes
from tests.browser.faults.judge import note_screens, right, right_at_once, state, uncertain
from tests.browser.faults.network import Jittery, Slow
from tests.proxy import Proxy
from tests.waiting import until

TRANSPORTS = ("websocket", "bosh")


def test_without_a_network_for_a_while_nothing_is_missed(demo, editor, site):
    # The network of a worker that tabs share cannot be taken away.
    pages = [demo(f"?shared=0&transport={transport}") for transport in TRANSPORTS]
    for page in pages:
        page.context.set_offline(True)
    for page in pages:
        uncertain(page)
    editor.stir("while there is no network")
    editor.settle()
    for page in pages:
        page.context.set_offline(False)
        right(page, site)


def test_connections_break_and_screens_are_right_when_they_say_so(demo, editor, site):
    with Proxy(site.stack.ports.nginx) as proxy:
        at = f"http://127.0.0.1:{proxy.port}/"
        pages = [demo(f"?transport={transport}", at=at) for transport in TRANSPORTS]
        for page in pages:
            note_screens(page)
        proxy.go_down()
        for page in pages:
            uncertain(page)
        editor.stir("while nothing gets through")
        editor.settle()
        proxy.come_up()
        for page in pages:
            right_at_once(page, site)


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


PUBLISH = """async (node) => {
    const published = [];
    for (let number = 0; number < 20; number++) {
        published.push(client.publish(node, `item ${number}`));
        await new Promise((then) => setTimeout(then, 5 * Math.random()));
    }
    return (await Promise.all(published)).length;
}"""


def test_over_bosh_no_request_overtakes_another(demo, editor, site):
    """What has been overtaken ejabberd never answers: the session would be dead."""
    node = f"/test/{uuid.uuid4().hex}"
    nodes.create(node, publish_model="open").result(10)
    with Jittery(site.stack.ports.nginx) as proxy:
        page = demo("?transport=bosh", at=f"http://127.0.0.1:{proxy.port}/")
        for number in range(3):
            editor.stir(f"while requests are late, {number}")
            right(page, site)
        assert page.evaluate(PUBLISH, node) == 20
    nodes.delete(node).result(10)
