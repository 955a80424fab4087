from dataclasses import replace

import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting.surface import Surface, surfaces

GPU = "GPU-compute"


def made(shares: dict[int, list[float]], basis: str = "datasheet") -> Surface:
    columns = tuple((64 * (i + 1), 64) for i in range(max(map(len, shares.values()))))
    return Surface(
        label="bf16", title="BF16", basis=basis, peak=1000, unit="TFLOPS", regime="burst",  # type: ignore[arg-type]
        ms=tuple(shares), columns=columns,
        shares={(m, columns[i]): v for m, row in shares.items() for i, v in enumerate(row)},
    )  # fmt: skip


def test_shares_are_of_the_rows_own_peak(compute_run: Run) -> None:
    bf16, fp8 = surfaces(compute_run, GPU)
    assert (bf16.label, bf16.basis, bf16.peak) == ("bf16", "datasheet", 1000)
    assert (fp8.label, fp8.basis, fp8.peak) == ("fp8-fast", "datasheet", 2000)
    assert bf16.ms == (1, 16, 64, 256, 1024, 4096)
    assert bf16.columns == ((1024, 4096), (4096, 4096), (4096, 14336), (28672, 4096))
    assert bf16.shares[64, (1024, 4096)] == pytest.approx(0.8 * 64 / 364 * 0.7)


def test_a_skipped_shape_is_a_hole_and_no_zero(compute_run: Run) -> None:
    surface = surfaces(compute_run, GPU)[0]
    assert (1, (1024, 4096)) not in surface.shares
    heads, rows = surface.table()
    assert heads[0] == "1024x4096"
    assert rows[0] == ("1", ("–", "<1%", "<1%", "<1%"))
    assert len(surface.shares) == 23


def test_without_a_peak_shares_are_of_the_best_shape(compute_run: Run) -> None:
    unknown = compute_run.model_copy(update={"ceilings": ()})
    (surface,) = surfaces(unknown, "cpu")
    assert surface.basis == "best shape"
    assert max(surface.shares.values()) == 1.0
    derived = surfaces(compute_run, "cpu")[0]
    assert (derived.basis, derived.peak) == ("derived", 0.16)
    assert derived.peak_words() == "the derived 160 GFLOPS"


def test_a_run_without_a_sweep_has_no_surface(example_run: Run) -> None:
    assert surfaces(example_run, "GPU-00000000-example") == ()


def test_the_sentence_says_from_where_on_shapes_are_near_the_best() -> None:
    surface = made({1: [0.1, 0.1], 64: [0.7, 0.4], 256: [0.78, 0.74], 1024: [0.8, 0.75]})
    assert surface.sentence() == (
        "bf16 is best at 1024x64x64 with 80% of the datasheet's 1000 TFLOPS; from M = 256 on, "
        "half of the shapes come within a tenth of that; at M = 1 the median is 10%. "
        "8 shapes, each in a burst."
    )


def test_a_flat_surface_says_that_small_m_is_enough() -> None:
    assert "already at the smallest M" in made({1: [0.8], 64: [0.8]}).sentence()


def test_a_steep_surface_claims_no_m_that_is_enough() -> None:
    assert "from M" not in made({1: [0.1, 0.1, 0.1], 64: [0.8, 0.1, 0.1]}).sentence()


def test_the_profile_has_median_and_range_for_each_m() -> None:
    assert made({16: [0.1, 0.2, 0.6]}).profile() == (("16", "20% (10–60)"),)


def test_shapes_that_others_disturbed_are_counted_and_not_compared() -> None:
    plain = made({1: [0.1, 0.1], 64: [0.7, 0.4], 1024: [0.07, 0.07]})
    low = frozenset(place for place in plain.shares if place[0] == 1024)
    told = replace(plain, disturbed=low).sentence()
    assert told.startswith("bf16 is best at 64x64x64 with 70%")
    assert "4 shapes, each in a burst. 2 more are left out here, since others were" in told
    every = replace(plain, disturbed=frozenset(plain.shares)).sentence()
    assert every.startswith("Others were at work while all 6 shapes of bf16 were measured")
    assert "best" not in every
