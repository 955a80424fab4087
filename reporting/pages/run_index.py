"""The page of a folder of runs: every run in a table, and how its figures moved over time.

All of it is there without the script; with it rows can be filtered and sorted. Links lead to the
reports in the folders beside the page, so that the whole folder can be moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from roofprobe.acceptance.verdict.judge import concluded
from roofprobe.records.summaries import HeadlineSummary, Listed, RunSummary, newest_first
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.pages.shell import page
from roofprobe.reporting.pages.trends import trends_of
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.svg import StyleSheet

# What the table shows of a run, where it has it: those that most people ask for first.
_ROWS: Final = ("bf16", "fp8", "fp16", "fp32")
_MOST_ROWS: Final = 2
_KERNELS: Final = ("read fp32", "copy fp32")


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run in the table; ``host`` and ``kinds`` are numbers of the choices of the filters."""

    name: str
    link: str | None
    started: str
    host: str
    devices: str
    verdict: str
    status: str
    figures: tuple[str, ...]
    versions: str
    problem: str | None
    host_number: int
    kind_numbers: tuple[int, ...]


def to_index(found: Sequence[Listed], title: str, n_unread: int = 0) -> str:
    """Return the page of a folder of runs, newest first; ``n_unread`` older ones were not read."""
    found = newest_first(found)
    runs = [each.run for each in found if each.run is not None]
    hosts = _numbered(clean(run.environment.host) for run in runs)
    kinds = _numbered(clean(device.kind) for run in runs for device in run.devices)
    rows = [_row(each, hosts, kinds) for each in found]
    trends = trends_of(reversed(runs))
    return page(
        "index.html.j2",
        StyleSheet(),
        styles=("report.css", "runs.css"),
        scripts=("report.js", "runs.js"),
        title=f"roofprobe: runs in {clean(title)}",
        told=_told(found, n_unread),
        rows=rows,
        choices={
            "host": [(number, name) for name, number in hosts.items()],
            "device": [(number, name) for name, number in kinds.items()],
            "verdict": [(name, name) for name in dict.fromkeys(row.verdict for row in rows)],
        },
        trend_kinds=list(dict.fromkeys(trend.kind for trend in trends)),
        trends=trends,
        n_unread=n_unread,
    )


def _told(found: Sequence[Listed], n_unread: int) -> str:
    broken = sum(each.run is None for each in found)
    told = f"{plural(len(found) + n_unread, 'run')}, the newest first."
    if broken:
        told += (
            f" {broken} of them cannot be read; its row says why."
            if broken == 1
            else (f" {broken} of them cannot be read; their rows say why.")
        )
    return told


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _row(listed: Listed, hosts: dict[str, int], kinds: dict[str, int]) -> RunRow:
    name = listed.folder.name
    link = f"{quote(name)}/report.html" if listed.has_report else None
    run = listed.run
    if run is None:
        return RunRow(
            name=clean(name), link=link, started="", host="", devices="", verdict="unread",
            status="", figures=(), versions="", problem=clean(listed.problem or ""),
            host_number=-1, kind_numbers=(),
        )  # fmt: skip
    host = clean(run.environment.host)
    counts = Counter(clean(device.name) for device in run.devices)
    torch = f", torch {run.environment.torch}" if run.environment.torch else ""
    return RunRow(
        name=clean(name),
        link=link,
        started=clean(run.started_at.replace("T", " ")[:16]),
        host=host,
        devices=", ".join(f"{n} × {each}" if n > 1 else each for each, n in counts.items()),
        verdict=concluded(
            run.verdict.judgement if run.verdict else "unknown", run.status, run.simulated
        ),
        status=", ".join(_not_what_it_seems(run)),
        figures=_figures(run),
        versions=clean(
            f"roofprobe {run.environment.roofprobe}{torch}, method {run.method_version}"
        ),
        problem=None,
        host_number=hosts[host],
        kind_numbers=tuple(sorted({kinds[clean(device.kind)] for device in run.devices})),
    )


def _not_what_it_seems(run: RunSummary) -> Iterator[str]:
    if run.simulated is not None:
        yield "simulated"
    if run.status != "complete":
        yield run.status


def _figures(run: RunSummary) -> tuple[str, ...]:
    """Return the first rows of compute that there are, and what memory delivers, by kind."""
    told = []
    for kind in dict.fromkeys(device.kind for device in run.devices):
        own = {device.device_id for device in run.devices if device.kind == kind}
        lines: dict[str, list[HeadlineSummary]] = {}
        for each in run.headlines:
            if each.device_id in own and each.family in ("compute", "memory"):
                lines.setdefault(f"{each.family} {each.label}", []).append(each)
        wanted = [f"compute {row}" for row in _ROWS if f"compute {row}" in lines][:_MOST_ROWS]
        wanted += [f"memory {kernel}" for kernel in _KERNELS if f"memory {kernel}" in lines]
        told += [_range(lines[name]) for name in wanted]
    return tuple(told)


def _range(found: Sequence[HeadlineSummary]) -> str:
    """Write what devices of one kind reached: one figure, or the least and the greatest."""
    values = [each.rate.median for each in found]
    scale = numbers.scale_for(max(values), found[0].rate.unit)
    low, high = scale.number(min(values)), scale.number(max(values))
    told = f"{found[0].label} {low if low == high else f'{low}–{high}'} {scale.unit}"
    shares = [each.share_datasheet for each in found if each.share_datasheet is not None]
    return clean(f"{told}, {numbers.share(min(shares))} of datasheet" if shares else told)
