"""The systems tree of aiconfigurator: one YAML with the machine, Parquet tables with times.

    DIR/<system>.yaml
    DIR/data/<system>/gemm/vllm/0.24.0/gemm_perf.parquet
    DIR/data/<system>/attention/vllm/0.24.0/{context,generation}_attention_perf.parquet
    DIR/data/<system>/moe/vllm/0.24.0/moe_perf.parquet              where experts can be timed
    DIR/data/<system>/comm/vllm/0.24.0/custom_allreduce_perf.parquet   where a link is known
    DIR/data/<system>/comm/nccl/2.27.3/nccl_perf.parquet
    DIR/models/<name>/config.json             of presets, for its --model-path

and ``collection_meta.yaml`` beside each table. Latency is in **milliseconds**, message sizes are in
**elements**, and a generation ``step`` is the KV length **before** the new token (kv_len - 1).
Readers take 64-bit types only, refuse a table with one missing value, and take the first of two
rows with one key, so keys are unique here. A precision, a KV precision or a (KV heads, head size)
that has no row stops the planner; hence the tables hold the local shapes of every model and
tensor-parallel degree that was asked for, measured rows as they are and the rest of the grid from
the calibrated model. ``points.csv`` says which is which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from roofprobe.costmodel.exporters.aiconfigurator_system import NCCL, system_yaml
from roofprobe.costmodel.exporters.checkpoint_configs import CLASSES, config_files
from roofprobe.costmodel.exporters.files import Export, csv_bytes
from roofprobe.costmodel.exporters.parquet import parquet_bytes
from roofprobe.costmodel.exporters.subject import Subject, Timed, local_ops, timed
from roofprobe.costmodel.models import LatentAttention, ModelShape, MoeMlp
from roofprobe.records.errors import RoofprobeError

# The slots that aiconfigurator 0.12.0 reads by default.
BACKEND: Final = "vllm"
VERSION: Final = "0.24.0"

# Our precisions → gemm_dtype and moe_dtype. fp16 and fp32 have no name there: where bf16 was never
# timed (a processor's engine computes in fp32), the subject's `Subject.base` goes by bfloat16.
GEMM_DTYPES: Final = {
    "bf16": "bfloat16", "fp8": "fp8", "fp8-block": "fp8_block", "int8": "sq", "int4": "int4_wo",
    "nvfp4": "nvfp4",
}  # fmt: skip
MOE_DTYPES: Final = {
    "bf16": "bfloat16", "fp8": "fp8", "fp8-block": "fp8_block", "nvfp4": "nvfp4",
}  # fmt: skip
KV_DTYPES: Final = {"bf16": "bfloat16", "fp8": "fp8"}
BASE: Final = "bfloat16"
# Tokens spread evenly over experts. The planner asks for a power law, which no probe times, and
# takes rows of this name where there is none; it never looks for "balanced", which its own
# collector writes beside the power laws (aic-core, perf_database/moe.rs).
ROUTING: Final = "uniform"

# Powers of two and what lies between: the planner blends linearly between neighbours.
M: Final = (
    1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072,
    4096, 6144, 8192, 12288, 16384, 24576, 32768,
)  # fmt: skip
QUERIES: Final = (
    1, 16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384,
    24576, 32768,
)  # fmt: skip
PROMPTS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
SEQUENCES: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
CONTEXTS: Final = tuple(int(2 ** (half / 2)) for half in range(2, 35))  # 2 to 131,072
TOKENS: Final = (
    1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096,
    6144, 8192, 12288, 16384,
)  # fmt: skip
MESSAGES: Final = tuple(2**power for power in range(7, 29))  # elements
RANKS: Final = (2, 4, 8)
_MOST_PROMPT_TOKENS: Final = 1 << 18
_MOST_CACHED_TOKENS: Final = 1 << 25


def export(subject: Subject) -> Export:
    """Return the tree of ``subject``.

    Raises ``RoofprobeError`` (``nothing-to-export``) where a table that the planner cannot do
    without would be empty.
    """
    label = subject.label
    tables: dict[str, dict[str, tuple[str, Sequence[Any]]]] = {}
    parts: list[tuple[str, Timed]] = []
    notes: list[str] = []
    for path, make in _TABLES.items():
        made = make(subject)
        if not made:
            if path in _NEEDED:
                raise RoofprobeError(
                    "nothing-to-export",
                    f"{subject.source} cannot time {_NEEDED[path]}, without which aiconfigurator "
                    "plans nothing; measure it with `probe all`",
                )
            notes.append(f"{path} is not there: {_WITHOUT[path]}")
            continue
        tables[path] = _joined([columns for columns, _ in made])
        parts += [(path, rows) for _, rows in made]
    files: dict[str, bytes] = {f"{label}.yaml": system_yaml(subject).encode()}
    for path, columns in tables.items():
        files[f"data/{label}/{path}.parquet"] = parquet_bytes(columns)
    for folder in {path.rsplit("/", 1)[0] for path in tables}:
        names = [path.rsplit("/", 1)[1] for path in tables if path.startswith(folder + "/")]
        files[f"data/{label}/{folder}/collection_meta.yaml"] = _meta(folder, names).encode()
    files["points.csv"] = _points(parts)
    files.update(config_files(subject, CLASSES))
    notes += _unserved(subject)
    if subject.base != "bf16":
        notes.append(
            "products and attention were never both timed in bf16, so the rows named bfloat16 are "
            f"those of {subject.base}; compare with `probe plan --precision {subject.base} "
            f"--kv-precision {subject.base}`"
        )
    measured = sum(int(rows.measured.sum()) for _, rows in parts)
    total = sum(len(rows) for _, rows in parts)
    return Export(files, measured, total - measured, tuple(notes))


def _unserved(subject: Subject) -> list[str]:
    """Say which models the planner has no tables of here."""
    latent = [
        model.name
        for model in subject.models
        if any(isinstance(layer.attention, LatentAttention) for layer in model.layer_sequence)
    ]
    return [
        f"{name} has latent attention, whose tables are not written (they time its projections "
        "along, which a calibration has apart): do not ask for it, whatever is answered"
        for name in latent
    ]


_Columns = dict[str, tuple[str, Sequence[Any]]]
_Part = tuple[_Columns, Timed]


def _head(subject: Subject, op_name: str, rows: Timed) -> _Columns:
    n = len(rows)
    return {
        "framework": ("text", ["VLLM"] * n),
        "version": ("text", [VERSION] * n),
        "device": ("text", [subject.calibration.hardware.name] * n),
        "op_name": ("text", [op_name] * n),
        "kernel_source": ("text", [rows.kernel or "roofprobe"] * n),
    }


def _whole(values: Any) -> list[int]:
    return [int(value) for value in np.round(np.asarray(values))]


def _text(word: str, rows: Timed) -> tuple[str, list[str]]:
    return "text", [word] * len(rows)


def _constant(value: int, rows: Timed) -> tuple[str, list[int]]:
    return "integer", [value] * len(rows)


def _latency(rows: Timed) -> tuple[str, list[float]]:
    return "float", [float(value) * 1e3 for value in rows.seconds]


def _gemm(subject: Subject) -> list[_Part]:
    parts = []
    sites = list(local_ops(subject, "gemm"))
    dtypes = {**GEMM_DTYPES, subject.base: BASE}
    for precision in subject.precisions("gemm"):
        if precision not in dtypes or not sites:
            continue
        shape = _crossed({"m": M}, sites)
        rows = timed(subject, "gemm", precision, shape)
        columns = {
            **_head(subject, "gemm", rows),
            "gemm_dtype": _text(dtypes[precision], rows),
            **{name: ("integer", _whole(rows.shape[name])) for name in ("m", "n", "k")},
            "latency": _latency(rows),
        }
        parts.append((columns, rows))
    return parts


def _attention(
    subject: Subject, op: str, op_name: str, sizes: Mapping[str, Sequence[float]], most: float
) -> list[_Part]:
    parts = []
    sites = list(local_ops(subject, op))
    dtypes = {**KV_DTYPES, subject.base: BASE}
    for precision, kv in subject.kv_pairs(op):
        if precision != subject.base or kv not in dtypes or not sites:
            continue
        shape = _crossed(sizes, sites)
        length = "query_len" if "query_len" in sizes else "kv_len"
        if length == "query_len":
            shape["kv_len"] = shape["query_len"]
        kept = shape["batch"] * shape[length] <= most
        rows = timed(subject, op, precision, {k: v[kept] for k, v in shape.items()}, kv)
        if length == "query_len":
            rows = rows.where(rows.shape["kv_len"] == rows.shape["query_len"])
        isl = rows.shape["query_len"] if length == "query_len" else np.ones(len(rows))
        step = np.zeros(len(rows)) if length == "query_len" else rows.shape["kv_len"] - 1
        columns: _Columns = {
            **_head(subject, op_name, rows),
            "batch_size": ("integer", _whole(rows.shape["batch"])),
            "isl": ("integer", _whole(isl)),
            "num_heads": ("integer", _whole(rows.shape["heads"])),
            "num_key_value_heads": ("integer", _whole(rows.shape["kv_heads"])),
            "head_dim": ("integer", _whole(rows.shape["head_dim"])),
            "beam_width": _constant(1, rows),
            "attn_dtype": _text(BASE, rows),
            "kv_cache_dtype": _text(dtypes[kv], rows),
            "step": ("integer", _whole(step)),
            "window_size": _constant(0, rows),
            "latency": _latency(rows),
        }
        parts.append((columns, rows))
    return parts


def _context(subject: Subject) -> list[_Part]:
    sizes = {"batch": PROMPTS, "query_len": QUERIES}
    return _attention(subject, "attention_prefill", "context_attention", sizes, _MOST_PROMPT_TOKENS)


def _generation(subject: Subject) -> list[_Part]:
    sizes = {"batch": SEQUENCES, "kv_len": CONTEXTS}
    return _attention(
        subject, "attention_decode", "generation_attention", sizes, _MOST_CACHED_TOKENS
    )


def _moe(subject: Subject) -> list[_Part]:
    parts = []
    dtypes = {**MOE_DTYPES, subject.base: BASE}
    for precision in subject.precisions("grouped_gemm"):
        if precision not in dtypes:
            continue
        for model in subject.models:
            if not model.experts:
                continue
            for tp in subject.degrees:
                for split in dict.fromkeys(((tp, 1), (1, tp))):
                    part = _moe_part(subject, precision, dtypes[precision], model, *split)
                    if part is not None:
                        parts.append(part)
    return parts


def _moe_part(
    subject: Subject, precision: str, dtype: str, model: ModelShape, moe_tp: int, moe_ep: int
) -> _Part | None:
    """Return one way to spread the experts of a model, or None where they do not divide."""
    mlp = next(layer.mlp for layer in model.layer_sequence if isinstance(layer.mlp, MoeMlp))
    if mlp.inter % moe_tp or mlp.experts % moe_ep:
        return None
    site = {
        "experts": mlp.experts, "topk": mlp.topk, "hidden": model.hidden,
        "inter": mlp.inter // moe_tp, "local_experts": mlp.experts // moe_ep,
    }  # fmt: skip
    rows = timed(subject, "grouped_gemm", precision, _crossed({"tokens": TOKENS}, [site]))
    own = np.all([rows.shape[name] == value for name, value in site.items()], axis=0)
    rows = rows.where(own)
    columns: _Columns = {
        **_head(subject, "moe", rows),
        "moe_dtype": _text(dtype, rows),
        "num_tokens": ("integer", _whole(rows.shape["tokens"])),
        "hidden_size": _constant(model.hidden, rows),
        "inter_size": _constant(mlp.inter, rows),
        "topk": _constant(mlp.topk, rows),
        "num_experts": _constant(mlp.experts, rows),
        "moe_tp_size": _constant(moe_tp, rows),
        "moe_ep_size": _constant(moe_ep, rows),
        "distribution": _text(ROUTING, rows),
        "latency": _latency(rows),
    }
    return columns, rows


def _all_reduce(subject: Subject) -> list[_Part]:
    return _collective(subject, "all_reduce", "all_reduce", {"allreduce_dtype": "bfloat16"}, 2)


def _nccl(subject: Subject) -> list[_Part]:
    named = {
        "all_reduce": "all_reduce", "all_gather": "all_gather",
        "reduce_scatter": "reduce_scatter", "all_to_all": "alltoall",
    }  # fmt: skip
    parts: list[_Part] = []
    for op, name in named.items():
        for dtype, width in (("half", 2), ("int8", 1)):
            parts += _collective(subject, op, name, {"nccl_dtype": dtype}, width)
    return parts


def _collective(
    subject: Subject, op: str, op_name: str, words: Mapping[str, str], width: int
) -> list[_Part]:
    if subject.calibration.supports(op, subject.base) is not None or max(subject.degrees) < 2:
        return []
    sites = [{"ranks": float(ranks)} for ranks in RANKS]
    rows = timed(
        subject, op, subject.base, _crossed({"bytes": [m * width for m in MESSAGES]}, sites)
    )
    # The planner has tables for 2, 4 and 8, and whole elements.
    rows = rows.where(np.isin(rows.shape["ranks"], RANKS) & (rows.shape["bytes"] % width == 0))
    columns: _Columns = {
        **_head(subject, op_name, rows),
        **{name: _text(word, rows) for name, word in words.items()},
        "num_gpus": ("integer", _whole(rows.shape["ranks"])),
        "message_size": ("integer", _whole(rows.shape["bytes"] / width)),
        "latency": _latency(rows),
    }
    if "allreduce_dtype" in words:
        columns["backend"] = _text("vllm_graph", rows)
    return [(columns, rows)]


_TABLES: Final = {
    f"gemm/{BACKEND}/{VERSION}/gemm_perf": _gemm,
    f"attention/{BACKEND}/{VERSION}/context_attention_perf": _context,
    f"attention/{BACKEND}/{VERSION}/generation_attention_perf": _generation,
    f"moe/{BACKEND}/{VERSION}/moe_perf": _moe,
    f"comm/{BACKEND}/{VERSION}/custom_allreduce_perf": _all_reduce,
    f"comm/nccl/{NCCL}/nccl_perf": _nccl,
}
_NEEDED: Final = {
    f"gemm/{BACKEND}/{VERSION}/gemm_perf": "matrix products",
    f"attention/{BACKEND}/{VERSION}/context_attention_perf": "prefill attention",
    f"attention/{BACKEND}/{VERSION}/generation_attention_perf": "decode attention",
}
_WITHOUT: Final = {
    f"moe/{BACKEND}/{VERSION}/moe_perf": "no experts were asked for, or none can be timed",
    f"comm/{BACKEND}/{VERSION}/custom_allreduce_perf": "no link between devices is known, so only "
    "TP 1 can be planned",
    f"comm/nccl/{NCCL}/nccl_perf": "no link between devices is known",
}


def _crossed(
    sizes: Mapping[str, Sequence[float]], sites: Sequence[Mapping[str, float]]
) -> dict[str, np.ndarray]:
    """Return every size at every site, flat."""
    grid = np.meshgrid(*(np.asarray(v, dtype=float) for v in sizes.values()), indexing="ij")
    flat = {name: axis.ravel() for name, axis in zip(sizes, grid, strict=True)}
    many = len(next(iter(flat.values())))
    found = {name: np.tile(values, len(sites)) for name, values in flat.items()}
    for name in sites[0]:
        found[name] = np.repeat([float(site[name]) for site in sites], many)
    return found


def _joined(parts: Sequence[_Columns]) -> _Columns:
    return {
        name: (kind, [value for part in parts for value in part[name][1]])
        for name, (kind, _) in parts[0].items()
    }


def _meta(folder: str, names: Sequence[str]) -> str:
    framework, version = folder.split("/")[-2:]
    tables = "".join(f"  {name}:\n    status: complete\n" for name in sorted(names))
    return (
        "schema_version: 1\nprovenance: legacy\nruntime:\n"
        f"  framework: {framework}\n  version: {version}\ntables:\n{tables}"
    )


def _points(parts: Sequence[tuple[str, Timed]]) -> bytes:
    """Return the sidecar: each row of each table, and whether it was measured."""
    rows = [
        (
            path.rsplit("/", 1)[1],
            index,
            " ".join(f"{name}={rows.shape[name][index]:g}" for name in rows.shape),
            "measured" if rows.measured[index] else "modelled",
            "" if rows.measured[index] else rows.origin,
        )
        for path, rows in parts
        for index in range(len(rows))
    ]
    return csv_bytes(("table", "row", "shape", "how", "constants"), _numbered(rows))


def _numbered(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows numbered as they stand in their table, over its parts."""
    counts: dict[str, int] = {}
    found = []
    for table, _, *rest in rows:
        found.append((table, counts.get(table, 0), *rest))
        counts[table] = counts.get(table, 0) + 1
    return found
