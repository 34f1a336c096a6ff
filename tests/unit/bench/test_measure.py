"""Measuring, with clocks that tell what they are told."""

import pytest

from bench.measure import Comparison, Cost, Delays, Fan, Spread, Task, Turn, compare, in_turns, take


def clock(*nanoseconds: int):
    told = iter(nanoseconds)
    return lambda: next(told)


def test_the_cost_is_that_of_one_call_in_microseconds():
    clocks = {
        "thread_clock": clock(5_000, 25_000),
        "process_clock": clock(1_000, 61_000),
        "wall_clock": clock(3_000, 93_000),
    }
    cost = take(Task(run=lambda: None, calls=10), **clocks)
    assert cost == Cost(thread=2.0, process=6.0, wall=9.0)
    assert [cost.by(name) for name in ("thread", "process", "wall")] == [2.0, 6.0, 9.0]


def test_nobody_is_charged_with_what_prepares_and_the_thread_not_with_what_settles():
    happened = []

    def note(name: str):
        return lambda: happened.append(name) or len(happened)

    task = Task(note("run"), 1, settle=note("settle"), prepare=note("prepare"))
    take(task, thread_clock=note("thread"), process_clock=note("process"), wall_clock=note("wall"))
    charged = ["wall", "process", "thread", "run", "thread", "settle", "process", "wall"]
    assert happened == ["prepare", *charged]


def test_tasks_take_turns_and_the_first_round_does_not_count():
    happened = []

    def note(task: Task) -> Cost:
        task.run()
        return Cost(thread=len(happened), process=0)

    tasks = {name: Task(lambda name=name: happened.append(name), 1) for name in "AB"}
    costs = in_turns(tasks, rounds=2, take=note)
    assert happened == ["A", "B"] * 3
    assert [cost.thread for cost in costs["A"]] == [3, 5]
    assert [cost.thread for cost in costs["B"]] == [4, 6]


@pytest.mark.parametrize(
    ("values", "spread"),
    [
        ([7.0], Spread(7, 7, 7)),
        ([3.0, 1.0], Spread(1.5, 2, 2.5)),
        ([5.0, 1.0, 4.0, 2.0, 3.0], Spread(2, 3, 4)),
        ([1.0, 1.0, 1.0, 1.0, 900.0], Spread(1, 1, 1)),
    ],
)
def test_a_spread_is_the_median_between_the_quartiles(values: list[float], spread: Spread):
    assert Spread.over(values) == spread


@pytest.mark.parametrize(
    ("values", "delays"),
    [
        ([7.0], Delays(7, 7, 7, 1)),
        ([3.0, 1.0, 2.0], Delays(2, 3, 3, 3)),
        (range(1, 1001), Delays(500, 990, 1000, 1000)),
    ],
)
def test_of_delays_half_and_99_of_100_are_told(values: list[float], delays: Delays):
    assert Delays.over(values) == delays


def test_differences_and_ratios_are_those_of_each_round():
    base = [Cost(10, 0), Cost(100, 0), Cost(20, 0)]  # the machine was slow in the second
    ours = [Cost(15, 0), Cost(150, 0), Cost(30, 0)]
    found = compare(ours, base)
    assert found.ratio == Spread(1.5, 1.5, 1.5)
    assert found.added == Spread(7.5, 10, 30)
    assert (found.cost.median, found.base and found.base.median) == (30, 20)


def test_a_comparison_is_of_the_thread_or_of_the_process():
    costs = [Cost(thread=1, process=2)]
    assert compare(costs, clock="process") == Comparison(Spread(2, 2, 2))
    assert compare(costs) == Comparison(Spread(1, 1, 1))


def test_there_is_no_ratio_to_what_costs_nothing():
    assert compare([Cost(1, 0)], [Cost(0, 0)]).ratio is None


def test_a_fan_pools_delays_adds_up_losses_and_compares_within_rounds():
    ours = [
        Turn([1.0, 2.0], 30, 20, 80_000, lost=1, closed=1, share=0.1),
        Turn([9.0], 40, 40, 40_000, disordered=2, closed=1, share=0.3),
    ]
    theirs = [Turn([50.0], 100, 100, 20_000), Turn([50.0], 100, 100, 10_000)]
    fan = Fan.over(ours, theirs)
    assert fan.delays == Delays(2.0, 9.0, 9.0, 3)
    assert (fan.steady.median, fan.pushed.median, fan.rate.median) == (35, 30, 60_000)
    assert (fan.lost, fan.disordered, fan.repeated, fan.closed) == (1, 2, 0, 2)
    assert fan.share == pytest.approx(0.2)
    assert fan.cost is not None
    assert fan.cost.median == pytest.approx(0.3)
    assert fan.speed == Spread(4, 4, 4)
    assert (Fan.over(ours).cost, Fan.over(ours).speed) == (None, None)
