"""How well the arithmetic reproduces each published figure.

    residual = derived at the datasheet's clock / published - 1

A residual checks the catalogue; it does not correct it, and the published value is kept. Where the
rate was fitted to that very peak it shows only that several cards agree with each other. Beyond
1.25% there is something to understand, and ``data/residuals.toml`` holds our reading of it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.derive import catalogue_memory_peak_gbps, datasheet_derived_peaks
from roofprobe.peaks.sources import read_data

OUTLIER: Final = 0.0125
MEMORY_KEY: Final = "mem_bw_gbps"


@dataclass(frozen=True, slots=True)
class StoredResiduals:
    """The recorded residuals of one row by peak key (and ``mem_bw_gbps``).

    ``readings`` explain the outliers; ``unchecked`` says what is missing for the other peaks.
    """

    values: Mapping[str, float]
    readings: Mapping[str, str]
    unchecked: Mapping[str, str]


def residuals(accelerator: Accelerator) -> dict[str, float]:
    """Residual of every published peak, and of the bandwidth, that the arithmetic can check."""
    derived = datasheet_derived_peaks(accelerator)
    found = {
        key: derived[key].value / published - 1
        for key, published in accelerator.dense.items()
        if key in derived
    }
    memory = catalogue_memory_peak_gbps(accelerator)
    if memory is not None and accelerator.mem_bw_gbps is not None:
        found[MEMORY_KEY] = memory / accelerator.mem_bw_gbps - 1
    return found


@functools.cache
def stored_residuals() -> dict[str, StoredResiduals]:
    """The recorded residuals by accelerator key."""
    stored = {}
    for key, row in read_data("residuals.toml").items():
        values = {name: value for name, value in row.items() if isinstance(value, float)}
        stored[key] = StoredResiduals(values, row.get("reading", {}), row.get("unchecked", {}))
    return stored


def reading(accelerator_key: str, peak_key: str) -> str | None:
    """What we make of an outlier, in one sentence; None where nothing is recorded."""
    stored = stored_residuals().get(accelerator_key)
    return None if stored is None else stored.readings.get(peak_key)
