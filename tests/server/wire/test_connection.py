"""One connection to a real ejabberd, with a proxy between them wherever something shall fail."""

import dataclasses
import json
import logging
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from pubsub.exceptions import (
    AuthenticationError,
    ConnectError,
    InvalidItem,
    PubSubError,
    QueueFull,
    RequestRefused,
    RequestTimeout,
    StreamLost,
    TLSError,
)
from pubsub.wire import stanzas
from pubsub.wire.connection import Connection
from pubsub.wire.owner import Owner
from tests.proxy import LOOPBACK, Impostor
from tests.server.wire.conftest import publisher
from tests.waiting import until

ROOT = Path(__file__).parents[3]
SECONDS = 20  # for what should come at once; nothing waits as long unless it hangs


@pytest.fixture
def item(service, node):
    """A function that makes the request that publishes an item of an id to the test's node."""

    def item(id, payload="<entry xmlns='urn:x'>x</entry>"):
        return stanzas.publish(service, node, payload, str(id))

    return item


@pytest.fixture
def fleeting(item):
    """The same, of requests that are not sent again when their stream is lost."""
    return lambda *args: dataclasses.replace(item(*args), endures=False)


@pytest.fixture
def behind(account):
    """A function: the account, behind a proxy that sees what is said."""

    def behind(proxy, **changes):
        return dataclasses.replace(account, port=proxy.port, tls="off", **changes)

    return behind


def results(futures):
    """The results of Futures, all of which must come soon."""
    return [future.result(SECONDS) for future in futures]


def owner_threads(connection):
    return [t for t in threading.enumerate() if t.name == f"pubsub {connection.server}"]


def held_back(connection, proxy, requests):
    """The Futures of requests that have gone by the proxy, which keeps the answers to itself."""
    proxy.freeze(requests=False)
    before = proxy.count(b"<iq ")
    futures = [connection.request(request) for request in requests]
    until(lambda: proxy.count(b"<iq ") == before + len(futures), "the requests reach the proxy")
    return futures


def answered(connection, request):
    """Ask until there is an answer: with little time for it, a busy machine may need more tries."""
    until(lambda: connection.request(request).exception(SECONDS) is None, "an answer in time")


# In good weather


def test_nothing_is_opened_before_the_first_request(account, connect):
    before = psutil.Process().num_fds(), threading.active_count()
    connection = connect(account)
    assert (psutil.Process().num_fds(), threading.active_count()) == before
    connection.request(stanzas.ping("localhost")).result(SECONDS)
    assert len(owner_threads(connection)) == 1


@pytest.mark.parametrize("tls", ["starttls", "direct"])
def test_a_request_resolves_to_its_result(account, connect, stack, item, tls):
    port = stack.ports.xmpp if tls == "starttls" else stack.ports.xmpp_tls
    assert connect(account, tls=tls, port=port).request(item("an id")).result(SECONDS) == "an id"


def test_requests_are_not_held_up_by_each_other(account, connect, item, service, node):
    connection = connect(account)
    done = []
    futures = [connection.request(item(number)) for number in range(2000)]
    for future in futures:
        future.add_done_callback(lambda future: done.append(future.result()))
    expected = [str(number) for number in range(2000)]
    assert results(futures) == expected
    assert sorted(done, key=int) == expected
    newest = connection.request(stanzas.items(service, node, max_items=1)).result(SECONDS)
    assert [found.id for found in newest] == ["1999"]


def test_answers_come_in_the_order_of_the_requests(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item("first")).result(SECONDS)
    done = []
    futures = held_back(connection, proxy, [item(number) for number in range(100)])
    for future in futures:
        future.add_done_callback(lambda future: done.append(future.result()))
    proxy.thaw()
    results(futures)
    assert done == [str(number) for number in range(100)]


