"""What ``probe plan`` prints: one sheet or one table, medians never without their interval."""

from __future__ import annotations

import io
import json
from typing import Any

from rich.console import Console

from roofprobe.reporting.plan_view import render, to_json

ONE: dict[str, Any] = {
    "model": "[red]m", "precision": "bf16", "kv_precision": "fp8", "tp": 2, "pp": 1, "ep": 1,
    "dp": 1, "concurrency": 8, "input_len": 1024, "output_len": 128, "gpus": 2,
    "ttft_ms": {"median": 1234.5, "p10": 1000.0, "p90": 2000.0},
    "tpot_ms": {"median": 7.123, "p10": 6.5, "p90": 8.25},
    "e2e_ms": {"median": 2139.1, "p10": 1900.0, "p90": 3000.0},
    "tokens_per_second": 1234.5, "tokens_per_second_per_gpu": 617.25, "requests_per_second": 9.64,
    "memory_gb": {"weights": 16.06, "kv_cache": 1.2, "activations": 0.5, "reserve": 6.0,
                  "total": 23.76, "per_gpu": 11.88},
    "max_batch": 400, "min_gpus": 1, "bound": {"prefill": "compute", "decode": "memory"},
    "calibration": "H100: by a test.",
    "out_of_range": ["A context lies outside the measured range."], "notes": ["Note."],
}  # fmt: skip
BAD: dict[str, Any] = {"model": "x", "error": {"code": "unknown-model", "sentence": "No model x."}}


def printed(*results: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    render(results, console, "NVIDIA H100")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_sheet_has_every_figure_with_its_interval() -> None:
    text = printed(ONE)
    for part in (
        "[red]m on 2 × NVIDIA H100", "1,234 ms", "1,000–2,000", "7.12 ms", "6.5–8.25",
        "617.2 per device", "compute in prefill, memory in decode", "weights 16.1",
        "400 of full length", "H100: by a test.",
        "A context lies outside the measured range.", "Note.",
    ):  # fmt: skip
        assert part in text, part


def test_a_load_and_a_target_nobody_meets_are_said() -> None:
    text = printed({**ONE, "min_gpus": None, "replicas": 3, "gpus_for_load": 6})
    assert "none meets the targets" in text
    assert "3 systems, 6 devices" in text


def test_one_token_has_no_line_for_further_ones() -> None:
    assert "TPOT" not in printed({**ONE, "tpot_ms": None})


def test_a_table_has_a_line_per_case_and_the_problems_below() -> None:
    text = printed(ONE, BAD, {**ONE, "tpot_ms": None})
    assert "3 cases on NVIDIA H100" in text
    assert "7.12 (6.5–8.25)" in text
    assert "2: No model x." in text
    assert text.count("A context lies outside the measured range.") == 1


def test_json_is_an_object_for_one_case_and_an_array_for_a_file() -> None:
    assert json.loads(to_json([ONE], single=True)) == ONE
    assert json.loads(to_json([ONE, BAD], single=False)) == [ONE, BAD]
    assert json.loads(to_json([ONE], single=False)) == [ONE]
