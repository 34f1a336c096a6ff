"""What is published while servers die, streams break and processes end."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict

import pytest

from pubsub import nodes, publish, retract
from pubsub.backends import get_backend
from pubsub.backends.xmpp import XMPPBackend
from pubsub.exceptions import StreamLost
from pubsub.items import LANES, lane_of, make_item, make_retraction
from pubsub.wire import stanzas
from tests.listener import listening
from tests.proxy import Impostor, Proxy
from tests.server.processes import ROOT
from tests.waiting import until

SECONDS = 30


@pytest.fixture
def node():
    """The name of a node that no other test uses."""
    return f"/streams/{uuid.uuid4().hex}"


@pytest.fixture
def proxy(stack, xmpp_settings):
    """A proxy between the backend and the shared server."""
    with Proxy(stack.ports.xmpp) as proxy:
        xmpp_settings.XMPP_PORT = proxy.port
        yield proxy
        # The backend that goes by it is closed first.
        xmpp_settings.XMPP_PORT = stack.ports.xmpp


def named(count, lanes=LANES):
    """Names of nodes that are all in different lanes of so many."""
    names = {}
    while len(names) < count:
        name = f"/streams/{uuid.uuid4().hex}"
        names.setdefault(lane_of(name) % lanes, name)
    return [names[lane] for lane in sorted(names)]


def heard(listener, count):
    """What arrives on each node without the repeats, until so many have arrived."""
    texts, seen = defaultdict(list), set()
    numbers = defaultdict(list)
    while len(seen) < count:
        event = listener.next()
        mark = event.meta["seq"]
        if (event.node, event.id, mark) not in seen:
            seen.add((event.node, event.id, mark))
            texts[event.node].append(event.text)
            source, _, number = mark.partition(".")
            numbers[event.node, source].append(int(number))
    for of_one_source in numbers.values():
        assert of_one_source == sorted(of_one_source)
    return texts


# The server dies


@pytest.mark.timeout(180)
def test_a_server_that_is_killed_in_a_burst_and_comes_back_gets_all_of_it(
    private_stack, settings, node
):
    stack = private_stack()
    for name, value in stack.settings.items():
        setattr(settings, name, value)
    nodes.create(node, max_items="max").result(SECONDS)
    acknowledged = set()
    futures = {}
    for number in range(3000):
        if number == 2000:
            stack.ejabberd.kill()
        future = futures[number] = publish(node, str(number), item_id=number)
        future.add_done_callback(
            lambda f, n=number: acknowledged.add(n) if f.exception() is None else None
        )
    before = set(acknowledged)
    assert len(before) < 3000
    stack.ejabberd.start()
    assert {future.result(60) for future in futures.values()} == set(map(str, range(3000)))
    held = {int(item.id) for item in nodes.items(node).result(SECONDS)}
    # The server may have lost what it had acknowledged in its last second.
    assert set(range(3000)) - held <= before


@pytest.mark.timeout(180)
def test_rows_that_were_saved_while_the_server_was_killed_are_there_in_their_last_state(
    private_stack, settings, node, failures
):
    stack = private_stack()
    for name, value in stack.settings.items():
        setattr(settings, name, value)
    for number in range(1000):
        if number == 500:
            stack.ejabberd.kill()
        publish(node, str(number), item_id=number % 10)
        publish(f"{node}/gone", "Hello", item_id=number % 10)
        retract(f"{node}/gone", str(number % 10))
    stack.ejabberd.start()
    assert publish(f"{node}/gone", "last", item_id="last").result(60)
    assert publish(node, "last", item_id="last").result(60)
    found = {item.id: item.payload.getCDATA() for item in nodes.items(node).result(SECONDS)}
    assert found == {str(n): str(990 + n) for n in range(10)} | {"last": "last"}
    assert [item.id for item in nodes.items(f"{node}/gone").result(SECONDS)] == ["last"]
    assert failures == []
    assert nodes.configuration(node).result(10)["access_model"] == "open"


# The stream breaks


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["RST", "FIN", "frozen"])
def test_twenty_threads_lose_nothing_and_keep_the_order_while_the_stream_is_cut(
    stack, proxy, xmpp_settings, how
):
    xmpp_settings.XMPP_TIMEOUT = 2 if how == "frozen" else 10
    names = [f"/streams/{uuid.uuid4().hex}" for _ in range(20)]
    for created in [nodes.create(name) for name in names]:
        created.result(SECONDS)
    over = threading.Event()
    acknowledged = []
    counts = dict.fromkeys(names, 0)
    errors = []

    def publish_on(name):
        while not over.is_set():
            futures = [publish(name, str(counts[name] + n)) for n in range(10)]
            counts[name] += 10
            try:
                acknowledged.extend(future.result(60) for future in futures)
            except Exception as error:  # noqa: BLE001 (told below)
                errors.append(error)

    threads = [threading.Thread(target=publish_on, args=(name,)) for name in names]
    with listening(stack.settings, *names) as listener:
        for thread in threads:
            thread.start()
        try:
            for _ in range(4):
                before = len(acknowledged)
                until(lambda n=before: len(acknowledged) > n + 200, "it goes on", SECONDS)
                if how == "frozen":
                    links = len(proxy.links)
                    proxy.freeze()
                    until(lambda n=links: len(proxy.links) > n, "it is given up")
                    proxy.thaw()
                else:
                    proxy.cut(rst=how == "RST")
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert errors == []
        texts = heard(listener, sum(counts.values()))
    assert texts == {name: [str(n) for n in range(counts[name])] for name in names}


def test_an_item_that_is_sent_again_bears_the_number_that_it_had(stack, proxy, node):
    publish(node, "first", item_id="0").result(SECONDS)
    with listening(stack.settings, node) as listener:
        proxy.freeze(requests=False)
        future = publish(node, "Hello", item_id="1")
        first = listener.next()
        proxy.cut()
        proxy.thaw()
        assert future.result(SECONDS) == "1"
        again = listener.next()
        publish(node, "later", item_id="1").result(SECONDS)
        later = listener.next()
    assert first.meta == again.meta
    assert (first.text, again.text) == ("Hello", "Hello")
    source, number = first.meta["seq"].split(".")
    assert re.fullmatch("[a-z0-9]{8,16}", source)
    assert later.meta["seq"] == f"{source}.{int(number) + 1}"


def test_an_item_without_an_id_is_not_doubled_when_it_is_sent_again(stack, proxy, node):
    publish(node, "first").result(SECONDS)
    with listening(stack.settings, node) as listener:
        proxy.freeze(requests=False)
        future = publish(node, "Hello")
        listener.next()  # the server has it
    proxy.cut()
    proxy.thaw()
    id = future.result(SECONDS)
    ids = [item.id for item in nodes.items(node).result(SECONDS)]
    assert (len(ids), ids[1]) == (2, id)


def test_both_sides_of_a_fork_publish_while_the_stream_is_away(proxy, node):
    """What the parent had queued is sent once, by the parent."""
    publish(node, "exists", item_id="0").result(SECONDS)
    proxy.go_down()
    futures = [publish(node, str(n), item_id=f"parent {n}") for n in range(20)]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            mine = publish(f"{node}/child", "from the child", item_id="child")
            code = 0 if mine.result(50) == "child" else 2
        finally:
            os._exit(code)
    proxy.come_up()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [future.result(SECONDS) for future in futures] == [f"parent {n}" for n in range(20)]
    assert len(nodes.items(node).result(SECONDS)) == 21
    assert len(nodes.items(f"{node}/child").result(SECONDS)) == 1


# Several streams


def test_a_node_whose_subscribers_are_slow_delays_no_node_of_another_stream(xmpp_settings):
    """A publish is acknowledged when its thousands of copies have been handed out."""
    xmpp_settings.XMPP_CONNECTIONS = 2
    busy, other = named(2, 2)
    nodes.create(busy).result(SECONDS)
    backend = get_backend()
    subscribed = [
        backend._of(busy).request(
            stanzas.set_subscriptions(
                xmpp_settings.XMPP_PUBSUB_HOST,
                busy,
                {
                    f"nobody-{n}@{xmpp_settings.PUBSUB_USER_DOMAIN}/x": "subscribed"
                    for n in range(start, start + 250)
                },
            )
        )
        for start in range(0, 1000, 250)
    ]
    for future in subscribed:
        future.result(60)
    try:
        publish(other, "exists").result(SECONDS)
        slow = [publish(busy, str(n)) for n in range(200)]
        assert publish(other, "Hello").result(SECONDS)
        assert not slow[-1].done()
        assert all(future.result(60) for future in slow)
    finally:
        nodes.delete(busy).result(SECONDS)


def test_each_node_keeps_its_order_on_many_streams(stack, proxy, xmpp_settings):
    xmpp_settings.XMPP_CONNECTIONS = 5
    names = named(10)
    for name in names:
        publish(name, "exists").result(SECONDS)
    with listening(stack.settings, *names) as listener:
        futures = [publish(name, str(n)) for n in range(50) for name in names]
        proxy.cut()
        for future in futures:
            future.result(SECONDS)
        texts = heard(listener, 500)
    assert texts == {name: [str(n) for n in range(50)] for name in names}


def test_twelve_streams_of_one_account_are_all_accepted(proxy, xmpp_settings, caplog):
    xmpp_settings.XMPP_CONNECTIONS = 12
    names = named(12, 12)
    for _ in range(3):
        futures = [publish(name, "Hello", item_id="1") for name in names]
        assert [future.result(SECONDS) for future in futures] == ["1"] * 12
    assert len(proxy.links) == 12
    assert "Lost the stream" not in caplog.text
    owned = [nodes.affiliations(name).result(SECONDS) for name in names]
    assert owned == [{"django@localhost": "owner"}] * 12  # the bare JID, by whatever stream


# Who relays


@pytest.fixture
def relay(xmpp_settings):
    """A function that makes a backend that keeps nothing, closed after the test."""
    made = []

    def relay():
        made.append(XMPPBackend.for_relay())
        return made[-1]

    yield relay
    for backend in made:
        backend.close(1)


def test_a_relay_sends_batches_on_the_stream_that_has_shown_a_sign_of_life(
    proxy, xmpp_settings, relay
):
    xmpp_settings.XMPP_CONNECTIONS = 3
    backend = relay()
    (name, *_) = named(3, 3)
    lane = lane_of(name)
    stream = backend.sign_of_life(lane).result(SECONDS)
    assert backend.sign_of_life(lane).result(SECONDS) == stream
    assert backend.sign_of_life(lane + 1).result(SECONDS) != stream
    batch = [make_item(name, str(n), id=n) for n in range(50)] + [make_retraction(name, "0")]
    answers = [future.result(SECONDS) for future in backend.send_all(batch, stream)]
    assert answers == [*map(str, range(50)), "0"]
    (payload, *_) = [item.payload for item in nodes.items(name).result(SECONDS)]
    assert "seq=" not in str(payload)  # who relays has marked them, if he wants to
    proxy.cut()
    until(
        lambda: isinstance(backend.send_all(batch, stream)[0].exception(SECONDS), StreamLost),
        "the stream is gone",
    )
    late = backend.send_all(batch, stream)
    assert {type(future.exception(SECONDS)) for future in late} == {StreamLost}
    assert backend.send_all([], stream) == []


# The end of a process

PROGRAM = r"""
import json, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
from django.conf import settings
import django
for name, value in json.loads(sys.stdin.read()).items():
    setattr(settings, name, value)