def test_twenty_threads_share_one_stream(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    together = threading.Barrier(20)

    def publish(thread):
        together.wait()
        return results([connection.request(item(f"{thread} {n}")) for n in range(50)])

    with ThreadPoolExecutor(20) as pool:
        published = list(pool.map(publish, range(20)))
    assert published == [[f"{thread} {n}" for n in range(50)] for thread in range(20)]
    assert len(proxy.links) == 1
    assert len(owner_threads(connection)) == 1


def test_who_asks_waits_for_no_lock(account, connect, item):
    connection = connect(account)
    connection.request(item(0)).result(SECONDS)
    with connection._owner._queue_lock, ThreadPoolExecutor(1) as pool:
        future = pool.submit(connection.request, item(1)).result(SECONDS)
    assert future.result(SECONDS) == "1"


def test_a_draft_is_made_by_the_owner_in_its_turn(account, connect, item):
    made = []

    def make(future):
        made.append(threading.current_thread().name)
        return item("drafted")

    connection = connect(account)
    futures = [connection.request(item(0)), connection.draft(make), connection.request(item(1))]
    assert results(futures) == ["0", "drafted", "1"]
    assert made == [f"pubsub {connection.server}"]


def test_a_node_is_created_configured_and_deleted(account, connect, service, node, item):
    ask = connect(account).request
    creation = stanzas.create(service, node, {"max_items": 7, "title": "A <title>\r\n & more"})
    assert ask(creation).result(SECONDS) is None
    assert ask(creation).result(SECONDS) is None  # it is there already, which is as well
    found = ask(stanzas.configuration(service, node)).result(SECONDS)
    assert found["max_items"] == "7"
    assert found["title"].split() == ["A", "<title>", "&", "more"]
    ask(stanzas.configure(service, node, {"max_items": 2})).result(SECONDS)
    assert ask(stanzas.configuration(service, node)).result(SECONDS)["max_items"] == "2"
    results(ask(item(id)) for id in "abc")
    items = ask(stanzas.items(service, node)).result(SECONDS)
    assert sorted(found.id for found in items) == ["b", "c"]
    assert items[0].payload.getNamespace() == "urn:x"
    assert ask(stanzas.retract(service, node, "b")).result(SECONDS) == "b"
    assert ask(stanzas.retract(service, node, "b")).result(SECONDS) == "b"
    assert [found.id for found in ask(stanzas.items(service, node)).result(SECONDS)] == ["c"]
    ask(stanzas.delete(service, node)).result(SECONDS)
    with pytest.raises(RequestRefused, match="item-not-found"):
        ask(stanzas.items(service, node)).result(SECONDS)


def test_the_owner_sees_and_sets_subscriptions_and_affiliations(account, connect, service, node):
    ask = connect(account).request
    ask(stanzas.create(service, node, {})).result(SECONDS)
    state = ask(stanzas.subscribe(service, node, account.jid)).result(SECONDS)
    assert state == "subscribed"
    (subscription,) = ask(stanzas.subscriptions(service, node)).result(SECONDS)
    assert (subscription.jid, subscription.state) == (account.jid, "subscribed")
    ask(stanzas.unsubscribe(service, node, account.jid)).result(SECONDS)
    assert ask(stanzas.subscriptions(service, node)).result(SECONDS) == []
    alice, bob = "alice@users.localhost", "bob@users.localhost"
    ask(stanzas.set_affiliations(service, node, {alice: "member"})).result(SECONDS)
    found = ask(stanzas.affiliations(service, node)).result(SECONDS)
    assert found == {account.jid: "owner", alice: "member"}
    ask(stanzas.set_subscriptions(service, node, {bob: "subscribed"})).result(SECONDS)
    (subscription,) = ask(stanzas.subscriptions(service, node)).result(SECONDS)
    assert (subscription.jid, subscription.state) == (bob, "subscribed")


def test_our_nodes_are_found_by_our_affiliations(private_stack, connect, node):
    stack = private_stack()
    service = stack.settings["XMPP_PUBSUB_HOST"]
    ask = connect(publisher(stack)).request
    assert ask(stanzas.own_nodes(service)).result(SECONDS) == []
    ask(stanzas.create(service, node, {"access_model": "whitelist"})).result(SECONDS)
    assert ask(stanzas.own_nodes(service)).result(SECONDS) == [node]


@pytest.mark.parametrize("id", ["<&>'\"", " a\tb\nc\r ", "€ \U0001f600", "]]>", "x" * 1000])
def test_an_id_comes_back_as_it_was_sent(account, connect, service, node, id):
    ask = connect(account).request
    request = stanzas.publish(service, f"{node}{id}", "<entry/>", id)
    assert ask(request).result(SECONDS) == id
    (found,) = ask(stanzas.items(service, f"{node}{id}")).result(SECONDS)
    assert found.id == id


def test_an_error_of_the_server_says_what_and_why(account, connect, service, node):
    ask = connect(account).request
    with pytest.raises(RequestRefused) as refused:
        ask(stanzas.items(service, node)).result(SECONDS)
    assert (refused.value.condition, refused.value.type) == ("item-not-found", "cancel")
    with pytest.raises(RequestRefused) as refused:
        too_big = f"<entry xmlns='urn:x'>{'x' * 300_000}</entry>"
        ask(stanzas.publish(service, node, too_big)).result(SECONDS)
    assert (refused.value.condition, refused.value.type) == ("not-acceptable", "modify")
    assert refused.value.pubsub_condition == "payload-too-big"


def test_a_refused_request_does_not_disturb_its_neighbours(account, connect, service, item):
    connection = connect(account)
    futures = []
    for number in range(50):
        futures.append(connection.request(item(number)))
        refused = connection.request(stanzas.items(service, "/no/such/node"))
        futures.append(refused)
    assert results(futures[::2]) == [str(number) for number in range(50)]
    for future in futures[1::2]:
        assert isinstance(future.exception(SECONDS), RequestRefused)


def test_a_service_that_does_not_exist_is_an_error(account, connect):
    future = connect(account).request(stanzas.delete("nowhere.invalid", "/n"))
    with pytest.raises(RequestRefused) as refused:  # why depends on the server's configuration
        future.result(SECONDS)
    assert refused.value.condition != "undefined-condition"


def test_a_ping_of_the_server_is_answered(behind, open_proxy, connect):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(stanzas.ping("localhost")).result(SECONDS)
    proxy.inject(
        b"<iq type='get' id='from server' from='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"
    )
    answer = b'<iq type="result" id="from server" to="localhost"/>'
    until(lambda: proxy.count(answer) == 1, "the answer to the ping")


def test_what_is_not_meant_for_us_is_passed_over(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item(1)).result(SECONDS)
    proxy.inject(
        b"<message from='mallory@localhost'><body>hi</body></message><presence/>\n \n"
        b"<iq type='result' id='nobody asked'/><iq/><other/>"
    )
    assert connection.request(item(2)).result(SECONDS) == "2"
    assert len(proxy.links) == 1


def test_an_answer_in_another_name_is_not_believed(behind, open_proxy, connect, item):
    forged = (
        "<iq type='result' from='{}' id='{}'><pubsub xmlns='http://jabber.org/protocol/pubsub'>"
        "<publish node='/n'><item id='forged'/></publish></pubsub></iq>"
    )

    def rewrite(link, stanza):
        id = re.search(rb"<iq [^>]*type='result'[^>]* id='([^']*)'", stanza)
        if id is None or b"<publish" not in stanza:
            return stanza
        names = ("mallory@localhost/x", "localhost", "pubsub.localhost.example")
        lies = "".join(forged.format(name, id[1].decode()) for name in names)
        return lies.encode() + stanza

    connection = connect(behind(open_proxy(rewrite=rewrite)))
    futures = [connection.request(item(number)) for number in range(5)]
    assert results(futures) == ["0", "1", "2", "3", "4"]


def test_nobody_can_guess_the_ids_of_the_next_stream(behind, open_proxy, connect):
    proxy = open_proxy()
    for _ in range(2):
        connection = connect(behind(proxy))
        connection.request(stanzas.ping("localhost")).result(SECONDS)
    one, other = (
        re.findall(rb'<iq type="get"[^>]* id="([^"]*)"', bytes(link.received))
        for link in proxy.links
    )
    assert len(one[0]) >= 12
    assert one[0][:12] != other[0][:12]


# The server falls silent


def test_a_frozen_server_is_a_timeout_that_names_it(behind, open_proxy, connect, fleeting):
    proxy = open_proxy()
    connection = connect(behind(proxy), answer_within=0.5)
    answered(connection, fleeting(1))
    proxy.freeze()
    begin = time.monotonic()
    futures = [connection.request(fleeting(number)) for number in (2, 3)]
    for future in futures:
        with pytest.raises(RequestTimeout, match=rf"{LOOPBACK}:{proxy.port} within 0\.5 s"):
            future.result(SECONDS)
    assert 0.5 <= time.monotonic() - begin < SECONDS


def test_a_frozen_stream_is_replaced(behind, open_proxy, connect, fleeting):
    proxy = open_proxy()
    connection = connect(behind(proxy), answer_within=1)
    answered(connection, fleeting(0))
    logins = proxy.count(b"<auth ")
    proxy.freeze()
    future = connection.request(fleeting(1))
    assert isinstance(future.exception(SECONDS), RequestTimeout)
    proxy.thaw()
    answered(connection, fleeting(2))
    assert proxy.count(b"<auth ") > logins


def test_waiting_costs_no_processor_time(behind, open_proxy, connect, item, caplog):
    proxy = open_proxy()
    connection = connect(behind(proxy), ping_after=0.05, answer_within=1.5)
    answered(connection, item(1))
    proxy.freeze()
    begin = time.process_time()
    until(lambda: "no answer for" in caplog.text, "the frozen stream is noticed")
    assert time.process_time() - begin < 0.75


def test_an_answer_that_never_comes_expires_while_later_ones_come(
    behind, open_proxy, connect, item
):
    proxy = open_proxy(rewrite=lambda link, stanza: b"" if b"'lost'" in stanza else stanza)
    connection = connect(behind(proxy), answer_within=3)
    lost = connection.request(item("lost"))
    begin = time.monotonic()
    later = [connection.request(item(number)) for number in range(20)]
    assert results(later) == [str(number) for number in range(20)]
    with pytest.raises(RequestTimeout, match=f"{LOOPBACK}:{proxy.port}"):
        lost.result(SECONDS)
    assert 2.9 <= time.monotonic() - begin < SECONDS
    assert connection.request(item("next")).result(SECONDS) == "next"
    assert len(proxy.links) == 1  # the stream is as good as before


def test_a_server_that_talks_but_does_not_answer_is_noticed(behind, open_proxy, connect, fleeting):
    def rewrite(link, stanza):
        return b"<message/>" if b"'lost'" in stanza else stanza

    proxy = open_proxy(rewrite=rewrite)
    connection = connect(behind(proxy), answer_within=0.5)
    answered(connection, fleeting("first"))
    lost = connection.request(fleeting("lost"))

    def noticed():
        proxy.inject(b"<message/>")
        return lost.done()

    until(noticed, "the request fails")
    assert isinstance(lost.exception(), RequestTimeout)


def test_an_idle_stream_is_asked_for_a_sign_of_life(behind, open_proxy, connect):
    proxy = open_proxy()
    connection = connect(behind(proxy), ping_after=0.05)
    connection.request(stanzas.ping("localhost")).result(SECONDS)
    until(lambda: proxy.count(b"urn:xmpp:ping") >= 4, "pings")
    assert len(proxy.links) == 1


def test_an_idle_stream_that_freezes_is_noticed_and_replaced(
    behind, open_proxy, connect, item, caplog
):
    proxy = open_proxy()
    connection = connect(behind(proxy), ping_after=0.05, answer_within=1)
    answered(connection, item(1))
    logins = proxy.count(b"<auth ")
    proxy.freeze()
    until(lambda: "no answer for" in caplog.text, "the frozen stream is noticed")
    proxy.thaw()
    answered(connection, item(2))
    assert proxy.count(b"<auth ") > logins


# The stream breaks


@pytest.mark.parametrize("rst", [True, False], ids=["RST", "FIN"])
def test_what_was_sent_on_a_stream_that_broke_is_lost_and_the_next_one_takes_over(
    behind, open_proxy, connect, fleeting, rst
):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(fleeting(0)).result(SECONDS)
    futures = held_back(connection, proxy, [fleeting(number) for number in range(10)])
    proxy.cut(rst=rst)
    for future in futures:
        with pytest.raises(StreamLost, match=f"{LOOPBACK}:{proxy.port}"):
            future.result(SECONDS)
    proxy.thaw()
    assert connection.request(fleeting("next")).result(SECONDS) == "next"


@pytest.mark.parametrize("rst", [True, False], ids=["RST", "FIN"])
def test_an_idle_stream_that_broke_is_replaced(behind, open_proxy, connect, item, rst, caplog):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item(0)).result(SECONDS)
    proxy.cut(rst=rst)
    until(lambda: "Lost the stream" in caplog.text, "the end of the stream is noticed")
    assert connection.request(item(1)).result(SECONDS) == "1"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"</stream:stream>", "it ended the stream"),
        (b"<a></b>", "no XMPP"),
        (b"HTTP/1.1 200 OK\r\n\r\n<!doctype html>", "no XMPP"),
        (b"<!DOCTYPE a>", "no XMPP"),
        (b"<a>&lol;</a>", "no XMPP"),
        (b"<a>" + b"x" * (17 * 1024 * 1024), "a stanza of more than"),
        (
            b"<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
            "it ended the stream with reset",
        ),
    ],
    ids=["goodbye", "malformed", "HTTP", "DOCTYPE", "entity", "endless", "stream error"],
)
def test_what_no_server_says_ends_the_stream_and_the_next_one_takes_over(
    behind, open_proxy, connect, fleeting, said, reason
):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(fleeting(0)).result(SECONDS)
    (future,) = held_back(connection, proxy, [fleeting(1)])
    proxy.inject(said)
    with pytest.raises(StreamLost, match=reason):
        future.result(SECONDS)
    proxy.thaw()
    assert connection.request(fleeting(2)).result(SECONDS) == "2"


