"""What visitors take of servers, as the bench's tables have it."""

import pytest

from bench.attendance import Arrival, Arrivals, Growth, Holding
from bench.measure import Spread

SLOW = Arrival(visits=200, seconds=1.0, servers=0.8, visitors=0.1)
FAST = Arrival(visits=200, seconds=0.5, servers=0.4, visitors=0.1)


def test_a_round_has_a_rate_and_what_a_visit_costs():
    assert (SLOW.rate, SLOW.cost) == (200, 4.0)


def test_rounds_have_medians_and_how_busy_the_visitors_themselves_were():
    found = Arrivals.over([SLOW, FAST, SLOW])
    assert (found.rate.median, found.cost.median, found.share) == (200, 4.0, 0.1)
    assert (found.ratio, found.speed) == (None, None)


def test_rounds_are_compared_each_with_its_own():
    found = Arrivals.over([FAST, SLOW], [SLOW, SLOW])
    assert found.ratio == Spread(0.625, 0.75, 0.875)
    assert found.speed == Spread(1.25, 1.5, 1.75)


def test_a_visitor_takes_his_part_of_what_the_servers_have_grown_by():
    before, after = Holding(ejabberd=1000, nginx=100), Holding(ejabberd=4000, nginx=1100)
    grown = after.since(before, 10)
    assert (grown.ejabberd, grown.nginx, grown.both) == (300, 100, 400)


def test_growth_is_told_in_kilobytes_beside_another():
    ours, theirs = [Holding(20480, 10240)], [Holding(40960, 20480)]
    found = Growth.over(ours, theirs)
    assert (found.both.median, found.ejabberd, found.nginx) == (30, 20, 10)
    assert found.ratio == pytest.approx(0.5)
    assert Growth.over(ours).ratio is None
