"""The summary of a run on a terminal: what was reached, beside what should be, in 80 columns.

Each result takes two lines, the figures and below them how they were made. Columns that nobody on
the device could fill are left out. The kernels that ran and every single measurement are in the
report files. Colour, width and encoding are the console's
business; where it cannot write a sign, plain ASCII stands in. No text of a run is read as markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from roofprobe.acceptance.verdict.judge import verdict_of
from roofprobe.records.schema import Device, Family, Run
from roofprobe.records.wording import plural
from roofprobe.reporting import tables, verdict_rows
from roofprobe.reporting.alike_tables import TITLES, Alike, alike_devices
from roofprobe.reporting.compute_tables import support_lines
from roofprobe.reporting.compute_text import compute_sections
from roofprobe.reporting.facts import device_line, observed_facts
from roofprobe.reporting.llm_tables import llm_tables
from roofprobe.reporting.marks import legend_of
from roofprobe.reporting.naming import device_ids, device_title, short_address
from roofprobe.reporting.note_groups import note_groups
from roofprobe.reporting.numbers import UNKNOWN
from roofprobe.reporting.page import JUDGEMENT_STYLES, Page, cell_width
from roofprobe.reporting.pair_tables import pair_tables
from roofprobe.reporting.plain_text import clean, listed, shorten, with_remedy
from roofprobe.reporting.small_table import SmallTable
from roofprobe.reporting.tables import AbsentGroup, Column, HeadlineRow
from roofprobe.reporting.wire_tables import wire_tables

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS: dict[Family, tuple[Column, ...]] = {
    "compute": (
        Column("±", "spread"),
        Column("settled", "settled"),
        Column("sheet", "share_datasheet"),
        Column("@clock", "share_clock_normalised"),
        Column("of pipe", "share_pipe"),
        Column("J/T", "energy"),
    ),
    "memory": (
        Column("±", "spread"),
        Column("settled", "settled"),
        Column("datasheet", "datasheet"),
        Column("%", "share_datasheet"),
        Column("derived", "derived"),
        Column("%", "share_derived"),
    ),
    "interconnect": (
        Column("±", "spread"),
        Column("settled", "settled"),
        Column("datasheet", "datasheet"),
        Column("%", "share_datasheet"),
        Column("derived", "derived"),
        Column("%", "share_derived"),
    ),
    "llm": (Column("±", "spread"),),
}
# A processor has no datasheet peak; what is derived then stands in its place.
_DERIVED = Column("derived", "share_derived")
_STATUS_STYLES = {"failed": "red", "invalid": "magenta", "skipped": "dim"}
_LABEL_WIDTH = 20  # where a table is too wide for longer ones
_LONGEST_FALLBACK = 200
_MOST_LABELS = 4
_MOST_NOTES = 8

HOW_TO_READ = (
    "burst: the best median of short bursts; settled: after seconds back to back. ±: half of the "
    "95% interval of the median. Shares of the burst: sheet, of the datasheet's peak; derived, of "
    "units × rate × greatest clock; @clock, of that at the clock measured meanwhile; of pipe, of "
    "what the same unit does without memory traffic. J/T: joules per 1e12 settled operations. 2:4 "
    "sparse rows count the zeros and have sparse peaks."
)


def render_run(
    run: Run, console: Console, *, folder: Path | None = None, full: bool = False
) -> None:
    """Print the summary of ``run``; ``folder`` is where its files are, if they were written.

    ``full`` adds routes, data patterns, shapes, searches, clocks and every skipped case.
    """
    page = Page(console)
    started = clean(run.started_at.replace("T", " ").replace("+00:00", " UTC"))
    page.line(
        f"Run {clean(run.run_id)}, started {started} on {clean(run.environment.host)}", style="dim"
    )
    sentence = tables.status_sentence(run)
    if sentence:
        page.line(sentence, style="bold yellow")
        for event in tables.event_lines(run):
            page.line(event, indent=2)
        page.gap()
    if not device_ids(run):
        page.line("No device was found, so nothing was measured.")
    kinds = () if full else alike_devices(run)
    for kind in kinds:
        _alike(page, run, kind)
    told = {device.device_id for kind in kinds for device in kind.devices}
    for device_id in device_ids(run):
        if device_id not in told:
            _device(page, run, device_id, full)
    for pairs in pair_tables(run):
        page.gap()
        page.line(pairs.title, style="bold")
        for small in pairs.tables:
            page.gap()
            _small_table(page, small)
            page.line(small.sentence, indent=2, style="dim")
        page.gap()
        for note in pairs.notes:
            page.line(note, indent=2, hang=2)
    if any(headline.device_id not in told for headline in run.headlines):
        page.gap()
        page.line(HOW_TO_READ, style="dim")
    page.gap()
    _verdict(page, run)
    if not full and run.measurements:
        page.line(
            "Routes, data, shapes, searches, skipped cases: in the report, or probe show --full"
        )
    if folder is not None:
        page.path("Report", folder / "report.html")
        page.path("Record", folder / "run.json")


def _alike(page: Page, run: Run, kind: Alike) -> None:
    page.gap()
    page.line(kind.title, style="bold")
    for line in dict.fromkeys(device_line(device) for device in kind.devices):
        page.line(line, style="dim")
    for device in kind.devices:
        seen = _seen(run, device)
        if seen:
            page.line(f"{short_address(device)}: {seen}", style="dim", hang=2)
        legend = legend_of(run, device.device_id)
        if legend:
            page.line(f"{short_address(device)}: {legend}", hang=2)
    if not kind.tables:
        page.line("Nothing was measured on these devices.")
    for small in kind.tables:
        page.gap()
        _figures(page, small)
    if kind.tables:
        page.line(kind.tables[0].sentence, style="dim")
    for device in kind.devices:
        groups = tables.absent_groups(run, device.device_id)
        _absent(
            page,
            [group for group in groups if group.status != "skipped"],
            f"Failed or invalid on {short_address(device)}",
        )
    page.gap()
    page.line("How each device's figures were made, its skipped cases and notes: probe show --full")


def _device(page: Page, run: Run, device_id: str, full: bool) -> None:
    device = next((d for d in run.devices if d.device_id == device_id), None)
    page.gap()
    page.line(device_title(device) if device else clean(device_id), style="bold")
    if device:
        _device_conditions(page, run, device)
    legend = legend_of(run, device_id)
    if legend:
        page.line(legend)
    if not any(h.device_id == device_id for h in run.headlines):
        page.line(f"Nothing was measured on this device ({tables.counts_text(run, device_id)}).")
    for family in TITLES:
        rows = tables.headline_rows(run, device_id, family)
        if rows:
            page.gap()
            _result_table(page, family, rows)
    for small in (*wire_tables(run, device_id), *llm_tables(run, device_id, brief=not full)):
        page.gap()
        _small_table(page, small)
    for section in compute_sections(run, device_id):
        if not (section.brief or full):
            continue
        page.gap()
        page.line(section.title, style="bold")
        for parts in section.lines:
            page.packed(parts, indent=2, hang=2)
    # what stands under "Support" already is not told again
    told = {(row.status, row.code, row.sentence) for row in support_lines(run, device_id)}
    groups = tables.absent_groups(run, device_id)
    _absent(
        page,
        [
            group
            for group in groups
            if (group.status, group.code, group.sentence) not in told
            and (full or group.status != "skipped")
        ],
        full=full,
    )
    _notes(page, run, device_id, full)


def _device_conditions(page: Page, run: Run, device: Device) -> None:
    page.line(device_line(device), style="dim")
    seen = _seen(run, device)
    if seen:
        page.line(f"While measuring: {seen}", style="dim")


def _seen(run: Run, device: Device) -> str:
    """Return the clock, power, temperature and throttling that the device showed."""
    wanted = ("clock reported", "power seen", "temperature seen", "throttling seen")
    seen = {fact.label: fact.text for fact in observed_facts(run, device.device_id)}
    return ", ".join(
        f"{label.removesuffix(' seen')} {seen[label]}" for label in wanted if label in seen
    )


def _result_table(page: Page, family: Family, rows: Sequence[HeadlineRow]) -> None:
    from rich.text import Text

    columns = list(tables.shown_columns(rows, _COLUMNS[family]))
    if family == "compute" and not any(c.field == "share_datasheet" for c in columns):
        columns[1:1] = tables.shown_columns(rows, [_DERIVED])
    lines = [
        [
            row.label,
            f"{row.burst} {row.unit}",
            *(row.text(column.field) for column in columns),
        ]
        for row in rows
    ]
    heads = [TITLES[family], "burst", *(column.head for column in columns)]
    cells = [[page.text(cell) for cell in line] for line in [heads, *lines]]
    marks = [page.text(row.mark) for row in rows]
    widths = [max(cell_width(line[i]) for line in cells) for i in range(len(heads))]
    widths[0] = max(
        cell_width(cells[0][0]),
        *(
            cell_width(line[0]) + cell_width(mark)
            for line, mark in zip(cells[1:], marks, strict=True)
        ),
    )
    n_shown = _n_that_fit(widths, page.width)
    beyond = _named(columns)[n_shown - 2 :]
    cells, widths = [line[:n_shown] for line in cells], widths[:n_shown]
    widths[0] = min(widths[0], max(_LABEL_WIDTH, page.width - sum(2 + w for w in widths[1:])))
    for line, mark in zip(cells, ["", *marks], strict=True):
        line[0] = page.text(f"{shorten(line[0], widths[0] - cell_width(mark))}{mark}")
    page.styled(Text(_aligned(cells[0], widths), style="bold"))
    for row, line in zip(rows, cells[1:], strict=True):
        page.styled(Text(_aligned(line, widths)))
        told = [(name, row.text(column.field)) for name, column in beyond]
        more = [f"{name} {text}" for name, text in told if text != UNKNOWN]
        page.packed([*more, *_made(row)], indent=2, style="dim")


def _n_that_fit(widths: Sequence[int], most: int) -> int:
    """Return how many columns fit beside a short label; label and figure always stand."""
    left = most - min(widths[0], _LABEL_WIDTH)
    for number, width in enumerate(widths[1:], start=1):
        left -= 2 + width
        if left < 0:
            return max(2, number)
    return len(widths)


def _named(columns: Sequence[Column]) -> list[tuple[str, Column]]:
    """Return the columns by names that say what they are without their neighbours."""
    heads = ["", *(column.head for column in columns)]
    return [
        (f"of {before}" if column.head == "%" else column.head, column)
        for before, column in zip(heads, columns, strict=False)
    ]


def _small_table(page: Page, small: SmallTable) -> None:
    page.line(small.title, style="bold")
    _figures(page, small, indent=2, head_style="dim")


def _figures(page: Page, small: SmallTable, *, indent: int = 0, head_style: str = "bold") -> None:
    """Print the heads and rows of a table, in blocks where they are too wide for one."""
    from rich.text import Text

    cells = [[page.text(cell) for cell in line] for line in (small.heads, *small.rows)]
    widths = [max(cell_width(line[i]) for line in cells) for i in range(len(small.heads))]
    for columns in _fitting(widths, page.width - indent + 2):
        for number, line in enumerate(cells):
            text = _aligned([line[i] for i in columns], [widths[i] for i in columns])
            page.styled(Text(f"{' ' * indent}{text}".rstrip(), style="" if number else head_style))


def _fitting(widths: Sequence[int], most: int) -> list[list[int]]:
    """Return columns in groups that fit beside the first one, which heads each group."""
    groups: list[list[int]] = []
    for column in range(1, len(widths)):
        longer = [*(groups[-1] if groups else [0]), column]
        if groups and sum(widths[i] + 2 for i in longer) > most:
            longer = [0, column]
            groups.append(longer)
        elif groups:
            groups[-1] = longer
        else:
            groups.append(longer)
    return groups


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padding = [" " * (width - cell_width(cell)) for cell, width in zip(cells, widths, strict=True)]
    first, *rest = zip(cells, padding, strict=True)
    return "  ".join([first[0] + first[1], *(space + cell for cell, space in rest)]).rstrip()


def _made(row: HeadlineRow) -> list[str]:
    known = [row.shape, f"{row.regime} p10–p90 {row.range}", row.sm_clock]
    if row.fallback:
        known.append(shorten(f"fallback: {row.fallback}", _LONGEST_FALLBACK))
    return [shorten(row.route, 40), *(part for part in known if part != UNKNOWN)]


def _absent(
    page: Page,
    groups: Sequence[AbsentGroup],
    title: str = "Skipped, failed or invalid",
    *,
    full: bool = False,
) -> None:
    if not groups:
        return
    page.gap()
    page.line(title, style="bold")
    for group in groups:
        names = listed(group.labels, len(group.labels) if full else _MOST_LABELS)
        what = f"{plural(group.count, 'case')}: {names}"
        page.marked(group.status, _STATUS_STYLES[group.status], [what, _advised(group)])


def _advised(group: AbsentGroup) -> str:
    return f"{with_remedy(group.sentence, group.remedy)} [{group.code}]"


def _notes(page: Page, run: Run, device_id: str, full: bool) -> None:
    groups = note_groups(run, device_id)
    if not groups:
        return
    page.gap()
    page.line("Notes", style="bold")
    shown = groups if full else groups[:_MOST_NOTES]
    for group in shown:
        where = listed(group.labels, len(group.labels) if full else _MOST_LABELS)
        page.marked("note", "yellow", [f"{group.sentence} ({where}) [{group.code}]"])
    if len(groups) > len(shown):
        page.line(f"and {plural(len(groups) - len(shown), 'more note')} in the report", indent=2)


def _verdict(page: Page, run: Run) -> None:
    verdict = verdict_of(run)
    rows = verdict_rows.finding_rows(run, verdict)
    for row in verdict_rows.pressing(rows):
        told = f"{row.place}{with_remedy(row.sentence, row.remedy)} [{row.code}]"
        page.marked(row.judgement, JUDGEMENT_STYLES[row.judgement], [told])
    for line in verdict_rows.quiet_lines(run, verdict):
        page.line(line, hang=2)
    page.line(f"Measured: {tables.counts_text(run)}")
    judgement = verdict_rows.judgement_of(run, verdict)
    sentence = verdict_rows.verdict_sentence(run, verdict)
    page.labelled("Verdict:", judgement, JUDGEMENT_STYLES[judgement], f" – {sentence}")
