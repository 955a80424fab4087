"""The compute probe: what dense matrix products reach, per precision and route.

Measured is C = A·B in the TN layout, 2·m·n·k operations over the median time. What limits it, from
large to small shapes: power (clocks fall under load), the arithmetic pipe, feeding it, launch cost.
The figure is **not** a peak of the pipe (no memory traffic would be needed for that), and not what
a whole model reaches; it is what the best library call or our own kernel gets on these shapes.

Which shapes are asked for is one table per class of device: squares that fill the device, and the
shapes of published best results. On a CPU the shapes follow what the processor has instructions
for, so that a precision which is emulated does not eat the time.
"""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.kernels import matmul
from roofprobe.kernels.work import Unsupported, Work
from roofprobe.probes.backends import target_of
from roofprobe.records.schema import Case, Device, Options

FAMILY = "compute"
Shape = tuple[int, int, int]

PRECISIONS: tuple[str, ...] = (
    "fp64", "fp32", "tf32", "bf16", "fp16", "fp16-acc16", "fp8", "int8", "mxfp8", "nvfp4", "int4",
)  # fmt: skip

_SQUARE = {size: (size, size, size) for size in (256, 512, 1024, 2048, 4096, 8192)}

# Shapes per device class and group of precisions, best first: the first one is also measured
# settled, and is the only one at tier quick besides the second.
_GPU_SHAPES: dict[str, dict[str, tuple[Shape, ...]]] = {
    "large": {
        "narrow": (_SQUARE[8192], _SQUARE[4096], (2048, 2048, 13312), (1024, 9216, 14336)),
        "tf32": (_SQUARE[8192], _SQUARE[4096], (2048, 2048, 13312)),
        "fp32": (_SQUARE[4096], _SQUARE[2048]),
        "fp64": (_SQUARE[4096], _SQUARE[2048]),
    },
    "medium": {
        "narrow": (_SQUARE[4096], _SQUARE[8192], (2048, 2048, 8192)),
        "tf32": (_SQUARE[4096], _SQUARE[2048]),
        "fp32": (_SQUARE[4096], _SQUARE[2048]),
        "fp64": (_SQUARE[1024], _SQUARE[2048]),
    },
    "small": {
        "narrow": (_SQUARE[2048], _SQUARE[4096]),
        "tf32": (_SQUARE[2048], _SQUARE[1024]),
        "fp32": (_SQUARE[2048], _SQUARE[1024]),
        "fp64": (_SQUARE[1024], _SQUARE[512]),
    },
}

# What a CPU needs to do a precision in hardware; without it, torch emulates or goes slowly.
_CPU_FAST: dict[str, tuple[str, ...]] = {
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "asimdhp"),
    "int8": ("avx512_vnni", "avx_vnni", "amx_int8", "i8mm"),
}
_CPU_SHAPES: dict[str, tuple[Shape, ...]] = {
    "fp32": (_SQUARE[1024], _SQUARE[2048], (512, 2048, 4096)),
    "fp64": (_SQUARE[1024], (512, 2048, 2048)),
    "fp8": (_SQUARE[512], _SQUARE[1024]),
}
_CPU_FAST_SHAPES: tuple[Shape, ...] = (_SQUARE[1024], _SQUARE[2048])
_CPU_SLOW_SHAPES: tuple[Shape, ...] = (_SQUARE[256], _SQUARE[512])


def cases(device: Device, options: Options) -> Iterator[Case]:
    """Yield the cases for ``device``: every precision asked for, every route, its shapes.

    A precision without a route, or one that the device turns out not to do, is still a case: it
    ends as skipped, with its reason.
    """
    for precision in options.precisions or PRECISIONS:
        shapes = shapes_for(device, precision)
        if options.tier == "quick":
            shapes = shapes[:2]
        routes = matmul.routes_for(precision)
        for position, shape in enumerate(shapes):
            for route in routes:
                yield _case(route, shape, "burst")
                if position == 0 and route.name != "triton" and device.backend != "cpu":
                    yield _case(route, shape, "settled")
        if not routes:
            yield _routeless(precision, shapes[0])


