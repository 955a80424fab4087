"""What a run says about its devices: ceilings, best figures, stream curve, launches, operations.

A run that timed no operation of a model still has the rest: for each precision the best valid
product over the derived peak (over the datasheet where nothing can be derived), for memory each
streaming kernel over the memory's peak, with the interval of the median and the shapes as domain.
Operations (family ``llm``, collectives, and the surface of matrix products) become points for
fitting, grouped by route, because a fit across routes describes none of them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np

from roofprobe.costmodel import forms
from roofprobe.costmodel.calibration_file import (
    Achieved,
    Ceilings,
    DeviceCalibration,
    Peak,
    StreamPoint,
)
from roofprobe.costmodel.hardware import datasheet_ceilings, datasheet_device
from roofprobe.costmodel.points import Points
from roofprobe.peaks.catalogue import load
from roofprobe.records.disturbed import is_disturbed
from roofprobe.records.schema import Device, Headline, Measurement, Run
from roofprobe.records.titles import label_of

# Matrix products of the compute family that sweep m over weights; the search and its best shape
# say nothing about small m.
_SURFACE: Final = "surface"
# Up to this share of disturbed operations is a background task's, and moves no fit.
_FEW_DISTURBED: Final = 0.05


def device_of(run: Run, device: Device) -> DeviceCalibration:
    """Return all that ``run`` says about one device but fitted operations."""
    lines = [line for line in run.headlines if line.device_id == device.device_id]
    base = None
    if device.catalogue_key is not None and device.catalogue_key in load().accelerators:
        base = datasheet_device(load()[device.catalogue_key].per_device())
    launches = [m for m in _ok(run, device.device_id) if m.case.family == "launch" and m.latency]
    return DeviceCalibration(
        name=device.name,
        device_id=device.device_id,
        architecture=device.architecture,
        catalogue_key=device.catalogue_key,
        units=device.unit_count or (base.units if base else None),
        memory_bytes=device.memory_bytes or (base.memory_bytes if base else None),
        l2_bytes=device.last_level_cache_bytes or (base.l2_bytes if base else None),
        ceilings=_ceilings(run, device, lines),
        gemm={line.label: _achieved(run, line) for line in lines if line.family == "compute"},
        stream={line.label: _achieved(run, line) for line in lines if line.family == "memory"},
        stream_curve=_curve(run, device.device_id),
        launch_us={m.case.route: m.latency.median for m in launches if m.latency},
        launch_disturbed=tuple(m.case.route for m in launches if is_disturbed(m)),
        notes=_disturbed(run, device),
    )


def _disturbed(run: Run, device: Device) -> tuple[str, ...]:
    """Say that operations were timed beside others' work, where more than a few were."""
    timed = [m for rows in _operations(run, device).values() for m in rows]
    many = sum(map(is_disturbed, timed))
    if many <= _FEW_DISTURBED * len(timed):
        return ()
    return (
        f"others had the processor during {many} of {len(timed)} measured operations, so their "
        "times are too long and scatter, and so do what is fitted to them and its errors; repeat "
        "on an idle host",
    )


def _ok(run: Run, device_id: str) -> list[Measurement]:
    return [m for m in run.measurements if m.device_id == device_id and m.status == "ok"]


def _ceilings(run: Run, device: Device, lines: list[Headline]) -> Ceilings:
    """Return datasheet peaks; where there are none, derived ones; else what was reached.

    A run that timed nothing but a model's operations has only these to tell what is reached.
    """
    sheet = Ceilings()
    if device.catalogue_key is not None and device.catalogue_key in load().accelerators:
        sheet = datasheet_ceilings(load()[device.catalogue_key].per_device())
    compute: dict[str, Peak] = {}
    memory: Peak | None = None
    for line in lines:
        source = f"run {run.run_id}, {line.case_id}"
        value, kind = line.rate.best, "measured"
        if line.derived is not None and line.derived >= line.rate.median:
            value, kind, source = line.derived, "derived", f"run {run.run_id}, derived"
        if line.family == "memory":
            if memory is None or value > memory.value:
                memory = Peak(value=value, unit="GB/s", kind=kind, source=source)  # type: ignore[arg-type]
        elif line.family == "compute" and line.sparsity is None:
            held = compute.get(line.precision)
            if held is None or value > held.value:
                compute[line.precision] = Peak(
                    value=value,
                    unit="TOPS" if line.precision.startswith("int") else "TFLOPS",
                    kind=kind,  # type: ignore[arg-type]
                    source=source,
                )
    if sheet.memory is None and memory is None:
        memory = _fastest_bytes(run, device)
    if not sheet.compute:
        compute = {**_fastest_products(run, device), **compute}
    return Ceilings(
        compute={**compute, **sheet.compute}, memory=sheet.memory or memory, link=sheet.link
    )


