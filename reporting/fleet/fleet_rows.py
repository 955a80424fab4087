"""What every output shows of a fleet's verdict, as clean text: devices, kinds, hosts, findings.

The worst comes first everywhere. Names of hosts and devices come from files that anyone may have
written, so they are made plain text here, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from roofprobe.acceptance.fleet.fleet_verdict import (
    DeviceVerdict,
    FleetFinding,
    FleetVerdict,
)
from roofprobe.records.fleet.dataset import Refused
from roofprobe.records.schema import Judgement
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.plain_text import clean, listed, shorten
from roofprobe.reporting.verdict_rows import WORST_FIRST

MOST_HOSTS: Final = 6  # of a finding about many
_MOST_FINDINGS: Final = 4  # of one device
_MOST_ALIKE: Final = 3  # findings of one code, before they are made one
_LONGEST_NAME: Final = 60


@dataclass(frozen=True, slots=True)
class FleetRow:
    """One finding as text; ``place`` is whom it concerns, ``held`` the figure with its bounds."""

    judgement: Judgement
    code: str
    place: str
    sentence: str
    remedy: str | None
    held: str


@dataclass(frozen=True, slots=True)
class DeviceLine:
    """One device that is no pass, with its evidence."""

    judgement: Judgement
    place: str
    device_id: str
    sku: str
    metric: str
    effect: str
    z: str
    flagged: str
    rows: tuple[FleetRow, ...]


@dataclass(frozen=True, slots=True)
class SkuLine:
    """One kind of device."""

    sku: str
    n_devices: int
    n_hosts: int
    counts: tuple[int, ...]  # in the order of WORST_FIRST
    drivers: str
    power_limits: str


@dataclass(frozen=True, slots=True)
class HostLine:
    """One host that is no pass."""

    judgement: Judgement
    host: str
    devices: str
    not_pass: int
    sentence: str


def exit_code(verdict: FleetVerdict, *, strict: bool = False) -> int:
    """Return 0 for pass (and warn, unless ``strict``), 1 for fail, 3 for unknown."""
    return {"pass": 0, "warn": 1 if strict else 0, "fail": 1, "unknown": 3}[verdict.judgement]


def effect(value: float | None) -> str:
    """Write an effect in percent; worse is negative: ``−4.8%``."""
    if value is None:
        return numbers.UNKNOWN
    percent = round(value * 100, 1)
    return f"{percent:+.1f}%".replace("-", "−") if percent else "0.0%"


def name_of(text: str) -> str:
    """Return a name from a file as short plain text."""
    return shorten(clean(text), _LONGEST_NAME) or "(no name)"


def place_of(host: str | None, position: int | None) -> str:
    """Name a device by its host and its place there: ``node-7:3``."""
    named = name_of(host) if host else ""
    return named if position is None else f"{named}:{position}"


def counts_text(counts: Mapping[Judgement, int], noun: str) -> str:
    """Write counts, the worst first: ``2 fail, 40 pass of 42 devices``."""
    told = [f"{counts[state]:,} {state}" for state in WORST_FIRST if counts.get(state)]
    return f"{', '.join(told) or 'none'} of {plural(sum(counts.values()), noun)}"


def simulated_lines(verdict: FleetVerdict) -> tuple[str, ...]:
    """Return the sentences that say what of the fleet nobody measured."""
    return tuple(clean(sentence) for sentence in verdict.generated_from.simulated)


def span_text(verdict: FleetVerdict) -> str:
    """Say what was judged: how many runs, from when to when, of which version of the fleet."""
    source = verdict.generated_from
    first, last = (source.first_started_at or "")[:10], (source.last_started_at or "")[:10]
    days = "" if not last else f", from {last}" if first == last else f", from {first} to {last}"
    refused = f", {plural(source.n_refused, 'file')} refused" if source.n_refused else ""
    return (
        f"{plural(source.n_runs, 'run')} of {plural(source.n_hosts, 'host')} and "
        f"{plural(source.n_devices, 'device')}{clean(days)}{refused}; "
        f"{clean(source.where)}, version {source.log_version}"
    )


def sku_lines(verdict: FleetVerdict) -> tuple[SkuLine, ...]:
    """Return the kinds, the largest first."""
    ordered = sorted(verdict.skus, key=lambda sku: (-sku.n_devices, sku.sku))
    return tuple(
        SkuLine(
            sku=name_of(sku.sku),
            n_devices=sku.n_devices,
            n_hosts=sku.n_hosts,
            counts=tuple(sku.counts.get(state, 0) for state in WORST_FIRST),
            drivers=listed(tuple(map(name_of, sku.drivers)), 3) or numbers.UNKNOWN,
            power_limits=listed(tuple(f"{watts:.0f} W" for watts in sku.power_limits_w), 3)
            or numbers.UNKNOWN,
        )
        for sku in ordered
    )


def device_lines(devices: Iterable[DeviceVerdict]) -> tuple[DeviceLine, ...]:
    """Return devices in their order, each with its worst findings."""
    return tuple(
        DeviceLine(
            judgement=device.judgement,
            place=place_of(device.host, device.position),
            device_id=name_of(device.device_id),
            sku=name_of(device.sku),
            metric=name_of(device.worst_metric) if device.worst_metric else numbers.UNKNOWN,
            effect=effect(device.worst_effect),
            z=numbers.UNKNOWN if device.worst_z is None
            else f"{device.worst_z:.1f}".replace("-", "−"),
            flagged=f"{device.n_flagged} of {device.n_metrics}",
            rows=finding_rows(device.findings)[:_MOST_FINDINGS],
        )
        for device in devices
    )  # fmt: skip


def other_codes(device: DeviceVerdict) -> tuple[str, ...]:
    """Return the codes of what was found about a device beside the worst, each once."""
    return tuple(dict.fromkeys(row.code for row in finding_rows(device.findings)))[1:]


def failing_rows(verdict: FleetVerdict, most: int) -> tuple[tuple[FleetRow, ...], int]:
    """Return the worst finding of the worst devices that fail, and how many more fail.

    Devices of one host that fail for one reason are one row, which says how many they are; there
    are ``most`` rows at most.
    """
    groups: dict[tuple[str, str], list[DeviceVerdict]] = {}
    for device in verdict.devices:
        if device.judgement == "fail" and device.findings:
            code = finding_rows(device.findings)[0].code
            groups.setdefault((device.host, code), []).append(device)
    made = []
    for group in list(groups.values())[:most]:
        row = finding_rows(group[0].findings)[0]
        others = len(group) - 1
        more = f" and {plural(others, 'more device')} of this host" if others else ""
        place = place_of(group[0].host, group[0].position)
        made.append(replace(row, place=f"{place}{more}"))
    return tuple(made), sum(map(len, list(groups.values())[most:]))


def finding_rows(findings: Sequence[FleetFinding]) -> tuple[FleetRow, ...]:
    """Return findings as text, the worst first, else in their order."""
    ordered = sorted(findings, key=lambda found: WORST_FIRST.index(found.judgement))
    return tuple(
        FleetRow(
            judgement=found.judgement,
            code=clean(found.code),
            place=_whom(found),
            sentence=clean(found.sentence),
            remedy=clean(found.remedy) if found.remedy else None,
            held=held(found),
        )
        for found in ordered
    )


def folded(rows: Sequence[FleetRow]) -> tuple[FleetRow, ...]:
    """Return rows with many of one kind made one: the first, and whom the others concern."""
    counts = Counter((row.judgement, row.code) for row in rows)
    kept: dict[tuple[Judgement, str], list[FleetRow]] = {}
    for row in rows:
        kept.setdefault((row.judgement, row.code), []).append(row)
    shown = []
    for row in rows:
        key = row.judgement, row.code
        group = kept[key]
        if counts[key] <= _MOST_ALIKE:
            shown.append(row)
        elif row is group[0]:
            others = tuple(dict.fromkeys(other.place for other in group[1:] if other.place))
            stop = "" if row.sentence.endswith((".", "!", "?")) else "."
            more = (
                f"{row.sentence}{stop} So for {len(group) - 1} more: {listed(others, MOST_HOSTS)}"
            )
            shown.append(replace(row, sentence=more))
    return tuple(shown)


def _whom(found: FleetFinding) -> str:
    if found.host is not None:
        return place_of(found.host, found.position)
    if found.hosts:
        return listed(tuple(map(name_of, found.hosts)), MOST_HOSTS)
    return name_of(found.sku) if found.sku else ""


def held(found: FleetFinding) -> str:
    """Return the evidence: the figure, what its like reach, the bound, how many they are."""
    parts = []
    if found.figure is not None and (found.median is not None or found.bound is not None):
        scale = numbers.scale_for(found.median or found.figure, found.unit or "")
        parts.append(f"{scale.number(found.figure)} {scale.unit}".strip())
        if found.median is not None:
            parts.append(f"median {scale.number(found.median)}")
        if found.bound is not None:
            parts.append(f"bound {scale.number(found.bound)}")
    if found.effect is not None:
        interval = ""
        if found.effect_low is not None and found.effect_high is not None:
            interval = f" ({effect(found.effect_low)} to {effect(found.effect_high)})"
        parts.append(f"effect {effect(found.effect)}{interval}{_of_what(found)}")
    if found.n_peers is not None:
        parts.append(f"of {plural(found.n_peers, 'equal device')}")
    if found.since is not None:
        parts.append(f"since {clean(found.since)[:10]}")
    if found.metric is not None and parts:
        others = (found.n_metrics or 1) - 1
        more = f" and {others} more" if others > 0 else ""
        parts.insert(0, f"{clean(found.metric)}{more}")
    return ", ".join(parts)


def _of_what(found: FleetFinding) -> str:
    """Say that an effect is of the whole aspect, where it is not that of the figure beside it."""
    if not (found.figure and found.median and found.aspect and found.effect is not None):
        return ""
    ratio = found.figure / found.median
    own = {effect(min(ratio, 1 / ratio) - 1), effect(max(ratio, 1 / ratio) - 1)}
    return "" if effect(found.effect) in own else f" over all of {found.aspect}"


def host_lines(verdict: FleetVerdict) -> tuple[HostLine, ...]:
    """Return hosts that are no pass."""
    return tuple(
        HostLine(
            judgement=host.judgement,
            host=name_of(host.host),
            devices=str(host.n_devices)
            if host.n_expected is None
            else f"{host.n_devices} of {host.n_expected}",
            not_pass=host.n_not_pass,
            sentence=clean(host.sentence),
        )
        for host in verdict.hosts
    )


def without_runs(verdict: FleetVerdict) -> tuple[str, ...]:
    """Return the names of hosts that were expected and are not there at all."""
    return tuple(name_of(host.host) for host in verdict.hosts if not host.n_devices)


def refused_counts(refused: Iterable[Refused]) -> str:
    """Write how many files were refused for which reason."""
    counts = Counter(each.code for each in refused)
    return ", ".join(f"{code} {count}" for code, count in counts.most_common())
