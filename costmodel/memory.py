"""What a served model occupies on each GPU: weights, KV cache, activations, and what is kept free.

Weights (`weight_memory`) and cache (`kv_cache`) follow from the shape. Figures are for the GPU that
holds most, since that one decides what fits; bytes are decimal.

What no config says are named constants: `UTILISATION` of the memory is used at all (the default of
vLLM's gpu_memory_utilization), of which `RUNTIME_RESERVE_BYTES` go to the runtime, graphs and
communication buffers. With the activations of a step these are about the 4 GB that reproduced
public single-GPU serving limits; published capacity formulas miss activations by a factor of two
and more, so they are an estimate and named so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from roofprobe.costmodel.kv_cache import KV_BYTES, counts, kv_bytes_per_token, kv_cache_bytes
from roofprobe.costmodel.model_shape import GroupedQueryAttention, Layer, ModelShape, MoeMlp
from roofprobe.costmodel.parallelism import split_of
from roofprobe.costmodel.weight_memory import stored_as, weight_bytes
from roofprobe.peaks.names import shown
from roofprobe.records.errors import RoofprobeError

__all__ = [
    "KV_BYTES",
    "RULE_BYTES",
    "RUNTIME_RESERVE_BYTES",
    "STEP_TOKENS",
    "UTILISATION",
    "Memory",
    "activation_bytes",
    "kv_bytes_per_token",
    "kv_cache_bytes",
    "load_time_s",
    "max_batch",
    "memory_of",
    "require_fit",
    "rule_of_thumb_bytes",
    "stored_as",
    "weight_bytes",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Share of a GPU's memory that an engine takes (vLLM's default for gpu_memory_utilization).
UTILISATION: Final = 0.9
#: Driver context, captured graphs, communication buffers, fragmentation.
RUNTIME_RESERVE_BYTES: Final = 3_000_000_000
#: Tokens of one step at most (vLLM's max_num_batched_tokens on data-centre GPUs).
STEP_TOKENS: Final = 8192
#: Copies of the hidden state alive at once: residual, normalised input, output.
HIDDEN_COPIES: Final = 3
#: Bytes of an activation (16-bit) and of a logit with its 32-bit copy for sampling.
ACTIVATION_BYTES: Final = 2
LOGIT_BYTES: Final = 6
#: Founding notes, "memory of inference": bytes per parameter. Training counts weights, gradients,
#: optimizer states and activations.
RULE_BYTES: Final = {
    ("inference", "fp16"): 2,
    ("inference", "bf16"): 2,
    ("inference", "fp8"): 1,
    ("training", "fp16"): 20,
    ("training", "bf16"): 20,
    ("training", "fp8"): 10,
}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the GPU that holds most, one value per case; ``gpus`` of them serve one copy."""

    weights_bytes: int
    kv_cache_bytes: FloatArray
    activations_bytes: FloatArray
    reserve_bytes: int
    gpus: int

    @property
    def per_gpu_bytes(self) -> FloatArray:
        """Everything on the GPU that holds most."""
        held = self.weights_bytes + self.kv_cache_bytes + self.activations_bytes
        return held + self.reserve_bytes

    @property
    def total_bytes(self) -> FloatArray:
        """Everything on all GPUs of one copy, each taken as full as the fullest."""
        return self.per_gpu_bytes * self.gpus


def activation_bytes(
    shape: ModelShape, *, batch: npt.ArrayLike = 1, step_tokens: int = STEP_TOKENS, tp: int = 1
) -> FloatArray:
    """Estimate of what one step needs besides weights and cache, one value per batch.

    The widest point of a layer, for ``step_tokens`` tokens (or one per sequence, if those are
    more): the hidden states, and the larger of attention's and the MLP's intermediates; then the
    logits of one token per sequence.
    """
    split = split_of(shape, tp)
    widest = max(_widest_values(layer, split.tp) for layer, _ in shape.layer_groups)
    per_token = (HIDDEN_COPIES * shape.hidden + widest) * ACTIVATION_BYTES
    sequences = counts("batch", batch)
    tokens = np.maximum(sequences, step_tokens)
    return np.asarray(tokens * per_token + sequences * _logit_bytes(shape, split.tp))


