"""The peak of a pair: what the links between two devices carry, for a transfer between them.

Where a switch stands between, every NVLink of a device leads to every other one, and the printed
figure counts whole. Devices that are wired to each other directly share their links out: of a
printed figure for all of them, a pair has the part that leads from one to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roofprobe.records.ceilings import ceiling_for
from roofprobe.records.schema import Ceiling, Measurement


@dataclass(frozen=True, slots=True)
class PairPeak:
    """What a transfer between two devices is held against, GB/s, and how that is known."""

    gbps: float
    basis: str


def pair_peak(measurement: Measurement, ceilings: Sequence[Ceiling]) -> PairPeak | None:
    """Return the peak of a transfer's links: the datasheet's, else the derived one, else None."""
    assert measurement.case.peer is not None, measurement.case.case_id
    ceiling = ceiling_for(measurement, "datasheet", ceilings) or ceiling_for(
        measurement, "derived", ceilings
    )
    if ceiling is None:
        return None
    link = measurement.link
    if link and link.nvlink_count and link.nvlink_active and link.nvlink_count < link.nvlink_active:
        part = link.nvlink_count / link.nvlink_active
        words = f"{ceiling.basis}, {link.nvlink_count} of {link.nvlink_active} links"
        return PairPeak(ceiling.value * part, words)
    return PairPeak(ceiling.value, ceiling.basis)
