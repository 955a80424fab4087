"""Data patterns as a figure: rate, clock and power of each, relative to uniform random data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from roofprobe.reporting import numbers
from roofprobe.reporting.dot_rows import Dot, DotRow, dot_figure
from roofprobe.reporting.drawing import Drawing
from roofprobe.reporting.sweep_tables import PatternRow, PatternTable

_SAME = 0.02  # within 2 % a pattern changes nothing
_MEANING = {
    "rate": "; this much of a figure can be owed to its data alone",
    "power": "; bits that do not switch cost no power",
}

Line = tuple[PatternRow, tuple[PatternRow | None, ...]]


def pattern_figures(table: PatternTable) -> tuple[Drawing, ...]:
    """Draw rates relative to uniform data, and power where it is known of any pattern."""
    kinds: tuple[tuple[str, Callable[[PatternRow], float | None]], ...] = (
        ("rate", lambda row: row.ratio),
        ("clock", lambda row: row.clock_ratio),
        ("power", lambda row: row.power_ratio),
    )
    made = []
    for word, ratio_of in kinds:
        rows = [row for line in table.lines if (row := _row(line, ratio_of, word)).dots]
        if rows:
            made.append(_drawing(rows, table.heads, word))
    return tuple(made)


def _row(line: Line, ratio_of: Callable[[PatternRow], float | None], word: str) -> DotRow:
    uniform, cells = line
    dots = {}
    for cell in cells:
        ratio = ratio_of(cell) if cell else None
        if cell and ratio is not None:
            told = {"rate": cell.rate, "clock": cell.clock, "power": cell.power}[word]
            dots[cell.pattern] = Dot(
                ratio, f"{uniform.label}, {cell.pattern}: {numbers.gain(ratio)}, {told}"
            )
    told = {"rate": uniform.rate, "clock": uniform.clock, "power": uniform.power}[word]
    return DotRow(uniform.label, f"uniform {told}", dots)


def _drawing(rows: Sequence[DotRow], heads: Sequence[str], word: str) -> Drawing:
    words = "; ".join(
        f"{row.label}: "
        + ", ".join(f"{name} {numbers.gain(dot.ratio)}" for name, dot in row.dots.items())
        for row in rows
    )
    return Drawing(
        figure=dot_figure(rows, heads, f"{word}, relative to uniform random data"),
        title=f"{word.capitalize()} by data pattern",
        label=f"Dot chart of {word} relative to uniform data. {words}.",
        sentence=_sentence(rows, word),
    )


def _sentence(rows: Sequence[DotRow], word: str) -> str:
    found = [(dot.ratio, name, row.label) for row in rows for name, dot in row.dots.items()]
    far = max(found, key=lambda one: abs(one[0] - 1))
    if abs(far[0] - 1) <= _SAME:
        return f"No pattern changes the {word} by more than 2%."
    ratio, name, label = far
    told = f"{name} changes the {word} most: {numbers.gain(ratio)} in {label}"
    return f"{told}{_MEANING.get(word, '')}."