def test_a_request_that_breaks_the_stream_takes_only_what_was_sent_with_it(
    account, connect, fleeting
):
    connection = connect(account)
    connection.request(fleeting(0)).result(SECONDS)
    with pytest.raises(StreamLost, match="not-well-formed"):
        connection.request(fleeting(1, "<entry>\x08</entry>")).result(SECONDS)
    assert connection.request(fleeting(2)).result(SECONDS) == "2"


def test_what_was_answered_before_the_goodbye_counts(behind, open_proxy, connect, item):
    def rewrite(link, stanza):
        return stanza + b"</stream:stream>" if b"'last'" in stanza else stanza

    connection = connect(behind(open_proxy(rewrite=rewrite)))
    futures = [connection.request(item(id)) for id in ("first", "last")]
    assert results(futures) == ["first", "last"]


def test_what_was_not_sent_yet_goes_out_on_the_next_stream(behind, open_proxy, connect, fleeting):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(fleeting("first")).result(SECONDS)
    proxy.freeze()
    big = f"<entry xmlns='urn:x'>{'x' * 200_000}</entry>"
    futures = [connection.request(fleeting(number, big)) for number in range(100)]
    until(lambda: proxy.count(b"<iq ") > 2, "the first of them are sent")
    proxy.cut()
    proxy.thaw()
    errors = [future.exception(SECONDS) for future in futures]
    sent = [error for error in errors if error is not None]
    assert sent
    assert all(isinstance(error, StreamLost) for error in sent)
    # What the kernel and the buffer took is lost; it was the oldest, and not all.
    assert errors == sent + [None] * (len(futures) - len(sent))
    assert len(sent) < len(futures)


