"""Bytes of the KV cache on one GPU: what each token leaves behind in every layer.

Grouped-query attention keeps ``2 x kv_heads_local x head_dim`` values per token and layer, with
kv_heads_local = ceil(kv_heads / tp), never below 1: heads are copied once there are fewer of them
than GPUs. Latent attention keeps ``kv_rank + rope_dim`` values, which all heads share, so every
GPU keeps all of them (DeepSeek-V2, arXiv 2405.04434, section 2.1). A layer with a window keeps no
more tokens than the window. The figure is that of the pipeline stage that holds most.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import numpy.typing as npt

from roofprobe.costmodel.config_fields import LARGEST_CONTEXT
from roofprobe.costmodel.model_shape import GroupedQueryAttention, Layer, ModelShape
from roofprobe.costmodel.parallelism import split_of, stage_bounds
from roofprobe.peaks.names import shown
from roofprobe.records.errors import RoofprobeError

FloatArray = npt.NDArray[np.float64]

#: Bytes of one cached value.
KV_BYTES: Final = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}


def kv_bytes_per_token(
    shape: ModelShape, kv_precision: str = "bf16", *, tp: int = 1, pp: int = 1
) -> int:
    """Bytes that one more token takes on the GPU that holds most, before any window is full.

    Raises `RoofprobeError` for an unknown precision or a split that the model does not allow.
    """
    return max(sum(stage.values()) for stage in _kv_by_window(shape, kv_precision, tp, pp))


def kv_cache_bytes(
    shape: ModelShape,
    kv_precision: str = "bf16",
    *,
    context_len: npt.ArrayLike,
    batch: npt.ArrayLike = 1,
    tp: int = 1,
    pp: int = 1,
) -> FloatArray:
    """KV cache of ``batch`` sequences of ``context_len`` tokens each, arrays of one shape.

    Layers with a window keep at most the window. Raises `RoofprobeError` for lengths or batches
    that are no counts.
    """
    tokens, sequences = counts("context_len", context_len), counts("batch", batch)
    stages = [
        sum(
            (np.minimum(tokens, window) * float(size) for window, size in stage.items()),
            start=np.zeros_like(tokens),
        )
        for stage in _kv_by_window(shape, kv_precision, tp, pp)
    ]
    return np.asarray(functools.reduce(np.maximum, stages) * sequences)


@functools.lru_cache(maxsize=1024)
def _kv_by_window(
    shape: ModelShape, kv_precision: str, tp: int, pp: int
) -> tuple[dict[float, int], ...]:
    """For each stage: bytes per token by the most tokens that are kept."""
    split = split_of(shape, tp, pp)
    if kv_precision not in KV_BYTES:
        raise RoofprobeError(
            "unknown-precision",
            f"A KV cache in precision {shown(str(kv_precision))} is not known; "
            f"use one of {', '.join(KV_BYTES)}.",
        )
    stages = []
    for start, end in stage_bounds(shape.layers, split.pp):
        sizes: dict[float, int] = {}
        for layer in shape.layer_sequence[start:end]:
            window = float("inf") if layer.attention.window is None else layer.attention.window
            size = _kv_values(layer, tp) * KV_BYTES[kv_precision]
            sizes[window] = sizes.get(window, 0) + size
        stages.append(sizes)
    return tuple(stages)


def _kv_values(layer: Layer, tp: int) -> int:
    attention = layer.attention
    if isinstance(attention, GroupedQueryAttention):
        return 2 * -(-attention.kv_heads // tp) * attention.head_dim
    return attention.kv_rank + attention.rope_dim


def counts(name: str, values: npt.ArrayLike) -> FloatArray:
    """Whole numbers from 0 to `LARGEST_CONTEXT` as floats; raises `RoofprobeError` otherwise."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.array(np.nan)
    good = (array >= 0) & (array <= LARGEST_CONTEXT) & (array == np.floor(array))
    if not np.all(good):
        raise RoofprobeError(
            "bad-length",
            f"{name} must hold whole numbers from 0 to {LARGEST_CONTEXT:,} and nothing else.",
        )
    return array
