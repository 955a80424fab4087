"""The layers of a model from its config: attention, window and MLP of each, by the named rules.

`WINDOWS` and `EXPERT_LAYERS` hold the rules that need more than one field of a config, under the
names by which the table of architectures calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

from roofprobe.costmodel.architectures import Architecture
from roofprobe.costmodel.config_fields import LARGEST_CONTEXT, MOST_LAYERS, Fields
from roofprobe.costmodel.model_shape import (
    Attention,
    DenseMlp,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    Mlp,
    MoeMlp,
)
from roofprobe.peaks.names import shown

#: Words in "layer_types" and whether such a layer has a window; other words are other attention.
LAYER_TYPES: Final = {"full_attention": False, "sliding_attention": True}


def layer_sequence(fields: Fields, row: Architecture, layers: int) -> tuple[Layer, ...]:
    """The layers in order; raises `RoofprobeError` where the config contradicts itself."""
    # Some configs write 0 for none.
    window = fields.optional("sliding_window", least=0, most=LARGEST_CONTEXT) or None
    windowed = _windowed(fields, row, layers)
    if window is None and any(windowed):
        # Without a size no layer has a window, unless the config names such layers itself.
        if fields.raw("layer_types") is not None:
            fields.fail("'layer_types' has sliding layers, but 'sliding_window' has no size")
        windowed = [False] * layers
    attention: dict[bool, Attention] = {
        has: _attention(fields, row, window if has else None) for has in set(windowed)
    }
    with_experts = EXPERT_LAYERS[row.moe](fields, layers)
    mlp: dict[bool, Mlp] = {
        has: (_experts if has else _dense)(fields, row) for has in set(with_experts)
    }
    made = {
        (w, e): Layer(attention[w], mlp[e], row.norms)
        for w, e in set(zip(windowed, with_experts, strict=True))
    }
    return tuple(made[key] for key in zip(windowed, with_experts, strict=True))


def _attention(fields: Fields, row: Architecture, window: int | None) -> Attention:
    heads = fields.whole("heads")
    if row.attention == "mla":
        if window is not None:
            fields.fail("latent attention with a sliding window is not known")
        return LatentAttention(
            heads=heads,
            q_rank=fields.optional("q_lora_rank"),
            kv_rank=fields.whole("kv_lora_rank"),
            rope_dim=fields.whole("qk_rope_head_dim"),
            nope_dim=fields.whole("qk_nope_head_dim"),
            v_dim=fields.whole("v_head_dim"),
            bias=fields.flag("attention_bias"),
        )
    kv_heads = fields.whole("kv_heads", default=heads)
    if heads % kv_heads:
        fields.fail(
            f"{heads} query heads cannot share {kv_heads} heads of keys and values evenly "
            f"({fields.name('heads')!r} and {fields.name('kv_heads')!r} contradict each other)"
        )
    return GroupedQueryAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_head_dim(fields, heads),
        window=window,
        qkv_bias=fields.flag(row.qkv_bias),
        out_bias=fields.flag(row.out_bias),
        qk_norm=_qk_norm(fields, row),
        sinks=row.sinks,
    )


def _head_dim(fields: Fields, heads: int) -> int:
    found = fields.optional("head_dim")
    if found is not None:
        return found
    hidden = fields.whole("hidden")
    if hidden % heads:
        fields.fail(
            f"the width {hidden} is no multiple of the {heads} heads, and 'head_dim' is missing"
        )
    return hidden // heads


def _qk_norm(fields: Fields, row: Architecture) -> Literal["none", "head", "all"]:
    known = QK_NORMS.get(row.qk_norm)
    return known or ("head" if fields.flag(row.qk_norm) else "none")


def _dense(fields: Fields, row: Architecture) -> DenseMlp:
    # GPT-2 has no field for the usual width.
    usual = None if row.gated else 4 * fields.whole("hidden")
    return DenseMlp(fields.whole("inter", default=usual), row.gated, fields.flag(row.mlp_bias))


def _experts(fields: Fields, row: Architecture) -> MoeMlp:
    experts, topk = fields.whole("experts", most=1_000_000), fields.whole("topk", most=1_000_000)
    if topk > experts:
        fields.fail(f"each token visits {topk} experts, but there are only {experts}")
    inter = fields.whole("expert_inter")
    return MoeMlp(
        experts=experts,
        topk=topk,
        inter=inter,
        shared_inter=SHARED[row.shared](fields, inter),
        gated=row.gated,
        bias=row.expert_bias,
        router_bias=row.router_bias,
        correction_bias=row.correction_bias,
        shared_gate=row.shared_gate,
    )


QK_NORMS: Final[Mapping[str, Literal["none", "head", "all"]]] = {
    "none": "none",
    "head": "head",
    "all": "all",
}
SHARED: Final[Mapping[str, Callable[[Fields, int], int]]] = {
    "none": lambda fields, inter: 0,
    "count": lambda fields, inter: inter * (fields.optional("shared_count", least=0) or 0),
    "width": lambda fields, inter: fields.whole("shared_inter", least=0),
}


def _windowed(fields: Fields, row: Architecture, layers: int) -> list[bool]:
    types = fields.texts("layer_types")
    if not types:
        return WINDOWS[row.window](fields, layers)
    if len(types) != layers:
        fields.fail(f"'layer_types' names {len(types)} layers, but there are {layers}")
    strange = sorted(set(types) - set(LAYER_TYPES))
    if strange and row.unmodelled is None:
        fields.fail(
            f"layers of the type {shown(strange[0])} are not known, "
            f"only {' and '.join(LAYER_TYPES)}"
        )
    return [LAYER_TYPES.get(word, False) for word in types]


def _all(fields: Fields, layers: int) -> list[bool]:
    return [True] * layers


def _none(fields: Fields, layers: int) -> list[bool]:
    return [False] * layers


def _alternating(fields: Fields, layers: int) -> list[bool]:
    return [layer % 2 == 0 for layer in range(layers)]


def _pattern(fields: Fields, layers: int) -> list[bool]:
    every = fields.whole("sliding_window_pattern", most=MOST_LAYERS)
    return [(layer + 1) % every != 0 for layer in range(layers)]


def _after_max_window_layers(fields: Fields, layers: int) -> list[bool]:
    if not fields.flag("use_sliding_window"):
        return [False] * layers
    first = fields.whole("max_window_layers", least=0, default=0)
    return [layer >= first for layer in range(layers)]


def _after_first_k(fields: Fields, layers: int) -> list[bool]:
    listed = fields.raw("moe_layer_freq")
    if isinstance(listed, list):
        # Some configs list 1 or 0 for each layer instead.
        if len(listed) != layers or not all(has in (0, 1) for has in listed):
            fields.fail(f"'moe_layer_freq' must be a number, or {layers} times 0 or 1")
        return [bool(has) for has in listed]
    first = fields.whole("first_k_dense_replace", least=0, default=0)
    every = fields.whole("moe_layer_freq", default=1)
    return [layer >= first and layer % every == 0 for layer in range(layers)]


def _where_counted(fields: Fields, layers: int) -> list[bool]:
    counted = fields.optional("experts", least=0)
    return _after_first_k(fields, layers) if counted else [False] * layers


def _sparse_step(fields: Fields, layers: int) -> list[bool]:
    every = fields.whole("decoder_sparse_step", default=1)
    dense = fields.raw("mlp_only_layers") or []
    if not isinstance(dense, list) or not all(type(layer) is int for layer in dense):
        fields.fail("'mlp_only_layers' must be a list of layer numbers")
    without = set(dense)
    return [layer not in without and (layer + 1) % every == 0 for layer in range(layers)]


WINDOWS: Final[Mapping[str, Callable[[Fields, int], list[bool]]]] = {
    "none": _none,
    "all": _all,
    "alternating": _alternating,
    "pattern": _pattern,
    "after_max_window_layers": _after_max_window_layers,
}
EXPERT_LAYERS: Final[Mapping[str, Callable[[Fields, int], list[bool]]]] = {
    "none": _none,
    "all": _all,
    "after_first_k": _after_first_k,
    "sparse_step": _sparse_step,
    "where_counted": _where_counted,
}