# No server


def test_requests_made_while_the_server_is_down_are_sent_when_it_is_back(
    behind, open_proxy, connect, item
):
    proxy = open_proxy()
    proxy.go_down()
    connection = connect(behind(proxy))
    futures = [connection.request(item(number)) for number in range(20)]
    wait(futures, timeout=0.1)
    assert not any(future.done() for future in futures)
    proxy.come_up()
    assert results(futures) == [str(number) for number in range(20)]


def test_requests_fail_in_time_when_the_server_stays_down(account, connect, fleeting):
    with socket.create_server((LOOPBACK, 0)) as closed:
        port = closed.getsockname()[1]
    connection = connect(account, port=port, timeout=0.6)
    begin = time.monotonic()
    with pytest.raises(ConnectError, match=rf"{LOOPBACK}:{port}: cannot connect: .*refused"):
        connection.request(fleeting(1)).result(SECONDS)
    assert 0.5 <= time.monotonic() - begin < SECONDS


def test_requests_fail_in_time_when_the_server_never_answers(account, connect, fleeting):
    with Impostor() as server:
        connection = connect(account, port=server.port, timeout=0.5)
        begin = time.monotonic()
        with pytest.raises(ConnectError, match=rf"{LOOPBACK}:{server.port}: no answer"):
            connection.request(fleeting(1)).result(SECONDS)
        assert 0.4 <= time.monotonic() - begin < SECONDS


