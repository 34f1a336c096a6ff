"""Requests that endure: what becomes of them when streams break, freeze, or end over one of them.

The other half is for connections that keep nothing, as who relays has them.
"""

import asyncio
import dataclasses
import re
import threading
import time

import pytest

from pubsub.exceptions import (
    AuthenticationError,
    ConnectError,
    PubSubError,
    QueueFull,
    RequestFatal,
    RequestTimeout,
    StreamLost,
)
from pubsub.payloads import marked
from pubsub.wire import stanzas
from pubsub.wire.connection import close_all
from pubsub.wire.outgoing import STRIKES, WITHOUT_A_WORD
from tests.proxy import Impostor, Proxy
from tests.waiting import until

SECONDS = 30  # for what should come at once; nothing waits as long unless it hangs

PAYLOAD = '<entry xmlns="urn:x"><meta xmlns="urn:django-pubsub:1"/>{}</entry>'


class Censor(Proxy):
    """Cuts a connection by RST as soon as it has passed what must not be said, or so many bytes."""

    word = b"no such word"
    bytes_left: "int | None" = None

    async def _to_server(self, link):
        said = b""
        while data := await link.hear():
            said += data
            if self.word in said:
                link.upstream.write(data)
                break
            if self.bytes_left is not None:
                data = data[: self.bytes_left]
                self.bytes_left -= len(data)
            await self._requests_flow.wait()
            link.upstream.write(data)
            await link.upstream.drain()
            if self.bytes_left == 0:
                self.bytes_left = None
                break
        link.reset()


@pytest.fixture
def item(service, node):
    """A function that makes the request that publishes an item on the test's node."""

    def item(id, text="", **options):
        options = {"mark": marked, **options}
        return stanzas.publish(service, node, PAYLOAD.format(text), str(id), **options)

    return item


@pytest.fixture
def behind(account):
    """A function: the account, behind a proxy that sees what is said."""

    def behind(proxy, **changes):
        return dataclasses.replace(account, port=proxy.port, tls="off", **changes)

    return behind


@pytest.fixture
def censor(open_proxy, stack, monkeypatch):
    """A function that puts a Censor in front of the shared server."""
    monkeypatch.setattr("tests.server.wire.conftest.Proxy", Censor)
    return open_proxy


@pytest.fixture
def held(account, connect, service, node):
    """A function that returns the ids on the test's node."""
    ask = connect(account).request
    ask(stanzas.create(service, node, {"max_items": "max"})).result(SECONDS)
    return lambda: [item.id for item in ask(stanzas.items(service, node)).result(SECONDS)]


def results(futures):
    return [future.result(SECONDS) for future in futures]


def sent(link, pattern):
    """What a client has sent on one connection, as far as it matches."""
    return [found.decode() for found in re.findall(pattern, bytes(link.received))]


def names(count):
    return [str(number) for number in range(count)]


def hold_back(connection, proxy, requests):
    """The Futures of requests that have gone by the proxy, which keeps the answers to itself."""
    proxy.freeze(requests=False)
    before = proxy.count(b"<iq ")
    futures = [connection.request(request) for request in requests]
    until(lambda: proxy.count(b"<iq ") == before + len(futures), "the requests reach the proxy")
    return futures


# Sent again


@pytest.mark.parametrize("rst", [True, False], ids=["RST", "FIN"])
def test_what_was_not_answered_is_sent_again_in_its_order(
    behind, open_proxy, connect, item, held, rst
):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item("first")).result(SECONDS)
    futures = hold_back(connection, proxy, [item(number) for number in range(50)])
    proxy.cut(rst=rst)
    later = connection.request(item("later"))
    proxy.thaw()
    assert results([*futures, later]) == [*names(50), "later"]
    _, again = proxy.links
    assert sent(again, rb'<item id="([^"]*)"') == [*names(50), "later"]
    assert sorted(held()) == sorted(["first", *names(50), "later"])


def test_what_is_sent_again_keeps_its_mark_and_others_get_greater_ones(
    behind, open_proxy, connect, item, service, node
):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item("first")).result(SECONDS)
    retraction = stanzas.retract(service, node, "1")
    futures = hold_back(connection, proxy, [item(0), item(1), retraction, item(2)])
    proxy.cut()
    proxy.thaw()
    results([*futures, connection.request(item("later"))])
    marks = [
        re.findall(r'<item id="(\w+)"><entry xmlns="urn:x"><meta [^>]*seq="(\w+)\.(\d+)"', text)
        for text in (bytes(link.received).decode() for link in proxy.links)
    ]
    (source,) = {source for link in marks for _, source, _ in link}
    assert re.fullmatch("[a-z0-9]{8,16}", source)
    assert [[(id, number) for id, _, number in link] for link in marks] == [
        [("first", "1"), ("0", "2"), ("1", "3"), ("2", "4")],
        [("0", "2"), ("1", "3"), ("2", "4"), ("later", "5")],
    ]


