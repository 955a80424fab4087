"""Our Triton kernels compute what they say, in the interpreter, against float64 references.

bf16 products are left out here: the interpreter of Triton 3.9 returns garbage for a bf16 dot. The
kernel is one for all precisions, so its logic is the one that fp16 tests; that bf16 lowers to the
right instruction is tested ahead of time, and its result on a GPU before every measurement.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

MATMUL_TOLERANCE = {
    "fp64": 1e-14,
    "fp32": 1e-6,
    "tf32": 2e-3,
    "fp16": 1e-3,
    "fp8": 4e-3,
    "int8": 0.0,
}
STREAM_TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 8e-3}


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[str, float]]:
    script = Path(__file__).with_name("interpreted.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def test_every_precision_and_ragged_shape_is_right(errors: dict[str, dict[str, float]]) -> None:
    assert len(errors["matmul"]) == len(MATMUL_TOLERANCE) * 4
    wrong = {
        name: error
        for name, error in errors["matmul"].items()
        if math.isnan(error) or error > MATMUL_TOLERANCE[name.split()[0]]
    }
    assert wrong == {}


def test_every_stream_kernel_type_and_tail_is_right(errors: dict[str, dict[str, float]]) -> None:
    assert len(errors["stream"]) == 7 * 3 * 3
    wrong = {
        name: error
        for name, error in errors["stream"].items()
        if math.isnan(error) or error > STREAM_TOLERANCE[name.split()[1]]
    }
    assert wrong == {}


def test_a_copy_is_exact(errors: dict[str, dict[str, float]]) -> None:
    copies = {name: error for name, error in errors["stream"].items() if name.startswith("copy")}
    assert len(copies) == 9
    assert set(copies.values()) == {0.0}
