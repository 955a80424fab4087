"""The operations of one step of a language model, with the shapes that one GPU of a layout runs.

A step is one forward pass: ``prompts`` sequences of ``prompt_len`` new tokens behind ``prefix_len``
cached ones, together with ``decodes`` sequences of one new token each that see ``context`` tokens.
Either part may be empty, so the same inventory serves prefill, decode and the mixed steps of
continuous batching, in which all tokens share each matrix product: the weights are read once.

**Tensor parallelism** divides n of the column-parallel products (qkv, gate_up, lm_head) and k of
the row-parallel ones (o, down); after each of the latter an all-reduce of m x H (Megatron-LM,
arXiv 1909.08053). KV heads are divided as far as there are any: ``max(1, kv_heads / tp)``. With
sequence parallelism the all-reduce becomes a reduce-scatter and an all-gather of the same bytes,
and the norms between them run on m / tp rows (arXiv 2205.05198).

**Experts.** With ep <= tp the tokens of a replica are on all its GPUs, each computes its experts'
share, and the all-reduce adds up. With ep > tp the experts span ep / tp replicas, whose tokens are
dispatched and combined by two all-to-alls. Weights of untouched experts are not read.

**Pipeline.** A token passes all stages one after another: the step is as long, plus pp - 1 sends.

**MLA** (arXiv 2405.04434): prefill expands keys and values (``kv_b``) and attends with them; decode
absorbs both halves of ``kv_b`` into the query and the output and attends to the compressed cache,
which every GPU of a tensor-parallel group holds whole.

**Cache.** Attention reads the KV cache; the step's new keys and values are copied into it first, an
element-wise operation of its own.

**Implementation.** The inventory is a fused serving engine's, unless an `Implementation` says which
of these operations its code splits, adds or copies.

Not counted: biases, the host's work between steps, expanding a cached prefix under MLA.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from roofprobe.costmodel.forms import FORMATS, KV_BYTES, FloatArray
from roofprobe.costmodel.implementations import FUSED, Implementation
from roofprobe.costmodel.model_shape import (
    DenseMlp,
    EncoderShape,
    GroupedQueryAttention,
    LatentAttention,
    ModelShape,
    MoeMlp,
)
from roofprobe.costmodel.ops import Op
from roofprobe.costmodel.weight_memory import wide_parts

# Activations, logits and what crosses links are 16 bits wide, but for models that run in fp32.
_COMPUTE: Final = {"fp32": "fp32", "fp16": "fp16"}
# Formats whose activations are converted before each product. int8 and the block-scaled ones too;
# int4 is weight-only.
QUANTISED: Final = ("fp8", "fp8-block", "int8", "mxfp8", "nvfp4")


def compute_precision(precision: str) -> str:
    """Return the precision of attention and activations beside weights of ``precision``."""
    return _COMPUTE.get(precision, "bf16")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model is spread, arrays or numbers per case: degrees of parallelism."""

    tp: Any = 1
    pp: Any = 1
    ep: Any = 1
    dp: Any = 1
    sp: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What one replica processes in a step; arrays or numbers per case, averages may be fractions.

    ``context`` is the tokens that a decoding sequence sees, its newest included.
    """

    prompts: Any = 0.0
    prompt_len: Any = 1.0
    prefix_len: Any = 0.0
    decodes: Any = 0.0
    context: Any = 1.0

    @property
    def tokens(self) -> FloatArray:
        """New tokens of the step: rows of every matrix product."""
        tokens: FloatArray = np.asarray(self.prompts, dtype=float) * self.prompt_len + self.decodes
        return tokens


@dataclass(frozen=True, slots=True)
class _Setting:
    """What the parts of a step share: arrays per case and the precisions."""

    model: ModelShape
    precision: str
    kv_precision: str
    layout: Layout
    load: Load
    separate_quantise: bool
    code: Implementation = FUSED

    @property
    def compute(self) -> str:
        return compute_precision(self.precision)

    def of(self, part: str, wide: frozenset[str]) -> _Setting:
        """Return the setting of a part, which a narrow checkpoint may keep ``wide``."""
        return replace(self, precision=self.compute) if part in wide else self

    @property
    def width_bytes(self) -> float:
        return FORMATS[self.compute].output_bytes

    @property
    def rows(self) -> FloatArray:
        return np.maximum(self.load.tokens, 1.0)

    def gemm(
        self, name: str, n: Any, k: Any, count: Any, precision: str | None = None
    ) -> Iterator[Op]:
        """Yield a product of all rows, and the quantisation of its input if that is separate."""
        chosen = precision or self.precision
        yield Op(name, "gemm", chosen, {"m": self.rows, "n": n, "k": k}, count)
        if self.separate_quantise and chosen in QUANTISED:
            shape = {"rows": self.rows, "width": k}
            yield Op(f"{name}_quantize", "quantize", self.compute, shape, count)

    def kv_write(self, rows: Any, width: Any, count: int) -> Op:
        """Copy new keys and values into the cache: as they are, or narrowed to one byte."""
        narrow = KV_BYTES[self.kv_precision] == 1
        return self.rowwise("kv_write", "quantize" if narrow else "rope", rows, width, count)

    def rowwise(self, name: str, op: str, rows: Any, width: Any, count: Any) -> Op:
        return Op(name, op, self.compute, {"rows": np.maximum(rows, 1.0), "width": width}, count)


def step_ops(
    model: ModelShape,
    load: Load,
    *,
    precision: str,
    kv_precision: str,
    layout: Layout = Layout(),
    separate_quantise: bool = False,
    implementation: Implementation = FUSED,
) -> tuple[Op, ...]:
    """Return the operations of one step on one GPU of each pipeline stage, all stages together.

    ``separate_quantise`` adds the conversion of activations that a calibration's product does not
    contain. Operations that a case does not have are counted 0 times.
    """
    s = _Setting(model, precision, kv_precision, layout, load, separate_quantise, implementation)
    ops: list[Op] = []
    for layer, count in model.layer_groups:
        wide = wide_parts(model, precision, layer)
        ops += _attention_block(s.of("attention", wide), layer.attention, count)
        ops += _mlp_block(s, layer.mlp, count, wide)
        ops += _between(s, layer.mlp, layer.norms, count)
    ops += _end(s)
    return tuple(ops)


def _attention_block(s: _Setting, a: Any, count: int) -> Iterator[Op]:
    if isinstance(a, LatentAttention):
        yield from _latent(s, a, count)
    else:
        yield from _grouped_query(s, a, count)


def _grouped_query(s: _Setting, a: GroupedQueryAttention, count: int) -> Iterator[Op]:
    hidden = s.model.hidden
    heads = np.ceil(a.heads / np.asarray(s.layout.tp, dtype=float))
    kv_heads = np.maximum(1.0, np.ceil(a.kv_heads / np.asarray(s.layout.tp, dtype=float)))
    if s.code.split:
        for name, own in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            yield from s.gemm(name, own * a.head_dim, hidden, count)
    else:
        yield from s.gemm("qkv", (heads + 2 * kv_heads) * a.head_dim, hidden, count)
    if a.qk_norm != "none":
        # Reads and writes 16 bits, half of what a norm with its residual moves.
        rows = s.rows * (heads + kv_heads) / 2
        yield s.rowwise("qk_norm", "rmsnorm", rows, a.head_dim, count)
    if not s.model.learned_positions:
        if s.code.split:
            for own in (heads, kv_heads):
                yield s.rowwise("rope", "rope", s.rows, own * a.head_dim, count)
        else:
            yield s.rowwise("rope", "rope", s.rows * (heads + kv_heads), a.head_dim, count)
    yield from _cached(s, a, kv_heads, count)
    common = {"heads": heads, "kv_heads": kv_heads, "head_dim": a.head_dim}
    load = s.load
    total = np.asarray(load.prompt_len, dtype=float) + load.prefix_len
    batch, query, seen = _windowed(load.prompts, load.prompt_len, total, a.window)
    shape = {"batch": batch, "query_len": query, "kv_len": seen, **common}
    yield Op("attention", "attention_prefill", s.compute, shape,
             count * (np.asarray(load.prompts) > 0), s.kv_precision)  # fmt: skip
    context = np.minimum(load.context, a.window) if a.window else load.context
    shape = {"batch": np.maximum(load.decodes, _LEAST), "kv_len": context, **common}
    yield Op("attention", "attention_decode", s.compute, shape,
             count * (np.asarray(load.decodes) > 0), s.kv_precision)  # fmt: skip
    yield from s.gemm("o", hidden, heads * a.head_dim, count)


def _cached(s: _Setting, a: GroupedQueryAttention, kv_heads: Any, count: int) -> Iterator[Op]:
    """Yield what brings new keys and values into the cache."""
    if s.code.cache == "write":
        yield s.kv_write(s.rows * 2 * kv_heads, a.head_dim, count)
        return
    load, width = s.load, 2 * kv_heads * a.head_dim
    prompts, decodes = (np.asarray(x, dtype=float) for x in (load.prompts, load.decodes))
    seen = np.asarray(load.prompt_len, dtype=float) + load.prefix_len
    yield s.rowwise("kv_write", "kv_store", prompts * seen, width, count * (prompts > 0))
    yield s.rowwise("kv_write", "kv_append", decodes * load.context, width, count * (decodes > 0))


_LEAST: Final = 1e-9


def _windowed(
    prompts: Any, query_len: Any, kv_len: Any, window: int | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (batch, query_len, kv_len) of full causal attention with the pairs of a windowed one.

    A prompt of s tokens that each see at most w is s/w blocks of w queries over 1.5w - w²/2s keys:
    w·s - w²/2 pairs in all.
    """
    batch = np.maximum(np.asarray(prompts, dtype=float), _LEAST)
    query, seen = np.asarray(query_len, dtype=float), np.asarray(kv_len, dtype=float)
    if window is None:
        return batch, query, seen
    cut = seen > window
    blocks = np.where(cut, np.maximum(query / window, 1.0), 1.0)
    part = np.where(cut, query / blocks, query)
    # A prefix longer than the window lets every block see a full window before it.
    fresh = np.where(seen > query, 0.0, window**2 / (2 * np.maximum(query, 1.0)))
    keys = np.where(cut, np.maximum(part, window + part / 2 - fresh), seen)
    return batch * blocks, part, keys


