"""pubsub/wire/session.py: what is known of a stream without reading from it."""

from types import SimpleNamespace

import pytest

from pubsub.exceptions import StreamLost
from pubsub.wire.session import Session


class Transport:
    """One that breaks when it is written to, and whose descriptor says nothing of that."""

    server = "here:1"
    has_pending = False

    def write(self, data):
        raise StreamLost(self.server, "TLS failed")


def test_that_a_write_has_failed_is_something_to_read():
    stream = SimpleNamespace(transport=Transport(), receive=lambda: False, stanzas=[], end=None)
    session = Session(stream, "django@localhost/1")
    assert not session.has_pending
    assert session.write(b"lost") == 0
    assert session.has_pending
    with pytest.raises(StreamLost, match="TLS failed"):
        list(session.read())
