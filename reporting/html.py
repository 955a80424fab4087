"""A run as one HTML file that needs nothing else: no network, no script, no other file.

A strict policy in the page itself forbids everything but its own style sheet, which is named by its
hash. Figures are inline SVG; colours follow the reader's light or dark setting. The same run gives
the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from roofprobe.records.schema import Run
from roofprobe.reporting import figures, tables
from roofprobe.reporting.facts import (
    Fact,
    device_facts,
    device_line,
    observed_facts,
    run_facts,
)
from roofprobe.reporting.naming import device_ids, device_title
from roofprobe.reporting.numbers import UNKNOWN
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class _Figure:
    title: str
    svg: Markup
    sentence: str


@dataclass(frozen=True, slots=True)
class _Section:
    title: str
    line: str
    counts: str
    compute: tuple[tables.HeadlineRow, ...]
    memory: tuple[tables.HeadlineRow, ...]
    figures: tuple[_Figure, ...]
    roofline: bool
    absent: tuple[tables.AbsentGroup, ...]
    notes: tuple[tables.NoteGroup, ...]
    measurements: tuple[tables.MeasurementRow, ...]
    ceilings: tuple[tables.CeilingRow, ...]
    facts: tuple[Fact, ...]


def to_html(run: Run) -> str:
    """Return the report of ``run`` as one self-contained HTML page."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    sheet = StyleSheet()
    with figure_style():
        sections = [_section(run, device_id, sheet) for device_id in device_ids(run)]
    css = f"{_template('report.css')}{sheet.css()}\n"
    findings = tables.finding_rows(run)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(_template("report.html.j2")).render(
        policy=_policy(css),
        css=Markup(css),
        title=_title(run),
        subtitle=clean(f"{run.started_at}, {run.environment.host}, {run.run_id}"),
        judgement=tables.judgement_of(run),
        verdict=tables.verdict_sentence(run),
        counts=tables.counts_text(run),
        status=tables.status_sentence(run),
        pressing=[row for row in findings if row.judgement != "pass"],
        passed=[row for row in findings if row.judgement == "pass"],
        sections=sections,
        conditions=run_facts(run),
        events=tables.event_lines(run),
        footer=clean(
            f"roofprobe {run.environment.roofprobe}, method version {run.method_version}. "
            "This file loads nothing and sends nothing."
        ),
        unknown=UNKNOWN,
    )
    return page.lstrip()


def _title(run: Run) -> str:
    names = dict.fromkeys(clean(device.name) for device in run.devices)
    return f"roofprobe: {', '.join(names) or 'no device'}"


def _policy(css: str) -> str:
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _section(run: Run, device_id: str, sheet: StyleSheet) -> _Section:
    device = next((d for d in run.devices if d.device_id == device_id), None)
    number = device_ids(run).index(device_id)
    drawings = {
        "compute": figures.bars(run, device_id, "compute"),
        "memory": figures.bars(run, device_id, "memory"),
        "roofline": figures.roofline(run, device_id),
    }
    return _Section(
        title=device_title(device) if device else clean(device_id),
        line=device_line(device) if device else "",
        counts=tables.counts_text(run, device_id),
        compute=tables.headline_rows(run, device_id, "compute"),
        memory=tables.headline_rows(run, device_id, "memory"),
        figures=tuple(
            _figure(drawing, f"d{number}-{name}", sheet)
            for name, drawing in drawings.items()
            if drawing
        ),
        roofline=drawings["roofline"] is not None,
        absent=tables.absent_groups(run, device_id),
        notes=tables.note_groups(run, device_id),
        measurements=tables.measurement_rows(run, device_id),
        ceilings=tables.ceiling_rows(run, device_id),
        facts=(*(device_facts(device) if device else ()), *observed_facts(run, device_id)),
    )


def _figure(drawing: figures.Drawing, key: str, sheet: StyleSheet) -> _Figure:
    from markupsafe import Markup

    svg = inline_svg(drawing.figure, key, f"{drawing.title}. {drawing.label}", sheet)
    return _Figure(drawing.title, Markup(svg), drawing.sentence)


def _template(name: str) -> str:
    folder = resources.files("roofprobe.reporting") / "templates"
    return (folder / name).read_text(encoding="utf-8")
