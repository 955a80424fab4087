"""Looking must be cheap: help, reports and peaks work at once and without torch."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "triton", "pandas", "pynvml", "matplotlib", "pydantic", "numpy", "scipy")

REPORT = """
import sys
loaded = [name for name in {names!r} if name in sys.modules]
sys.exit("loaded: " + ", ".join(loaded) if loaded else 0)
"""
HELP = """
from roofprobe.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
"""
BLOCK_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "triton", "pynvml"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("module", ["roofprobe", "roofprobe.cli", "roofprobe.peaks.catalogue"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    done = python(f"import {module}" + REPORT.format(names=HEAVY))
    assert done.returncode == 0, done.stderr


def test_help_loads_nothing_heavy() -> None:
    done = python(HELP + REPORT.format(names=HEAVY))
    assert done.returncode == 0, done.stderr
    assert "doctor" in done.stdout


def test_the_main_flow_is_imported_without_torch() -> None:
    done = python(BLOCK_TORCH + "import roofprobe.run, roofprobe.reporting.html\n")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["peaks"], ["peaks", "T4"], ["schema"]])
def test_looking_up_works_without_torch(arguments: list[str]) -> None:
    done = python(BLOCK_TORCH + f"from roofprobe.cli import app\napp({arguments!r})\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.alone
def test_help_answers_within_0_4_seconds() -> None:
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "roofprobe", "--help"], check=True, stdout=subprocess.DEVNULL
        )
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.4, seconds
