"""Our decode attention and row kernels are right in the interpreter, by the checks of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Outcomes = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcomes]:
    script = Path(__file__).with_name("interpreted_llm.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    found: dict[str, Outcomes] = json.loads(done.stdout)
    return found


def test_every_cache_layout_and_length_is_right(outcomes: dict[str, Outcomes]) -> None:
    decodes = outcomes["decodes"]
    assert {name: told["problem"] for name, told in decodes.items() if told["problem"]} == {}
    assert len(decodes) == 6 * 4
    assert {told["splits"] for told in decodes.values()} >= {1, 2, 17}, "alone, and joined"
    assert all(told["error"] < 5e-4 for told in decodes.values())


def test_every_head_is_checked_and_the_cache_counted_once(outcomes: dict[str, Outcomes]) -> None:
    for name, told in outcomes["decodes"].items():
        size, kv_precision, *_ = name.split()
        batch, kv_len, heads, kv_heads, width = map(int, size.split("x"))
        item = 1 if kv_precision == "fp8" else 2
        query = 2 * batch * heads * width
        assert told["checked"] == batch * heads * width
        assert told["read"] == 2 * batch * kv_len * kv_heads * width * item + query
        assert told["written"] == query


def test_a_step_of_keys_that_is_left_out_is_seen(outcomes: dict[str, Outcomes]) -> None:
    assert outcomes["forgotten"]["problem"]


def test_fused_rows_are_right(outcomes: dict[str, Outcomes]) -> None:
    # The interpreter cuts where it converts to fp8 and hardware rounds: twice the error is its own.
    rows = {name: told for name, told in outcomes["rows"].items() if "quantize" not in name}
    assert {name: told["problem"] for name, told in rows.items() if told["problem"]} == {}
    assert len(rows) == 12
    cut = [told["error"] for name, told in outcomes["rows"].items() if "quantize" in name]
    assert len(cut) == 4
    assert max(cut) < 2 * 2.0**-4 / 3**0.5
