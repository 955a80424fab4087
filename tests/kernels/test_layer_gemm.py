"""Products of layers: weights go round, the input stays, every byte is counted."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from roofprobe.kernels import layer_gemm, routes
from roofprobe.kernels.weight_arena import WeightArena
from roofprobe.kernels.work import Target, Unsupported, Work

CPU = Target("cpu", "cpu", "x86_64", 2)
SHAPES = ((1, 96, 64), (7, 100, 36), (33, 64, 128))
MIB = 1 << 20


def arena_for(row: str, *shapes: tuple[int, int, int], cache_bytes: int = 1 << 16) -> WeightArena:
    return WeightArena(
        routes.routes_for(row)[0].compute_row, CPU, shapes, cache_bytes=cache_bytes,
        limit_bytes=None, seed=3,
    )  # fmt: skip


def prepared(row: str, shape: tuple[int, int, int], **more: Any) -> Work:
    return layer_gemm.prepare(
        routes.routes_for(row)[0], CPU, arena_for(row, shape), shape, seed=3, **more
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("row", ["fp32", "bf16", "fp16"])
def test_a_layer_is_right_and_counted(row: str, shape: tuple[int, int, int]) -> None:
    work = prepared(row, shape)
    with work.settings():
        assert work.check().problem is None
    m, n, k = shape
    item = 4 if row == "fp32" else 2
    assert work.flops == 2 * m * n * k
    assert work.bytes_read == item * (m * k + n * k)
    assert work.bytes_written == item * m * n
    assert work.kernel == "F.linear"


def test_weights_go_round_over_four_caches_and_the_input_stays() -> None:
    shape = (4, 256, 256)
    arena = arena_for("fp32", shape, cache_bytes=MIB)
    sets = arena.sets(shape)
    assert len(sets) == 16, "256 KiB each against 4 MiB"
    assert len({each.b.values.data_ptr() for each in sets}) == 16
    assert len({each.a.values.data_ptr() for each in sets}) == 1
    assert len({each.out.data_ptr() for each in sets}) == 1
    ends = sorted(each.b.values.data_ptr() for each in sets)
    assert all(later - earlier >= 256 << 10 for earlier, later in pairwise(ends))


def test_one_arena_serves_shapes_whose_parts_fit_and_no_others() -> None:
    arena = arena_for("fp32", (64, 128, 512), (8, 1024, 64), cache_bytes=MIB)
    assert arena.capacity((64, 128, 512)) >= arena.sets_wanted((64, 128, 512)) == 16
    assert arena.capacity((64, 1024, 128)) == 0, "its result is larger than any"
    assert arena.capacity((128, 64, 512)) == 0, "its input is"


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.tuples(*(st.integers(1, 300),) * 3), min_size=1, max_size=6),
    st.sampled_from(["fp32", "bf16", "fp8-rowwise"]),
)
def test_the_bytes_of_an_arena_are_known_before_it_is_made(
    shapes: list[tuple[int, int, int]], row: str
) -> None:
    compute_row = routes.routes_for(row)[0].compute_row
    told = WeightArena.bytes_for(compute_row, shapes, 1 << 14)
    arena = arena_for(row, *shapes, cache_bytes=1 << 14)
    assert told <= arena.nbytes, "views begin at multiples of 256 elements"
    least = WeightArena.bytes_for(compute_row, [(256, 256, 256)], 0)
    assert arena.nbytes < told + least * 512


def test_an_input_is_quantised_at_each_launch_and_both_tensors_count() -> None:
    shape = (16, 64, 128)
    work = prepared("fp8-rowwise", shape, quantised=True)
    with work.settings():
        told = work.check()
    assert told.problem is None
    m, n, k = shape
    assert work.bytes_read == 2 * m * k + (m * k + 4 * m) + (n * k + 4 * n)
    assert work.bytes_written == (m * k + 4 * m) + 2 * m * n
    static = prepared("fp8-rowwise", shape)
    assert static.bytes_read == (m * k + 4 * m) + (n * k + 4 * n)
    with static.settings():
        assert static.check().problem is None
    with pytest.raises(Unsupported):
        prepared("fp32", shape, quantised=True)


def test_a_precision_takes_the_first_row_that_the_device_has() -> None:
    hopper = Target("cuda", "cuda:0", "sm_90", 132)
    assert layer_gemm.route_for("fp8", hopper).row == "fp8-rowwise-fast"
    assert layer_gemm.route_for("fp8", replace(hopper, architecture="sm_100")).row == "fp8-rowwise"
    assert layer_gemm.route_for("bf16", CPU).row == "bf16"
    for precision, target in (("fp8", replace(hopper, architecture="sm_80")), ("nvfp4", CPU)):
        with pytest.raises(Unsupported) as refused:
            layer_gemm.route_for(precision, target)
        assert refused.value.sentence
    with pytest.raises(Unsupported) as unknown:
        layer_gemm.route_for("fp5", CPU)
    assert unknown.value.code == "precision"


def test_a_result_of_another_weight_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.nn.functional.linear

    def shifted(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return right(x, weight.roll(1, 0))

    monkeypatch.setattr(torch.nn.functional, "linear", shifted)
    assert prepared("fp32", (5, 64, 96)).check().problem is not None
