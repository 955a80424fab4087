"""What ``probe compare`` shows on a terminal: warnings, what changed, what is unsure, a summary.

The summary is the last line. Names and paths come from files and are made plain text first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from roofprobe.acceptance.compare.comparison import SIMULATED, ComparedRow, Comparison
from roofprobe.records.wording import plural
from roofprobe.reporting import compare_tables as tables
from roofprobe.reporting.plain_text import clean, in_encoding, listed

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"slower": "red", "faster": "green", "ambiguous": "yellow", "~": "dim"}
_MOST_KEYS = 3


def to_json(comparison: Comparison) -> bytes:
    """Return one JSON document; absent values are left out."""
    data = comparison.model_dump(mode="json", exclude_none=True)
    return json.dumps(data, ensure_ascii=False, indent=1).encode() + b"\n"


def render(comparison: Comparison, console: Console, *, full: bool = False) -> None:
    """Print the comparison; ``full`` lists every row, else the unchanged ones are counted."""

    def line(text: str, style: str = "") -> None:
        console.print(Text(in_encoding(text, console.encoding), style=style))

    several = len(comparison.pairs) > 1
    made_up = [remark for remark in comparison.warnings if remark.code == SIMULATED]
    for remark in made_up:
        line(f"warning: {clean(remark.sentence)}", "bold yellow")
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        line(tables.side_text(letter, side.path, side.runs))
    for number, pair in enumerate(comparison.pairs):
        line(tables.pair_text(number, pair, several=several), "bold")
    for remark in comparison.warnings:
        if remark in made_up:
            continue
        line(f"warning: {_placed(remark.pair, several)}{clean(remark.sentence)}", "yellow")
    for remark in comparison.findings:
        line(f"found: {_placed(remark.pair, several)}{clean(remark.sentence)}", "bold")
    for title, rows, more in tables.tables_of(comparison, full=full):
        if rows:
            console.print()
            line(title, "bold")
            console.print(_table(rows, console, several))
            line(tables.TIME_RATIO, "dim")
        if more:
            line(
                f"{title}: {plural(more, 'more row' if rows else 'row')} (--all lists them)", "dim"
            )
    if comparison.headlines:
        console.print()
        line(tables.HEADLINE_TITLE, "bold")
        console.print(_headlines(comparison, console, several))
        line(tables.RATE_RATIO, "dim")
    groups = tables.absent_groups(comparison)
    if groups:
        console.print()
    for group in groups:
        keys = ", ".join(group.keys) if full else listed(group.keys, _MOST_KEYS)
        line(f"{group.title}, {plural(len(group.keys), 'row')}: {group.sentence}: {keys}", "dim")
    console.print()
    if any(row.ratio is not None for row in comparison.rows):
        line(tables.HOW_TO_READ, "dim")
    line(clean(comparison.summary), "bold")


def _placed(pair: int | None, several: bool) -> str:
    return f"{pair}: " if several and pair is not None else ""


def _headlines(comparison: Comparison, console: Console, several: bool) -> Table:
    table = _grid(tables.HEADLINE_HEADS, len(tables.HEADLINE_HEADS))
    for headline in comparison.headlines:
        cells = tables.headline_cells(headline, several=several)
        table.add_row(*(Text(in_encoding(cell, console.encoding)) for cell in cells))
    return table


def _table(rows: Sequence[ComparedRow], console: Console, several: bool) -> Table:
    table = _grid(tables.HEADS, len(tables.HEADS) - 1)
    for row in rows:
        cells = [
            Text(in_encoding(cell, console.encoding)) for cell in tables.cells(row, several=several)
        ]
        cells[3].stylize(_STYLES[row.verdict])
        table.add_row(*cells)
    return table


def _grid(heads: Sequence[str], numbers_until: int) -> Table:
    from rich import box

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, safe_box=True, show_edge=False)
    for number, head in enumerate(heads):
        right = 0 < number < numbers_until
        table.add_column(head, justify="right" if right else "left", overflow="fold",
                         no_wrap=right)  # fmt: skip
    return table
