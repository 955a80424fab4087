"""Triton kernels that do nothing: what is left of a launch when the work is taken away.

One takes no argument: its launch is the least that any kernel costs. The other takes what a product
of our own takes (three tensors, two sizes), because the Python side of a launch looks at each
argument (its type, its alignment, whether it is divisible by 16) to find the compiled kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import triton

from roofprobe.kernels.aot import Source

if TYPE_CHECKING:
    import torch

SIZES = (4096, 4096)


@triton.jit
def empty_kernel():
    """Do nothing."""


@triton.jit
def arguments_kernel(a_ptr, b_ptr, c_ptr, m, n):
    """Do nothing with three tensors and two sizes."""


def sources() -> tuple[Source, ...]:
    """Return what to compile ahead of time."""
    arguments = {"a_ptr": "*fp32", "b_ptr": "*fp32", "c_ptr": "*fp32", "m": "i32", "n": "i32"}
    return (
        Source(empty_kernel, {}, {}, num_warps=1),
        Source(arguments_kernel, arguments, {}, num_warps=1),
    )


def empty_launcher() -> Callable[[], object]:
    """Return a call that enqueues one program of the kernel without arguments."""
    kernel: Any = empty_kernel

    def launch() -> object:
        return kernel[(1,)](num_warps=1)

    return launch


def arguments_launcher(tensor: torch.Tensor) -> Callable[[], object]:
    """Return a call that enqueues one program with ``tensor`` three times and two sizes.

    The grid is made anew at each launch, as code that launches kernels does.
    """
    kernel: Any = arguments_kernel

    def launch() -> object:
        return kernel[(1,)](tensor, tensor, tensor, *SIZES, num_warps=1)

    return launch
