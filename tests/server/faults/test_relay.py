"""The relay is killed, replaced, and not alone."""

import pytest

from tests.server.faults.conftest import ENGINES
from tests.server.faults.proxies import SETTINGS, SIGN_OF_LIFE, Acknowledgements, Holder
from tests.waiting import until


@pytest.mark.parametrize(("engine", "number"), [("postgresql", 1), ("sqlite", 7)])
def test_a_relay_killed_as_an_acknowledgement_comes_repeats_and_loses_nothing(scene, stack, number):
    relays = []

    def kill(passed):
        if passed == number:
            relays[0].kill_at_once()

    with Acknowledgements(stack, kill) as proxy:
        scene = scene(stack, port=proxy.port, **SETTINGS)
        scene.watch("ada", "bob")
        relays.append(scene.relay())
        writer = scene.writer()
        until(lambda: not relays[0].is_running, "the relay is dead")
        again = scene.relay()
        writer.done()
        assert scene.check().repeats > 0
        again.stop()


@pytest.mark.parametrize("engine", ENGINES)
def test_relays_killed_again_and_again_lose_nothing(scene, stack):
    scene = scene(stack)
    scene.watch("ada", "bob")
    writer = scene.writer(transactions=40, pause=0.1)
    for count in (20, 60, 100):
        relay = scene.relay()
        scene.until_committed(count)
        relay.kill()
    relay = scene.relay()
    writer.done()
    scene.check()
    relay.stop()


def test_two_relays_at_once_share_the_work_and_keep_the_order(scene, stack):
    scene = scene(stack, nodes=12)
    scene.watch("ada", "bob")
    relays = [scene.relay(), scene.relay()]
    for writer in [scene.writer(threads=5, transactions=20) for _ in range(2)]:
        writer.done()
    # Whichever has its stream later sends again what the other one has just sent, and no more.
    scene.check()
    for relay in relays:
        relay.stop()
    sent = [int(relay.output.split()[-2]) for relay in relays]
    assert all(sent), sent


def test_a_relay_that_starts_does_not_overwrite_what_another_sends_meanwhile(scene, stack):
    with Holder(stack, SIGN_OF_LIFE, skip=1) as proxy:
        direct = {"XMPP_PORT": stack.ports.xmpp_tls}
        scene = scene(stack, port=proxy.port, XMPP_TIMEOUT=30, **SETTINGS)
        scene.watch("ada")
        first = scene.relay(**direct)
        scene.writer().done()
        scene.until_sent()
        proxy.waits = True
        second = scene.relay()
        until(lambda: proxy.holds, "the second relay has a stream, and looks at what was sent")
        scene.writer().done()
        scene.until_sent()
        first.stop()
        proxy.thaw()
        scene.check()
        second.stop()


@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_second_relay_on_sqlite_does_not_start(scene, stack):
    scene = scene(stack)
    relay = scene.relay()
    second = scene.relay(waits=False)
    assert second.wait() == 1
    assert f"process {relay.pid}" in second.errors
    relay.stop()


@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_relay_drains_the_outbox_once_and_ends(scene, stack):
    scene = scene(stack)
    scene.watch("ada")
    scene.writer().done()
    scene.run("pubsub_relay", "--once").done()
    assert scene.check().repeats == 0


def test_a_deploy_under_load_loses_nothing(scene, stack):
    scene = scene(stack)
    scene.watch("ada", "bob")
    relay = scene.relay()
    old = [scene.writer(transactions=None, pause=0.1) for _ in range(2)]
    scene.until_committed(60)
    new = [scene.writer(transactions=None, pause=0.1) for _ in range(2)]
    scene.until_committed(90)
    for writer in old:
        writer.tell()
    new_relay = scene.relay()
    relay.stop()
    for writer in old:
        writer.done()
    scene.until_committed(130)
    for writer in new:
        writer.stop()
    scene.check()
    new_relay.stop()
