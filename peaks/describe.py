"""The catalogue as plain data: what ``probe peaks --json`` prints and what the views are made of.

Every figure comes with its sources, the arithmetic beside it, and the residual between the two.
What is not known is ``null``, and all numbers are finite, so that the result is valid JSON.
"""

from __future__ import annotations

from typing import Any, Final

from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load
from roofprobe.peaks.derive import catalogue_memory_peak_gbps, datasheet_derived_peaks
from roofprobe.peaks.founding_notes import FoundingColumn, founding_column_of
from roofprobe.peaks.precisions import NAMES, PEAK_TITLES, peak_unit
from roofprobe.peaks.residuals import MEMORY_KEY, reading, residuals

# Fields of a row that say which device it is, with the words for people.
IDENTITY_FIELDS: Final = (
    ("architecture", "Architecture"),
    ("compute_capability", "Compute capability"),
    ("gcn_arch", "GCN architecture"),
    ("launch", "Launch"),
    ("form_factor", "Form factor"),
    ("driver_names", "Driver names"),
    ("pci_ids", "PCI ids"),
    ("devices_per_module", "Devices per module"),
    ("boost_clock_mhz", "Boost clock, MHz"),
    ("tensor_clock_mhz", "Tensor clock, MHz"),
    ("tensor_clock_mhz_assumed", "Tensor clock assumed, MHz"),
    ("l2_mb", "L2 cache, MB"),
    ("infinity_cache_mb", "Infinity cache, MB"),
    ("sram_mb", "SRAM, MB"),
    ("tdp_w", "TDP, W"),
    ("nvlink_gbps", "NVLink both ways, GB/s"),
    ("hccs_gbps", "HCCS, GB/s"),
    ("nic_tbit_per_s", "NICs, Tbit/s"),
    ("pcie_gen", "PCIe generation"),
)


def catalogue_json() -> dict[str, Any]:
    """The list as plain data: per accelerator its memory and the dense headline per precision."""
    return {
        "units": {"peaks": "TFLOPS, TOPS for int types", "mem_bw_gbps": "1e9 bytes/s"},
        "accelerators": [
            {
                "key": row.key,
                "name": row.name,
                "vendor": row.vendor,
                "architecture": row.architecture,
                "mem_gb": row.mem_gb,
                "mem_type": row.mem_type,
                "mem_bw_gbps": row.mem_bw_gbps,
                "dense_peaks": {
                    name: row.headline_peak(name)
                    for name in NAMES
                    if row.headline_peak(name) is not None
                },
            }
            for row in load()
        ],
    }


def accelerator_json(row: Accelerator) -> dict[str, Any]:
    """All that is known about one accelerator as plain data, with the sources of each value."""
    derived, found = datasheet_derived_peaks(row), residuals(row)
    rates, column = row.rates().rates, founding_column_of(row.key)
    keys = [key for key in PEAK_TITLES if key in {*row.dense, *row.sparse, *derived}]
    identity = {field: getattr(row, field) for field, _ in IDENTITY_FIELDS}
    return {
        "key": row.key,
        "name": row.name,
        "vendor": row.vendor,
        "rate_class": row.rate_class,
        "unit_kind": row.unit_kind,
        "unit_count": row.unit_count,
        "identity": {
            field: list(value) if isinstance(value, tuple) else value
            for field, value in identity.items()
            if value not in (None, ())
        },
        "dense_basis": row.dense_basis,
        "headline_keys": {name: row.headline_key(name) for name in NAMES},
        "peaks": [
            {
                "key": key,
                "unit": peak_unit(key),
                "dense": row.dense.get(key),
                "sparse": row.sparse.get(key),
                "derived": derived[key].value if key in derived else None,
                "derived_basis": derived[key].basis if key in derived else None,
                "derived_assumed": derived[key].assumed if key in derived else None,
                "rate_basis": rates[key].basis if key in rates else None,
                "residual": found.get(key),
                "reading": reading(row.key, key),
            }
            for key in keys
        ],
        "memory": {
            "mem_gb": row.mem_gb,
            "mem_type": row.mem_type,
            "mem_bw_gbps": row.mem_bw_gbps,
            "mem_bus_bits": row.mem_bus_bits,
            "mem_clock_mhz": row.mem_clock_mhz,
            "mem_clock_multiplier": row.mem_clock_multiplier,
            "derived_gbps": catalogue_memory_peak_gbps(row),
            "residual": found.get(MEMORY_KEY),
            "reading": reading(row.key, MEMORY_KEY),
        },
        "conflicts": [
            {
                "field": conflict.field,
                "values": [
                    {"value": each.value, "sources": list(each.sources)} for each in conflict.values
                ],
                "note": conflict.note,
            }
            for conflict in row.conflicts
        ],
        "founding_notes": None if column is None else _founding_json(row, column),
        "value_sources": {path: list(keys) for path, keys in row.sources.items()},
        "sources": {
            key: {"kind": source.kind, "title": source.title, "locator": source.locator}
            for key, source in load().sources.items()
            if key in used_sources(row)
        },
    }


def catalogue_value(row: Accelerator, field: str) -> float | str | None:
    """The value of a field or the dense peak of a peak key; None if unknown."""
    if field in PEAK_TITLES:
        return row.dense.get(field)
    value: float | str | None = getattr(row, field)
    return value


def used_sources(row: Accelerator) -> set[str]:
    """Keys of all sources that a row's values and conflicts name."""
    used = {key for keys in row.sources.values() for key in keys}
    for conflict in row.conflicts:
        used.update(key for value in conflict.values for key in value.sources)
    return used


def _founding_json(row: Accelerator, column: FoundingColumn) -> dict[str, Any]:
    return {
        "column": column.title,
        "cells": [
            {
                "row": cell.row,
                "field": cell.field,
                "notes": cell.verbatim,
                "catalogue": catalogue_value(row, cell.field),
                "catalogue_sparse": row.sparse.get(cell.field),
                "verdict": cell.verdict,
                "remark": cell.remark,
            }
            for cell in column.cells
        ],
    }
