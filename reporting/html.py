"""A run as one HTML file that needs nothing else: no network, no other file.

A strict policy in the page itself forbids everything but its own style sheet and the few lines of
script that sort its tables, each named by its hash. Figures are inline SVG; colours follow the
reader's light or dark setting. The same run gives the same bytes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.acceptance.verdict.judge import verdict_of
from roofprobe.records.schema import Run
from roofprobe.reporting import figures, tables, verdict_rows
from roofprobe.reporting.beside import NOTHING, Beside
from roofprobe.reporting.budget import Budget, share_of
from roofprobe.reporting.case_tables import (
    CeilingRow,
    MeasurementRow,
    ceiling_rows,
    measurement_rows,
)
from roofprobe.reporting.compute_tables import (
    GapRow,
    RouteGroup,
    SupportLine,
    gap_rows,
    route_groups,
    support_lines,
    support_matrix,
)
from roofprobe.reporting.contents import Contents
from roofprobe.reporting.drawing import Drawing
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.exhibits import exhibits_of
from roofprobe.reporting.facts import (
    Fact,
    device_facts,
    device_line,
    observed_facts,
    run_facts,
)
from roofprobe.reporting.gap_figure import gap
from roofprobe.reporting.gap_reasons import gap_reasons
from roofprobe.reporting.heatmap import heatmap
from roofprobe.reporting.llm_tables import llm_tables
from roofprobe.reporting.marks import legend_of
from roofprobe.reporting.naming import device_ids, device_title, short_address
from roofprobe.reporting.note_groups import NoteGroup, note_groups
from roofprobe.reporting.pages.shell import page
from roofprobe.reporting.pair_map import pair_map
from roofprobe.reporting.pair_tables import Pairs, pair_tables
from roofprobe.reporting.pattern_figure import pattern_figures
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.retest_tables import retest_table
from roofprobe.reporting.roofline import roofline
from roofprobe.reporting.search_tables import SearchRow, search_rows, searches_of
from roofprobe.reporting.small_table import SmallTable
from roofprobe.reporting.surface import Surface, surfaces
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg
from roofprobe.reporting.sweep_tables import (
    PatternTable,
    SweepRow,
    pattern_rows,
    pattern_table,
    sweep_rows,
)
from roofprobe.reporting.tables import Column
from roofprobe.reporting.time_figures import (
    TraceRow,
    search_figure,
    trace_figure,
    trace_rows,
)
from roofprobe.reporting.wire_tables import wire_tables

if TYPE_CHECKING:
    from markupsafe import Markup


_COLUMNS = (Column("±", "spread"), *tables.SETTLED_AND_SHARES)
_FEW_COLLECTIONS = 50_000  # objects until the next; a figure has some thousands
_BARS, _ROOFLINE = 4, 11  # how high figures are, in rows of bars: bars without any, the roofline


@dataclass(frozen=True, slots=True)
class _Figure:
    title: str
    svg: Markup
    sentence: str


@dataclass(frozen=True, slots=True)
class _Map:
    """An efficiency surface: its figure, and the same as a table."""

    surface: Surface
    figure: _Figure | None
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class _Search:
    row: SearchRow
    figure: _Figure | None


@dataclass(frozen=True, slots=True)
class _Results:
    """A table of headlines: its rows and the columns that have something in them."""

    rows: tuple[tables.HeadlineRow, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class _Exhibit:
    """A part of the report with its figures drawn."""

    exhibit: Exhibit
    figures: tuple[_Figure, ...]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The matrices of one kind of accelerator, with a map of each."""

    pairs: Pairs
    figures: tuple[_Figure, ...]


@dataclass(frozen=True, slots=True)
class _Section:
    key: str
    title: str
    line: str
    legend: str | None
    counts: str
    compute: _Results
    memory: _Results
    links: _Results
    models: _Results
    small: tuple[SmallTable, ...]
    exhibits: tuple[_Exhibit, ...]
    figures: tuple[_Figure, ...]
    layout: str
    roofline: bool
    gap: _Figure | None
    gaps: tuple[GapRow, ...]
    gap_reasons: tuple[str, ...]
    routes: tuple[RouteGroup, ...]
    patterns: PatternTable
    pattern_figures: tuple[_Figure, ...]
    maps: tuple[_Map, ...]
    layouts: tuple[SweepRow, ...]
    alignments: tuple[SweepRow, ...]
    trace: _Figure | None
    traces: tuple[TraceRow, ...]
    searches: tuple[_Search, ...]
    support: tuple[SupportLine, ...]
    absent: tuple[tables.AbsentGroup, ...]
    notes: tuple[NoteGroup, ...]
    measurements: tuple[MeasurementRow, ...]
    n_measurements: int
    ceilings: tuple[CeilingRow, ...]
    facts: tuple[Fact, ...]


