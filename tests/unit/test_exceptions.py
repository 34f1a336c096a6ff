"""pubsub/exceptions.py: what errors say, and that copies of them say the same."""

import copy

from pubsub.exceptions import RequestRefused, SubscriptionRefused


def test_a_refused_subscription_names_the_node_and_says_what_to_do():
    missing = SubscriptionRefused("/n", "item-not-found", "cancel", "Node not found")
    assert "there is no node '/n' to listen to; publish something to it first" in str(missing)
    closed = SubscriptionRefused("/n", "not-allowed", "cancel", "", "closed-node")
    assert str(closed) == (
        "cannot listen to the node '/n': the server refused with not-allowed (closed-node)"
    )
    assert isinstance(closed, RequestRefused)


def test_a_copy_of_a_refused_subscription_is_the_same():
    error = SubscriptionRefused("/n", "not-allowed", "cancel", "text", "closed-node")
    for copied in (copy.copy(error), SubscriptionRefused(*error.args)):
        assert str(copied) == str(error)
        assert (copied.node, copied.condition, copied.type) == ("/n", "not-allowed", "cancel")
