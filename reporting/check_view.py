"""The verdict on one run: a screen for people, Markdown for an issue, a line for Nagios, JSON.

What does not pass comes first, the worst before the rest, each with its code, its figure against
its bound, where the bound comes from, and what to do. What passed is a count per layer. Texts come
from drivers and files, so none is read as markup and control characters are shown, not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from roofprobe.records.schema import Judgement, Run, Verdict
from roofprobe.records.wording import plural
from roofprobe.reporting import tables, verdict_rows
from roofprobe.reporting.check_json import check_json_schema, to_json
from roofprobe.reporting.markdown_text import code, escape, folded, prose, table
from roofprobe.reporting.page import JUDGEMENT_STYLES, Page
from roofprobe.reporting.plain_text import as_sentence, clean, in_encoding, shorten, with_remedy
from roofprobe.reporting.verdict_rows import FindingRow, Scope

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "check_json_schema", "nagios_exit_code", "nagios_line", "nagios_unknown", "render_check",
    "to_json", "to_markdown_check",
]  # fmt: skip

_MOST_FINDINGS: Final = 10
_LONGEST_LABEL: Final = 120
_LONGEST_SENTENCE: Final = 400
_LONGEST_NAGIOS: Final = 300
# Nagios' own words; its exit codes are 0, 1, 2 and 3 in this order.
_NAGIOS: Final[dict[Judgement, str]] = {
    "pass": "OK", "warn": "WARNING", "fail": "CRITICAL", "unknown": "UNKNOWN",
}  # fmt: skip


def render_check(run: Run, verdict: Verdict, console: Console, *, full: bool = False) -> None:
    """Print the verdict on one screen; ``full`` adds every finding and each that passed."""
    page = Page(console)
    page.line(f"Run {_label(run.run_id)}, started {clean(run.started_at)}", style="bold")
    status = tables.status_sentence(run)
    if status:
        page.line(status, style="bold yellow")
    page.gap()
    for scope in _shown_scopes(run, verdict):
        page.marked(scope.judgement, JUDGEMENT_STYLES[scope.judgement], [_scope_line(scope)])
    rows = verdict_rows.finding_rows(run, verdict)
    pressing = verdict_rows.pressing(rows)
    shown = pressing if full else pressing[:_MOST_FINDINGS]
    if shown:
        page.gap()
    for row in shown:
        _finding(page, row, full)
    if len(shown) < len(pressing):
        rest = len(pressing) - len(shown)
        page.line(f"and {plural(rest, 'more finding')} that {_do(rest)} not pass")
    page.gap()
    if full:
        for row in (*verdict_rows.passed(rows), *verdict_rows.untold(rows)):
            _quiet(page, row)
        page.gap()
    for line in verdict_rows.quiet_lines(run, verdict, reasons=not full):
        page.line(line, hang=2)
    judgement = verdict_rows.judgement_of(run, verdict)
    sentence = verdict_rows.verdict_sentence(run, verdict)
    page.labelled("Verdict:", judgement, JUDGEMENT_STYLES[judgement], f" – {sentence}")


def _finding(page: Page, row: FindingRow, full: bool) -> None:
    sentence = row.sentence if full else shorten(row.sentence, _LONGEST_SENTENCE)
    lines = [f"{_label(row.code)} {_label(row.place)}".rstrip() + f" {sentence}"]
    if row.held:
        lines.append(row.held if full else shorten(row.held, _LONGEST_SENTENCE))
    elif row.source and full:
        lines.append(f"held against: {row.source}")
    if row.remedy:
        remedy = row.remedy if full else shorten(row.remedy, _LONGEST_SENTENCE)
        lines.append(f"> {as_sentence(remedy)}")
    page.marked(row.judgement, JUDGEMENT_STYLES[row.judgement], lines)


def _quiet(page: Page, row: FindingRow) -> None:
    mark = "-" if row.judgement == "unknown" else row.judgement
    held = f" [{row.held}]" if row.held else ""
    style = JUDGEMENT_STYLES[row.judgement]
    page.marked(mark, style, [f"{row.code} {row.place}{row.sentence}{held}"])


def _shown_scopes(run: Run, verdict: Verdict) -> tuple[Scope, ...]:
    """Return every device, and the host where anything was asked of it."""
    scopes = verdict_rows.scopes(run, verdict)
    return tuple(s for s in scopes if s.device_id is not None or s.findings)


def _scope_line(scope: Scope) -> str:
    if scope.device_id is None:
        return f"host {_label(scope.label)}"
    name = _name(scope)
    told = "" if scope.findings else ": no check was answered"
    return f"{_label(scope.label)}{f', {_label(name)}' if name else ''}{told}"


def _name(scope: Scope) -> str:
    """Return what kind of device it is, where its label does not tell."""
    name = scope.device.name if scope.device else ""
    return "" if name in scope.label else name


def _label(text: str) -> str:
    return shorten(clean(text), _LONGEST_LABEL)


def _do(count: int) -> str:
    return "does" if count == 1 else "do"


def to_markdown_check(run: Run, verdict: Verdict) -> str:
    """Return the verdict as Markdown that reads well in an issue; what passed is folded away."""
    judgement = verdict_rows.judgement_of(run, verdict)
    rows = verdict_rows.finding_rows(run, verdict)
    pressing = verdict_rows.pressing(rows)
    sentence = verdict_rows.verdict_sentence(run, verdict)
    parts = [
        f"## roofprobe verdict: {judgement}",
        f"{sentence} Run {code(clean(run.run_id))}, started {escape(clean(run.started_at))}, "
        f"roofprobe {escape(clean(run.environment.roofprobe))}.",
        f"**{tables.status_sentence(run)}**" if tables.status_sentence(run) else "",
        _scope_table(_shown_scopes(run, verdict)),
        _finding_table(pressing),
    ]
    for title, quiet in (
        ("Passed", verdict_rows.passed(rows)), ("Not told here", verdict_rows.untold(rows)),
    ):  # fmt: skip
        if quiet:
            told = f"{title} ({len(quiet)}: {verdict_rows.by_layer(quiet)})"
            parts.append(folded(told, _finding_table(quiet)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _scope_table(scopes: Sequence[Scope]) -> str:
    if not scopes:
        return ""
    lines = [
        [
            f"**{scope.judgement}**",
            code(clean(scope.label)) if scope.device_id is not None else "the host",
            escape(clean(_name(scope))),
        ]
        for scope in scopes
    ]
    return table(["verdict", "of", "device"], lines)


def _finding_table(rows: Sequence[FindingRow]) -> str:
    if not rows:
        return ""
    lines = [
        [
            f"**{row.judgement}**",
            code(row.code),
            code(row.scope) if row.scope else "",
            prose(with_remedy(row.sentence, row.remedy)),
            escape(row.figure),
            escape(f"{row.bound} ({row.source})" if row.bound and row.source else row.bound),
        ]
        for row in rows
    ]
    return table(["verdict", "code", "device", "what", "figure", "bound"], lines)


def nagios_line(run: Run, verdict: Verdict) -> str:
    """Return the verdict as one line of a Nagios plugin, in ASCII: state, the worst, counts.

    The states' exit codes are Nagios' own (`nagios_exit_code`), not those of the command. See
    https://nagios-plugins.org/doc/guidelines.html for the format of the counts behind the bar.
    """
    state = _NAGIOS[verdict_rows.judgement_of(run, verdict)]
    said = verdict_rows.verdict_sentence(run, verdict)
    pressing = verdict_rows.pressing(verdict_rows.finding_rows(run, verdict))
    if pressing:
        worst = pressing[0]
        said = f"{worst.code} {worst.place}{worst.sentence} ({said.rstrip('.')})"
    # a bar would begin the counts
    plain = in_encoding(said, "ascii").replace("|", "/")
    counts = " ".join(f"'{kind}'={count}" for kind, count in verdict_rows.counts(verdict).items())
    return f"ROOFPROBE {state}: {in_encoding(shorten(plain, _LONGEST_NAGIOS), 'ascii')} | {counts}"


def nagios_unknown(sentence: str) -> str:
    """Return the line for Nagios where a run could not be judged at all."""
    plain = in_encoding(sentence, "ascii").replace("|", "/")
    return f"ROOFPROBE UNKNOWN: {in_encoding(shorten(plain, _LONGEST_NAGIOS), 'ascii')}"


def nagios_exit_code(run: Run, verdict: Verdict) -> int:
    """Return Nagios' exit code: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."""
    return list(_NAGIOS).index(verdict_rows.judgement_of(run, verdict))
