"""Which splits a model allows, and how stages share its layers."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.parallelism import split_of, stage_bounds
from roofprobe.records.errors import RoofprobeError


@pytest.mark.parametrize(
    ("model", "degrees", "sentence"),
    [
        ("llama-3.1-8b", {"tp": 3}, r"tp=3 does not divide the 32 heads .* use one of 1, 2, 4, 8"),
        ("qwen2.5-7b", {"tp": 8}, r"tp=8 does not divide the 28 heads"),
        ("llama-3.1-8b", {"tp": 64}, r"tp=64 does not divide the 32 heads"),
        ("llama-3.1-8b", {"pp": 33}, r"pp=33 is more than the 32 layers"),
        ("llama-3.1-8b", {"ep": 2}, r"ep=2 spreads experts, but llama-3\.1-8b has none"),
        ("mixtral-8x7b", {"ep": 16}, r"ep=16 is more than the 8 experts"),
        ("qwen3-30b-a3b", {"tp": 4, "ep": 6}, r"ep=6 and tp=4 do not fit each other"),
        ("llama-3.1-8b", {"tp": 0}, r"tp=0 must be a whole number from 1"),
        ("llama-3.1-8b", {"pp": -1}, r"pp=-1 must be"),
        ("llama-3.1-8b", {"ep": 1.5}, r"ep=1\.5 must be"),
        ("llama-3.1-8b", {"tp": True}, r"tp=True must be"),
        ("llama-3.1-8b", {"tp": 10**12}, r"must be a whole number from 1 to 1,000,000"),
    ],
)
def test_a_split_that_the_model_does_not_allow_is_one_sentence(
    model: str, degrees: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RoofprobeError, match=sentence) as caught:
        split_of(load_model(model), **degrees)
    assert caught.value.code == "bad-parallelism"


@pytest.mark.parametrize(
    ("tp", "ep", "expert_tp"), [(8, 1, 8), (8, 2, 4), (8, 8, 1), (1, 8, 1), (4, 64, 1)]
)
def test_an_expert_is_split_over_the_gpus_that_expert_parallelism_leaves(
    tp: int, ep: int, expert_tp: int
) -> None:
    assert split_of(load_model("deepseek-v3"), tp=tp, ep=ep).expert_tp == expert_tp


def test_stages_are_as_even_as_can_be_and_hold_every_layer_once() -> None:
    assert stage_bounds(61, 4) == ((0, 16), (16, 31), (31, 46), (46, 61))
    assert stage_bounds(3, 3) == ((0, 1), (1, 2), (2, 3))
    assert stage_bounds(5, 1) == ((0, 5),)
