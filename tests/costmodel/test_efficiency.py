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