def _fastest_products(run: Run, device: Device) -> dict[str, Peak]:
    """Return the best rate of a layer's products, by precision, where nothing better is known.

    Efficiencies are relative to it; the product of both is what a timing identifies.
    """
    rates: dict[str, tuple[float, str]] = {}
    for m in _ok(run, device.device_id):
        if m.case.family == "llm" and m.case.op == "gemm" and m.flops and m.latency:
            pipe = forms.FORMATS[m.case.precision].peak
            found = (m.flops / m.latency.p10 * 1e-6, m.case.case_id)
            rates[pipe] = max(rates.get(pipe, found), found)
    return {
        pipe: Peak(
            value=rate,
            unit="TOPS" if pipe.startswith("int") else "TFLOPS",
            kind="measured",
            source=f"run {run.run_id}, {case_id}",
        )
        for pipe, (rate, case_id) in rates.items()
    }


def _fastest_bytes(run: Run, device: Device) -> Peak | None:
    """Return the best byte rate of a model's operations that move more than a cache holds."""
    cache = 2 * (device.last_level_cache_bytes or 0)
    moved = [
        (((m.bytes_read or 0) + (m.bytes_written or 0)), m)
        for m in _ok(run, device.device_id)
        if m.case.family == "llm" and m.latency
    ]
    large = [(size, m) for size, m in moved if size > cache] or moved
    rates = [(size / m.latency.p10 * 1e-3, m.case.case_id) for size, m in large if m.latency]
    if not rates or max(rates)[0] <= 0:
        return None
    rate, case_id = max(rates)
    return Peak(value=rate, unit="GB/s", kind="measured", source=f"run {run.run_id}, {case_id}")


def _curve(run: Run, device_id: str) -> dict[str, tuple[StreamPoint, ...]]:
    """Return bytes that one pass moves → GB/s, per kernel, over arrays that stay where they are.

    Small ones stay in a cache; whoever reads the curve can see where memory begins.
    """
    curve: dict[str, list[StreamPoint]] = defaultdict(list)
    for m in _ok(run, device_id):
        if m.case.role == "curve" and m.rate is not None and m.latency is not None:
            passes = int((m.kernel_config or {}).get("passes") or 1)
            curve[m.case.op].append(
                StreamPoint(
                    bytes=((m.bytes_read or 0) + (m.bytes_written or 0)) / passes,
                    array_bytes=float(m.array_bytes or 0),
                    gbps=m.rate.median,
                    latency_us=m.latency.median / passes,
                )
            )
    return {op: tuple(sorted(points, key=lambda p: p.bytes)) for op, points in curve.items()}


def _achieved(run: Run, line: Headline) -> Achieved:
    rate = line.rate
    peak = line.derived or line.datasheet
    domain = {
        "x".join(str(size) for size in m.case.shape.values())
        for m in _ok(run, line.device_id)
        if m.case.family == line.family and m.case.shape and label_of(m.case) == line.label
    }
    told: dict[str, object] = {}
    if peak is not None:
        told = {
            "peak": peak,
            "peak_kind": "derived" if line.derived else "datasheet",
            "efficiency": rate.median / peak,
            "efficiency_interval": (rate.ci_low / peak, rate.ci_high / peak),
        }
    return Achieved.model_validate(
        {
            "achieved": rate.median,
            "unit": rate.unit,
            "interval": (rate.ci_low, rate.ci_high),
            "regime": line.regime,
            "route": line.route,
            "case_id": line.case_id,
            "domain": tuple(sorted(domain)),
            **told,
        }
    )


def points_of(run: Run, device: Device) -> tuple[Points, ...]:
    """Return the operations that a run timed on one device, grouped by route."""
    return tuple(
        Points(
            op=op,
            precision=precision,
            kv_precision=kv,
            device=device.device_id,
            framework=None,
            kernel=route,
            source=f"run {run.run_id}",
            shape={
                name: np.array([float(m.case.shape[name]) for m in rows])
                for name in forms.OP_CLASSES[op].shape
            },
            latency_s=np.array([m.latency.median * 1e-6 for m in rows if m.latency]),
        )
        for (op, precision, kv, route), rows in _operations(run, device).items()
    )


def _operations(
    run: Run, device: Device
) -> dict[tuple[str, str, str | None, str], list[Measurement]]:
    """Return what can be fitted, by operation, precision, precision of the KV cache and route."""
    groups: dict[tuple[str, str, str | None, str], list[Measurement]] = defaultdict(list)
    for m in _ok(run, device.device_id):
        case = m.case
        row = forms.OP_CLASSES.get(case.op)
        if row is None or m.latency is None or set(case.shape) != set(row.shape):
            continue
        if case.family == "compute" and (case.role != _SURFACE or case.sparsity is not None):
            continue
        arithmetic = row.kind not in ("elementwise", "collective")
        if arithmetic and case.precision not in forms.FORMATS:
            continue
        kv = (getattr(case, "kv_precision", None) or case.precision) if row.kv else None
        if kv is not None and kv not in forms.KV_BYTES:
            continue
        groups[case.op, case.precision, kv, case.route].append(m)
    return groups
