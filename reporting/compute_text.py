"""What stands behind the compute figures, as lines for a terminal.

A sweep of hundreds of shapes is a line per row here, a search is a line; their tables are in the
report files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from roofprobe.records.schema import Role, Run
from roofprobe.records.wording import plural
from roofprobe.reporting.compute_tables import (
    RouteGroup,
    RouteRow,
    gap_rows,
    route_groups,
    support_lines,
)
from roofprobe.reporting.gap_reasons import gap_reasons
from roofprobe.reporting.numbers import UNKNOWN
from roofprobe.reporting.plain_text import with_remedy
from roofprobe.reporting.search_tables import SearchRow, search_rows
from roofprobe.reporting.surface import Surface, surfaces
from roofprobe.reporting.sweep_tables import (
    PatternRow,
    SweepRow,
    pattern_rows,
    sweep_rows,
)
from roofprobe.reporting.time_figures import TraceRow, trace_rows


@dataclass(frozen=True, slots=True)
class TextSection:
    """A title and its lines; each line is parts that are kept whole where they fit.

    ``brief`` sections are part of the short summary too.
    """

    title: str
    lines: tuple[tuple[str, ...], ...]
    brief: bool = False


_BRIEF = ("Where the gap goes", "Support")


def compute_sections(run: Run, device_id: str) -> tuple[TextSection, ...]:
    """Return the sections that have something to say, in the order of the report."""
    made = (
        ("Where the gap goes", _gap_lines(run, device_id)),
        ("Routes, burst at one shape", map(_route_line, route_groups(run, device_id))),
        ("Data patterns against uniform data", _pattern_lines(run, device_id)),
        ("Shapes, median share (range) over N x K", map(_surface_line, surfaces(run, device_id))),
        ("Layouts against the best", _sweep_lines(run, device_id, "layout")),
        ("Alignment against the best", _sweep_lines(run, device_id, "alignment")),
        ("Searches for the best shape", map(_search_line, search_rows(run, device_id))),
        ("Clock and power from begin to end", map(_trace_line, trace_rows(run, device_id))),
        ("Support", _support_lines(run, device_id)),
    )
    sections = (TextSection(title, tuple(lines), title in _BRIEF) for title, lines in made)
    return tuple(section for section in sections if section.lines)


def _gap_lines(run: Run, device_id: str) -> Iterable[tuple[str, ...]]:
    for row in gap_rows(run, device_id):
        known = [("clock", row.clock), ("pipe", row.pipe), ("feeding", row.feeding)]
        product = " × ".join(f"{name} {value}" for name, value in known if value != UNKNOWN)
        yield (f"{row.label}: {product} = {row.share} of {row.reference}",)
    for reason in gap_reasons(run, device_id):
        yield (reason,)


def _route_line(group: RouteGroup) -> tuple[str, ...]:
    first, *others = [_route_part(row) for row in group.rows]
    return (f"{group.label} at {group.shape}: {first}", *others)


def _route_part(row: RouteRow) -> str:
    figure = row.rate if row.wins else row.gain
    instruction = f" ({row.instruction})" if row.instruction != UNKNOWN else ""
    fallback = " FALLBACK" if row.fallback else ""
    return f"{row.route} {figure}{instruction}{fallback}"


def _pattern_lines(run: Run, device_id: str) -> Iterable[tuple[str, ...]]:
    def place(row: PatternRow) -> tuple[str, str]:
        return row.label, row.regime

    for (label, regime), rows in groupby(pattern_rows(run, device_id), place):
        others = [f"{row.pattern} {row.gain}" for row in rows if row.gain != UNKNOWN]
        yield (f"{label}, {regime}: {others[0]}", *others[1:])


def _surface_line(surface: Surface) -> tuple[str, ...]:
    first, *others = [f"M {m}: {shares}" for m, shares in surface.profile()]
    return (f"{surface.label}, {surface.regime}, of {surface.peak_words()}: {first}", *others)


def _sweep_lines(run: Run, device_id: str, role: Role) -> Iterable[tuple[str, ...]]:
    def place(row: SweepRow) -> tuple[str, str]:
        return row.label, row.route

    for (label, route), rows in groupby(sweep_rows(run, device_id, role), place):
        parts = [f"{row.what} {row.gain}" for row in rows]
        yield (f"{label} by {route}: {parts[0]}", *parts[1:])


def _search_line(row: SearchRow) -> tuple[str, ...]:
    above = f", {row.gain} against its drift anchor {row.anchor}" if row.gain != UNKNOWN else ""
    found = f"{row.best} with {row.rate}{above}" if row.best != UNKNOWN else "found nothing"
    return (
        f"{row.label}: {found}",
        f"{row.method}, {row.looks} looks at {row.candidates} candidates in {row.elapsed}",
    )


def _trace_line(row: TraceRow) -> tuple[str, ...]:
    parts = [f"{row.label}, {row.regime}, {row.seconds}: clock {row.clock}"]
    parts += [f"power {row.power}"] if row.power != UNKNOWN else []
    return (*parts, f"throttling {row.throttle}")


def _support_lines(run: Run, device_id: str) -> Iterable[tuple[str, ...]]:
    lines = support_lines(run, device_id)
    done = [line.label for line in lines if line.status == "ok"]
    if done:
        yield (f"ok, {plural(len(done), 'row')}: {done[0]}", *done[1:])
    missing = [line for line in lines if line.status != "ok"]
    reasons = dict.fromkeys((m.status, m.code, m.sentence, m.remedy) for m in missing)
    for status, code, sentence, remedy in reasons:
        names = ", ".join(
            m.label
            for m in missing
            if (m.status, m.code, m.sentence, m.remedy) == (status, code, sentence, remedy)
        )
        yield (f"{status}: {names} – {with_remedy(sentence, remedy)} [{code}]",)
