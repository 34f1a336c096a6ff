"""Results as text for people and as values for JSON; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.attendance import Arrivals, Growth
from bench.measure import Comparison, Delays, Fan, Size, Spread
from bench.pages import Page, Result

COSTS = ("µs per call", "median", "quartiles", "before", "with", "ratio", "aim")
THROUGHPUT = (
    *("elapsed per row", "median µs", "quartiles", "rows/s"),
    *("direct µs", "rows/s", "ratio", "quartiles", "aim"),
)
DELAYS = ("ms since the commit", "p50", "p99", "worst", "saves", "aim")
RATIOS = ("ms since the commit", "p50", "p99", "worst", "saves", "ratio", "aim")
SPANS = ("seconds until all is right", "median", "quartiles", "aim")
FANS = (
    *("deliveries to a crowd", "p50 ms", "p99 ms", "steady µs", "pushed µs", "quartiles"),
    *("per second", "quartiles", "µs ratio", "speed", "lost", "disordered", "crowd", "aim"),
)
VISITS = (
    *("guests who come and go", "per second", "quartiles", "server ms", "quartiles"),
    *("ms ratio", "speed", "visitors", "aim"),
)
MEMORY = ("kB for an idle visitor", "median", "quartiles", "ejabberd", "nginx", "ratio", "aim")
SIZES = ("bytes", "minified", "gzipped", "aim")


def header(versions: Mapping[str, str]) -> str:
    """What it was measured with, on one line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def page_text(page: Page, results: Iterable[Result]) -> str:
    """A page: its title, its table and how it was measured."""
    headings, cells = TABLES[page.tells]
    rows = [headings, *((result.line.name, *cells(result)) for result in results)]
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
    """A page as JSON has it: costs in microseconds, delays in milliseconds, spans in seconds."""
    return {
        "title": page.title,
        "notes": list(page.notes),
        "lines": [
            {
                "name": result.line.name,
                "clock": result.line.clock,
                "aim": result.line.aim,
                **({} if result.ratio is None else {"ratio": result.ratio}),
                **asdict(result.found),
            }
            for result in results
        ],
    }


# Private


def _costs(result: Result) -> tuple[str, ...]:
    found = result.found
    assert isinstance(found, Comparison)
    told = found.added or found.cost
    return (
        f"{told.median:+.1f}" if found.added else f"{told.median:.1f}",
        _quartiles(told, 1),
        f"{found.base.median:.1f}" if found.base else "",
        f"{found.cost.median:.1f}" if found.base else "",
        f"{found.ratio.median:.2f}" if found.ratio else "",
        _aim(result, told.median),
    )


def _throughput(result: Result) -> tuple[str, ...]:
    found = result.found
    assert isinstance(found, Comparison)
    own = (f"{found.cost.median:.0f}", _quartiles(found.cost, 0), _rate(found.cost))
    if found.base is None or found.ratio is None:
        return *own, "", "", "", "", ""
    return (
        *own,
        f"{found.base.median:.0f}",
        _rate(found.base),
        f"{found.ratio.median:.2f}",
        _quartiles(found.ratio, 2),
        _aim(result, found.ratio.median),
    )


def _delays(result: Result) -> tuple[str, ...]:
    found = result.found
    assert isinstance(found, Delays)
    times = (f"{value:.1f}" for value in (found.p50, found.p99, found.worst))
    return *times, str(found.count), _aim(result, found.p50)


def _ratios(result: Result) -> tuple[str, ...]:
    *times, aim = _delays(result)
    return *times, "" if result.ratio is None else f"{result.ratio:.2f}", aim


def _spans(result: Result) -> tuple[str, ...]:
    found = result.found
    assert isinstance(found, Spread)
    return f"{found.median:.2f}", _quartiles(found, 2), _aim(result, found.median)


def _sizes(result: Result) -> tuple[str, ...]:
    found = result.found
    assert isinstance(found, Size)
    return str(found.plain), str(found.gzipped), _aim(result, found.gzipped / 1000)


def _fans(result: Result) -> tuple[str, ...]:
    found = result.found
    assert isinstance(found, Fan)
    part = f" ({100 * found.lost / (found.lost + found.heard):.0f} %)" if found.lost else ""
    lost = f"{found.lost}{part}{f' ({found.closed} closed)' if found.closed else ''}"
    again = f" (+{found.repeated})" if found.repeated else ""
    return (
        *(f"{value:.1f}" for value in (found.delays.p50, found.delays.p99, found.steady.median)),
        *(f"{found.pushed.median:.1f}", _quartiles(found.pushed, 1)),
        *(f"{found.rate.median:.0f}", _quartiles(found.rate, 0)),
        *("" if each is None else f"{each.median:.2f}" for each in (found.cost, found.speed)),
        *(lost, f"{found.disordered}{again}", f"{100 * found.share:.0f} %"),
        _aim(result, found.pushed.median),
    )


def _visits(result: Result) -> tuple[str, ...]:
    found = result.found
    assert isinstance(found, Arrivals)
    aim = result.line.aim
    missed = "" if aim is None or found.rate.median >= aim else " !"
    return (
        f"{found.rate.median:.0f}",
        _quartiles(found.rate, 0),
        f"{found.cost.median:.2f}",
        _quartiles(found.cost, 2),
        f"{found.ratio.median:.2f}" if found.ratio else "",
        f"{found.speed.median:.2f}" if found.speed else "",
        f"{found.share:.0%}",
        "" if aim is None else f"≥ {aim:g}{missed}",
    )


def _memory(result: Result) -> tuple[str, ...]:
    found = result.found
    assert isinstance(found, Growth)
    return (
        f"{found.both.median:.1f}",
        _quartiles(found.both, 1),
        f"{found.ejabberd:.1f}",
        f"{found.nginx:.1f}",
        "" if found.ratio is None else f"{found.ratio:.2f}",
        _aim(result, found.both.median),
    )


def _quartiles(spread: Spread, digits: int) -> str:
    return f"{spread.low:.{digits}f} … {spread.high:.{digits}f}"


def _rate(cost: Spread) -> str:
    return f"{1_000_000 / cost.median:.0f}"


def _aim(result: Result, value: float) -> str:
    aim = result.line.aim
    return "" if aim is None else f"≤ {aim:g}{'' if value <= aim else ' !'}"


TABLES: dict[str, tuple[tuple[str, ...], Callable[[Result], tuple[str, ...]]]] = {
    "costs": (COSTS, _costs),
    "throughput": (THROUGHPUT, _throughput),
    "delays": (DELAYS, _delays),
    "ratios": (RATIOS, _ratios),
    "spans": (SPANS, _spans),
    "sizes": (SIZES, _sizes),
    "fans": (FANS, _fans),
    "visits": (VISITS, _visits),
    "memory": (MEMORY, _memory),
}
