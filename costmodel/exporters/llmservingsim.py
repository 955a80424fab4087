"""LLMServingSim: profile bundles, one per model, all times in **microseconds**.

    profiler/perf/<HW>/<MODEL>/<variant>/meta.yaml
    profiler/perf/<HW>/<MODEL>/<variant>/tp<N>/{dense,per_sequence,attention,moe}.csv

The simulator looks up each layer by name and charges **0** for one that is missing, so every name
of the architecture's own list is written. Attention has four axes (chunk of a prompt, its history,
decoding sequences, their context), zeros are pure phases; a mixed step is the sum of both phases,
which were timed apart (a kernel that serves both at once may take less). Writing new keys and
values into the cache is part of its attention. Experts are a table over tokens and the distinct
experts that they touch, by the same formula that counts their weights.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from roofprobe.costmodel.exporters.files import Export, csv_bytes, figures
from roofprobe.costmodel.exporters.subject import Subject
from roofprobe.costmodel.forms import FloatArray
from roofprobe.costmodel.model_presets import find_preset
from roofprobe.costmodel.models import GroupedQueryAttention, ModelShape, MoeMlp
from roofprobe.costmodel.ops import Op
from roofprobe.costmodel.steps import Layout, Load, compute_precision, step_ops
from roofprobe.records.errors import RoofprobeError, visible

# Architectures whose lists of layers the simulator has (profiler/models/*.yaml).
ARCHITECTURES: Final = {
    "llama": "llama", "mixtral": "mixtral", "qwen3": "qwen3", "qwen3_moe": "qwen3_moe",
}  # fmt: skip
# Its name of a layer → ours; a name that a step has twice (norms) is one of both there.
DENSE: Final = {
    "embedding": "embed", "layernorm": "norm", "qkv_proj": "qkv", "qk_norm": "qk_norm",
    "rotary_emb": "rope", "o_proj": "o", "gate_up_proj": "gate_up", "act_fn": "act",
    "down_proj": "down", "final_layernorm": "final_norm",
}  # fmt: skip
PER_SEQUENCE: Final = {"lm_head": "lm_head", "sampler": "sample"}
MOST_TOKENS: Final = 2048
MOST_SEQUENCES: Final = 256
MOST_CONTEXT: Final = 16384
_TOKENS: Final = tuple(sorted({*(2**i for i in range(12)), *(3 * 2**i for i in range(1, 10))}))
_SEQUENCES: Final = tuple(2**i for i in range(9))
_CHUNKS: Final = (0, *(2**i for i in range(4, 12)))
_CONTEXTS: Final = tuple(2**i for i in range(4, 15))


@dataclass(frozen=True, slots=True)
class _Part:
    """What one bundle is made of."""

    subject: Subject
    model: ModelShape
    precision: str
    tp: int

    @property
    def kv(self) -> str:
        return compute_precision(self.precision)

    def seconds(self, op: Op) -> FloatArray:
        """Return the time of one execution of ``op``."""
        found = self.subject.calibration.time(
            op.op, op.precision, kv_precision=op.kv_precision, **op.shape
        )
        return np.atleast_1d(found.median_s)

    def ops(self, load: Load) -> dict[str, Op]:
        ops = step_ops(
            self.model, load, precision=self.precision, kv_precision=self.kv,
            layout=Layout(tp=self.tp),
        )  # fmt: skip
        return {op.name: op for op in ops if op.op not in _ATTENTIONS}


_ATTENTIONS: Final = ("attention_prefill", "attention_decode")


def export(subject: Subject) -> Export:
    """Return the bundles of the models that the simulator has an architecture of.

    Raises ``RoofprobeError`` (``nothing-to-export``) where there is none.
    """
    files: dict[str, bytes] = {}
    rows = 0
    left_out = []
    for model in subject.models:
        name = _hub_name(model)
        if not _known(model):
            left_out.append(model.name)
            continue
        root = f"profiler/perf/{subject.label}/{name}/{_variant(subject)}"
        degrees = [tp for tp in subject.degrees if model.heads % tp == 0]
        files[f"{root}/meta.yaml"] = _meta(subject, model, name, degrees).encode()
        for tp in degrees:
            part = _Part(subject, model, subject.base, tp)
            for file, header, lines in _tables(part):
                files[f"{root}/tp{tp}/{file}"] = csv_bytes(header, lines)
                rows += len(lines)
    if not files:
        raise RoofprobeError(
            "nothing-to-export",
            f"LLMServingSim has no list of layers of {', '.join(left_out)}; it has those of "
            f"{', '.join(ARCHITECTURES)} models",
        )
    notes = tuple(f"{name} is left out: LLMServingSim has no list of its layers"
                  for name in left_out)  # fmt: skip
    return Export(files, modelled=rows, notes=notes)


def _known(model: ModelShape) -> bool:
    layer = model.layer_sequence[0]
    return model.architecture in ARCHITECTURES and isinstance(
        layer.attention, GroupedQueryAttention
    )


def _hub_name(model: ModelShape) -> str:
    preset = find_preset(model.name)
    return preset.hub_ids[0] if preset and preset.hub_ids else model.name


def _variant(subject: Subject) -> str:
    """Return the folder's name: data types, as the simulator builds it from its options."""
    return {"bf16": "bf16", "fp16": "fp16", "fp32": "fp32"}[subject.base]