def _latent(s: _Setting, a: LatentAttention, count: int) -> Iterator[Op]:
    hidden, load = s.model.hidden, s.load
    heads = np.ceil(a.heads / np.asarray(s.layout.tp, dtype=float))
    queries = heads * (a.nope_dim + a.rope_dim)
    compressed = a.kv_rank + a.rope_dim
    if a.q_rank is None:
        yield from s.gemm("q", queries, hidden, count)
        yield from s.gemm("kv_a", compressed, hidden, count)
    else:
        yield from s.gemm("q_a_kv_a", a.q_rank + compressed, hidden, count)
        yield s.rowwise("q_norm", "rmsnorm", s.rows / 2, a.q_rank, count)
        yield from s.gemm("q_b", queries, a.q_rank, count)
    yield s.rowwise("kv_norm", "rmsnorm", s.rows / 2, a.kv_rank, count)
    yield s.rowwise("rope", "rope", s.rows * (heads + 1), a.rope_dim, count)
    yield s.kv_write(s.rows, compressed, count)
    # The two halves of kv_b: applied to keys and values in prefill, absorbed in decode.
    yield from s.gemm("kv_b", heads * (a.nope_dim + a.v_dim), a.kv_rank, count, s.compute)
    common = {"heads": heads, "kv_rank": a.kv_rank, "rope_dim": a.rope_dim}
    shape = {
        "batch": np.maximum(np.asarray(load.prompts, dtype=float), _LEAST),
        "query_len": load.prompt_len,
        "kv_len": np.asarray(load.prompt_len, dtype=float) + load.prefix_len,
        "nope_dim": a.nope_dim,
        "v_dim": a.v_dim,
        **common,
    }
    yield Op("attention", "mla_prefill", s.compute, shape,
             count * (np.asarray(load.prompts) > 0), s.kv_precision)  # fmt: skip
    shape = {"batch": np.maximum(load.decodes, _LEAST), "kv_len": load.context, **common}
    yield Op("attention", "mla_decode", s.compute, shape,
             count * (np.asarray(load.decodes) > 0), s.kv_precision)  # fmt: skip
    yield from s.gemm("o", hidden, heads * a.v_dim, count)


