"""A run as Markdown that reads well where it is pasted: an issue, a chat, a pull request.

GitHub's dialect. Names and sentences of the run are escaped, so that a pipe does not break a
table and a device name cannot bring markup or HTML of its own. Verdict and results come first; what
is looked up rather than read is folded away, and goes where the whole would be refused for length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from roofprobe.acceptance.verdict.judge import verdict_of
from roofprobe.records.schema import Family, Run
from roofprobe.records.wording import plural
from roofprobe.reporting import tables, verdict_rows
from roofprobe.reporting.beside import NOTHING, Beside
from roofprobe.reporting.compute_tables import support_matrix
from roofprobe.reporting.exhibits import brief_tables
from roofprobe.reporting.facts import (
    Fact,
    device_facts,
    device_line,
    observed_facts,
    run_facts,
)
from roofprobe.reporting.llm_tables import llm_tables
from roofprobe.reporting.markdown_compute import compute_parts, support_matrix_table
from roofprobe.reporting.markdown_parts import Part, joined, lookup, opened
from roofprobe.reporting.markdown_text import (
    code,
    escape,
    named,
    opening,
    opening_prose,
    prose,
    table,
)
from roofprobe.reporting.marks import legend_of
from roofprobe.reporting.naming import device_ids, device_title, short_address
from roofprobe.reporting.note_groups import note_groups
from roofprobe.reporting.numbers import UNKNOWN
from roofprobe.reporting.pair_tables import pair_tables
from roofprobe.reporting.plain_text import clean, listed, with_remedy
from roofprobe.reporting.retest_tables import retest_table
from roofprobe.reporting.small_table import SmallTable
from roofprobe.reporting.tables import AbsentGroup, Column, HeadlineRow
from roofprobe.reporting.verdict_rows import FindingRow
from roofprobe.reporting.wire_tables import wire_tables

_FIRST_COLUMN: dict[Family, str] = {
    "compute": "row", "memory": "kernel", "interconnect": "link",
    "llm": "operation",
}  # fmt: skip
_TITLES: dict[Family, str] = {
    "compute": "Compute", "memory": "Memory", "interconnect": "Links",
    "llm": "Language models",
}  # fmt: skip
_RESULT_COLUMNS: tuple[Column, ...] = (
    Column("±", "spread"),
    Column("p10–p90", "range"),
    *tables.SETTLED_AND_SHARES,
)
_MOST_LABELS = 12
_READ, _LOOKED_UP = 1, 2  # what goes later and earlier where a report is too long

HOW_TO_READ = (
    "*Burst* is the median of the best valid case, launched for a fraction of a second; *settled* "
    "is the same work after seconds back to back, when clock and power have found their level. ± "
    "is half of the 95% confidence interval of the median. ±, p10–p90 and all shares belong to the "
    "burst (to the settled figure where there is no burst). *Datasheet* is the printed peak, "
    "*derived* is units × rate per clock × greatest clock, *% at clock* holds the figure against "
    "the derived peak at the clock measured while it ran (*counted* by the device's own cycle "
    "counter, else sampled by the driver), and *% of pipe* against what the same unit does from "
    "registers alone, at equal clocks. *J per T* is joules per 1e12 operations. Rows that are 2:4 "
    "sparse-equivalent count the zeros as operations and are held against sparse peaks only. "
    f"A peak that is not known is “{UNKNOWN}” and has no share; a datasheet is not a physical "
    "bound, so a share of it may exceed 100%."
)


def to_markdown(run: Run, beside: Beside = NOTHING) -> str:
    """Return the report of ``run`` as Markdown, short enough for a comment on GitHub."""
    parts = [Part(_title(run)), Part(_summary(run))]
    retests = retest_table(run)
    if retests:
        parts.append(opened(retests.title, _small_table(retests), level=2))
    for device_id in device_ids(run):
        parts += _device(run, device_id, beside)
    for pairs in pair_tables(run):
        parts.append(Part(f"## {escape(pairs.title)}"))
        parts += [opened(small.title, _small_table(small), _READ) for small in pairs.tables]
        parts.append(Part(_bullets(opening_prose(note) for note in pairs.notes)))
    matrix = support_matrix(run, {d.device_id: short_address(d) for d in run.devices})
    if matrix:
        parts.append(lookup("Support on all devices", [support_matrix_table(matrix)], _LOOKED_UP))
    if not device_ids(run):
        parts.append(Part("No device was found, so nothing was measured."))
    if run.events:
        events = _bullets(opening_prose(line) for line in tables.event_lines(run))
        parts.append(opened("Events", [events], _READ, level=2))
    parts.append(lookup("How to read this", [HOW_TO_READ], _READ))
    parts.append(lookup("Conditions", [_facts(run_facts(run))], _READ))
    return joined(parts)


def _title(run: Run) -> str:
    names = [escape(clean(device.name)) for device in run.devices]
    return f"# roofprobe: {', '.join(dict.fromkeys(names)) or 'no device'}"


def _summary(run: Run) -> str:
    verdict = verdict_of(run)
    judgement = verdict_rows.judgement_of(run, verdict)
    lines = [f"**Verdict: {judgement}.** {verdict_rows.verdict_sentence(run, verdict)}"]
    status = tables.status_sentence(run)
    if status:
        lines.append(f"**{status}**")
    rows = verdict_rows.finding_rows(run, verdict)
    lines.append(_bullets(_finding(row) for row in verdict_rows.pressing(rows)))
    lines += [prose(line) for line in verdict_rows.quiet_lines(run, verdict)]
    lines.append(f"Measured: {tables.counts_text(run)}.")
    return "\n\n".join(line for line in lines if line)


def _finding(row: FindingRow) -> str:
    place = f" {code(row.scope)}" if row.scope else ""
    said = prose(with_remedy(row.sentence, row.remedy))
    return f"**{row.judgement}**{place}: {said} {code(row.code)}"


def _device(run: Run, device_id: str, beside: Beside) -> list[Part]:
    """Return a device's parts: results and where the gap goes to read, the rest folded away."""
    device = next((d for d in run.devices if d.device_id == device_id), None)
    parts = [Part(f"## {escape(device_title(device) if device else clean(device_id))}")]
    if device:
        parts.append(Part(opening(device_line(device))))
    legend = legend_of(run, device_id)
    if legend:
        parts.append(Part(escape(legend)))
    results = [(family, tables.headline_rows(run, device_id, family)) for family in _TITLES]
    if not any(rows for _, rows in results):
        counts = tables.counts_text(run, device_id)
        parts.append(Part(f"Nothing was measured on this device ({counts})."))
    parts += [
        opened(_TITLES[family], [_result_table(_FIRST_COLUMN[family], rows)])
        for family, rows in results
        if rows
    ]
    parts += compute_parts(run, device_id)
    looked_up = (
        *wire_tables(run, device_id), *brief_tables(run, device_id, beside),
        *llm_tables(run, device_id),
    )  # fmt: skip
    parts += [lookup(small.title, _small_table(small), _LOOKED_UP) for small in looked_up]
    absent = tables.absent_groups(run, device_id)
    if absent:
        alone = {group.status for group in absent} == {"skipped"}
        grid = [_absent_table(absent)]
        parts.append(
            lookup("Skipped", grid, _READ)
            if alone
            else opened("Skipped, failed or invalid", grid, _READ)
        )
    notes = note_groups(run, device_id)
    if notes:
        said = [
            f"{opening_prose(n.sentence)} ({_code_list(n.labels)}) {code(n.code)}" for n in notes
        ]
        parts.append(lookup("Notes", [_bullets(said)], _READ))
    facts = [*(device_facts(device) if device else ()), *observed_facts(run, device_id)]
    if facts:
        parts.append(lookup("Device conditions", [_facts(facts)], _LOOKED_UP))
    return parts


