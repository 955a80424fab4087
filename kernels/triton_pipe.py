"""The rate of a GPU's arithmetic pipes alone: operands stay on the chip, nothing has to be fed.

A matrix product is limited by its pipe, by what feeds it, and by the clock. Here each program loads
one tile of A and one of B once, adds their product to the same accumulators thousands of times, and
stores a few integers: between two instructions there is nothing but the next instruction. What such
a loop reaches, at the clock measured beside it, is the ceiling that products are held against.

Operations per launch (a multiply-add is two):

    2 · block_m · block_n · block_k · (rounds · unroll + 1) · programs        tensor pipes
    2 · block_n · 2 · rounds · unroll · programs                              vector pipes

What the number is not: a rate that a product reaches, nor one for random data. The operands are
small integers; they toggle fewer bits than random ones, so a power-limited card clocks higher.

**Exactness.** All operands are integers that their type holds exactly. Along k they come in pairs
whose products cancel, but for one column that adds s_i · t_j = ±1. So each accumulator grows by
exactly one per product and never leaves the integers that it holds exactly: 2^24 in fp32, 2^11 in
fp16, and 2^13 in the 14 bits in which Ada and Hopper add FP8 products. The vector pipes
alternate x → −x + c and x → −x + c + d, which ends d higher after each pair of steps (d is 0 for
16-bit types, which could not count far). Therefore every program must store the same, known
integers; each also stores which multiprocessor it ran on, so that a wrong one is found by number.

**Occupancy.** Triton waits after some matrix instructions before it issues the next. Where
registers and shared memory allow, two or more programs share a multiprocessor and fill each other's
gaps. The grid is exactly as many programs as fit at one time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import triton
import triton.language as tl
from numpy.typing import NDArray

from roofprobe.kernels import int4_fragments
from roofprobe.kernels import triton_pipe_kernels as device_code
from roofprobe.kernels.aot import Source, assembly_of
from roofprobe.kernels.lowering import TYPES, contradiction, element_types, kind_of
from roofprobe.kernels.triton_clock import backend_of
from roofprobe.kernels.triton_pipe_rows import PipeConfig, PipeRow, pipe_row, pipe_rows
from roofprobe.kernels.work import Check, Target, Unsupported, Work

if TYPE_CHECKING:
    import torch

__all__ = [
    "Buffers", "PipeConfig", "PipeRow", "expected", "flops", "launcher", "make_buffers",
    "max_rounds", "operands", "pipe_row", "pipe_rows", "prepare", "source", "usual_rounds",
    "wrong_programs",
]  # fmt: skip

_VECTOR_ADDEND = 3

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Buffers:
    """What a launch reads and writes.

    ``inputs`` are the row's two operands on the device, ``sums`` (programs, width) int32 and
    ``units`` (programs,) int32 the outputs.
    """

    inputs: tuple[torch.Tensor, torch.Tensor]
    sums: torch.Tensor
    units: torch.Tensor


def steps(row: PipeRow, config: PipeConfig, rounds: int) -> int:
    """Return how many products (or multiply-adds) each accumulator sees in one launch."""
    return {
        "dot": rounds * config.unroll + 1,
        "fma": 2 * rounds * config.unroll,
        "s4": rounds * config.unroll,
    }[row.loop]


def flops(row: PipeRow, config: PipeConfig, programs: int, rounds: int) -> int:
    """Return the operations of one launch."""
    per_step = 2 * config.block_m * config.block_n * config.block_k
    return per_step * steps(row, config, rounds) * programs


def max_rounds(row: PipeRow, config: PipeConfig) -> int:
    """Return how many rounds keep every sum exact, in whatever order the unit adds."""
    pairs_at_once = 1 if row.loop == "fma" else config.block_k // 2
    largest = row.greatest_operand**2 * pairs_at_once
    return (row.greatest_sum - largest) // config.unroll - 1


def usual_rounds(row: PipeRow, config: PipeConfig) -> int:
    """Return rounds for a launch of a few milliseconds: the row's target of operations."""
    per_round = flops(row, config, config.programs_per_sm, 1)
    return max(1, min(max_rounds(row, config), row.target_flops_per_sm // per_round))


def operands(row: PipeRow, config: PipeConfig, seed: int = 0) -> tuple[Integers, Integers]:
    """Return the integer operands, drawn from ``seed``.

    ``dot``: A (block_m, block_k) and B (block_n, block_k). ``s4``: A (16 or 8, k) and B (two
    instructions' columns, k). ``fma``: start values (block_n,) and the coefficients −1, c, c + d.
    """
    generator = np.random.default_rng(seed)
    if row.loop == "fma":
        start = generator.integers(-64, 64, config.block_n)
        return start, np.array([-1, _VECTOR_ADDEND, _VECTOR_ADDEND + row.drift])
    m, n, k = config.block_m, config.block_n, config.block_k
    if row.loop == "s4":
        m //= config.num_warps  # every warp has the same operands
    a = _nonzero(generator, (m, k // 2), row.greatest_operand).repeat(2, axis=1)
    b = _nonzero(generator, (n, k // 2), row.greatest_operand).repeat(2, axis=1)
    b[:, 1::2] *= -1  # each pair along k cancels …
    a[:, -2] = _signs(generator, m)
    b[:, -2] = _signs(generator, n)
    b[:, -1] = 0  # … but the last, which adds ±1
    return a, b


def expected(row: PipeRow, config: PipeConfig, rounds: int, seed: int = 0) -> NDArray[np.int32]:
    """Return what every program must store: (width,) int32."""
    first, second = operands(row, config, seed)
    count = steps(row, config, rounds)
    if row.loop == "fma":
        ends = first + row.drift * (count // 2)
        return np.array([ends.sum()]).astype(np.int32)
    tile = count * (first @ second.T)
    if row.loop == "dot":
        return np.asarray(tile.sum(axis=0).astype(np.int32))
    return np.tile(int4_fragments.lane_sums(tile), config.num_warps).astype(np.int32)


def make_buffers(
    row: PipeRow,
    config: PipeConfig,
    programs: int,
    device: torch.device | str,
    *,
    arch: str,
    seed: int = 0,
) -> Buffers:
    """Put the operands on ``device`` and make room for what ``programs`` programs store."""
    import torch

    first, second = operands(row, config, seed)
    if row.loop == "s4":
        words = (int4_fragments.pack_a(first), int4_fragments.pack_b(second))
        inputs = tuple(torch.from_numpy(packed).to(device) for packed in words)
        width = 32 * config.num_warps
    else:
        dtype = getattr(torch, _TORCH_TYPES[_element(row, arch)])
        # By way of float32, from which torch converts to every type; the integers are small.
        inputs = tuple(
            torch.from_numpy(values).to(torch.float32).to(dtype).to(device)
            for values in (first, second)
        )
        width = config.block_n if row.loop == "dot" else 1
    sums = torch.zeros((programs, width), dtype=torch.int32, device=device)
    units = torch.full((programs,), -1, dtype=torch.int32, device=device)
    return Buffers((inputs[0], inputs[1]), sums, units)


def launcher(
    row: PipeRow, config: PipeConfig, buffers: Buffers, rounds: int, *, arch: str
) -> Callable[[], object]:
    """Return a call that enqueues one launch; it allocates nothing.

    Raises ``ValueError`` for more rounds than stay exact.
    """
    if not 0 < rounds <= max_rounds(row, config):
        raise ValueError(
            f"{row.name} with {config.name} is exact for 1 to {max_rounds(row, config)} rounds, "
            f"got {rounds}"
        )
    kernel: Any = _kernel(row, config)[(buffers.sums.shape[0],)]
    constants = _constexprs(row, config, backend_of(arch))

    def launch_once() -> object:
        return kernel(
            *buffers.inputs, buffers.sums, buffers.units, rounds, **constants,
            num_warps=config.num_warps, num_stages=config.num_stages, enable_fp_fusion=True,
        )  # fmt: skip

    return launch_once


def wrong_programs(buffers: Buffers, wanted: NDArray[np.int32]) -> dict[int, int]:
    """Return the programs whose sums are wrong, each with its multiprocessor (−1 unknown)."""
    sums, units = buffers.sums.cpu().numpy(), buffers.units.cpu().numpy()
    wrong = np.flatnonzero((sums != wanted).any(axis=1))
    return {int(program): int(units[program]) for program in wrong}


def source(row: PipeRow, arch: str, config: PipeConfig) -> Source:
    """Return what to compile ahead of time for ``arch``."""
    pointer = "*i32" if row.loop == "s4" else f"*{_element(row, arch)}"
    names = ("start_ptr", "coefficients_ptr") if row.loop == "fma" else ("a_ptr", "b_ptr")
    signature = dict.fromkeys(names, pointer)
    signature |= {"out_ptr": "*i32", "unit_ptr": "*i32", "rounds": "i32"}
    return Source(
        _kernel(row, config), signature, _constexprs(row, config, backend_of(arch)),
        config.num_warps, config.num_stages,
    )  # fmt: skip


def prepare(
    name: str, target: Target, *, config: PipeConfig | None = None, rounds: int | None = None
) -> Work:
    """Return the pipe work of a row on a GPU, one full wave of programs per launch.

    Raises ``Unsupported`` with the reason where the row is not offered there.
    """
    arch = target.architecture
    assert arch is not None, target
    assert target.unit_count is not None, target
    row = pipe_row(name, arch, triton.__version__)
    if row.reason is not None:
        raise Unsupported("architecture", row.reason)
    config = config or row.configs[0]
    rounds = rounds or usual_rounds(row, config)
    programs = target.unit_count * config.programs_per_sm
    buffers = make_buffers(row, config, programs, target.torch_device, arch=arch)
    launch = launcher(row, config, buffers, rounds, arch=arch)
    wanted = expected(row, config, rounds)

    def check() -> Check:
        buffers.sums.fill_(-(2**31))
        buffers.units.fill_(-1)
        # Compiled for real only now: on another Triton the loop may run on another instruction.
        assembly = assembly_of(launch())
        problem = assembly and contradiction(row.name, arch, assembly)
        if problem:
            raise Unsupported("no-instruction", problem)
        wrong = wrong_programs(buffers, wanted)
        units = ", ".join(str(unit) for unit in sorted(set(wrong.values())))
        return Check(
            error=float(len(wrong)),
            tolerance=0.0,
            measure="programs whose sums differ from the exact ones",
            checked_elements=buffers.sums.numel(),
            problem=f"{len(wrong)} of {programs} programs are wrong, on multiprocessors {units}"
            if wrong
            else None,
        )

    return Work(
        launches=(launch,),
        flops=flops(row, config, programs, rounds),
        bytes_read=sum(tensor.nbytes for tensor in buffers.inputs),
        bytes_written=buffers.sums.nbytes + buffers.units.nbytes,
        array_bytes=sum(tensor.nbytes for tensor in (*buffers.inputs, buffers.sums)),
        check=check,
        kernel=f"triton {row.loop} loop",
        config={"config": config.name, "rounds": rounds, "programs": programs},
        assembly=lambda: assembly_of(launch()),
    )


_TORCH_TYPES = {
    "fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16",
    "fp8e4nv": "float8_e4m3fn", "fp8e4b8": "float8_e4m3fnuz", "i8": "int8",
}  # fmt: skip
# What Triton adds up in; everything else in float32.
_ACCUMULATORS = {"fp64": tl.float64, "int8": tl.int32, "fp16-acc16": tl.float16}


def _element(row: PipeRow, arch: str) -> str:
    kind = kind_of(row.name)
    return element_types(kind, arch)[0] if kind in TYPES else kind.removesuffix("-vector")


def _kernel(row: PipeRow, config: PipeConfig) -> Any:
    if row.loop == "s4":
        return device_code.s4_kernel if config.block_k == 64 else device_code.s4_small_kernel
    return device_code.dot_kernel if row.loop == "dot" else device_code.fma_kernel


def _constexprs(row: PipeRow, config: PipeConfig, backend: str) -> dict[str, object]:
    common: dict[str, object] = {"UNROLL": config.unroll, "BACKEND": backend}
    if row.loop == "fma":
        packed = row.packed if backend == "cuda" else None  # the AMD compiler packs by itself
        return {"BLOCK": config.block_n, "PACKED": packed, **common}
    if row.loop == "s4":
        return {"WARPS": config.num_warps, **common}
    return {
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BLOCK_K": config.block_k,
        "ACC": _ACCUMULATORS.get(row.name, tl.float32),
        "INPUT_PRECISION": "tf32" if row.name == "tf32" else "ieee",
        "FULL_SUMS": row.full_sums,
        **common,
    }


def _nonzero(generator: np.random.Generator, shape: tuple[int, int], greatest: int) -> Integers:
    signs = generator.integers(0, 2, shape) * 2 - 1
    return np.asarray(signs * generator.integers(1, greatest + 1, shape))


def _signs(generator: np.random.Generator, count: int) -> Integers:
    """Return mostly +1 and some −1, so that sums over them do not vanish."""
    return np.where(generator.integers(0, 8, count) == 0, -1, 1)
