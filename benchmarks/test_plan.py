"""How fast planning is: ten thousand cases at once, and one from a cold process.

Run with ``make bench``; without it each benchmark runs once, as a plain test.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import roofprobe
from roofprobe.costmodel.calibration import default_calibration

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

CASES = 10_000
MODELS = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "qwen3-30b-a3b", "mixtral-8x7b")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    chance = random.Random(0)
    rows = (
        (
            chance.choice(MODELS), chance.choice(("bf16", "fp8")), chance.choice((1, 2, 4, 8)),
            chance.randint(1, 256), chance.randint(64, 8000), chance.randint(1, 2000),
        )
        for _ in range(CASES)
    )  # fmt: skip
    file = tmp_path / "cases.csv"
    header = "model,precision,tp,concurrency,input_len,output_len\n"
    file.write_text(header + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return file


def test_a_sweep_of_ten_thousand_cases(benchmark: BenchmarkFixture, sweep: Path) -> None:
    calibration = default_calibration("H100 SXM")
    found = benchmark(lambda: roofprobe.plan_cases(sweep, calibration=calibration))
    assert len(found) == CASES


def cold(*arguments: str | Path) -> bytes:
    command = [sys.executable, "-m", "roofprobe", "plan", "--gpu", "H100 SXM", "--json"]
    return subprocess.run([*command, *map(str, arguments)], check=True, capture_output=True).stdout


def test_a_sweep_from_a_cold_process(benchmark: BenchmarkFixture, sweep: Path) -> None:
    assert len(json.loads(benchmark(lambda: cold("--cases", sweep)))) == CASES


def test_one_case_from_a_cold_process(benchmark: BenchmarkFixture) -> None:
    found = benchmark(lambda: cold("--model", "llama-3.1-8b"))
    assert json.loads(found)["model"] == "llama-3.1-8b"
