"""What a page looks like."""

import json

from bench.measure import Comparison, Spread
from bench.pages import Line, Page, Result, Run
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


def test_json_has_the_same_figures():
    first, second = json.loads(json.dumps(page_values(PAGE, [ALONE, ADDED])))["lines"]
    assert (first["name"], first["added"]) == ("alone", None)
    assert second["added"] == {"low": 4.5, "median": 5, "high": 5.5}
    assert (second["aim"], second["cpu_of"]) == (4, "thread")


def test_a_pattern_chooses_the_lines_that_hold_it():
    run = Run([Line("dummy: save()", "a"), Line("dummy: publish", "b")], lambda conditions: None)
    assert [line.name for line in run.chosen(["save"])] == ["dummy: save()"]
    assert [line.name for line in run.chosen(["dum*pub", "xmpp"])] == ["dummy: publish"]
    assert run.chosen([]) == run.lines
