"""The clock that the multiprocessors really ran at, from counters they keep themselves.

Each program stores which multiprocessor it runs on, that unit's cycle counter, and a counter of
nanoseconds that the whole device shares. The same kernel before and after some work gives, for each
multiprocessor seen both times,

    clock (MHz) = 1000 · (cycles after − cycles before) / (ns after − ns before)

and the median over all of them is the clock during that work. The work needs no change, and the
readings can be part of the same stream or graph, so nothing is waited for. What telemetry reports
is a sample of a slower counter at another moment, and for the whole card.

* NVIDIA: ``%smid``, ``%clock64`` and ``%globaltimer`` (PTX ISA, special registers). The timer's
  step is between 32 ns and about 1 µs depending on the card, so the two readings should be at
  least 1 ms apart.
* AMD: the compute unit from the ``HW_ID`` and ``XCC_ID`` registers, ``s_memtime`` (cycles) and
  ``s_memrealtime``, which counts at 100 MHz on CDNA 3 and 4 (ISA documents of both).

A multiprocessor's counter says nothing about one that no program landed on: launch at least one
program per multiprocessor, better a few, and compare the units found with those expected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from roofprobe.kernels.aot import Source

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

COLUMNS = ("unit", "cycles", "timer_ns")


@triton.jit
def unit_id(BACKEND: tl.constexpr):
    """Return the number of the multiprocessor (compute unit) that runs this program; -1 unknown.

    On AMD the number is made of XCC (bits 8 and up), shader engine and array (bits 4 to 7) and
    compute unit (bits 0 to 3).
    """
    if BACKEND == "cuda":
        unit = tl.inline_asm_elementwise(
            "mov.u32 $0, %smid;", "=r", [], dtype=tl.int32, is_pure=False, pack=1
        )
    elif BACKEND == "hip":
        where = tl.inline_asm_elementwise(
            "s_getreg_b32 $0, hwreg(HW_REG_HW_ID)", "=s", [], dtype=tl.int32, is_pure=False, pack=1
        )
        xcc = tl.inline_asm_elementwise(
            "s_getreg_b32 $0, hwreg(HW_REG_XCC_ID)", "=s", [], dtype=tl.int32, is_pure=False,
            pack=1,
        )  # fmt: skip
        unit = ((xcc & 15) << 8) | ((where >> 8) & 255)
    else:
        unit = tl.full((), -1, tl.int32)
    return unit


@triton.jit
def clock_kernel(out_ptr, BACKEND: tl.constexpr):
    """Store (unit, cycles, nanoseconds) of this program as three int64."""
    if BACKEND == "cuda":
        # One block of assembly, so that nothing comes between the two counters.
        unit, cycles, timer_ns = tl.inline_asm_elementwise(
            "mov.u32 $0, %smid;\nmov.u64 $1, %clock64;\nmov.u64 $2, %globaltimer;",
            "=r,=l,=l", [], dtype=(tl.int32, tl.int64, tl.int64), is_pure=False, pack=1,
        )  # fmt: skip
    else:
        unit = unit_id(BACKEND)
        cycles, ticks = tl.inline_asm_elementwise(
            "s_memtime $0\ns_memrealtime $1\ns_waitcnt lgkmcnt(0)",
            "=&s,=&s", [], dtype=(tl.int64, tl.int64), is_pure=False, pack=1,
        )  # fmt: skip
        timer_ns = ticks * 10
    row = out_ptr + tl.program_id(0) * 3
    tl.store(row, unit.to(tl.int64))
    tl.store(row + 1, cycles)
    tl.store(row + 2, timer_ns)


def backend_of(arch: str) -> str:
    """Return ``cuda`` for ``sm_90`` and the like, ``hip`` for ``gfx942``, otherwise ``none``."""
    return {"sm_": "cuda", "gfx": "hip"}.get(arch[:3], "none")


def source(arch: str) -> Source:
    """Return what to compile ahead of time for ``arch``."""
    return Source(clock_kernel, {"out_ptr": "*i64"}, {"BACKEND": backend_of(arch)}, num_warps=1)


def make_readings(shape: tuple[int, ...], device: torch.device | str) -> torch.Tensor:
    """Return room for readings, (…, programs, 3) int64, all −1; ``shape`` ends in programs.

    Two to four programs per multiprocessor make it likely that each one is seen.
    """
    import torch

    return torch.full((*shape, len(COLUMNS)), -1, dtype=torch.int64, device=device)


def launcher(readings: torch.Tensor, arch: str) -> Callable[[], None]:
    """Return a call that enqueues one reading per program into ``readings`` (programs, 3).

    It allocates nothing and waits for nothing, so that it can be recorded into a graph. Copy the
    tensor to the host when the stream is done, for :func:`clocks_mhz`.
    """
    assert readings.ndim == 2, readings.shape
    assert readings.shape[1] == len(COLUMNS), readings.shape
    assert readings.is_contiguous(), readings.stride()
    kernel: Any = clock_kernel[(readings.shape[0],)]

    def launch_once() -> None:
        kernel(readings, BACKEND=backend_of(arch), num_warps=1, enable_fp_fusion=True)

    return launch_once


def clocks_mhz(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each sample's median clock over the multiprocessors; NaN where none was seen twice.

    Both are (samples, programs, 3) with the columns of ``COLUMNS``; the result is (samples,). Of
    several programs on one multiprocessor the first row counts. Differences are taken modulo 2^64,
    as the counters run; a unit whose timer did not advance, or that is numbered −1, is left out.
    """
    import numpy as np

    for readings in (before, after):
        if readings.ndim != 3 or readings.shape[2] != len(COLUMNS):
            raise ValueError(f"clock readings are (samples, programs, 3), not {readings.shape}")
    assert len(before) == len(after), (before.shape, after.shape)
    # One number per sample and unit, so that all samples are matched at once.
    units = 1 + int(max(before[..., 0].max(initial=0), after[..., 0].max(initial=0)))
    keys_before, first = _first_of_each_unit(before, units)
    keys_after, last = _first_of_each_unit(after, units)
    keys, here, there = np.intersect1d(
        keys_before, keys_after, assume_unique=True, return_indices=True
    )
    delta = last[there].astype(np.uint64) - first[here].astype(np.uint64)
    cycles, elapsed_ns = delta[:, 0], delta[:, 1]
    # A difference beyond 2^63 ns (292 years) is a reading taken in the wrong order.
    right = (elapsed_ns > 0) & (elapsed_ns < 2**63) & (cycles < 2**63)
    clocks = 1000.0 * cycles[right].astype(np.float64) / elapsed_ns[right].astype(np.float64)
    return _medians(keys[right] // units, clocks, len(before))


def _first_of_each_unit(
    readings: NDArray[np.int64], units: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sample · units + unit of what was seen, once each, and its counters (seen, 2)."""
    import numpy as np

    samples, programs, _ = readings.shape
    rows = readings.reshape(samples * programs, len(COLUMNS))
    keys = np.repeat(np.arange(samples), programs) * units + rows[:, 0]
    seen = rows[:, 0] >= 0
    found, where = np.unique(keys[seen], return_index=True)
    return found, rows[seen][where, 1:]


def _medians(
    groups: NDArray[np.int64], values: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Return the median of the values of each group 0 … count − 1; NaN for an empty one."""
    import numpy as np

    ordered = values[np.lexsort((values, groups))]
    sizes = np.bincount(groups, minlength=count)
    starts = np.cumsum(sizes) - sizes
    medians = np.full(count, np.nan)
    some = sizes > 0
    low = ordered[(starts + (sizes - 1) // 2)[some]]
    high = ordered[(starts + sizes // 2)[some]]
    medians[some] = (low + high) / 2
    return medians
