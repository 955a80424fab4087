"""A hand-made run with everything that the compute probe can bring, on a GPU and on a processor.

No figure in here is of any real device; they are round on purpose. Headlines, support and
findings are what the tool itself makes of the measurements.
"""

from __future__ import annotations

from typing import Any

from roofprobe.acceptance.verdict.formats import slow_formats
from roofprobe.acceptance.verdict.integrity import bad_ends, fallbacks
from roofprobe.acceptance.verdict.judge import rolled_up
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import (
    Case,
    Ceiling,
    Correctness,
    Device,
    Distribution,
    Environment,
    KernelIdentity,
    Limits,
    Measurement,
    Note,
    Options,
    Reason,
    Run,
    Search,
    SearchStep,
    Span,
    Telemetry,
    TracePoint,
    Verdict,
)
from roofprobe.records.support import support_of

GPU, CPU = "GPU-compute", "cpu"
ROUTES = {"torch.mm": ("example_gemm", "wgmma"), "triton": ("matmul_kernel", "mma")}
PRECISIONS: dict[str, dict[str, Any]] = {
    "bf16": {"precision": "bf16", "pipe": "tensor", "accumulator": "fp32"},
    "fp16": {"precision": "fp16", "pipe": "tensor", "accumulator": "fp32"},
    "fp8-fast": {
        "precision": "fp8", "pipe": "tensor", "accumulator": "fp32", "scaling": "tensorwise",
        "fast_accum": True,
    },
    "fp8-rowwise": {
        "precision": "fp8", "pipe": "tensor", "accumulator": "fp32", "scaling": "rowwise",
        "fast_accum": False,
    },
    "int8": {"precision": "int8", "pipe": "tensor", "accumulator": "int32"},
    "fp64-vector": {"precision": "fp64", "pipe": "vector", "accumulator": "fp64"},
    "bf16-sparse": {
        "precision": "bf16", "pipe": "tensor", "accumulator": "fp32", "sparsity": "2:4",
    },
    "nvfp4": {"precision": "nvfp4", "pipe": "tensor", "accumulator": "fp32", "scaling": "nv16"},
    "fp32": {"precision": "fp32", "accumulator": "fp32"},
    "fp64": {"precision": "fp64", "accumulator": "fp64"},
}  # fmt: skip


def distribution(median: float, unit: str) -> Distribution:
    return Distribution(
        unit=unit, median=median, ci_low=median * 0.996, ci_high=median * 1.004,
        p10=median * 0.98, p90=median * 1.01, best=median * 1.02, n=30,
    )  # fmt: skip


class Maker:
    """Makes the measurements of one device with ids that count up."""

    def __init__(self, device_id: str) -> None:
        self.device_id = device_id
        self.count = 0

    def __call__(
        self,
        row: str,
        rate: float | None,
        shape: tuple[int, ...] = (8192, 8192, 8192),
        route: str = "torch.mm",
        clock: float | None = None,
        power: float | None = None,
        **fields: Any,
    ) -> Measurement:
        self.count += 1
        names = [name for name in fields if name in Case.model_fields]
        chosen = {name: fields.pop(name) for name in names}
        unit = "TOPS" if row.startswith("int") else "TFLOPS"
        case = Case.model_validate(
            {
                "case_id": f"{self.device_id}-{self.count}", "family": "compute", "op": "gemm",
                "route": route, "row": row, "layout": "TN",
                "shape": dict(zip("mnk", shape, strict=False)), **PRECISIONS[row], **chosen,
            }
        )  # fmt: skip
        if rate is not None:
            fields.setdefault("status", "ok")
            fields.setdefault("rate", distribution(rate, unit))
            fields["correctness"] = Correctness(
                error=1e-4, tolerance=1e-2, measure="relative", checked_elements=64
            )
            kernel, instruction = ROUTES.get(route, (None, None))
            if self.device_id == GPU and kernel:
                fields.setdefault(
                    "identity",
                    KernelIdentity(
                        names=(f"{kernel}_{row}",), library="Example", instruction=instruction
                    ),
                )
            if case.op == "gemm":
                m, n, k = shape
                fields |= {
                    "latency": distribution(2 * m * n * k / rate / 1e6, "us"),
                    "flops": 2 * m * n * k,
                    "bytes_read": 2 * (m * k + n * k),
                    "bytes_written": 2 * m * n,
                }
        if clock is not None:
            fields["clock_mhz"] = Span(min=clock - 10, median=clock, max=clock + 10)
        if power is not None and "telemetry" not in fields:
            fields["telemetry"] = Telemetry(
                n_samples=9, power_w=Span(min=power - 50, median=power, max=power + 20)
            )
        return Measurement(case=case, device_id=self.device_id, **fields)


