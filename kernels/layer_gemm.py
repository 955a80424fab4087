"""The matrix products of a model's layers: y[m, n] = x[m, k] · w[n, k]ᵀ, weights out of memory.

The routes are those of the compute ceiling (``routes``); what differs is what lies where. The
input has just been written and stays where it is; the weights of all layers come round again, so
that they go round here (``weight_arena``). Counted are x, w (scales too) read and y written, once.

In fp8 the input must first be brought into the format, and engines do that at each product:
``quantised`` routes take x in bf16, find one scale per row, convert and multiply, and count both
tensors that this writes and reads again. The others take x as it is multiplied.

On a processor the call is ``F.linear``, which allocates its result as it does in a model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from roofprobe.kernels import routes, rows_work
from roofprobe.kernels.accuracy import check_matmul, poison
from roofprobe.kernels.launchers import LAUNCHERS
from roofprobe.kernels.llm_check import fresh
from roofprobe.kernels.matmul import require, settings
from roofprobe.kernels.operands import Operands, Stored
from roofprobe.kernels.routes import MatmulRoute
from roofprobe.kernels.weight_arena import WeightArena
from roofprobe.kernels.work import Check, Target, Unsupported, Work, without_triton

if TYPE_CHECKING:
    import torch

Shape = tuple[int, int, int]
# Precision of a layer → the compute rows that engines use for it, the first that a device has.
# FP8 weights have a scale per output, activations one per token.
ROWS: dict[str, tuple[str, ...]] = {
    "fp32": ("fp32",),
    "bf16": ("bf16",),
    "fp16": ("fp16",),
    "fp8": ("fp8-rowwise-fast", "fp8-rowwise"),
    "fp8-block": ("fp8-blockwise",),
    "int8": ("int8",),
    "mxfp8": ("mxfp8",),
    "nvfp4": ("nvfp4",),
}
QUANTISED = "quantised"  # the configuration in which the input is converted at each launch


def route_for(precision: str, target: Target) -> MatmulRoute:
    """Return the library's route of a precision on ``target``; raises ``Unsupported``."""
    if precision not in ROWS:
        raise Unsupported("precision", f"there is no layer of {precision} here")
    reasons = []
    for row in ROWS[precision]:
        route = routes.routes_for(row)[0]
        reason = routes.unavailable(route, target)
        if reason is None:
            return route
        reasons.append(reason)
    raise reasons[-1]


def prepare(
    route: MatmulRoute,
    target: Target,
    arena: WeightArena,
    shape: Shape,
    *,
    quantised: bool = False,
    seed: int = 0,
) -> Work:
    """Return the product of ``shape`` (m, n, k) on views of ``arena``.

    Raises ``Unsupported`` when device, torch or shape does not suit.
    """
    require(route, target, shape)
    m, n, k = shape
    sets = arena.sets(shape)
    first = sets[0]
    weights = [_bytes(first.b)]
    launches: tuple[Callable[[], torch.Tensor], ...]
    config: dict[str, int | str | bool | None] = {}
    if quantised:
        launches, check, moved = _quantised(route, target, sets, seed)
        read, written = moved
        config = {"activations": "quantised per row at each launch"}
    elif not target.is_gpu and route.call == "mm":
        from torch.nn.functional import linear

        launches = tuple(partial(linear, each.a.values, each.b.values) for each in sets)
        check = partial(_check_allocating, route, first, launches[0], seed)
        read, written = _bytes(first.a), first.out.nbytes
    else:
        launcher = LAUNCHERS[route.call](route, target, sets, None)
        launches = tuple(partial(launcher.launch, each) for each in sets)
        config = launcher.config
        check = partial(_check_writing, route, first, launches[0], seed)
        read, written = _bytes(first.a), first.out.nbytes
    linear_call = not target.is_gpu and route.call == "mm"
    return Work(
        launches=launches,
        flops=2 * m * n * k,
        bytes_read=read + sum(weights),
        bytes_written=written,
        array_bytes=sum(weights),
        check=check,
        kernel="F.linear" if linear_call else route.name,
        config=config,
        settings=partial(settings, route, target),
    )


def _bytes(stored: Stored) -> int:
    return stored.values.nbytes + (stored.scales.nbytes if stored.scales is not None else 0)


def _check_writing(
    route: MatmulRoute, first: Operands, launch: Callable[[], torch.Tensor], seed: int
) -> Check:
    poison(first.out)
    product = launch()
    if product.data_ptr() != first.out.data_ptr():
        del product
        product = fresh(launch)
    return check_matmul(first.a, first.b, product, precision=route.tolerance_key, seed=seed)


def _check_allocating(
    route: MatmulRoute, first: Operands, launch: Callable[[], torch.Tensor], seed: int
) -> Check:
    product = fresh(launch)
    return check_matmul(first.a, first.b, product, precision=route.tolerance_key, seed=seed)


def _quantised(
    route: MatmulRoute, target: Target, sets: tuple[Operands, ...], seed: int
) -> tuple[tuple[Callable[[], Any], ...], Callable[[], Check], tuple[int, int]]:
    """Return launches that convert x and multiply, their check, and what x and y move."""
    import torch

    if route.compute_row.scaling != "rowwise":
        raise Unsupported("no-route", f"no product of {route.row} is converted row by row here")
    first = sets[0]
    m, k = first.a.shape
    device = first.out.device
    generator = torch.Generator(device=device).manual_seed(seed)
    x = torch.empty(m, k, dtype=torch.bfloat16, device=device).normal_(generator=generator)
    narrow = torch.empty(m, k, dtype=first.a.values.dtype, device=device)
    scales = torch.empty(m, 1, device=device)
    convert = _converter(x, narrow, scales, target)
    product = partial(
        torch._scaled_mm,
        out_dtype=first.out.dtype,
        use_fast_accum=bool(route.compute_row.fast_accum),
    )

    def launch(each: Operands) -> torch.Tensor:
        converted, factors = convert()
        assert each.b.scales is not None, each.index
        return product(converted, each.b_kn, factors, each.b.scales.view(1, -1), out=each.out)

    launches = tuple(partial(launch, each) for each in sets)

    def check() -> Check:
        poison(first.out)
        launches[0]()
        converted, factors = convert()
        told = rows_work.check_quantised(x, converted, factors)
        if told.problem is not None:
            return told
        stored = Stored(converted, factors, "rowwise")
        return check_matmul(stored, first.b, first.out, precision=route.tolerance_key, seed=seed)

    between = narrow.nbytes + scales.nbytes
    return launches, check, (x.nbytes + between, between + first.out.nbytes)


def _converter(
    x: torch.Tensor, narrow: torch.Tensor, scales: torch.Tensor, target: Target
) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """Return the fused kernel where there is Triton, torch's operations elsewhere."""
    if not target.is_gpu or without_triton() is not None:
        return partial(rows_work.quantise, x, narrow.dtype)
    from roofprobe.kernels import triton_rows

    return triton_rows.quantise(x, narrow, scales)
