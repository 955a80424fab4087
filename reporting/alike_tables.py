"""Devices of one kind in one table: eight equal boards should give equal figures.

A line per result with the median of the devices, the slowest and the fastest of them, and how far
they are apart; which of them is the slowest is named, because that is the one to look at.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from statistics import median
from typing import Final

from roofprobe.records.disturbed import disturbed_of
from roofprobe.records.schema import Device, Family, Headline, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.marks import MARK
from roofprobe.reporting.naming import short_address
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.small_table import SmallTable

TITLES: Final[Mapping[Family, str]] = {
    "compute": "Compute", "memory": "Memory", "interconnect": "Links",
    "llm": "Language models",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Alike:
    """Devices of one name, in the order of the run, and a table per family of results."""

    title: str
    devices: tuple[Device, ...]
    tables: tuple[SmallTable, ...]


def alike_devices(run: Run) -> tuple[Alike, ...]:
    """Return the kinds of which the run has several devices."""
    kinds: dict[str, list[Device]] = {}
    for device in run.devices:
        kinds.setdefault(clean(device.name), []).append(device)
    return tuple(
        Alike(f"{len(devices)} × {name}", tuple(devices), _tables(run, devices))
        for name, devices in kinds.items()
        if len(devices) > 1
    )


def _tables(run: Run, devices: list[Device]) -> tuple[SmallTable, ...]:
    names = {device.device_id: short_address(device) for device in devices}
    disturbed = {(m.device_id, m.case.case_id) for m in disturbed_of(run.measurements).members}
    tables = []
    for family, title in TITLES.items():
        lines: dict[str, list[Headline]] = {}
        for headline in run.headlines:
            if headline.family == family and headline.device_id in names:
                lines.setdefault(clean(headline.label), []).append(headline)
        if lines:
            rows = tuple(_row(label, found, names, disturbed) for label, found in lines.items())
            heads = (title, "median", "least", "most", "apart", "slowest", "on", "sheet")
            tables.append(SmallTable(title, _SENTENCE, heads, rows))
    return tuple(tables)


_SENTENCE = (
    "Best rates of the devices: their median, least and most; apart: most less least, of the "
    "median; on: how many devices have the line; sheet: the median, of the datasheet's peak."
)


def _row(
    label: str,
    found: list[Headline],
    names: Mapping[str, str],
    disturbed: Set[tuple[str, str]],
) -> tuple[str, ...]:
    rates = [headline.rate.median for headline in found]
    middle = median(rates)
    scale = numbers.scale_for(middle, found[0].rate.unit)
    slowest = min(found, key=lambda headline: headline.rate.median)
    apart = (max(rates) - min(rates)) / middle if middle else None
    sheet = found[0].datasheet
    mark = any((h.device_id, h.case_id) in disturbed for h in found)
    return (
        f"{label} {MARK}" if mark else label,
        f"{scale.number(middle)} {scale.unit}",
        scale.number(min(rates)),
        scale.number(max(rates)),
        numbers.UNKNOWN if apart is None else f"{apart:.1%}",
        names[slowest.device_id] if min(rates) < max(rates) else numbers.UNKNOWN,
        str(len(found)),
        numbers.share(middle / sheet if sheet else None),
    )
