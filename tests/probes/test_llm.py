"""Operations of language models: a plan for each device, and real cases on the processor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from roofprobe.kernels import attention, rows_work
from roofprobe.kernels.attention import Heads
from roofprobe.kernels.work import Target, Unsupported
from roofprobe.probes import llm, llm_shapes
from roofprobe.probes.backends import CpuBackend
from roofprobe.probes.clocks import NoClock
from roofprobe.probes.devices import SamplerTelemeter
from roofprobe.probes.execute import measure_case
from roofprobe.probes.measure import Policy
from roofprobe.probes.plan import expected_s, plan_cases, policy_for
from roofprobe.probes.session import Session
from roofprobe.probes.timers import BatchWallTimer, Launches
from roofprobe.records.schema import Case, Device, Measurement, Options

HASTY = Policy(0.0, 0.0, 0.0, 0.0, min_samples=3)
GIB = 1 << 30
CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU",
             architecture="x86_64", unit_count=2, last_level_cache_bytes=1 << 20)  # fmt: skip
NPU = Device(device_id="npu:0", torch_device="npu:0", backend="npu", name="Example NPU")


def gpu(architecture: str, backend: str = "cuda") -> Device:
    return Device(
        device_id="GPU-example", torch_device="cuda:0", backend=backend, name="Example GPU",
        architecture=architecture, unit_count=132, memory_bytes=80 * GIB,
        memory_free_bytes=80 * GIB, last_level_cache_bytes=50 << 20,
    )  # fmt: skip


DEVICES = (CPU, NPU, gpu("sm_75"), gpu("sm_80"), gpu("sm_90"), gpu("sm_100"), gpu("gfx942", "rocm"))
TIERS = ("quick", "standard", "soak")
KEYWORDS = {
    "gemm": {"m", "n", "k"},
    "attention_prefill": {"batch", "query_len", "kv_len", "heads", "kv_heads", "head_dim"},
    "attention_decode": {"batch", "kv_len", "heads", "kv_heads", "head_dim"},
    "mla_prefill": {"batch", "query_len", "kv_len", "heads", "kv_rank", "rope_dim", "nope_dim",
                    "v_dim"},
    "mla_decode": {"batch", "kv_len", "heads", "kv_rank", "rope_dim"},
    "grouped_gemm": {"tokens", "experts", "topk", "hidden", "inter", "local_experts"},
    **{op: {"rows", "width"} for op in rows_work.OPERATIONS},
}  # fmt: skip


def planned(device: Device, tier: str = "standard", **more: Any) -> list[Case]:
    options = Options.model_validate({"families": ("llm",), "tier": tier, **more})
    return list(plan_cases(device, options))


@pytest.fixture(scope="module")
def session() -> Session:
    device = CpuBackend().describe().model_copy(update={"last_level_cache_bytes": 1 << 18})
    return Session.on(device, CpuBackend(), SamplerTelemeter(None), NoClock())


def measured(case: Case, session: Session) -> Measurement:
    return measure_case(case, HASTY, session)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.architecture or d.backend)
def test_every_case_has_the_words_of_its_operation_and_a_name_of_its_own(
    device: Device, tier: str
) -> None:
    cases = planned(device, tier)
    assert len({case.case_id for case in cases}) == len(cases)
    for case in cases:
        assert set(case.shape) == KEYWORDS[case.op], case.case_id
        assert (case.family, case.regime) == ("llm", "burst")
        assert (case.kv_precision is not None) == case.op.startswith(("attention", "mla"))


def test_a_gpu_gets_every_operation_and_a_processor_all_that_small_models_need() -> None:
    assert {case.op for case in planned(gpu("sm_90"))} == set(KEYWORDS)
    on_cpu = {case.op for case in planned(CPU)}
    assert on_cpu == set(KEYWORDS) - {"mla_prefill", "mla_decode", "quantize"}


def test_an_fp8_layer_comes_with_and_without_the_conversion_of_its_input() -> None:
    cases = [c for c in planned(gpu("sm_90")) if c.op == "gemm" and c.precision == "fp8"
             and c.role == "anchor"]  # fmt: skip
    plain = {tuple(c.shape.items()) for c in cases if c.config is None}
    quantised = {tuple(c.shape.items()) for c in cases if c.config == "quantised"}
    assert plain == quantised
    assert {129, 128} <= {c.shape["m"] for c in cases}, "one row past a tile is another kernel"


def test_every_number_of_heads_of_a_slice_is_measured_over_both_caches() -> None:
    cases = [c for c in planned(gpu("sm_90")) if c.op == "attention_decode"]
    for cache in ("bf16", "fp8"):
        found = {(c.shape["heads"], c.shape["kv_heads"]) for c in cases if c.kv_precision == cache}
        assert found == {heads[:2] for heads in llm_shapes.GPU_HEADS}
    assert {(c.route, c.config) for c in cases} == {
        ("sdpa", None), ("triton", "paged"), ("triton", None),
    }  # fmt: skip


def test_both_routings_of_experts_are_there() -> None:
    found = {c.config for c in planned(gpu("sm_90")) if c.op == "grouped_gemm"}
    assert found == {"balanced", "power-law-1.2"}


def test_old_gpus_get_fp16_in_the_place_of_bf16() -> None:
    halves = {c.precision for c in planned(gpu("sm_75"))} & {"bf16", "fp16"}
    assert halves == {"fp16"}
    assert "fp16" not in {c.precision for c in planned(gpu("sm_90"))}


def test_precisions_that_were_not_asked_for_are_left_out() -> None:
    assert {c.precision for c in planned(gpu("sm_90"), precisions=("fp8",))} == {"fp8", "fp8-block"}
    assert planned(CPU, precisions=("nvfp4",)) == []


def test_one_size_of_each_operation_is_launched_one_by_one_on_gpus_only() -> None:
    cases = planned(gpu("sm_90"))
    eager = [c for c in cases if c.role == "eager"]
    assert {c.op for c in eager} == set(KEYWORDS)
    assert len(eager) < 30
    shapes = {(c.op, c.route, tuple(c.shape.items())) for c in cases if c.role == "anchor"}
    assert {(c.op, c.route, tuple(c.shape.items())) for c in eager} <= shapes
    assert all(c.role == "anchor" for c in planned(CPU))


@pytest.mark.parametrize(
    ("device", "tier", "most_s"),
    [(CPU, "standard", 30), (CPU, "quick", 5), (gpu("sm_90"), "standard", 150),
     (gpu("sm_100"), "standard", 150)],
)  # fmt: skip
def test_the_family_takes_no_more_than_its_share_of_a_run(
    device: Device, tier: str, most_s: float
) -> None:
    options = Options.model_validate({"families": ("llm",), "tier": tier})
    assert sum(expected_s(case, device, options) for case in planned(device, tier)) < most_s


def test_a_graph_goes_round_all_sets_and_a_soak_samples_longer() -> None:
    case = planned(gpu("sm_90"))[0]
    policies = {
        tier: policy_for(case, gpu("sm_90"), Options.model_validate(
            {"families": ("llm",), "tier": tier}))
        for tier in TIERS
    }  # fmt: skip
    assert all(policy.whole_rounds for policy in policies.values())
    assert policies["soak"].max_time_s > policies["standard"].max_time_s


def test_operations_come_after_the_fixed_shapes_and_before_the_surfaces() -> None:
    options = Options.model_validate({"families": ("compute", "llm")})
    cases = plan_cases(CPU, options)
    order = [case.family if case.family == "llm" else case.role for case in cases]
    first, last = order.index("llm"), len(order) - 1 - order[::-1].index("llm")
    assert "anchor" not in order[first:]
    assert "surface" not in order[:last]


def test_every_operation_of_a_quick_run_is_measured_on_this_processor(session: Session) -> None:
    for case in planned(session.device, "quick"):
        found = measured(case, session)
        assert found.status == "ok", found.reason
        assert found.correctness is not None
        assert found.latency is not None
        assert found.rate is not None
        assert found.timing is not None
        assert found.timing.timer == "wall clock"


@pytest.mark.parametrize(
    ("op", "shape", "unit", "more"),
    [
        ("gemm", {"m": 4, "n": 64, "k": 32}, "GB/s", {}),
        ("gemm", {"m": 256, "n": 64, "k": 32}, "TFLOPS", {}),
        ("gemm", {"m": 4, "n": 64, "k": 32}, "GB/s", {"precision": "bf16"}),
        ("attention_prefill", {"batch": 2, "query_len": 8, "kv_len": 24, "heads": 4,
                               "kv_heads": 2, "head_dim": 16}, "TFLOPS", {"route": "sdpa"}),
        ("attention_decode", {"batch": 2, "kv_len": 24, "heads": 4, "kv_heads": 2,
                              "head_dim": 16}, "GB/s", {"route": "sdpa"}),
        ("mla_prefill", {"batch": 1, "query_len": 9, "kv_len": 9, "heads": 2, "kv_rank": 32,
                         "rope_dim": 8, "nope_dim": 16, "v_dim": 16}, "TFLOPS",
         {"route": "sdpa"}),
        ("mla_decode", {"batch": 2, "kv_len": 9, "heads": 2, "kv_rank": 32, "rope_dim": 8},
         "GB/s", {"route": "bmm"}),
        ("grouped_gemm", {"tokens": 5, "experts": 4, "topk": 2, "hidden": 16, "inter": 8,
                          "local_experts": 2}, "GB/s", {"route": "loop", "config": "balanced"}),
        ("sample", {"rows": 3, "width": 99}, "GB/s", {"route": "top-p"}),
        ("quantize", {"rows": 3, "width": 64}, "GB/s", {"route": "torch"}),
    ],
)  # fmt: skip
def test_an_operation_is_checked_timed_and_told_in_its_unit(
    op: str, shape: dict[str, int], unit: str, more: dict[str, Any], session: Session
) -> None:
    fields = {"precision": "fp32", "route": "F.linear", **more}
    case = Case(case_id="example", family="llm", op=op, shape=shape, **fields)
    found = measured(case, session)
    assert found.status == "ok", found.reason
    assert found.rate is not None
    assert found.rate.unit == unit
    assert found.bytes_read is not None
    assert found.bytes_read > 0


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("unknown-work", {"op": "convolution"}),
        ("shape", {"shape": {"m": 3, "n": 8}}),
        ("shape", {"shape": {"m": 0, "n": 8, "k": 8}}),
        ("architecture", {"precision": "mxfp8"}),
        ("precision", {"precision": "fp5"}),
        ("no-triton-target", {"op": "rmsnorm", "route": "triton",
                              "shape": {"rows": 1, "width": 64}}),
        ("unknown-route", {"op": "attention_decode", "route": "sdpa", "kv_precision": "fp8",
                           "shape": {"batch": 1, "kv_len": 9, "heads": 2, "kv_heads": 2,
                                     "head_dim": 16}}),
        ("memory", {"shape": {"m": 1, "n": 1 << 20, "k": 1 << 20}}),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_skipped_with_its_reason(
    code: str, fields: dict[str, Any], session: Session
) -> None:
    plain = {"op": "gemm", "precision": "fp32", "route": "F.linear",
             "shape": {"m": 1, "n": 8, "k": 8}}  # fmt: skip
    found = measured(Case(case_id="example", family="llm", **(plain | fields)), session)
    assert found.status == "skipped"
    assert found.reason is not None
    assert found.reason.code == code


class Told:
    """A launch takes as many seconds as it is told."""

    name = "told"

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds

    def time_batch(self, launches: Launches, count: int) -> float:
        return self._seconds() * count

    def synchronize(self) -> None:
        pass


def test_the_fastest_backend_of_those_that_work_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    work = attention.prepare_prefill(
        Heads(1, 8, 8, 2, 2, 16), "fp32", Target("cpu", "cpu"), cache_bytes=0, limit_bytes=None,
        seed=1,
    )  # fmt: skip
    chosen: list[str] = []

    def selected(backend: str) -> Any:
        chosen.append(backend)
        return nullcontext()

    def seconds() -> float:
        if chosen[-1] == "flash":
            raise RuntimeError("No available kernel. Aborting execution.")
        return {"cudnn": 3.0, "efficient": 2.0}[chosen[-1]]

    monkeypatch.setattr(attention, "selected", selected)
    session = Session.on(CPU, CpuBackend(), SamplerTelemeter(None), NoClock(),
                         timer=Told(seconds))  # fmt: skip
    best = llm._fastest(work, ("flash", "cudnn", "efficient"), session)
    assert best.kernel == "SDPA efficient"
    assert chosen == ["flash", "cudnn", "efficient"]
    with pytest.raises(Unsupported) as refused:
        llm._fastest(work, ("flash", "flash"), session)
    assert refused.value.code == "no-backend"
    assert "No available kernel" in refused.value.sentence


def test_a_launch_by_launch_case_is_timed_by_the_host(session: Session) -> None:
    case = Case(case_id="example", family="llm", op="gemm", precision="fp32", route="F.linear",
                role="eager", shape={"m": 1, "n": 8, "k": 8})  # fmt: skip
    _, timer = llm.prepare(case, session)
    assert isinstance(timer, BatchWallTimer)


def test_one_memory_serves_the_layers_of_a_tier(session: Session) -> None:
    cases = [c for c in planned(session.device) if c.op == "gemm" and c.precision == "fp32"][:6]
    arenas = []
    for case in cases:
        work, _ = llm.prepare(case, session)
        arenas.append(session.arenas._arena)
        assert len(work.launches) >= 1
    assert all(arena is arenas[0] for arena in arenas)
    session.arenas.room()