def search(route: str, anchor_rate: float, best_rate: float, size: int) -> Search:
    """Return a path of 24 looks: every fourth is the anchor, which loses 4 % on the way."""
    anchor, best = (size, size, size), (size * 2, size, size // 2)
    steps = []
    for number in range(24):
        drift = 1 - 0.04 * number / 23
        is_anchor = number % 4 == 0
        score = anchor_rate if is_anchor else best_rate * (0.5 + 0.5 * number / 23)
        shape = anchor if is_anchor else (size // 2 + 64 * number, size, size // 2)
        if number == 23:
            shape = best
        steps.append(
            SearchStep(
                stage="anchor" if is_anchor else f"rung {number // 8}", shape=shape,
                tflops=score * drift, score=score, anchor_ratio=drift, at_s=0.5 * number,
                seconds=0.4,
            )
        )  # fmt: skip
    steps.append(
        SearchStep(stage="final", shape=(1, 1, 1), at_s=12, seconds=0.1, failure="It was too big.")
    )
    return Search(
        method="halving", route=route, seed=7, sentence="Half of the candidates went per rung.",
        budget_s=15, elapsed_s=12.1, candidates=96, pruned=32, anchor=anchor, best=best,
        best_tflops=best_rate, steps=tuple(steps), untried=((3, 3, 3),),
    )  # fmt: skip


def settled_trace(limit_w: float, fall_mhz: float = 20) -> Telemetry:
    points = tuple(
        TracePoint(
            at_s=0.1 * n, sm_clock_mhz=1900 - min(n, 20) * fall_mhz,
            power_w=min(limit_w, 200 + 30 * n),
            temperature_c=40 + n / 4, throttle_reasons=("sw-power-cap",) if n > 10 else (),
        )
        for n in range(60)
    )  # fmt: skip
    return Telemetry(
        n_samples=60, interval_s=0.1, power_w=Span(min=200, median=limit_w, max=limit_w),
        sm_clock_mhz=Span(min=1500, median=1500, max=1900), trace=points,
        throttle_reasons=("sw-power-cap",),
    )  # fmt: skip


def surface(make: Maker, row: str, peak: float, clock: float | None) -> list[Measurement]:
    cases = []
    for m in (1, 16, 64, 256, 1024, 4096):
        for number, (n, k) in enumerate(((1024, 4096), (4096, 4096), (4096, 14336), (28672, 4096))):
            rate = peak * m / (m + 300) * (0.7 + 0.1 * number)
            if (m, n) == (1, 1024):
                reason = Reason(code="shape", sentence="M must be a multiple of 16.")
                cases.append(
                    make(row, None, (m, n, k), role="surface", status="skipped", reason=reason)
                )
            else:
                cases.append(make(row, rate, (m, n, k), role="surface", clock=clock))
    return cases


def gpu_measurements() -> list[Measurement]:
    make = Maker(GPU)
    best = (16384, 8192, 4096)
    burst: dict[str, Any] = {"clock": 1700.0, "power": 480.0}
    settled: dict[str, Any] = {"clock": 1500.0, "role": "settled", "regime": "settled"}
    slow = KernelIdentity(
        names=("example_igemm_int8",), library="Example", instruction="imad",
        fallback="Integer products ran on the ordinary pipe.",
    )  # fmt: skip
    needs = Reason(
        code="architecture", sentence="NVFP4 needs compute capability 10.0, this device has 0.0.",
        remedy="Use a newer device.",
    )  # fmt: skip
    noisy = Note(code="noisy", sentence="The spread is 5 %.")
    noisier = Note(code="noisy", sentence="The spread is 7 %.")
    return [
        make("bf16", 780, **burst),
        make("bf16", 700, (4096, 4096, 4096), notes=(noisy,), **burst),
        make("bf16", None, (), role="search", op="search", status="ok",
             search=search("torch.mm", 770, 820, 8192)),
        make("bf16", 820, best, role="route", energy_j_per_tflop=0.61, **burst),
        make("bf16", 640, best, route="triton", role="route", notes=(noisier,), **burst),
        make("bf16", 660, best, route="triton", role="tune", config="128x256x64", **burst),
        make("bf16", 620, best, route="triton", role="tune", config="64x256x64", **burst),
        make("bf16", 730, best, telemetry=settled_trace(500), energy_j_per_tflop=0.68, **settled),
        make("bf16", 820, best, role="pattern", **{**burst, "power": 480}),
        make("bf16", 900, best, pattern="zeros", role="pattern", clock=1900, power=300),
        make("bf16", 870, best, pattern="ones", role="pattern", clock=1850, power=330),
        make("bf16", 850, (), route="pipe", op="pipe", role="pipe", clock=1750),
        *surface(make, "bf16", 800, 1700),
        make("bf16", 820, best, role="layout", **burst),
        make("bf16", 790, best, role="layout", **{**burst, "layout": "NN"}),
        make("bf16", 820, (16384, 8192, 4096), role="alignment", **burst),
        make("bf16", 815, (16384, 8256, 4096), role="alignment", **burst),
        make("bf16", 410, (16384, 8193, 4096), role="alignment", **burst),
        make("bf16", 820, best, role="stability", op="stability", **burst),
        make("fp16", 790, **burst),
        make("fp8-fast", 1500, best, role="route", clock=1650, power=490),
        make("fp8-fast", 1300, best, telemetry=settled_trace(500, 24), energy_j_per_tflop=0.41,
             **settled),
        make("fp8-fast", 1720, (), route="pipe", op="pipe", role="pipe", clock=1700),
        *surface(make, "fp8-fast", 1480, 1650),
        make("fp8-rowwise", 1200, role="route", clock=1650, power=470),
        make("int8", 300, identity=slow, **burst),
        make("fp64-vector", 31, (), route="pipe", op="pipe", role="pipe", clock=1900),
        make("nvfp4", None, status="skipped", reason=needs),
        make("nvfp4", None, route="triton", status="skipped", reason=needs),
        make("bf16-sparse", 1150, role="route", **burst),
    ]  # fmt: skip


def cpu_measurements() -> list[Measurement]:
    make = Maker(CPU)
    best = (2048, 1024, 512)
    absent = Reason(code="architecture", sentence="FP8 needs a GPU.", remedy="Use a GPU.")
    return [
        make("fp64", 0.05, (1024, 1024, 1024)),
        make("fp32", 0.1, (1024, 1024, 1024)),
        make("fp32", None, (), role="search", op="search", status="ok",
             search=search("torch.mm", 0.1, 0.11, 1024)),
        make("fp32", 0.11, best, role="route"),
        make("fp32", 0.08, best, route="numpy", role="route"),
        make("fp32", 0.13, (), route="pipe", op="pipe", role="pipe"),
        *surface(make, "fp32", 0.1, None),
        make("fp8-fast", None, status="skipped", reason=absent),
    ]  # fmt: skip


def ceilings() -> tuple[Ceiling, ...]:
    def one(device: str, kind: Any, precision: str, value: float, **fields: Any) -> Ceiling:
        return Ceiling(
            device_id=device, kind=kind, family="compute", precision=precision,
            peak_key=precision, value=value,
            unit="TOPS" if precision.startswith("int") else "TFLOPS", basis="an example",
            **fields,
        )  # fmt: skip

    found = []
    tensor: dict[str, Any] = {"pipe": "tensor"}
    for precision, value in (("bf16", 1000.0), ("fp16", 1000.0), ("fp8", 2000.0), ("int8", 2000.0)):
        found += [
            one(GPU, "datasheet", precision, value, clock_mhz=1800, **tensor),
            one(GPU, "derived", precision, value / 0.9, clock_mhz=2000, **tensor),
        ]
    sparse: dict[str, Any] = {"pipe": "tensor", "sparsity": "2:4"}
    found += [
        one(GPU, "datasheet", "bf16", 2000, clock_mhz=1800, **sparse),
        one(GPU, "derived", "bf16", 2000 / 0.9, clock_mhz=2000, **sparse),
        one(GPU, "datasheet", "fp64", 34, clock_mhz=2000, pipe="vector"),
        one(GPU, "derived", "fp64", 34, clock_mhz=2000, pipe="vector"),
        one(CPU, "derived", "fp64", 0.08, clock_mhz=2500, assumed=True),
        one(CPU, "derived", "fp32", 0.16, clock_mhz=2500, assumed=True),
    ]
    return tuple(found)


def compute_run() -> Run:
    devices = (
        Device(
            device_id=GPU, torch_device="cuda:0", backend="cuda", name="Example GPU",
            architecture="sm_00", unit="SM", unit_count=100, memory_bytes=100 << 30,
            limits=Limits(power_limit_w=500, max_sm_clock_mhz=2000),
        ),
        Device(
            device_id=CPU, torch_device="cpu", backend="cpu", name="Example CPU", unit="core",
            unit_count=2, memory_bytes=8 << 30,
        ),
    )  # fmt: skip
    run = Run(
        run_id="20000101T000000Z-compute",
        status="complete",
        started_at="2000-01-01T00:00:00+00:00",
        finished_at="2000-01-01T00:03:00+00:00",
        command=("probe", "compute"),
        options=Options(families=("compute",)),
        environment=Environment(
            host="example-host", os="Example OS 1", kernel="0", python="3.11.0", roofprobe="0.1.0"
        ),
        devices=devices,
        ceilings=ceilings(),
    )
    return summarised(run, (*gpu_measurements(), *cpu_measurements()))


def summarised(run: Run, measurements: tuple[Measurement, ...]) -> Run:
    """Return ``run`` with ``measurements`` and what the tool makes of them."""
    made = run.model_copy(
        update={
            "measurements": measurements,
            "headlines": headlines_of(run.devices, measurements, run.ceilings),
            "support": support_of(run.devices, measurements),
        }
    )
    found = (*bad_ends(made), *fallbacks(made), *slow_formats(made))
    verdict = Verdict(judgement=rolled_up(found), findings=found)
    return made.model_copy(update={"verdict": verdict})
