"""Visitors who leave leave nothing behind on the server."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from pubsub import nodes, publish
from tests.visitors import BoshVisitor, WebSocketVisitor
from tests.waiting import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("xmpp_settings")]

#: ejabberd takes a BOSH session for gone when nobody polls it for `wait` and 30 s more.
BOSH_INACTIVITY = 45


@pytest.mark.timeout(240)
def test_a_thousand_visits_leave_no_subscription(stack):
    """Half of the visitors say goodbye; the others' connections break."""
    node = f"/test/{uuid.uuid4().hex}"
    publish(node, "Hello").result(10)
    bosh = [BoshVisitor(stack.settings, node) for _ in range(50)]
    assert len(nodes.subscriptions(node).result(10)) == 50
    for number, visitor in enumerate(bosh):
        leave(visitor, politely=number % 2 == 0)
    with ThreadPoolExecutor(8) as pool:
        visits = list(pool.map(partial(visit, stack.settings, node), range(950)))
    assert all(visits)
    until(
        lambda: nodes.subscriptions(node).result(10) == [],
        "no subscription is left",
        seconds=BOSH_INACTIVITY,
    )


@pytest.mark.delivery
def test_a_visitor_who_comes_back_under_his_address_ends_his_old_session(stack):
    """The server has not missed the old one yet; what he leaves behind is nothing, too."""
    node = f"/test/{uuid.uuid4().hex}"
    publish(node, "Hello").result(10)
    old, new = (WebSocketVisitor(stack.settings, node, name="ada") for _ in range(2))
    assert "conflict" in old.hear()
    assert [entry.jid for entry in nodes.subscriptions(node).result(10)] == [new.jid]
    old.vanish()
    publish(node, "once more", item_id="1").result(10)
    assert "once more" in new.hear()
    new.vanish()
    until(lambda: nodes.subscriptions(node).result(10) == [], "no subscription is left")


def visit(settings, node, number):
    """Whether the visitor was subscribed while he was there, asked from the node's owner."""
    visitor = WebSocketVisitor(settings, node)
    subscribed = visitor.jid in {entry.jid for entry in nodes.subscriptions(node).result(10)}
    leave(visitor, politely=number % 2 == 0)
    return subscribed


def leave(visitor, *, politely):
    if politely:
        visitor.say_goodbye()
    else:
        visitor.vanish()