def test_a_request_that_comes_while_the_owner_falls_asleep_is_not_forgotten(
    account, connect, fleeting, monkeypatch
):
    """It comes at the very moment when the owner thread is about to sleep."""
    with socket.create_server((LOOPBACK, 0)) as closed:
        port = closed.getsockname()[1]
    connection = connect(account, port=port, timeout=0.3)
    late = []
    wait = Owner._wait

    def hasty_wait(owner):
        if not late and owner.attempts.failures and not owner._outgoing:
            late.append(connection.request(stanzas.ping("localhost")))
        wait(owner)

    monkeypatch.setattr(Owner, "_wait", hasty_wait)
    assert isinstance(connection.request(fleeting(1)).exception(SECONDS), ConnectError)
    until(lambda: late, "the request in the last moment")
    assert isinstance(late[0].exception(SECONDS), ConnectError)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
def test_a_host_that_does_not_exist_is_named(account, connect, fleeting, host):
    connection = connect(account, host=host, timeout=0.5)
    with pytest.raises(ConnectError, match="cannot connect") as error:
        connection.request(fleeting(1)).result(SECONDS)
    assert error.value.server == f"{host}:{account.port}"


def test_a_wrong_password_fails_every_request_at_once(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy, password="wrong", timeout=60))
    begin = time.monotonic()
    futures = [connection.request(item(number)) for number in range(20)]
    for future in futures:
        with pytest.raises(AuthenticationError, match=f"{LOOPBACK}:{proxy.port}.*not-authorized"):
            future.result(SECONDS)
    for number in range(200):
        future = connection.request(item(number))
        assert isinstance(future.exception(SECONDS), AuthenticationError)
    # At most one login per quarter of a second, whatever is asked of us.
    assert proxy.count(b"<auth ") <= 2 + (time.monotonic() - begin) * 4
    assert time.monotonic() - begin < SECONDS


def test_a_password_that_is_mended_on_the_server_is_noticed(behind, open_proxy, connect, item):
    nothing_on_offer = re.compile(b"<mechanism>[^<]*</mechanism>")
    proxy = open_proxy(rewrite=lambda link, stanza: nothing_on_offer.sub(b"", stanza))
    connection = connect(behind(proxy))
    assert isinstance(connection.request(item(1)).exception(SECONDS), AuthenticationError)
    proxy.rewrite = lambda link, stanza: stanza
    until(lambda: connection.request(item(2)).exception(SECONDS) is None, "a login")


@pytest.mark.parametrize("tls", ["starttls", "direct"])
def test_an_unknown_authority_fails_every_request_at_once(
    account, connect, stack, item, ca_file, tls
):
    port = stack.ports.xmpp if tls == "starttls" else stack.ports.xmpp_tls
    connection = connect(account, tls=tls, port=port, ca_file=ca_file, timeout=60)
    for number in range(5):
        with pytest.raises(TLSError, match="XMPP_CA_FILE"):
            connection.request(item(number)).result(SECONDS)


def test_every_failure_to_log_in_is_logged_with_the_servers_name(account, connect, item, caplog):
    connection = connect(account, password="wrong")
    connection.request(item(1)).exception(SECONDS)
    (record,) = [r for r in caplog.records if r.name == "pubsub.wire" and r.levelname == "WARNING"]
    assert f"{account.host}:{account.port}" in record.getMessage()
    assert "attempt 1" in record.getMessage()


@pytest.mark.timeout(240)
def test_a_server_that_is_restarted_is_found_again(private_stack, connect, service, node):
    stack = private_stack()
    connection = connect(publisher(stack), timeout=60)
    request = stanzas.publish(service, node, "<entry/>", "1")
    connection.request(request).result(SECONDS)
    stack.ejabberd.kill()
    queued = connection.request(request)
    stack.ejabberd.start()
    assert queued.exception(70) is None or isinstance(queued.exception(), StreamLost)
    assert connection.request(request).result(70) == "1"


# The queue


