"""Our Triton kernels compute what they say, in the interpreter, against float64 references.

bf16 products are left out here: the interpreter of Triton 3.9 returns garbage for a bf16 dot. The
kernels are the same for all precisions, so their logic is the one that fp16 tests; that bf16 lowers
to the right instruction is tested ahead of time, and its result on a GPU before every measurement.
Inline assembly cannot run here either: 4-bit integers and packed halves are tested on a GPU only.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roofprobe.kernels.cycle import random_order

PRODUCT_TOLERANCE = {
    "fp64": 1e-14,
    "fp32": 1e-6,
    "tf32": 2e-3,
    "fp16": 1e-3,
    "fp16-acc16": 2e-3,
    "fp8": 4e-3,
    "fp8-fast": 4e-3,
    "fp8-rowwise": 4e-3,
    "int8": 0.0,
}
BF16_OUTPUT = 4e-3  # half a unit in the last of 8 bits, relative

Errors = dict[str, dict[str, float]]


def interpreted(*parts: str) -> Any:
    script = Path(__file__).with_name("interpreted.py")
    command = [sys.executable, str(script), *parts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def errors() -> Errors:
    found: Errors = interpreted("products", "blockwise", "microscaled", "pipe")
    return found


def beyond(found: dict[str, float], tolerance: dict[str, float]) -> dict[str, float]:
    return {
        name: error
        for name, error in found.items()
        if math.isnan(error) or error > tolerance[name.split()[0]]
    }


def test_every_product_kernel_row_and_ragged_shape_is_right(errors: Errors) -> None:
    assert len(errors["products"]) == 4 * (9 + 2 + 3) + 3 * (4 + 2 + 2)
    assert {name.split()[0] for name in errors["products"]} == set(PRODUCT_TOLERANCE)
    assert beyond(errors["products"], PRODUCT_TOLERANCE) == {}


def test_products_with_a_scale_per_block_are_right(errors: Errors) -> None:
    assert len(errors["blockwise"]) == 4
    assert max(errors["blockwise"].values()) < BF16_OUTPUT


def test_microscaled_products_are_right(errors: Errors) -> None:
    assert len(errors["microscaled"]) == 8
    assert max(errors["microscaled"].values()) < BF16_OUTPUT


def test_pipe_loops_end_at_the_expected_integers_in_every_program(errors: Errors) -> None:
    assert len(errors["pipe"]) == 10
    assert [name for name, right in errors["pipe"].items() if not right] == []


def test_the_chase_stands_where_the_cycle_says_after_launches_and_timed_accesses() -> None:
    walks = interpreted("chase")["chase"]
    assert len(walks) == 2 * 4
    for name, walk in walks.items():
        lines = int(name.split()[1])
        order = random_order(lines, lines)
        assert walk["stops"] == [order[accesses % lines] for accesses in (0, 96, 96 + 5)]
        assert walk["cycles"] == [1] * 5
        assert walk["errors"] == [0, 1]
