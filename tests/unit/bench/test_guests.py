"""What guests read and write before they join a crowd."""

import socket

import pytest

from bench.errors import BenchError
from bench.guests import Place, Reader, accepted, frame, next_frame, subscribe, together


@pytest.mark.parametrize("size", [1, 125, 126, 70_000])
def test_frames_are_read_and_what_follows_is_left(size: int):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        head = {1: b"\x01", 125: b"\x7d", 126: b"\x7e\x00\x7e"}.get(
            size, b"\x7f" + size.to_bytes(8, "big")
        )
        theirs.sendall(b"\x81" + head + b"x" * size + b"rest")
        reader = Reader(ours)
        assert next_frame(reader) == b"x" * size
        assert reader.rest == b"rest"[: len(reader.rest)]


def test_frames_are_written_masked():
    assert frame("hi") == b"\x81\x82\0\0\0\0hi"
    assert frame("x" * 300)[:8] == b"\x81\xfe\x01\x2c\0\0\0\0"


def test_a_connection_that_ends_is_told():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"half")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionError, match="has closed"):
            Reader(ours).until(b"\r\n")


def test_a_guest_subscribes_by_full_jid_and_has_to_be_accepted():
    place = Place(1, "guests.localhost", "pubsub.localhost", "/a&b")
    assert '<subscribe node="/a&amp;b" jid="a@b/c"/>' in subscribe(place, "a@b/c")
    accepted(b"<iq xml:lang='en' type='result' id='s'/>")
    with pytest.raises(BenchError, match="item-not-found"):
        accepted(b"<iq type='error'><error><item-not-found/></error></iq>")


def test_a_visitor_who_cannot_come_is_told():
    called = []

    def one(number: int) -> None:
        called.append(number)
        if number == 3:
            raise ConnectionError("closed")

    with pytest.raises(BenchError, match="closed"):
        together(one, 5)
    assert 3 in called
