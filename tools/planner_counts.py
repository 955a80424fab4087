"""What our step and each planner's own arithmetic count, so that both can be held to the same.

A planner that multiplies FLOPs of its own with our efficiency gives another time than ours although
it understood the files; these are the FLOPs, bytes and operations on both sides, by the planners'
sources (llm-analysis 0.2.2 analysis.py; calculon caa4b11 llm/llm.py).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roofprobe.costmodel.exporters.phases import local_step
from roofprobe.costmodel.exporters.subject import Subject
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.ops import roofline
from roofprobe.costmodel.predict import step_time, time_of
from roofprobe.costmodel.steps import Layout, Load

TOKENS, BATCH = 2048, 32
# What our step sends over links between devices; each planner has a formula of its own for them.
LINKS = ("all_reduce", "logits", "stage")
ENDS = ("embed", "final_norm", "lm_head", "sample")
PRODUCTS = ("qkv", "o", "gate_up", "down")


def prefill_of(tokens: float = TOKENS, batch: float = 1.0) -> Load:
    """Return a prefill."""
    return Load(prompts=batch, prompt_len=float(tokens))


def decode_of(batch: float = BATCH, context: float = TOKENS) -> Load:
    """Return a decode step."""
    return Load(decodes=float(batch), context=float(context))


def ours_ms(
    subject: Subject, model: str, load: Load, tp: int, ep: int = 1, *,
    only: Sequence[str] = (), but: Sequence[str] = (),
) -> float:  # fmt: skip
    """Return our step in milliseconds, of the operations named ``only``, ``but`` for some."""
    base = subject.base
    found = step_time(
        subject.calibration, load_model(model), load, precision=base, kv_precision=base,
        layout=Layout(tp=tp, ep=ep),
    )  # fmt: skip
    return 1e3 * sum(
        op.median_s for op in found.ops if op.name not in but and (not only or op.name in only)
    )


def products_of(subject: Subject, model: str) -> tuple[float, float]:
    """Return milliseconds and FLOPs of a prefill's products in the layers, on one GPU."""
    step = local_step(load_model(model), prefill_of(), subject.base, subject.base, 1)
    ops = [op for op in step if op.name in PRODUCTS]
    flops = sum(
        2 * float(op.count) * float(op.shape["m"].max()) * float(op.shape["n"])
        * float(op.shape["k"]) for op in ops
    )  # fmt: skip
    return 1e3 * time_of(subject.calibration, ops).median_s, flops


def flops_of(subject: Subject, model: str, tp: int) -> float:
    """Return our FLOPs of a prefill's layers on one GPU."""
    ops = local_step(load_model(model), prefill_of(), subject.base, subject.base, tp)
    least = roofline(subject.calibration, [op for op in ops if op.name not in ENDS], 1)
    peak = subject.calibration.hardware.peak_flops[subject.base]
    return float(least.compute_s[0]) * peak


def llm_analysis_flops(model: str) -> float:
    """Return what llm-analysis counts for them: 16 H^2 per token of an MLP, whole squares."""
    shape = load_model(model)
    h, s = shape.hidden, TOKENS
    layer = 4 * s * h * h * (1 + kv_share(model)) + 4 * s * s * h + 16 * s * h * h
    return float(shape.layers * layer)


def llm_analysis_weights(model: str, theirs: Any) -> float:
    """Return our bytes of a layer's weights per byte of llm-analysis's, which has two matrices.

    ``theirs`` is its configuration, or the name of one that it ships (an MLP of 4 H).
    """
    shape = load_model(model)
    mlp: Any = shape.layer_sequence[0].mlp
    width = theirs["ffn_embed_dim"] if isinstance(theirs, dict) else 4 * shape.hidden
    attention = 2 * shape.hidden * shape.hidden * (1 + kv_share(model))
    return float(
        (attention + 3 * shape.hidden * mlp.inter) / (attention + 2 * shape.hidden * width)
    )


def kv_share(model: str) -> float:
    """Return KV heads per query head."""
    attention: Any = load_model(model).layer_sequence[0].attention
    return float(attention.kv_heads / attention.heads)


def infersim_rounding(subject: Subject, folder: Path, model: str) -> float:
    """Return what InferSim makes of decode attention's time: it rounds mfu to three decimals.

    That is some per cent on a GPU, and a fifth where attention reaches a quarter of a per cent of
    the peak (mfu/mfu.py). ``folder`` is that of the device's table.
    """
    attention: Any = load_model(model).layer_sequence[0].attention
    name = f"{attention.heads}-{attention.kv_heads}-{attention.head_dim}.csv"
    flops = 4 * attention.heads * attention.head_dim * BATCH * TOKENS
    peak = subject.calibration.hardware.peak_flops[subject.base]
    with (folder / name).open() as file:
        for row in csv.DictReader(file):
            if (int(row["batch_size"]), int(row["kv_len"])) == (BATCH, TOKENS):
                reached = flops / (float(row["latency_us"]) * 1e-6) / peak
                return reached / round(float(row["mfu"]), 3)
    raise ValueError(f"{name} has no row of {BATCH} sequences over {TOKENS}")
