"""Runs built by hand, for comparisons. No figure in here is of any real device."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from roofprobe.records.schema import (
    NOT_ALONE,
    Case,
    Device,
    Distribution,
    Environment,
    Limits,
    Measurement,
    Note,
    Options,
    Reason,
    Run,
    Search,
    Span,
    Status,
)

CROWDED = Note(code=NOT_ALONE, sentence="others took half", figures={"share": 0.5})


def device(device_id: str = "GPU-1", *, name: str = "Example GPU", **more: Any) -> Device:
    values: dict[str, Any] = {
        "torch_device": "cuda:0", "backend": "cuda", "index": 0, "driver": "550.1",
        "limits": Limits(power_limit_w=700.0),
    }  # fmt: skip
    return Device(device_id=device_id, name=name, **(values | more))


def processor(name: str = "Example CPU") -> Device:
    return device("cpu", name=name, torch_device="cpu", backend="cpu", driver=None, limits=Limits())


def case(name: str, **more: Any) -> Case:
    values: dict[str, Any] = {
        "family": "compute", "op": "gemm", "precision": "bf16", "route": "torch.mm",
        "shape": {"m": 64, "n": 64, "k": 64}, "row": name.split("/")[0],
    }  # fmt: skip
    return Case(case_id=name, **(values | more))


def measured(
    name: str,
    samples: Sequence[float],
    *,
    device_id: str = "GPU-1",
    clock_mhz: float | None = None,
    notes: tuple[Note, ...] = (),
    keep_samples: bool = True,
    more: dict[str, Any] | None = None,
    **of_case: Any,
) -> Measurement:
    values = np.array(samples)
    latency = Distribution(
        unit="us", median=float(np.median(values)), ci_low=float(values.min()),
        ci_high=float(values.max()), p10=float(values.min()), p90=float(values.max()),
        best=float(values.min()), n=len(samples),
    )  # fmt: skip
    clock = None if clock_mhz is None else Span(min=clock_mhz, median=clock_mhz, max=clock_mhz)
    return Measurement(
        case=case(name, **of_case), device_id=device_id, status="ok", latency=latency,
        samples_us=tuple(map(float, samples)) if keep_samples else (), clock_mhz=clock,
        notes=notes, flops=2 * 64**3, **(more or {}),
    )  # fmt: skip


def absent(
    name: str, status: Status, code: str, *, device_id: str = "GPU-1", **of_case: Any
) -> Measurement:
    return Measurement(
        case=case(name, **of_case), device_id=device_id, status=status,
        reason=Reason(code=code, sentence=f"it is {code}"),
    )  # fmt: skip


def searched(name: str, best: tuple[int, int, int], samples: Sequence[float]) -> Measurement:
    search = Search(
        method="halving", route="torch.mm", seed=0, sentence="", elapsed_s=1.0, candidates=1,
        pruned=0, best=best,
    )  # fmt: skip
    return measured(name, samples, role="search", shape={}, more={"search": search})


def run(
    measurements: Sequence[Measurement],
    *,
    devices: Sequence[Device] | None = None,
    run_id: str = "run",
    environment: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **more: Any,
) -> Run:
    host = {"host": "host", "os": "Linux", "kernel": "6", "python": "3.11", "roofprobe": "0.1"}
    values: dict[str, Any] = {"status": "complete", "started_at": "2026-01-01T00:00:00+00:00"}
    return Run(
        run_id=run_id,
        options=Options(families=("compute",), **(options or {})),
        environment=Environment(**(host | (environment or {}))),
        devices=tuple([device()] if devices is None else devices),
        measurements=tuple(measurements),
        **(values | more),
    )


def write(folder: Path, record: Run) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = record.model_dump(mode="json", exclude_none=True)
    (folder / "run.json").write_text(json.dumps(data))
    return folder


def steady(median_us: float, n: int = 20) -> list[float]:
    """Return samples within 0.1 % of a median, in an order without drift."""
    return [median_us * (1 + 0.001 * (i * 7 % n / (n - 1) - 0.5)) for i in range(n)]


def slower(record: Run, factor: float, *, only: str = "", run_id: str = "slower") -> Run:
    """Return a copy in which every time of a case whose id contains ``only`` takes longer."""
    found = []
    for m in record.measurements:
        changed: dict[str, Any] = {}
        if only in m.case.case_id:
            changed["samples_us"] = tuple(sample * factor for sample in m.samples_us)
            for name in ("latency", "access_ns"):
                value = getattr(m, name)
                if value is not None:
                    parts = ("median", "ci_low", "ci_high", "p10", "p90", "best")
                    scaled = {part: getattr(value, part) * factor for part in parts}
                    changed[name] = value.model_copy(update=scaled)
        found.append(m.model_copy(update=changed))
    return record.model_copy(update={"measurements": tuple(found), "run_id": run_id})


def lawful(
    seed: int,
    *,
    rows: int = 120,
    between: float,
    within: float = 0.01,
    common: float = 0.0,
    on: Device | None = None,
) -> Run:
    """Return a run by the law of timings: a true time per row, a shift per run, a skewed spread.

    Times are the row's own (the same for every seed) times ``exp(common + N(0, between))`` times
    ``1 + within * Exponential``; launches are never faster than the hardware.
    """
    of_rows, own = np.random.default_rng(12345), np.random.default_rng(seed)
    found = on or device()
    measurements = []
    families = {
        "compute": ("bf16", "fp16", "fp8", "int8"), "memory": ("copy", "read", "triad"),
        "llm": ("rmsnorm", "rope", "gemm", "sample"),
    }  # fmt: skip
    for number in range(rows):
        family = list(families)[number % 3]
        kind = families[family][number // 3 % len(families[family])]
        true_us = math.exp(of_rows.uniform(1, 9))
        n = int(of_rows.integers(15, 60))
        shifted = true_us * math.exp(common + own.normal(0, between))
        samples = shifted * (1 + within * own.exponential(size=n))
        op = kind if family != "compute" else "gemm"
        measurements.append(
            measured(
                f"{kind}/{number}",
                samples.tolist(),
                device_id=found.device_id,
                family=family,
                op=op,
                row=kind if family == "compute" else None,
            )
        )
    return run(measurements, devices=[found], run_id=f"lawful-{seed}")
