"""What a page looks like."""

import json
from contextlib import contextmanager
from functools import partial

import pytest

from bench.measure import Comparison, Delays, Size, Spread, Task, Turn
from bench.pages import Conditions, Fans, Line, Page, Result, Run, Sizes, Spans, Turns, Waits
from bench.table import aligned, page_text, page_values

PAGE = Page("Cost of it", ["How it was measured."], [])
ALONE = Result(Line("alone", "a"), Comparison(Spread(1, 2, 3)))
ADDED = Result(
    Line("compared", "a", "b", aim=4),
    Comparison(Spread(7, 8, 9), Spread(2, 3, 4), Spread(4.5, 5, 5.5), Spread(2, 2.67, 3)),
)


def test_columns_are_aligned():
    assert aligned([("a", "10"), ("bcd", "1")]) == ["a    10", "bcd   1"]


def test_a_page_shows_what_is_added_and_marks_what_is_above_the_aim():
    lines = page_text(PAGE, [ALONE, ADDED]).splitlines()
    assert lines[0] == "Cost of it"
    assert lines[4].split() == ["alone", "2.0", "1.0", "…", "3.0"]
    assert lines[5].split() == [
        *["compared", "+5.0", "4.5", "…", "5.5", "3.0", "8.0", "2.67", "≤", "4", "!"]
    ]
    assert lines[-1] == "How it was measured."


def test_a_page_of_throughput_shows_rates_and_the_ratio_with_its_aim():
    page = Page("Throughput", [], [], tells="throughput")
    found = Comparison(Spread(450, 500, 510), Spread(350, 400, 410), None, Spread(1.2, 1.254, 1.3))
    results = [Result(ALONE.line, ALONE.found), Result(Line("relay", "a", "b", aim=1.25), found)]
    _, alone, compared = page_text(page, results).splitlines()[3:6]
    assert alone.split() == ["alone", "2", "1", "…", "3", "500000"]
    assert compared.split() == [
        *["relay", "500", "450", "…", "510", "2000", "400", "2500"],
        *["1.25", "1.20", "…", "1.30", "≤", "1.25", "!"],
    ]


def test_a_page_of_delays_shows_half_and_99_of_100_and_the_worst():
    page = Page("Delays", [], [], tells="delays")
    results = [Result(Line("relay", "a", clock="wall", aim=10), Delays(9.96, 20, 31.5, 500))]
    assert page_text(page, results).splitlines()[4].split() == [
        *["relay", "10.0", "20.0", "31.5", "500", "≤", "10"]
    ]
    (line,) = page_values(page, results)["lines"]
    assert (line["p50"], line["p99"], line["clock"]) == (9.96, 20, "wall")


def test_a_page_of_ratios_shows_that_of_the_p50_to_the_base():
    page = Page("Delays", [], [], tells="ratios")
    waits = Waits(
        [Line("one", "a"), Line("other", "b", "a")], lambda _: {"a": [4.0], "b": [5.0, 9.0]}
    )
    one, other = waits.results(Conditions(1, 1, {}), waits.lines)
    lines = [line.split() for line in page_text(page, [one, other]).splitlines()[4:6]]
    assert lines == [
        ["one", "4.0", "4.0", "4.0", "1"],
        ["other", "5.0", "9.0", "9.0", "2", "1.25"],
    ]
    first, second = page_values(page, [one, other])["lines"]
    assert ("ratio" in first, second["ratio"]) == (False, 1.25)


def test_a_page_of_spans_shows_seconds_and_measures_what_is_chosen():
    wanted = []

    def spans(conditions: Conditions, tasks):
        wanted.extend(tasks)
        return {task: [1.0, 2.0, 4.0] for task in tasks}

    run = Spans([Line("short", "a"), Line("long", "b", aim=3)], spans)
    (result,) = run.results(Conditions(1, 1, {}), run.chosen(["long"]))
    assert wanted == ["b"]
    text = page_text(Page("Right again", [], [], tells="spans"), [result])
    assert text.splitlines()[4].split() == ["long", "2.00", "1.50", "…", "3.00", "≤", "3"]


