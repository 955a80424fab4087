"""Bytes of a model's weights on one GPU: every matrix in its precision, with its scales.

In a narrow checkpoint embeddings, norms, routers and (unless the checkpoint says otherwise) the
matrix to logits stay in the base precision, and so do the modules that the checkpoint names. The
figure is that of the pipeline stage that holds most.
"""

from __future__ import annotations

import functools

from roofprobe.costmodel.checkpoints import kept_wide
from roofprobe.costmodel.model_shape import Checkpoint, Layer, ModelShape
from roofprobe.costmodel.parallelism import Split, split_of, stage_bounds
from roofprobe.costmodel.weight_formats import FORMATS, matrix_bytes, weight_format
from roofprobe.costmodel.weights import (
    Weight,
    encoder_parameters,
    first_weights,
    last_weights,
    layer_weights,
)


def stored_as(shape: ModelShape, precision: str | None) -> Checkpoint:
    """How weights are stored in ``precision``: the checkpoint's own where it is that or ``None``.

    Raises `RoofprobeError` for an unknown precision.
    """
    own = shape.checkpoint
    if precision is None or precision == own.precision:
        return own
    if not weight_format(precision).narrow:
        return Checkpoint(precision, precision)
    base = own.base if not FORMATS[own.base].narrow else "bf16"
    return Checkpoint(precision, base, own.kept)


@functools.lru_cache(maxsize=1024)
def weight_bytes(
    shape: ModelShape, precision: str | None = None, *, tp: int = 1, pp: int = 1, ep: int = 1
) -> int:
    """Bytes of weights on the GPU that holds most; ``precision`` ``None``: as published.

    Raises `RoofprobeError` for an unknown precision or a split that the model does not allow.
    """
    split, stored = split_of(shape, tp, pp, ep), stored_as(shape, precision)
    layers = [_layer_bytes(shape, n, stored, split) for n in range(shape.layers)]
    stages = [sum(layers[start:end]) for start, end in stage_bounds(shape.layers, split.pp)]
    stages[0] += sum(_bytes(w, w.module, stored, split) for w in first_weights(shape))
    stages[0] += sum(map(encoder_parameters, shape.encoders)) * FORMATS[stored.base].bits // 8
    # The last stage needs its own copy of tied embeddings.
    tied = shape.tied_embeddings and split.pp == 1
    stages[-1] += sum(
        _bytes(w, w.module, stored, split)
        for w in last_weights(shape)
        if not (tied and w.module == "lm_head")
    )
    return max(stages)


@functools.lru_cache(maxsize=1024)
def wide_parts(shape: ModelShape, precision: str, layer: Layer) -> frozenset[str]:
    """Which of ``attention``, ``mlp``, ``experts``, ``shared`` compute wide in a narrow checkpoint.

    A part does whose matrices the checkpoint keeps in its base precision, by the first such layer.
    """
    stored = stored_as(shape, precision)
    if not (stored.kept and stored.quantised):
        return frozenset()
    kept = kept_wide(stored.kept)
    before = f"model.layers.{shape.layer_sequence.index(layer)}."
    parts: dict[str, list[bool]] = {}
    for weight in layer_weights(layer, shape.hidden, shape.norm_bias):
        if weight.narrow:
            parts.setdefault(_part(weight), []).append(kept(before + weight.module))
    return frozenset(part for part, wide in parts.items() if all(wide))


def _part(weight: Weight) -> str:
    if weight.module.startswith("self_attn."):
        return "attention"
    if "shared" in weight.module:
        return "shared"
    return "experts" if weight.copies > 1 else "mlp"


def _layer_bytes(shape: ModelShape, number: int, stored: Checkpoint, split: Split) -> int:
    weights = layer_weights(shape.layer_sequence[number], shape.hidden, shape.norm_bias)
    if not stored.kept:  # without names of modules, equal layers have equal bytes
        return _equal_layer_bytes(weights, stored, split)
    before = f"model.layers.{number}."
    return sum(_bytes(weight, before + weight.module, stored, split) for weight in weights)


@functools.lru_cache(maxsize=256)
def _equal_layer_bytes(weights: tuple[Weight, ...], stored: Checkpoint, split: Split) -> int:
    return sum(_bytes(weight, weight.module, stored, split) for weight in weights)


def _bytes(weight: Weight, module: str, stored: Checkpoint, split: Split) -> int:
    expert = weight.copies > 1
    outputs, inputs, bias = weight.share(split.expert_tp if expert else split.tp)
    copies = -(-weight.copies // split.ep) if expert else 1
    narrow = weight.narrow and stored.quantised and not kept_wide(stored.kept)(module)
    precision = stored.precision if narrow else stored.base
    block = stored.block if narrow else None
    matrix = matrix_bytes(precision, outputs, inputs, block, zero_points=stored.zero_points)
    return copies * (matrix + bias * FORMATS[stored.base].bits // 8)
