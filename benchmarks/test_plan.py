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
from roofprobe.costmodel.calibrate import calibrate
from roofprobe.costmodel.calibration import default_calibration
from roofprobe.costmodel.calibration_file import calibration_bytes

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

CASES = 10_000
TABLES = Path(__file__).parents[1] / "tests" / "costmodel" / "data"
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


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a calibration with measured sites, which are kriged."""
    tables = [TABLES / "gemm.csv", TABLES / "attention.csv"]
    file = tmp_path_factory.mktemp("calibration") / "calibration.json"
    file.write_bytes(calibration_bytes(calibrate(tables, gpu="H100 SXM").file))
    return file


def with_targets(sweep: Path) -> Path:
    first, *rows = sweep.read_text().splitlines()
    targets = ["10", "20", "30", "50"]
    lines = [f"{first},tpot_ms", *(f"{row},{targets[i % 4]}" for i, row in enumerate(rows))]
    file = sweep.with_name("targets.csv")
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("targets", [False, True])
def test_a_sweep_with_measured_operations(
    benchmark: BenchmarkFixture, sweep: Path, measured: Path, targets: bool
) -> None:
    """Each round reads the calibration anew: nothing is remembered from the one before."""
    cases = with_targets(sweep) if targets else sweep
    found = benchmark(lambda: roofprobe.plan_cases(cases, calibration=measured))
    assert len(found) == CASES


def test_a_sweep_with_measured_operations_from_a_cold_process(
    benchmark: BenchmarkFixture, sweep: Path, measured: Path
) -> None:
    found = benchmark(lambda: cold("--cases", sweep, "--calibration", measured))
    assert len(json.loads(found)) == CASES


def cold(*arguments: str | Path) -> bytes:
    command = [sys.executable, "-m", "roofprobe", "plan", "--gpu", "H100 SXM", "--json"]
    return subprocess.run([*command, *map(str, arguments)], check=True, capture_output=True).stdout


def test_a_sweep_from_a_cold_process(benchmark: BenchmarkFixture, sweep: Path) -> None:
    assert len(json.loads(benchmark(lambda: cold("--cases", sweep)))) == CASES


def test_one_case_from_a_cold_process(benchmark: BenchmarkFixture) -> None:
    found = benchmark(lambda: cold("--model", "llama-3.1-8b"))
    assert json.loads(found)["model"] == "llama-3.1-8b"