def test_two_connections_have_sources_of_their_own(behind, open_proxy, connect, item):
    proxy = open_proxy()
    for number in range(2):
        connect(behind(proxy)).request(item(number)).result(SECONDS)
    sources = {sent(link, rb'seq="(\w+)\.')[0] for link in proxy.links}
    assert len(sources) == 2


def test_more_than_fits_the_sockets_survives_a_cut(behind, open_proxy, connect, item, held):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item("first")).result(SECONDS)
    proxy.freeze()
    futures = [connection.request(item(number, "x" * 100_000)) for number in range(100)]
    until(lambda: proxy.count(b"<iq ") > 2, "the first of them are sent")
    proxy.cut()
    proxy.thaw()
    assert results(futures) == names(100)
    assert sorted(held()) == sorted(["first", *names(100)])


@pytest.mark.timeout(120)
def test_a_stream_that_is_cut_within_a_stanza_loses_nothing(behind, censor, connect, item, held):
    proxy = censor()
    connection = connect(behind(proxy))
    connection.request(item("first")).result(SECONDS)
    size = len(item(1).to_xml("x" * 13, f"{'x' * 12}.1"))
    cuts = [1, 2, *range(20, 2 * size, size // 6)]
    for number, place in enumerate(cuts):
        links = len(proxy.links)
        proxy.bytes_left = place
        futures = [connection.request(item(f"{number} {n}")) for n in range(3)]
        assert results(futures) == [f"{number} {n}" for n in range(3)]
        assert len(proxy.links) > links  # it was cut
    assert len(held()) == 1 + 3 * len(cuts)


def test_a_frozen_stream_is_replaced_and_nothing_is_lost(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy), answer_within=0.5)
    for number in range(STRIKES + 2):  # a server that freezes gives no strikes
        proxy.freeze()
        logins = proxy.count(b"<auth ")
        futures = [connection.request(item(f"{number} {n}")) for n in range(3)]
        until(lambda n=logins: len(proxy.links) > n, "another attempt is made")
        proxy.thaw()
        assert results(futures) == [f"{number} {n}" for n in range(3)]


def test_what_endures_does_not_expire_while_there_is_no_stream(behind, open_proxy, connect, item):
    proxy = open_proxy()
    proxy.go_down()
    connection = connect(behind(proxy, timeout=0.3))
    lasting = connection.request(item(1))
    fleeting = connection.request(dataclasses.replace(item(2), endures=False))
    assert isinstance(fleeting.exception(SECONDS), ConnectError)
    assert not lasting.done()
    proxy.come_up()
    until(lambda: lasting.done(), "it is sent")
    assert lasting.result() == "1"


def test_what_was_sent_counts_for_the_bound_while_the_server_is_away(
    behind, open_proxy, connect, item
):
    proxy = open_proxy()
    connection = connect(behind(proxy), queue_size=5)
    connection.request(item("first")).result(SECONDS)
    futures = hold_back(connection, proxy, [item(number) for number in range(3)])
    proxy.go_down()
    proxy.thaw()
    futures += [connection.request(item(number)) for number in range(3, 7)]
    assert [type(future.exception(0)) for future in futures[5:]] == [QueueFull] * 2
    proxy.come_up()
    assert results(futures[:5]) == names(5)


def test_what_waits_to_be_sent_again_fails_when_there_is_no_hope(behind, open_proxy, connect, item):
    refuse = re.compile(b"<mechanism>[^<]*</mechanism>")
    proxy = open_proxy()
    connection = connect(behind(proxy, timeout=60))
    connection.request(item(0)).result(SECONDS)
    futures = hold_back(connection, proxy, [item(number) for number in range(3)])
    proxy.rewrite = lambda link, stanza: refuse.sub(b"", stanza)
    proxy.cut()
    proxy.thaw()
    assert [type(f.exception(SECONDS)) for f in futures] == [AuthenticationError] * 3


def test_what_waits_to_be_sent_again_cannot_be_cancelled(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item(0)).result(SECONDS)
    (future,) = hold_back(connection, proxy, [item(1)])
    proxy.go_down()
    assert not future.cancel()
    proxy.thaw()
    proxy.come_up()
    assert future.result(SECONDS) == "1"


def test_close_tells_what_could_not_be_sent_again_oldest_first(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item("first")).result(SECONDS)
    told = []
    futures = hold_back(connection, proxy, [item(number) for number in range(3)])
    proxy.go_down()
    futures += [connection.request(item(number)) for number in range(3, 6)]
    for number, future in enumerate(futures):
        future.add_done_callback(lambda f, n=number: told.append((n, type(f.exception()))))
    connection.close(0.2)
    assert [number for number, _ in told] == list(range(6))
    assert all(issubclass(error, PubSubError) for _, error in told)


class Holding(Proxy):
    """Holds back what clients say on connections that it has been told."""

    held: "set[object]" = set()

    async def _to_server(self, link):
        while data := await link.hear():
            while link in self.held:
                await asyncio.sleep(0.01)
            link.upstream.write(data)
            await link.upstream.drain()


def test_what_a_lost_stream_still_brings_does_not_come_after_the_next_one(
    behind, open_proxy, connect, item, account, service, node, monkeypatch
):
    """As a network may that was away: the server must not take old states for new ones."""
    monkeypatch.setattr("tests.server.wire.conftest.Proxy", Holding)
    proxy = open_proxy()
    connection = connect(behind(proxy), answer_within=1)
    connection.request(item("7", "first")).result(SECONDS)
    (old,) = proxy.links
    proxy.held = {old}
    kept = connection.request(item("7", "old"))
    until(lambda: len(proxy.links) > 1, "the stream is given up")
    new = connection.request(item("7", "new"))
    assert results([kept, new]) == ["7", "7"]
    proxy.held = set()
    until(lambda: old.upstream.is_closing(), "the server has ended the old stream")
    (found,) = connect(account).request(stanzas.items(service, node)).result(SECONDS)
    assert found.payload.getData() == "new"


# A request that each stream ends over


def test_a_stanza_that_ends_each_stream_is_given_up_and_the_others_pass(
    behind, censor, connect, item, held
):
    proxy = censor()
    proxy.word = b"poison"
    connection = connect(behind(proxy))
    before = [connection.request(item(f"before {n}")) for n in range(20)]
    poison = connection.request(item("p", "poison"))
    behind_it = [connection.request(item(f"behind {n}")) for n in range(20)]
    with pytest.raises(RequestFatal, match=r"was sent \d+ times, and each time the stream ended"):
        poison.result(SECONDS)
    assert results([*before, *behind_it]) == [
        *(f"before {n}" for n in range(20)),
        *(f"behind {n}" for n in range(20)),
    ]
    assert proxy.count(b"poison") <= STRIKES / WITHOUT_A_WORD + 6  # and not once for each before it
    last = [link for link in proxy.links if b"poison" in link.received][-1]
    assert sent(last, rb'<item id="([^"]*)"') == ["p"]  # alone, after a ping
    assert sent(last, rb"urn:xmpp:ping") == ["urn:xmpp:ping"]


def test_what_the_server_does_not_take_for_xml_is_given_up(account, connect, item):
    connection = connect(account)
    futures = [connection.request(item(n, "\x08" if n == 3 else "")) for n in range(7)]
    error = futures.pop(3).exception(SECONDS)
    assert isinstance(error, RequestFatal)
    assert "not-well-formed" in str(error)
    assert results(futures) == ["0", "1", "2", "4", "5", "6"]


def test_a_stanza_that_the_server_falls_silent_over_is_given_up(behind, open_proxy, connect, item):
    silenced = set()

    def rewrite(link, stanza):
        if b"mute" in link.received:
            silenced.add(link)
        return b"" if link in silenced else stanza

    proxy = open_proxy(rewrite=rewrite)
    connection = connect(behind(proxy), answer_within=1)
    mute, other = (connection.request(item(id)) for id in ("mute", "other"))
    assert isinstance(mute.exception(SECONDS), RequestFatal)
    assert other.result(SECONDS) == "other"


# Nodes


def test_a_node_is_created_on_each_stream_before_its_first_item(
    behind, open_proxy, connect, item, service, node
):
    proxy = open_proxy()
    connection = connect(behind(proxy))

    def request(id):
        return item(id, prepare=lambda: stanzas.create(service, node, {"max_items": 7}))

    results(connection.request(request(n)) for n in range(3))
    assert connection.knows(node)
    futures = hold_back(connection, proxy, [request(n) for n in range(3)])
    proxy.cut()
    proxy.thaw()
    results(futures)
    for link in proxy.links:
        sent_there = sent(link, rb"<(create|item) ")
        assert sent_there[0] == "create"
        assert sent_there.count("create") == 1
    ask = connection.request
    assert ask(stanzas.configuration(service, node)).result(SECONDS)["max_items"] == "7"
    ask(stanzas.delete(service, node)).result(SECONDS)
    assert not connection.knows(node)
    ask(request("again")).result(SECONDS)
    assert ask(stanzas.configuration(service, node)).result(SECONDS)["max_items"] == "7"


def test_a_node_that_could_not_be_created_is_tried_again_with_the_next_item(
    account, connect, item, service, node, caplog
):
    connection = connect(account)
    fields = {"max_items": 10**9}
    made = []

    def prepare():
        made.append(1)
        return stanzas.create(service, node, fields)

    assert connection.request(item(1, prepare=prepare)).result(SECONDS) == "1"
    assert f"Could not create the node {node}" in caplog.text
    assert not connection.knows(node)
    fields["max_items"] = 7
    assert connection.request(item(2, prepare=prepare)).result(SECONDS) == "2"
    assert connection.request(item(3, prepare=prepare)).result(SECONDS) == "3"
    assert len(made) == 2


def test_streams_that_create_nodes_at_the_same_time_do_not_get_in_each_others_way(
    account, connect, item, service, node
):
    """ejabberd 23.01 refuses every other one of them, and some of the items behind."""
    connections = [connect(account) for _ in range(8)]
    results(connection.request(stanzas.ping("localhost")) for connection in connections)
    names = [f"{node}/{n}" for n in range(80)]

    def request(name):
        def prepare():
            return stanzas.create(service, name, {"max_items": 7})

        return stanzas.publish(service, name, "<entry xmlns='urn:x'/>", "1", prepare=prepare)

    futures = [connections[n % 8].request(request(name)) for n, name in enumerate(names)]
    assert results(futures) == ["1"] * 80
    ask = connections[0].request
    found = results([ask(stanzas.configuration(service, name)) for name in names])
    assert {configuration["max_items"] for configuration in found} == {"7"}


def test_a_creation_that_each_stream_ends_over_fails_its_item(
    behind, censor, connect, item, service, node
):
    proxy = censor()
    proxy.word = b"poison"
    connection = connect(behind(proxy))

    def prepare():
        return stanzas.create(service, node, {"title": "poison"})

    futures = [connection.request(item(1, prepare=prepare)), connection.request(item(2))]
    assert isinstance(futures[0].exception(SECONDS), RequestFatal)
    assert futures[1].result(SECONDS) == "2"


def test_a_node_that_cannot_even_be_described_fails_its_item(account, connect, item):
    def prepare():
        raise ZeroDivisionError

    connection = connect(account)
    futures = [connection.request(item(1, prepare=prepare)), connection.request(item(2))]
    assert "ZeroDivisionError" in str(futures[0].exception(SECONDS))
    assert futures[1].result(SECONDS) == "2"


# Connections that keep nothing


def test_nothing_is_kept_of_what_was_requested_before_a_loss(
    behind, open_proxy, connect, item, held
):
    proxy = open_proxy()
    connection = connect(behind(proxy), keeps=False)
    connection.request(item("first")).result(SECONDS)
    proxy.freeze()
    before = proxy.count(b"<iq ")
    told = []
    futures = [connection.request(item(number, "x" * 50_000)) for number in range(100)]
    for number, future in enumerate(futures):
        future.add_done_callback(lambda _, n=number: told.append(n))
    until(lambda: proxy.count(b"<iq ") > before, "the first of them are sent")
    proxy.cut()
    proxy.thaw()
    assert {type(future.exception(SECONDS)) for future in futures} == {StreamLost}
    assert told == list(range(100))
    assert connection.request(item("next")).result(SECONDS) == "next"
    _, again = proxy.links
    assert sent(again, rb'<item id="([^"]*)"') == ["next"]


def test_what_is_not_kept_fails_with_the_attempt_that_it_waits_for(
    behind, open_proxy, connect, item
):
    proxy = open_proxy()
    proxy.go_down()
    connection = connect(behind(proxy, timeout=0.2), keeps=False)
    for number in range(3):
        error = connection.request(item(number)).exception(SECONDS)
        assert isinstance(error, ConnectError)
    assert isinstance(connection.trouble, ConnectError)
    proxy.come_up()
    until(lambda: connection.request(item(4)).exception(SECONDS) is None, "a stream")
    assert connection.trouble is None


def test_a_sign_of_life_names_the_stream(behind, open_proxy, connect, item, service):
    proxy = open_proxy()
    connection = connect(behind(proxy), keeps=False)
    name = connection.sign_of_life(service).result(SECONDS)
    assert name
    assert connection.sign_of_life("nowhere.localhost").result(SECONDS) == name
    proxy.cut()
    until(
        lambda: (
            (alive := connection.sign_of_life(service)).exception(SECONDS) is None
            and alive.result() != name
        ),
        "another stream",
    )


def test_a_sign_of_life_comes_after_all_that_was_requested_before(account, connect, item, service):
    connection = connect(account, keeps=False)
    done = []
    futures = [connection.request(item(number)) for number in range(300)]
    for future in futures:
        future.add_done_callback(lambda _: done.append(1))
    alive = connection.sign_of_life(service)
    alive.add_done_callback(lambda _: done.append("alive"))
    alive.result(SECONDS)
    assert done == [1] * 300 + ["alive"]


def test_a_batch_is_sent_on_its_own_stream_or_not_at_all(
    behind, open_proxy, connect, item, service, held
):
    proxy = open_proxy()
    connection = connect(behind(proxy), keeps=False)
    name = connection.sign_of_life(service).result(SECONDS)
    assert results(connection.request_all([item(1), item(2)], name)) == ["1", "2"]
    proxy.freeze()
    lost = connection.request_all([item(n, "x" * 50_000) for n in range(3, 50)], name)
    proxy.cut()
    proxy.thaw()
    assert {type(future.exception(SECONDS)) for future in lost} == {StreamLost}
    late = connection.request_all([item("late"), item("later")], name)
    assert [type(future.exception(0)) for future in late] == [StreamLost] * 2
    name = connection.sign_of_life(service).result(SECONDS)
    assert results(connection.request_all([item("new")], name)) == ["new"]
    assert connection.request_all([], name) == []
    assert set(held()) == {"1", "2", "new"}


def test_a_batch_that_does_not_fit_the_queue_is_refused_as_a_whole(account, connect, item):
    connection = connect(account, queue_size=5, keeps=False)
    refused = connection.request_all([item(n) for n in range(6)])
    assert [type(future.exception(0)) for future in refused] == [QueueFull] * 6
    assert results(connection.request_all([item(n) for n in range(5)])) == names(5)


def test_no_item_overtakes_another_whatever_is_lost(behind, open_proxy, connect, item, service):
    """One that failed is sent again first, as who relays does; the node must see no step back."""
    proxy = open_proxy()
    connection = connect(behind(proxy), keeps=False)
    over = threading.Event()

    def cut_again_and_again():
        while not over.wait(0.1):
            proxy.cut()

    cutting = threading.Thread(target=cut_again_and_again)
    cutting.start()
    left = list(range(3000))
    end = time.monotonic() + 4
    try:
        while left and (time.monotonic() < end or len(left) == 3000):
            alive = connection.sign_of_life(service)
            if alive.exception(SECONDS) is not None:
                continue
            batch = connection.request_all([item(n) for n in left[:100]], alive.result())
            failed = [future.exception(SECONDS) is not None for future in batch]
            assert failed == sorted(
                failed
            )  # first those that were answered, then those that failed
            left = left[failed.index(True) if True in failed else len(failed) :]
    finally:
        over.set()
        cutting.join()
    numbers = [int(id) for link in proxy.links for id in sent(link, rb'<item id="(\d+)"')]
    high = -1
    for before, number in zip([-1, *numbers], numbers, strict=False):
        # It begins anew where something failed, and leaves nothing out.
        assert number <= high + 1
        assert number == before + 1 or number <= before
        high = max(high, number)
    assert high > 0


# The end of several


def test_connections_are_closed_all_at_the_same_time(account, connect, item):
    with Impostor() as server:
        connections = [connect(account, port=server.port, timeout=60) for _ in range(5)]
        futures = [connection.request(item(1)) for connection in connections]
        until(lambda: server.count(b"<stream:stream") == 5, "all log in")
        begin = time.monotonic()
        close_all(connections, 1)
        assert time.monotonic() - begin < 5 * 1.9
    assert [type(future.exception(SECONDS)) for future in futures] == [StreamLost] * 5


def test_a_request_that_does_not_endure_is_a_timeout_on_a_frozen_stream(
    behind, open_proxy, connect, item, service, node
):
    proxy = open_proxy()
    connection = connect(behind(proxy), answer_within=0.5)
    connection.request(item(1)).result(SECONDS)
    proxy.freeze()
    lasting = connection.request(item(2))
    asking = connection.request(stanzas.items(service, node))
    assert isinstance(asking.exception(SECONDS), RequestTimeout)
    assert not lasting.done()
    proxy.thaw()
    assert lasting.result(SECONDS) == "2"
