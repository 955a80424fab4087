"""Layers of experts: routing as it says, results right, only experts that were chosen counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from roofprobe.kernels import experts
from roofprobe.kernels.experts import Experts, route_tokens
from roofprobe.kernels.work import Target, Unsupported, Work

CPU = Target("cpu", "cpu", "x86_64", 2)
LAYER = Experts(20, 8, 2, 64, 48, 8)


def prepared(sizes: Experts, **more: Any) -> Work:
    options: dict[str, Any] = {
        "routing": "balanced", "cache_bytes": 0, "limit_bytes": None, "seed": 1, **more,
    }  # fmt: skip
    return experts.prepare(sizes, options.pop("route", "loop"), options.pop("precision", "fp32"),
                           CPU, **options)  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("routing", experts.ROUTINGS)
@pytest.mark.parametrize(
    "sizes", [LAYER, Experts(1, 8, 2, 64, 48, 8), Experts(50, 16, 4, 32, 64, 4)]
)
def test_a_layer_is_right(sizes: Experts, routing: str, precision: str) -> None:
    work = prepared(sizes, routing=routing, precision=precision)
    told = work.check()
    assert told.problem is None
    assert told.checked_elements == sizes.tokens * sizes.hidden


def test_every_token_has_its_experts_once_and_its_shares_sum_to_one() -> None:
    for routing in experts.ROUTINGS:
        routed = route_tokens(LAYER, routing, seed=3)
        assert routed.pairs == 20 * 2
        assert torch.bincount(routed.rows, minlength=20).tolist() == [2] * 20
        sums = torch.zeros(20).index_add_(0, routed.rows, routed.shares)
        assert torch.allclose(sums, torch.ones(20))
        owners = torch.repeat_interleave(torch.arange(8), torch.tensor(routed.counts))
        assert len({*zip(routed.rows.tolist(), owners.tolist(), strict=True)}) == 40


def test_balanced_experts_get_alike_and_a_power_law_does_not() -> None:
    many = Experts(8192, 32, 4, 1, 1, 32)
    even = route_tokens(many, "balanced", seed=1).counts
    skewed = route_tokens(many, "power-law-1.2", seed=1).counts
    assert max(even) < 1.2 * sum(even) / 32
    assert max(skewed) > 3 * sum(skewed) / 32
    assert sum(even) == sum(skewed) == 8192 * 4


def test_the_distinct_experts_of_few_tokens_are_those_that_the_formula_expects() -> None:
    # E · (1 − (1 − k/E)^m) for draws without replacement, on average over seeds
    found = [route_tokens(Experts(8, 64, 4, 1, 1, 64), "balanced", seed).distinct
             for seed in range(200)]  # fmt: skip
    assert sum(found) / 200 == pytest.approx(64 * (1 - (1 - 4 / 64) ** 8), rel=0.03)


def test_only_local_pairs_are_computed_and_only_chosen_experts_read() -> None:
    sizes = Experts(3, 16, 2, 32, 64, 4)
    work = prepared(sizes)
    pairs, distinct = (int(work.config[name] or 0) for name in ("pairs", "distinct_experts"))
    routed = route_tokens(sizes, "balanced", 1)
    assert (pairs, distinct) == (routed.pairs, routed.distinct)
    assert pairs <= 6
    assert work.flops == 6 * pairs * 32 * 64
    assert work.bytes_read == 4 * (distinct * 3 * 32 * 64 + 3 * 32)
    assert work.bytes_written == 4 * 3 * 32
    assert work.array_bytes == 4 * 4 * 3 * 32 * 64


def test_layers_go_round_by_what_is_read_of_them() -> None:
    work = prepared(Experts(1, 8, 2, 64, 48, 8), cache_bytes=1 << 18)
    read = 2 * 3 * 64 * 48 * 4
    assert len(work.launches) == -(-4 * (1 << 18) // read)
    few = prepared(
        Experts(1, 8, 2, 64, 48, 8), cache_bytes=1 << 18, limit_bytes=9 * 3 * 64 * 48 * 4
    )
    assert len(few.launches) == 1


def test_a_layer_without_any_local_token_is_still_right() -> None:
    sizes = Experts(1, 64, 1, 16, 16, 1)
    seed = next(s for s in range(100) if route_tokens(sizes, "balanced", s).pairs == 0)
    assert prepared(sizes, seed=seed).check().error == 0


def test_grouped_products_agree_with_the_loop() -> None:
    ends = torch.tensor([3, 3, 10], dtype=torch.int32)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(10, 32, generator=generator).bfloat16()
    gate_up, down = (torch.randn(3, *shape, generator=generator).bfloat16() / 6
                     for shape in ((32, 32), (32, 16)))  # fmt: skip
    grouped = experts._grouped(x, gate_up, down, ends=ends)
    looped = experts._loop((3, 0, 7), x, gate_up, down)
    assert torch.allclose(grouped.float(), looped.float(), rtol=0.05, atol=0.02)


def test_what_cannot_be_done_is_refused_in_a_sentence() -> None:
    for more in (
        {"route": "grouped_mm", "precision": "bf16"}, {"route": "no such"}, {"precision": "fp8"},
        {"routing": "no such"}, {"limit_bytes": 1000},
    ):  # fmt: skip
        with pytest.raises(Unsupported) as refused:
            prepared(LAYER, **more)
        assert refused.value.sentence
    with pytest.raises(Unsupported):
        prepared(Experts(1, 2, 3, 8, 8, 2))
