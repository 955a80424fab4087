"""The model's side of the founding notes: what the cost model says where the notes give a figure.

Each function computes one part of docs/founding-notes.md from the notes' own inputs
(`founding_notes`). Two efficiencies are implied by a published time: against the model's prediction
for the same work, and against the least time that the datasheet's peaks allow. The first says how
far a serving stack of its day stood from operations timed one by one, the second how far from the
hardware.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofprobe.costmodel.calibration import default_calibration
from roofprobe.costmodel.evaluate import capacity_of
from roofprobe.costmodel.founding_notes import (
    DEPLOYMENT_GPU,
    DEPLOYMENT_MODEL,
    DEPLOYMENT_NETWORK_GBPS,
    Cards,
    Recommendation,
    Unit,
)
from roofprobe.costmodel.memory import (
    RUNTIME_RESERVE_BYTES,
    UTILISATION,
    activation_bytes,
    kv_bytes_per_token,
    max_batch,
    weight_bytes,
)
from roofprobe.costmodel.model_shape import MoeMlp
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.ops import roofline
from roofprobe.costmodel.plan_cases import PlanCase
from roofprobe.costmodel.plan_layout import Degrees, Planned, Planner, valid_tp
from roofprobe.costmodel.planner import plan_cases
from roofprobe.costmodel.predict import StepTime, step_time
from roofprobe.costmodel.sizing import fewest_gpus
from roofprobe.costmodel.steps import Layout, Load, step_ops
from roofprobe.records.errors import RoofprobeError

if TYPE_CHECKING:
    from roofprobe.costmodel.calibration import Calibration
    from roofprobe.costmodel.model_shape import ModelShape

#: Bytes per parameter of training in mixed precision with Adam: ZeRO, arXiv 1910.02054, 3.1.
MIXED_PRECISION_ADAM: Final = {
    "fp16 weights": 2, "fp16 gradients": 2, "fp32 weights": 4, "momentum": 4, "variance": 4,
}  # fmt: skip
REQUEST_TOKENS: Final = 2048


@dataclass(frozen=True, slots=True)
class Fit:
    """What a recommendation holds: bytes, and room for KV cache on all its cards.

    ``per_card_bytes`` is all that the fullest card would hold with one request of 1024 + 1024
    tokens, ``used_bytes`` what an engine takes of it. ``min_gpus`` is the fewest that the planner
    finds (tp a power of two within a server), None where none does.
    """

    cards: Cards
    degrees: Degrees
    weights_bytes: int
    per_card_bytes: float
    used_bytes: float
    card_bytes: float
    room_tokens: int
    requests: int
    min_gpus: int | None

    @property
    def fits(self) -> bool:
        """Whether one request of 1024 + 1024 tokens has a place."""
        return self.requests > 0


def fit_of(row: Recommendation, cards: Cards) -> Fit:
    """Return what ``cards`` hold of the model of ``row``."""
    model = load_model(row.model)
    degrees = layout_over(model, cards.count)
    return fit_with(model, _precision(model, row.precision), cards, degrees)


def layout_over(model: ModelShape, gpus: int) -> Degrees:
    """Return the widest tensor parallelism that divides ``gpus`` and the heads, stages for rest."""
    tp = max(degree for degree in valid_tp(model) if gpus % degree == 0)
    return Degrees(tp, gpus // tp, 1, 1)


def fit_with(model: ModelShape, precision: str, cards: Cards, degrees: Degrees) -> Fit:
    """Return what ``cards`` hold of ``model`` in a layout of one copy."""
    calibration = default_calibration(cards.gpu)
    card, tp, pp = capacity_of(calibration), degrees.tp, degrees.pp
    weights = weight_bytes(model, precision, tp=tp, pp=pp)
    base = weights + RUNTIME_RESERVE_BYTES + float(activation_bytes(model, batch=0, tp=tp))
    each = kv_bytes_per_token(model, tp=tp, pp=pp)
    used = UTILISATION * card
    requests = max_batch(model, card, context_len=REQUEST_TOKENS, precision=precision, tp=tp, pp=pp)
    asked = Planned(PlanCase(model.name, concurrency=1), model, precision, "bf16", degrees)
    return Fit(
        cards=cards,
        degrees=degrees,
        weights_bytes=weight_bytes(model, precision),
        per_card_bytes=base + REQUEST_TOKENS * each,
        used_bytes=used,
        card_bytes=card,
        room_tokens=max(0, math.floor((used - base) / each)),
        requests=int(requests),
        min_gpus=fewest_gpus([asked], calibration)[0],
    )


def _precision(model: ModelShape, precision: str) -> str:
    """Return the checkpoint's own variety of ``precision``, where it has one."""
    own = model.checkpoint.precision
    return own if own.startswith(precision) else precision


