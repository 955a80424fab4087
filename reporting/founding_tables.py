"""Tables of docs/founding-notes.md: what the founding notes say beside what the model gives.

    python -m roofprobe.reporting.founding_tables docs/founding-notes.md

computes all of them again and writes them between their marks in the document,

    <!-- computed: NAME -->
    ...
    <!-- end -->

so that no figure of the document is typed by hand; a test compares them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from roofprobe.costmodel import founding_notes as notes
from roofprobe.costmodel.calibration import default_calibration
from roofprobe.costmodel.founding_model import (
    MIXED_PRECISION_ADAM,
    REQUEST_TOKENS,
    fit_of,
    fit_with,
    layout_over,
    planned,
)
from roofprobe.costmodel.memory import rule_of_thumb_bytes, weight_bytes
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.plan_layout import Degrees
from roofprobe.costmodel.throughput import shape_of_size
from roofprobe.costmodel.weights import parameters
from roofprobe.peaks.find import find
from roofprobe.peaks.founding_notes import VERDICTS, founding_columns
from roofprobe.reporting.founding_serving_tables import SERVING_BLOCKS, interval_ms, reason_of
from roofprobe.reporting.founding_sizing_tables import SIZING_BLOCKS
from roofprobe.reporting.markdown_text import table
from roofprobe.reporting.numbers import UNKNOWN, digits

_BLOCK: Final = re.compile(r"(<!-- computed: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_CONSTANT_CARDS: Final = ("A100 SXM 80GB", "A800", "L20", "H20 96G", "H800")
_CONSTANTS: Final = (
    ("gemm", "bf16", None), ("gemm", "int8", None), ("gemm", "fp8-block", None),
    ("grouped_gemm", "fp8-block", None), ("attention_prefill", "bf16", "bf16"),
    ("attention_decode", "bf16", "bf16"), ("mla_prefill", "bf16", "bf16"),
    ("mla_decode", "bf16", "bf16"), ("all_reduce", "bf16", None), ("all_to_all", "bf16", None),
)  # fmt: skip
_WHOSE: Final = {"generic": "any", "sibling": "sibling"}
_GPT_3_CARDS: Final = (4, 5, 6, 8)
# A card that the notes recommend for its bandwidth beside those of their table.
_ALSO_RECOMMENDED: Final = "A30"
_CARDS_MODEL: Final = "deepseek-r1-distill-qwen-7b"


def constants() -> str:
    """Return whose timings the constants behind this page are, with their held-out errors."""
    calibrations = [default_calibration(card) for card in _CONSTANT_CARDS]
    rows = []
    for op, precision, kv_precision in _CONSTANTS:
        cells = []
        for calibration in calibrations:
            if calibration.supports(op, precision, kv_precision) is not None:
                cells.append(UNKNOWN)
                continue
            fit = calibration.fits(op, precision, kv_precision)[0]
            whose = next((word for flag, word in _WHOSE.items() if flag in fit.flags), "own")
            other = f", {fit.precision}" if fit.precision != precision else ""
            error = "" if fit.held_out is None else f": {fit.held_out.median * 100:.1f} %"
            cells.append(f"{whose}{other}{error}")
        rows.append((f"`{op}`", precision, *cells))
    return table(("operation", "precision", *_CONSTANT_CARDS), rows)


def recommended() -> str:
    """Return each row of the recommendation table with what its cards hold."""
    rows = []
    for row in notes.RECOMMENDATIONS:
        model = load_model(row.model)
        for cards in row.options:
            fit = fit_of(row, cards)
            rows.append(
                (
                    row.title,
                    f"{row.weights_gb:g}",
                    f"{cards.count} × {cards.gpu}",
                    digits(rule_of_thumb_bytes(row.nominal_billions, row.precision)),
                    f"{parameters(model) / 1e9:.2f}",
                    f"{fit.weights_bytes / 1e9:.2f}",
                    f"{fit.degrees.tp} × {fit.degrees.pp}",
                    f"{fit.per_card_bytes / 1e9:.1f} of {fit.used_bytes / 1e9:.1f}",
                    f"{fit.room_tokens:,}",
                    f"{fit.requests:,}",
                    "yes" if fit.fits else "**no**",
                    str(fit.min_gpus or UNKNOWN),
                )
            )
    return table(
        ("model", "notes: GB", "notes: cards", "rule: GB", "10⁹ parameters", "weights, GB",
         "tp × pp", "fullest card, GB", "room, tokens", f"requests of {REQUEST_TOKENS}", "fits",
         "`min_gpus`"),
        rows,
    )  # fmt: skip


def deepseek_weights() -> str:
    """Return what makes up the weights of DeepSeek-V3 and R1 in FP8."""
    row = next(row for row in notes.RECOMMENDATIONS if row.model == "deepseek-r1")
    model = load_model(row.model)
    ours, rule = weight_bytes(model) / 1e9, rule_of_thumb_bytes(parameters(model), "fp8") / 1e9
    more = notes.DEEPSEEK_MTP_BILLIONS
    return table(
        ("part", "GB"),
        [
            ("one byte per parameter", f"{rule:.1f}"),
            ("scales, and embeddings, norms, routers, logits in bf16", f"{ours - rule:.1f}"),
            ("together: `weight_bytes`", f"{ours:.1f}"),
            ("module for multi-token prediction, not served here, one byte each", f"{more}"),
            ("with it", f"{ours + more:.1f}"),
            ("notes", f"{row.weights_gb:g}"),
        ],
    )


def gpt_3_layouts() -> str:
    """Return every way to put GPT-3 on a few cards."""
    model = load_model("gpt-3-175b")
    rows = []
    for count in _GPT_3_CARDS:
        for tp in (d for d in range(count, 0, -1) if count % d == 0 and model.heads % d == 0):
            cards = notes.Cards("A100 SXM 80GB", count)
            fit = fit_with(model, "bf16", cards, Degrees(tp, count // tp, 1, 1))
            rows.append(
                (
                    str(count),
                    f"{tp} × {count // tp}",
                    f"{fit.per_card_bytes / 1e9:.1f}",
                    f"{fit.per_card_bytes / fit.card_bytes * 100:.0f} %",
                    f"{fit.requests}",
                )
            )
    return table(
        ("cards", "tp × pp", "fullest card, GB", "of its memory", f"requests of {REQUEST_TOKENS}"),
        rows,
    )


def recommended_tpot() -> str:
    """Return TPOT of one request on each recommendation, and what binds its phases."""
    low, high = notes.TPOT_RANGE_MS
    rows = []
    for row in notes.RECOMMENDATIONS:
        model = load_model(row.model)
        for cards in row.options:
            d = layout_over(model, cards.count)
            own = model.checkpoint.precision
            found = planned(
                cards.gpu, model=row.model, tp=d.tp, pp=d.pp, concurrency=1,
                precision=own if own.startswith(row.precision) else row.precision,
            )  # fmt: skip
            title = (row.title, f"{cards.count} × {cards.gpu}")
            if "error" in found:
                rows.append((*title, UNKNOWN, UNKNOWN, UNKNOWN, reason_of(found)))
                continue
            median = found["tpot_ms"]["median"]
            place = "below" if median < low else "within" if median <= high else "above"
            bound = found["bound"]
            rows.append((*title, interval_ms(found["tpot_ms"]), bound["prefill"], bound["decode"],
                         place))  # fmt: skip
    return table(
        ("model", "cards", "TPOT, ms (p10–p90)", "prefill", "decode", f"{low}–{high} ms"), rows
    )


def cards_by_bandwidth() -> str:
    """Return TPOT of one small model on each card that the notes name, by bandwidth."""
    weights = load_model(_CARDS_MODEL)
    gb = 2 * parameters(weights) / 1e9
    found = []
    for title in (*founding_columns(), _ALSO_RECOMMENDED):
        card = find(title).per_device()
        one = planned(title, model=_CARDS_MODEL, precision="bf16", concurrency=1)
        bandwidth = card.mem_bw_gbps
        said = reason_of(one) if "error" in one else ""
        time = None if "error" in one else one["tpot_ms"]["median"]
        share = None if time is None or bandwidth is None else gb / time * 1e3 / bandwidth
        found.append(
            (
                bandwidth or 0.0,
                (
                    title,
                    UNKNOWN if bandwidth is None else digits(bandwidth),
                    UNKNOWN if time is None else interval_ms(one["tpot_ms"]),
                    UNKNOWN if share is None else f"{share * 100:.0f} %",
                    said,
                ),
            )
        )
    rows = [row for _, row in sorted(found, key=lambda pair: pair[0])]
    return table(
        ("card", "GB/s", "TPOT, ms (p10–p90)", "weights per token / bandwidth", "not timed"), rows
    )


def memory_rules() -> str:
    """Return the notes' bytes per parameter beside an itemised count."""
    adam = MIXED_PRECISION_ADAM
    wide = sum(adam.values())
    narrow = wide - adam["fp16 weights"] - adam["fp16 gradients"] + 2
    counted = {
        ("inference", "fp16"): (2, "weights only: no KV cache, activations or runtime"),
        ("inference", "fp8"): (1, "weights only; scales, embeddings and norms stay wider"),
        ("training", "fp16"): (wide, "weights, gradients, fp32 weights and two moments of Adam; "
                               "the rest is left for activations"),
        ("training", "fp8"): (narrow, "only weights and gradients shrink; the rule needs fp32 "
                              "weights and moments to shrink too"),
    }  # fmt: skip
    rows = [
        (
            purpose,
            precision,
            f"{said} GB",
            f"{rule_of_thumb_bytes(1e9, precision, purpose) / 1e9:g} GB",
            f"{counted[purpose, precision][0]}",
            counted[purpose, precision][1],
        )
        for (purpose, precision), said in notes.MEMORY_GB_PER_BILLION.items()
    ]
    return table(
        ("for", "precision", "notes, per 10⁹ parameters", "`rule_of_thumb_bytes`",
         "bytes per parameter, itemised", "what is counted"),
        rows,
    )  # fmt: skip


