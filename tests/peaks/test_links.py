"""Link peaks: the line code exactly, and nothing for what nobody knows."""

from __future__ import annotations

import pytest

from roofprobe.peaks import links


@pytest.mark.parametrize(
    ("generation", "lanes", "gbps"),
    [
        (1, 16, 4.0),
        (2, 16, 8.0),
        (3, 16, 15.75),
        (3, 8, 7.88),
        (4, 16, 31.51),
        (4, 8, 15.75),
        (5, 16, 63.02),
        (5, 8, 31.51),
        (6, 16, 118.0),
        (1, 1, 0.25),
    ],
)
def test_a_pcie_link_carries_lanes_times_transfers_after_the_line_code(
    generation: int, lanes: int, gbps: float
) -> None:
    peak = links.pcie_peak_gbps(generation, lanes)
    assert peak is not None
    assert round(peak, 2) == gbps


def test_the_line_code_is_taken_off_exactly() -> None:
    assert links.pcie_peak_gbps(5, 16) == 32 * 16 / 8 * 128 / 130


@pytest.mark.parametrize(("generation", "lanes"), [(0, 16), (7, 16), (4, 0), (4, -1)])
def test_an_unknown_generation_or_width_has_no_peak(generation: int, lanes: int) -> None:
    assert links.pcie_peak_gbps(generation, lanes) is None


def test_published_pinned_copies_lie_below_the_wire() -> None:
    for generation, best in ((3, 13.0), (4, 26.0), (5, 55.0)):
        peak = links.pcie_peak_gbps(generation, 16)
        assert peak is not None
        assert 0.8 < best / peak < 0.9


def test_each_generation_names_its_line_code() -> None:
    assert [links.pcie_encoding(generation) for generation in links.PCIE_GENERATIONS] == [
        "2.5 GT/s, 8b/10b",
        "5 GT/s, 8b/10b",
        "8 GT/s, 128b/130b",
        "16 GT/s, 128b/130b",
        "32 GT/s, 128b/130b",
        "64 GT/s, 236 of 256 bytes of a frame",
    ]


def test_nvlink_is_printed_both_ways_together() -> None:
    assert links.nvlink_one_way_gbps(900) == 450
