"""What stands behind the compute figures, as Markdown tables.

Sweeps are matrices, folded away; the single looks of a search are in the HTML report and in
``run.json``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roofprobe.records.schema import Role, Run
from roofprobe.reporting.compute_tables import (
    GapRow,
    RouteGroup,
    SupportLine,
    SupportMatrix,
    gap_rows,
    route_groups,
    support_lines,
)
from roofprobe.reporting.gap_reasons import gap_reasons
from roofprobe.reporting.markdown_parts import Part, lookup, opened
from roofprobe.reporting.markdown_text import code, escape, folded, named, opening, prose, table
from roofprobe.reporting.numbers import UNKNOWN
from roofprobe.reporting.plain_text import with_remedy
from roofprobe.reporting.search_tables import SearchRow, search_rows
from roofprobe.reporting.surface import Surface, surfaces
from roofprobe.reporting.sweep_tables import (
    PatternRow,
    pattern_rows,
    pattern_table,
    sweep_rows,
)
from roofprobe.reporting.time_figures import TraceRow, trace_rows


def compute_parts(run: Run, device_id: str) -> list[Part]:
    """Return the parts of one device that have something to say."""
    return list(_parts(run, device_id))


def support_matrix_table(matrix: SupportMatrix) -> str:
    """Return the statuses of all rows on all devices."""
    lines = [[code(label), *statuses] for label, statuses in matrix.rows]
    return table(["row", *map(escape, matrix.devices)], lines)


def _parts(run: Run, device_id: str) -> Iterator[Part]:
    gaps, reasons = gap_rows(run, device_id), gap_reasons(run, device_id)
    if gaps or reasons:
        told = [*([_gap_table(gaps)] if gaps else []), *map(opening, reasons)]
        yield opened("Where the gap goes", told, 1)
    if found := surfaces(run, device_id):
        yield opened("Shapes", [_surface_part(surface) for surface in found], 2)
    if patterns := pattern_rows(run, device_id):
        yield lookup("Data patterns, gain over uniform data", [_pattern_table(patterns)], 2)
    if groups := route_groups(run, device_id):
        yield lookup("Routes, burst at one shape", [_route_table(groups)], 2)
    yield from _sweeps(run, device_id, "layout", "Layouts")
    yield from _sweeps(run, device_id, "alignment", "Alignment")
    if searches := search_rows(run, device_id):
        yield lookup("Searches for the best shape", [_search_table(searches)], 3)
    if traces := trace_rows(run, device_id):
        yield lookup("Clock and power from begin to end", [_trace_table(traces)], 3)
    if lines := support_lines(run, device_id):
        yield lookup("Support", [_support_table(lines)], 2)


def _gap_table(rows: Sequence[GapRow]) -> str:
    lines = [
        [
            named(r.title, r.label),
            r.clock,
            r.pipe,
            r.feeding,
            f"{r.share} of {r.reference}",
            escape(r.basis),
        ]
        for r in rows
    ]
    heads = ["row", "clock", "× pipe", "× feeding", "= share", "basis"]
    return table(heads, lines, right=range(1, 5))


def _route_table(groups: Sequence[RouteGroup]) -> str:
    lines = []
    for group in groups:
        for r in group.rows:
            first = f"{named(group.title, group.label)}<br>{group.shape}" if r.wins else ""
            tried = f", best of {r.tried}" if r.tried > 1 else ""
            figure = f"**{escape(r.rate)}**" if r.wins else escape(r.rate)
            kernel = code(r.kernel)
            if r.fallback:
                kernel += f"<br>**fallback**: {prose(r.fallback)}"
            cells = [first, f"{code(r.route)}{tried}", figure, r.gain, escape(r.instruction)]
            lines.append([*cells, kernel, r.clock])
    heads = ["row and shape", "route", "burst", "to winner", "instruction", "kernel", "clock"]
    return table(heads, lines, right=(2, 3, 6))


def _pattern_table(rows: Sequence[PatternRow]) -> str:
    found = pattern_table(rows)
    lines = [
        [
            code(uniform.label), uniform.shape, uniform.regime,
            f"{escape(uniform.rate)}{_conditions(uniform)}",
            *(f"{cell.gain}{_conditions(cell)}" if cell else UNKNOWN for cell in cells),
        ]
        for uniform, cells in found.lines
    ]  # fmt: skip
    heads = ["row", "shape", "regime", "uniform", *map(escape, found.heads)]
    return table(heads, lines, right=range(3, len(heads)))


def _conditions(row: PatternRow) -> str:
    told = row.conditions()
    return f" ({escape(told)})" if told else ""


def _surface_part(surface: Surface) -> str:
    heads, rows = surface.table()
    lines = [[m, *cells] for m, cells in rows]
    matrix = table(["M \\ NxK", *heads], lines, right=range(1, len(heads) + 1))
    summary = f"{escape(surface.title)}: share of {escape(surface.peak_words())} by shape"
    return f"{opening(surface.sentence())}\n\n{folded(summary, matrix)}"


def _sweeps(run: Run, device_id: str, role: Role, name: str) -> Iterator[Part]:
    rows = sweep_rows(run, device_id, role)
    if rows:
        lines = [
            [code(r.label), code(r.route), escape(r.what), escape(r.rate), r.gain] for r in rows
        ]
        grid = table(["row", "route", "case", "burst", "to best"], lines, right=(3, 4))
        yield lookup(name, [grid], 3)


def _search_table(rows: Sequence[SearchRow]) -> str:
    lines = [
        [
            named(r.title, r.label), code(r.route), escape(r.method), r.candidates, r.looks,
            r.untried, r.budget, r.elapsed, r.best, escape(r.rate), r.anchor, r.gain,
        ]
        for r in rows
    ]  # fmt: skip
    heads = [
        "row", "route", "method", "candidates", "looks", "untried", "budget", "took", "best shape",
        "rate", "anchor", "to anchor",
    ]  # fmt: skip
    return table(heads, lines, right=(4, 5, 6, 7, 9, 11))


def _trace_table(rows: Sequence[TraceRow]) -> str:
    lines = [
        [code(r.label), r.regime, r.seconds, r.clock, r.power, r.temperature, escape(r.throttle)]
        for r in rows
    ]
    heads = ["row", "regime", "watched", "clock", "power", "temperature", "throttling"]
    return table(heads, lines, right=range(2, 6))


def _support_table(rows: Sequence[SupportLine]) -> str:
    lines = []
    for r in rows:
        why = prose(with_remedy(r.sentence, r.remedy))
        told = f"{why} {code(r.code)}".strip() if r.code else ""
        lines.append(
            [named(r.title, r.label), r.status, code(r.route), escape(r.instruction), told]
        )
    heads = ["row", "status", "route", "instruction", "why not, and what it would take"]
    return table(heads, lines)
