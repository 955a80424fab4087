"""Predictions beside steps: exact sums, the host's share, regimes, errors, and what is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.costmodel import validation
from roofprobe.costmodel.calibration import Calibration, calibration_from
from roofprobe.costmodel.calibration_file import (
    CalibrationFile,
    Ceilings,
    DeviceCalibration,
    Intervals,
    OpFit,
    Peak,
)
from roofprobe.costmodel.forms import OP_CLASSES
from roofprobe.costmodel.implementations import TRANSFORMERS
from roofprobe.records import transformer_floor as floor
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import (
    NOT_ALONE,
    Case,
    Device,
    Distribution,
    Environment,
    Measurement,
    Note,
    Options,
    Part,
    Reason,
    Run,
)

CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example")
GPU = Device(device_id="gpu", torch_device="cuda:0", backend="cuda", name="Example")
SIZES = {"layers": 3, "hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "inter": 96,
         "vocab": 128}  # fmt: skip
# Per layer q, k, v, o, gate, up, down, two rotations, the cache, attention, act, two norms, two
# sums; per step a look-up, angles, a norm, the head, a token.
PER_LAYER, PER_STEP = 16, 5
ONE_US = 2.0
OPS = ("gemm", "attention_prefill", "attention_decode", "rmsnorm", "rope", "silu_mul", "add",
       "kv_store", "kv_append", "embed", "angles", "sample")  # fmt: skip


def fit(op: str, t0_us: float = ONE_US, kernel: str | None = "transformers") -> OpFit:
    return OpFit(
        op=op, precision="fp32", kv_precision="fp32" if op.startswith("attention") else None,
        kernel=kernel, compute_efficiency=1.0, memory_efficiency=1.0, t0_us=t0_us,
        peak_gbps=1e9, provenance="test",
        intervals=Intervals(level=0.8, axis=OP_CLASSES[op].band, bands=(),
                            per_octave=0.0, per_distance=0.0),
    )  # fmt: skip


def device(ops: tuple[OpFit, ...], launch_us: dict[str, float]) -> DeviceCalibration:
    """Return a device so fast that only the fixed times count."""
    peak = Peak(value=1e12, unit="TFLOPS", kind="assumed", source="test")
    memory = Peak(value=1e12, unit="GB/s", kind="assumed", source="test")
    return DeviceCalibration(
        name="Example", ceilings=Ceilings(compute={"fp32": peak}, memory=memory), ops=ops,
        launch_us=launch_us,
    )  # fmt: skip


def floors(phase: str, *, layer_us: float, step_us: float) -> dict[str, float]:
    """Return steps of the model without work whose host takes these times beside its operations."""
    return {
        floor.route(phase, layers): step_us + layers * layer_us
        + ONE_US * (PER_STEP + layers * PER_LAYER)
        for layers in floor.LAYERS
    }  # fmt: skip


def calibration(**launches: Any) -> CalibrationFile:
    known = {**floors("decode", layer_us=10.0, step_us=50.0), **launches}
    return CalibrationFile(devices=(device(tuple(fit(op) for op in OPS), known),))


def step(
    where: Device, us: float, *, phase: str = "decode", role: Any = "anchor", **more: Any
) -> Measurement:
    case = Case(
        case_id=f"validate/{phase}/{role}", family="validate", op=phase, precision="fp32",
        kv_precision="fp32", route="transformers", role=role, model="little",
        shape={"batch": 2, "length": 8, **SIZES},
    )  # fmt: skip
    latency = Distribution(
        unit="us", median=us, ci_low=us, ci_high=us, p10=us, p90=us, best=us, n=1
    )
    fields: dict[str, Any] = {"status": "ok", "latency": latency, **more}
    return Measurement(case=case, device_id=where.device_id, **fields)


def run_of(where: Device, *measurements: Measurement) -> Run:
    host = Environment(host="h", os="Linux", kernel="6", python="3.11", roofprobe="0.1.0")
    return Run(
        run_id="r", status="complete", started_at="2000-01-01T00:00:00+00:00",
        options=Options(families=("validate",)), environment=host, devices=(where,),
        measurements=measurements,
    )  # fmt: skip


OPS_US = ONE_US * (3 * PER_LAYER + PER_STEP)
HOST_US = 50.0 + 3 * 10.0


def test_on_a_processor_operations_and_host_add_up() -> None:
    found = validation.validate(run_of(CPU, step(CPU, 200.0)), calibration(), source="x")
    (held,) = found.steps
    assert held.predicted_us == pytest.approx(OPS_US + HOST_US)
    assert held.error == pytest.approx((OPS_US + HOST_US) / 200.0 - 1)
    assert found.median_error == pytest.approx(abs(held.error))
    assert held.regime == "eager"
    assert sum(part.predicted_us for part in held.parts) == pytest.approx(held.predicted_us)


@pytest.mark.parametrize(
    ("role", "layer_us", "expected"),
    [
        ("anchor", 10.0, OPS_US),  # a graph has no host in it
        ("eager", 10.0, 50.0 + 3 * 10.0 + OPS_US),  # the host queues all calls, and is the slower
        ("eager", -30.0, OPS_US),  # the device is the slower: the host runs ahead
    ],
)
def test_on_a_gpu_the_slower_of_host_and_device_counts(
    role: str, layer_us: float, expected: float
) -> None:
    known = calibration(**floors("decode", layer_us=layer_us, step_us=50.0))
    found = validation.validate(run_of(GPU, step(GPU, 100.0, role=role)), known, source="x")
    assert found.steps[0].predicted_us == pytest.approx(expected)
    assert found.steps[0].regime == ("eager" if role == "eager" else "graph")
    assert "host" not in {part.name for part in found.steps[0].parts}


def test_operations_are_compared_by_name_and_the_rest_is_the_hosts() -> None:
    parts = (Part(name="q", calls=3, us=12.0), Part(name="rope", calls=24, us=6.0))
    found = validation.validate(
        run_of(CPU, step(CPU, 200.0, parts=parts)), calibration(), source="x"
    )
    rows = {part.name: part for part in found.steps[0].parts}
    assert rows["q"].calls == 3
    assert rows["q"].predicted_us == pytest.approx(3 * ONE_US)
    assert rows["q"].error == pytest.approx(3 * ONE_US / 12.0 - 1)
    assert rows["rope"].predicted_us == pytest.approx(6 * ONE_US)
    assert rows["host"].measured_us == 200.0 - 18.0
    assert rows["k"].measured_us is None
    assert rows["k"].error is None


def test_without_the_model_without_work_the_host_is_left_out_and_that_is_said() -> None:
    file = CalibrationFile(devices=(device(tuple(fit(op) for op in OPS), {}),))
    found = validation.validate(run_of(CPU, step(CPU, 200.0)), file, source="x")
    assert found.steps[0].predicted_us == pytest.approx(OPS_US)
    assert "host's own time is left out" in found.notes[0]


def test_the_kernels_of_the_code_are_chosen_where_there_are_several() -> None:
    ops = (fit("rmsnorm", 9.0, "triton"), fit("rmsnorm", 5.0, "torch"), fit("rmsnorm", 7.0),
           fit("rope", 9.0, "triton"), fit("rope", 5.0, "torch"), fit("gemm", 1.0, "a"),
           fit("gemm", 2.0, "b"))  # fmt: skip
    chosen = validation.calibrated_for(TRANSFORMERS, Calibration(device(ops, {})))
    assert [(one.op, one.t0_us) for one in chosen.device.ops] == [
        ("rmsnorm", 7.0), ("rope", 5.0), ("gemm", 1.0), ("gemm", 2.0),
    ]  # fmt: skip


def test_the_interval_and_its_coverage() -> None:
    exact = OPS_US + HOST_US
    found = validation.validate(
        run_of(CPU, step(CPU, exact), step(CPU, 2 * exact)), calibration(), source="x"
    )
    assert [held.inside for held in found.steps] == [True, False]
    assert found.coverage == 0.5
    assert found.median_error == pytest.approx(0.25)
    assert found.worst_error == pytest.approx(0.5)


def test_a_step_that_was_not_measured_or_cannot_be_predicted_is_told_why() -> None:
    reason = Reason(code="out-of-memory", sentence="memory ran out")
    few = tuple(fit(op) for op in OPS if op != "gemm")
    file = CalibrationFile(devices=(device(few, {}),))
    failed = step(CPU, 1.0, phase="prefill", status="failed", reason=reason, latency=None)
    found = validation.validate(run_of(CPU, failed, step(CPU, 200.0)), file, source="x")
    assert [row.sentence for row in found.unheld] == [
        "memory ran out", "gemm in fp32 was never measured on Example.",
    ]  # fmt: skip
    assert found.median_error is None


def test_a_crowded_host_is_told() -> None:
    note = Note(code=NOT_ALONE, sentence="others were at work")
    found = validation.validate(
        run_of(CPU, step(CPU, 200.0, notes=(note,))), calibration(), source="x"
    )
    assert "during 1 of 1 steps" in found.notes[0]


@pytest.mark.parametrize("layers", floor.LAYERS)
def test_a_host_that_was_measured_among_others_is_only_a_bound(layers: int) -> None:
    known = calibration(**floors("decode", layer_us=10.0, step_us=50_000.0))
    beside = known.devices[0].model_copy(
        update={"launch_disturbed": (floor.route("decode", layers),)}
    )
    run = run_of(CPU, step(CPU, 200.0))
    found = validation.validate(run, known.model_copy(update={"devices": (beside,)}), source="x")
    (held,), (alone,) = found.steps, validation.validate(run, known, source="x").steps
    assert held.predicted_us == pytest.approx(OPS_US)
    assert held.p10_us == pytest.approx(alone.p10_us - 50_030.0)
    # beyond two layers each may take all of the longer step's time over its layers
    bound_us = 50_020.0 + (50_180.0 + ONE_US * PER_STEP) / 18
    assert held.p90_us == pytest.approx(alone.p90_us - 50_030.0 + bound_us)
    assert held.inside
    assert "counts in p90 only" in held.out_of_range[-1]
    assert "known only from above" in found.notes[0]


def test_a_gpus_eager_step_beside_a_bound_is_its_operations_and_a_graph_is_as_before() -> None:
    known = calibration(**floors("decode", layer_us=10.0, step_us=50_000.0))
    routes = tuple(floor.route("decode", layers) for layers in floor.LAYERS)
    beside = known.devices[0].model_copy(update={"launch_disturbed": routes})
    file = known.model_copy(update={"devices": (beside,)})
    run = run_of(GPU, step(GPU, 100.0, role="eager"), step(GPU, 100.0))
    eager, graph = validation.validate(run, file, source="x").steps
    assert eager.predicted_us == graph.predicted_us == pytest.approx(OPS_US)
    few_us, many_us = (known.devices[0].launch_us[route] for route in routes)
    assert eager.p90_us == pytest.approx(few_us + many_us / 18)
    assert (len(eager.out_of_range), graph.out_of_range) == (1, ())


def test_launches_of_another_phase_disturb_nothing() -> None:
    known = calibration(**floors("decode", layer_us=10.0, step_us=50.0))
    other = known.devices[0].model_copy(
        update={"launch_disturbed": (floor.route("prefill", 2), "op-enqueue")}
    )
    run = run_of(CPU, step(CPU, 200.0))
    found = validation.validate(run, known.model_copy(update={"devices": (other,)}), source="x")
    assert found.steps[0].predicted_us == pytest.approx(OPS_US + HOST_US)
    assert found.notes == ()


def test_a_run_without_steps_is_an_error() -> None:
    with pytest.raises(RoofprobeError, match="no step of a model"):
        validation.validate(run_of(CPU), calibration(), source="x")


def test_the_document_is_json_and_comes_back() -> None:
    found = validation.validate(run_of(CPU, step(CPU, 200.0)), calibration(), source="x")
    document = validation.validation_bytes(found)
    assert json.loads(document)["format"] == "roofprobe-validation"
    assert validation.Validation.model_validate_json(document) == found


@given(
    step_us=st.floats(0, 1e4), layer_us=st.floats(0, 1e3), late_us=st.floats(0, 1e5),
    which=st.sampled_from(floor.LAYERS), layers=st.integers(2, 80),
)  # fmt: skip
def test_a_bound_from_disturbed_steps_is_one_at_any_depth(
    step_us: float, layer_us: float, late_us: float, which: int, layers: int
) -> None:
    true_us = floors("decode", layer_us=layer_us, step_us=step_us)
    route = floor.route("decode", which)
    file = calibration(**{**true_us, route: true_us[route] + late_us})
    beside = file.devices[0].model_copy(update={"launch_disturbed": (route,)})
    given_file = file.model_copy(update={"devices": (beside,)})
    host = validation.host_of(calibration_from(given_file, device="Example"), "decode", "fp32")
    assert host is not None
    assert host.disturbed
    truth_us = step_us + layers * layer_us
    assert (host.step_s + layers * host.layer_s) * 1e6 >= truth_us - 1e-6 * (1 + truth_us)
    whole_us = truth_us + ONE_US * (PER_STEP + layers * PER_LAYER)
    whole = (host.whole_step_s + layers * host.whole_layer_s) * 1e6
    assert whole >= whole_us - 1e-6 * (1 + whole_us)
