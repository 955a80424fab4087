"""Efficiency factors of a run: what a planner multiplies a peak with.

For each precision the factor is the best valid product over the derived peak (over the datasheet
where nothing can be derived), for memory each streaming kernel over the memory's peak. A factor
holds for the shapes that were measured, which are named as its domain, and carries the interval of
its median. This is the run's ceiling, not yet a model of small shapes: fixed times and curves are
fitted from more sites than a first run has.
"""

from __future__ import annotations

import json
from typing import Any

from roofprobe.records.schema import Headline, Run
from roofprobe.records.titles import label_of

FORMAT = "roofprobe-efficiency"
VERSION = 1


def efficiency_factors(run: Run) -> bytes:
    """Return ``calibration.json`` of ``run``: factors with domain, interval and provenance."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": VERSION,
        "method_version": run.method_version,
        "run_id": run.run_id,
        "devices": [
            {
                "device_id": device.device_id,
                "name": device.name,
                "architecture": device.architecture,
                "catalogue_key": device.catalogue_key,
                "gemm": {
                    headline.label: _factor(run, headline)
                    for headline in run.headlines
                    if headline.device_id == device.device_id and headline.family == "compute"
                },
                "stream": {
                    headline.label: _factor(run, headline)
                    for headline in run.headlines
                    if headline.device_id == device.device_id and headline.family == "memory"
                },
            }
            for device in run.devices
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def _factor(run: Run, headline: Headline) -> dict[str, Any]:
    rate = headline.rate
    peak = headline.derived or headline.datasheet
    factor: dict[str, Any] = {
        "achieved": rate.median,
        "unit": rate.unit,
        "interval": [rate.ci_low, rate.ci_high],
        "regime": headline.regime,
        "route": headline.route,
        "case_id": headline.case_id,
        "domain": sorted(
            {
                "x".join(str(size) for size in measurement.case.shape.values())
                for measurement in run.measurements
                if measurement.device_id == headline.device_id
                and measurement.status == "ok"
                and measurement.case.family == headline.family
                and measurement.case.shape
                and label_of(measurement.case) == headline.label
            }
        ),
    }
    if peak is not None:
        factor["peak"] = peak
        factor["peak_kind"] = "derived" if headline.derived else "datasheet"
        factor["efficiency"] = rate.median / peak
        factor["efficiency_interval"] = [rate.ci_low / peak, rate.ci_high / peak]
    return factor
