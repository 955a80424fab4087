"""The table of CPU instructions that multiply and add: what each needs, does and keeps exact.

One row is one instruction with the registers that its loop uses. Adding an instruction is a row
here and its encoding in ``x86_code`` or ``arm_code``; ``cpu_pipe`` explains the loop and why the
sums stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from roofprobe.kernels import arm_code, x86_code

Unit = Literal["vector", "tile"]


@dataclass(frozen=True, slots=True)
class PipeRow:
    """One instruction and how its loop is built.

    ``features`` are the names in ``/proc/cpuinfo`` that must all be there. ``operand`` and
    ``accumulator`` name number formats; ``products`` multiply-adds go into each accumulator
    element per instruction. ``chains`` is the number of independent accumulator registers.
    ``largest`` bounds the operands k; sums are exact below 2**``exact_bits``. ``issue_cycles`` is
    the slowest known issue interval of the instruction, used only to choose iterations.
    """

    name: str
    precision: str
    instruction: str
    architecture: str
    features: tuple[str, ...]
    register_bytes: int
    chains: int
    operand: str
    accumulator: str
    products: int
    largest: int
    exact_bits: int
    unit: Unit = "vector"
    block: int | None = None
    issue_cycles: int = 1

    @property
    def accumulator_elements(self) -> int:
        """Return the elements of one accumulator register."""
        return self.register_bytes // ITEM_BYTES[self.accumulator]

    @property
    def flops_per_iteration(self) -> int:
        """Return the operations of one iteration: two instructions on each accumulator."""
        return 2 * 2 * self.chains * self.accumulator_elements * self.products

    @property
    def max_iterations(self) -> int:
        """Return how many iterations stay exact."""
        highest_start = self.chains * self.accumulator_elements - 2 ** (self.exact_bits - 1)
        room = 2**self.exact_bits - highest_start - self.largest**2 * self.products
        block = self.block or 0
        return int((room - block * self.products) // self.products * max(1, block))


ITEM_BYTES = {"fp64": 8, "fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "int32": 4}

# AMX: a register is a tile of 1024 bytes; products is the length of one row by column: 64 bytes.
# Issue interval of the tile forms: 16 cycles (Intel optimisation reference manual, chapter on AMX).
ROWS: tuple[PipeRow, ...] = (
    PipeRow(
        "fp64-avx2", "fp64", "vfmadd231pd", "x86_64", ("avx2", "fma"), 32, 12, "fp64", "fp64",
        1, 2**25, 52,
    ),
    PipeRow(
        "fp32-avx2", "fp32", "vfmadd231ps", "x86_64", ("avx2", "fma"), 32, 12, "fp32", "fp32",
        1, 2**11, 24,
    ),
    PipeRow(
        "int8-avx-vnni", "int8", "vpdpbusd", "x86_64", ("avx2", "avx_vnni"), 32, 12, "int8",
        "int32", 4, 127, 31,
    ),
    PipeRow(
        "fp64-avx512", "fp64", "vfmadd231pd", "x86_64", ("avx512f",), 64, 24, "fp64", "fp64",
        1, 2**25, 52,
    ),
    PipeRow(
        "fp32-avx512", "fp32", "vfmadd231ps", "x86_64", ("avx512f",), 64, 24, "fp32", "fp32",
        1, 2**11, 24,
    ),
    PipeRow(
        "fp16-avx512", "fp16", "vfmadd231ph", "x86_64", ("avx512f", "avx512_fp16"), 64, 24, "fp16",
        "fp16", 1, 30, 11, block=512,
    ),
    PipeRow(
        "bf16-avx512", "bf16", "vdpbf16ps", "x86_64", ("avx512f", "avx512_bf16"), 64, 24, "bf16",
        "fp32", 2, 255, 24, issue_cycles=2,
    ),
    PipeRow(
        "int8-avx512", "int8", "vpdpbusd", "x86_64", ("avx512f", "avx512_vnni"), 64, 24, "int8",
        "int32", 4, 127, 31,
    ),
    PipeRow(
        "bf16-amx", "bf16", "tdpbf16ps", "x86_64", ("amx_tile", "amx_bf16"), x86_code.TILE_BYTES, 4,
        "bf16", "fp32", 32, 255, 24, unit="tile", issue_cycles=16,
    ),
    PipeRow(
        "int8-amx", "int8", "tdpbssd", "x86_64", ("amx_tile", "amx_int8"), x86_code.TILE_BYTES, 4,
        "int8", "int32", 64, 126, 31, unit="tile", issue_cycles=16,
    ),
    PipeRow(
        "fp64-neon", "fp64", "fmla.2d", "aarch64", ("asimd",), 16, arm_code.MAX_CHAINS, "fp64",
        "fp64", 1, 2**25, 52,
    ),
    PipeRow(
        "fp32-neon", "fp32", "fmla.4s", "aarch64", ("asimd",), 16, arm_code.MAX_CHAINS, "fp32",
        "fp32", 1, 2**11, 24,
    ),
)  # fmt: skip

# What no row does, and why: shown beside the rows so that a missing peak has its reason.
WITHOUT_ROW: dict[str, str] = {
    "fp8": "no processor that this version knows multiplies fp8",
    "tf32": "TF32 is a GPU tensor format",
    "sve": "the SVE forms are not written yet: NEON is used, whose registers have 128 bits",
}


def row_of(name: str) -> PipeRow:
    """Return the row called ``name``; raises ``KeyError`` with the known names."""
    for row in ROWS:
        if row.name == name:
            return row
    raise KeyError(f"{name} is not one of {', '.join(row.name for row in ROWS)}")
