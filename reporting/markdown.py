"""A run as Markdown that reads well where it is pasted: an issue, a chat, a pull request.

GitHub's dialect. Names and sentences of the run are escaped, so that a pipe does not break a
table and a device name cannot bring markup or HTML of its own. What is looked up rather than read
is folded away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from roofprobe.records.schema import Family, Run
from roofprobe.reporting import tables
from roofprobe.reporting.facts import (
    Fact,
    device_facts,
    device_line,
    observed_facts,
    run_facts,
)
from roofprobe.reporting.naming import device_ids, device_title
from roofprobe.reporting.numbers import UNKNOWN
from roofprobe.reporting.plain_text import clean, listed, plural
from roofprobe.reporting.tables import AbsentGroup, FindingRow, HeadlineRow

_FIRST_COLUMN: dict[Family, str] = {"compute": "precision", "memory": "kernel"}
_TITLES: dict[Family, str] = {"compute": "Compute", "memory": "Memory"}
_RESULT_COLUMNS = (
    "achieved",
    "±",
    "p10–p90",
    "datasheet",
    "%",
    "derived",
    "%",
    "% at clock",
    "how",
)
_MOST_LABELS = 12

HOW_TO_READ = (
    "*Achieved* is the median of the best valid case, ± half of its 95% confidence interval; "
    "*datasheet* is the printed peak, *derived* is units × rate per clock × greatest clock, and "
    f"*% at clock* holds the result against the derived peak at the clock measured while it ran. "
    f"A peak that is not known is “{UNKNOWN}” and has no share; a datasheet is not a physical "
    "bound, so a share of it may exceed 100%."
)


def to_markdown(run: Run) -> str:
    """Return the report of ``run`` as Markdown."""
    parts = [_title(run), _summary(run)]
    for device_id in device_ids(run):
        parts.append(_device(run, device_id))
    if not device_ids(run):
        parts.append("No device was found, so nothing was measured.")
    parts += ["## How to read this", HOW_TO_READ, _folded("Conditions", _facts(run_facts(run)))]
    if run.events:
        parts += ["## Events", _bullets(opening(line) for line in tables.event_lines(run))]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Return ``text`` so that Markdown and HTML show it as it is."""
    text = text.replace("\\", "\\\\").replace("&", "&amp;")
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([`*\[\]|#~$])", r"\\\1", text)
    # an underscore inside a word marks nothing up
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def opening(text: str) -> str:
    """Return ``text`` escaped for the start of a line, where ``-`` or ``1.`` begin a list."""
    text = escape(text)
    return re.sub(r"^(\d*)([-+.)])", r"\1\\\2", text)


def code(text: str) -> str:
    """Return ``text`` as a code span."""
    if not text or text == UNKNOWN:
        return text
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{space}{text}{space}{fence}"


def _title(run: Run) -> str:
    names = [escape(clean(device.name)) for device in run.devices]
    return f"# roofprobe: {', '.join(dict.fromkeys(names)) or 'no device'}"


def _summary(run: Run) -> str:
    lines = [f"**Verdict: {tables.judgement_of(run)}.** {tables.verdict_sentence(run)}"]
    status = tables.status_sentence(run)
    if status:
        lines.append(f"**{status}**")
    findings = [_finding(row) for row in tables.finding_rows(run) if row.judgement != "pass"]
    if findings:
        lines.append(_bullets(findings))
    lines.append(f"Measured: {tables.counts_text(run)}.")
    return "\n\n".join(lines)


def _finding(row: FindingRow) -> str:
    place = f" {code(row.device)}" if row.device else ""
    remedy = f" {escape(row.remedy)}" if row.remedy else ""
    return f"**{row.judgement}**{place}: {escape(row.sentence)}{remedy}"


def _device(run: Run, device_id: str) -> str:
    device = next((d for d in run.devices if d.device_id == device_id), None)
    parts = [f"## {escape(device_title(device) if device else clean(device_id))}"]
    if device:
        parts.append(opening(device_line(device)))
    results = [(family, tables.headline_rows(run, device_id, family)) for family in _TITLES]
    if not any(rows for _, rows in results):
        parts.append(f"Nothing was measured on this device ({tables.counts_text(run, device_id)}).")
    for family, rows in results:
        if rows:
            parts += [f"### {_TITLES[family]}", _result_table(_FIRST_COLUMN[family], rows)]
    absent = tables.absent_groups(run, device_id)
    if absent:
        parts += ["### Skipped, failed or invalid", _absent_table(absent)]
    notes = tables.note_groups(run, device_id)
    if notes:
        said = [f"{opening(n.sentence)} ({_code_list(n.labels)}) {code(n.code)}" for n in notes]
        parts += ["### Notes", _bullets(said)]
    facts = [*(device_facts(device) if device else ()), *observed_facts(run, device_id)]
    if facts:
        parts.append(_folded("Device conditions", _facts(facts)))
    return "\n\n".join(parts)


def _result_table(first: str, rows: Sequence[HeadlineRow]) -> str:
    lines = [
        [
            escape(row.label),
            f"**{row.achieved}** {escape(row.unit)}",
            row.spread,
            row.range,
            row.datasheet,
            row.share_datasheet,
            row.derived,
            row.share_derived,
            row.share_clock_normalised,
            _how(row),
        ]
        for row in rows
    ]
    return _table([first, *_RESULT_COLUMNS], lines, right=range(1, len(_RESULT_COLUMNS)))


def _how(row: HeadlineRow) -> str:
    kernel = "" if row.kernel in (UNKNOWN, row.route) else f" {code(row.kernel)}"
    known = [row.shape, row.variant, row.regime, row.sm_clock]
    return f"{code(row.route)}{kernel} {escape(', '.join(k for k in known if k != UNKNOWN))}"


def _absent_table(groups: Sequence[AbsentGroup]) -> str:
    lines = [
        [
            group.status,
            f"{plural(group.count, 'case')}: {_code_list(group.labels)}",
            f"{escape(group.sentence)}{' ' + escape(group.remedy) if group.remedy else ''}",
            code(group.code),
        ]
        for group in groups
    ]
    return _table(["status", "cases", "reason", "code"], lines)


def _code_list(labels: tuple[str, ...]) -> str:
    return listed(tuple(code(label) for label in labels), _MOST_LABELS)


def _facts(facts: Iterable[Fact]) -> str:
    return _bullets(f"{opening(fact.label)}: {code(fact.text)}" for fact in facts)


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    to_right = set(right)
    rule = ["---:" if column in to_right else "---" for column in range(len(head))]
    # in a table a pipe parts cells even inside a code span
    cells = [[re.sub(r"(?<!\\)\|", r"\|", cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *cells])
