"""Several runs on one page: a column for each device of each run, a line for each headline.

What a column is held against is the first column of its table, and a table has devices of one
backend only, so that a GPU stands beside GPUs and the processor of its host beside processors. The
differences are plain ratios of medians: whether one is more than chance is what ``probe compare``
tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from roofprobe.acceptance.verdict.judge import verdict_of
from roofprobe.records.disturbed import disturbed_of
from roofprobe.records.schema import Device, Family, Headline, Run
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.drawing import Drawing
from roofprobe.reporting.pages.conditions import Condition, conditions_of
from roofprobe.reporting.pages.shell import page
from roofprobe.reporting.pages.side_by_side_figures import bars_side_by_side, rooflines
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg
from roofprobe.reporting.tables import measurements_of

FAMILIES: Final[dict[Family, str]] = {
    "compute": "Compute", "memory": "Memory", "interconnect": "Links", "llm": "Language models",
}  # fmt: skip
_BACKENDS: Final = {"cpu": "Processors", "cuda": "GPUs", "rocm": "GPUs"}


@dataclass(frozen=True, slots=True)
class Column:
    """One device of one run: its short name in the tables, and where its figures are."""

    name: str
    run: Run
    device: Device

    def headline(self, key: tuple[str, str, str]) -> Headline | None:
        """Return the headline of a line (family, label, unit), where this device has it."""
        return next(
            (h for h in self.run.headlines
             if h.device_id == self.device.device_id and key_of(h) == key), None
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure, its spread and share of the datasheet, and its difference to the first column."""

    figure: str
    spread: str
    share: str
    change: str
    best: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One headline over all columns; where a device has none its cell is None."""

    title: str
    label: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """What tells a column from the others."""

    name: str
    device: str
    host: str
    started: str
    verdict: str
    status: str
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Devices of one backend side by side."""

    title: str
    heads: tuple[Head, ...]
    tables: tuple[tuple[str, tuple[Line, ...]], ...]
    differing: tuple[Condition, ...]
    alike: str
    drawings: tuple[Drawing, ...]


def key_of(headline: Headline) -> tuple[str, str, str]:
    """Return what makes headlines of two devices the same line."""
    return headline.family, headline.label, headline.rate.unit


def to_comparison(runs: Sequence[Run], command: str) -> str:
    """Return one page with all devices of ``runs``; ``command`` is what tests a difference."""
    from markupsafe import Markup

    sheet = StyleSheet()
    columns = columns_of(runs)
    with figure_style():
        groups = groups_of(columns)
        drawn = [
            [
                (d, Markup(inline_svg(d.figure, f"g{n}-{m}", f"{d.title}. {d.label}", sheet)))
                for m, d in enumerate(group.drawings)
            ]
            for n, group in enumerate(groups)
        ]
    methods = {run.method_version for run in runs}
    return page(
        "comparison.html.j2",
        sheet,
        styles=("report.css", "runs.css"),
        title=f"roofprobe: {_told(columns, len(runs))} side by side",
        subtitle=clean(", ".join(dict.fromkeys(run.run_id for run in runs))),
        groups=list(zip(groups, drawn, strict=True)),
        command=clean(command),
        has_shares=any(
            cell is not None and cell.share != numbers.UNKNOWN
            for group in groups
            for _, lines in group.tables
            for line in lines
            for cell in line.cells
        ),
        methods=len(methods) > 1,
        simulated=tuple(
            dict.fromkeys(
                clean(f"{run.run_id}: {run.simulated}") for run in runs if run.simulated is not None
            )
        ),
    )


def _told(columns: Sequence[Column], n_runs: int) -> str:
    """Return what stands side by side: runs, where each has but one device."""
    if len(columns) == n_runs:
        return plural(n_runs, "run")
    return f"{plural(len(columns), 'column')} of {plural(n_runs, 'run')}"


def columns_of(runs: Sequence[Run]) -> tuple[Column, ...]:
    """Return a column per device of each run, called A, B, … in the order of the runs."""
    places = [(run, device) for run in runs for device in run.devices]
    return tuple(Column(_letters(n), run, device) for n, (run, device) in enumerate(places))


def _letters(number: int) -> str:
    letters = chr(ord("A") + number % 26)
    return letters if number < 26 else f"{_letters(number // 26 - 1)}{letters}"


def groups_of(columns: Sequence[Column]) -> tuple[Group, ...]:
    """Return the columns by backend, in the order in which backends come; draw under a style."""
    by_backend: dict[str, list[Column]] = {}
    for column in columns:
        by_backend.setdefault(column.device.backend, []).append(column)
    return tuple(_group(backend, own) for backend, own in by_backend.items())


def _group(backend: str, columns: Sequence[Column]) -> Group:
    differing, alike = conditions_of([(c.name, c.run, c.device) for c in columns])
    tables = ((title, lines_of(columns, family)) for family, title in FAMILIES.items())
    drawings = (
        bars_side_by_side(columns, "compute"),
        bars_side_by_side(columns, "memory"),
        rooflines(columns),
    )
    return Group(
        title=_BACKENDS.get(backend, clean(backend)),
        heads=tuple(map(_head, columns)),
        tables=tuple((title, lines) for title, lines in tables if lines),
        differing=differing,
        alike=", ".join(alike),
        drawings=tuple(drawing for drawing in drawings if drawing),
    )


def _head(column: Column) -> Head:
    run, device = column.run, column.device
    verdict = verdict_of(run)
    return Head(
        name=column.name,
        device=clean(f"{device.name} ({device.torch_device})"),
        host=clean(run.environment.host),
        started=clean(run.started_at.replace("T", " ")[:16]),
        verdict=verdict.devices.get(device.device_id, verdict.judgement),
        status="" if run.status == "complete" else run.status,
        doubts=tuple(_doubts(column)),
    )


def _doubts(column: Column) -> Iterator[str]:
    """Yield why the figures of a column may not be what the device does."""
    if column.run.simulated is not None:
        yield "simulated"
    own = measurements_of(column.run, column.device.device_id)
    disturbed = disturbed_of(own)
    if disturbed:
        of_all = plural(disturbed.measured, "measurement")
        yield f"disturbed by others in {len(disturbed)} of {of_all}"


def lines_of(columns: Sequence[Column], family: Family) -> tuple[Line, ...]:
    """Return the lines of one family that any column has, in the order in which they come."""
    keys = dict.fromkeys(
        key_of(h)
        for column in columns
        for h in column.run.headlines
        if h.family == family and h.device_id == column.device.device_id
    )
    return tuple(_line(columns, key) for key in keys)


def _line(columns: Sequence[Column], key: tuple[str, str, str]) -> Line:
    found = [column.headline(key) for column in columns]
    rates = [headline.rate.median for headline in found if headline]
    best = max(rates) if len(rates) > 1 else None
    first = found[0].rate.median if found[0] else None
    title = next(headline.title for headline in found if headline)

    def cell(number: int, headline: Headline | None) -> Cell | None:
        if headline is None:
            return None
        rate = headline.rate.median
        return Cell(
            figure=numbers.rate(rate, key[2]),
            spread=numbers.spread(headline.rate),
            share=numbers.share(headline.share_datasheet),
            change=_change(rate / first) if number and first else "",
            best=rate == best,
        )

    return Line(clean(title), clean(key[1]), tuple(cell(n, each) for n, each in enumerate(found)))


def _change(ratio: float) -> str:
    """Write a ratio as what it gains or loses, to a tenth of a percent, as its ± is written."""
    return f"{(ratio - 1) * 100:+.1f}%".replace("-", "−")