def test_more_than_the_queue_takes_is_refused_at_once(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy), queue_size=5)
    connection.request(item(0)).result(SECONDS)
    futures = held_back(connection, proxy, [item(number) for number in range(5)])
    refused = connection.request(item("one too many"))
    with pytest.raises(QueueFull, match=rf"5 requests to {LOOPBACK}:{proxy.port}.*QUEUE_SIZE"):
        refused.result(0)
    proxy.thaw()
    assert results(futures) == ["0", "1", "2", "3", "4"]
    assert connection.request(item("there is room")).result(SECONDS) == "there is room"
    assert proxy.count(b"one too many") == 0


def test_the_queue_is_bounded_while_the_server_is_down_too(behind, open_proxy, connect, item):
    proxy = open_proxy()
    proxy.go_down()
    connection = connect(behind(proxy), queue_size=5)
    futures = [connection.request(item(number)) for number in range(8)]
    assert [future.done() for future in futures] == [False] * 5 + [True] * 3
    assert isinstance(futures[7].exception(), QueueFull)
    proxy.come_up()
    assert results(futures[:5]) == ["0", "1", "2", "3", "4"]


def test_a_request_that_is_cancelled_in_time_is_not_sent(behind, open_proxy, connect, item):
    proxy = open_proxy()
    proxy.go_down()
    connection = connect(behind(proxy))
    kept, cancelled, last = (connection.request(item(id)) for id in ("kept", "cancelled", "last"))
    assert cancelled.cancel()
    proxy.come_up()
    assert results([kept, last]) == ["kept", "last"]
    assert proxy.count(b"kept") == 1
    assert proxy.count(b"cancelled") == 0
    assert wait([cancelled], timeout=SECONDS).done


def test_a_request_that_was_sent_cannot_be_cancelled(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item(0)).result(SECONDS)
    (future,) = held_back(connection, proxy, [item(1)])
    assert not future.cancel()
    proxy.thaw()
    assert future.result(SECONDS) == "1"


@pytest.mark.parametrize("tls", ["starttls", "off"])
def test_huge_payloads_pass_a_slow_network(account, proxy, open_proxy, behind, connect, item, tls):
    slow = proxy() if tls == "starttls" else open_proxy()
    slow.rate = 12_000_000
    changed = dataclasses.replace(account, port=slow.port) if tls == "starttls" else behind(slow)
    connection = connect(changed)
    payload = f"<entry xmlns='urn:x'>{'x' * 240_000}</entry>"
    futures = [connection.request(item(number, payload)) for number in range(50)]
    assert results(futures) == [str(number) for number in range(50)]
    assert len(slow.links) == 1


# Callbacks


def test_a_callback_may_send_again(account, connect, item):
    connection = connect(account)
    second = Future()

    def again(future):
        connection.request(item("second")).add_done_callback(
            lambda f: second.set_result(f.result())
        )

    connection.request(item("first")).add_done_callback(again)
    assert second.result(SECONDS) == "second"


def test_a_callback_may_send_again_when_all_is_lost(behind, open_proxy, connect, fleeting):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(fleeting(0)).result(SECONDS)
    again = []
    futures = held_back(connection, proxy, [fleeting(number) for number in range(5)])
    for number, future in enumerate(futures):
        future.add_done_callback(lambda _, n=number: again.append(connection.request(fleeting(n))))
    proxy.cut()
    proxy.thaw()
    until(lambda: len(again) == 5, "the callbacks have run")
    assert results(again) == ["0", "1", "2", "3", "4"]


def test_a_callback_may_close(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item(0)).result(SECONDS)
    first, second = held_back(connection, proxy, [item(1), item(2)])
    first.add_done_callback(lambda _: connection.close())
    proxy.thaw()
    assert results([first, second]) == ["1", "2"]
    until(lambda: not owner_threads(connection), "the owner thread ends")


def test_an_exception_in_a_callback_breaks_nothing(behind, open_proxy, connect, item, caplog):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item(0)).result(SECONDS)
    first, second = held_back(connection, proxy, [item(1), item(2)])

    def fail(future):
        raise ValueError("a mistake in a callback")

    first.add_done_callback(fail)
    proxy.thaw()
    assert results([first, second]) == ["1", "2"]
    assert connection.request(item(3)).result(SECONDS) == "3"
    assert "a mistake in a callback" in caplog.text
    assert len(proxy.links) == 1


def test_callbacks_that_want_to_end_the_program_disturb_nobody(
    behind, open_proxy, connect, fleeting, caplog
):
    def leave(future):
        raise SystemExit("from a callback")

    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(fleeting(0)).result(SECONDS)
    answered = held_back(connection, proxy, [fleeting(number) for number in (1, 2)])
    for future in answered:
        future.add_done_callback(leave)
    proxy.thaw()
    assert results(answered) == ["1", "2"]
    lost = held_back(connection, proxy, [fleeting(number) for number in (3, 4, 5)])
    for future in lost:
        future.add_done_callback(leave)
    proxy.cut()
    proxy.thaw()
    assert all(isinstance(future.exception(SECONDS), StreamLost) for future in lost)
    assert connection.request(fleeting(6)).result(SECONDS) == "6"
    assert [r.exc_info[0] for r in caplog.records if r.exc_info] == [SystemExit] * 5
    assert len(proxy.links) == 2


