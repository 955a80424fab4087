"""A comparison as GitHub's Markdown, for a pull request or a ticket; unchanged rows are folded."""

from __future__ import annotations

from roofprobe.acceptance.compare.comparison import SIMULATED, Comparison
from roofprobe.records.wording import plural
from roofprobe.reporting import compare_tables as tables
from roofprobe.reporting.markdown_text import code, escape, folded, opening, table
from roofprobe.reporting.plain_text import clean, listed

_MOST_KEYS = 12


def to_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown; the summary comes first."""
    several = len(comparison.pairs) > 1
    parts = [
        "# roofprobe: A compared with B",
        *(f"**Warning: {escape(clean(r.sentence))}**" for r in comparison.warnings
          if r.code == SIMULATED),
        f"**{escape(clean(comparison.summary))}**",
    ]  # fmt: skip
    parts.append(
        _bullets(
            [
                opening(tables.side_text(letter, side.path, side.runs))
                for letter, side in (("A", comparison.a), ("B", comparison.b))
            ]
            + [
                opening(tables.pair_text(number, pair, several=several))
                for number, pair in enumerate(comparison.pairs)
            ]
        )
    )
    warnings = [remark for remark in comparison.warnings if remark.code != SIMULATED]
    for title, remarks in (("Warnings", warnings), ("Found", comparison.findings)):
        if remarks:
            said = [f"{opening(clean(r.sentence))} {code(clean(r.code))}" for r in remarks]
            parts += [f"## {title}", _bullets(said)]
    for title, rows, _ in tables.tables_of(comparison, full=True):
        if not rows:
            continue
        lines = [
            [code(first), *map(escape, rest)]
            for first, *rest in (tables.cells(row, several=several) for row in rows)
        ]
        grid = f"{table(tables.HEADS, lines, right=(1, 2, 3, 4))}\n\n{escape(tables.TIME_RATIO)}"
        if title == "Changed":
            parts += [f"## {title}", grid]
        else:
            parts.append(folded(f"{title}: {plural(len(rows), 'row')}", grid))
    if comparison.headlines:
        lines = [
            [*map(escape, tables.headline_cells(headline, several=several))]
            for headline in comparison.headlines
        ]
        grid = table(tables.HEADLINE_HEADS, lines, right=(1, 2, 3))
        parts += [f"## {tables.HEADLINE_TITLE}", grid, escape(tables.RATE_RATIO)]
    groups = tables.absent_groups(comparison)
    if groups:
        said = [
            f"{group.title}, {plural(len(group.keys), 'row')}: {escape(group.sentence)}: "
            + listed(tuple(code(key) for key in group.keys), _MOST_KEYS)
            for group in groups
        ]
        parts += ["## Not compared", _bullets(said)]
    parts.append(escape(tables.HOW_TO_READ))
    return "\n\n".join(parts) + "\n"


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
