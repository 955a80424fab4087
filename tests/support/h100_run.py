"""A whole run of an H100 SXM as it would be recorded, to test the verdict. None was measured.

Taken from publications (rates as medians of the best route at the largest shape, nothing else):

- identity: name, PCI id 10de:2330, board 10de:16c1 (NVIDIA open-gpu-kernel-modules, README);
  132 SM, 5120 bits, 80 GB, 700 W, 1980 MHz (NVIDIA H100 whitepaper and product page); memory clock
  2619 MHz and 79.6 GiB seen by drivers (dumps of nvidia-smi in public threads);
- BF16 794.5 TFLOPS (ml-engineering, MAMF, torch 2.7), FP8 1402.6 (the same, slow accumulation),
  TF32 373 (gpu-fryer README), FP16 671 (oci-gpu-scanner sample, best of eight boards);
- memory: dot 3180, copy 2900, triad 2970 GB/s (Azure HBM guide, BabelStream); read is taken to be
  as fast as dot, add as triad, scale as copy;
- PCIe: 55 GB/s one way from pinned memory (the upper end of published pinned copies, Gen5 x16).

Invented, so that each planned case has an end: FP64, FP32, INT8, sparse, vector and pipe rates, the
share that other routes and smaller shapes reach, writes and nstream, latencies, launch times, the
clock of 1755 MHz under load, spreads, telemetry, and UUID and bus id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from roofprobe.acceptance.verdict.judge import judge
from roofprobe.kernels.stream_rows import bytes_per_launch
from roofprobe.probes.plan import plan_cases
from roofprobe.records.ceilings import ceilings_of
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import (
    Case,
    Correctness,
    Device,
    Distribution,
    Environment,
    Limits,
    Measurement,
    Options,
    Reason,
    Run,
    Span,
    Telemetry,
)
from roofprobe.records.support import support_of

PUBLISHED_TFLOPS = {"bf16": 794.5, "fp8": 1402.6, "tf32": 373.0, "fp16": 671.0}
PUBLISHED_GBPS = {
    "dot": 3180.0, "read": 3180.0, "copy": 2900.0, "scale": 2900.0, "triad": 2970.0, "add": 2970.0,
}  # fmt: skip
INVENTED_TFLOPS = {"fp64": 58.0, "fp32": 51.0, "int8": 1300.0, "fp16-acc16": 671.0}
INVENTED_GBPS = {"write": 3200.0, "nstream": 2900.0, "l2-read": 5500.0}
CLOCK_MHZ, HIGHEST_MHZ = 1755.0, 1980.0
_VECTOR_TFLOPS = {"fp64": 31.0, "fp32": 62.0, "bf16": 120.0, "fp16": 120.0}
_ROUTE_SHARE = {"triton": 0.9, "numpy.matmul": 0.2}
_NO_UNITS = {"mxfp8": "10.0", "nvfp4": "10.0", "int4": "10.0"}
OPTIONS = Options(
    families=("compute", "memory", "latency", "launch", "interconnect"), tier="quick",
    search="none",
)  # fmt: skip


def device(index: int = 0) -> Device:
    """Return the ``index``-th H100 of a host."""
    uuid = f"GPU-00000000-0000-4000-8000-00000000000{index}"
    return Device(
        device_id=uuid, torch_device=f"cuda:{index}", backend="cuda", index=index, uuid=uuid,
        name="NVIDIA H100 80GB HBM3", pci_bus_id=f"00000000:{0x18 + index:02X}:00.0",
        pci_id="10de:2330", pci_subsystem_id="10de:16c1", architecture="sm_90", unit="SM",
        unit_count=132, memory_bytes=85_520_809_984, last_level_cache_bytes=50 << 20,
        driver_mem_clock_mhz=2619, driver_memory_bus_bits=5120, driver="580.65.06",
        catalogue_key="nvidia_h100_sxm5_80gb",
        limits=Limits(
            power_limit_w=700, default_power_limit_w=700, max_sm_clock_mhz=HIGHEST_MHZ,
            max_mem_clock_mhz=2619, memory_bus_bits=5120, ecc_enabled=True, mig_enabled=False,
            persistence_mode=True, pcie_generation_max=5, pcie_width_max=16,
            pcie_generation_gpu_max=5, c2c_link_count=0,
        ),
    )  # fmt: skip


def run(count: int = 1) -> Run:
    """Return a healthy run of ``count`` H100."""
    devices = tuple(device(index) for index in range(count))
    planned = {each.device_id: plan_cases(each, OPTIONS) for each in devices}
    made = Run(
        run_id="20260101T000000Z-h100", status="complete", started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:02:00+00:00", options=OPTIONS,
        environment=Environment(
            host="h100", os="Linux", kernel="6.8", python="3.12", roofprobe="0.1.0"
        ),
        devices=devices,
        planned={owner: tuple(case.case_id for case in cases) for owner, cases in planned.items()},
        measurements=tuple(
            measured(case, each) for each in devices for case in planned[each.device_id]
        ),
    )  # fmt: skip
    return finished(made)


def finished(made: Run) -> Run:
    """Return a run with all that the tool itself writes beside the measurements."""
    ceilings = tuple(ceiling for each in made.devices for ceiling in ceilings_of(each))
    done = made.model_copy(
        update={
            "ceilings": ceilings,
            "headlines": headlines_of(made.devices, made.measurements, ceilings),
            "support": support_of(made.devices, made.measurements),
        }
    )
    return done.model_copy(update={"verdict": judge(done)})


def with_device(made: Run, index: int = 0, **changes: Any) -> Run:
    """Return a run one of whose devices says something else; ``limits`` are changed within."""
    old = made.devices[index]
    if "limits" in changes:
        changes["limits"] = old.limits.model_copy(update=changes["limits"])
    devices = list(made.devices)
    devices[index] = old.model_copy(update=changes)
    return made.model_copy(update={"devices": tuple(devices)})


def scaled(made: Run, factor: float, wanted: Callable[[Measurement], bool] = lambda m: True) -> Run:
    """Return a run whose ``wanted`` measurements are ``factor`` times as fast, times included."""
    return finished(
        made.model_copy(
            update={
                "measurements": tuple(
                    at_speed(m, factor) if m.status == "ok" and wanted(m) else m
                    for m in made.measurements
                )
            }
        )
    )


def at_speed(m: Measurement, factor: float) -> Measurement:
    """Return a measurement that took ``1 / factor`` of its time."""
    changes: dict[str, Any] = {"samples_us": tuple(us / factor for us in m.samples_us)}
    for name, times in (("latency", 1 / factor), ("access_ns", 1 / factor), ("rate", factor)):
        figure = getattr(m, name)
        if figure is not None:
            parts = ("median", "ci_low", "ci_high", "p10", "p90", "best")
            changes[name] = figure.model_copy(
                update={part: getattr(figure, part) * times for part in parts}
            )
    return m.model_copy(update=changes)


def measured(case: Case, owner: Device) -> Measurement:
    """Return how a case ends on an H100: its figures, or why there are none."""
    if case.precision in _NO_UNITS or case.route == "machine-code":
        reason = Reason(
            code="architecture",
            sentence=f"{case.precision} by {case.route} is nothing for compute capability 9.0",
        )
        return Measurement(case=case, device_id=owner.device_id, status="skipped", reason=reason)
    return Measurement.model_validate(
        {
            "case": case, "device_id": owner.device_id, "status": "ok",
            "correctness": Correctness(
                error=1e-4, tolerance=1e-2, measure="relative", checked_elements=64
            ),
            **(_work(case) or {"latency": _times(5.0, "us")}),
        }
    )  # fmt: skip


def _work(case: Case) -> dict[str, Any]:
    if case.family == "compute":
        flops = (
            2 * case.shape.get("m", 4096) * case.shape.get("n", 4096) * case.shape.get("k", 4096)
        )
        unit = "TOPS" if case.precision.startswith("int") else "TFLOPS"
        return _figures(flops, _tflops(case), unit, flops=flops) | {
            "clock_mhz": Span(min=1700, median=CLOCK_MHZ, max=HIGHEST_MHZ),
            "telemetry": Telemetry(n_samples=9, power_w=Span(min=500, median=680, max=700)),
        }
    if case.family == "memory":
        read, written = bytes_per_launch(case.op, case.precision, case.shape["elements"])
        gbps = {**PUBLISHED_GBPS, **INVENTED_GBPS}.get(case.op, 900.0)
        gbps *= {"copy-engine": 0.75, "torch": 0.95}.get(case.route, 1.0)
        return _figures(read + written, gbps, "GB/s", bytes_read=read, bytes_written=written)
    if case.family == "interconnect" and case.op != "host-copy":
        count = case.shape["bytes"] * (2 if case.op == "both" else 1)
        load = Telemetry(
            n_samples=9, pcie_generation=Span(min=1, median=5, max=5),
            pcie_width=Span(min=16, median=16, max=16),
        )  # fmt: skip
        gbps = 55.0 * (1.6 if case.op == "both" else 1.0)
        return _figures(count, gbps, "GB/s", bytes_read=count, bytes_written=0) | {
            "telemetry": load
        }
    if case.family == "latency":
        return {"latency": _times(4000.0, "us"), "access_ns": _times(600.0, "ns")}
    return {}


def _tflops(case: Case) -> float:
    if case.role == "pipe" and case.pipe == "vector":
        return _VECTOR_TFLOPS[case.precision]
    rate = {**PUBLISHED_TFLOPS, **INVENTED_TFLOPS}[case.precision]
    rate *= 1.3 if case.sparsity else 1.0
    if case.role == "pipe":
        return rate * 1.05
    rate *= _ROUTE_SHARE.get(case.route, 1.0)
    return rate * (1.0 if case.shape.get("m", 0) >= 8192 else 0.9)


def _figures(amount: float, rate: float, unit: str, **counted: int) -> dict[str, Any]:
    us = amount / (1e3 if unit == "GB/s" else 1e6) / rate
    return {
        "latency": _times(us, "us"),
        "rate": Distribution(
            unit=unit, median=rate, ci_low=rate / 1.002, ci_high=rate / 0.998, p10=rate / 1.004,
            p90=rate / 0.996, best=rate / 0.995, n=9,
        ),
        "samples_us": tuple(us * (1 + 0.001 * step) for step in range(-4, 5)),
        **counted,
    }  # fmt: skip


def _times(median: float, unit: str) -> Distribution:
    return Distribution(
        unit=unit, median=median, ci_low=median * 0.998, ci_high=median * 1.002,
        p10=median * 0.996, p90=median * 1.004, best=median * 0.995, n=9,
    )  # fmt: skip
