"""Bands are well-formed, survive published figures of healthy cards, and catch a third less."""

from __future__ import annotations

import pytest

from roofprobe.acceptance.bands import BandsError, load_bands, parse_bands
from roofprobe.peaks.catalogue import load

PARTS = """
[[compute]]
precisions = ["bf16"]
warn_below = 0.5
reference = "a test of the reader"
source = "a test of the reader"
[[memory]]
kernels = ["read"]
warn_below = 0.8
fail_below = 0.7
reference = "a test of the reader"
source = "a test of the reader"
[[nvlink]]
classes = ["sm_90"]
link_gbps = 50
reference = "a test of the reader"
source = "a test of the reader"
"""


def test_a_file_that_is_well_formed_is_read() -> None:
    bands = parse_bands(PARTS)
    assert bands.compute[0].warn_below == 0.5
    assert bands.compute[0].fail_below is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("warn_below = 0.5", "warn_belo = 0.5", "warn_belo"),
        ("warn_below = 0.5", "warn_below = 50", "less than 1"),
        ("warn_below = 0.5", 'warn_below = "0.5"', "number"),
        ("fail_below = 0.7", "fail_below = 0.9", "under warn_below"),
        ('["bf16"]', '["bf61"]', "no precision bf61"),
        ('["sm_90"]', '["sm_09"]', "no sm_09"),
        ('classes = ["sm_90"]', 'rows = ["nvidia_h1000"]', "no nvidia_h1000"),
        ('classes = ["sm_90"]', 'classes = ["sm_90"]\nrows = ["nvidia_l4"]', "not both"),
        ('source = "a test of the reader"', "", "source"),
        ("[[nvlink]]", "[[nvlinks]]", "nvlink"),
        ("[[compute]]", "[[compute", "line 2"),
        ("[[memory]]", PARTS.split("[[memory]]")[0] + "[[memory]]", "two bands are about bf16"),
    ],
)
def test_anything_else_is_refused_with_its_place(old: str, new: str, words: str) -> None:
    with pytest.raises(BandsError, match=r"bands\.toml") as refused:
        parse_bands(PARTS.replace(old, new, 1))
    assert words in str(refused.value)


def test_the_nearest_band_counts() -> None:
    bands = load_bands()
    by_row = bands.of_compute("nvidia_h100_pcie_80gb", "sm_90", "bf16", "dense")
    by_class = bands.of_compute("nvidia_h100_sxm5_80gb", "sm_90", "bf16", "dense")
    by_none = bands.of_compute("nvidia_h20_96gb", "sm_90_h20", "bf16", "dense")
    assert [band and band.nearness for band in (by_row, by_class, by_none)] == [2, 1, 0]


def test_nothing_fails_a_card_of_which_nobody_published_anything() -> None:
    assert [b.source for b in load_bands().compute if not b.nearness and b.fail_below] == []


