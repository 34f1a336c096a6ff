"""What is made of that which the guard tells."""

from typing import Any

import pytest

from pubsub.doctor.findings import Finding
from pubsub.doctor.guarding import examine_database
from pubsub.doctor.remains import examine_subscriptions
from pubsub.doctor.site import Site
from pubsub.futures import resolved
from pubsub.wire.guard import GuardStatus


class Told:
    """A server whose guard says what a test wants: such ones are hard to come by."""

    def __init__(self, **status: Any) -> None:
        self._status = GuardStatus(**{"version": 1, "time": 0.0, "db": "", "dead": 0, **status})

    def guard_status(self) -> Any:
        return resolved(self._status)


def only_finding(examine: Any, **status: Any) -> Finding:
    site = Site()
    site.__dict__["server"] = Told(**status)
    (finding,) = examine(site)
    return finding


def test_nodes_in_sql_are_a_failure() -> None:
    found = only_finding(examine_database, db="sql")
    assert found.outcome.value == "failure"
    assert "puts text of visitors' requests into its SQL" in found.why
    assert "`db_type: mnesia`" in found.remedy


def test_nodes_in_mnesia_are_fine() -> None:
    assert only_finding(examine_database, db="mnesia").outcome.value == "ok"


@pytest.mark.parametrize(("dead", "outcome"), [(0, "ok"), (1, "warning"), (1000, "failure")])
def test_subscriptions_of_the_dead_weigh_by_their_number(dead: int, outcome: str) -> None:
    found = only_finding(examine_subscriptions, dead=dead)
    assert found.outcome.value == outcome
    assert outcome == "ok" or str(dead) in found.seen
