"""The processes that save and publish are killed, and forked."""

import signal

import pytest

from tests.proxy import Proxy
from tests.server.faults.conftest import ENGINES
from tests.server.faults.scene import OUTBOX, XMPP


@pytest.mark.parametrize(("engine", "when"), [("postgresql", "commit"), ("sqlite", "return")])
def test_what_a_process_committed_before_it_was_killed_is_published(scene, stack, when):
    scene = scene(stack)
    scene.watch("ada")
    writer = scene.writer(threads=1, transactions=5, die=when)
    assert writer.wait() == -signal.SIGKILL
    assert scene.committed() > 0
    relay = scene.relay()
    scene.check()
    relay.stop()


@pytest.mark.parametrize("engine", ENGINES)
def test_writers_killed_at_any_moment_lose_nothing_and_publish_nothing_undone(scene, stack):
    scene = scene(stack)
    scene.watch("ada", "bob")
    relay = scene.relay()
    for count in (30, 60):
        writer = scene.writer(transactions=None)
        scene.until_committed(count)
        writer.kill()
    scene.check()
    relay.stop()


@pytest.mark.parametrize("backend", [OUTBOX, XMPP], ids=["outbox", "direct"])
def test_processes_forked_after_the_first_publish_lose_nothing(scene, stack, backend):
    scene = scene(stack, backend=backend)
    scene.watch("ada", "bob")
    relay = scene.relay() if backend == OUTBOX else None
    # Without the outbox nobody puts what several processes do to one row in order; and where
    # several streams publish on a node at once ejabberd 23.01 may forget whose an item is, and not
    # retract it.
    alone = backend == OUTBOX
    scene.writer(forks=3, threads=2, transactions=15, shared=alone, deletes=alone).done()
    assert scene.check().repeats == 0
    if relay is not None:
        relay.stop()


def test_twenty_threads_publish_on_twenty_nodes_while_the_stream_is_cut_every_second(scene, stack):
    with Proxy(stack.ports.xmpp) as proxy:
        scene = scene(stack, port=proxy.port, nodes=20)
        scene.watch("ada", "bob")
        relay = scene.relay()
        writer = scene.writer(threads=20, transactions=20, pause=0.2)
        writer.every(1.0, proxy.cut)
        scene.check()
        relay.stop()
    assert len(proxy.links) > 3
