"""ejabberd and PostgreSQL die, and come back."""

import signal

import pytest

from tests.server.faults.conftest import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
def test_an_ejabberd_that_is_killed_loses_nothing(scene, private_stack):
    stack = private_stack()
    scene = scene(stack)
    scene.watch("ada", "bob")
    relay = scene.relay()
    writer = scene.writer(pause=0.05)
    scene.until_committed(40)
    stack.ejabberd.kill(sig=signal.SIGKILL)
    stack.ejabberd.start()
    writer.done()
    scene.until_sent()
    # What it has just acknowledged is not on its disk yet.
    stack.ejabberd.kill(sig=signal.SIGKILL)
    stack.ejabberd.start()
    scene.check()
    relay.stop()


def test_a_postgresql_that_dies_under_load_loses_nothing(scene, stack, postgres):
    scene = scene(stack)
    scene.watch("ada", "bob")
    relay = scene.relay()
    writer = scene.writer(transactions=60, pause=0.05)
    scene.until_committed(40)
    postgres.restart()
    scene.until_committed(80)
    postgres.kill()
    postgres.start()
    writer.done()
    scene.check()
    relay.stop()