def test_a_page_of_sizes_shows_bytes_and_marks_what_is_above_the_aim_in_kilobytes():
    run = Sizes([Line("script", "a", aim=27)], lambda: {"a": Size(90_000, 27_001)})
    (result,) = run.results(Conditions(1, 1, {}), run.lines)
    text = page_text(Page("Sizes", [], [], tells="sizes"), [result])
    assert text.splitlines()[4].split() == ["script", "90000", "27001", "≤", "27", "!"]


def test_a_page_of_fans_shows_what_deliveries_cost_beside_the_base_and_what_was_lost():
    def turns(conditions: Conditions, tasks):
        found = {
            "with": [
                Turn([12.0], 25, 20, 80_000, lost=2, closed=1, repeated=3, share=0.07, heard=6)
            ],
            "without": [Turn([36.0], 110, 100, 16_000)],
        }
        return {task: found[task] for task in tasks if task in found}

    lines = [
        Line("short", "with", "without", aim=15),
        Line("plain", "without"),
        Line("not here", "gone"),
    ]
    run = Fans(lines, turns)
    short, plain = run.results(Conditions(1, 1, {}), run.chosen([]))
    page = Page("Fan-out", [], [], tells="fans")
    first, second = page_text(page, [short, plain]).splitlines()[4:6]
    assert first.split() == [
        *["short", "12.0", "12.0", "25.0", "20.0", "20.0", "…", "20.0"],
        *["80000", "80000", "…", "80000", "0.20", "5.00"],
        *["2", "(25", "%)", "(1", "closed)", "0", "(+3)", "7", "%", "≤", "15", "!"],
    ]
    assert second.split()[-4:] == ["0", "0", "0", "%"]
    value, _ = json.loads(json.dumps(page_values(page, [short, plain])))["lines"]
    assert (value["rate"]["median"], value["cost"]["median"], value["lost"]) == (80_000, 0.2, 2)


def test_json_has_the_same_figures():
    first, second = json.loads(json.dumps(page_values(PAGE, [ALONE, ADDED])))["lines"]
    assert (first["name"], first["added"]) == ("alone", None)
    assert second["added"] == {"low": 4.5, "median": 5, "high": 5.5}
    assert (second["aim"], second["clock"]) == (4, "thread")


def test_a_pattern_chooses_the_lines_that_hold_it():
    run = Run([Line("dummy: save()", "a"), Line("dummy: publish", "b")])
    assert [line.name for line in run.chosen(["save"])] == ["dummy: save()"]
    assert [line.name for line in run.chosen(["dum*pub", "xmpp"])] == ["dummy: publish"]
    assert run.chosen([]) == run.lines


def test_only_the_tasks_of_chosen_lines_are_taken():
    taken: list[str] = []

    @contextmanager
    def tasks(conditions: Conditions):
        yield {name: Task(partial(taken.append, name), conditions.calls) for name in "abc"}

    run = Turns([Line("both", "a", "b"), Line("alone", "c")], tasks, longer=2)
    (result,) = run.results(Conditions(8, 5, {}), run.chosen(["both"]))
    assert taken == ["a", "b"] * (1 + 4)  # half as many rounds, and one that does not count
    assert result.line.name == "both"


@pytest.mark.parametrize(("rounds", "fewer"), [(100, 20), (5, 3)])
def test_longer_blocks_are_taken_in_fewer_rounds_but_in_some(rounds: int, fewer: int):
    assert Conditions(rounds, 20, {}).longer(5) == Conditions(fewer, 100, {})


def test_delays_are_measured_once_for_all_lines():
    run = Waits([Line("one", "a"), Line("other", "b")], lambda _: {"a": [1.0], "b": [2.0, 3.0]})
    first, second = run.results(Conditions(1, 1, {}), run.lines)
    assert (first.found, second.found) == (Delays(1, 1, 1, 1), Delays(2, 3, 3, 2))
