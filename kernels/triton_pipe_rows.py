"""Which pipes the GPU pipe probe offers where, and in which tiles: tables, no device code.

A row of ``kernels/rows.py`` becomes one of three loops (``dot``: ``tl.dot`` on one tile; ``fma``:
multiply-adds on registers; ``s4``: 4-bit integer instructions), with candidates of tile, warps and
programs per multiprocessor for each family of matrix instruction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from roofprobe.kernels import lowering

Loop = Literal["dot", "fma", "s4"]


@dataclass(frozen=True, slots=True)
class PipeConfig:
    """Tile in elements, warps, programs per multiprocessor, products per round, stages.

    A vector row holds ``block_n`` values per program (``block_m`` and ``block_k`` are 1).
    """

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    programs_per_sm: int
    unroll: int = 1
    num_stages: int = 1

    @property
    def name(self) -> str:
        """Return the name that goes into records: ``64x256x128-w4-p2-u1``."""
        tile = f"{self.block_m}x{self.block_n}x{self.block_k}"
        return f"{tile}-w{self.num_warps}-p{self.programs_per_sm}-u{self.unroll}"


@dataclass(frozen=True, slots=True)
class PipeRow:
    """One pipe on one architecture; ``reason`` says why it is not offered there, if it is not.

    ``greatest_operand`` and ``greatest_sum`` are the integers that operands and accumulators hold
    exactly; ``drift`` is what a pair of vector steps adds; ``packed`` names the type of packed
    instructions; ``full_sums`` is true where the sum of each step is added outside the matrix unit;
    ``instruction`` is the pattern of ``kernels/lowering.py`` that the loop must contain.
    """

    name: str
    loop: Loop
    configs: tuple[PipeConfig, ...]
    greatest_operand: int
    greatest_sum: int
    target_flops_per_sm: int
    instruction: str | None
    reason: str | None = None
    drift: int = 0
    packed: str | None = None
    full_sums: bool = False


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a row is, whatever the architecture."""

    loop: Loop
    greatest_operand: int
    greatest_sum: int
    target_flops_per_sm: int = 10**10
    drift: int = 0
    packed: str | None = None


# Operands: integers that the type holds exactly, with room for the sums. Targets: a few
# milliseconds at the rates of current data-centre cards (10^10 FLOP are 1.4 ms at 4096 per clock
# and 1.75 GHz).
_KINDS: dict[str, _Kind] = {
    "fp64": _Kind("dot", 127, 2**31 - 1, 10**9),
    "fp32": _Kind("dot", 127, 2**24, 10**9),
    "tf32": _Kind("dot", 127, 2**24, 5 * 10**9),
    "bf16": _Kind("dot", 127, 2**24),
    "fp16": _Kind("dot", 127, 2**24),
    "fp16-acc16": _Kind("dot", 4, 2**11),
    "fp8-fast": _Kind("dot", 4, 2**13),
    "fp8": _Kind("dot", 4, 2**24),
    "int8": _Kind("dot", 127, 2**31 - 1),
    "int4": _Kind("s4", 7, 2**31 - 1),
    "fp64-vector": _Kind("fma", 64, 2**31 - 1, 10**8, drift=1),
    "fp32-vector": _Kind("fma", 64, 2**24, 10**9, drift=1),
    # Values of 16 bits stay within ±67, exact in bf16's 8 and fp16's 11 bits for ever.
    "fp16-vector": _Kind("fma", 64, 2**30, 2 * 10**9, packed="f16x2"),
    "bf16-vector": _Kind("fma", 64, 2**30, 2 * 10**9, packed="bf16x2"),
}
NAMES = tuple(_KINDS)

# Bytes of one operand element, which set the tile's length along k.
_ITEM_BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp16-acc16": 2}  # else 1


_SHORTEST_K = 16  # of a ``tl.dot`` in Triton 3.6


def _wgmma(k_bytes: int, row: str) -> tuple[PipeConfig, ...]:
    """One instruction per program reads 64 x 256; a tile of both operands takes 80 KiB."""
    k = k_bytes // _ITEM_BYTES.get(row, 1)
    if row == "fp8":  # a second set of accumulators: half the tile, three programs
        return (PipeConfig(64, 128, 128, 4, 3), PipeConfig(128, 128, 128, 8, 1))
    return (PipeConfig(64, 256, k, 4, 2), PipeConfig(128, 256, k, 8, 1))


