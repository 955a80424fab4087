"""Predictions held against serving that others measured; for scoring only, nothing is tuned on it.

``data/serving_examples.csv``: 20 rows of Llama-3.1-8B in bf16 on one H100 SXM under TensorRT-LLM,
from the published serving measurements of aiconfigurator-core 0.12.0 (NVIDIA, Apache-2.0). That
engine lets prompts ride in decoding steps, which is the model's default.

Where each constant comes from: operations from published op tables (`costmodel/data`), which hold
no serving; the token budget and the clock's width from engines' defaults and the calibration's own
range check (`serving.TOKEN_BUDGET`, `CLOCK_WIDTH`); host terms are zero.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import roofprobe
from roofprobe.costmodel import serving

FILE = Path(__file__).parent / "data" / "serving_examples.csv"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(FILE.read_text().splitlines()))


@pytest.fixture(scope="module")
def found(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    cases = [
        {
            "model": "llama-3.1-8b", "precision": row["precision"],
            "concurrency": row["concurrency"], "input_len": row["isl"], "output_len": row["osl"],
        }
        for row in rows
    ]  # fmt: skip
    return roofprobe.plan_cases(cases, gpu="H100 SXM")


def test_time_per_token_is_within_the_goal(
    rows: list[dict[str, str]], found: list[dict[str, Any]]
) -> None:
    measured = np.array([float(row["measured_tpot_ms"]) for row in rows])
    predicted = np.array([one["tpot_ms"]["median"] for one in found])
    error = np.abs(predicted / measured - 1)
    assert len(error) == 20
    assert np.median(error) <= 0.03
    assert np.quantile(error, 0.9) <= 0.08


def test_intervals_cover_what_was_measured_and_are_not_wide(
    rows: list[dict[str, str]], found: list[dict[str, Any]]
) -> None:
    """The rows are of one engine and model, so they err together: all may lie inside, or few."""
    covered = [
        one["tpot_ms"]["p10"] <= float(row["measured_tpot_ms"]) <= one["tpot_ms"]["p90"]
        for row, one in zip(rows, found, strict=True)
    ]
    assert np.mean(covered) >= 0.75
    half = [(t["p90"] - t["p10"]) / 2 / t["median"] for t in (one["tpot_ms"] for one in found)]
    assert np.median(half) <= 0.08


def test_first_tokens_lie_between_a_prefill_and_a_burst(
    rows: list[dict[str, str]], found: list[dict[str, Any]]
) -> None:
    for row, one in zip(rows, found, strict=True):
        assert one["prefill_ms"] < float(row["measured_ttft_ms"]) < one["ttft_ms"]["p90"] * 2


def test_what_no_operation_explains_is_not_added() -> None:
    assert (serving.HOST_PREFILL_S, serving.HOST_STEP_S) == (0.0, 0.0)
