"""Tokens per second as one function of what people name when they plan.

    TPS = f(model size, input, output, QPS, latency bound, precision, GPUs, acceleration)

GPUs are spread as copies of tensor-parallel groups in every way that divides them; of all layouts
and concurrencies that meet the latency bound, the one with the most tokens per second is the
system's capacity. Offered load beyond it waits, less is what is served:
TPS = min(capacity, QPS · output). ``acceleration`` is the mean number of tokens that a decode step
yields (1 without speculative decoding): TPOT is divided by it, at the same cost of a step.

A model may be named by its size alone. Then it takes the shape of the preset with dense layers that
is nearest in size, with as many layers as make up the size; that is marked as approximate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from roofprobe.costmodel.evaluate import capacity_of, evaluate
from roofprobe.costmodel.model_shape import DenseMlp, ModelShape
from roofprobe.costmodel.models import load_model, preset_names
from roofprobe.costmodel.plan_cases import PlanCase
from roofprobe.costmodel.plan_layout import Degrees, Planned, Planner, valid_tp
from roofprobe.costmodel.sizing import CONCURRENCIES
from roofprobe.costmodel.weights import parameters
from roofprobe.records.errors import RoofprobeError

if TYPE_CHECKING:
    from roofprobe.costmodel.calibration import Calibration


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a system serves and could serve, in output tokens per second, and how; times in s.

    ``approximate`` is the sentence that says what stands in for a model named by its size.
    """

    tokens_per_second: float
    capacity_tokens_per_second: float
    capacity_requests_per_second: float
    degrees: Degrees
    concurrency: int
    ttft_s: float
    tpot_s: float
    approximate: str | None = None


def throughput(
    model_size: str | float | ModelShape,
    input_len: int,
    output_len: int,
    *,
    calibration: Calibration,
    qps: float = math.inf,
    ttft_ms: float | None = None,
    tpot_ms: float | None = None,
    precision: str | None = None,
    kv_precision: str | None = None,
    gpus: int = 1,
    acceleration: float = 1.0,
) -> Throughput:
    """Return the output tokens per second of ``gpus`` GPUs; see the module docstring.

    ``model_size`` is a preset, a config, a shape, or a number of parameters; ``qps`` requests per
    second that are offered. Raises ``RoofprobeError``: ``bad-value``, ``none-meets`` where no
    layout fits and meets the latency bound, and what cannot be timed.
    """
    if not (qps > 0 and math.isfinite(acceleration) and acceleration >= 1):
        raise RoofprobeError("bad-value", "qps must be above 0 and acceleration at least 1.")
    shape = _shape(model_size)
    base = Planner(capacity_of(calibration)).plan_shape(
        shape,
        PlanCase(
            shape.name, precision=precision, kv_precision=kv_precision, input_len=input_len,
            output_len=output_len, gpus=gpus,
        ),
    )  # fmt: skip
    tried = [
        _with(base, Degrees(tp, base.degrees.pp, 1, gpus // (tp * base.degrees.pp)), concurrency)
        for tp in valid_tp(shape)
        if gpus % (tp * base.degrees.pp) == 0
        for concurrency in CONCURRENCIES
    ]
    outcome = evaluate(tried, calibration)
    if len(outcome.refused) == len(tried):
        reason = next(iter(outcome.refused.values()))
        raise RoofprobeError(reason.code, reason.sentence)
    token = np.nan_to_num(outcome.tpot_s.median, nan=0.0) / acceleration
    requests = np.array([float(case.requests) for case in tried])
    cycle = requests / outcome.requests_per_second
    saved = np.nan_to_num(outcome.tpot_s.median, nan=0.0) - token
    rate = requests / (cycle - saved * (output_len - 1))
    running = outcome.sequences * [case.degrees.dp for case in tried] >= requests
    good = outcome.fits & running & np.isfinite(rate)
    good &= token <= (tpot_ms or math.inf) / 1e3
    good &= outcome.ttft_s.median <= (ttft_ms or math.inf) / 1e3
    if not good.any():
        raise RoofprobeError(
            "none-meets",
            f"No layout of {gpus} × {calibration.hardware.name} holds {shape.name} and meets the "
            "latency bound; take more GPUs, a narrower precision or a looser bound.",
        )
    places = np.flatnonzero(good)
    best = int(places[rate[places].argmax()])
    capacity = float(rate[best])
    if qps < capacity:
        # The least crowded system that still serves the load answers soonest.
        enough = places[rate[places] >= qps]
        best = int(enough[token[enough].argmin()])
    return Throughput(
        tokens_per_second=min(capacity, qps) * output_len,
        capacity_tokens_per_second=capacity * output_len,
        capacity_requests_per_second=capacity,
        degrees=tried[best].degrees,
        concurrency=tried[best].requests,
        ttft_s=float(outcome.ttft_s.median[best]),
        tpot_s=float(token[best]),
        approximate=shape.approximate,
    )


def _with(case: Planned, degrees: Degrees, concurrency: int) -> Planned:
    asked = replace(case.case, concurrency=concurrency * degrees.dp)
    return Planned(asked, case.model, case.precision, case.kv_precision, degrees)


def _shape(model_size: str | float | ModelShape) -> ModelShape:
    if isinstance(model_size, ModelShape):
        return model_size
    if isinstance(model_size, str):
        return load_model(model_size)
    return shape_of_size(model_size)


def shape_of_size(wanted: float) -> ModelShape:
    """Return a dense model of about ``wanted`` parameters, marked as approximate.

    Raises ``RoofprobeError`` (``bad-value``) for sizes below ten million or above ten trillion.
    """
    if not (math.isfinite(wanted) and 1e7 <= wanted <= 1e13):
        raise RoofprobeError("bad-value", "A model's size must be 10^7 to 10^13 parameters.")
    dense = [
        model
        for model in map(load_model, preset_names())
        if len(model.layer_groups) == 1 and isinstance(model.layer_sequence[0].mlp, DenseMlp)
    ]
    nearest = min(dense, key=lambda model: abs(math.log(parameters(model) / wanted)))
    layer = nearest.layer_sequence[0]
    one, two = (parameters(replace(nearest, layer_sequence=(layer,) * n)) for n in (1, 2))
    layers = max(1, round((wanted - (one - (two - one))) / (two - one)))
    return replace(
        nearest,
        name=f"a model of {wanted / 1e9:g} billion parameters",
        layer_sequence=(layer,) * layers,
        approximate=f"The model is known by its size only; it is planned as {layers} layers of "
        f"{nearest.name}.",
    )
