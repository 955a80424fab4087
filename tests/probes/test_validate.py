"""A real model and its operations: planned so that each is measured, timed so that it counts."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.costmodel.implementations import TRANSFORMERS
from roofprobe.costmodel.steps import Load, step_ops
from roofprobe.costmodel.validation import shape_of
from roofprobe.kernels import transformer
from roofprobe.kernels.transformer import DECODE, Sizes
from roofprobe.probes import launch, timers, validate, validate_shapes
from roofprobe.probes.plan import expected_s, plan_cases, policy_for
from roofprobe.probes.validate_shapes import CPU_MODELS, Model
from roofprobe.records import transformer_floor as floor
from roofprobe.records.schema import Case, Device, Options

GIB = 1 << 30
CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU",
             architecture="x86_64", unit_count=2, last_level_cache_bytes=1 << 20)  # fmt: skip
H100 = Device(
    device_id="gpu", torch_device="cuda:0", backend="cuda", name="NVIDIA H100 80GB HBM3",
    architecture="sm_90", unit_count=132, memory_bytes=80 * GIB, memory_free_bytes=78 * GIB,
    last_level_cache_bytes=50 << 20, catalogue_key="h100-sxm",
)  # fmt: skip


def options(tier: Any = "standard", **more: Any) -> Options:
    return Options(families=("validate",), tier=tier, **more)


def steps_of(cases: tuple[Case, ...]) -> list[Case]:
    return [case for case in cases if case.family == "validate"]


@pytest.mark.parametrize("device", [CPU, H100], ids=["cpu", "gpu"])
@pytest.mark.parametrize("tier", ["quick", "standard", "soak"])
def test_every_operation_that_is_predicted_has_been_measured_at_its_shape(
    device: Device, tier: str
) -> None:
    cases = plan_cases(device, options(tier))
    measured = {
        (c.op, c.precision, tuple(sorted(c.shape.items()))) for c in cases if c.family == "llm"
    }
    steps = [*steps_of(cases), *(c for c in cases if c.op == validate.STEP)]
    assert steps
    for case in steps:
        size = case.shape
        model = shape_of(size, "x", size["layers"])
        load = Load(prompts=size["batch"], prompt_len=size["length"])
        if (case.config or case.op) == DECODE:
            load = Load(decodes=size["batch"], context=size["length"])
        for op in step_ops(model, load, precision=case.precision, kv_precision=case.precision,
                           implementation=TRANSFORMERS):  # fmt: skip
            if float(op.count) > 0:
                shape = {name: int(value) for name, value in op.shape.items()}
                key = (op.op, case.precision, tuple(sorted(shape.items())))
                assert key in measured, (case.case_id, op.name)


def test_a_step_comes_right_after_the_operations_that_it_brings() -> None:
    cases = plan_cases(CPU, options())
    places = {case.case_id: place for place, case in enumerate(cases)}
    assert len(places) == len(cases)
    for case in steps_of(cases):
        before = cases[places[case.case_id] - 1]
        assert before.family in ("llm", "validate")
        assert before.model == case.model
    assert {case.model for case in steps_of(cases)} == {model.name for model in CPU_MODELS}


def test_a_given_calibration_leaves_only_the_steps() -> None:
    cases = plan_cases(CPU, options(calibrated=True))
    assert {case.family for case in cases} == {"validate"}
    assert len(cases) == len(steps_of(plan_cases(CPU, options())))


@pytest.mark.parametrize("device", [CPU, H100], ids=["cpu", "gpu"])
def test_a_hosts_own_time_is_measured_anew_where_others_disturbed_it(device: Device) -> None:
    cases = plan_cases(device, options("standard"))
    tries = {
        (case.family, case.op == validate.STEP): policy_for(case, device, options("standard")).tries
        for case in cases
    }
    assert tries[("launch", True)] == 3
    assert {count for (family, _), count in tries.items() if family != "launch"} == {1}
    (row, *_) = launch.cases(device, options("standard"))
    assert policy_for(row, device, options("standard")).tries == 3


def test_a_gpus_steps_are_replayed_and_launched() -> None:
    roles = [case.role for case in steps_of(plan_cases(H100, options()))]
    assert roles.count("anchor") == roles.count("eager") == len(roles) / 2


def test_a_processor_without_datasheet_measures_what_it_is_held_against() -> None:
    cases = plan_cases(CPU, options())
    assert {case.op for case in cases if case.family == "memory"} == {"read", "copy", "triad"}
    assert any(case.family == "compute" for case in cases)
    assert not {c.family for c in plan_cases(H100, options())} & {"memory", "compute"}


def test_a_model_has_as_many_layers_as_there_is_room_for() -> None:
    whole = validate_shapes.models(H100, "standard", "bf16")
    assert [model.sizes.layers for model in whole] == [16, 28, 32]
    small = H100.model_copy(update={"memory_free_bytes": 20 * GIB})
    for model in validate_shapes.models(small, "standard", "bf16"):
        assert 2 <= model.sizes.layers <= 32
        assert model.sizes.parameters * 2 < 0.6 * 20 * GIB
    assert validate_shapes.models(small, "standard", "bf16")[-1].sizes.layers < 32
    tiny = H100.model_copy(update={"memory_free_bytes": GIB})
    assert validate_shapes.models(tiny, "standard", "bf16") == ()


def test_every_case_has_a_policy_and_a_duration() -> None:
    for device in (CPU, H100):
        for case in plan_cases(device, options()):
            assert policy_for(case, device, options()).timeout_s > 0
            assert expected_s(case, device, options()) > 0
    assert sum(expected_s(c, CPU, options()) for c in plan_cases(CPU, options())) < 150


def test_what_goes_past_is_a_layer_or_the_whole_model() -> None:
    sizes = CPU_MODELS[0].sizes
    cases = list(plan_cases(CPU, options()))

    def past(op: str, **shape: int) -> int:
        case = next(c for c in cases if c.model == "small-256" and c.op == op
                    and shape.items() <= c.shape.items())  # fmt: skip
        return validate._past_bytes(case, CPU)

    assert past("rmsnorm") == past("gemm", n=256, k=256) == 4 * sizes.layer_products
    assert past("embed") == past("gemm", n=sizes.vocab) == 4 * sizes.parameters
    without_work = next(c for c in cases if c.model == floor.MODEL and c.op == "embed")
    assert validate._past_bytes(without_work, CPU) == 2 << 20


def test_weights_go_round_no_further_than_the_model_is_large() -> None:
    sizes = Sizes(1, 32, 2, 1, 16, 32, 64)
    assert validate._cache_bytes(sizes, "fp32", CPU) == sizes.parameters
    assert validate._cache_bytes(CPU_MODELS[2].sizes, "fp32", CPU) == 1 << 20


class FakeSweep:
    """Takes 100 ns for each sweep by the clock that it is given."""

    def __init__(self, clock: FakeClock) -> None:
        self.spent_s = 0.0
        self.clock = clock
        self.swept: list[int] = []

    def __call__(self, wanted_bytes: int) -> None:
        self.swept.append(wanted_bytes)
        self.clock.now += 100
        self.spent_s += 100e-9


class FakeClock:
    """Tells the time that it was advanced to, in ns."""

    now = 0

    def perf_counter_ns(self) -> int:
        return self.now


def test_sweeps_before_and_within_a_launch_are_not_in_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(timers, "time", clock)
    sweep: Any = FakeSweep(clock)

    def plain() -> None:
        clock.now += 30

    def sweeping() -> None:
        clock.now += 10
        sweep(7)

    timer = timers.SweptTimer(sweep, 5)
    assert timer.time_batch((plain, sweeping), 3) == pytest.approx((30 + 10 + 30) * 1e-9)
    assert sweep.swept == [5, 5, 7, 5]
    assert timer.time_batch((plain, sweeping), 1) == pytest.approx(10e-9), "it goes on at the next"


def test_unknown_models_are_refused() -> None:
    case = Case(case_id="x", family="llm", op="add", precision="fp32", route="transformers",
                shape={"rows": 1, "width": 2}, model="other")  # fmt: skip
    with pytest.raises(Exception, match="no model 'other'"):
        validate._sizes_of(case, CPU)


def test_models_are_named_apart_and_larger_than_common_caches() -> None:
    assert len({model.name for model in (*CPU_MODELS, *validate_shapes.GPU_MODELS)}) == 6
    for model in CPU_MODELS:
        assert model.sizes.parameters * 4 > 60e6
        assert isinstance(model, Model)
        assert transformer.Sizes(**floor.SIZES, layers=1).layer_products < 1e4
