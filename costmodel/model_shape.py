"""The shape of a language model: every size that decides its bytes and its operations, no weights.

A decoder layer is attention followed by an MLP. Two kinds of attention differ in what they cache:
grouped-query attention (GQA; MHA and MQA are its ends) caches ``2 x kv_heads x head_dim`` values
per token, multi-head latent attention (MLA) one compressed vector of ``kv_rank + rope_dim`` that
all heads share (DeepSeek-V2, arXiv 2405.04434, section 2.1). A layer with a window keeps only the
last ``window`` tokens. An MLP is dense, or a mixture of experts (MoE) of which each token visits
``topk`` and, where there are any, all shared ones.

Layers of one model may differ (dense first layers, alternating windows), so a shape lists them all
in order; equal layers are equal values, and `ModelShape.layer_groups` counts them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GroupedQueryAttention:
    """Attention with ``kv_heads`` heads of keys and values, each shared by heads / kv_heads.

    ``window`` is the number of tokens that a query sees, itself included; ``None`` means all.
    ``qk_norm`` says whether queries and keys are normalised, and over a head or over all heads.
    ``sinks`` is one learnt logit per head (gpt-oss).
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: Literal["none", "head", "all"] = "none"
    sinks: bool = False

    @property
    def kind(self) -> Literal["gqa"]:
        """The word for this kind of attention."""
        return "gqa"


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention: keys and values are stored as one vector per token.

    ``q_rank`` is ``None`` where queries are not compressed (DeepSeek-V2-Lite).
    """

    heads: int
    q_rank: int | None
    kv_rank: int
    rope_dim: int
    nope_dim: int
    v_dim: int
    bias: bool = False
    window: None = None

    @property
    def kind(self) -> Literal["mla"]:
        """The word for this kind of attention."""
        return "mla"


@dataclass(frozen=True, slots=True)
class DenseMlp:
    """One MLP for all tokens: up (and gate, where ``gated``) to ``inter``, and down again."""

    inter: int
    gated: bool = True
    bias: bool = False

    @property
    def kind(self) -> Literal["dense"]:
        """The word for this kind of MLP."""
        return "dense"


@dataclass(frozen=True, slots=True)
class MoeMlp:
    """A router and ``experts`` MLPs of width ``inter``; each token visits ``topk`` of them.

    ``shared_inter`` is the width of all shared experts together (0: none), which every token
    visits. ``correction_bias`` is one number per expert that only steers the routing.
    """

    experts: int
    topk: int
    inter: int
    shared_inter: int = 0
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    correction_bias: bool = False
    shared_gate: bool = False

    @property
    def kind(self) -> Literal["moe"]:
        """The word for this kind of MLP."""
        return "moe"


Attention = GroupedQueryAttention | LatentAttention
Mlp = DenseMlp | MoeMlp


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer; ``norms`` is how many normalisations as wide as the model it holds."""

    attention: Attention
    mlp: Mlp
    norms: int = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How the published weights are stored.

    ``precision`` is that of the quantised matrices, a key of `weight_formats.FORMATS`; ``base``
    that of everything else. ``kept`` names the modules that stay in ``base``, as the checkpoint's
    config spells them. ``block`` is the (outputs, inputs) that share a scale, where the config
    says it. ``head_quantised``: the matrix to logits is narrow too, which is rare.
    ``zero_points``: formats that may have them do.
    """

    precision: str = "bf16"
    base: str = "bf16"
    kept: tuple[str, ...] = ()
    block: tuple[int, int] | None = None
    head_quantised: bool = False
    zero_points: bool = True

    @property
    def quantised(self) -> bool:
        """Whether some matrices are narrower than the rest."""
        return self.precision != self.base


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """A vision or audio encoder: a model of which there is only a prefill, and no cache.

    ``tokens`` is how many it processes at most at once for one input (patches of an image of the
    configured size, frames of a full audio window); ``None`` where the config sets no size.
    ``input_width`` is the values per patch or frame that the first projection reads,
    ``mergers`` how many MLPs bring ``merged_width`` values to ``output_width`` for the decoder.
    """

    kind: Literal["vision", "audio"]
    hidden: int
    layers: int
    heads: int
    inter: int
    gated: bool
    input_width: int
    tokens: int | None
    mergers: int = 0
    merged_width: int = 0
    output_width: int = 0

    @property
    def head_dim(self) -> int:
        """The width of a head."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder-only language model.

    ``learned_positions`` is the rows of a table of position embeddings (0: rotary or none).
    ``approximate`` is the sentence that says what was not modelled, ``None`` for a supported
    architecture. ``source`` says where the sizes were read.
    """

    name: str
    architecture: str
    hidden: int
    vocab: int
    layer_sequence: tuple[Layer, ...]
    tied_embeddings: bool
    norm_bias: bool = False
    learned_positions: int = 0
    max_context: int | None = None
    checkpoint: Checkpoint = Checkpoint()
    encoders: tuple[EncoderShape, ...] = ()
    approximate: str | None = None
    source: str = ""

    @property
    def layers(self) -> int:
        """The number of decoder layers."""
        return len(self.layer_sequence)

    @property
    def layer_groups(self) -> tuple[tuple[Layer, int], ...]:
        """Each different layer and how many of it there are, in order of first appearance."""
        return _groups(self.layer_sequence)

    @property
    def heads(self) -> int:
        """The most query heads of any layer."""
        return max(layer.attention.heads for layer in self.layer_sequence)

    @property
    def experts(self) -> int:
        """The most routed experts of any layer; 0 for a dense model."""
        return max(
            layer.mlp.experts if isinstance(layer.mlp, MoeMlp) else 0
            for layer in self.layer_sequence
        )


@functools.lru_cache(maxsize=256)
def _groups(layers: tuple[Layer, ...]) -> tuple[tuple[Layer, int], ...]:
    counts: dict[Layer, int] = {}
    for layer in layers:
        counts[layer] = counts.get(layer, 0) + 1
    return tuple(counts.items())
