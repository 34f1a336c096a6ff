"""Results as text for people and as values for JSON; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.measure import Spread
from bench.pages import Page, Result

HEADINGS = ("µs of CPU per call", "median", "quartiles", "before", "with", "ratio", "aim")


def header(versions: Mapping[str, str]) -> str:
    """What it was measured with, on one line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def page_text(page: Page, results: Iterable[Result]) -> str:
    """A page: its title, its table and how it was measured."""
    rows = [HEADINGS, *(_row(result) for result in results)]
    return "\n".join([page.title, "=" * len(page.title), "", *aligned(rows), "", *page.notes])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of columns: the first to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def page_values(page: Page, results: Iterable[Result]) -> dict[str, Any]:
    """A page as JSON has it; costs are in microseconds of CPU time."""
    return {
        "title": page.title,
        "notes": list(page.notes),
        "lines": [
            {
                "name": result.line.name,
                "cpu_of": result.line.whose,
                "aim": result.line.aim,
                **asdict(result.comparison),
            }
            for result in results
        ],
    }


# Private


def _row(result: Result) -> tuple[str, ...]:
    found = result.comparison
    told = found.added or found.cost
    aim = result.line.aim
    return (
        result.line.name,
        _signed(told.median) if found.added else _number(told.median),
        f"{_number(told.low)} … {_number(told.high)}",
        _number(found.base.median) if found.base else "",
        _number(found.cost.median) if found.base else "",
        f"{found.ratio.median:.2f}" if found.ratio else "",
        "" if aim is None else f"≤ {aim:g}{'' if _meets(told, aim) else ' !'}",
    )


def _meets(told: Spread, aim: float) -> bool:
    return told.median <= aim


def _signed(value: float) -> str:
    return f"{value:+.1f}"


def _number(value: float) -> str:
    return f"{value:.1f}"
