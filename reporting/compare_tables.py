"""What every view of a comparison shows: which rows, in which order, in which words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from roofprobe.acceptance.compare.comparison import (
    Change,
    ComparedHeadline,
    ComparedRow,
    Comparison,
    DevicePair,
    SideFigure,
)
from roofprobe.records.wording import plural
from roofprobe.reporting.numbers import UNKNOWN, digits, duration_us, rate
from roofprobe.reporting.plain_text import clean

HEADS = ("row", "A", "B", "B/A", "95% interval", "why")
HEADLINE_HEADS = ("best rate", "A", "B", "B/A")
HEADLINE_TITLE = "Best rates, whatever the shape; without a verdict"
MOST_AMBIGUOUS = 10

TIME_RATIO = "B/A is time over time: 1.10 is 10% slower in B."
RATE_RATIO = "B/A is rate over rate: 1.10 is 10% more in B."
HOW_TO_READ = (
    "A change counts when the test, the interval "
    "and the fast tail agree and it is larger than what these runs scatter by and than the least "
    "effect that is told; ambiguous is what moved without such proof."
)
_NEITHER = "measured-on-neither-side"
_ABSENT: tuple[tuple[Change, str], ...] = (
    ("only-a", "only in A"),
    ("only-b", "only in B"),
    ("not-comparable", "not comparable"),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that were not compared for one reason."""

    title: str
    sentence: str
    keys: tuple[str, ...]


def changed_rows(comparison: Comparison) -> list[ComparedRow]:
    """Return what is proven to have changed: slower first, the largest change first."""
    rows = [row for row in comparison.rows if row.verdict in ("slower", "faster")]
    return sorted(rows, key=lambda row: (row.verdict == "faster", -_size(row)))


def ambiguous_rows(comparison: Comparison) -> list[ComparedRow]:
    """Return what moved, or may have, without proof: the largest change first."""
    rows = [row for row in comparison.rows if row.verdict == "ambiguous"]
    return sorted(rows, key=lambda row: -_size(row))


def unchanged_rows(comparison: Comparison) -> list[ComparedRow]:
    """Return the rows without a proven change, in the order of A."""
    return [row for row in comparison.rows if row.verdict == "~"]


def cells(row: ComparedRow, *, several: bool) -> tuple[str, ...]:
    """Return a row's cells; ``several`` pairs of devices are told apart by number."""
    place = f"{row.pair}: " if several else ""
    ratio = UNKNOWN if row.ratio is None else ratio_text(row.ratio)
    interval = UNKNOWN
    if row.ratio_ci_low is not None and row.ratio_ci_high is not None:
        interval = f"{ratio_text(row.ratio_ci_low)}–{ratio_text(row.ratio_ci_high)}"
    why: list[str] = [row.cause] if row.cause else []
    why += [reason.code for reason in row.reasons]
    return (place + clean(row.key), figure_text(row.a), figure_text(row.b), ratio, interval,
            ", ".join(map(clean, why)))  # fmt: skip


def headline_cells(line: ComparedHeadline, *, several: bool) -> tuple[str, ...]:
    """Return the cells of a line of the result: its title, both rates, B over A."""
    place = f"{line.pair}: " if several else ""
    return (
        place + clean(line.title), rate(line.a, clean(line.unit)), rate(line.b, clean(line.unit)),
        ratio_text(line.ratio),
    )  # fmt: skip


def ratio_text(value: float) -> str:
    """Write a ratio with three decimals, a large one with three digits."""
    return f"{value:.3f}" if value < 10 else digits(value)


def figure_text(figure: SideFigure | None) -> str:
    """Write a side's median in the unit that suits it; a dash where there is none."""
    if figure is None or figure.median is None:
        return UNKNOWN
    if figure.unit == "ns":
        return f"{digits(figure.median)} ns"
    return duration_us(figure.median)


def absent_groups(comparison: Comparison) -> list[Group]:
    """Return the rows that were not compared, by why; those that no side measured come last."""
    groups: dict[tuple[str, tuple[str, ...]], list[ComparedRow]] = {}
    for verdict, title in _ABSENT:
        for row in comparison.rows:
            if row.verdict == verdict:
                codes = tuple(reason.code for reason in row.reasons)
                groups.setdefault((title, codes), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: _NEITHER in item[0][1])
    return [
        Group(title, _why(rows), tuple(clean(row.key) for row in rows))
        for (title, _), rows in ordered
    ]


def _why(rows: Sequence[ComparedRow]) -> str:
    """Return the reasons that rows have in common; where their details differ, without those."""
    told = {"; ".join(clean(reason.sentence) for reason in row.reasons) for row in rows}
    if len(told) == 1:
        return told.pop()
    return "; ".join(clean(reason.sentence).partition(":")[0] for reason in rows[0].reasons)


def pair_text(number: int, pair: DevicePair, *, several: bool) -> str:
    """Write which devices are held against each other, and by what they were paired."""
    names = list(dict.fromkeys(clean(name) for name in (pair.name_a, pair.name_b) if name))
    place = f"{number}: " if several else ""
    return f"{place}{' | '.join(names)} ({clean(pair.sentence)})"


def side_text(letter: str, path: str, runs: Sequence[str]) -> str:
    """Write where a side came from, and how many runs it has."""
    return f"{letter}: {clean(path)} ({plural(len(runs), 'run')})"


def tables_of(
    comparison: Comparison, *, full: bool
) -> Iterable[tuple[str, list[ComparedRow], int]]:
    """Return the tables to show: a title, the rows, and how many more there are."""
    changed, ambiguous = changed_rows(comparison), ambiguous_rows(comparison)
    yield "Changed", changed, 0
    shown = ambiguous if full else ambiguous[:MOST_AMBIGUOUS]
    yield "Ambiguous", shown, len(ambiguous) - len(shown)
    unchanged = unchanged_rows(comparison)
    yield "No proven change", unchanged if full else [], 0 if full else len(unchanged)


def _size(row: ComparedRow) -> float:
    return abs(math.log(row.ratio)) if row.ratio else 0.0
