"""Impossible figures are invalid, wrong results fail, and what is not known judges nothing."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.acceptance.judge import judge
from roofprobe.acceptance.validity import invalidate
from roofprobe.records.ceilings import ceilings_of
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import (
    Case,
    Ceiling,
    Device,
    Distribution,
    Environment,
    KernelIdentity,
    Limits,
    Measurement,
    Options,
    Reason,
    Run,
    Span,
    Telemetry,
)


def distribution(median: float, unit: str) -> Distribution:
    return Distribution(
        unit=unit,
        median=median,
        ci_low=median,
        ci_high=median,
        p10=median,
        p90=median,
        best=median,
        n=10,
    )


def copy(gbps: float, **changes: Any) -> Measurement:
    case = Case(
        case_id="stream/copy/fp32/triton/1",
        family="memory",
        op="copy",
        precision="fp32",
        route="triton",
        shape={"elements": 1},
    )
    fields: dict[str, Any] = {"status": "ok", "rate": distribution(gbps, "GB/s"), **changes}
    return Measurement(case=case, device_id="GPU-x", **fields)


def gemm(
    tflops: float, precision: str = "bf16", case: dict[str, Any] | None = None, **changes: Any
) -> Measurement:
    made = {
        "case_id": f"gemm/{precision}",
        "family": "compute",
        "op": "gemm",
        "precision": precision,
        "route": "torch.mm",
        "shape": {"m": 1, "n": 1, "k": 1},
        **(case or {}),
    }
    fields: dict[str, Any] = {"status": "ok", "rate": distribution(tflops, "TFLOPS"), **changes}
    return Measurement(case=Case.model_validate(made), device_id="GPU-x", **fields)


def ceiling(kind: Any, value: float, family: Any = "memory", **changes: Any) -> Ceiling:
    return Ceiling(
        device_id="GPU-x",
        kind=kind,
        family=family,
        peak_key="k",
        value=value,
        unit="GB/s" if family == "memory" else "TFLOPS",
        basis="a test",
        **changes,
    )


def run_of(*measurements: Measurement, ceilings: tuple[Ceiling, ...] = ()) -> Run:
    device = Device(device_id="GPU-x", torch_device="cuda:0", backend="cuda", name="Example GPU")
    return Run(
        run_id="r",
        status="complete",
        started_at="2026-01-01T00:00:00+00:00",
        options=Options(families=("memory",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=(device,),
        measurements=measurements,
        ceilings=ceilings,
        headlines=headlines_of((device,), measurements, ceilings),
    )


# Published figures that cannot be (memory bound of the card beside them), and some that can.
@pytest.mark.parametrize(
    ("gbps", "bound_gbps", "status"),
    [
        (4258.9, 3352.0, "invalid"),  # an H100 health check printed this as ideal
        (3868.0, 1008.1, "invalid"),  # an RTX 4090 reading its cache
        (5019.0, 1792.1, "invalid"),  # an RTX 5090 reading its cache
        (505.8, 136.5, "invalid"),  # compressed constant data
        (2016.0, 2039.0, "ok"),  # H100 PCIe write: above its datasheet's 2000, below its pins
        (7414.0, 7672.0, "ok"),
        (1000.0 * 1.004, 1000.0, "ok"),  # within the timer's slack
        (1000.0 * 1.006, 1000.0, "invalid"),
    ],
)
def test_above_the_pins_is_invalid(gbps: float, bound_gbps: float, status: str) -> None:
    bound = ceiling("derived", bound_gbps, physical_bound=True)
    (judged,) = invalidate([copy(gbps)], [bound])
    assert judged.status == status
    assert judged.rate == copy(gbps).rate
    if status == "invalid":
        assert judged.reason is not None
        assert judged.reason.code == "above-peak"


def test_above_a_datasheet_is_no_proof() -> None:
    (judged,) = invalidate([copy(4850.0)], [ceiling("datasheet", 4800.0)])
    assert judged.status == "ok"


def test_above_an_assumed_peak_is_no_proof() -> None:
    (judged,) = invalidate([copy(200.0)], [ceiling("derived", 100.0, physical_bound=False)])
    assert judged.status == "ok"


def test_an_invalid_figure_is_no_headline() -> None:
    bound = ceiling("derived", 1000.0, physical_bound=True)
    measurements = invalidate([copy(2000.0)], [bound])
    run = run_of(*measurements, ceilings=(bound,))
    assert run.headlines == ()
    verdict = judge(run)
    assert [finding.code for finding in verdict.findings] == ["RP-INVALID"]
    assert verdict.judgement == "warn"


def test_a_wrong_result_fails_the_run() -> None:
    wrong = gemm(
        1.0, status="failed", rate=None, reason=Reason(code="wrong-result", sentence="off by 3")
    )
    assert judge(run_of(copy(1.0), wrong)).judgement == "fail"


def test_bits_that_change_from_launch_to_launch_fail_the_run() -> None:
    unstable = gemm(
        1.0,
        case={"role": "stability", "op": "stability"},
        status="failed",
        rate=None,
        reason=Reason(code="unstable-bits", sentence="2 of 64 launches differ"),
    )
    verdict = judge(run_of(copy(1.0), unstable))
    assert verdict.judgement == "fail"
    assert [finding.code for finding in verdict.findings] == ["RP-UNSTABLE-BITS"]


def test_cases_that_end_alike_are_one_finding_per_row_and_route() -> None:
    reason = Reason(code="kernel-error", sentence="it ended in an error")
    failed = [
        gemm(
            1.0,
            case={"case_id": f"{route}-{n}", "row": "bf16", "route": route, "role": "surface"},
            status="failed",
            rate=None,
            reason=reason.model_copy(update={"sentence": f"error {n}"}),
        )
        for route in ("triton", "torch.mm")
        for n in range(200)
    ]
    findings = judge(run_of(*failed)).findings
    assert [(f.code, f.case_id) for f in findings] == [
        ("RP-NOT-MEASURED", "triton-0"),
        ("RP-NOT-MEASURED", "torch.mm-0"),
    ]
    assert findings[0].sentence == "triton-0: error 0 (199 more cases of the same kind)"


def test_a_kernel_that_stands_in_for_another_is_a_warning_that_names_it() -> None:
    identity = KernelIdentity(names=("slow_sgemm",), fallback="FP8 is converted to FP32.")
    cases = [gemm(1.0, "fp8", {"case_id": f"c{n}", "row": "fp8"}) for n in range(3)]
    verdict = judge(run_of(*(m.model_copy(update={"identity": identity}) for m in cases)))
    (finding,) = verdict.findings
    assert (finding.code, finding.judgement) == ("RP-KERNEL-FALLBACK", "warn")
    assert finding.sentence == (
        "fp8 by torch.mm ran the kernel slow_sgemm: FP8 is converted to FP32. (and in 2 more cases)"
    )


@pytest.mark.parametrize(
    ("case", "peak", "words"),
    [
        ({"pipe": "tensor"}, {"pipe": "tensor"}, "not all done"),
        ({"pipe": "vector", "role": "pipe", "op": "pipe"}, {"pipe": "vector"}, "compiler removed"),
        ({"pipe": "tensor", "sparsity": "2:4"}, {"pipe": "tensor", "sparsity": "2:4"}, "not all"),
    ],
)
def test_each_pipe_is_bounded_by_its_own_peak_and_sparse_products_by_theirs(
    case: dict[str, Any], peak: dict[str, Any], words: str
) -> None:
    kinds: list[dict[str, Any]] = [
        {"pipe": "tensor"}, {"pipe": "vector"}, {"pipe": "tensor", "sparsity": "2:4"},
    ]  # fmt: skip
    bounds = [
        ceiling(
            "derived",
            100.0 if kind == peak else 1.0,
            "compute",
            precision="bf16",
            physical_bound=True,
            **kind,
        )
        for kind in kinds
    ]
    (possible,) = invalidate([gemm(99.0, case=case)], bounds)
    (impossible,) = invalidate([gemm(101.0, case=case)], bounds)
    assert possible.status == "ok"
    assert impossible.status == "invalid"
    assert impossible.reason is not None
    assert words in impossible.reason.sentence


def test_nothing_to_hold_against_is_unknown() -> None:
    assert judge(run_of(copy(900.0))).judgement == "unknown"
    assumed = ceiling("derived", 1000.0, assumed=True)
    assert judge(run_of(copy(900.0), ceilings=(assumed,))).judgement == "unknown"


@pytest.mark.parametrize(("gbps", "judgement"), [(900.0, "pass"), (300.0, "warn")])
def test_a_headline_is_held_against_its_derived_peak(gbps: float, judgement: str) -> None:
    verdict = judge(run_of(copy(gbps), ceilings=(ceiling("derived", 1000.0),)))
    assert verdict.judgement == judgement


def test_a_headline_carries_all_three_ceilings() -> None:
    at_990_mhz = Telemetry(n_samples=3, sm_clock_mhz=Span(min=900, median=990, max=1000))
    measured = gemm(50.0, telemetry=at_990_mhz)
    own = (
        ceiling("datasheet", 100.0, "compute", precision="bf16"),
        ceiling("derived", 200.0, "compute", precision="bf16", clock_mhz=1980.0),
        ceiling("derived", 400.0, "compute", precision="fp8", clock_mhz=1980.0),
    )
    (headline,) = run_of(measured, ceilings=own).headlines
    assert headline.share_datasheet == 0.5
    assert headline.share_derived == 0.25
    assert headline.clock_normalised == 100.0
    assert headline.share_clock_normalised == 0.5


def test_the_best_valid_case_is_the_headline() -> None:
    run = run_of(gemm(10.0), gemm(30.0), gemm(20.0), gemm(99.0, status="invalid"))
    assert [headline.rate.median for headline in run.headlines] == [30.0]


def test_an_h100_gets_its_sourced_and_derived_ceilings() -> None:
    device = Device(
        device_id="GPU-x",
        torch_device="cuda:0",
        backend="cuda",
        name="NVIDIA H100 80GB HBM3",
        architecture="sm_90",
        unit_count=132,
        catalogue_key="nvidia_h100_sxm5_80gb",
        limits=Limits(max_sm_clock_mhz=1980, max_mem_clock_mhz=2619, memory_bus_bits=5120),
    )
    products = [c for c in ceilings_of(device) if c.pipe != "vector" and c.sparsity is None]
    found = {(c.kind, c.precision or c.family): c for c in products}
    assert found["datasheet", "bf16"].value == 989.4
    assert found["datasheet", "bf16"].sources
    assert found["derived", "bf16"].value == pytest.approx(132 * 4096 * 1980 / 1e6)
    assert found["derived", "fp32"].value == pytest.approx(132 * 256 * 1980 / 1e6)
    assert found["datasheet", "memory"].value == 3350
    assert found["derived", "memory"].value == pytest.approx(3352.3, abs=0.1)
    assert found["derived", "memory"].physical_bound


def test_an_unknown_gpu_gets_no_datasheet() -> None:
    device = Device(
        device_id="GPU-x",
        torch_device="cuda:0",
        backend="cuda",
        name="NVIDIA Example 9000",
        architecture="sm_89",
        unit_count=100,
        limits=Limits(max_sm_clock_mhz=2000),
    )
    found = ceilings_of(device)
    assert {c.kind for c in found} == {"derived"}
    # GeForce and professional Ada differ in tensor rates, so none is claimed; FP32 is the same.
    assert "fp32" in {c.precision for c in found}
    assert "bf16" not in {c.precision for c in found}