def shapes_for(device: Device, precision: str) -> tuple[Shape, ...]:
    """Return the shapes for a precision on this class of device, the largest gain first."""
    if device.backend == "cpu":
        if precision in _CPU_SHAPES:
            return _CPU_SHAPES[precision]
        fast = set(_CPU_FAST.get(precision, ())) & set(device.features)
        return _CPU_FAST_SHAPES if fast else _CPU_SLOW_SHAPES
    group = precision if precision in ("fp64", "fp32", "tf32") else "narrow"
    return _GPU_SHAPES[device_class(device)][group]


def device_class(device: Device) -> str:
    """Return ``large``, ``medium`` or ``small`` by units and memory; unknown counts as small."""
    units = device.unit_count or 0
    memory_gib = (device.memory_bytes or 0) / 2**30
    if units >= 80 and memory_gib >= 30:
        return "large"
    return "medium" if units >= 36 and memory_gib >= 14 else "small"


def prepare(case: Case, device: Device, free_bytes: int | None, seed: int) -> Work:
    """Make the work of ``case``; raises ``Unsupported`` with the reason when it cannot be done.

    At least two sets of buffers, and as many as make 2 × last-level cache, go round, as far as a
    third of the free memory allows.
    """
    if case.precision in matmul.WITHOUT_ROUTE:
        raise Unsupported("no-route", matmul.WITHOUT_ROUTE[case.precision])
    route = next(
        route
        for route in matmul.routes_for(case.precision)
        if route.name == case.route and route.fast_accum == case.fast_accum
    )
    target = target_of(device)
    reason = matmul.unavailable(route, target)
    if reason is not None:
        raise reason
    m, n, k = (case.shape[axis] for axis in ("m", "n", "k"))
    one_set = matmul.footprint_bytes(route, m, n, k)
    sets = buffer_sets(one_set, device.last_level_cache_bytes, free_bytes)
    if sets == 0:
        raise Unsupported(
            "memory",
            f"one set of operands needs {one_set / 2**30:.1f} GiB and "
            f"{(free_bytes or 0) / 2**30:.1f} GiB are free",
            "free memory on the device, or choose a smaller tier",
        )
    return matmul.prepare(route, target, m=m, n=n, k=k, buffer_sets=sets, seed=seed)


def buffer_sets(set_bytes: int, cache_bytes: int | None, free_bytes: int | None) -> int:
    """Return how many sets go round: ≥ 2 and ≥ 2 × cache in total, within a third of the memory.

    Zero when not even one set fits into 60 % of the free memory (filling needs room too).
    """
    wanted = max(2, -(-2 * (cache_bytes or 0) // set_bytes))
    if free_bytes is None:
        return wanted
    if set_bytes > 0.6 * free_bytes:
        return 0
    return int(max(1, min(wanted, 64, free_bytes // 3 // set_bytes)))


def _case(route: matmul.MatmulRoute, shape: Shape, regime: str) -> Case:
    m, n, k = shape
    accumulation = {None: "", True: "/fast-accum", False: "/full-accum"}[route.fast_accum]
    tensor = route.precision not in ("fp32", "fp64")
    return Case(
        case_id=f"gemm/{route.precision}/{route.name}{accumulation}/tn/{m}x{n}x{k}/{regime}",
        family="compute",
        op="gemm",
        precision=route.precision,
        route=route.name,
        shape={"m": m, "n": n, "k": k},
        layout="TN",
        accumulator=route.accumulator,
        fast_accum=route.fast_accum,
        pipe="tensor" if tensor else None,
        regime=regime,  # type: ignore[arg-type]
    )


def _routeless(precision: str, shape: Shape) -> Case:
    m, n, k = shape
    return Case(
        case_id=f"gemm/{precision}/none",
        family="compute",
        op="gemm",
        precision=precision,
        route="none",
        shape={"m": m, "n": n, "k": k},
    )