def _mlp_block(s: _Setting, mlp: Any, count: int, wide: frozenset[str]) -> Iterator[Op]:
    if isinstance(mlp, MoeMlp):
        yield from _experts(s, mlp, count, wide)
    else:
        yield from _dense(s.of("mlp", wide), "", mlp.inter, mlp.gated, count)


def _dense(s: _Setting, prefix: str, inter: int, gated: bool, count: int) -> Iterator[Op]:
    local = inter / np.asarray(s.layout.tp, dtype=float)
    if s.code.split and gated:
        for name in ("gate", "up"):
            yield from s.gemm(f"{prefix}{name}", local, s.model.hidden, count)
    else:
        up = "gate_up" if gated else "up"
        yield from s.gemm(f"{prefix}{up}", (1 + gated) * local, s.model.hidden, count)
    # Without a gate one operand less is read: 4 instead of 6 bytes per element.
    width = local if gated else local * 2 / 3
    yield s.rowwise(f"{prefix}act", "silu_mul", s.rows, width, count)
    yield from s.gemm(f"{prefix}down", s.model.hidden, local, count)


def _experts(s: _Setting, mlp: MoeMlp, count: int, wide: frozenset[str]) -> Iterator[Op]:
    hidden = s.model.hidden
    tp, ep = (np.asarray(x, dtype=float) for x in (s.layout.tp, s.layout.ep))
    yield from s.gemm("router", mlp.experts, hidden, count, s.compute)
    # The class counts a gated expert, three matrices; one without a gate has two.
    inter = (mlp.inter if mlp.gated else mlp.inter * 2 / 3) / np.maximum(tp / ep, 1.0)
    shape = {
        "tokens": s.rows * np.maximum(ep / tp, 1.0),
        "experts": mlp.experts,
        "topk": mlp.topk,
        "hidden": hidden,
        "inter": inter,
        "local_experts": mlp.experts / ep,
    }
    yield Op("experts", "grouped_gemm", s.of("experts", wide).precision, shape, count)
    if mlp.shared_inter:
        yield from _dense(s.of("shared", wide), "shared_", mlp.shared_inter, mlp.gated, count)
    # A rank sends each of its tokens to at most topk others, there and back.
    sent = s.rows / tp * np.minimum(mlp.topk, ep) * hidden * s.width_bytes
    yield Op("dispatch_combine", "all_to_all", s.compute, {"bytes": sent, "ranks": ep},
             2 * count * (ep > tp))  # fmt: skip


