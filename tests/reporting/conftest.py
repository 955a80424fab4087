"""Hand-made runs. No figure in here is of any real device; they are round on purpose.

``ROOFPROBE_GOLDEN=write pytest tests/reporting`` writes the golden files anew; look at the diff.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from roofprobe.records.schema import (
    Case,
    Ceiling,
    Correctness,
    Device,
    Distribution,
    Environment,
    Event,
    Finding,
    Headline,
    Limits,
    Measurement,
    Note,
    Options,
    Reason,
    Run,
    Span,
    Telemetry,
    Timing,
    Verdict,
)
from roofprobe.reporting.beside import Beside


def _load(name: str) -> ModuleType:
    """Return a module that lies beside this one; test files cannot import each other."""
    full_name = f"tests.reporting.{name}"
    if full_name not in sys.modules:
        spec = util.spec_from_file_location(full_name, Path(__file__).parent / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full_name] = module = util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full_name]


GPU_ID = "GPU-00000000-example"
HOSTILE = "<script>alert(1)</script> [red]x[/] | `tick` $x$ *b* \x1b[31m\x07 \u202e"


def distribution(median: float, unit: str, n: int = 30) -> Distribution:
    return Distribution(
        unit=unit,
        median=median,
        ci_low=median * 0.996,
        ci_high=median * 1.004,
        p10=median * 0.98,
        p90=median * 1.01,
        best=median * 1.02,
        n=n,
    )


def telemetry(sm_clock_mhz: float) -> Telemetry:
    return Telemetry(
        n_samples=9,
        interval_s=0.1,
        sm_clock_mhz=Span(min=sm_clock_mhz - 20, median=sm_clock_mhz, max=sm_clock_mhz + 20),
        power_w=Span(min=300, median=400, max=500),
        temperature_c=Span(min=40, median=50, max=60),
        throttle_reasons=("sw-power-cap",),
    )


def gemm(
    precision: str,
    route: str,
    size: int,
    tflops: float,
    item_bytes: float,
    device_id: str = GPU_ID,
    **case: Any,
) -> Measurement:
    unit = "TOPS" if precision.startswith("int") else "TFLOPS"
    flops = 2 * size**3
    moved = int(size * size * item_bytes)
    on_gpu = device_id == GPU_ID
    return Measurement(
        case=Case(
            case_id=f"gemm-{precision}-{route}-{size}",
            family="compute",
            op="gemm",
            precision=precision,
            route=route,
            shape={"m": size, "n": size, "k": size},
            layout="TN",
            accumulator="int32" if unit == "TOPS" else "fp32",
            pipe="tensor" if on_gpu else "vector",
            **case,
        ),
        device_id=device_id,
        status="ok",
        latency=distribution(flops / tflops / 1e6, "us"),
        rate=distribution(tflops, unit),
        flops=flops,
        bytes_read=2 * moved,
        bytes_written=moved,
        kernel=f"example_gemm_{precision}_tn_{size}" if on_gpu else None,
        correctness=Correctness(
            error=1.5e-4, tolerance=1e-2, measure="relative", checked_elements=size
        ),
        timing=Timing(
            timer="fake",
            launches_per_sample=4,
            warmup_launches=8,
            buffer_sets=2,
            stop_reason="steady",
            elapsed_s=1.0,
        ),
        telemetry=telemetry(1500) if on_gpu else None,
    )


def stream(op: str, gbps: float, device_id: str = GPU_ID, **fields: Any) -> Measurement:
    return Measurement(
        case=Case(
            case_id=f"{op}-fp32",
            family="memory",
            op=op,
            precision="fp32",
            route="triton" if device_id == GPU_ID else "torch",
            shape={"elements": 1 << 28},
            convention="read+write",
        ),
        device_id=device_id,
        status=fields.pop("status", "ok"),
        rate=distribution(gbps, "GB/s"),
        latency=distribution((1 << 30) / gbps / 1e3, "us"),
        bytes_read=1 << 30,
        bytes_written=0 if op == "read" else 1 << 30,
        array_bytes=1 << 30,
        **fields,
    )


def without(measurement: Measurement, status: str, reason: Reason) -> Measurement:
    made = ("rate", "latency", "kernel", "correctness", "timing", "telemetry")
    return measurement.model_copy(
        update={"status": status, "reason": reason, **dict.fromkeys(made)}
    )


def headline(
    measurement: Measurement,
    label: str,
    datasheet: float | None = None,
    derived: float | None = None,
    at_clock: float | None = None,
) -> Headline:
    assert measurement.rate is not None
    median = measurement.rate.median
    return Headline(
        device_id=measurement.device_id,
        family=measurement.case.family,
        label=label,
        title=label,
        precision=measurement.case.precision,
        case_id=measurement.case.case_id,
        route=measurement.case.route,
        regime=measurement.case.regime,
        rate=measurement.rate,
        datasheet=datasheet,
        derived=derived,
        clock_normalised=at_clock,
        share_datasheet=None if datasheet is None else median / datasheet,
        share_derived=None if derived is None else median / derived,
        share_clock_normalised=None if at_clock is None else median / at_clock,
        sm_clock_mhz=None if at_clock is None else 1500,
    )


def example_devices() -> tuple[Device, Device]:
    gpu = Device(
        device_id=GPU_ID,
        torch_device="cuda:0",
        backend="cuda",
        name="Example GPU",
        uuid=GPU_ID,
        pci_bus_id="0000:00:00.0",
        architecture="sm_00",
        unit="SM",
        unit_count=100,
        memory_bytes=100 << 30,
        last_level_cache_bytes=50 << 20,
        driver="000.00",
        runtime="CUDA 0.0",
        limits=Limits(
            power_limit_w=500,
            default_power_limit_w=500,
            max_sm_clock_mhz=2000,
            ecc_enabled=True,
            mig_enabled=False,
        ),
        catalogue_key="example-gpu",
        other_processes=("python (pid 1)",),
    )
    cpu = Device(
        device_id="cpu",
        torch_device="cpu",
        backend="cpu",
        name="Example CPU",
        unit="core",
        unit_count=2,
        memory_bytes=8 << 30,
        missing={"power": "The host does not tell."},
    )
    return gpu, cpu


def example_environment() -> Environment:
    return Environment(
        host="example-host",
        os="Example OS 1",
        kernel="0.0.0",
        python="3.11.0",
        roofprobe="0.1.0",
        torch="0.0.0",
        triton="0.0.0",
        cpu="Example CPU",
        logical_cpus=2,
        memory_bytes=8 << 30,
        variables={"EXAMPLE_VARIABLE": "1"},
    )


@pytest.fixture(scope="session")
def example_run() -> Run:
    bf16 = gemm("bf16", "torch.mm", 8192, 800.0, 2)
    fp64 = gemm("fp64", "torch.mm", 4096, 50.0, 8, regime="settled")
    fp8 = gemm("fp8", "torch._scaled_mm", 8192, 1500.0, 1, fast_accum=True)
    int8 = gemm("int8", "torch._int_mm", 8192, 1234.5, 2)
    small = gemm("bf16", "torch.mm", 512, 90.0, 2)
    cpu_fp32 = gemm("fp32", "torch.mm", 2048, 0.1, 4, "cpu")
    cpu_fp64 = gemm("fp64", "torch.mm", 1024, 0.0504, 8, "cpu")
    noisy = Note(code="noisy", sentence="The spread is 5 %; something else may be running.")
    read = stream("read", 3000.0)
    copy = stream("copy", 2700.0, notes=(noisy,))
    cpu_copy = stream("copy", 20.5, "cpu")
    fp4 = Reason(
        code="unsupported",
        sentence="nvfp4 needs an architecture that applies block scales.",
        remedy="Use a newer device.",
    )
    wrong = Reason(code="wrong-result", sentence="The error 0.9 is above the tolerance 0.01.")
    impossible = Reason(
        code="above-bound", sentence="9000 GB/s is more than the memory interface can carry."
    )
    slow = Reason(code="time-budget", sentence="The time budget ended first.")
    measurements = (
        small,
        bf16,
        fp64,
        fp8,
        int8,
        without(gemm("nvfp4", "torch._scaled_mm", 8192, 1.0, 1), "skipped", fp4),
        without(gemm("nvfp4", "torch._scaled_mm", 4096, 1.0, 1), "skipped", fp4),
        without(gemm("nvfp4", "triton", 8192, 1.0, 1), "skipped", fp4),
        without(gemm("tf32", "triton", 8192, 1.0, 4), "failed", wrong),
        read,
        copy,
        stream("write", 9000.0, status="invalid", reason=impossible),
        cpu_fp32,
        cpu_fp64,
        cpu_copy,
        without(stream("triad", 1.0, "cpu"), "skipped", slow),
    )
    ceilings = (
        Ceiling(
            device_id=GPU_ID,
            kind="datasheet",
            family="compute",
            precision="bf16",
            peak_key="bf16_tensor",
            value=1000,
            unit="TFLOPS",
            basis="dense, FP32 accumulation",
            sources=("https://example.invalid/sheet.pdf, page 1",),
        ),
        Ceiling(
            device_id=GPU_ID,
            kind="derived",
            family="compute",
            precision="bf16",
            peak_key="bf16_tensor",
            value=1100,
            unit="TFLOPS",
            clock_mhz=2000,
            physical_bound=True,
            assumed=True,
            basis="100 SM × 5500 FLOP per clock × 2000 MHz",
        ),
    )
    findings = (
        Finding(
            layer="integrity",
            code="identity",
            judgement="pass",
            device_id=GPU_ID,
            sentence="It is an example.",
        ),
        Finding(
            layer="integrity",
            code="below",
            judgement="warn",
            device_id=GPU_ID,
            sentence="fp64 reaches 50% of its datasheet, less than the 70% expected.",
            remedy="Look at the power limit.",
        ),
        Finding(
            layer="integrity",
            code="no-peak",
            judgement="unknown",
            device_id="cpu",
            sentence="No peak is known.",
        ),
    )
    return Run(
        run_id="20000101T000000Z-example-host",
        status="complete",
        started_at="2000-01-01T00:00:00+00:00",
        finished_at="2000-01-01T00:03:00+00:00",
        command=("probe", "all", "--out", "reports/"),
        options=Options(families=("compute", "memory"), seed=7),
        environment=example_environment(),
        devices=example_devices(),
        measurements=measurements,
        ceilings=ceilings,
        headlines=(
            headline(fp64, "fp64 tensor", 100.0, 110.0, 82.5),
            headline(bf16, "bf16", 1000.0, 1100.0, 825.0),
            headline(fp8, "fp8 fast accum", 2000.0, 2200.0, 1650.0),
            headline(int8, "int8", 2000.0, None),
            headline(read, "read", 3200.0, 3300.0),
            headline(copy, "copy", 3200.0, 3300.0),
            headline(cpu_fp32, "fp32"),
            headline(cpu_fp64, "fp64"),
            headline(cpu_copy, "copy"),
        ),
        verdict=Verdict(judgement="unknown", findings=findings),
    )


@pytest.fixture(scope="session")
def empty_run() -> Run:
    return Run(
        run_id="empty",
        status="complete",
        started_at="2000-01-01T00:00:00+00:00",
        options=Options(families=("compute",)),
        environment=example_environment(),
    )


@pytest.fixture(scope="session")
def incomplete_run(example_run: Run) -> Run:
    gone = Event(
        at="2000-01-01T00:01:00+00:00",
        code="worker-died",
        sentence="The worker ended by signal 9.",
        device_id=GPU_ID,
    )
    return example_run.model_copy(
        update={
            "status": "incomplete",
            "finished_at": None,
            "measurements": example_run.measurements[5:6],
            "headlines": (),
            "verdict": None,
            "events": (gone,),
        }
    )


@pytest.fixture(scope="session")
def hostile_run(example_run: Run) -> Run:
    """Return the example with every text that comes from outside replaced by a hostile one."""
    gpu, cpu = example_run.devices
    reason = Reason(code=HOSTILE, sentence=HOSTILE, remedy=HOSTILE)
    note = Note(code=HOSTILE, sentence=HOSTILE)
    measurements = tuple(
        m.model_copy(
            update={
                "case": m.case.model_copy(
                    update={"op": HOSTILE, "route": HOSTILE, "layout": HOSTILE, "pattern": HOSTILE}
                ),
                "kernel": HOSTILE,
                "reason": reason if m.reason else None,
                "notes": (note,),
            }
        )
        for m in example_run.measurements
    )
    environment = example_environment().model_copy(
        update={"host": HOSTILE, "torch": HOSTILE, "variables": {HOSTILE: HOSTILE}}
    )
    finding = Finding(
        code=HOSTILE,
        layer="integrity",
        judgement="fail",
        device_id=HOSTILE,
        sentence=HOSTILE,
        remedy=HOSTILE,
    )
    return example_run.model_copy(
        update={
            "run_id": HOSTILE,
            "command": (HOSTILE,),
            "environment": environment,
            "devices": (
                gpu.model_copy(
                    update={
                        "name": HOSTILE,
                        "torch_device": HOSTILE,
                        "driver": HOSTILE,
                        "missing": {HOSTILE: HOSTILE},
                        "other_processes": (HOSTILE,),
                    }
                ),
                cpu,
            ),
            "measurements": measurements,
            "ceilings": tuple(
                c.model_copy(update={"peak_key": HOSTILE, "basis": HOSTILE, "sources": (HOSTILE,)})
                for c in example_run.ceilings
            ),
            "headlines": tuple(
                h.model_copy(update={"label": HOSTILE, "route": HOSTILE})
                for h in example_run.headlines
            ),
            "verdict": Verdict(judgement="fail", findings=(finding,)),
            "events": (Event(at=HOSTILE, code=HOSTILE, sentence=HOSTILE, device_id=HOSTILE),),
        }
    )


@pytest.fixture(scope="session")
def compute_run() -> Run:
    """Return a run with rows, routes, patterns, surfaces, searches, traces and the gap."""
    run: Run = _load("compute_run").compute_run()
    return run


@pytest.fixture(scope="session")
def hostile_compute_run(compute_run: Run) -> Run:
    """Return the compute run with hostile texts wherever a file could bring them."""
    reason = Reason(code=HOSTILE, sentence=HOSTILE, remedy=HOSTILE)

    def spoilt(m: Measurement) -> Measurement:
        case = m.case.model_copy(
            update={
                "route": f"{m.case.route} {HOSTILE}",
                "row": f"{m.case.row} {HOSTILE}",
                "layout": HOSTILE,
                "pattern": m.case.pattern if m.case.pattern == "uniform" else HOSTILE,
            }
        )
        identity = m.identity and m.identity.model_copy(
            update={
                "names": (HOSTILE,), "library": HOSTILE, "instruction": HOSTILE,
                "fallback": HOSTILE,
            }
        )  # fmt: skip
        search = m.search and m.search.model_copy(
            update={
                "method": HOSTILE, "route": HOSTILE, "sentence": HOSTILE,
                "steps": tuple(
                    step.model_copy(update={"stage": HOSTILE, "failure": HOSTILE})
                    for step in m.search.steps
                ),
            }
        )  # fmt: skip
        return m.model_copy(
            update={
                "case": case, "identity": identity, "search": search,
                "reason": m.reason and reason,
            }
        )  # fmt: skip

    spoilt_run: Run = _load("compute_run").summarised(
        compute_run, tuple(spoilt(m) for m in compute_run.measurements)
    )
    return spoilt_run


@pytest.fixture(scope="session")
def judged_run(example_run: Run) -> Run:
    """Return the example with two GPUs and a verdict that has every kind of finding."""
    judged: Run = _load("judged_run").judged(example_run)
    return judged


@pytest.fixture(scope="session")
def spoilt_run(judged_run: Run) -> Callable[[str], Run]:
    """Give ``spoilt_run(text)``: the judged run with ``text`` wherever a file could bring it."""

    def spoilt(text: str) -> Run:
        assert judged_run.verdict is not None
        found = tuple(
            f.model_copy(
                update={
                    "code": text, "sentence": text, "remedy": text, "unit": text,
                    "bound_source": text, "case_id": text, "device": text,
                }
            )
            for f in judged_run.verdict.findings
        )  # fmt: skip
        devices = tuple(
            d.model_copy(
                update={"name": text, "torch_device": text, "pci_bus_id": text, "driver": text}
            )
            for d in judged_run.devices
        )
        run: Run = _load("judged_run").with_findings(judged_run, devices, found)
        return run.model_copy(
            update={
                "run_id": text,
                "environment": run.environment.model_copy(update={"host": text, "torch": text}),
                "headlines": tuple(h.model_copy(update={"label": text}) for h in run.headlines),
            }
        )

    return spoilt


@pytest.fixture(scope="session")
def served(example_run: Run) -> tuple[Run, Beside]:
    """Return a device with operations of language models, its calibration and its validation."""
    found: tuple[Run, Beside] = _load("models_run").models_run(example_run)
    return found


@pytest.fixture(scope="session")
def hostile_served(example_run: Run) -> tuple[Run, Beside]:
    """Return the same with a hostile text for every name."""
    found: tuple[Run, Beside] = _load("models_run").models_run(example_run, HOSTILE)
    return found
