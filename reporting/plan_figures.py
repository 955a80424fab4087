"""Figures of the cost model: rooflines of prefill and decode over batch, latency over throughput.

    python -m roofprobe.reporting.plan_figures docs/images

draws those of docs/cost-model.md. Everything in them is computed from a calibration; nothing is
measured here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofprobe.costmodel.calibration import Calibration, default_calibration
from roofprobe.costmodel.evaluate import capacity_of, evaluate
from roofprobe.costmodel.forms import FloatArray
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.ops import Step, price, roofline
from roofprobe.costmodel.plan_cases import PlanCase
from roofprobe.costmodel.plan_layout import Planner
from roofprobe.costmodel.predict import turning_batch
from roofprobe.costmodel.serving import CLOCK_WIDTH
from roofprobe.costmodel.steps import Load, step_ops

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from roofprobe.costmodel.model_shape import ModelShape

MODEL: Final = "llama-3.1-8b"
GPU: Final = "H100 SXM"
CONTEXT: Final = 1024
_DECODES: Final = np.array([1 << power for power in range(11)], dtype=np.float64)
_PROMPTS: Final = np.array([1 << power for power in range(4, 14)], dtype=np.float64)
_CONCURRENCIES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LABELLED: Final = 16  # below it the points stand too close for words
_LENGTHS: Final = ((1024, 128), (1024, 512), (4096, 512))
_COLOURS: Final = ("#3366aa", "#cc6633", "#449966")


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds of a step over ``at``, with its interval and what the peaks alone would need."""

    at: FloatArray
    median_s: FloatArray
    p10_s: FloatArray
    p90_s: FloatArray
    compute_s: FloatArray
    memory_s: FloatArray


def step_curve(calibration: Calibration, model: ModelShape, load: Load, at: FloatArray) -> Curve:
    """Return the time of the steps of ``load`` (one per element of ``at``) in bf16 on one GPU."""
    ops = step_ops(model, load, precision="bf16", kv_precision="bf16")
    (cost,), _ = price(calibration, [Step(ops, at.size)])
    low, high = cost.interval_s(CLOCK_WIDTH)
    least = roofline(calibration, ops, at.size)
    return Curve(at, cost.total_s, low, high, least.compute_s, least.memory_s)


def roofline_over_batch(calibration: Calibration, model: ModelShape) -> Figure:
    """Draw decode over sequences and prefill over prompt tokens, against both peaks."""
    figure, axes = _canvas(2)
    decode = step_curve(
        calibration, model, Load(decodes=_DECODES, context=float(CONTEXT)), _DECODES
    )
    prefill = step_curve(calibration, model, Load(prompts=1.0, prompt_len=_PROMPTS), _PROMPTS)
    for ax, curve, title, label in (
        (axes[0], decode, f"decode, {CONTEXT} tokens of context", "sequences in the batch"),
        (axes[1], prefill, "prefill of one prompt", "prompt tokens"),
    ):
        ax.loglog(curve.at, curve.compute_s * 1e3, "--", color="#888888", label="compute, peak")
        ax.loglog(curve.at, curve.memory_s * 1e3, ":", color="#444444", label="memory, peak")
        ax.loglog(curve.at, curve.median_s * 1e3, color=_COLOURS[0], label="predicted")
        ax.fill_between(
            curve.at, curve.p10_s * 1e3, curve.p90_s * 1e3, color=_COLOURS[0], alpha=0.2, lw=0
        )
        ax.set(title=title, xlabel=label, ylabel="step, ms")
        ax.legend(frameon=False)
    for context, style in ((1, "-"), (128, "--")):
        (turn,) = turning_batch(
            calibration, model, float(context), precision="bf16", kv_precision="bf16"
        )
        if np.isfinite(turn):
            axes[0].axvline(
                turn, color=_COLOURS[1], lw=0.8, ls=style, label=f"turns at context {context}"
            )
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def latency_over_throughput(calibration: Calibration, model_name: str) -> Figure:
    """Draw TPOT over output tokens per second, concurrency by concurrency, for some lengths."""
    figure, axes = _canvas(1)
    planner = Planner(capacity_of(calibration))
    for (prompt, output), colour in zip(_LENGTHS, _COLOURS, strict=True):
        cases = [
            planner.plan(PlanCase(model_name, concurrency=c, input_len=prompt, output_len=output))
            for c in _CONCURRENCIES
        ]
        found = evaluate(cases, calibration)
        running = found.sequences >= np.array(_CONCURRENCIES)
        rate = found.tokens_per_second[running]
        token = found.tpot_s
        axes[0].plot(
            rate, token.median[running] * 1e3, "o-", color=colour, ms=4,
            label=f"{prompt} in, {output} out",
        )  # fmt: skip
        axes[0].fill_between(
            rate, token.p10[running] * 1e3, token.p90[running] * 1e3, color=colour, alpha=0.15, lw=0
        )
        for c, x, y in zip(_CONCURRENCIES, rate, token.median[running] * 1e3, strict=False):
            if c >= _LABELLED:
                axes[0].annotate(
                    str(c), (x, y), xytext=(3, 4), textcoords="offset points", fontsize=7
                )
    axes[0].set(
        title="labels: requests in flight", xlabel="output tokens/s of one GPU", ylabel="TPOT, ms"
    )
    axes[0].legend(frameon=False)
    return figure


def _canvas(count: int) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * count + 0.6, 3.6), layout="constrained")
    axes: Any = figure.subplots(1, count, squeeze=False)
    for ax in axes[0]:
        ax.grid(color="#dddddd", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes[0]


def draw(folder: Path) -> list[Path]:
    """Draw all figures of docs/cost-model.md into ``folder``; return the files."""
    calibration = default_calibration(GPU)
    figures = {
        "cost-model-roofline.png": roofline_over_batch(calibration, load_model(MODEL)),
        "cost-model-serving.png": latency_over_throughput(calibration, MODEL),
    }
    files = []
    for name, figure in figures.items():
        file = folder / name
        figure.suptitle(
            f"{MODEL}, bf16, {calibration.hardware.name}: computed, not measured", fontsize=9
        )
        # Without a version in the file the same figure is the same bytes.
        figure.savefig(file, dpi=110, metadata={"Software": None})
        files.append(file)
    return files


if __name__ == "__main__":
    for written in draw(Path(sys.argv[1])):
        print(written)