def _between(s: _Setting, mlp: DenseMlp | MoeMlp, norms: int, count: int) -> Iterator[Op]:
    """Yield norms, and what joins the parts of a tensor-parallel layer."""
    tp, ep = (np.asarray(x, dtype=float) for x in (s.layout.tp, s.layout.ep))
    rows = s.rows / tp if s.layout.sp else s.rows
    yield s.rowwise("norm", "rmsnorm", rows, s.model.hidden, norms * count)
    if s.code.adds:
        yield s.rowwise("add", "add", rows, s.model.hidden, s.code.adds * count)
    message = {"bytes": s.rows * s.model.hidden * s.width_bytes, "ranks": tp}
    # Where all-to-alls combine the experts, only attention is left to be added up.
    joins = np.where((ep > tp) & isinstance(mlp, MoeMlp), 1, 2) * count * (tp > 1)
    names = ("reduce_scatter", "all_gather") if s.layout.sp else ("all_reduce",)
    for name in names:
        yield Op(name, name, s.compute, message, joins)


def _end(s: _Setting) -> Iterator[Op]:
    """Yield the look-up, last norm, logits of each sequence's newest token, sampling, sends."""
    tp, pp = (np.asarray(x, dtype=float) for x in (s.layout.tp, s.layout.pp))
    hidden, vocab = s.model.hidden, s.model.vocab
    sequences = np.maximum(np.asarray(s.load.prompts, dtype=float) + s.load.decodes, 1.0)
    # A row of the table is read and written, as many bytes as rotating it would move.
    yield s.rowwise("embed", "embed" if s.code.split else "rope", s.rows, hidden, 1)
    if s.code.angles and isinstance(s.model.layer_sequence[0].attention, GroupedQueryAttention):
        positions = np.where(np.asarray(s.load.prompts) > 0, s.load.prompt_len, 1.0)
        width = s.model.layer_sequence[0].attention.head_dim
        yield s.rowwise("angles", "angles", positions, width, 1)
    yield s.rowwise("final_norm", "rmsnorm", s.rows, hidden, 1)
    # A strided slice of a prompt's states is multiplied sequence by sequence (torch's matmul folds
    # no dimension whose folding would copy), each time reading all weights.
    single = s.code.strided_head & (np.asarray(s.load.prompts) > 0)
    shape = {"m": np.where(single, 1.0, sequences), "n": np.ceil(vocab / tp), "k": hidden}
    yield Op("lm_head", "gemm", s.compute, shape, np.where(single, sequences, 1.0))
    yield Op("logits", "all_gather", s.compute,
             {"bytes": sequences * vocab * s.width_bytes, "ranks": tp}, 1 * (tp > 1))  # fmt: skip
    yield s.rowwise("sample", "sample", sequences, vocab, 1)
    sent = {"bytes": s.rows * hidden * s.width_bytes / (tp if s.layout.sp else 1), "ranks": 2}
    yield Op("stage", "p2p", s.compute, sent, pp - 1)