def least_decode_s(
    calibration: Calibration,
    model: ModelShape,
    *,
    batch: float,
    context: float,
    precision: str,
    layout: Layout,
) -> float:
    """Return the least seconds of a decode step at the datasheet's peaks, links left out."""
    return _least(calibration, model, Load(decodes=batch, context=context), precision, layout)


def least_prefill_s(
    calibration: Calibration,
    model: ModelShape,
    *,
    prompts: float,
    input_len: float,
    precision: str,
    layout: Layout,
) -> float:
    """Return the least seconds of a prefill at the datasheet's peaks, links left out."""
    return _least(calibration, model, Load(prompts, input_len), precision, layout)


def _least(
    calibration: Calibration, model: ModelShape, load: Load, precision: str, layout: Layout
) -> float:
    ops = step_ops(model, load, precision=precision, kv_precision="bf16", layout=layout)
    least = roofline(calibration, ops, 1)
    return float(np.maximum(least.compute_s, least.memory_s)[0])


def decode_step(
    calibration: Calibration,
    model: ModelShape,
    *,
    batch: float,
    context: float,
    precision: str,
    layout: Layout,
) -> StepTime:
    """Return a decode step of ``batch`` sequences that see ``context`` tokens each."""
    load = Load(decodes=batch, context=context)
    return step_time(
        calibration, model, load, precision=precision, kv_precision="bf16", layout=layout
    )


def planned(gpu: str, **case: Any) -> dict[str, Any]:
    """Return one case's object of `planner.plan_cases`: an ``error`` where it cannot be planned."""
    return plan_cases([case], gpu=gpu)[0]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prefill of one prompt alone: seconds, and what most of it is.

    ``attention_share`` is attention's part of the time; ``floor_share`` what the same step would
    take for one token, as a part.
    """

    input_len: int
    ttft_s: float
    attention_share: float
    floor_share: float
    bound: str

    @property
    def normalised_s(self) -> float:
        """TTFT per prompt token: the notes' constant."""
        return self.ttft_s / self.input_len


def prompts(gpu: str, model_name: str, lengths: Sequence[int], precision: str) -> list[Prompt]:
    """Return prefills of one prompt of each length, alone on one GPU and in one step."""
    calibration, model = default_calibration(gpu), load_model(model_name)

    def timed(length: int) -> StepTime:
        load = Load(prompts=1, prompt_len=length)
        return step_time(calibration, model, load, precision=precision, kv_precision=precision)

    floor = timed(1).median_s
    return [
        Prompt(
            length,
            step.median_s,
            sum(op.median_s for op in step.ops if op.name == "attention") / step.median_s,
            floor / step.median_s,
            step.bound,
        )
        for length, step in ((length, timed(length)) for length in lengths)
    ]


@dataclass(frozen=True, slots=True)
class UnitStep:
    """A step of one unit: seconds where it can be timed, and the least at the peaks.

    ``network_s`` is what the all-to-alls need if all their bytes cross the network between nodes.
    """

    sequences: int
    tokens_per_gpu: float
    median_s: float | None
    least_s: float
    network_s: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class UnitModel:
    """A unit of the split deployment: memory of one GPU, experts on it, and steps.

    ``experts_per_token`` are those that a token is sent to.
    """

    unit: Unit
    experts_per_gpu: float
    experts_per_token: int
    weights_bytes: int
    room_tokens: int
    steps: tuple[UnitStep, ...]


