"""The processor's own ceiling: multiply-accumulate on registers, without memory or a compiler.

A matrix product on the CPU is limited by the rate at which its vector (or tile) units multiply and
add. That rate is measured here directly: each thread runs a loop of one instruction on independent
accumulators that never leave the registers. There are enough of them to cover the instruction's
latency times its throughput (4 or 5 cycles times 2 per cycle for the vector forms), so the pipes
and not the dependencies are the limit. Operations count two per multiply-add, dot-product
instructions with each of their multiply-adds.

What the number is not: a rate that a matrix product reaches (it also loads), nor one for random
data. The operands are whole numbers of about half the significand's width, so that every sum is
exact; they toggle fewer bits than random data and may let a power-limited processor run faster.

**Exactness.** One iteration adds k·k and then −(k−1)·(k+1) = 1 − k·k to each accumulator: it ends
exactly one higher per product pair, whatever k is, and every value on the way is a whole number
below the accumulator's 2^24 (fp32), 2^53 (fp64) or 2^31 (int32). Each accumulator starts from its
own number. So its value at the end is known exactly, and a lane that erred or an iteration that was
left out is seen. An fp16 accumulator counts no further than 2^11: its loop takes back all but one
after each block of iterations.

**Threads.** All members of the team start together and one launch ends with the last. Two hardware
threads of a core share its pipes, so the sum over all of them is the core's rate and not twice
that; with one thread per core, the same rate comes from one of them alone.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from roofprobe.kernels import arm_code, x86_code
from roofprobe.kernels.cpu_rows import ITEM_BYTES, ROWS, WITHOUT_ROW, PipeRow, row_of
from roofprobe.kernels.cpu_team import Executable, Job, Team, clocks_mhz, machine
from roofprobe.kernels.work import Check, Unsupported, Work

Array = np.ndarray[Any, np.dtype[Any]]
__all__ = [
    "ROWS", "WITHOUT_ROW", "PipeRow", "PipeWork", "available_rows", "iterations_for", "prepare",
    "row_of",
]  # fmt: skip

_CACHE_LINE = 64


def available_rows(
    features: Collection[str], architecture: str | None = None
) -> dict[str, str | Unsupported]:
    """Return for each row its instruction, or why this processor cannot run it.

    ``features`` are the flags of ``/proc/cpuinfo``; ``architecture`` is the host's unless named.
    """
    return {row.name: _unavailable(row, features, architecture) or row.instruction for row in ROWS}


def iterations_for(row: PipeRow, duration_us: float = 20_000, clock_mhz: float = 3000) -> int:
    """Return iterations that take at most about ``duration_us``, and never too many to be exact.

    A processor that issues two of the instruction per cycle is done in half the time. Waking the
    team costs some 40 µs per launch, which would be a tenth of a launch of half a millisecond.
    """
    cycles = 2 * row.chains * row.issue_cycles
    block = row.block or 1
    wanted = max(1, round(duration_us * clock_mhz / cycles / block)) * block
    return min(wanted, row.max_iterations)


def prepare(
    name: str,
    features: Collection[str],
    *,
    threads: int,
    iterations: int | None = None,
    cpus: Sequence[int] | None = None,
) -> PipeWork:
    """Build the loop and a team of ``threads`` to run it.

    ``cpus`` says where; by default each thread has a CPU of its own, one per core first (see
    ``Team``). Raises ``Unsupported`` when the processor lacks a feature or the system gives no
    executable memory, and ``ValueError`` when ``iterations`` is not exact (above
    ``max_iterations``, or not a multiple of the row's block).
    """
    row = row_of(name)
    reason = _unavailable(row, features)
    if reason is not None:
        raise reason
    if iterations is None:
        iterations = iterations_for(row)
    block = row.block or 1
    if not 0 < iterations <= row.max_iterations or iterations % block:
        raise ValueError(
            f"{row.name} is exact for 1 to {row.max_iterations} iterations in steps of {block}, "
            f"got {iterations}"
        )
    if row.unit == "tile":
        _permit_tiles()
    return PipeWork(row, iterations, Team(threads, cpus))


class PipeWork:
    """A row prepared for a team: ``work`` is measured, ``clocks_mhz`` is the clock under it."""

    def __init__(self, row: PipeRow, iterations: int, team: Team) -> None:
        """Lay out one state per member; ``iterations`` has been checked by ``prepare``."""
        self.row = row
        self._team = team
        self._code = Executable(loop_code(row))
        rounds = iterations // (row.block or 1)
        start = start_values(row)
        self._expected = start + rounds * row.products
        image = np.concatenate([operand_bytes(row), _bytes(encode(start, row.accumulator))])
        self._read_bytes = image.nbytes
        self._written_bytes = start.size * ITEM_BYTES[row.accumulator]
        self._states = _aligned(team.size, self._read_bytes + self._written_bytes)
        self._states[:, : self._read_bytes] = image
        self._jobs = [
            Job(self._code.address, int(state.ctypes.data), rounds) for state in self._states
        ]
        team.assign(self._jobs)
        take_back = rounds * 2 * start.size if row.block else 0
        self.work = Work(
            launches=(self.launch,),
            flops=team.size * (iterations * row.flops_per_iteration + take_back),
            bytes_read=team.size * self._read_bytes,
            bytes_written=team.size * self._written_bytes,
            array_bytes=self._states.nbytes,
            check=self.check,
            kernel=row.name,
            config={
                "instruction": row.instruction,
                "register_bytes": row.register_bytes,
                "chains": row.chains,
                "iterations": iterations,
                "threads": team.size,
            },
        )

    def launch(self) -> None:
        """Run the loop once in every member; the start values are loaded anew each time."""
        self._team.launch()

    def check(self) -> Check:
        """Poison the results, launch once and compare every accumulator of every member exactly."""
        results = self._states[:, self._read_bytes :][:, : self._written_bytes]
        results[:] = 0xFF
        self.launch()
        values = decode(self.row, results)
        difference = np.abs(values - self._expected)
        wrong = int((difference != 0).sum())  # a NaN differs too
        return Check(
            error=float(np.nan_to_num(difference, nan=np.inf).max()),
            tolerance=0.0,
            measure="greatest difference from the exact sum",
            checked_elements=values.size,
            problem=f"{wrong} of {values.size} accumulators differ from the exact sum"
            if wrong
            else None,
        )

    def clocks_mhz(self, duration_us: float = 200) -> list[float]:
        """Return each member's core clock right after its share of a launch: the clock of load."""
        try:
            return clocks_mhz(self._team, duration_us, self._jobs)
        finally:
            self._team.assign(self._jobs)

    def close(self) -> None:
        """Let the threads go; without it, they go with the last reference."""
        self._team.close()


def loop_code(row: PipeRow) -> bytes:
    """Return the machine code of the row's loop."""
    if row.architecture == "aarch64":
        return arm_code.vector_loop(row.instruction, row.chains)
    if row.unit == "tile":
        return x86_code.tile_loop(row.instruction, row.chains)
    return x86_code.vector_loop(row.instruction, row.register_bytes, row.chains, row.block)


def operand_bytes(row: PipeRow) -> Array:
    """Return what the loop reads ahead of its accumulators: A, B, C, D and what ``block`` adds.

    Of the vector forms only ``vpdpbusd`` tells its factors apart (unsigned, then signed), so the
    sign of the product −(k−1)·(k+1) is carried by the second factor.
    """
    elements = row.register_bytes // ITEM_BYTES[row.operand]
    k = _factors(row, row.products if row.unit == "tile" else elements)
    if row.unit == "tile":
        pairs = [(_left_tile(k), _right_tile(k)), (_left_tile(k + 1), _right_tile(1 - k))]
        first_format = row.operand
    else:
        pairs = [(k, k), (k + 1, 1 - k)]
        first_format = "uint8" if row.operand == "int8" else row.operand
    if row.block is not None:
        pairs.append((np.ones_like(k), np.full_like(k, 1 - row.block)))
    parts = [_TILE_CONFIG] if row.unit == "tile" else []
    for first, second in pairs:
        parts += [_bytes(encode(first, first_format)), _bytes(encode(second, row.operand))]
    return np.concatenate(parts)


def start_values(row: PipeRow) -> Array:
    """Return (chains, elements) whole numbers, all different, from which the accumulators start."""
    count = row.chains * row.accumulator_elements
    lowest = -(2 ** (row.exact_bits - 1))
    values: Array = lowest + np.arange(count, dtype=np.float64)
    return values.reshape(row.chains, -1)


def encode(values: Array, number_format: str) -> Array:
    """Return whole ``values`` in a format, as the array whose bytes the processor reads.

    Raises ``ValueError`` for a value that the format does not hold exactly.
    """
    if number_format == "bf16":
        bits = values.astype(np.float32).view(np.uint32)
        encoded: Array = (bits >> 16).astype(np.uint16)
        back: Array = (encoded.astype(np.uint32) << 16).view(np.float32)
    else:
        back = encoded = values.astype(_DTYPES[number_format])
    if (back.astype(np.float64) != values).any():
        raise ValueError(f"{number_format} does not hold every one of these values exactly")
    return encoded


def decode(row: PipeRow, results: Array) -> Array:
    """Return raw result bytes (members, bytes) as float64 (members, chains, elements)."""
    raw = np.ascontiguousarray(results).view(_DTYPES[row.accumulator])
    return raw.astype(np.float64).reshape(len(results), row.chains, row.accumulator_elements)


def _factors(row: PipeRow, count: int) -> Array:
    """Return ``count`` whole numbers in the upper half of 1 to ``largest``, well spread."""
    fractions = np.arange(1, count + 1) * 0.6180339887498949 % 1
    return np.asarray(row.largest - np.floor(fractions * (row.largest // 2)), dtype=np.float64)


def _left_tile(k: Array) -> Array:
    return np.tile(k, (x86_code.TILE_ROWS, 1))  # (rows, products): every row is k


def _right_tile(k: Array) -> Array:
    # (rows, columns, factors of four bytes): row r holds k[r·p : (r+1)·p] for each column.
    rows = x86_code.TILE_ROWS
    tile: Array = np.repeat(k.reshape(rows, 1, -1), rows, axis=1)
    return tile


def _bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).view(np.uint8).ravel()


def _aligned(rows: int, row_bytes: int) -> Array:
    """Return zeroed bytes (rows, at least row_bytes), each row on its own cache lines."""
    width = -(-row_bytes // _CACHE_LINE) * _CACHE_LINE
    memory = np.zeros(rows * width + _CACHE_LINE, dtype=np.uint8)
    offset = -int(memory.ctypes.data) % _CACHE_LINE
    aligned: Array = memory[offset:][: rows * width].reshape(rows, width)
    return aligned


def _unavailable(
    row: PipeRow, features: Collection[str], architecture: str | None = None
) -> Unsupported | None:
    architecture = architecture or machine()
    if architecture != row.architecture:
        return Unsupported(
            "architecture",
            f"{row.instruction} is an instruction of {row.architecture}, this is {architecture}",
        )
    missing = [feature for feature in row.features if feature not in features]
    if missing:
        return Unsupported(
            "architecture", f"{row.instruction} needs {', '.join(missing)}, which this CPU lacks"
        )
    return None


def _permit_tiles() -> None:
    """Ask Linux for the tile registers, which it gives to a process only on request."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) != 0:
        error = os.strerror(ctypes.get_errno())
        raise Unsupported("no-tile-permission", f"Linux does not permit AMX tiles here: {error}")


# 64 bytes: palette 1, start row 0, then from byte 16 the bytes per row of each tile and from byte
# 48 the rows of each tile (Intel SDM volume 1, chapter 18): eight tiles of 16 rows of 64 bytes.
_TILE_CONFIG: Array = np.zeros(64, dtype=np.uint8)
_TILE_CONFIG[0] = 1
_TILE_CONFIG[16:32:2] = x86_code.TILE_BYTES // x86_code.TILE_ROWS
_TILE_CONFIG[48:56] = x86_code.TILE_ROWS
# Linux: Documentation/arch/x86/xstate.rst, and the system call table of x86-64.
_SYS_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18

_DTYPES: dict[str, type[np.generic]] = {
    "fp64": np.float64, "fp32": np.float32, "fp16": np.float16, "int8": np.int8, "uint8": np.uint8,
    "int32": np.int32,
}  # fmt: skip
