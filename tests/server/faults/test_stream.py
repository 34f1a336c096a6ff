"""The stream between the relay and ejabberd is cut, or answers no more."""

import pytest

from tests.proxy import Proxy
from tests.server.faults.conftest import ENGINES
from tests.server.faults.proxies import SETTINGS, Cutter
from tests.waiting import until


@pytest.mark.parametrize(("engine", "rst"), [("postgresql", True), ("sqlite", False)])
def test_a_stream_that_is_cut_loses_nothing(scene, stack, rst):
    with Proxy(stack.ports.xmpp) as proxy:
        scene = scene(stack, port=proxy.port)
        scene.watch("ada", "bob")
        relay = scene.relay()
        writer = scene.writer(pause=0.02)
        for count in (10, 30, 50):
            scene.until_committed(count)
            proxy.cut(rst=rst)
        writer.done()
        scene.check()
        relay.stop()


@pytest.mark.parametrize(
    ("engine", "frozen"),
    [
        ("postgresql", {}),
        ("sqlite", {}),
        ("postgresql", {"answers": False}),
        ("postgresql", {"requests": False}),
    ],
    ids=["postgresql", "sqlite", "requests", "answers"],
)
def test_a_stream_that_freezes_loses_nothing(scene, stack, frozen):
    with Proxy(stack.ports.xmpp) as proxy:
        scene = scene(stack, port=proxy.port, XMPP_TIMEOUT=1)
        scene.watch("ada", "bob")
        relay = scene.relay()
        writer = scene.writer(pause=0.02)
        scene.until_committed(20)
        proxy.freeze(**frozen)
        until(lambda: "Cannot relay" in relay.errors, "the relay has noticed")
        proxy.thaw()
        writer.done()
        scene.check()
        relay.stop()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_that_is_cut_within_a_stanza_loses_nothing(scene, stack):
    with Cutter(stack, step=97, times=6) as proxy:
        scene = scene(stack, port=proxy.port, **SETTINGS)
        scene.watch("ada", "bob")
        relay = scene.relay()
        writer = scene.writer(pause=0.05)
        until(lambda: proxy.cuts == 6, "six cuts")
        writer.done()
        scene.check()
        relay.stop()


def test_streams_that_are_lost_one_after_the_other_are_no_fault_of_what_is_sent(scene, stack):
    with Cutter(stack, step=1, times=6, relentless=True) as proxy:
        scene = scene(stack, port=proxy.port, **SETTINGS)
        scene.watch("ada")
        relay = scene.relay()
        writer = scene.writer(threads=1, transactions=10)
        until(lambda: proxy.cuts == 6, "six cuts")
        writer.done()
        scene.check()
        relay.stop()
