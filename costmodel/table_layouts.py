"""How tables of others are laid out: which rows are which operation, and where its shape stands.

Two families of layouts are known. One names the operation in ``op_name`` (or has a ``gemm_dtype``)
and its shape in columns; the other names it in ``table`` (``gemm/h20``, ``mha/decode``) and has a
head geometry in columns or in ``shape_key`` ("32-8-128"). Times are in ``latency_ms`` or
``latency_us``: the unit is the column's, never guessed. A grouped matrix product may come as
``up_proj_us`` and ``down_proj_us``, which are added.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pandas as pd

# Names of number formats in tables → ours. Absent: not modelled, the rows are left out and told.
DTYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bfloat16": "bf16", "bf16": "bf16", "float16": "fp16", "half": "fp16", "fp16": "fp16",
        "float32": "fp32", "fp32": "fp32", "fp8": "fp8", "fp8_e4m3": "fp8",
        "fp8_block": "fp8-block", "fp8-block": "fp8-block", "int8": "int8", "sq": "int8",
        "int4": "int4", "int4_wo": "int4", "nvfp4": "nvfp4", "mxfp8": "mxfp8",
    }
)  # fmt: skip

LATENCY_S: Final[Mapping[str, float]] = MappingProxyType(
    {"latency_ms": 1e-3, "latency_us": 1e-6, "latency_s": 1.0}
)

# What a system is called in tables whose ``device`` does not tell → catalogue key.
SYSTEMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "h100_sxm": "nvidia_h100_sxm5_80gb", "h100": "nvidia_h100_sxm5_80gb",
        "h100_pcie": "nvidia_h100_pcie_80gb", "h200_sxm": "nvidia_h200_sxm_141gb",
        "h200": "nvidia_h200_sxm_141gb", "b200_sxm": "nvidia_b200", "b200": "nvidia_b200",
        "gb200": "nvidia_gb200", "gb200_sxm": "nvidia_gb200", "a100_sxm": "nvidia_a100_sxm4_80gb",
        "a100_pcie": "nvidia_a100_pcie_80gb", "l40s": "nvidia_l40s",
        "rtx_pro_6000_server": "nvidia_rtx_pro_6000_blackwell_server",
        "h20": "nvidia_h20_96gb", "h800": "nvidia_h800_sxm5_80gb",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """One operation in one layout.

    ``tables`` are words of ``table``, ``op_name`` the word there; ``shape`` maps our keywords to
    columns that are needed, ``key`` to the numbers of ``shape_key``. ``offsets`` are added (a step
    is the KV length before this token). ``dtype`` and ``kv_dtype`` are columns; ``fixed_dtype``
    is what a table without them holds, ``kernel`` what ran where no column tells. ``widths`` are
    keywords that a table has in elements of ``dtype`` and we in bytes.
    """

    op: str
    shape: Mapping[str, str]
    op_name: str | None = None
    tables: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    offsets: Mapping[str, float] = field(default_factory=dict)
    dtype: str | None = None
    kv_dtype: str | None = None
    fixed_dtype: str | None = None
    kernel: str | None = None
    widths: tuple[str, ...] = ()


_AIC_HEADS: Final = {
    "heads": "num_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim",
}  # fmt: skip
_HEADS: Final = ("heads", "kv_heads", "head_dim")

LAYOUTS: Final[tuple[Layout, ...]] = (
    Layout("gemm", {"m": "m", "n": "n", "k": "k"}, op_name="gemm", dtype="gemm_dtype"),
    Layout("attention_prefill",
           {"batch": "batch_size", "query_len": "isl", "kv_len": "isl+step", **_AIC_HEADS},
           op_name="context_attention", dtype="attn_dtype", kv_dtype="kv_cache_dtype"),
    Layout("attention_decode", {"batch": "batch_size", "kv_len": "step", **_AIC_HEADS},
           op_name="generation_attention", offsets={"kv_len": 1}, dtype="attn_dtype",
           kv_dtype="kv_cache_dtype"),
    Layout("grouped_gemm",
           {"tokens": "num_tokens", "experts": "num_experts", "topk": "topk",
            "hidden": "hidden_size", "inter": "inter_size/moe_tp_size",
            "local_experts": "num_experts/moe_ep_size"},
           op_name="moe", dtype="moe_dtype"),
    Layout("all_reduce", {"bytes": "message_size", "ranks": "num_gpus"}, op_name="all_reduce",
           dtype="allreduce_dtype", widths=("bytes",)),
    *(Layout(op, {"bytes": "message_size", "ranks": "num_gpus"}, op_name=name,
             dtype="nccl_dtype", widths=("bytes",))
      for op, name in (("all_reduce", "all_reduce"), ("all_gather", "all_gather"),
                       ("reduce_scatter", "reduce_scatter"), ("all_to_all", "alltoall"))),
    Layout("gemm", {"m": "m", "n": "n", "k": "k"}, tables=("gemm",), dtype="dtype"),
    Layout("attention_decode", {"batch": "batch_size", "kv_len": "kv_len"},
           tables=("mha", "decode"), key=_HEADS, dtype="dtype", kv_dtype="kv_dtype"),
    Layout("attention_prefill", {"query_len": "seq_len", "kv_len": "seq_len"},
           tables=("mha", "prefill"), key=_HEADS, dtype="dtype"),
    Layout("mla_decode", {"batch": "batch_size", "kv_len": "kv_len"}, tables=("mla", "decode"),
           key=("heads", "kv_rank", "rope_dim"), dtype="dtype", kv_dtype="kv_dtype"),
    Layout("mla_prefill", {"query_len": "seq_len", "kv_len": "seq_len"},
           tables=("mla", "prefill"), key=("heads", "nope_dim", "rope_dim"), dtype="dtype"),
    Layout("grouped_gemm",
           {"tokens": "batch_size_per_gpu*num_gpus", "experts": "num_experts", "topk": "topk",
            "hidden": "hidden_size", "inter": "intermediate_size",
            "local_experts": "num_local_experts"},
           tables=("grouped_gemm", "decode"), dtype="dtype", fixed_dtype="fp8-block",
           kernel="DeepGEMM masked"),
    Layout("grouped_gemm",
           {"tokens": "seq_len_per_gpu*num_gpus", "experts": "num_experts", "topk": "topk",
            "hidden": "hidden_size", "inter": "intermediate_size",
            "local_experts": "num_local_experts"},
           tables=("grouped_gemm", "prefill"), dtype="dtype", fixed_dtype="fp8-block",
           kernel="DeepGEMM contiguous"),
)  # fmt: skip

# What else a row must say where it has the column, per operation, and why others are left out.
ONLY: Final[Mapping[str, tuple[Mapping[str, str], str]]] = MappingProxyType(
    {
        "distribution": ({"grouped_gemm": "balanced"}, "only balanced routing is modelled"),
        "backend": ({"all_reduce": "_graph"}, "times of eager calls contain the host's"),
    }
)
# Bytes per element of message data types.
ELEMENT_BYTES: Final[Mapping[str, float]] = MappingProxyType(
    {"half": 2.0, "float16": 2.0, "bfloat16": 2.0, "int8": 1.0, "float32": 4.0}
)

# Shape keywords that a table may leave away, and what is then meant.
MEANT: Final[Mapping[str, float]] = MappingProxyType({"batch": 1.0, "kv_rank": 512.0})


def words_of(table: str) -> tuple[str, ...]:
    """Return the words of a ``table`` cell: "gemm/h20", "mha_decode_bf16" → its parts.

    A known name may contain an underscore itself (``grouped_gemm``).
    """
    text = table.replace("grouped_gemm", "grouped-gemm")
    return tuple(
        part.replace("grouped-gemm", "grouped_gemm") for part in text.replace("_", "/").split("/")
    )


def column(frame: pd.DataFrame, expression: str) -> pd.Series | None:
    """Return a column, or "a+b", "a*b", "a/b" of two; None where one is missing."""
    for sign, combine in (("+", operator.add), ("*", operator.mul), ("/", operator.truediv)):
        if sign in expression:
            first, second = (column(frame, name) for name in expression.split(sign))
            if first is None or second is None:
                return None
            combined: pd.Series = combine(first, second)
            return combined
    if expression not in frame.columns:
        return None
    return numeric(frame[expression])


def numeric(values: pd.Series) -> pd.Series:
    """Return a column as numbers, NaN where a cell is none or beyond what a float holds."""
    import pandas as pd

    try:
        found: pd.Series = pd.to_numeric(values, errors="coerce")
    except OverflowError:  # a whole number of hundreds of digits
        found = values.map(_float).astype(float)
    return found.astype(float) if found.dtype in (bool, object) else found


def _float(value: object) -> float:
    try:
        return float(str(value))
    except (ValueError, OverflowError):
        return float("nan")