def test_a_request_that_cannot_be_written_takes_nothing_with_it(account, connect, service, node):
    connection = connect(account)
    before, broken, behind = (
        connection.request(stanzas.publish(service, node, f"<entry>{text}</entry>", "1"))
        for text in ("one", "\ud800", "two")
    )
    assert results([before, behind]) == ["1", "1"]
    assert isinstance(broken.exception(SECONDS), InvalidItem)


def test_each_future_that_fails_has_an_exception_of_its_own(account, connect, item):
    connection = connect(account, password="wrong")
    first, second = (connection.request(item(number)).exception(SECONDS) for number in (1, 2))
    assert str(first) == str(second)
    assert first is not second


# The end


def test_close_sends_what_is_queued_and_then_nothing_more(account, connect, item):
    connection = connect(account)
    futures = [connection.request(item(number)) for number in range(200)]
    connection.close()
    assert [future.done() for future in futures] == [True] * 200
    assert results(futures) == [str(number) for number in range(200)]
    assert owner_threads(connection) == []
    with pytest.raises(PubSubError, match=f"{account.port}: the connection has been closed"):
        connection.request(item("late")).result(0)


def test_close_says_goodbye(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item(1)).result(SECONDS)
    connection.close()
    until(lambda: proxy.received.endswith(b"</stream:stream>"), "the goodbye")


def test_closing_twice_or_before_the_first_request_is_harmless(account, connect, item):
    connection = connect(account)
    connection.close()
    connection.close()
    assert isinstance(connection.request(item(1)).exception(0), PubSubError)
    connection = connect(account)
    connection.request(item(1)).result(SECONDS)
    connection.close()
    connection.close()


def test_close_does_not_wait_for_a_frozen_server(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy, timeout=60))
    connection.request(item(0)).result(SECONDS)
    futures = held_back(connection, proxy, [item(number) for number in range(5)])
    begin = time.monotonic()
    connection.close(0.3)
    assert 0.25 < time.monotonic() - begin < SECONDS
    for future in futures:
        assert isinstance(future.exception(SECONDS), StreamLost)
    until(lambda: not owner_threads(connection), "the owner thread ends")


def test_close_does_not_wait_for_a_server_that_is_down(account, connect, item):
    with socket.create_server((LOOPBACK, 0)) as closed:
        port = closed.getsockname()[1]
    connection = connect(account, port=port, timeout=60)
    future = connection.request(item(1))
    begin = time.monotonic()
    connection.close(0.3)
    assert time.monotonic() - begin < SECONDS
    assert isinstance(future.exception(SECONDS), (ConnectError, StreamLost))
    until(lambda: not owner_threads(connection), "the owner thread ends")


def test_close_does_not_wait_for_a_login_that_hangs(account, connect, item):
    with Impostor() as server:
        connection = connect(account, port=server.port, timeout=60)
        future = connection.request(item(1))
        until(lambda: server.received, "the login begins")
        begin = time.monotonic()
        connection.close(0.3)
        assert time.monotonic() - begin < SECONDS
        assert isinstance(future.exception(SECONDS), StreamLost)
    until(lambda: not owner_threads(connection), "the owner thread ends")


def test_nothing_is_left_by_fifty_connections(account, connect, item):
    connect(account).request(item("first")).result(SECONDS)
    before = psutil.Process().num_fds(), threading.active_count()
    for number in range(50):
        connection = Connection(account)
        connection.request(item(number)).result(SECONDS)
        connection.close()
    until(
        lambda: (psutil.Process().num_fds(), threading.active_count()) == before,
        "descriptors and threads are gone",
    )


def test_nothing_is_left_by_streams_that_broke(behind, open_proxy, connect, item):
    proxy = open_proxy()
    connection = connect(behind(proxy))

    def ours():
        here = psutil.Process().net_connections("tcp")
        return [c for c in here if c.raddr and c.raddr.port == proxy.port and c.fd != -1]

    for number in range(5):
        assert connection.request(item(number)).result(SECONDS) == str(number)
        assert len(ours()) == 1
        proxy.cut()
        until(lambda: not ours(), "the descriptor is closed")


def test_descriptors_above_1023_work(account, connect, item):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        last = 0
        while last < 1024:
            last = os.open(os.devnull, os.O_RDONLY)
            opened.callback(os.close, last)
        connection = connect(account)
        assert connection.request(item(1)).result(SECONDS) == "1"
        (stream,) = [
            c
            for c in psutil.Process().net_connections("tcp")
            if c.raddr and c.raddr.port == account.port and c.fd > 1023
        ]
        assert stream.status == psutil.CONN_ESTABLISHED
        connection.close()


def test_a_process_without_descriptors_gets_an_error_and_no_exception(account, connect, item):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                opened.callback(os.close, os.dup(0))
        connection = connect(account)
        future = connection.request(item(1))
        assert isinstance(future.exception(SECONDS), PubSubError)
    assert connection.request(item(2)).result(SECONDS) == "2"


