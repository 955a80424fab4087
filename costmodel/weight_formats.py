"""How many bytes a weight takes in each precision, scales included.

A block format stores one scale for each block of (outputs, inputs) of a matrix; the last block of
a row or column may be partial and still has its scale. Sources: OCP Microscaling Formats v1.0
(mxfp4, mxfp8: an 8-bit scale per 32), NVIDIA's NVFP4 (an FP8 scale per 16 and one FP32 per
matrix), DeepSeek-V3 README_WEIGHTS.md (fp8-block: FP32 per 128 x 128), AutoGPTQ and AWQ
checkpoints (int4: an FP16 scale and a 4-bit zero point per group, 128 by default).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roofprobe.peaks.names import shown
from roofprobe.records.errors import RoofprobeError


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """Bits of a value, the block that shares a scale, bits per block and bytes per matrix.

    A block of 0 in a direction spans the matrix in that direction; ``None``: no scales by block.
    ``zero_bits`` are those of a block's zero point, which symmetric quantisation does without.
    """

    bits: int
    block: tuple[int, int] | None = None
    block_bits: int = 0
    matrix_bytes: int = 0
    zero_bits: int = 0

    @property
    def narrow(self) -> bool:
        """Whether only some matrices of a model are stored in it, the rest in a wider format."""
        return self.bits <= 8


FORMATS: Final[Mapping[str, WeightFormat]] = {
    "fp32": WeightFormat(32),
    "bf16": WeightFormat(16),
    "fp16": WeightFormat(16),
    "fp8": WeightFormat(8, matrix_bytes=4),
    "fp8-block": WeightFormat(8, block=(128, 128), block_bits=32),
    "mxfp8": WeightFormat(8, block=(1, 32), block_bits=8),
    "int8": WeightFormat(8, block=(1, 0), block_bits=16),
    "int4": WeightFormat(4, block=(1, 128), block_bits=16, zero_bits=4),
    "mxfp4": WeightFormat(4, block=(1, 32), block_bits=8),
    "nvfp4": WeightFormat(4, block=(1, 16), block_bits=8, matrix_bytes=4),
}


def weight_format(precision: str) -> WeightFormat:
    """The format of a precision; raises `RoofprobeError` naming the known ones."""
    try:
        return FORMATS[precision]
    except KeyError:
        raise RoofprobeError(
            "unknown-precision",
            f"Weights in precision {shown(str(precision))} are not known; "
            f"use one of {', '.join(FORMATS)}.",
        ) from None


def matrix_bytes(
    precision: str,
    outputs: int,
    inputs: int,
    block: tuple[int, int] | None = None,
    *,
    zero_points: bool = True,
) -> int:
    """Bytes of an outputs x inputs matrix with its scales; ``block`` overrides the format's."""
    layout = weight_format(precision)
    size = -(-outputs * inputs * layout.bits // 8)
    shape = block if block and layout.block else layout.block
    if shape is None:
        return size + layout.matrix_bytes
    rows = -(-outputs // (shape[0] or outputs))
    columns = -(-inputs // (shape[1] or inputs))
    block_bits = layout.block_bits + zero_points * layout.zero_bits
    return size + -(-rows * columns * block_bits // 8) + layout.matrix_bytes
