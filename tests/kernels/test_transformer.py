"""A real transformer's steps: right, counted, watched, and unchanged by being swept."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from roofprobe.kernels import sweep as sweeping
from roofprobe.kernels import transformer
from roofprobe.kernels.transformer import DECODE, PREFILL, Sizes
from roofprobe.kernels.transformer_parts import parts_of
from roofprobe.kernels.work import Target, Unsupported, Work

pytest.importorskip("transformers")
CPU = Target("cpu", "cpu")
SIZES = Sizes(layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, inter=96, vocab=128)


@pytest.fixture(scope="module")
def model() -> Any:
    return transformer.build(SIZES, "fp32", CPU, seed=3)


def launched(work: Work) -> torch.Tensor:
    found = work.launches[0]()
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize(("phase", "batch", "length"), [(PREFILL, 2, 12), (DECODE, 3, 9)])
def test_a_step_agrees_with_a_forward_pass_over_all_tokens(
    model: Any, phase: str, batch: int, length: int
) -> None:
    work = transformer.prepare(model, SIZES, phase, "fp32", batch=batch, length=length, seed=0)
    with work.settings():
        check = work.check()
        assert check.problem is None
        assert check.error < 1e-5
        first, again = (launched(work) for _ in range(2))
        assert torch.equal(first, again), "a step must leave nothing behind"


def test_a_cache_that_is_wrong_in_one_token_is_found(model: Any) -> None:
    made = transformer.step(model, DECODE, 1, 9, seed=0)
    broken = transformer.Step(model, made.tokens.roll(1, dims=1), made.launch, made.logits)
    with torch.no_grad():
        assert transformer._check(made, 1e-3).problem is None
        assert "off by" in (transformer._check(broken, 1e-3).problem or "")


def test_parameters_operations_and_bytes_are_counted(model: Any) -> None:
    assert sum(each.numel() for each in model.parameters()) == SIZES.parameters
    products = 64 * (2 * (4 + 2) * 16 + 3 * 96)
    assert SIZES.layer_products == products
    pairs = 5 * 6 // 2
    assert SIZES.flops(2, 5, 5) == 2 * 2 * (2 * products * 5 + 128 * 64) + 2 * (
        4 * 16 * pairs * 4 * 2
    )
    work = transformer.prepare(model, SIZES, DECODE, "fp32", batch=3, length=9, seed=0)
    cached = 2 * 3 * 9 * 2 * 2 * 16 * 4
    assert work.bytes_read == SIZES.parameters * 4 + cached
    assert work.bytes_written == cached // 9


def test_the_same_seed_gives_the_same_model_and_leaves_torchs_own_alone(model: Any) -> None:
    before = torch.random.get_rng_state()
    again = transformer.build(SIZES, "fp32", CPU, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_there_is_no_decode_of_a_first_token(model: Any) -> None:
    with pytest.raises(Unsupported, match="no decode of 1 x 1"):
        transformer.prepare(model, SIZES, DECODE, "fp32", batch=1, length=1, seed=0)


@pytest.mark.parametrize("phase", [PREFILL, DECODE])
def test_every_operation_of_a_step_is_watched_as_often_as_it_runs(model: Any, phase: str) -> None:
    work = transformer.prepare(model, SIZES, phase, "fp32", batch=1, length=6, seed=0)
    with work.settings():
        result = launched(work)
        (seen,) = parts_of(model, work.launches[0], CPU, steps=1)
        assert torch.equal(result, launched(work))
    layers = SIZES.layers
    for name in ("q", "k", "v", "o", "gate", "up", "down", "attention"):
        assert seen[name][0] == layers, name
    assert seen["add"][0] == seen["kv_write"][0] == seen["act"][0] == 2 * layers
    assert seen["lm_head"][0] == seen["embed"][0] == seen["sample"][0] == 1
    assert {"norm", "final_norm", "rope", "angles"} < set(seen)
    assert all(seconds > 0 for _, seconds in seen.values())
    assert not any(module._forward_hooks for module in model.modules()), "hooks were left"


def test_a_sweep_reads_on_where_it_stopped_and_is_timed() -> None:
    swept = sweeping.Sweep(1 << 12)
    for wanted, place in ((4096, 1024), (2048, 1536), (4096, 1024), (1 << 20, 2048)):
        spent = swept.spent_s
        swept(wanted)
        assert swept._next == place
        assert swept.spent_s > spent


def test_sweeping_after_products_changes_no_result(model: Any) -> None:
    own = transformer.build(SIZES, "fp32", CPU, seed=3)
    swept = sweeping.Sweep(1 << 12)
    sweeping.after_products(own, swept, 7 * 1024)
    tokens = torch.arange(6).unsqueeze(0)
    with torch.no_grad():
        assert torch.equal(own(tokens).logits, model(tokens).logits)
    assert swept._next == 2 * 7 * 1024 // 4 % 2048
