"""A prediction held against a real model: step by step, and operation by operation.

The prediction is the sum of the step's operations, each timed by a calibration that has seen
operations only, and of the host's own work between them. No constant is fitted to the steps.

**The host.** Eager code spends time in Python, module calls and views. It is taken from a model
without work (`transformer_floor`): its step with few layers and with many, less what the same
calibration says of its operations, gives the host's time per layer and per step. On a processor
calls do their work themselves, so this time adds to that of the operations. On a GPU the host runs
ahead of the device: an eager step takes the longer of the two, the whole step of the model without
work or the operations; a graph that is replayed has no host in it.

**Error** is predicted over measured, less one. Operations are compared where the model's own were
watched, medians over steps; what the steps took beyond them is the host's.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from roofprobe.costmodel.calibration import Calibration, calibration_from
from roofprobe.costmodel.calibration_file import CalibrationFile, OpFit
from roofprobe.costmodel.correction import flags_of
from roofprobe.costmodel.implementations import TRANSFORMERS, Implementation
from roofprobe.costmodel.model_shape import (
    DenseMlp,
    GroupedQueryAttention,
    Layer,
    ModelShape,
)
from roofprobe.costmodel.ops import Step, price
from roofprobe.costmodel.predict import OpTime, StepTime, time_of
from roofprobe.costmodel.steps import Load, step_ops
from roofprobe.records import transformer_floor as floor
from roofprobe.records.disturbed import disturbed_of
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.journal import first_problem
from roofprobe.records.reading import is_folder, json_document, read_bytes, said
from roofprobe.records.schema import Device, Measurement, NonNegative, Record, Run

FORMAT: Final = "roofprobe-validation"
VERSION: Literal[1] = 1
FILE: Final = "validation.json"
# A few hundred steps with their operations are less than one MiB.
MAX_BYTES: Final = 64 << 20
HOST: Final = "host"
EAGER, GRAPH = "eager", "graph"
_DISTURBED: Final = (
    "The host's own time was measured while others had the processor, so it counts in p90 only."
)


class HeldPart(Record):
    """One operation of a step: all its calls, microseconds measured in the model and predicted.

    ``error`` is predicted over measured, less one; absent where nothing was watched.
    """

    name: str
    op: str
    calls: float
    predicted_us: NonNegative
    p10_us: NonNegative
    p90_us: NonNegative
    measured_us: NonNegative | None = None
    error: float | None = None


class HeldStep(Record):
    """One step of a model: measured median with its interval, and the prediction with its own.

    ``inside`` tells whether the measured median lies between p10 and p90 of the prediction.
    """

    case_id: str
    device_id: str
    model: str
    layers: int
    precision: str
    phase: str
    batch: int
    length: int
    regime: Literal["eager", "graph"]
    measured_us: NonNegative
    ci_low_us: NonNegative
    ci_high_us: NonNegative
    predicted_us: NonNegative
    p10_us: NonNegative
    p90_us: NonNegative
    error: float
    inside: bool
    out_of_range: tuple[str, ...] = ()
    parts: tuple[HeldPart, ...] = ()


class Unheld(Record):
    """A step that could not be compared, and why."""

    case_id: str
    sentence: str


class Validation(Record):
    """``validation.json``: every step of a run beside its prediction.

    ``median_error`` is the median of the absolute errors, ``coverage`` the share of steps whose
    measured time lies in the 80 % interval; absent where no step was compared.
    """

    format: Literal["roofprobe-validation"] = FORMAT
    schema_version: Literal[1] = VERSION
    run_id: str
    implementation: str
    calibration: str
    median_error: NonNegative | None = None
    worst_error: NonNegative | None = None
    coverage: NonNegative | None = None
    notes: tuple[str, ...] = ()
    steps: tuple[HeldStep, ...] = ()
    unheld: tuple[Unheld, ...] = Field(default=())


@dataclass(frozen=True, slots=True)
class Host:
    """Seconds that the host needs by itself, per step and per layer of it.

    ``whole_*`` contain the calls of the operations too: what a host that only queues needs. Where
    ``disturbed``, others had the processor meanwhile, and all four are upper bounds.
    """

    step_s: float
    layer_s: float
    whole_step_s: float
    whole_layer_s: float
    disturbed: bool = False


def validate(run: Run, file: CalibrationFile, *, source: str) -> Validation:
    """Hold every step of ``run`` against the calibrations of ``file``, device by device.

    ``source`` says in words where the calibration comes from. Raises ``RoofprobeError``
    (``nothing-validated``) where the run has no step of a model at all.
    """
    held: list[HeldStep] = []
    unheld: list[Unheld] = []
    notes: list[str] = []
    steps = [m for m in run.measurements if m.case.family == "validate"]
    if not steps:
        raise RoofprobeError(
            "nothing-validated", "the run has no step of a model; make one with `probe validate`"
        )
    for device in run.devices:
        own = [m for m in steps if m.device_id == device.device_id]
        compared, left, said = _of_device(device, own, file)
        held += compared
        unheld += left
        notes += said
    errors = [abs(step.error) for step in held]
    return Validation(
        run_id=run.run_id,
        implementation=TRANSFORMERS.name,
        calibration=source,
        median_error=statistics.median(errors) if errors else None,
        worst_error=max(errors, default=None),
        coverage=sum(step.inside for step in held) / len(held) if held else None,
        notes=tuple(dict.fromkeys(notes)),
        steps=tuple(held),
        unheld=tuple(unheld),
    )


def _of_device(
    device: Device, steps: Sequence[Measurement], file: CalibrationFile
) -> tuple[list[HeldStep], list[Unheld], list[str]]:
    held: list[HeldStep] = []
    unheld = [
        Unheld(case_id=m.case.case_id, sentence=m.reason.sentence if m.reason else m.status)
        for m in steps
        if m.status != "ok"
    ]
    notes: list[str] = []
    known = {one.device_id for one in file.devices} | {one.name for one in file.devices}
    name = device.device_id if device.device_id in known else device.name
    calibration = calibrated_for(TRANSFORMERS, calibration_from(file, device=name))
    crowded = disturbed_of(steps)
    if crowded:
        notes.append(
            f"{device.name}: other processes were at work during {len(crowded)} of "
            f"{crowded.measured} steps, so measured times are too long; repeat on an idle host"
        )
    hosts: dict[tuple[str, str], Host | None] = {}
    for measurement in steps:
        if measurement.status != "ok":
            continue
        case = measurement.case
        key = (case.op, case.precision)
        try:
            if key not in hosts:
                found = hosts[key] = host_of(calibration, *key)
                if found is None:
                    notes.append(
                        f"{case.op}: the calibration has no step of the model without work, so "
                        "the host's own time is left out"
                    )
                elif found.disturbed:
                    notes.append(
                        f"{case.op}: other processes were at work while the model without work was "
                        "measured, so the host's own time is known only from above: it counts in "
                        "p90 and is left out of the prediction; repeat on an idle host"
                    )
            held.append(held_step(measurement, device, calibration, hosts[key]))
        except RoofprobeError as error:
            unheld.append(Unheld(case_id=case.case_id, sentence=error.sentence))
    return held, unheld, notes


def calibrated_for(implementation: Implementation, calibration: Calibration) -> Calibration:
    """Return ``calibration`` with only the kernels that this code calls, where it has them."""
    groups: dict[tuple[str, str, str | None], list[OpFit]] = {}
    for fit in calibration.device.ops:
        groups.setdefault((fit.op, fit.precision, fit.kv_precision), []).append(fit)
    kept: list[OpFit] = []
    for (op, *_), fits in groups.items():
        wanted = implementation.kernels.get(op, ())
        found = [[fit for fit in fits if fit.kernel == kernel] for kernel in wanted]
        kept += next((chosen for chosen in found if chosen), fits)
    device = calibration.device.model_copy(update={"ops": tuple(kept)})
    return Calibration(device, calibration.provenance)


def shape_of(sizes: dict[str, int], name: str, layers: int) -> ModelShape:
    """Return the model whose sizes a case has."""
    attention = GroupedQueryAttention(sizes["heads"], sizes["kv_heads"], sizes["head_dim"])
    layer = Layer(attention, DenseMlp(sizes["inter"]))
    return ModelShape(
        name, "LlamaForCausalLM", sizes["hidden"], sizes["vocab"], (layer,) * layers,
        tied_embeddings=False,
    )  # fmt: skip


def predicted(
    calibration: Calibration, model: ModelShape, phase: str, precision: str, batch: int, length: int
) -> tuple[StepTime, tuple[str, ...]]:
    """Return a step's operations by the calibration, and why some of them are less sure.

    Raises ``RoofprobeError`` where an operation cannot be timed.
    """
    load = Load(prompts=batch, prompt_len=length)
    if phase == "decode":
        load = Load(decodes=batch, context=length)
    ops = [
        op
        for op in step_ops(
            model, load, precision=precision, kv_precision=precision, implementation=TRANSFORMERS
        )
        if float(op.count) > 0
    ]
    costs, _ = price(calibration, [Step(ops, 1)])
    return time_of(calibration, ops), tuple(
        flag.sentence for flag in flags_of(int(costs[0].flags[0]))
    )


def host_of(calibration: Calibration, phase: str, precision: str) -> Host | None:
    """Return what the host does in a step of ``phase``, None where it was not measured."""
    known = calibration.device.launch_us
    measured = [known.get(floor.route(phase, layers)) for layers in floor.LAYERS]
    if any(us is None for us in measured):
        return None
    few, many = (us * 1e-6 for us in measured if us is not None)
    batch, length = floor.STEPS[phase]
    times = [
        predicted(calibration, shape_of(floor.SIZES, floor.MODEL, layers), phase, precision,
                  batch, length)[0].median_s
        for layers in floor.LAYERS
    ]  # fmt: skip
    more = floor.LAYERS[1] - floor.LAYERS[0]
    whole_layer = max((many - few) / more, 0.0)
    disturbed = any(
        floor.route(phase, layers) in calibration.device.launch_disturbed for layers in floor.LAYERS
    )
    if disturbed:  # the difference of two bounds is none; all of the longer step, by layers, is
        whole_layer = max(whole_layer, many / floor.LAYERS[1])
    whole_step = max(few - floor.LAYERS[0] * whole_layer, 0.0)
    layer = max(whole_layer - (times[1] - times[0]) / more, 0.0)
    step = max(few - times[0] - floor.LAYERS[0] * layer, 0.0)
    return Host(step, layer, whole_step, whole_layer, disturbed)


def held_step(
    measurement: Measurement, device: Device, calibration: Calibration, host: Host | None
) -> HeldStep:
    """Return one step beside its prediction; raises ``RoofprobeError`` where there is none."""
    case, latency = measurement.case, measurement.latency
    assert latency is not None, "an ok step has a time"
    sizes, layers = case.shape, case.shape["layers"]
    model = shape_of(sizes, case.model or "", layers)
    batch, length = sizes["batch"], sizes["length"]
    on_cpu = device.backend == "cpu"
    regime: Literal["eager", "graph"] = "eager" if on_cpu or case.role == "eager" else "graph"
    time, doubts = predicted(calibration, model, case.op, case.precision, batch, length)
    own_s, floor_s = 0.0, 0.0
    if host is not None and on_cpu:
        own_s = host.step_s + layers * host.layer_s
    elif host is not None and regime == EAGER:
        floor_s = host.whole_step_s + layers * host.whole_layer_s
    p90 = max(time.p90_s + own_s, floor_s) * 1e6
    if host is not None and host.disturbed and (own_s or floor_s):
        # Sums of queues and time slices: no share of such a time is known to be the host's.
        own_s, floor_s, doubts = 0.0, 0.0, (*doubts, _DISTURBED)
    median, p10 = (max(s + own_s, floor_s) * 1e6 for s in (time.median_s, time.p10_s))
    return HeldStep(
        case_id=case.case_id,
        device_id=measurement.device_id,
        model=case.model or "",
        layers=layers,
        precision=case.precision,
        phase=case.op,
        batch=batch,
        length=length,
        regime=regime,
        measured_us=latency.median,
        ci_low_us=latency.ci_low,
        ci_high_us=latency.ci_high,
        predicted_us=median,
        p10_us=p10,
        p90_us=p90,
        error=median / latency.median - 1,
        inside=p10 <= latency.median <= p90,
        out_of_range=doubts,
        parts=_parts(measurement, time.ops, own_s * 1e6 if on_cpu else None),
    )


def _parts(
    measurement: Measurement, ops: Iterable[OpTime], host_us: float | None
) -> tuple[HeldPart, ...]:
    """Return operations of one name together, and the host's own work where it adds up."""
    watched = {part.name: part.us for part in measurement.parts}
    rows: dict[str, dict[str, Any]] = {}
    for op in ops:
        row = rows.setdefault(
            op.name,
            {"name": op.name, "op": op.op, "calls": 0.0, "predicted_us": 0.0, "p10_us": 0.0,
             "p90_us": 0.0},
        )  # fmt: skip
        row["calls"] += op.count
        row["predicted_us"] += op.median_s * 1e6
        row["p10_us"] += op.p10_s * 1e6
        row["p90_us"] += op.p90_s * 1e6
    if host_us is not None:
        assert measurement.latency is not None, "an ok step has a time"
        rows[HOST] = {
            "name": HOST, "op": HOST, "calls": 1.0, "predicted_us": host_us, "p10_us": host_us,
            "p90_us": host_us,
        }  # fmt: skip
        if watched:
            watched[HOST] = max(measurement.latency.median - sum(watched.values()), 0.0)
    found = []
    for name, row in rows.items():
        us = watched.get(name)
        error = row["predicted_us"] / us - 1 if us else None
        found.append(HeldPart(**row, measured_us=us, error=error))
    return tuple(found)


def validation_bytes(validation: Validation) -> bytes:
    """Return the JSON document."""
    return validation.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"


def read_validation(path: Path) -> Validation:
    """Read ``validation.json``, or that of a run folder.

    Raises ``RoofprobeError`` (``not-a-validation``, ``damaged-validation``).
    """
    file = path / FILE if is_folder(path) else path
    try:
        data = json_document(read_bytes(file, MAX_BYTES))
    except OSError as error:
        raise RoofprobeError("not-a-validation", f"{said(file, error)}") from None
    except ValueError as error:
        raise RoofprobeError("not-a-validation", f"{file} is not JSON ({error})") from None
    try:
        return Validation.model_validate(data)
    except (ValidationError, RecursionError) as error:
        raise RoofprobeError(
            "damaged-validation",
            f"{file} is no validation of this roofprobe, or was changed or damaged "
            f"({first_problem(error)}); make it again with `probe validate`",
        ) from None


def validation_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``validation.json``."""
    schema = Validation.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "roofprobe validation",
        **{key: value for key, value in schema.items() if key != "title"},
    }
