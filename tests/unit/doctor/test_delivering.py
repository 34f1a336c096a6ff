"""What is made of that which the module that serves sessions tells."""

from typing import Any

import pytest

from pubsub.doctor.delivering import examine_fanout
from pubsub.doctor.findings import Finding
from pubsub.doctor.site import Site
from pubsub.exceptions import RequestRefused
from pubsub.futures import failed, resolved
from pubsub.wire.fanout import FanoutStatus


class Answering:
    """A server that answers with what a test wants."""

    def __init__(self, answer: FanoutStatus | RequestRefused) -> None:
        self._answer = answer

    def fanout_status(self) -> Any:
        is_error = isinstance(self._answer, Exception)
        return failed(self._answer) if is_error else resolved(self._answer)


def only_finding(answer: FanoutStatus | RequestRefused) -> Finding:
    site = Site()
    site.__dict__["server"] = Answering(answer)
    (finding,) = examine_fanout(site)
    return finding


def test_what_it_serves_is_told() -> None:
    found = only_finding(FanoutStatus(version=1, nodes=3, subscriptions=1000))
    assert found.outcome.value == "ok"
    assert "subscriptions that it serves: 1000, of nodes: 3" in found.seen


@pytest.mark.parametrize(
    ("condition", "text"),
    [("forbidden", "Access denied by service policy"), ("remote-server-not-found", "")],
)
def test_where_nobody_answers_it_is_off_and_works_all_the_same(condition: str, text: str) -> None:
    found = only_finding(RequestRefused(condition, "auth", text))
    assert found.outcome.value == "warning"
    assert found.seen.startswith("mod_pubsub_sessions is off: ")
    assert found.why.startswith("Everything works without it, but")
    assert "docs/performance.rst" in found.why


def test_where_the_publisher_may_not_ask_it_is_on() -> None:
    found = only_finding(RequestRefused("forbidden", "auth"))
    assert found.outcome.value == "warning"
    assert found.why.startswith("It is loaded")
    assert "`access: publisher`" in found.remedy
