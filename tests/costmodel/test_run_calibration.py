"""A run's calibration says what it is relative to, where it holds, and how sure it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from roofprobe.costmodel.calibrate import calibrate, calibration_of_run
from roofprobe.costmodel.calibration_file import DeviceCalibration
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import (
    NOT_ALONE,
    Case,
    Ceiling,
    Device,
    Distribution,
    Environment,
    Measurement,
    Note,
    Options,
    Run,
)

DEVICE = Device(device_id="d", torch_device="cuda:0", backend="cuda", name="Example GPU")
RATE = Distribution(unit="TFLOPS", median=50, ci_low=48, ci_high=52, p10=47, p90=53, best=54, n=9)
MICROSECONDS = RATE.model_copy(update={"unit": "us"})
PEAK = Ceiling(
    device_id="d", kind="derived", family="compute", precision="bf16", peak_key="bf16_tensor",
    value=100, unit="TFLOPS", basis="a test",
)  # fmt: skip


def run_with(*ceilings: Ceiling, more: tuple[Measurement, ...] = ()) -> Run:
    measurements = tuple(
        Measurement(
            case=Case(
                case_id=f"gemm/{size}", family="compute", op="gemm", precision="bf16",
                route="torch.mm", shape={"m": size, "n": 64, "k": 32},
            ),
            device_id="d",
            status="ok",
            rate=RATE,
        )
        for size in (128, 256)
    )  # fmt: skip
    measurements += more
    return Run(
        run_id="r",
        status="complete",
        started_at="2026-01-01T00:00:00+00:00",
        options=Options(families=("compute",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=(DEVICE,),
        measurements=measurements,
        ceilings=ceilings,
        headlines=headlines_of((DEVICE,), measurements, ceilings),
    )


def calibrated(run: Run) -> DeviceCalibration:
    (device,) = calibration_of_run(run).devices
    return device


def test_a_factor_has_peak_interval_and_domain() -> None:
    device = calibrated(run_with(PEAK))
    factor = device.gemm["bf16"]
    assert factor.efficiency == 0.5
    assert factor.efficiency_interval == (0.48, 0.52)
    assert factor.peak_kind == "derived"
    assert factor.domain == ("128x64x32", "256x64x32")
    assert device.ceilings.compute["bf16"].value == 100
    assert device.ops == ()


def test_without_a_peak_there_is_no_efficiency_and_the_best_figure_is_the_ceiling() -> None:
    device = calibrated(run_with())
    assert device.gemm["bf16"].achieved == 50
    assert device.gemm["bf16"].efficiency is None
    ceiling = device.ceilings.compute["bf16"]
    assert (ceiling.value, ceiling.kind) == (54, "measured")


def test_the_curve_is_bytes_of_one_pass_to_rate_and_launches_are_told() -> None:
    def swept(size: int, gbps: float, passes: int | None) -> Measurement:
        return Measurement(
            case=Case(case_id=f"curve/{size}", family="memory", op="read", precision="fp32",
                      route="r", shape={"elements": size // 4}, role="curve"),
            device_id="d", status="ok", array_bytes=size,
            rate=RATE.model_copy(update={"unit": "GB/s", "median": gbps}),
            latency=RATE.model_copy(update={"unit": "us", "median": 80.0}),
            bytes_read=size * (passes or 1), bytes_written=0,
            kernel_config=None if passes is None else {"passes": passes},
        )  # fmt: skip

    launch = Measurement(
        case=Case(case_id="launch/op", family="launch", op="launch", precision="none",
                  route="op-enqueue", shape={}),
        device_id="d", status="ok", latency=RATE.model_copy(update={"unit": "us", "median": 1.5}),
    )  # fmt: skip
    note = Note(code=NOT_ALONE, sentence="others took half of the processor")
    beside = launch.model_copy(
        update={"case": launch.case.model_copy(update={"route": "op-batch"}), "notes": (note,)}
    )
    run = run_with(more=(swept(1 << 20, 60.0, None), swept(1 << 14, 600.0, 8), launch, beside))
    device = calibrated(run)
    assert [(p.bytes, p.gbps, p.latency_us) for p in device.stream_curve["read"]] == [
        (1 << 14, 600.0, 10.0),
        (1 << 20, 60.0, 80.0),
    ]
    assert device.launch_us == {"op-enqueue": 1.5, "op-batch": 1.5}
    assert device.launch_disturbed == ("op-batch",)
    outcome = calibrate([Path("run")], read=lambda _: run)
    assert "others had the processor during 1 of 2 launches" in outcome.notes[0]


def product(m: int, n: int, seconds: float) -> Measurement:
    return Measurement(
        case=Case(case_id=f"s/{m}/{n}", family="compute", op="gemm", precision="bf16",
                  route="torch.mm", shape={"m": m, "n": n, "k": 4096}, role="surface"),
        device_id="d", status="ok", rate=RATE,
        latency=MICROSECONDS.model_copy(update={"median": seconds * 1e6}),
    )  # fmt: skip


STREAM = Measurement(
    case=Case(case_id="read", family="memory", op="read", precision="fp32", route="r",
              shape={"elements": 1 << 20}),
    device_id="d", status="ok",
    rate=RATE.model_copy(update={"unit": "GB/s", "median": 900.0, "best": 1000.0}),
)  # fmt: skip


def test_impossible_timings_of_a_run_are_left_out_and_the_rest_is_kept() -> None:
    rows = [product(m, 8192, 1e-9 * m) for m in (1024, 2048, 4096, 8192)]
    device = calibrated(run_with(PEAK, more=(*rows, STREAM)))
    assert device.ops == ()
    assert device.gemm["bf16"].achieved == 50


def test_the_surface_of_matrix_products_is_fitted() -> None:
    rows = [
        product(m, n, 5e-6 + max(2 * m * n * 4096 / 80e12, 2 * 4096 * (m + n) / 900e9))
        for n in (2048, 4096, 8192, 16384)
        for m in (1, 16, 256, 2048)
    ]
    (fit,) = calibrated(run_with(PEAK, more=(*rows, STREAM))).ops
    assert (fit.op, fit.kernel) == ("gemm", "torch.mm")
    assert fit.compute_efficiency == pytest.approx(0.8, rel=0.05)
    assert fit.memory_efficiency == pytest.approx(0.9, rel=0.05)
    assert np.isclose(fit.t0_us, 5, rtol=0.15)
    assert fit.provenance == "run r"


def test_a_run_of_operations_alone_is_relative_to_the_best_of_them() -> None:
    def timed(op: str, shape: dict[str, int], us: float, flops: int, moved: int) -> Measurement:
        case = Case(
            case_id=f"{op}/{us}", family="llm", op=op, precision="fp32", route="r", shape=shape
        )
        latency = RATE.model_copy(update={"unit": "us", "median": us, "p10": us})
        return Measurement(
            case=case, device_id="d", status="ok", latency=latency, flops=flops, bytes_read=moved,
            bytes_written=0,
        )  # fmt: skip

    product = {"n": 64, "k": 64}
    run = run_with(
        more=(
            timed("gemm", {"m": 1, **product}, 10.0, 10_000_000, 4_000_000),
            timed("gemm", {"m": 8, **product}, 20.0, 80_000_000, 5_000_000),
            timed("rmsnorm", {"rows": 1, "width": 64}, 10.0, 0, 6_000_000),
        )
    ).model_copy(update={"headlines": ()})
    ceilings = calibrated(run).ceilings
    assert ceilings.memory is not None
    assert ceilings.memory.kind == "measured"
    assert ceilings.memory.value == pytest.approx(600.0)
    assert ceilings.memory.source == "run r, rmsnorm/10.0"
    best = ceilings.compute["fp32"]
    assert best.kind == "measured"
    assert best.value == pytest.approx(4.0)


def test_operations_beside_others_are_counted_in_the_notes_of_their_device() -> None:
    note = Note(code=NOT_ALONE, sentence="others took half of the processor")
    quiet = tuple(product(m, 1024, m * 1e-6) for m in range(64, 84))
    disturbed = tuple(m.model_copy(update={"notes": (note,)}) for m in quiet[:12])
    run = run_with(PEAK, more=(*disturbed, *quiet[12:]))
    (told,) = calibrated(run).notes
    assert told.startswith("others had the processor during 12 of 20 measured operations, so")
    outcome = calibrate([Path("run")], read=lambda _: run)
    assert outcome.file.devices[0].notes == (told,)
    assert f"Example GPU: {told}" in outcome.notes
    few = run_with(PEAK, more=(*disturbed[:1], *quiet[1:]))
    assert calibrated(few).notes == (), "a background task's"
