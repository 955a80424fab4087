"""Bytes of a matrix in each precision: values and scales, to the byte."""

from __future__ import annotations

import pytest

from roofprobe.costmodel.weight_formats import FORMATS, matrix_bytes
from roofprobe.records.errors import RoofprobeError


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("fp32", 4 * 256 * 512),
        ("bf16", 2 * 256 * 512),
        ("fp16", 2 * 256 * 512),
        ("fp8", 256 * 512 + 4),
        ("fp8-block", 256 * 512 + 2 * 4 * 4),
        ("mxfp8", 256 * 512 + 256 * 16),
        ("int8", 256 * 512 + 256 * 2),
        ("int4", 256 * 256 + 256 * 4 * 2 + 256 * 4 // 2),
        ("mxfp4", 256 * 256 + 256 * 16),
        ("nvfp4", 256 * 256 + 256 * 32 + 4),
    ],
)
def test_a_matrix_takes_its_values_and_its_scales(precision: str, expected: int) -> None:
    assert matrix_bytes(precision, 256, 512) == expected


def test_every_format_is_tested_above() -> None:
    assert len(FORMATS) == 10


def test_a_partial_block_has_a_whole_scale() -> None:
    assert matrix_bytes("fp8-block", 129, 1) == 129 + 2 * 4


def test_the_configs_block_has_precedence_where_the_format_has_blocks() -> None:
    assert matrix_bytes("int4", 64, 64, (1, 32)) == 2048 + 64 * 2 * 2 + 64 * 2 // 2
    assert matrix_bytes("int4", 64, 64, (1, 0)) == 2048 + 64 * 2 + 32
    assert matrix_bytes("bf16", 64, 64, (1, 32)) == 8192


def test_symmetric_weights_have_no_zero_points() -> None:
    assert matrix_bytes("int4", 64, 128, zero_points=False) == 4096 + 64 * 2


def test_an_unknown_precision_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RoofprobeError, match=r"'fp7' are not known; use one of fp32, bf16"):
        matrix_bytes("fp7", 1, 1)
