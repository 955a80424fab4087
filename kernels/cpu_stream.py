"""Streams on a processor by machine code of our own: every core, no line read to be overwritten.

What a library's loop reaches on a CPU depends on whether its stores read the lines that they
overwrite. The loops of ``x86_stream`` do not, so their figure is the memory's, and the distance of
torch's to it is the price of ordinary stores. One thread per core walks over its own contiguous
share of the arrays, all starting at the same moment (``cpu_team``).

What the number is not: what ordinary code gets, which rarely stores past the caches.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from roofprobe.kernels import x86_stream
from roofprobe.kernels.cpu_team import Executable, Job, Team, machine
from roofprobe.kernels.work import Unsupported

if TYPE_CHECKING:
    import torch

_ITEM_BYTES = {"fp64": 8, "fp32": 4}
_STATE_BYTES = x86_stream.SUMS_OFFSET + x86_stream.UNROLL * 64


def register_bytes(features: Collection[str]) -> int | None:
    """Return the width of the registers that the loops would use, None without AVX2 and FMA."""
    if "avx512f" in features:
        return 64
    return 32 if {"avx2", "fma"} <= set(features) else None


def unavailable(
    kernel: str, precision: str, features: Collection[str], architecture: str | None = None
) -> Unsupported | None:
    """Say why there is no such loop on this processor, or return None."""
    architecture = architecture or machine()
    if architecture != "x86_64":
        return Unsupported(
            "architecture",
            f"the streaming loops are machine code of x86_64, this is {architecture}",
        )
    if kernel not in x86_stream.ARRAYS or precision not in _ITEM_BYTES:
        return Unsupported("no-route", f"there is no streaming loop for {kernel} in {precision}")
    if register_bytes(features) is None:
        return Unsupported("architecture", "the streaming loops need AVX2 and FMA")
    return None


class CpuStream:
    """One kernel prepared for a team of threads; ``launcher`` binds it to arrays.

    Raises ``Unsupported`` where there is no loop, no executable memory, or where the arrays do not
    divide evenly among the threads.
    """

    def __init__(
        self,
        kernel: str,
        precision: str,
        features: Collection[str],
        *,
        elements: int,
        threads: int,
        scalar: float,
        passes: int = 1,
    ) -> None:
        """Make the code and start the team; ``elements`` is the length of each array.

        A launch goes over the arrays ``passes`` times.
        """
        refusal = unavailable(kernel, precision, features)
        if refusal is not None:
            raise refusal
        width = register_bytes(features)
        assert width is not None
        self._width = width
        self._kernel, self._item = kernel, _ITEM_BYTES[precision]
        self._dtype = np.float64 if precision == "fp64" else np.float32
        per_turn = threads * x86_stream.bytes_per_iteration(width)
        if elements * self._item % per_turn:
            raise Unsupported(
                "shape",
                f"the streaming loops need arrays of a multiple of {per_turn} bytes for {threads} "
                f"threads, got {elements * self._item}",
            )
        self._iterations = elements * self._item // per_turn
        self._share_bytes = elements * self._item // threads
        self._team = Team(threads)
        self._code = Executable(x86_stream.stream_loop(kernel, precision, width))
        self._scalar, self._passes = scalar, passes
        self.config: dict[str, int | str | bool | None] = {
            "register_bytes": width, "threads": threads, "non_temporal_stores": True,
            "passes": passes,
        }  # fmt: skip

    def launcher(self, *arrays: torch.Tensor) -> tuple[Callable[[], None], Callable[[], float]]:
        """Return the launch over ``arrays`` (reads first, then what is written) and the sum.

        The sum is that of one pass of the last launch; it means nothing for kernels that store.
        """
        memory = np.zeros(self._team.size * _STATE_BYTES + 64, dtype=np.uint8)
        states = memory[-int(memory.ctypes.data) % 64 :][: self._team.size * _STATE_BYTES]
        states = states.reshape(self._team.size, _STATE_BYTES)
        wanted = x86_stream.ARRAYS[self._kernel]
        assert len(arrays) == len(wanted), (self._kernel, len(arrays))
        for member, state in enumerate(states):
            bases = state[:24].view(np.uint64)
            for array, base in zip(arrays, wanted, strict=True):
                address = array.data_ptr() + member * self._share_bytes
                if address % self._width:
                    raise Unsupported("alignment", "an array is not aligned to whole registers")
                bases[base] = address  # registers 0, 1 and 2 in the order of their slots
            lanes = state[x86_stream.SCALAR_OFFSET :][: self._width].view(self._dtype)
            lanes[:] = self._scalar
        sums = states[:, x86_stream.SUMS_OFFSET :]
        left = states[:, x86_stream.PASSES_OFFSET :][:, :8].view(np.uint64)
        passes = self._passes
        jobs = [
            Job(self._code.address, int(state.ctypes.data), self._iterations) for state in states
        ]
        team = self._team
        keep: tuple[Any, ...] = (arrays, memory, self._code)  # addresses of these are in the state

        def launch() -> None:
            assert keep
            sums[:] = 0
            left[:] = passes
            team.assign(jobs)
            team.launch()

        def total() -> float:
            used = sums[:, : x86_stream.UNROLL * self._width]
            lanes = np.ascontiguousarray(used).view(self._dtype).astype(np.float64)
            return float(lanes.sum()) / passes

        return launch, total
