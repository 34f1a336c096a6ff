"""What the bench's visitors send."""

import base64

import pytest

from bench.visits import NAME, NAME64, PLAIN, Step, frame, post, steps


def test_the_name_is_the_same_in_the_login_and_in_the_address():
    name = "0123456789abcde"
    secret = PLAIN.replace(NAME64, base64.b64encode(name.encode()).decode())
    assert base64.b64decode(secret) == f"\0v-{name}\0guest".encode()
    (subscribe,) = [step.send for step in steps("websocket", 1, "/n") if b"<subscribe" in step.send]
    assert f'jid="v-{NAME}@guests.localhost/page"'.encode() in subscribe


@pytest.mark.parametrize("size", [1, 125, 126, 70, 3000])
def test_a_frame_is_masked_and_tells_its_size(size: int):
    sent = frame("x" * size)
    head = 2 if size < 126 else 4
    told = sent[1] & 127 if head == 2 else int.from_bytes(sent[2:4], "big")
    assert (sent[0], sent[1] & 128, told) == (0x81, 128, size)
    assert sent[head:] == bytes(4) + b"x" * size


def test_a_bosh_request_tells_the_size_of_its_body():
    head, _, body = post(1, 'type="terminate"').partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head


def test_a_step_is_written_with_the_sizes_of_what_is_sent_and_awaited():
    step = Step(b"ab\n", "answer", framed=True, who="leaving")
    assert bytes(step) == b"3 6 f l\nab\nanswer"


@pytest.mark.parametrize(("kind", "leaves", "stays"), [("websocket", 7, 6), ("bosh", 6, 6)])
def test_a_visit_has_as_many_round_trips_as_a_page(kind, leaves: int, stays: int):
    taken = steps(kind, 1, "/n")
    assert len([step for step in taken if step.who != "staying"]) == leaves
    assert len([step for step in taken if step.who != "leaving"]) == stays
