"""Data patterns as a figure: rate, clock and power of each, relative to uniform random data.

What changes most is told of undisturbed cases alone, their uniform data's too: where others were at
work, a difference may be theirs.
"""

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
            made.append(_drawing(rows, table.heads, word, _quiet(table.lines, ratio_of)))
    return tuple(made)


def _quiet(
    lines: Sequence[Line], ratio_of: Callable[[PatternRow], float | None]
) -> list[tuple[float, str, str]]:
    """Return ratio, pattern and label of each cell that, like its uniform data, was left alone."""
    return [
        (ratio, cell.pattern, uniform.label)
        for uniform, cells in lines
        for cell in cells
        if cell is not None and not (cell.disturbed or uniform.disturbed)
        and (ratio := ratio_of(cell)) is not None
    ]  # fmt: skip


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


def _drawing(
    rows: Sequence[DotRow],
    heads: Sequence[str],
    word: str,
    quiet: Sequence[tuple[float, str, str]],
) -> Drawing:
    words = "; ".join(
        f"{row.label}: "
        + ", ".join(f"{name} {numbers.gain(dot.ratio)}" for name, dot in row.dots.items())
        for row in rows
    )
    return Drawing(
        draw=lambda: dot_figure(rows, heads, f"{word}, relative to uniform random data"),
        title=f"{word.capitalize()} by data pattern",
        label=f"Dot chart of {word} relative to uniform data. {words}.",
        sentence=_sentence(sum(len(row.dots) for row in rows), word, quiet),
    )


def _sentence(count: int, word: str, quiet: Sequence[tuple[float, str, str]]) -> str:
    """Say which pattern changes most, of ``quiet``, the undisturbed among ``count`` cases."""
    if not quiet:
        return (
            f"Others were at work beside all of these cases, so nothing can be told of what a "
            f"pattern does to the {word}."
        )
    left_out = count - len(quiet)
    beside = (
        f" Others were at work beside {left_out} of the {count} comparisons, which are left out."
        if left_out
        else ""
    )
    ratio, name, label = max(quiet, key=lambda one: abs(one[0] - 1))
    if abs(ratio - 1) <= _SAME:
        return f"No pattern changes the {word} by more than 2%.{beside}"
    told = f"{name} changes the {word} most: {numbers.gain(ratio)} in {label}"
    return f"{told}{_MEANING.get(word, '')}.{beside}"