def _small_table(small: SmallTable) -> list[str]:
    cells = [[escape(cell) for cell in row] for row in small.rows]
    heads = [escape(head) for head in small.heads]
    return [escape(small.sentence), table(heads, cells, range(1, len(heads)))]


def _result_table(first: str, rows: Sequence[HeadlineRow]) -> str:
    columns = tables.shown_columns(rows, _RESULT_COLUMNS)
    lines = [
        [
            named(row.title, row.label) + row.mark + (" **fallback**" if row.fallback else ""),
            f"**{row.burst}** {escape(row.unit)}" if row.burst != UNKNOWN else UNKNOWN,
            *(_cell(row, column) for column in columns),
            _how(row),
        ]
        for row in rows
    ]
    heads = [first, "burst", *(column.head for column in columns), "how"]
    return table(heads, lines, right=range(1, len(heads) - 1))


def _cell(row: HeadlineRow, column: Column) -> str:
    text = row.text(column.field)
    alone = column.field == "settled" and row.burst == UNKNOWN
    return f"**{text}** {escape(row.unit)}" if alone else text


def _how(row: HeadlineRow) -> str:
    kernel = "" if row.kernel in (UNKNOWN, row.route) else f" {code(row.kernel)}"
    known = [row.shape, row.variant, row.regime, row.sm_clock]
    told = f"{code(row.route)}{kernel} {escape(', '.join(k for k in known if k != UNKNOWN))}"
    return f"{told}<br>**fallback**: {prose(row.fallback)}" if row.fallback else told


def _absent_table(groups: Sequence[AbsentGroup]) -> str:
    lines = [
        [
            group.status,
            f"{plural(group.count, 'case')}: {_code_list(group.labels)}",
            prose(with_remedy(group.sentence, group.remedy)),
            code(group.code),
        ]
        for group in groups
    ]
    return table(["status", "cases", "reason", "code"], lines)


def _code_list(labels: tuple[str, ...]) -> str:
    return listed(tuple(code(label) for label in labels), _MOST_LABELS)


def _facts(facts: Iterable[Fact]) -> str:
    return _bullets(f"{opening(fact.label)}: {code(fact.text)}" for fact in facts)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
