"""A fleet's verdict on a terminal: the verdict first, then kinds, findings, the worst devices.

It fits 80 columns. What is long (a sentence, a remedy) wraps; names never push figures out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from roofprobe.acceptance.fleet.fleet_verdict import DeviceVerdict, FleetVerdict
from roofprobe.records.fleet.dataset import Refused
from roofprobe.records.wording import plural
from roofprobe.reporting.fleet import fleet_rows as rows
from roofprobe.reporting.page import JUDGEMENT_STYLES, Page
from roofprobe.reporting.plain_text import clean, listed, shorten, with_remedy
from roofprobe.reporting.verdict_rows import WORST_FIRST

if TYPE_CHECKING:
    from rich.console import Console

MOST_DEVICES: Final = 12
_MOST_FINDINGS: Final = 12
_MOST_HOSTS: Final = 12
_MOST_REFUSED: Final = 5


def to_json(verdict: FleetVerdict) -> dict[str, Any]:
    """Return one JSON document, as ``probe schema fleet`` describes it."""
    return verdict.model_dump(mode="json")


def render(
    verdict: FleetVerdict, refused: Sequence[Refused], console: Console, *, full: bool = False,
    written: Sequence[Path] = (),
) -> None:  # fmt: skip
    """Print the verdict; ``full`` lists every device, finding, host and refused file."""
    page = Page(console)

    def cut(things: Sequence[Any], most: int) -> int:
        return len(things) if full else min(len(things), most)

    for sentence in rows.simulated_lines(verdict):
        page.line(f"SIMULATED: {sentence}", style="bold red", hang=2)
    page.labelled("Fleet:", verdict.judgement, JUDGEMENT_STYLES[verdict.judgement], "")
    if verdict.summary:
        page.line(clean(verdict.summary))
    page.line(rows.counts_text(verdict.device_counts, "device"))
    page.line(rows.counts_text(verdict.host_counts, "host"))
    page.line(rows.span_text(verdict), style="dim")
    _skus(verdict, page)

    findings = rows.finding_rows(verdict.findings)
    pressing = tuple(row for row in findings if row.judgement != "pass")
    pressing = pressing if full else rows.folded(pressing)
    if pressing:
        page.gap()
        page.line("The fleet, its kinds and hosts", style="bold")
    for row in pressing[: cut(pressing, _MOST_FINDINGS)]:
        _finding(page, row)
    _more(page, len(pressing) - cut(pressing, _MOST_FINDINGS), "finding")

    _devices(verdict, page, full=full)
    missing = rows.without_runs(verdict)
    if missing:
        page.gap()
        page.line(f"Hosts without a run: {listed(missing, len(missing) if full else _MOST_HOSTS)}")
    if refused:
        page.gap()
        page.line(f"Refused files: {clean(rows.refused_counts(refused))}")
    for each in refused[: cut(refused, _MOST_REFUSED)]:
        page.line(clean(each.sentence), indent=2, hang=2, style="dim")
    _more(page, len(refused) - cut(refused, _MOST_REFUSED), "file")
    if written:
        page.gap()
    for path in written:
        page.path("Written", path)


def _devices(verdict: FleetVerdict, page: Page, *, full: bool) -> None:
    """Print devices; of those of one host for the same reasons the first, unless ``full``."""
    groups: dict[tuple[object, ...], list[DeviceVerdict]] = {}
    for number, device in enumerate(verdict.devices):
        codes = tuple(dict.fromkeys(finding.code for finding in device.findings))
        key = (number,) if full else (device.host, device.judgement, codes)
        groups.setdefault(key, []).append(device)
    told = list(groups.values())[: None if full else MOST_DEVICES]
    if told:
        page.gap()
        page.line("Devices that do not pass, the worst first", style="bold")
    for group in told:
        (line,) = rows.device_lines(group[:1])
        others = len(group) - 1
        more = f" and {plural(others, 'more device')} of this host" if others else ""
        figures = f"{line.metric} {line.effect}, z {line.z}; {line.flagged} metrics off"
        reasons = line.rows if full else line.rows[:1]
        also = () if full else rows.other_codes(group[0])
        page.marked(
            line.judgement.upper(), JUDGEMENT_STYLES[line.judgement],
            (
                f"{line.place} {line.device_id}{more}",
                *((figures,) if group[0].worst_metric else ()),
                *(f"{with_remedy(row.sentence, row.remedy)} ({row.code})" for row in reasons),
                *(row.held for row in reasons if row.held and full),
                *((f"also {', '.join(also)}",) if also else ()),
            ),
        )  # fmt: skip
    _more(page, len(verdict.devices) - sum(map(len, told)), "device")


def _skus(verdict: FleetVerdict, page: Page) -> None:
    lines = rows.sku_lines(verdict)
    if not lines:
        return
    page.gap()
    width = max(4, min(24, max(len(line.sku) for line in lines)))
    heads = f"{'kind':{width}} {'devices':>7} {'hosts':>6}" + "".join(
        f" {state:>{max(5, len(state))}}" for state in WORST_FIRST
    )
    page.line(heads, style="dim")
    for line in lines:
        states = "".join(
            f" {count:>{max(5, len(state))}}"
            for state, count in zip(WORST_FIRST, line.counts, strict=True)
        )
        page.line(
            f"{shorten(line.sku, width):{width}} {line.n_devices:>7} {line.n_hosts:>6}{states}"
        )
        page.line(
            f"driver {line.drivers}; power limit {line.power_limits}", indent=2, style="dim", hang=2
        )


def _finding(page: Page, row: rows.FleetRow) -> None:
    place = f"{row.place}: " if row.place and row.place not in row.sentence else ""
    text = f"{place}{with_remedy(row.sentence, row.remedy)} ({row.code})"
    page.marked(
        row.judgement.upper(), JUDGEMENT_STYLES[row.judgement],
        (text, row.held) if row.held else (text,),
    )  # fmt: skip


def _more(page: Page, count: int, noun: str) -> None:
    if count > 0:
        page.line(f"{plural(count, f'more {noun}')}; --full and --json have all", style="dim")
