from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from roofprobe.probes.candidates import (
    MODEL_LAYERS,
    PUBLISHED,
    TILES,
    Group,
    Kind,
    Limits,
    Space,
    flops,
    footprint_bytes,
    space_for,
    wave_efficiency,
)

ROOMY = Limits(16e9, 2, 2, max_flops=1e13, align_n=16, align_k=16, step=128)
SIZES = st.integers(1, 20_000)
GROUPS: tuple[Group, ...] = ("fp64", "fp32", "tf32", "narrow")


@pytest.mark.parametrize(
    ("m", "n", "units", "expected"),
    [
        (4096, 9728, 152, 1.0),  # 16 × 38 tiles of 256 × 256 in 4 waves
        (19456, 5120, 152, 1.0),  # 76 × 20 in 10 waves
        (1024, 10240, 108, 0.9877),  # 4 × 54 of 256 × 192 in 2 waves, the last column half full
        (128, 128, 132, 1 / 132),
        (129, 128, 1, 129 / 192),  # one tile of 192 × 128 beats two of 128 × 128
    ],
)
def test_wave_efficiency_of_known_shapes(m: int, n: int, units: int, expected: float) -> None:
    assert wave_efficiency(m, n, units) == pytest.approx(expected, rel=1e-4)


def test_one_tile_more_than_a_wave_halves_the_efficiency() -> None:
    assert wave_efficiency(128, 128 * 100, 100, [(128, 128)]) == 1.0
    assert wave_efficiency(128, 128 * 101, 100, [(128, 128)]) == 101 / 200


@given(m=SIZES, n=SIZES, units=st.integers(1, 400))
def test_wave_efficiency_is_a_share_and_more_tiles_to_choose_from_never_lower_it(
    m: int, n: int, units: int
) -> None:
    every = wave_efficiency(m, n, units)
    assert 0 < every <= 1
    assert every == max(wave_efficiency(m, n, units, [tile]) for tile in TILES)


@given(m=SIZES, n=SIZES, units=st.integers(1, 400), tile=st.sampled_from(TILES))
def test_exchanging_rows_and_columns_exchanges_the_tile(
    m: int, n: int, units: int, tile: tuple[int, int]
) -> None:
    assert wave_efficiency(m, n, units, [tile]) == wave_efficiency(n, m, units, [tile[::-1]])


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1)])
def test_sizes_that_are_not_positive_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        wave_efficiency(*sizes)
    with pytest.raises(ValueError, match="must be positive"):
        wave_efficiency(1, 1, 1, [])


def test_operations_and_footprint_count_every_element_once() -> None:
    assert flops((2, 3, 5)) == 60
    assert footprint_bytes((2, 3, 5), 1, 0) == 2 * 5 + 5 * 3
    assert footprint_bytes((2, 3, 5), 0.5, 4) == 12.5 + 24


limits_of = st.builds(
    Limits,
    max_set_bytes=st.floats(1e4, 1e11),
    operand_bytes=st.sampled_from([0.5, 1, 2, 4, 8]),
    output_bytes=st.sampled_from([2, 4, 8]),
    max_flops=st.floats(1e6, 1e13),
    min_flops=st.floats(0, 1e9),
    align_n=st.sampled_from([1, 8, 16, 32]),
    align_k=st.sampled_from([1, 8, 16, 128]),
    min_m=st.sampled_from([0, 16]),
    step=st.sampled_from([16, 64, 256]),
)


def build(kind: Kind, group: Group, limits: Limits, units: int | None) -> Space:
    return space_for(kind=kind, group=group, limits=limits, units=units, family="sm_90")


@given(
    kind=st.sampled_from(["gpu", "cpu"]),
    group=st.sampled_from(GROUPS),
    limits=limits_of,
    units=st.one_of(st.none(), st.integers(1, 320)),
)
def test_every_space_is_distinct_within_its_limits_and_the_same_each_time(
    kind: Kind, group: Group, limits: Limits, units: int | None
) -> None:
    space = build(kind, group, limits, units)
    assert len(set(space.shapes)) == len(space.shapes)
    for m, n, k in space.shapes:
        assert m > limits.min_m
        assert n % limits.align_n == k % limits.align_k == 0
        assert limits.min_flops <= 2 * m * n * k <= limits.max_flops
        operands = (m * k + k * n) * limits.operand_bytes + m * n * limits.output_bytes
        assert operands <= limits.max_set_bytes
    assert space == build(kind, group, limits, units)
    assert space.sentence.startswith(f"{len(space.shapes)} shapes: ")
    assert f"{space.pruned} dropped" in space.sentence


@given(limits=limits_of, units=st.integers(1, 320), data=st.data())
def test_neighbours_differ_in_one_axis_and_keep_to_the_limits(
    limits: Limits, units: int, data: st.DataObject
) -> None:
    space = build("gpu", "narrow", limits, units)
    assume(space.shapes)
    shape = data.draw(st.sampled_from(space.shapes))
    moves = space.neighbours(shape)
    assert len(set(moves)) == len(moves) <= 12
    for other in moves:
        assert sum(a != b for a, b in zip(shape, other, strict=True)) == 1
        assert limits.refusal(other) is None


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("units", [40, 58, 84, 108, 114, 132, 142, 148, 152, 160, 170, 304, None])
def test_a_gpu_gets_150_to_400_candidates(units: int | None, group: Group) -> None:
    space = build("gpu", group, ROOMY, units)
    assert 150 <= len(space.shapes) <= 400


