"""What is published to peers."""

from io import StringIO

import pytest

from bench.peers.publishing import READY, obey, payload


@pytest.mark.parametrize("number", [1, 123_456_789])
def test_each_event_has_350_bytes_in_which_its_number_and_moment_are_found(number: int):
    text = payload(number, 42_000_000_000)
    assert len(text.encode()) == 350
    assert f"@{number}:42000000000@" in text


def test_a_number_is_said_again_when_its_event_has_been_accepted():
    output = StringIO()
    said_before = []

    def publish(text: str) -> None:
        said_before.append((text, output.getvalue().split()))

    obey(publish, ["7\n", "8\n"], output, clock=lambda: 99)
    assert said_before == [(payload(7, 99), [READY]), (payload(8, 99), [READY, "7"])]
    assert output.getvalue().split() == [READY, "7", "8"]