def to_html(run: Run, beside: Beside = NOTHING) -> str:
    """Return the report of ``run`` as one self-contained HTML page."""
    sheet = StyleSheet()
    with figure_style(), _record_out_of_the_collectors_way():
        ids = device_ids(run)
        budget = share_of(len(ids))
        sections = [
            _section(_only(run, device_id), device_id, beside, sheet, f"d{number}", budget)
            for number, device_id in enumerate(ids)
        ]
        pairs = [_pairs(found, f"p{n}", sheet) for n, found in enumerate(pair_tables(run))]
    judged = verdict_of(run)
    findings = verdict_rows.finding_rows(run, judged)
    return page(
        "report.html.j2",
        sheet,
        contents=Contents(),
        title=_title(run),
        subtitle=clean(f"{run.started_at}, {run.environment.host}, {run.run_id}"),
        judgement=verdict_rows.judgement_of(run, judged),
        verdict=verdict_rows.verdict_sentence(run, judged),
        counts=tables.counts_text(run),
        status=tables.status_sentence(run),
        pressing=verdict_rows.pressing(findings),
        passed=verdict_rows.passed(findings),
        passed_by_layer=verdict_rows.by_layer(verdict_rows.passed(findings)),
        untold=verdict_rows.untold(findings),
        sections=sections,
        retests=retest_table(run),
        pairs=pairs,
        matrix=support_matrix(run, {d.device_id: short_address(d) for d in run.devices}),
        conditions=run_facts(run),
        events=tables.event_lines(run),
        footer=clean(
            f"roofprobe {run.environment.roofprobe}, method version {run.method_version}. "
            "This file loads nothing and sends nothing."
        ),
    )


