"""One step closely: its operations by name, and the batch at which decode turns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roofprobe.costmodel.calibration import Calibration, default_calibration
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.ops import roofline
from roofprobe.costmodel.predict import step_time, turning_batch
from roofprobe.costmodel.steps import Layout, Load, step_ops
from roofprobe.records.errors import RoofprobeError

BF16: dict[str, Any] = {"precision": "bf16", "kv_precision": "bf16"}


def test_a_steps_operations_add_up_to_it() -> None:
    h100, model = default_calibration("H100 SXM"), load_model("llama-3.1-8b")
    found = step_time(h100, model, Load(decodes=8.0, context=1000.0), **BF16)
    assert found.median_s == pytest.approx(sum(op.median_s for op in found.ops))
    assert found.bound == "memory"
    assert found.p10_s < found.median_s < found.p90_s
    names = [op.name for op in found.ops]
    assert names.index("qkv") < names.index("attention") < names.index("o")
    assert {op.count for op in found.ops if op.name == "down"} == {32}


def test_what_cannot_be_timed_is_an_error(plain_calibration: Any) -> None:
    calibration = plain_calibration(refuse=frozenset({"sample"}))
    with pytest.raises(RoofprobeError, match="sample was never measured"):
        step_time(calibration, load_model("llama-3.1-8b"), Load(decodes=1.0), **BF16)


@pytest.fixture(scope="module")
def h100() -> Calibration:
    return default_calibration("H100 SXM")


def test_decode_turns_where_arithmetic_overtakes_the_weights(h100: Calibration) -> None:
    # A product alone turns near P·b_w/(2W) = 295 rows; its activations and norms, which grow with
    # the rows, push it up, and so does every token of cache.
    batch = turning_batch(h100, load_model("llama-3.1-8b"), [1.0, 100.0], **BF16)
    assert 295 < batch[0] < batch[1] < 2 * 295


def test_at_the_turn_arithmetic_has_just_overtaken(h100: Calibration) -> None:
    model = load_model("llama-3.1-8b")
    (batch,) = turning_batch(h100, model, 100.0, **BF16)
    for rows, bound in ((batch - 1, False), (batch, True)):
        load = Load(decodes=rows, context=100.0)
        least = roofline(h100, step_ops(model, load, **BF16), 1)
        assert bool(least.compute_s[0] >= least.memory_s[0]) is bound


def test_a_long_context_never_turns(h100: Calibration) -> None:
    batch = turning_batch(h100, load_model("llama-3.1-8b"), 100_000.0, **BF16)
    assert np.isnan(batch).all()


def test_experts_turn_later_since_each_sees_few_tokens(h100: Calibration) -> None:
    dense, sparse = (
        turning_batch(h100, load_model(name), 1.0, **BF16)[0]
        for name in ("qwen3-32b", "mixtral-8x7b")
    )
    assert sparse > 2 * dense


def test_the_turn_is_a_property_of_each_layout(h100: Calibration) -> None:
    model = load_model("llama-3.1-8b")
    alone, split = (
        turning_batch(h100, model, 1.0, layout=Layout(tp=tp), **BF16)[0] for tp in (1, 4)
    )
    assert split > alone
