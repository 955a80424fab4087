"""Dense and 2:4-sparse matrix products C(m, n) = A(m, k) · B(k, n), ready to be measured.

A product does 2·m·n·k operations on m·k + k·n operands, so for large shapes the arithmetic
pipes are the limit and the rate is the pipes' rate at the clock that power allows.

What can be computed is the table in ``rows``, by which calls the one in ``routes``, on which memory
``operands``; here they come together as a ``Work``: launches, their accounting, their check.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from roofprobe.kernels.accuracy import check_matmul, poison
from roofprobe.kernels.launchers import LAUNCHERS, CompiledHere
from roofprobe.kernels.operands import Arena, set_bytes
from roofprobe.kernels.routes import MatmulRoute, Setting, shape_problem, unavailable
from roofprobe.kernels.work import Check, Target, Unsupported, Work

if TYPE_CHECKING:
    import torch

Shape = tuple[int, int, int]


def prepare(
    route: MatmulRoute,
    target: Target,
    arena: Arena,
    shape: Shape,
    *,
    layout: str = "TN",
    config: str | None = None,
    seed: int = 0,
) -> Work:
    """Return the work of ``route`` on views of ``arena``; allocates no operands.

    ``config`` names a configuration of our own kernel; the best known one otherwise. Raises
    ``Unsupported`` when device, torch or shape does not suit the route, and whatever torch
    raises when memory runs out.
    """
    require(route, target, shape, layout)
    m, n, k = shape
    sets = arena.sets(shape, layout)
    launcher = LAUNCHERS[route.call](route, target, sets, config)
    launches = tuple(partial(launcher.launch, operands) for operands in sets)
    first = sets[0]
    telling = arena.pattern in ("uniform", "normal")

    def check() -> Check:
        poison(first.out)
        product = launches[0]()
        if product.data_ptr() != first.out.data_ptr():
            # It lies in a block of torch's caching allocator, which gives the one that was freed
            # last to the next result of that size: poisoned, then freed, it is found written.
            poison(product)
            del product
            product = launches[0]()
        return check_matmul(
            first.a, first.b, product, precision=route.tolerance_key, seed=seed, floor=telling
        )

    read = sum(_stored_bytes(operand.values, operand.scales) for operand in (first.a, first.b))
    return Work(
        launches=launches,
        flops=2 * m * n * k,
        bytes_read=read,
        bytes_written=first.out.nbytes,
        array_bytes=set_bytes(route.compute_row, m, n, k),
        check=check,
        kernel=route.name,
        config=launcher.config,
        settings=partial(settings, route, target),
        assembly=launcher.assembly if isinstance(launcher, CompiledHere) else None,
    )


def require(route: MatmulRoute, target: Target, shape: Shape, layout: str = "TN") -> None:
    """Raise ``Unsupported`` with the reason when ``route`` cannot do ``shape`` on ``target``."""
    reason = unavailable(route, target)
    if reason is not None:
        raise reason
    problem = shape_problem(route, *shape, layout, target)
    if problem is not None:
        raise Unsupported("shape", problem)


def _stored_bytes(values: torch.Tensor, scales: torch.Tensor | None) -> int:
    return values.nbytes + (scales.nbytes if scales is not None else 0)


@contextmanager
def settings(route: MatmulRoute, target: Target) -> Iterator[None]:
    """Set torch's precision and library switches for the time of the work, and put them back."""
    with ExitStack() as stack:
        for switch in (*_precision_switches(route.setting, target), *_library_switches(route)):
            stack.enter_context(switch)
        yield


def _precision_switches(
    setting: Setting, target: Target
) -> tuple[AbstractContextManager[object], ...]:
    import torch

    matmul = torch.backends.cuda.matmul
    if setting == "none":
        return ()
    if setting in ("ieee", "tf32"):
        if not target.is_gpu:
            onednn = torch.backends.mkldnn
            if hasattr(onednn, "matmul") and hasattr(onednn.matmul, "fp32_precision"):
                return (_Switch(onednn.matmul, {"fp32_precision": "ieee"}),)
            return ()
        if hasattr(matmul, "fp32_precision"):
            return (_Switch(matmul, {"fp32_precision": setting}),)
        return (_Switch(matmul, {"allow_tf32": setting == "tf32"}),)
    if not target.is_gpu:
        return ()
    if setting == "fp16-acc":
        return (_Switch(matmul, {"allow_fp16_accumulation": True}),)
    return (
        _Switch(
            matmul,
            {
                "allow_bf16_reduced_precision_reduction": False,
                "allow_fp16_reduced_precision_reduction": False,
            },
        ),
    )


def _library_switches(route: MatmulRoute) -> tuple[AbstractContextManager[object], ...]:
    if route.library == "lt":
        return (_preferred_library("cublaslt"),)
    if route.library == "tuned":
        return (_tuning(),)
    return ()


@contextmanager
def _preferred_library(name: str) -> Iterator[None]:
    """Prefer cuBLASLt (on ROCm the same word means hipBLASLt) for torch.mm."""
    import torch

    prefer = torch.backends.cuda.preferred_blas_library
    before = prefer()
    prefer(name)
    try:
        yield
    finally:
        prefer(before)


@contextmanager
def _tuning() -> Iterator[None]:
    """Let torch try the library's algorithms at the first launch and keep the fastest.

    The first launch is the check's, so that no sample times the tuning; nothing is written to a
    file. At most 30 ms and 100 launches per algorithm.
    """
    import torch

    tunable = torch.cuda.tunable
    before = (tunable.is_enabled(), tunable.tuning_is_enabled())
    tunable.enable(True)
    tunable.tuning_enable(True)
    tunable.set_max_tuning_duration(30)
    tunable.set_max_tuning_iterations(100)
    tunable.set_filename(os.devnull)  # or the result would be left in the working directory
    try:
        yield
    finally:
        tunable.tuning_enable(before[1])
        tunable.enable(before[0])


class _Switch:
    """Set attributes of a torch settings object and restore what they were."""

    def __init__(self, owner: object, values: dict[str, object]) -> None:
        self._owner = owner
        self._values = values
        self._before: dict[str, object] = {}

    def __enter__(self) -> None:
        for name, value in self._values.items():
            self._before[name] = getattr(self._owner, name)
            setattr(self._owner, name, value)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            setattr(self._owner, name, value)