# TFLOPS (TOPS) that somebody published of a healthy card, the lowest where there are several.
PUBLISHED = [
    ("nvidia_a100_sxm4_80gb", "bf16", 265.0), ("nvidia_a100_sxm4_80gb", "fp16", 253.7),
    ("nvidia_a100_sxm4_80gb", "tf32", 127.9), ("nvidia_a100_sxm4_80gb", "fp64", 18.9),
    ("nvidia_a100_sxm4_80gb", "fp32", 18.35), ("nvidia_a100_sxm4_80gb", "int8", 473.0),
    ("nvidia_a100_pcie_40gb", "bf16", 252.9),
    ("nvidia_h100_sxm5_80gb", "tf32", 373.0), ("nvidia_h100_sxm5_80gb", "bf16", 730.0),
    ("nvidia_h100_sxm5_80gb", "fp16", 657.0), ("nvidia_h100_sxm5_80gb", "fp8", 1290.1),
    ("nvidia_h100_sxm5_80gb", "fp32", 29.25), ("nvidia_h100_pcie_80gb", "fp16", 435.0),
    ("nvidia_h200_sxm_141gb", "fp8", 1300.6), ("nvidia_b200", "bf16", 1420.0),
    ("nvidia_b200", "fp8", 2377.0), ("nvidia_b200", "nvfp4", 5500.0),
    ("nvidia_gb200", "fp8", 2825.6), ("nvidia_gb200", "nvfp4", 7487.2),
    ("nvidia_b300", "bf16", 1504.0), ("nvidia_b300", "fp8", 2962.0),
    ("nvidia_b300", "nvfp4", 5096.0), ("nvidia_b300", "mxfp8", 2702.0),
    ("nvidia_t4", "fp16", 25.0), ("nvidia_t4", "fp32", 3.15),
    ("nvidia_l4", "fp16", 65.0), ("nvidia_l4", "bf16", 66.0), ("nvidia_l4", "fp32", 8.7),
    ("nvidia_a10", "fp16", 54.0), ("nvidia_a10", "fp32", 14.0),
    ("nvidia_geforce_rtx_4090", "fp16", 150.0), ("nvidia_geforce_rtx_4090", "fp32", 58.0),
    ("amd_mi300x", "bf16", 668.4), ("amd_mi300x", "fp8", 1273.0), ("amd_mi325x", "bf16", 784.9),
    ("amd_mi355x", "bf16", 1565.0),
]  # fmt: skip


@pytest.mark.parametrize(("row", "precision", "tflops"), PUBLISHED)
def test_no_published_figure_of_a_healthy_card_draws_a_warning(
    row: str, precision: str, tflops: float
) -> None:
    card = load()[row]
    peak = card.headline_peak(precision)
    band = load_bands().of_compute(row, card.rate_class, precision, "dense")
    assert peak is not None
    assert band is not None
    assert tflops / peak > band.warn_below


# GB/s of streams that somebody published; beside inline ECC the share is of 8/9.
STREAMS = [
    ("nvidia_h100_sxm5_80gb", "dot", 3180.0, 1), ("nvidia_h100_sxm5_80gb", "triad", 2970.0, 1),
    ("nvidia_h100_sxm5_80gb", "copy", 2900.0, 1), ("nvidia_h100_pcie_80gb", "read", 1942.0, 1),
    ("nvidia_h100_pcie_80gb", "scale", 1704.0, 1), ("nvidia_h200_sxm_141gb", "dot", 4480.0, 1),
    ("nvidia_h200_sxm_141gb", "triad", 4070.0, 1), ("nvidia_h200_sxm_141gb", "copy", 4010.0, 1),
    ("nvidia_a100_sxm4_80gb", "read", 1776.0, 1), ("nvidia_a100_sxm4_80gb", "scale", 1737.0, 1),
    ("nvidia_a100_sxm4_80gb", "copy", 1610.0, 1), ("nvidia_a100_sxm4_80gb", "triad", 1700.0, 1),
    ("nvidia_a100_sxm4_40gb", "read", 1500.0, 1),
    ("nvidia_t4", "copy", 240.0, 8 / 9), ("nvidia_l4", "copy", 235.0, 8 / 9),
    ("nvidia_a10", "copy", 469.0, 8 / 9), ("nvidia_geforce_rtx_4090", "read", 867.0, 1),
    ("nvidia_geforce_rtx_4090", "copy", 912.0, 1), ("nvidia_geforce_rtx_5090", "triad", 1573.0, 1),
    ("amd_mi300x", "read", 4199.0, 1), ("amd_mi300x", "scale", 3997.0, 1),
]  # fmt: skip


@pytest.mark.parametrize(("row", "kernel", "gbps", "payload"), STREAMS)
def test_no_published_stream_draws_a_warning_and_a_third_less_of_it_does(
    row: str, kernel: str, gbps: float, payload: float
) -> None:
    card = load()[row]
    band = load_bands().of_memory(row, card.rate_class, kernel)
    assert card.mem_bw_gbps is not None
    assert band is not None
    share = gbps / (card.mem_bw_gbps * payload)
    assert share > band.warn_below
    assert share * 2 / 3 < band.warn_below
    if kernel not in ("copy", "scale"):
        assert band.fail_below is None or share * 2 / 3 < band.fail_below
