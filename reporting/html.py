"""A run as one HTML file that needs nothing else: no network, no other file.

A strict policy in the page itself forbids everything but its own style sheet and the few lines of
script that sort its tables, each named by its hash. Figures are inline SVG; colours follow the
reader's light or dark setting. The same run gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from roofprobe.records.schema import Run
from roofprobe.reporting import figures, tables, verdict_rows
from roofprobe.reporting.beside import NOTHING, Beside
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
from roofprobe.reporting.heatmap import heatmap
from roofprobe.reporting.llm_tables import llm_tables
from roofprobe.reporting.naming import device_ids, device_title, short_address
from roofprobe.reporting.numbers import UNKNOWN
from roofprobe.reporting.pair_tables import pair_tables
from roofprobe.reporting.plain_text import clean, with_remedy
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
    figure: _Figure
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
class _Section:
    title: str
    line: str
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
    routes: tuple[RouteGroup, ...]
    patterns: PatternTable
    maps: tuple[_Map, ...]
    layouts: tuple[SweepRow, ...]
    alignments: tuple[SweepRow, ...]
    trace: _Figure | None
    traces: tuple[TraceRow, ...]
    searches: tuple[_Search, ...]
    support: tuple[SupportLine, ...]
    absent: tuple[tables.AbsentGroup, ...]
    notes: tuple[tables.NoteGroup, ...]
    measurements: tuple[MeasurementRow, ...]
    ceilings: tuple[CeilingRow, ...]
    facts: tuple[Fact, ...]


def to_html(run: Run, beside: Beside = NOTHING) -> str:
    """Return the report of ``run`` as one self-contained HTML page."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    sheet = StyleSheet()
    with figure_style():
        sections = [_section(run, device_id, beside, sheet) for device_id in device_ids(run)]
    css = f"{_template('report.css')}{sheet.css()}\n"
    script = _template("report.js")
    judged = verdict_rows.verdict_of(run)
    findings = verdict_rows.finding_rows(run, judged)
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_template),
    )
    page = environment.get_template("report.html.j2").render(
        policy=_policy(css, script),
        css=Markup(css),
        script=Markup(script),
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
        pairs=pair_tables(run),
        matrix=support_matrix(run, {d.device_id: short_address(d) for d in run.devices}),
        conditions=run_facts(run),
        events=tables.event_lines(run),
        footer=clean(
            f"roofprobe {run.environment.roofprobe}, method version {run.method_version}. "
            "This file loads nothing and sends nothing."
        ),
        unknown=UNKNOWN,
        with_remedy=_told,
    )
    return page.lstrip()


def _title(run: Run) -> str:
    names = dict.fromkeys(clean(device.name) for device in run.devices)
    return f"roofprobe: {', '.join(names) or 'no device'}"


def _told(sentence: str, remedy: str | None) -> Markup:
    """Return what is wrong and what to do, with what stands between backticks as code."""
    from markupsafe import Markup, escape

    text = with_remedy(sentence, remedy)
    stop = "." if text[-1:].isalnum() or text.endswith("`") else ""
    parts = re.split(r"`([^`]+)`", f"{text}{stop}")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


def _policy(css: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"


def _section(run: Run, device_id: str, beside: Beside, sheet: StyleSheet) -> _Section:
    device = next((d for d in run.devices if d.device_id == device_id), None)
    key = f"d{device_ids(run).index(device_id)}"
    overview = {
        "compute": figures.bars(run, device_id, "compute"),
        "memory": figures.bars(run, device_id, "memory"),
        "roofline": roofline(run, device_id),
    }
    gap_drawing, trace_drawing = gap(run, device_id), trace_figure(run, device_id)
    compute = tables.headline_rows(run, device_id, "compute")
    memory = tables.headline_rows(run, device_id, "memory")
    exhibits = exhibits_of(run, device_id, beside)
    shown = {table for exhibit in exhibits for table in exhibit.tables}
    small = (*wire_tables(run, device_id), *llm_tables(run, device_id))
    return _Section(
        title=device_title(device) if device else clean(device_id),
        line=device_line(device) if device else "",
        counts=tables.counts_text(run, device_id),
        compute=_results(compute),
        memory=_results(memory),
        links=_results(tables.headline_rows(run, device_id, "interconnect")),
        models=_results(tables.headline_rows(run, device_id, "llm")),
        small=tuple(table for table in small if table not in shown),
        exhibits=tuple(
            _exhibit(exhibit, f"{key}-x{number}", sheet) for number, exhibit in enumerate(exhibits)
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
        routes=route_groups(run, device_id),
        patterns=pattern_table(pattern_rows(run, device_id)),
        maps=tuple(
            _map(surface, f"{key}-map{number}", sheet)
            for number, surface in enumerate(surfaces(run, device_id))
        ),
        layouts=sweep_rows(run, device_id, "layout"),
        alignments=sweep_rows(run, device_id, "alignment"),
        trace=_figure(trace_drawing, f"{key}-trace", sheet) if trace_drawing else None,
        traces=trace_rows(run, device_id),
        searches=_searches(run, device_id, key, sheet),
        support=support_lines(run, device_id),
        absent=tables.absent_groups(run, device_id),
        notes=tables.note_groups(run, device_id),
        measurements=measurement_rows(run, device_id),
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


def _map(surface: Surface, key: str, sheet: StyleSheet) -> _Map:
    heads, rows = surface.table()
    return _Map(surface, _figure(heatmap(surface), key, sheet), heads, rows)


def _searches(run: Run, device_id: str, key: str, sheet: StyleSheet) -> tuple[_Search, ...]:
    found = []
    pairs = zip(searches_of(run, device_id), search_rows(run, device_id), strict=True)
    for number, ((label, measurement, search), row) in enumerate(pairs):
        drawing = search_figure(label, measurement, search)
        figure = _figure(drawing, f"{key}-search{number}", sheet) if drawing else None
        found.append(_Search(row, figure))
    return tuple(found)


def _exhibit(exhibit: Exhibit, key: str, sheet: StyleSheet) -> _Exhibit:
    figures = (
        _figure(drawing, f"{key}-{number}", sheet)
        for number, drawing in enumerate(exhibit.drawings)
    )
    return _Exhibit(exhibit, tuple(figures))


def _figure(drawing: Drawing, key: str, sheet: StyleSheet) -> _Figure:
    from markupsafe import Markup

    svg = inline_svg(drawing.figure, key, f"{drawing.title}. {drawing.label}", sheet)
    return _Figure(drawing.title, Markup(svg), drawing.sentence)


def _template(name: str) -> str:
    folder = resources.files("roofprobe.reporting") / "templates"
    return (folder / name).read_text(encoding="utf-8")
