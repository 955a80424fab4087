"""The weights of a model as a list: which matrices there are, and how GPUs split each.

Parameter counts, bytes, and the sizes that one GPU holds all come from this list, so that they
cannot disagree. Tensor parallelism (Megatron-LM, arXiv 1909.08053) gives each GPU whole heads and
a slice of every MLP: matrices that widen are split along their outputs, those that narrow along
their inputs, the latent projections of MLA, routers and norms are on every GPU. Heads of keys and
values are copied once there are fewer of them than GPUs. Expert parallelism gives whole experts.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from roofprobe.costmodel.model_shape import (
    DenseMlp,
    EncoderShape,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    ModelShape,
    MoeMlp,
)


@dataclass(frozen=True, slots=True)
class Weight:
    """A matrix y = W x of ``outputs`` x ``inputs``, or a vector (inputs 1).

    ``module`` is its name below its layer. ``split`` is the side that tensor parallelism divides,
    in ``units`` (heads, columns) that stay whole. ``copies`` are experts, ``active`` those that
    one token visits. ``narrow`` says whether quantising reaches it. ``lookup`` marks a table of
    which a token reads one row.
    """

    module: str
    outputs: int
    inputs: int = 1
    bias: bool = False
    split: Literal["outputs", "inputs"] | None = None
    units: int = 1
    copies: int = 1
    active: int = 1
    narrow: bool = False
    lookup: bool = False

    @property
    def values(self) -> int:
        """Parameters of one copy, bias included."""
        return self.outputs * (self.inputs + self.bias)

    def share(self, degree: int) -> tuple[int, int, int]:
        """Outputs, inputs and bias values of one copy on one of ``degree`` GPUs."""
        bias = self.outputs * self.bias
        if self.split is None or degree == 1:
            return self.outputs, self.inputs, bias
        local = -(-self.units // degree)
        if self.split == "outputs":
            outputs = self.outputs // self.units * local
            return outputs, self.inputs, outputs * self.bias
        return self.outputs, self.inputs // self.units * local, bias


@functools.lru_cache(maxsize=1024)
def layer_weights(layer: Layer, hidden: int, norm_bias: bool = False) -> tuple[Weight, ...]:
    """The weights of one decoder layer of a model ``hidden`` wide."""
    attention = (
        _latent_attention(layer.attention, hidden)
        if isinstance(layer.attention, LatentAttention)
        else _grouped_query_attention(layer.attention, hidden)
    )
    mlp = (
        _experts(layer.mlp, hidden)
        if isinstance(layer.mlp, MoeMlp)
        else _gated("mlp", layer.mlp, hidden)
    )
    norms = [Weight(f"norm_{n}", hidden, bias=norm_bias) for n in range(layer.norms)]
    return (*attention, *mlp, *norms)


def _grouped_query_attention(a: GroupedQueryAttention, hidden: int) -> Iterator[Weight]:
    for name, heads in (("q", a.heads), ("k", a.kv_heads), ("v", a.kv_heads)):
        yield Weight(
            f"self_attn.{name}_proj",
            heads * a.head_dim,
            hidden,
            bias=a.qkv_bias,
            split="outputs",
            units=heads,
            narrow=True,
        )
    yield Weight(
        "self_attn.o_proj",
        hidden,
        a.heads * a.head_dim,
        bias=a.out_bias,
        split="inputs",
        units=a.heads,
        narrow=True,
    )
    if a.qk_norm == "head":
        yield Weight("self_attn.q_norm", a.head_dim)
        yield Weight("self_attn.k_norm", a.head_dim)
    if a.qk_norm == "all":
        yield Weight("self_attn.q_norm", a.heads * a.head_dim, split="outputs", units=a.heads)
        yield Weight("self_attn.k_norm", a.kv_heads * a.head_dim, split="outputs", units=a.kv_heads)
    if a.sinks:
        yield Weight("self_attn.sinks", a.heads, split="outputs", units=a.heads)


def _latent_attention(a: LatentAttention, hidden: int) -> Iterator[Weight]:
    queries = a.heads * (a.nope_dim + a.rope_dim)
    heads = {"split": "outputs", "units": a.heads, "narrow": True}
    if a.q_rank is None:
        yield Weight("self_attn.q_proj", queries, hidden, **heads)  # type: ignore[arg-type]
    else:
        yield Weight("self_attn.q_a_proj", a.q_rank, hidden, bias=a.bias, narrow=True)
        yield Weight("self_attn.q_a_layernorm", a.q_rank)
        yield Weight("self_attn.q_b_proj", queries, a.q_rank, **heads)  # type: ignore[arg-type]
    compressed = a.kv_rank + a.rope_dim
    yield Weight("self_attn.kv_a_proj_with_mqa", compressed, hidden, bias=a.bias, narrow=True)
    yield Weight("self_attn.kv_a_layernorm", a.kv_rank)
    expanded = a.heads * (a.nope_dim + a.v_dim)
    yield Weight("self_attn.kv_b_proj", expanded, a.kv_rank, **heads)  # type: ignore[arg-type]
    yield Weight(
        "self_attn.o_proj",
        hidden,
        a.heads * a.v_dim,
        bias=a.bias,
        split="inputs",
        units=a.heads,
        narrow=True,
    )


def _gated(
    module: str, mlp: DenseMlp, hidden: int, copies: int = 1, active: int = 1
) -> Iterator[Weight]:
    for name in ("gate_proj", "up_proj") if mlp.gated else ("up_proj",):
        yield Weight(
            f"{module}.{name}",
            mlp.inter,
            hidden,
            bias=mlp.bias,
            split="outputs",
            units=mlp.inter,
            copies=copies,
            active=active,
            narrow=True,
        )
    yield Weight(
        f"{module}.down_proj",
        hidden,
        mlp.inter,
        bias=mlp.bias,
        split="inputs",
        units=mlp.inter,
        copies=copies,
        active=active,
        narrow=True,
    )


def _experts(mlp: MoeMlp, hidden: int) -> Iterator[Weight]:
    yield Weight("mlp.gate", mlp.experts, hidden, bias=mlp.router_bias)
    if mlp.correction_bias:
        yield Weight("mlp.gate.e_score_correction_bias", mlp.experts)
    expert = DenseMlp(mlp.inter, mlp.gated, mlp.bias)
    yield from _gated("mlp.experts", expert, hidden, mlp.experts, mlp.topk)
    if mlp.shared_inter:
        shared = DenseMlp(mlp.shared_inter, mlp.gated)
        # With a gate of its own there is one, and its module is called in the singular.
        name = "mlp.shared_expert" if mlp.shared_gate else "mlp.shared_experts"
        yield from _gated(name, shared, hidden)
    if mlp.shared_gate:
        yield Weight("mlp.shared_expert_gate", 1, hidden)


def first_weights(shape: ModelShape) -> tuple[Weight, ...]:
    """What stands before the layers: the table of embeddings, and of positions if there is one."""
    table = Weight(
        "model.embed_tokens",
        shape.vocab,
        shape.hidden,
        split="outputs",
        units=shape.vocab,
        lookup=True,
    )
    if not shape.learned_positions:
        return (table,)
    return table, Weight(
        "model.embed_positions", shape.learned_positions, shape.hidden, lookup=True
    )


def last_weights(shape: ModelShape) -> tuple[Weight, ...]:
    """What stands after the layers: the final norm and the matrix to logits, tied or not."""
    return (
        Weight("model.norm", shape.hidden, bias=shape.norm_bias),
        Weight(
            "lm_head",
            shape.vocab,
            shape.hidden,
            split="outputs",
            units=shape.vocab,
            narrow=shape.checkpoint.head_quantised,
        ),
    )


@functools.lru_cache(maxsize=256)
def parameters(shape: ModelShape) -> int:
    """All parameters of the language model; tied embeddings count once, encoders do not count."""
    ends = [*first_weights(shape), *last_weights(shape)]
    tied = shape.vocab * shape.hidden if shape.tied_embeddings else 0
    layers = sum(
        count * weight.values * weight.copies
        for layer, count in shape.layer_groups
        for weight in layer_weights(layer, shape.hidden, shape.norm_bias)
    )
    return sum(weight.values for weight in ends) - tied + layers


@functools.lru_cache(maxsize=256)
def active_parameters(shape: ModelShape) -> int:
    """Parameters that take part in one token: topk experts, the shared ones, the head to logits.

    Tables of embeddings are not counted: a token reads one row of them. OpenAI counts its models
    so (gpt-oss model card, arXiv 2508.10925, table 1); others add the table, see
    `embedding_parameters`.
    """
    layers = sum(
        count * weight.values * weight.active
        for layer, count in shape.layer_groups
        for weight in layer_weights(layer, shape.hidden, shape.norm_bias)
    )
    return layers + sum(weight.values for weight in last_weights(shape))


def embedding_parameters(shape: ModelShape) -> int:
    """Parameters of the tables that a token reads one row of, tied or not."""
    return sum(weight.values for weight in first_weights(shape))


def encoder_parameters(encoder: EncoderShape) -> int:
    """Parameters of an encoder: its projection from patches or frames, its layers, its mergers.

    Position tables and projectors of a single small matrix are left out (a few percent at most);
    every matrix is taken to have a bias, and a layer two norms with bias.
    """
    h, inter = encoder.hidden, encoder.inter
    attention = 4 * h * (h + 1)
    mlp = (2 if encoder.gated else 1) * inter * (h + 1) + h * (inter + 1)
    wide = encoder.merged_width
    merger = wide * (wide + 1) + encoder.output_width * (wide + 1)
    layers = encoder.layers * (attention + mlp + 4 * h)
    return h * (encoder.input_width + 1) + layers + encoder.mergers * merger