# Processes

PRELUDE = """
import json, os, sys, threading, time
import psutil
from pubsub.wire import stanzas
from pubsub.wire.connection import Connection
from pubsub.wire.owner import Owner
from pubsub.wire.account import Account

given = json.loads(sys.stdin.read())
connection = Connection(Account(**given["account"]))

def publish(id):
    return connection.request(stanzas.publish(given["service"], given["node"], "<entry/>", id))

"""


@pytest.fixture
def run(service, node):
    """A function that runs a program with a connection of its own, and returns what it printed."""

    def run(program, account):
        given = {"account": dataclasses.asdict(account), "service": service, "node": node}
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + program],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def published(account, connect, service, node):
    """A function that returns the ids on the test's node."""
    ask = connect(account).request
    # ejabberd refuses the second of two who publish to a node that is only just being created.
    ask(stanzas.create(service, node, {})).result(SECONDS)
    return lambda: [item.id for item in ask(stanzas.items(service, node)).result(SECONDS)]


def test_what_is_queued_is_sent_before_the_interpreter_exits(account, run, published):
    run("for number in range(200): publish(str(number))", account)
    assert sorted(published(), key=int) == [str(number) for number in range(200)]


def test_the_exit_keeps_its_time_limit_when_the_server_is_gone(account, run):
    with socket.create_server((LOOPBACK, 0)) as closed:
        port = closed.getsockname()[1]
    program = """
future = publish("1")
future.add_done_callback(lambda f: print(type(f.exception()).__name__))
"""
    begin = time.monotonic()
    printed = run(program, dataclasses.replace(account, port=port, timeout=0.5))
    assert printed in ("ConnectError\n", "StreamLost\n")  # not dropped in silence
    assert time.monotonic() - begin < SECONDS


FORK = """
pid = os.fork()
who = "child" if pid == 0 else "parent"
for future in [publish(f"{who} {number}") for number in range(50)]:
    future.result(20)
if pid == 0:
    sys.exit()
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
publish("after").result(20)
"""


@pytest.mark.parametrize("first", ["", "publish('before').result(20)\n"], ids=["before", "after"])
def test_both_sides_of_a_fork_go_on_publishing(account, run, proxy, published, first):
    middle = proxy()
    run(first + FORK, dataclasses.replace(account, port=middle.port))
    expected = [f"{who} {number}" for who in ("child", "parent") for number in range(50)]
    assert sorted(published()) == sorted([*expected, "after", *(["before"] if first else [])])
    assert len(middle.links) == 2  # each has a stream of its own, and nobody lost his


def test_a_child_of_multiprocessing_sends_what_is_queued_before_it_ends(account, run, published):
    program = """
import multiprocessing
publish("before").result(20)
context = multiprocessing.get_context("fork")
child = context.Process(target=lambda: [publish(f"child {number}") for number in range(50)])
child.start()
child.join()
assert child.exitcode == 0
"""
    run(program, account)
    assert sorted(published()) == sorted(["before", *(f"child {number}" for number in range(50))])


def test_a_child_that_ends_at_once_leaves_the_parents_stream_alone(account, run, proxy, published):
    middle = proxy()
    program = """
publish("before").result(20)
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        sys.exit()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
publish("after").result(20)
"""
    run(program, dataclasses.replace(account, port=middle.port))
    assert sorted(published()) == ["after", "before"]
    assert len(middle.links) == 1


def test_a_child_sends_nothing_of_what_its_parent_had_queued(account, run, proxy, published):
    middle = proxy()
    program = """
futures = [publish(f"parent {number}") for number in range(200)]
pid = os.fork()
if pid == 0:
    connection.close()
    os._exit(0)
os.waitpid(pid, 0)
for future in futures:
    future.result(20)
"""
    run(program, dataclasses.replace(account, port=middle.port))
    assert len(published()) == 200
    assert len(middle.links) == 1


def test_a_child_holds_no_descriptor_of_its_parents_stream(account, run):
    program = """
def connected():
    return [c for c in psutil.Process().net_connections("tcp") if c.status == "ESTABLISHED"]

{before}
end = time.monotonic() + 20
while not connected():
    assert time.monotonic() < end
pid = os.fork()
if pid == 0:
    os._exit(len(connected()))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert len(connected()) == 1
os._exit(0)
"""
    run(program.format(before="publish('1').result(20)"), account)
    with Impostor() as server:  # in the middle of its login, too
        run(program.format(before="publish('1')"), dataclasses.replace(account, port=server.port))


def test_no_password_reaches_the_log(behind, open_proxy, connect, item, caplog, account):
    caplog.set_level(logging.DEBUG)
    proxy = open_proxy()
    connection = connect(behind(proxy))
    connection.request(item(1)).result(SECONDS)
    proxy.cut()
    connection.request(item(2)).exception(SECONDS)
    refused = connect(behind(proxy, password="a wrong secret"))
    refused.request(item(3)).exception(SECONDS)
    assert "Logged in" in caplog.text
    assert account.password not in caplog.text
    assert "a wrong secret" not in caplog.text