django.setup()
from pubsub import publish
from pubsub.signals import publish_failed

def tell(item, error, **kwargs):
    os.write(1, f"{item.node} {item.id} {type(error).__name__}\n".encode())  # of several threads

publish_failed.connect(tell)
"""


def run(program, settings):
    """Run a program that publishes; return what it printed, and how long it took."""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + program],
        input=json.dumps(settings, default=str),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), time.monotonic() - begin


@pytest.mark.parametrize("connections", [1, 8])
@pytest.mark.parametrize("is_frozen", [False, True], ids=["down", "frozen"])
def test_at_the_exit_all_that_could_not_be_sent_is_told_item_by_item(stack, is_frozen, connections):
    program = "for n in range(200): publish(f'/n/{n % 16}', 'Hello', item_id=n)"
    with Impostor() as server:
        if not is_frozen:
            server.go_down()
        settings = {
            **stack.settings,
            "XMPP_PORT": server.port,
            "XMPP_TIMEOUT": 4,
            "XMPP_CONNECTIONS": connections,
        }
        lines, seconds = run(program, settings)
        if not is_frozen:
            server.come_up()
    told = defaultdict(list)
    for line in lines:
        node, id, error = line.split()
        assert error in ("ConnectError", "StreamLost")
        told[node].append(int(id))
    assert told == {f"/n/{lane}": list(range(lane, 200, 16)) for lane in range(16)}
    assert seconds < 4 * 8  # and not eight times as long


def test_at_the_exit_what_was_kept_is_sent_if_the_server_comes_back(stack, proxy, node, tmp_path):
    publish(node, "exists", item_id="0").result(SECONDS)
    proxy.go_down()
    settings = {**stack.settings, "XMPP_PORT": proxy.port, "XMPP_TIMEOUT": 30}
    flag = tmp_path / "ending"
    program = f"""
for n in range(100): publish({node!r}, "Hello", item_id=n + 1)
open({str(flag)!r}, "w").close()
"""
    printed = []
    thread = threading.Thread(target=lambda: printed.append(run(program, settings)))
    thread.start()
    until(flag.exists, "the process ends")
    proxy.come_up()
    thread.join()
    assert printed[0][0] == []
    assert len(nodes.items(node).result(SECONDS)) == 101
