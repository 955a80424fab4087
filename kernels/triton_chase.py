"""A pointer chase on a GPU: one warp, one load in flight, each address from the load before it.

All threads of the warp load the same word, which the memory system sees as one request. The links
are absolute addresses, so nothing but the load itself stands between two accesses.

**Which cache may answer.** ``l1`` is the plain load that every kernel uses; current NVIDIA GPUs
look it up in L1. ``l2`` goes past L1: ``.cg`` on NVIDIA; on AMD the scope of the device, which
makes L1 miss (LLVM's AMDGPU usage guide, memory model: ``glc`` up to gfx90a, ``sc1`` from gfx940).
AMD's compiler would turn a uniform load into a scalar one, which goes through another, smaller
cache; there the vector load is written out.

**Cycles of single accesses.** ``cycles_kernel`` reads the multiprocessor's cycle counter before and
after each load. The address depends on the first reading (its top bit, which is never set, is added
to it), and the second reading stands behind an exit that is taken if the loaded address is zero,
which it never is: neither the compiler nor the assembler can move the load or a reading past the
other. The difference includes the readings themselves, some tens of cycles and the same for every
access. What it is for is the distribution: an L2 of two partitions shows as two populations.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import triton
import triton.language as tl
from numpy.typing import NDArray

from roofprobe.kernels.aot import Source, assembly_of
from roofprobe.kernels.cycle import Integers, links
from roofprobe.kernels.triton_clock import backend_of
from roofprobe.kernels.work import Unsupported

Cache = Literal["l1", "l2"]

LINE_BYTES = 128
LOADS_PER_ROUND = 32
_WORD_BYTES = 8


@triton.jit
def follow(address, CACHE: tl.constexpr, BACKEND: tl.constexpr):
    """Return the int64 that lies at ``address``."""
    if BACKEND == "hip":
        LOAD: tl.constexpr = "global_load_dwordx2 $0, $1, off" + CACHE + "\ns_waitcnt vmcnt(0)"
        following = tl.inline_asm_elementwise(
            LOAD, "=v,v", [address], dtype=tl.int64, is_pure=False, pack=1
        )
    else:
        following = tl.load(address.to(tl.pointer_type(tl.int64)), cache_modifier=CACHE)
    return following


@triton.jit
def chase_kernel(
    state_ptr, rounds, LOADS: tl.constexpr, CACHE: tl.constexpr, BACKEND: tl.constexpr
):
    """Follow ``rounds · LOADS`` links from the address in the state, and leave the last there."""
    address = tl.load(state_ptr)
    for _ in range(rounds):
        for _ in tl.static_range(LOADS):
            address = follow(address, CACHE, BACKEND)
    tl.store(state_ptr, address)


@triton.jit
def cycles_before(address, BACKEND: tl.constexpr):
    """Return (cycle counter, address), the address not known before the counter is."""
    if BACKEND == "cuda":
        cycles, address = tl.inline_asm_elementwise(
            "{\n.reg .b64 top;\nmov.u64 $0, %clock64;\nshr.u64 top, $0, 63;\n"
            "add.u64 $1, $2, top;\n}",
            "=&l,=l,l", [address], dtype=(tl.int64, tl.int64), is_pure=False, pack=1,
        )  # fmt: skip
    elif BACKEND == "hip":
        # Statements of assembly with side effects, the load's among them, keep their order.
        cycles = tl.inline_asm_elementwise(
            "s_waitcnt vmcnt(0) lgkmcnt(0)\ns_memtime $0\ns_waitcnt lgkmcnt(0)",
            "=s", [], dtype=tl.int64, is_pure=False, pack=1,
        )  # fmt: skip
    else:
        cycles = tl.full((), 0, tl.int64)
    return cycles, address


@triton.jit
def cycles_after(address, BACKEND: tl.constexpr):
    """Return the cycle counter, read when ``address`` has arrived."""
    if BACKEND == "cuda":
        cycles = tl.inline_asm_elementwise(
            "{\n.reg .pred absent;\nsetp.eq.u64 absent, $1, 0;\n@absent exit;\n"
            "mov.u64 $0, %clock64;\n}",
            "=l,l", [address], dtype=tl.int64, is_pure=False, pack=1,
        )  # fmt: skip
    elif BACKEND == "hip":
        cycles = tl.inline_asm_elementwise(
            "s_memtime $0\ns_waitcnt lgkmcnt(0)", "=s", [], dtype=tl.int64, is_pure=False, pack=1
        )
    else:
        cycles = tl.full((), 1, tl.int64)
    return cycles


@triton.jit
def cycles_kernel(state_ptr, cycles_ptr, accesses, CACHE: tl.constexpr, BACKEND: tl.constexpr):
    """Follow ``accesses`` links and store the cycles of each as int32."""
    address = tl.load(state_ptr)
    for access in range(accesses):
        before, address = cycles_before(address, BACKEND)
        address = follow(address, CACHE, BACKEND)
        after = cycles_after(address, BACKEND)
        tl.store(cycles_ptr + access, (after - before).to(tl.int32))
    tl.store(state_ptr, address)


class GpuWalk:
    """The lines of a footprint linked into a cycle; each call enqueues ``accesses`` loads."""

    def __init__(
        self, order: Integers, accesses: int, *, cache: Cache, arch: str, device: str
    ) -> None:
        """Allocate the buffer, link its lines in ``order`` and stand at the first one."""
        import torch

        assert accesses % LOADS_PER_ROUND == 0, accesses
        self.line_bytes = LINE_BYTES
        self._constants = _constants(arch, cache)
        self._rounds = accesses // LOADS_PER_ROUND
        self._buffer = torch.zeros(
            (order.size, LINE_BYTES // _WORD_BYTES), dtype=torch.int64, device=device
        )
        self.base = self._buffer.data_ptr()
        # The position, and on a line of its own the entrance in front of the cycle.
        self._state = torch.zeros(2 * LINE_BYTES // _WORD_BYTES, dtype=torch.int64, device=device)
        self._entrance = self._state[LINE_BYTES // _WORD_BYTES :]
        self._buffer[:, 0] = torch.from_numpy(links(order, self.base, LINE_BYTES)).to(device)
        self._state[0] = self.base + LINE_BYTES * int(order[0])

    def __call__(self) -> object:
        """Enqueue one walk from where the last one stopped."""
        return chase_kernel[(1,)](
            self._state, self._rounds, LOADS=LOADS_PER_ROUND, **self._constants, num_warps=1
        )

    @property
    def position(self) -> int:
        """Wait for the device and return the address that the next load reads."""
        return int(self._state[0])

    def enter(self, line: int) -> None:
        """Stand at the entrance, one load ahead of ``line``; no line of the cycle leads here."""
        self._entrance[0] = self.base + LINE_BYTES * line
        self._state[0] = self._entrance.data_ptr()

    def links(self) -> NDArray[np.int64]:
        """Return the address that each line holds (lines)."""
        found: NDArray[np.int64] = self._buffer[:, 0].contiguous().cpu().numpy()
        return found

    def cycles(self, accesses: int) -> NDArray[np.int32]:
        """Walk on for ``accesses`` and return the cycles that each took (accesses)."""
        import torch

        cycles = torch.full((accesses,), -1, dtype=torch.int32, device=self._buffer.device)
        cycles_kernel[(1,)](self._state, cycles, accesses, **self._constants, num_warps=1)
        found: NDArray[np.int32] = cycles.cpu().numpy()
        return found

    def assembly(self) -> str | None:
        """Walk once and return what the kernel was compiled to here."""
        return assembly_of(self())


def unavailable(arch: str) -> Unsupported | None:
    """Say why the chase cannot be compiled for ``arch``, or return None."""
    if arch.startswith("gfx") and _amd_generation(arch) is None:
        return Unsupported(
            "architecture",
            f"the loads of the pointer chase are written for CDNA (gfx90a, gfx942, gfx950) and "
            f"not for {arch}",
        )
    return None


def source(arch: str, cache: Cache = "l1") -> Source:
    """Return the chase as it is compiled ahead of time for ``arch``."""
    constants = {"LOADS": LOADS_PER_ROUND, **_constants(arch, cache)}
    return Source(chase_kernel, {"state_ptr": "*i64", "rounds": "i32"}, constants, num_warps=1)


def cycles_source(arch: str, cache: Cache = "l1") -> Source:
    """Return the kernel that times single accesses, as compiled ahead of time for ``arch``."""
    signature = {"state_ptr": "*i64", "cycles_ptr": "*i32", "accesses": "i32"}
    return Source(cycles_kernel, signature, _constants(arch, cache), num_warps=1)


def _constants(arch: str, cache: Cache) -> dict[str, str]:
    backend = backend_of(arch)
    if cache == "l1":
        # Not ".ca": the assembler makes that a load ordered within the multiprocessor, while the
        # plain load, which every other kernel uses, is cached in L1 all the same.
        modifier = ""
    elif backend == "hip":
        modifier = _PAST_L1[_amd_generation(arch) or ""]
    else:
        modifier = ".cg"
    return {"CACHE": modifier, "BACKEND": backend}


# What makes AMD's L1 miss, by generation: appended to the load.
_PAST_L1 = {"gfx90": " glc", "gfx94": " sc1", "gfx95": " sc1"}


def _amd_generation(arch: str) -> str | None:
    generation = arch[:5]
    return generation if generation in _PAST_L1 else None
