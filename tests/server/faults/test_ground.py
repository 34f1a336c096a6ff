"""What the other tests stand on: with no fault made, none is found."""

import pytest

from tests.server.faults.conftest import ENGINES
from tests.server.faults.scene import XMPP


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.delivery
def test_without_an_outbox_and_without_a_fault_nothing_is_lost(scene, stack, engine):
    scene = scene(stack, backend=XMPP)
    scene.watch("ada", "bob")
    # Without the outbox a state that another thread's overtakes is not sent.
    scene.writer(shared=False).done()
    assert scene.check().repeats == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_fault_nothing_is_lost_or_sent_twice(scene, stack, engine):
    scene = scene(stack)
    scene.watch("ada", "bob")
    relay = scene.relay()
    scene.writer().done()
    verdict = scene.check()
    assert verdict.repeats == 0
    relay.stop()
    print(verdict.table())