_Table = tuple[str, Sequence[str], list[tuple[Any, ...]]]


def _tables(part: _Part) -> Iterator[_Table]:
    header = ("layer", "tokens", "time_us")
    yield "dense.csv", header, list(_layers(part, DENSE, _TOKENS, decodes=False))
    header = ("layer", "sequences", "time_us")
    yield "per_sequence.csv", header, list(_layers(part, PER_SEQUENCE, _SEQUENCES, decodes=True))
    header = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")  # type: ignore[assignment]
    yield "attention.csv", header, _attention(part)
    if part.model.experts and part.tp == 1:
        yield "moe.csv", ("tokens", "activated_experts", "time_us"), _experts(part)


def _layers(
    part: _Part, names: dict[str, str], sizes: Sequence[int], *, decodes: bool
) -> Iterator[tuple[Any, ...]]:
    size = np.array(sizes, dtype=float)
    load = Load(decodes=size, context=1.0) if decodes else Load(prompts=1.0, prompt_len=size)
    ops = part.ops(load)
    for theirs, ours in names.items():
        if ours in ops:
            times = np.broadcast_to(part.seconds(ops[ours]), size.shape)
            yield from ((theirs, n, _us(t)) for n, t in zip(sizes, times, strict=True))


def _attention(part: _Part) -> list[tuple[Any, ...]]:
    """Return pure prefill, pure decode and mixed steps, the cache's writing included."""
    prefills = [(0, 0), *itertools.product(_CHUNKS[1:], (0, *_CONTEXTS))]
    decodes = [(0, 0), *itertools.product(_SEQUENCES, _CONTEXTS)]
    prefill_s = _prefill_s(part, np.array(prefills, dtype=float))
    decode_s = _decode_s(part, np.array(decodes, dtype=float))
    return [
        (chunk, history, many, context, _us(first + second))
        for (chunk, history), first in zip(prefills, prefill_s, strict=True)
        for (many, context), second in zip(decodes, decode_s, strict=True)
        if chunk or many
    ]


def _step(part: _Part, load: Load, op: str) -> FloatArray:
    ops = step_ops(
        part.model, load, precision=part.precision, kv_precision=part.kv,
        layout=Layout(tp=part.tp),
    )  # fmt: skip
    attention = next(one for one in ops if one.op == op)
    written = next(one for one in ops if one.name == "kv_write")
    total: FloatArray = part.seconds(attention) + part.seconds(written)
    return total


def _prefill_s(part: _Part, at: FloatArray) -> FloatArray:
    chunk, history = at[:, 0], at[:, 1]
    load = Load(prompts=1.0, prompt_len=np.maximum(chunk, 1.0), prefix_len=history)
    return np.where(chunk > 0, _step(part, load, "attention_prefill"), 0.0)


def _decode_s(part: _Part, at: FloatArray) -> FloatArray:
    many, context = at[:, 0], at[:, 1]
    load = Load(decodes=np.maximum(many, 1.0), context=np.maximum(context, 1.0))
    return np.where(many > 0, _step(part, load, "attention_decode"), 0.0)


def _experts(part: _Part) -> list[tuple[Any, ...]]:
    """Return tokens × distinct experts: a rank that holds as many experts, all of them touched."""
    mlp = next(x.mlp for x in part.model.layer_sequence if isinstance(x.mlp, MoeMlp))
    held = [2**i for i in range(12) if 2**i <= mlp.experts]
    held = [n for n in held if n >= mlp.topk] or [mlp.experts]
    grid = [(tokens, experts) for tokens in _TOKENS for experts in held]
    tokens, experts = np.array(grid, dtype=float).T
    seconds = part.subject.calibration.time(
        "grouped_gemm", part.precision, tokens=tokens, experts=experts, topk=float(mlp.topk),
        hidden=float(part.model.hidden), inter=float(mlp.inter), local_experts=experts,
    ).median_s  # fmt: skip
    return [(*at, _us(t)) for at, t in zip(grid, seconds, strict=True)]


def _us(seconds: float) -> float:
    return figures(float(seconds) * 1e6)


def _meta(subject: Subject, model: ModelShape, name: str, degrees: Sequence[int]) -> str:
    return (
        f"# Written by {visible(subject.made_by)} from {visible(subject.source)}, "
        "not by the profiler; see PROVENANCE.md.\n"
        "profiler_version: 1.0.0\n"
        f"gpu: {json.dumps(subject.calibration.hardware.name)}\n"  # a JSON text is one of YAML
        f"hardware: {subject.label}\n"
        f"architecture: {ARCHITECTURES[model.architecture]}\n"
        f"model: {json.dumps(name)}\n"
        f"variant: {_variant(subject)}\n"
        f"tp_degrees: [{', '.join(map(str, degrees))}]\n"
        "engine_effective:\n"
        "  enforce_eager: false\n"
        f"  max_num_batched_tokens: {MOST_TOKENS}\n"
        f"  max_num_seqs: {MOST_SEQUENCES}\n"
        "attention_grid:\n"
        f"  max_kv: {MOST_CONTEXT}\n"
        "  chunk_factor: 2.0\n"
        "  kv_factor: 2.0\n"
        "skew_fit:\n"
        "  enabled: false\n"
    )
