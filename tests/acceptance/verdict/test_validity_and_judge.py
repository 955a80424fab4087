"""Impossible figures are invalid, wrong results fail, and what is not known judges nothing."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.acceptance.verdict.integrity import bad_ends, fallbacks, integrity, not_alone
from roofprobe.acceptance.verdict.judge import judge
from roofprobe.acceptance.verdict.validity import invalidate
from roofprobe.records.ceilings import ceilings_of
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import (
    NOT_ALONE,
    Case,
    Ceiling,
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
        convention="read+write",
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


# Figures that somebody published, beside the bandwidth of that card's pins (driver's clock x bus).
# The impossible ones are cache hits, compressed data, write-back that was not waited for, units
# mixed up and typing errors; the last rows are possible, and a judge that is too strict fails them.
@pytest.mark.parametrize(
    ("gbps", "bound_gbps", "status"),
    [
        pytest.param(4258.9, 3352.0, "invalid", id="H100 SXM, printed as ideal by its tool"),
        pytest.param(3868.0, 1008.1, "invalid", id="RTX 4090, cache"),
        pytest.param(2400.0, 1008.1, "invalid", id="RTX 4090 at 16 MB, cache"),
        pytest.param(5019.0, 1792.1, "invalid", id="RTX 5090, replay out of L2"),
        pytest.param(1.6 * 7672.0, 7672.0, "invalid", id="GB200, replay out of L2"),
        pytest.param(1.14 * 1792.1, 1792.1, "invalid", id="RTX 5090 write-only, dirty L2"),
        pytest.param(968.0, 288.0, "invalid", id="RTX 4060 Ti, arrays within L2"),
        pytest.param(505.8, 136.5, "invalid", id="LPDDR5 iGPU, compressed constants"),
        pytest.param(831.0, 448.0, "invalid", id="RTX 2070S, another card's figure"),
        pytest.param(2.333, 4917.0, "invalid", id="H200, GB/s in a field of MB/s"),
        pytest.param(49.05, 864.0, "invalid", id="L40, a digit lost"),
        pytest.param(137.5, 1555.0, "invalid", id="GA100, a digit lost"),
        pytest.param(2016.0, 2039.0, "ok", id="H100 PCIe write: 101% of its datasheet's 2000"),
        pytest.param(7414.0, 7672.0, "ok", id="sm_100 triad: 97%"),
        pytest.param(7414.0, 8184.0, "ok", id="sm_100 triad by an older driver's width"),
        pytest.param(1000.0 * 1.004, 1000.0, "ok", id="within the timer's slack"),
        pytest.param(1000.0 * 1.006, 1000.0, "invalid", id="beyond the timer's slack"),
        pytest.param(100.0, 1000.0, "ok", id="a tenth"),
    ],
)
def test_what_memory_pins_cannot_do_is_invalid(gbps: float, bound_gbps: float, status: str) -> None:
    bound = ceiling("derived", bound_gbps, physical_bound=True)
    (judged,) = invalidate([copy(gbps)], [bound])
    assert judged.status == status
    assert judged.rate == copy(gbps).rate
    if status == "invalid":
        assert judged.reason is not None
        assert judged.reason.code == ("cache-resident" if gbps > bound_gbps else "unit-or-state")


@pytest.mark.parametrize("gbps", [1.0, 5000.0])
def test_what_stays_in_a_cache_is_judged_by_no_pins(gbps: float) -> None:
    case = copy(gbps).case.model_copy(update={"level": "l2"})
    in_l2 = copy(gbps).model_copy(update={"case": case})
    (judged,) = invalidate([in_l2], [ceiling("derived", 1000.0, physical_bound=True)])
    assert judged == in_l2


@pytest.mark.parametrize("changes", [{"role": "surface"}, {"convention": None}])
def test_only_streams_of_full_size_can_be_impossibly_low(changes: dict[str, Any]) -> None:
    case = copy(1.0).case.model_copy(update=changes)
    small = copy(1.0).model_copy(update={"case": case})
    (judged,) = invalidate([small], [ceiling("derived", 1000.0, physical_bound=True)])
    assert judged.status == "ok"


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_widths_that_the_driver_tells_the_greater_one_bounds(order: int) -> None:
    bounds = [ceiling("derived", value, physical_bound=True) for value in (8184.0, 7672.0)]
    possible, impossible = invalidate([copy(7800.0), copy(8300.0)], bounds[::order])
    assert (possible.status, impossible.status) == ("ok", "invalid")


@pytest.mark.parametrize(
    ("gbps", "bound_gbps", "suspect"),
    [
        pytest.param(7928.0, 8000.0, True, id="GB300 MaxQ beside siblings at 6030"),
        pytest.param(6030.0, 8000.0, False, id="GB300"),
        pytest.param(923.0, 1008.1, False, id="RTX 4090"),
    ],
)
def test_a_copy_engine_near_the_pins_asks_for_a_repeat(
    gbps: float, bound_gbps: float, suspect: bool
) -> None:
    case = copy(gbps).case.model_copy(update={"engine": "copy-engine"})
    by_engine = copy(gbps).model_copy(update={"case": case})
    bounds = [ceiling("derived", bound_gbps, physical_bound=True)]
    (judged,) = invalidate([by_engine], bounds)
    assert judged.status == "ok"
    assert [note.code for note in judged.notes] == ["suspect-copy-engine"] * suspect
    assert invalidate([judged], bounds) == (judged,)  # judging again adds nothing


def test_a_transfer_above_its_link_is_invalid() -> None:
    bound = ceiling("derived", 63.0, "interconnect", physical_bound=True)
    bound = bound.model_copy(update={"peak_key": "pcie_gbps"})
    case = copy(1.0).case.model_copy(
        update={"family": "interconnect", "op": "h2d", "convention": "one-way"}
    )
    slow, fast = (copy(gbps).model_copy(update={"case": case}) for gbps in (3.0, 64.0))
    possible, impossible = invalidate([slow, fast], [bound])
    assert (possible.status, impossible.status) == ("ok", "invalid")
    assert impossible.reason is not None
    assert "another link" in impossible.reason.sentence


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
    (finding,) = bad_ends(run)
    assert (finding.code, finding.judgement) == ("RP-INVALID", "unknown")
    assert judge(run).judgement == "unknown"


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
    run = run_of(copy(1.0), unstable)
    assert judge(run).judgement == "fail"
    assert [finding.code for finding in bad_ends(run)] == ["RP-UNSTABLE-BITS"]


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
    findings = list(bad_ends(run_of(*failed)))
    assert [(f.code, f.case_id) for f in findings] == [
        ("RP-NOT-MEASURED", "triton-0"),
        ("RP-NOT-MEASURED", "torch.mm-0"),
    ]
    assert findings[0].sentence == "triton-0: error 0 (199 more cases of the same kind)"


def test_a_kernel_that_stands_in_for_another_is_a_warning_that_names_it() -> None:
    identity = KernelIdentity(names=("slow_sgemm",), fallback="FP8 is converted to FP32.")
    cases = [gemm(1.0, "fp8", {"case_id": f"c{n}", "row": "fp8"}) for n in range(3)]
    (finding,) = fallbacks(run_of(*(m.model_copy(update={"identity": identity}) for m in cases)))
    assert (finding.code, finding.judgement) == ("RP-KERNEL-FALLBACK", "warn")
    assert finding.sentence == (
        "fp8 by torch.mm ran the kernel slow_sgemm: FP8 is converted to FP32. (and in 2 more cases)"
    )


def test_a_pass_names_the_rows_that_a_processor_only_emulates() -> None:
    own = KernelIdentity(names=("gemm_bf16",))
    stand_in = KernelIdentity(names=("aten::mm",), fallback="torch's own loop computed it")
    rows = (gemm(1.0, "bf16", {"row": "bf16"}), gemm(0.1, "fp16", {"row": "fp16"}))
    measured = [
        m.model_copy(update={"identity": identity})
        for m, identity in zip(rows, (own, stand_in), strict=True)
    ]
    run = run_of(*measured)
    cpu = run.devices[0].model_copy(update={"backend": "cpu"})
    found = {f.code: f for f in integrity(run.model_copy(update={"devices": (cpu,)}))}
    told = found["RP-KERNEL-FALLBACK"]
    assert told.judgement == "pass"
    assert "fallback rows aside: fp16 (" in told.sentence
    plain = {f.code: f for f in integrity(run_of(measured[0]))}["RP-KERNEL-FALLBACK"]
    assert plain.sentence == "Each row ran on the kernel that it stands for"


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


@pytest.mark.parametrize(
    ("us", "precision", "status"),
    [(10.0, "bf16", "ok"), (9.0, "bf16", "invalid"), (9.0, "fp8", "ok"), (4.0, "int4", "invalid")],
)
def test_an_operation_of_a_model_is_bounded_by_the_fastest_pipe_it_may_use(
    us: float, precision: str, status: str
) -> None:
    bounds = [
        ceiling("derived", 100.0, "compute", physical_bound=True, precision="bf16"),
        ceiling("derived", 200.0, "compute", physical_bound=True, precision="fp8"),
        ceiling("derived", 400.0, "compute", physical_bound=True, precision="fp8", sparsity="2:4"),
    ]
    case = {"family": "llm", "role": "anchor"}
    timed = gemm(
        1.0, precision, case, flops=1_000_000_000, latency=distribution(us, "us"), rate=None
    )
    (judged,) = invalidate([timed], bounds)
    assert judged.status == status
    if status == "invalid":
        assert judged.reason is not None
        assert judged.reason.code == "above-peak"


def beside_others(count: int, disturbed: dict[int, float]) -> Run:
    """Return a run of so many copies, the first the fastest, of which others disturbed some."""
    made = [copy(1000.0 - i) for i in range(count)]
    named = [
        m.model_copy(update={
            "case": m.case.model_copy(update={"case_id": f"stream/copy/fp32/triton/{i}"}),
            "notes": tuple(
                Note(code=NOT_ALONE, sentence="others", figures={"share": share})
                for at, share in disturbed.items() if at == i
            ),
        })
        for i, m in enumerate(made)
    ]  # fmt: skip
    return run_of(*named)


def test_a_few_disturbed_measurements_that_no_best_rate_rests_on_pass_with_their_count() -> None:
    (found,) = not_alone(beside_others(100, {7: 0.2, 8: 0.3}))
    assert (found.judgement, found.remedy) == ("pass", None)
    assert found.sentence == (
        "Others took more than 5% of the cores during 2 of 100 measurements: rates among them can "
        "be too low, times too long; no best rate rests on them, the most disturbed is "
        "stream/copy/fp32/triton/8 (others took 30%)"
    )
    assert (found.figure, found.bound) == (0.02, 0.05)


def test_many_disturbed_measurements_or_a_disturbed_best_rate_are_a_warning() -> None:
    (many,) = not_alone(beside_others(100, dict.fromkeys(range(10, 16), 0.2)))
    assert (many.judgement, many.figure, many.bound) == ("warn", 0.06, 0.05)
    (best,) = not_alone(beside_others(100, {0: 0.2, 8: 0.3}))
    assert (best.judgement, best.figure, best.bound) == ("warn", 1, 0)
    assert best.unit == "disturbed best rates"
    assert best.case_id == "stream/copy/fp32/triton/0"
    assert (
        "a best rate rests on them, the most disturbed stream/copy/fp32/triton/0 "
        "(others took 20%)" in best.sentence
    )