def encoder_ops(encoder: EncoderShape, inputs: Any, tokens: Any, *, precision: str,
                tp: Any = 1, separate_quantise: bool = False) -> tuple[Op, ...]:  # fmt: skip
    """Return the operations of one pass of an encoder: a prefill in which all tokens see all.

    ``inputs`` images or windows of ``tokens`` patches or frames each; there is no cache, no
    vocabulary and no decode.
    """
    layout = Layout(tp=tp)
    load = Load(prompts=inputs, prompt_len=tokens)
    model = ModelShape("encoder", "encoder", encoder.hidden, 1, (), tied_embeddings=True)
    s = _Setting(model, precision, compute_precision(precision), layout, load, separate_quantise)
    heads = np.ceil(encoder.heads / np.asarray(tp, dtype=float))
    ops = list(s.gemm("patches", encoder.hidden, encoder.input_width, 1, s.compute))
    ops += s.gemm("qkv", 3 * heads * encoder.head_dim, encoder.hidden, encoder.layers)
    # Full attention has q·s pairs, causal q·(2s - q)/2: 1.5 s keys count the same.
    shape = {
        "batch": inputs, "query_len": tokens, "kv_len": 1.5 * np.asarray(tokens, dtype=float),
        "heads": heads, "kv_heads": heads, "head_dim": encoder.head_dim,
    }  # fmt: skip
    ops.append(
        Op("attention", "attention_prefill", s.compute, shape, encoder.layers, s.kv_precision)
    )
    ops += s.gemm("o", encoder.hidden, heads * encoder.head_dim, encoder.layers)
    ops += _dense(s, "", encoder.inter, encoder.gated, encoder.layers)
    ops += _between(s, DenseMlp(encoder.inter), 2, encoder.layers)
    return tuple(ops)