def _mma_sync(k_bytes: int, row: str) -> tuple[PipeConfig, ...]:
    """The operands of a 128 x 128 tile over 8 warps stay in registers if k is one instruction.

    With Triton 3.6 they are read from shared memory again in each turn, at less than its bandwidth.
    """
    of_one = k_bytes // _ITEM_BYTES.get(row, 1)
    k = max(of_one, _SHORTEST_K)
    # Two instructions per tile already where k had to be lengthened: twice as many would take so
    # many registers that only one of the two programs fits.
    unroll = 2 if k == of_one else 1
    if row == "fp16-acc16":  # the compiler aims at three programs of the first and spills
        return (PipeConfig(128, 128, 2 * k, 8, 2), PipeConfig(128, 128, k, 4, 2, unroll=2))
    return (
        PipeConfig(128, 128, k, 8, 2, unroll=unroll),
        PipeConfig(128, 128, 2 * k, 8, 1),
        PipeConfig(128, 128, k, 4, 2, unroll=2),
    )


def _tcgen05(k_bytes: int, row: str) -> tuple[PipeConfig, ...]:
    """Accumulators lie in tensor memory; three stages let instructions follow without a wait."""
    k = k_bytes // _ITEM_BYTES.get(row, 1)
    return (
        PipeConfig(128, 256, k, 8, 1, num_stages=3),
        PipeConfig(128, 128, k, 4, 2, num_stages=3),
    )


def _mfma(k_bytes: int, row: str) -> tuple[PipeConfig, ...]:
    k = k_bytes // _ITEM_BYTES.get(row, 1)
    return (PipeConfig(128, 128, k, 4, 2, unroll=2), PipeConfig(128, 128, k, 8, 2, unroll=2))


def _fp64(k_bytes: int, row: str) -> tuple[PipeConfig, ...]:
    return (PipeConfig(64, 64, 16, 4, 2, unroll=2), PipeConfig(64, 64, 16, 8, 2, unroll=2))


# The family of an instruction, by how its pattern begins, and the bytes of its tile along k.
_FAMILIES = (
    (r"wgmma", _wgmma, 256),
    (r"tcgen05", _tcgen05, 256),
    (r"mma\.sync", _mma_sync, 32),
    (r"v_", _mfma, 64),
)
_VECTOR = (PipeConfig(1, 2048, 1, 8, 4, unroll=8), PipeConfig(1, 4096, 1, 8, 4, unroll=8))
_VECTOR_64 = (PipeConfig(1, 1024, 1, 8, 4, unroll=8), PipeConfig(1, 2048, 1, 8, 2, unroll=8))
_INT4 = (PipeConfig(128, 16, 64, 8, 2, unroll=4), PipeConfig(64, 16, 64, 4, 4, unroll=4))
_INT4_75 = (PipeConfig(64, 16, 32, 8, 2, unroll=4), PipeConfig(32, 16, 32, 4, 4, unroll=4))


def pipe_rows(arch: str, triton_version: str) -> tuple[PipeRow, ...]:
    """Return all rows for ``arch``; those that are not offered carry a reason and no tiles."""
    return tuple(pipe_row(name, arch, triton_version) for name in NAMES)


def pipe_row(name: str, arch: str, triton_version: str) -> PipeRow:
    """Return one row by name; one that the table does not know is not offered."""
    kind = _KINDS.get(name, _Kind("dot", 0, 0))
    reason = _unsupported(name, arch, triton_version)
    instruction = None if reason else lowering.TABLE[arch][lowering.kind_of(name)]
    return PipeRow(
        name,
        kind.loop,
        () if instruction is None else _configs(name, kind.loop, arch, instruction),
        kind.greatest_operand,
        # sm_89 has no other instruction for full sums, and a loop cannot take the sum outside: a
        # product of the same operands in every turn would be computed once, before the loop.
        _KINDS["fp8-fast"].greatest_sum if (name, arch) == ("fp8", "sm_89") else kind.greatest_sum,
        kind.target_flops_per_sm,
        instruction,
        reason,
        drift=kind.drift,
        packed=kind.packed,
        full_sums=name == "fp8" and arch == "sm_90",
    )


def _configs(name: str, loop: Loop, arch: str, instruction: str) -> tuple[PipeConfig, ...]:
    if loop == "fma":
        return _VECTOR_64 if name == "fp64-vector" else _VECTOR
    if loop == "s4":
        return _INT4_75 if arch == "sm_75" else _INT4
    if name == "fp64":
        return _fp64(0, name)
    for beginning, make, k_bytes in _FAMILIES:
        if instruction.startswith(beginning):
            return make(k_bytes, name)
    raise AssertionError(f"{instruction} belongs to no family")


def _unsupported(name: str, arch: str, triton_version: str) -> str | None:
    if name not in _KINDS:
        return f"no pipe loop of ours does {name}"
    if arch not in lowering.TABLE:
        return f"nobody has checked what a pipe loop compiles to on {arch}"
    reason = lowering.unsupported_reason(name, arch, triton_version)
    if reason is None and _KINDS[name].loop == "dot":
        pattern = lowering.TABLE[arch][lowering.kind_of(name)]
        if re.match("fma", pattern):
            return f"{arch} has no {name} matrix instruction; the vector pipe is {name}-vector"
    return reason
