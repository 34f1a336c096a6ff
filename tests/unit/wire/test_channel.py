"""pubsub/wire/channel.py: how long the server has enough to do."""

from concurrent.futures import Future

import pytest

from pubsub.wire import stanzas
from pubsub.wire.channel import LEAST, MANY, MOST, Channel
from pubsub.wire.ledger import Pending


@pytest.mark.parametrize(
    ("waiting", "seconds"),
    [(0, 0.0), (MANY - 1, 0.0), (MANY, MANY * LEAST), (MOST, MOST * LEAST), (900, MOST * LEAST)],
)
def test_only_a_server_with_much_to_do_is_left_alone_and_never_for_long(waiting, seconds):
    channel = Channel(None, "localhost", 10, str)
    for number in range(waiting):
        channel.ledger.add(str(number), Pending(stanzas.ping("localhost"), Future()))
    assert channel.leisure == seconds
    assert channel.leisure < 0.005
