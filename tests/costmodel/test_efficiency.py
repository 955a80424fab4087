"""Efficiency factors say what they are relative to, where they hold, and how sure they are."""

from __future__ import annotations

import json

from roofprobe.costmodel.efficiency import efficiency_factors
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import (
    Case,
    Ceiling,
    Device,
    Distribution,
    Environment,
    Measurement,
    Options,
    Run,
)

DEVICE = Device(device_id="d", torch_device="cuda:0", backend="cuda", name="Example GPU")
RATE = Distribution(unit="TFLOPS", median=50, ci_low=48, ci_high=52, p10=47, p90=53, best=54, n=9)
PEAK = Ceiling(
    device_id="d",
    kind="derived",
    family="compute",
    precision="bf16",
    peak_key="bf16_tensor",
    value=100,
    unit="TFLOPS",
    basis="a test",
)


def run_with(*ceilings: Ceiling) -> Run:
    measurements = tuple(
        Measurement(
            case=Case(
                case_id=f"gemm/{size}",
                family="compute",
                op="gemm",
                precision="bf16",
                route="torch.mm",
                shape={"m": size, "n": 64, "k": 32},
            ),
            device_id="d",
            status="ok",
            rate=RATE,
        )
        for size in (128, 256)
    )
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


def test_a_factor_has_peak_interval_and_domain() -> None:
    document = json.loads(efficiency_factors(run_with(PEAK)))
    factor = document["devices"][0]["gemm"]["bf16"]
    assert factor["efficiency"] == 0.5
    assert factor["efficiency_interval"] == [0.48, 0.52]
    assert factor["peak_kind"] == "derived"
    assert factor["domain"] == ["128x64x32", "256x64x32"]


def test_without_a_peak_there_is_no_factor() -> None:
    factor = json.loads(efficiency_factors(run_with()))["devices"][0]["gemm"]["bf16"]
    assert factor["achieved"] == 50
    assert "efficiency" not in factor


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
    run = run_with().model_copy(
        update={"measurements": (swept(1 << 20, 60.0, None), swept(1 << 14, 600.0, 8), launch)}
    )
    (device,) = json.loads(efficiency_factors(run))["devices"]
    assert device["stream_curve"] == {
        "read": [
            {"bytes": 1 << 14, "array_bytes": 1 << 14, "gbps": 600.0, "latency_us": 10.0},
            {"bytes": 1 << 20, "array_bytes": 1 << 20, "gbps": 60.0, "latency_us": 80.0},
        ]
    }
    assert device["launch_us"] == {"op-enqueue": 1.5}
