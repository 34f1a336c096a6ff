"""pubsub/wire/session.py: what is known of a stream without reading from it."""

from types import SimpleNamespace

import pytest

from pubsub.exceptions import StreamLost
from pubsub.wire.session import READS_AT_ONCE, Session


class Transport:
    """One that breaks when it is written to, and whose descriptor says nothing of that."""

    server = "here:1"
    has_pending = False

    def write(self, data):
        raise StreamLost(self.server, "TLS failed")


def opened(**changes):
    """A session whose descriptor never has anything."""
    stream = {"receive": lambda: False, "stanzas": [], "end": None, **changes}
    return Session(SimpleNamespace(transport=Transport(), **stream), "django@localhost/1")


def test_what_came_with_the_last_words_of_the_login_is_something_to_read():
    session = opened(stanzas=["a stanza"], end=StreamLost("here:1", "it ended the stream"))
    assert session.has_pending
    stanzas = session.read()
    assert next(stanzas) == "a stanza"
    with pytest.raises(StreamLost, match="it ended the stream"):
        next(stanzas)


def test_after_many_reads_there_may_be_more_to_read():
    left = [True] * READS_AT_ONCE
    session = opened(receive=lambda: bool(left) and left.pop())
    assert list(session.read()) == []
    assert session.has_pending
    assert list(session.read()) == []
    assert not session.has_pending


def test_that_a_write_has_failed_is_something_to_read():
    session = opened()
    assert list(session.read()) == []
    assert not session.has_pending
    assert session.write(b"lost") == 0
    assert session.has_pending
    with pytest.raises(StreamLost, match="TLS failed"):
        list(session.read())
