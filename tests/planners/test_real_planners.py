"""The planners themselves on exported files: opt-in, ``make test-planners``.

One source is the calibration of the published H100 slice, the other a run on this host's processor.
A planner without its environment skips with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "costmodel" / "data"
PLANNERS = ("aiconfigurator", "llm-analysis", "genz", "calculon", "infersim", "llmservingsim")
# Tables hold whatever the timings are; one pair of efficiencies cannot hold a phase that is bound
# half by arithmetic and half by memory, nor one curve two kernels. On a processor both are usual,
# so there only what looks times up must agree (docs/planners.md).
TABLES = ("aiconfigurator", "infersim", "llmservingsim")
TOLERANCE = 0.05

pytestmark = [pytest.mark.planners, pytest.mark.timeout(1200)]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def h100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("h100") / "calibration.json"
    tables = [str(DATA / name) for name in ("gemm.csv", "attention.csv")]
    done = run("-m", "roofprobe", "calibrate", *tables, "--gpu", "H100 SXM", "--framework",
               "VLLM", "--out", str(out), "--quiet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cpu")
    done = run("-m", "roofprobe", "all", "--device", "cpu", "--out", str(out), "--quiet")
    assert done.returncode == 0, done.stderr
    return out / "latest"


def compared(source: Path, planner: str) -> list[dict[str, Any]]:
    done = run("tools/compare_planners.py", str(source), "--planner", planner, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if answer["left_out"]:
        pytest.skip(answer["left_out"][planner])
    rows: list[dict[str, Any]] = answer["rows"]
    assert rows
    for row in rows:
        print(f"{row['case']}: {row['planner_ms']:.4g} ms, probe {row['plan_ms']:.4g} ms, "
              f"alike {row['alike_difference']:+.1%} {row['why']}")  # fmt: skip
    return rows


@pytest.mark.parametrize("planner", PLANNERS)
def test_an_h100_table_gives_the_planner_our_times(h100: Path, planner: str) -> None:
    for row in compared(h100, planner):
        assert abs(row["alike_difference"]) < TOLERANCE, row
        assert row["why"] or abs(row["difference"]) < TOLERANCE, row


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_run_on_this_processor_loads_and_gives_times(processor: Path, planner: str) -> None:
    for row in compared(processor, planner):
        assert row["planner_ms"] > 0
        if planner in TABLES:
            assert abs(row["alike_difference"]) < TOLERANCE, row
