"""What a device says of itself against what its equals say, and against its own figures.

Devices of one kind have one count of units, one size of memory and one highest clock. A device that
has another, or whose arithmetic and memory are both off by much and by different shares, is not of
the kind that it names; the catalogue is asked which kind such figures would be of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from roofprobe.acceptance.fleet.criteria import ASPECTS, Held
from roofprobe.acceptance.fleet.fleet_verdict import FleetFinding, FleetOptions
from roofprobe.acceptance.fleet.present import Present
from roofprobe.peaks.catalogue import load

_TELLING: Final = (  # column, how far it may differ, what it is called
    ("unit_count", 0.0, "units"),
    ("memory_bytes", 0.05, "bytes of memory"),
    ("max_sm_clock_mhz", 0.02, "MHz at most"),
)
_OFTEN: Final = 0.8  # of the equals have a value: then it is the kind's
_OFF, _APART = 0.08, 0.04  # levels of another kind: how far from the criterion, from each other
_FITS: Final = 0.08
_PEAK: Final = "bf16"


def unlike(present: Present, held: Held, options: FleetOptions) -> dict[int, FleetFinding]:
    """Return the devices that are not what they are called, by row."""
    found: dict[int, FleetFinding] = {}
    compute, memory = ASPECTS.index("compute"), ASPECTS.index("memory")
    levels = held.level[:, [compute, memory]]
    with np.errstate(invalid="ignore"):
        off = (np.abs(levels) > _OFF).all(axis=1) & (np.abs(levels[:, 0] - levels[:, 1]) > _APART)
    differing: dict[int, list[str]] = {}
    for group in held.groups:
        if len(group.peers) < options.least_peers:
            continue
        for row, sentence, decisive in _differing(present, group.peers):
            differing.setdefault(row, []).append(sentence)
            if decisive or np.nanmax(np.abs(levels[row]), initial=0.0) > _OFF:
                off[row] = True
    for row in sorted({*np.flatnonzero(off).tolist(), *differing}):
        found[row] = _finding(present, row, levels[row], differing.get(row, []), bool(off[row]))
    return found


def _differing(present: Present, rows: Any) -> Iterator[tuple[int, str, bool]]:
    """Yield devices that tell another value than their equals, and whether that decides."""
    for column, tolerance, words in _TELLING:
        values = present.devices[column].to_numpy(dtype=float)[rows]
        told = np.isfinite(values)
        if not told.any():
            continue
        each, counts = np.unique(values[told], return_counts=True)
        usual = float(each[counts.argmax()])
        near = np.abs(values - usual) <= tolerance * usual
        if near.sum() < _OFTEN * told.sum():
            continue
        for at in np.flatnonzero(told & ~near):
            sentence = f"{values[at]:,.0f} {words} where its equals have {usual:,.0f}"
            yield int(rows[at]), sentence, column != "max_sm_clock_mhz"


def _finding(
    present: Present, row: int, levels: Any, differing: list[str], is_other: bool
) -> FleetFinding:
    device = present.devices.iloc[row]
    effects = [float(np.expm1(level)) for level in levels]
    parts = list(differing)
    told = {"scope": "device", "sku": device.sku, "host": device.host,
            "device_id": device.device_id, "position": int(device.position)}  # fmt: skip
    if not is_other:
        return FleetFinding(
            code="clock-limit", judgement="warn", cause="clock",
            sentence=f"{device['name']} has {'; '.join(parts)}",
            remedy="see who lowered its highest clock (nvidia-smi -q -d CLOCK)", **told,
        )  # fmt: skip
    if np.isfinite(effects).all():
        parts.append(f"arithmetic {effects[0]:+.0%} and memory {effects[1]:+.0%} of its equals")
    like = _like(str(device.sku), effects)
    return FleetFinding(
        code="wrong-sku", judgement="fail", effect=min(effects) if np.isfinite(effects).all()
        else None,
        sentence=f"{device['name']} is not what its name says: {'; '.join(parts)}"
        + (f"; these would be figures of {like}" if like else ""),
        remedy="compare its PCI id, units and memory with the order; ask the provider", **told,
    )  # fmt: skip


def _like(sku: str, effects: list[float]) -> str | None:
    """Return the catalogue's kind whose peaks lie off a kind's as the figures do; None if none."""
    catalogue = load()
    if sku not in catalogue.accelerators or not np.isfinite(effects).all():
        return None
    own = catalogue[sku]
    peak, stream = own.headline_peak(_PEAK), own.mem_bw_gbps
    best: tuple[float, str] | None = None
    for other in catalogue:
        theirs, pins = other.headline_peak(_PEAK), other.mem_bw_gbps
        if other.key == sku or not (peak and stream and theirs and pins):
            continue
        far = max(abs(theirs / peak - 1 - effects[0]), abs(pins / stream - 1 - effects[1]))
        if far < _FITS and (best is None or far < best[0]):
            best = far, other.name
    return best[1] if best else None