def _widest_values(layer: Layer, tp: int) -> int:
    a, mlp = layer.attention, layer.mlp
    if isinstance(a, GroupedQueryAttention):
        # Queries, keys, values and the output of attention.
        attention = (2 * a.heads // tp + 2 * -(-a.kv_heads // tp)) * a.head_dim
    else:
        head = 2 * (a.nope_dim + a.rope_dim) + 2 * a.v_dim
        attention = a.heads // tp * head + (a.q_rank or 0) + a.kv_rank + a.rope_dim
    inter = mlp.inter
    if isinstance(mlp, MoeMlp):
        inter = max(mlp.topk * inter, mlp.shared_inter)
    # Gate and up, and their product.
    return max(attention, (3 if mlp.gated else 2) * -(-inter // tp))


def _logit_bytes(shape: ModelShape, tp: int) -> int:
    return -(-shape.vocab // tp) * LOGIT_BYTES


def memory_of(
    shape: ModelShape,
    *,
    context_len: npt.ArrayLike,
    batch: npt.ArrayLike = 1,
    precision: str | None = None,
    kv_precision: str = "bf16",
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    step_tokens: int = STEP_TOKENS,
) -> Memory:
    """Memory of cases: ``batch`` sequences that hold ``context_len`` tokens each."""
    return Memory(
        weights_bytes=weight_bytes(shape, precision, tp=tp, pp=pp, ep=ep),
        kv_cache_bytes=kv_cache_bytes(
            shape, kv_precision, context_len=context_len, batch=batch, tp=tp, pp=pp
        ),
        activations_bytes=activation_bytes(shape, batch=batch, step_tokens=step_tokens, tp=tp),
        reserve_bytes=RUNTIME_RESERVE_BYTES,
        gpus=max(tp, ep) * pp,
    )


def max_batch(
    shape: ModelShape,
    capacity_bytes: float,
    *,
    context_len: npt.ArrayLike,
    precision: str | None = None,
    kv_precision: str = "bf16",
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    step_tokens: int = STEP_TOKENS,
) -> IntArray:
    """How many sequences of ``context_len`` tokens fit on GPUs of ``capacity_bytes``; 0 if none.

    At most ``step_tokens``, since a step decodes one token of each.
    """
    if not 0 < capacity_bytes < float("inf"):
        raise RoofprobeError(
            "bad-capacity", "The memory of a GPU must be a number of bytes above 0."
        )
    base = activation_bytes(shape, batch=0, step_tokens=step_tokens, tp=tp)
    weights = weight_bytes(shape, precision, tp=tp, pp=pp, ep=ep)
    free = UTILISATION * capacity_bytes - RUNTIME_RESERVE_BYTES - base - weights
    each = kv_cache_bytes(shape, kv_precision, context_len=context_len, tp=tp, pp=pp)
    fitting = np.floor(np.maximum(free, 0) / (each + _logit_bytes(shape, tp)))
    return np.asarray(np.minimum(fitting, step_tokens).astype(np.int64))


def require_fit(
    shape: ModelShape,
    capacity_bytes: float,
    *,
    context_len: int,
    precision: str | None = None,
    kv_precision: str = "bf16",
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
) -> int:
    """`max_batch` of one case; raises `RoofprobeError` with the sums if not one sequence fits."""
    split: dict[str, Any] = {"precision": precision, "tp": tp, "pp": pp, "ep": ep}
    fitting = int(
        max_batch(
            shape, capacity_bytes, context_len=context_len, kv_precision=kv_precision, **split
        )
    )
    if fitting:
        return fitting
    needs = memory_of(shape, context_len=context_len, kv_precision=kv_precision, **split)
    raise RoofprobeError(
        "does-not-fit",
        f"{shape.name} does not fit on GPUs of {capacity_bytes / 1e9:.0f} GB at tp={tp}, pp={pp}, "
        f"ep={ep}: each needs {needs.weights_bytes / 1e9:.1f} GB of weights, "
        f"{float(needs.kv_cache_bytes) / 1e9:.2f} GB of KV cache for one sequence of "
        f"{context_len:,} tokens, and {float(needs.activations_bytes) / 1e9:.1f} + "
        f"{needs.reserve_bytes / 1e9:.1f} GB of activations and reserve, but "
        f"{UTILISATION * capacity_bytes / 1e9:.1f} GB are used; take more GPUs, a narrower "
        "precision or a shorter context.",
    )


def rule_of_thumb_bytes(parameters: float, precision: str, purpose: str = "inference") -> float:
    """The founding notes' rule: bytes per parameter by precision, for inference or training.

    Raises `RoofprobeError` for what the notes give no figure for.
    """
    if (purpose, precision) not in RULE_BYTES:
        known = "; ".join(f"{use} in {word}" for use, word in RULE_BYTES)
        raise RoofprobeError(
            "unknown-precision",
            f"There is no rule for {shown(str(purpose))} in {shown(str(precision))}, only {known}.",
        )
    return parameters * RULE_BYTES[purpose, precision]


def load_time_s(weights_bytes: npt.ArrayLike, link_gbps: npt.ArrayLike) -> FloatArray:
    """Seconds to bring weights through a link of ``link_gbps`` (10^9 bytes per second): cold start.

    Raises `RoofprobeError` for a link that carries nothing.
    """
    rate = np.asarray(link_gbps, dtype=np.float64)
    if not np.all(np.isfinite(rate) & (rate > 0)):
        raise RoofprobeError("bad-rate", "A link's rate must be a number of GB/s above 0.")
    return np.asarray(np.asarray(weights_bytes, dtype=np.float64) / (rate * 1e9))