def hundred_billion() -> str:
    """Return which cards of the notes' table hold a model of 100B parameters in FP8."""
    model = shape_of_size(notes.LARGE_MODEL_BILLIONS * 1e9)
    rows = []
    for title in founding_columns():
        card = find(title).per_device()
        fit = fit_with(model, "fp8", notes.Cards(title, 1), Degrees(1, 1, 1, 1))
        rows.append(
            (title, digits(card.mem_gb or 0), f"{fit.per_card_bytes / 1e9:.0f}",
             f"{fit.used_bytes / 1e9:.0f}", "yes" if fit.fits else "no",
             str(fit.min_gpus or UNKNOWN))
        )  # fmt: skip
    return table(
        ("card", "memory as printed, GB", "needed, GB", "usable, GB", "one card is enough",
         "`min_gpus`"),
        rows,
    )  # fmt: skip


def card_cells() -> str:
    """Return how many cells of the notes' table of cards the catalogue confirms."""
    rows = []
    for title, column in founding_columns().items():
        verdicts = [cell.verdict for cell in column.cells]
        rows.append((title, *(str(verdicts.count(verdict)) for verdict in VERDICTS)))
    return table(("card", *VERDICTS), rows)


BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "constants": constants,
    "recommended": recommended,
    "deepseek-weights": deepseek_weights,
    "gpt-3-layouts": gpt_3_layouts,
    "recommended-tpot": recommended_tpot,
    "cards-by-bandwidth": cards_by_bandwidth,
    "memory-rules": memory_rules,
    "hundred-billion": hundred_billion,
    "card-cells": card_cells,
    **SERVING_BLOCKS,
    **SIZING_BLOCKS,
}


def blocks_of(text: str) -> dict[str, str]:
    """Return the computed blocks that a document holds, by name."""
    return {name: body for _, name, body, _ in _BLOCK.findall(text)}


def computed(text: str) -> str:
    """Return ``text`` with every block computed again; raises `KeyError` for an unknown name."""
    return _BLOCK.sub(lambda m: f"{m[1]}\n{BLOCKS[m[2]]()}\n\n{m[4]}", text)


def main(arguments: list[str]) -> None:
    """Compute the blocks of each named file again and write them."""
    for name in arguments:
        path = Path(name)
        path.write_text(computed(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
