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
                "stream_curve": _curve(run, device.device_id),
                "launch_us": _launches(run, device.device_id),
            }
            for device in run.devices
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def _curve(run: Run, device_id: str) -> dict[str, list[dict[str, float]]]:
    """Return bytes that one pass moves → GB/s, per kernel, over arrays that stay where they are.

    Small ones stay in a cache; whoever reads the curve can see where memory begins.
    """
    curve: dict[str, list[dict[str, float]]] = {}
    for m in run.measurements:
        swept = m.device_id == device_id and m.status == "ok" and m.case.role == "curve"
        if swept and m.rate is not None and m.latency is not None:
            passes = int((m.kernel_config or {}).get("passes") or 1)
            moved = ((m.bytes_read or 0) + (m.bytes_written or 0)) / passes
            curve.setdefault(m.case.op, []).append(
                {
                    "bytes": moved,
                    "array_bytes": float(m.array_bytes or 0),
                    "gbps": m.rate.median,
                    "latency_us": m.latency.median / passes,
                }
            )
    for points in curve.values():
        points.sort(key=lambda point: point["bytes"])
    return curve


def _launches(run: Run, device_id: str) -> dict[str, float]:
    """Return the median microseconds of each kind of launch that was measured."""
    return {
        m.case.route: m.latency.median
        for m in run.measurements
        if m.device_id == device_id and m.status == "ok" and m.case.family == "launch" and m.latency
    }


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