def deployment(unit: Unit, batches: Sequence[int], length: int) -> UnitModel:
    """Return what a unit holds and how long its steps take.

    ``batches`` are sequences per copy of attention (tp GPUs): prompts of ``length`` tokens in the
    prefill unit, decoding sequences with ``length`` tokens of context in the other. Where a unit
    has more GPUs than the model has routed experts, redundant and shared experts fill the rest: it
    is computed as a model of one expert per GPU, of which a token visits one more.
    """
    calibration, model = default_calibration(DEPLOYMENT_GPU), load_model(DEPLOYMENT_MODEL)
    if unit.ep > model.experts:
        model = _one_expert_per_gpu(model, unit.ep)
    precision = model.checkpoint.precision
    layout = Layout(tp=unit.tp, ep=unit.ep, dp=unit.dp, sp=True)
    weights = weight_bytes(model, precision, tp=unit.tp, ep=unit.ep)
    base = weights + RUNTIME_RESERVE_BYTES + float(activation_bytes(model, batch=0, tp=unit.tp))
    free = UTILISATION * capacity_of(calibration) - base
    steps = []
    for batch in batches:
        load = (
            Load(prompts=batch, prompt_len=length)
            if unit.role == "prefill"
            else Load(decodes=batch, context=length)
        )
        median, reason = None, None
        try:
            median = step_time(
                calibration, model, load, precision=precision, kv_precision="bf16", layout=layout
            ).median_s
        except RoofprobeError as error:
            reason = error.sentence
        least = _least(calibration, model, load, precision, layout)
        tokens = float(load.tokens) / unit.tp
        network = _network_s(model, load, precision, layout)
        steps.append(UnitStep(batch, tokens, median, least, network, reason))
    return UnitModel(
        unit,
        model.experts / unit.ep,
        experts_of(model)[1],
        weights,
        math.floor(free / kv_bytes_per_token(model, tp=unit.tp)),
        tuple(steps),
    )


def _network_s(model: ModelShape, load: Load, precision: str, layout: Layout) -> float:
    ops = step_ops(model, load, precision=precision, kv_precision="bf16", layout=layout)
    sent = sum(float(op.count * op.shape["bytes"]) for op in ops if op.op == "all_to_all")
    return sent / (DEPLOYMENT_NETWORK_GBPS * 1e9)


def experts_of(model: ModelShape) -> tuple[int, int]:
    """Return how many routed experts a layer has and how many a token visits; (0, 0) if dense."""
    found = [layer.mlp for layer, _ in model.layer_groups if isinstance(layer.mlp, MoeMlp)]
    return max(((mlp.experts, mlp.topk) for mlp in found), default=(0, 0))


def visited_experts(model: ModelShape, tokens: float) -> float:
    """Return how many experts of a layer ``tokens`` visit on average if all are as likely."""
    experts, topk = experts_of(model)
    return float(experts * (1 - (1 - topk / experts) ** tokens))


def _one_expert_per_gpu(model: ModelShape, gpus: int) -> ModelShape:
    def spread(mlp: Any) -> Any:
        if not isinstance(mlp, MoeMlp):
            return mlp
        shared = mlp.shared_inter // mlp.inter
        return replace(mlp, experts=gpus, topk=mlp.topk + shared, shared_inter=0)

    layers = tuple(replace(layer, mlp=spread(layer.mlp)) for layer in model.layer_sequence)
    return replace(model, layer_sequence=layers)


def case_of(calibration: Calibration, **case: Any) -> Planned:
    """Return a case as the sizing functions take it."""
    return Planner(capacity_of(calibration)).plan(PlanCase(**case))