@contextmanager
def _record_out_of_the_collectors_way() -> Iterator[None]:
    """Keep the garbage collector from walking the record again and again.

    Drawing leaves many cycles behind, so it comes often; walking the hundred thousands of objects
    of a large record each time was two fifths of the time of a report.
    """
    ours, thresholds = gc.get_freeze_count() == 0, gc.get_threshold()
    if ours:
        gc.freeze()
    gc.set_threshold(_FEW_COLLECTIONS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if ours:
            gc.unfreeze()


def _title(run: Run) -> str:
    names = dict.fromkeys(clean(device.name) for device in run.devices)
    return f"roofprobe: {', '.join(names) or 'no device'}"


def _only(run: Run, device_id: str) -> Run:
    """Return the run with one device's measurements, so that nothing looks through all of them."""
    return run.model_copy(update={"measurements": tables.measurements_of(run, device_id)})


def _section(
    run: Run, device_id: str, beside: Beside, sheet: StyleSheet, key: str, budget: Budget
) -> _Section:
    device = next((d for d in run.devices if d.device_id == device_id), None)
    overview = {
        "compute": figures.bars(run, device_id, "compute"),
        "memory": figures.bars(run, device_id, "memory"),
        "roofline": roofline(run, device_id),
    }
    gap_drawing, trace_drawing = gap(run, device_id), trace_figure(run, device_id)
    compute = tables.headline_rows(run, device_id, "compute")
    memory = tables.headline_rows(run, device_id, "memory")
    patterns = pattern_table(pattern_rows(run, device_id))
    exhibits = exhibits_of(run, device_id, beside)
    shown = {table for exhibit in exhibits for table in exhibit.tables}
    small = (*wire_tables(run, device_id), *llm_tables(run, device_id))
    return _Section(
        key=key,
        title=device_title(device) if device else clean(device_id),
        line=device_line(device) if device else "",
        legend=legend_of(run, device_id),
        counts=tables.counts_text(run, device_id),
        compute=_results(compute),
        memory=_results(memory),
        links=_results(tables.headline_rows(run, device_id, "interconnect")),
        models=_results(tables.headline_rows(run, device_id, "llm")),
        small=tuple(table for table in small if table not in shown),
        exhibits=tuple(
            _exhibit(exhibit, f"{key}-x{number}", sheet, budget.exhibit_figures)
            for number, exhibit in enumerate(exhibits)
        ),
        figures=tuple(
            _figure(drawing, f"{key}-{name}", sheet)
            for name, drawing in overview.items()
            if drawing
        ),
        layout=_layout(len(compute), len(memory)),
        roofline=overview["roofline"] is not None,
        gap=_figure(gap_drawing, f"{key}-gap", sheet) if gap_drawing else None,
        gaps=gap_rows(run, device_id),
        gap_reasons=gap_reasons(run, device_id),
        routes=route_groups(run, device_id),
        patterns=patterns,
        pattern_figures=tuple(
            _figure(drawing, f"{key}-pattern{number}", sheet)
            for number, drawing in enumerate(pattern_figures(patterns))
            if number == 0 or budget.map_figures  # of many devices the rates alone
        ),
        maps=tuple(
            _map(surface, f"{key}-map{number}", sheet, drawn=number < budget.map_figures)
            for number, surface in enumerate(surfaces(run, device_id))
        ),
        layouts=sweep_rows(run, device_id, "layout"),
        alignments=sweep_rows(run, device_id, "alignment"),
        trace=_figure(trace_drawing, f"{key}-trace", sheet) if trace_drawing else None,
        traces=trace_rows(run, device_id),
        searches=_searches(run, device_id, key, sheet, budget),
        support=support_lines(run, device_id),
        absent=tables.absent_groups(run, device_id),
        notes=note_groups(run, device_id),
        measurements=measurement_rows(run, device_id, budget.measurements),
        n_measurements=len(run.measurements),
        ceilings=ceiling_rows(run, device_id),
        facts=(*(device_facts(device) if device else ()), *observed_facts(run, device_id)),
    )


def _layout(n_compute: int, n_memory: int) -> str:
    """Return which arrangement of both bar charts and the roofline in two columns is lowest."""
    compute, memory = n_compute + _BARS, n_memory + _BARS
    heights = {
        "roofline-alone": max(compute + memory, _ROOFLINE),
        "compute-alone": max(compute, memory + _ROOFLINE),
        "memory-alone": max(memory, compute + _ROOFLINE),
    }
    return min(heights, key=heights.__getitem__)


def _results(rows: tuple[tables.HeadlineRow, ...]) -> _Results:
    return _Results(rows, tables.shown_columns(rows, _COLUMNS))


def _map(surface: Surface, key: str, sheet: StyleSheet, *, drawn: bool) -> _Map:
    heads, rows = surface.table()
    figure = _figure(heatmap(surface), key, sheet) if drawn else None
    return _Map(surface, figure, heads, rows)


def _searches(
    run: Run, device_id: str, key: str, sheet: StyleSheet, budget: Budget
) -> tuple[_Search, ...]:
    found = []
    rows = search_rows(run, device_id, budget.looks)
    for number, (named, row) in enumerate(zip(searches_of(run, device_id), rows, strict=True)):
        drawing = search_figure(*named) if number < budget.search_figures else None
        figure = _figure(drawing, f"{key}-search{number}", sheet) if drawing else None
        found.append(_Search(row, figure))
    return tuple(found)


def _pairs(pairs: Pairs, key: str, sheet: StyleSheet) -> _Pairs:
    drawings = (pair_map(grid) for grid in pairs.grids)
    figures = (
        _figure(drawing, f"{key}-{number}", sheet)
        for number, drawing in enumerate(drawings)
        if drawing
    )
    return _Pairs(pairs, tuple(figures))


def _exhibit(exhibit: Exhibit, key: str, sheet: StyleSheet, most: int) -> _Exhibit:
    """Return a part with its figures; of those that a table tells too, as far as there is room."""
    shown = exhibit.drawings[:most] if exhibit.tables else exhibit.drawings
    figures = (_figure(drawing, f"{key}-{number}", sheet) for number, drawing in enumerate(shown))
    return _Exhibit(exhibit, tuple(figures))


def _figure(drawing: Drawing, key: str, sheet: StyleSheet) -> _Figure:
    from markupsafe import Markup

    svg = inline_svg(drawing.figure, key, f"{drawing.title}. {drawing.label}", sheet)
    return _Figure(drawing.title, Markup(svg), drawing.sentence)