@pytest.mark.parametrize("units", [37, 108, 132, 148, 152, 304])
def test_shapes_made_for_a_gpu_fill_its_waves_in_many_ways(units: int) -> None:
    named = {row.shape for row in PUBLISHED}
    layers = {layer for model in MODEL_LAYERS.values() for layer in model}
    made = [
        (m, n)
        for m, n, k in build("gpu", "narrow", ROOMY, units).shapes
        if (m, n, k) not in named and (n, k) not in layers and not m == n == k
    ]
    assert all(wave_efficiency(m, n, units) >= 0.97 for m, n in made)
    assert len(made) > 100
    assert len(set(made)) >= 25
    assert len({round(math.log2(m / n)) for m, n in made}) >= 5


def test_a_cpu_gets_few_shapes_and_none_above_its_operations() -> None:
    space = build("cpu", "fp32", Limits(1e9, 4, 4, max_flops=4e9), 2)
    assert 40 <= len(space.shapes) <= 80
    slow = build("cpu", "narrow", Limits(1e9, 2, 2, max_flops=1e8), 2)
    assert 5 <= len(slow.shapes) < 40
    assert max(map(flops, slow.shapes)) <= 1e8


def test_the_familys_own_published_shapes_come_first_and_the_others_follow() -> None:
    own = [row.shape for row in PUBLISHED if row.family == "sm_100"]
    space = space_for(kind="gpu", group="narrow", limits=ROOMY, units=148, family="sm_100")
    assert list(space.shapes[: len(own)]) == own
    assert {row.shape for row in PUBLISHED} <= set(space.shapes)


def test_published_shapes_are_distinct_per_family_and_name_their_source() -> None:
    assert len({(row.family, row.shape) for row in PUBLISHED}) == len(PUBLISHED)
    assert all("/" in row.source and min(row.shape) > 0 for row in PUBLISHED)


def test_model_layers_are_plausible_weight_matrices() -> None:
    for name, layers in MODEL_LAYERS.items():
        assert layers, name
        assert all(n % 128 == 0 and k % 128 == 0 for n, k in layers), name


def test_little_memory_drops_large_shapes_and_says_so() -> None:
    space = build("gpu", "narrow", Limits(64e6, 2, 2, max_flops=1e13), 132)
    assert 0 < len(space.shapes) < 150
    assert space.pruned > 100
    assert "footprint" in space.sentence


def test_shapes_that_are_taken_out_count_as_dropped_with_their_reason() -> None:
    limits = Limits(1e7, 4, 4, 1e10, step=64)
    space = build("cpu", "fp32", limits, None)
    assert space.without((), "memory") is space
    less = space.without(space.shapes[1:4], "memory")
    assert less.shapes == (space.shapes[0], *space.shapes[4:])
    assert less.pruned == space.pruned + 3
    assert less.sentence == space.sentence[:-1] + "; then 3 more dropped (memory)."
    assert less.limits == space.limits


def test_nothing_fits_into_no_room_and_the_sentence_says_so() -> None:
    space = build("gpu", "narrow", Limits(1000, 2, 2, max_flops=1e13), 132)
    assert space.shapes == ()
    assert "none fits" in space.sentence


def test_a_model_layer_that_leaves_waves_half_empty_is_dropped() -> None:
    units = 4096  # far more than tiles in most of the layers
    space = build("gpu", "narrow", ROOMY, units)
    assert (4096, 4096, 4096) in space.shapes  # a square stays whatever its waves
    assert (4096, 4608, 3584) not in space.shapes
    assert "waves" in space.sentence


@pytest.mark.parametrize("name", ["max_set_bytes", "operand_bytes", "align_n", "step"])
def test_limits_that_nothing_can_be_held_against_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(ROOMY, **{name: 0})


def test_the_step_is_a_tile_on_a_gpu_and_smaller_on_a_cpu_unless_one_is_given() -> None:
    plain = Limits(1e9, 4, 4, max_flops=4e9)
    expected: list[tuple[Kind, Limits, int]]
    expected = [("gpu", plain, 256), ("cpu", plain, 64), ("gpu", ROOMY, 128)]
    for kind, limits, step in expected:
        found = build(kind, "fp32", limits, 132).limits
        assert found is not None
        assert found.step == step


def test_moves_without_limits_go_along_the_lines_of_the_list() -> None:
    space = Space("", ((1, 1, 1), (2, 1, 1), (4, 1, 1), (2, 8, 1), (4, 8, 8)), 0)
    assert set(space.neighbours((2, 1, 1))) == {(1, 1, 1), (4, 1, 1), (2, 8, 1)}
    assert space.neighbours((4, 8, 8)) == ()


def test_moves_within_limits_are_half_double_and_one_step_of_each_axis() -> None:
    space = Space("", (), 0, Limits(1e9, 4, 4, max_flops=math.inf, step=64))
    expected = {(size, 512, 512) for size in (256, 448, 576, 1024)}
    moves = space.neighbours((512, 512, 512))
    assert {move for move in moves if move[1:] == (512, 512)} == expected
    assert len(moves) == 12
