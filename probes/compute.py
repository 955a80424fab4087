"""The compute probe: what matrix products reach, per row of the table of precisions.

Measured is C = A·B, 2·m·n·k operations over the median time. What limits it, from large to small
shapes: power (clocks fall under load), the arithmetic pipe, feeding it, launch cost. The figure is
**not** what a whole model reaches; it is what the best call gets on the best shape found, and next
to it stand what the pipe does alone, what everyday shapes reach, and what flattering data would
have gained.

Each row is measured in this order. *Anchors*, fixed squares by every route, are the same in every
run. A *search* by the row's first route finds the best shape. At that shape follow every route
(*route*) and other configurations of our own kernel (*tune*). The fastest of all these, whatever
its route and shape, then works for seconds back to back (*settled*) and on other data (*pattern*),
so that what is said of the headline is measured on the headline. Other layouts and odd sizes come
on demand. The *pipe* probe needs no memory. The *stability* check repeats one product and compares
bits. The *surface* is M × the (N, K) of real models: brief looks for a map, never a headline.

Nothing here measures; this module says what is in the plan, and what follows from a search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from roofprobe.kernels import routes, rows
from roofprobe.kernels.operands import LAYOUTS, PATTERNS
from roofprobe.kernels.routes import MatmulRoute
from roofprobe.kernels.rows import ComputeRow
from roofprobe.kernels.triton_configs import candidates
from roofprobe.probes.backends import target_of
from roofprobe.probes.candidates import MODEL_LAYERS
from roofprobe.records.schema import Case, Device, Measurement, Options, Regime, Role

FAMILY = "compute"
Shape = tuple[int, int, int]

_SQUARE = {size: (size, size, size) for size in (256, 512, 1024, 2048, 4096, 8192)}

# Anchors per device class and group of rows, largest gain first.
_GPU_ANCHORS: dict[str, dict[str, tuple[Shape, ...]]] = {
    "large": {
        "narrow": (_SQUARE[8192], _SQUARE[4096]),
        "tf32": (_SQUARE[8192], _SQUARE[4096]),
        "fp32": (_SQUARE[4096], _SQUARE[2048]),
        "fp64": (_SQUARE[4096], _SQUARE[2048]),
    },
    "medium": {
        "narrow": (_SQUARE[4096], _SQUARE[8192]),
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
CPU_INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "fp16": ("avx512_fp16", "amx_fp16", "asimdhp"),
    "int8": ("avx512_vnni", "avx_vnni", "amx_int8", "i8mm"),
}
_CPU_FULL = ("fp32", "fp64")

# (N, K) of the linear layers of models that are served today, fused QKV and gate+up as engines run
# them: an 8B model, a 70B model, and its slices on eight GPUs (columns of QKV and gate+up, rows of
# the other two). On a CPU: Qwen2.5-0.5B.
_LAYERS_70B = MODEL_LAYERS["Llama-2-70B, Llama-3-70B"]
_GPU_LAYERS: tuple[tuple[int, int], ...] = (
    *MODEL_LAYERS["Llama-3-8B"],
    *_LAYERS_70B,
    *((n // 8, k) if column else (n, k // 8)
      for (n, k), column in zip(_LAYERS_70B, (True, False, True, False), strict=True)),
)  # fmt: skip
_CPU_LAYERS: tuple[tuple[int, int], ...] = ((1152, 896), (9728, 896), (896, 4864))
_SURFACE_ROWS = ("bf16", "fp8-fast", "fp8", "int8", "mxfp8", "nvfp4")
_DENSE_SURFACE_ROWS = ("bf16", "fp8-fast", "mxfp8")  # every power of two of m; the others: of four
_CPU_SURFACE_ROWS = ("fp32", "bf16", "int8")
_CPU_FLOPS = {True: 1.2e10, False: 5e8}  # of one launch: with instructions, emulated

_STABILITY_ROWS = ("fp64", "fp32", "bf16", "fp8", "int8")
_DIVISORS = (128, 64, 32, 16, 8, 4, 2, 1)  # of n: what a kernel's tiles and vectors may rely on
_WINNING: tuple[Role, ...] = ("anchor", "route", "tune")


@dataclass(frozen=True, slots=True)
class _Depth:
    """How much of the probe a tier does; ``all_routes`` also at the shape that was found."""

    anchors: int
    all_routes: bool  # at every anchor and at the best shape, or at the first anchor alone
    settled: tuple[str, ...]
    patterns: tuple[str, ...]
    tune: int
    surface_ms: tuple[int, ...]


_EVERY = tuple(row.name for row in rows.ROWS)
_QUICK_SETTLED = ("fp32", "tf32", "bf16", "fp8-fast", "int8", "mxfp8", "nvfp4")
_CPU_SETTLED = ("fp64", "fp32", "bf16", "int8")
_POWERS = tuple(1 << power for power in range(15))
_DEPTHS: dict[tuple[str, str], _Depth] = {
    ("gpu", "quick"): _Depth(1, False, _QUICK_SETTLED, (), 0, ()),
    ("gpu", "standard"): _Depth(2, True, _EVERY, PATTERNS, 2, _POWERS),
    ("gpu", "soak"): _Depth(2, True, _EVERY, PATTERNS, 99, _POWERS),
    ("cpu", "quick"): _Depth(1, False, ("fp32",), (), 0, ()),
    ("cpu", "standard"): _Depth(1, True, _CPU_SETTLED, PATTERNS, 0, (1, 4, 16, 64, 256, 1024)),
    ("cpu", "soak"): _Depth(2, True, _EVERY, PATTERNS, 0, _POWERS[:12]),
}
# One row of each format shows what its data are worth; its other forms toggle the same bits.
_PATTERN_ROWS = (
    "fp64", "fp32", "tf32", "bf16", "fp16", "fp8-fast", "fp8", "int8", "mxfp8", "nvfp4",
)  # fmt: skip


def cases(device: Device, options: Options) -> Iterator[Case]:
    """Yield what is known before anything is measured; the rest is in ``follow_ups``.

    A row without a route, or one that the device turns out not to do, is still a case: it ends
    as skipped, with its reason.
    """
    return (_on(device, case) for case in _planned(device, options))


def _planned(device: Device, options: Options) -> Iterator[Case]:
    depth = depth_for(device, options)
    for row in rows.select(options.precisions):
        anchors = anchors_for(device, row)
        found = row_routes(row, options)
        for number, shape in enumerate(anchors[: depth.anchors]):
            # The second anchor is for comparing devices, which one route is enough for.
            compared = found if number == 0 else found[:1]
            yield from (gemm(route, shape, "anchor") for route in compared)
        if row.name in routes.WITHOUT_ROUTE:
            yield _bare(row, "anchor", "none", {})
        yield _bare(row, "pipe", "pipe", {})
        if not found:
            continue
        if options.search != "none":
            yield _bare(row, "search", found[0].name, {})
        if row.name in _STABILITY_ROWS:
            yield gemm(found[0], anchors[0], "stability")
        yield from _surface(device, row, found[0], depth)


def follow_ups(
    measurement: Measurement, earlier: Sequence[Measurement], device: Device, options: Options
) -> tuple[Case, ...]:
    """Return what a measurement calls for, to be measured right after it.

    A search calls for every route at the shape it found. The last of those (without a search: the
    pipe, which comes after the anchors) calls for what is done with the fastest of the row.
    ``earlier`` are the device's measurements before this one.
    """
    if measurement.case.row is None:
        return ()
    row = rows.BY_NAME[measurement.case.row]
    own = [m for m in (*earlier, measurement) if m.case.row == row.name]
    search = next((m for m in own if m.case.role == "search" and _found(m)), None)
    more: Iterator[Case] = iter(())
    if measurement is search:
        more = _compared(device, options, row, measurement)
    elif search is not None and measurement.case.role in ("route", "tune"):
        wanted = {case.case_id for case in _compared(device, options, row, search)}
        if wanted <= {m.case.case_id for m in own}:
            more = _on_the_fastest(device, options, row, own, search)
    elif measurement.case.role == ("pipe" if options.search == "none" else "search"):
        more = _on_the_fastest(device, options, row, own, None)
    return tuple(_on(device, case) for case in more)


def _found(measurement: Measurement) -> bool:
    search = measurement.search
    return measurement.status == "ok" and search is not None and search.best is not None


def _on(device: Device, case: Case) -> Case:
    """Return the case as it is on this device: a processor's products have no tensor pipe."""
    if device.backend == "cpu" and case.pipe == "tensor":
        return case.model_copy(update={"pipe": None})
    return case


def _compared(
    device: Device, options: Options, row: ComputeRow, searched: Measurement
) -> Iterator[Case]:
    """Yield the routes, and the configurations of our kernel, at the shape that was found."""
    depth = depth_for(device, options)
    best, first = _best_and_route(row, options, searched)
    found = row_routes(row, options)
    yield from (gemm(each, best, "route") for each in (found if depth.all_routes else (first,)))
    for route in found:
        if route.call == "triton" and device.architecture is not None and depth.tune:
            for config in _other_configs(row.name, device.architecture)[: depth.tune]:
                yield gemm(route, best, "tune", config=config)


def _on_the_fastest(
    device: Device,
    options: Options,
    row: ComputeRow,
    own: Sequence[Measurement],
    searched: Measurement | None,
) -> Iterator[Case]:
    """Yield what is done with the fastest product of the row, and the sweeps beside the search."""
    depth = depth_for(device, options)
    winner = max(
        (
            m
            for m in own
            if m.status == "ok" and m.rate and m.case.shape and m.case.role in _WINNING
        ),
        key=lambda m: m.rate.median if m.rate else 0.0,
        default=None,
    )
    if winner is None:
        return
    route = routes.route_named(row.name, winner.case.route)
    best, config = _shape_of(winner.case), winner.case.config
    if row.name in depth.settled:
        yield gemm(route, best, "settled", regime="settled", config=config)
    on_cpu = device.backend == "cpu"
    if on_cpu or row.name in _PATTERN_ROWS:
        # On a GPU in the heat of the settled case before: data act through power.
        regime: Regime = "burst" if on_cpu else "settled"
        for pattern in depth.patterns:
            yield gemm(route, best, "pattern", regime=regime, pattern=pattern, config=config)
    if searched is not None:  # our own kernel takes one layout; a library's cliffs are of interest
        best, route = _best_and_route(row, options, searched)
    if "layouts" in options.sweeps:
        for layout in LAYOUTS:
            yield gemm(route, best, "layout", layout=layout)
    if "alignment" in options.sweeps:
        m, n, k = best
        for divisor in _DIVISORS:
            # the largest n below the next multiple of 128 that this is the greatest divisor of
            odd = n // 128 * 128 + (0 if divisor == 128 else divisor)
            yield gemm(route, (m, odd, k), "alignment")


def _best_and_route(
    row: ComputeRow, options: Options, searched: Measurement
) -> tuple[Shape, MatmulRoute]:
    search = searched.search
    assert search is not None, searched.case.case_id
    assert search.best is not None, searched.case.case_id
    return search.best, next(r for r in row_routes(row, options) if r.name == search.route)


def _shape_of(case: Case) -> Shape:
    return case.shape["m"], case.shape["n"], case.shape["k"]


def _surface(device: Device, row: ComputeRow, route: MatmulRoute, depth: _Depth) -> Iterator[Case]:
    on_cpu = device.backend == "cpu"
    if row.name not in (_CPU_SURFACE_ROWS if on_cpu else _SURFACE_ROWS):
        return
    most = cpu_flops(device, row) if on_cpu else float("inf")
    thin = not on_cpu and row.name not in _DENSE_SURFACE_ROWS
    for n, k in _CPU_LAYERS if on_cpu else _GPU_LAYERS:
        # The largest first: the memory that it takes holds all others too.
        for m in reversed(depth.surface_ms[::2] if thin else depth.surface_ms):
            fits = 2 * m * n * k <= most
            if fits and routes.shape_problem(route, m, n, k, target=target_of(device)) is None:
                yield gemm(route, (m, n, k), "surface")


def _other_configs(row: str, architecture: str) -> tuple[str, ...]:
    """Return the names of our kernel's configurations but the first, which is measured anyway."""
    return tuple(config.name for config in candidates(row, architecture)[1:])


def row_routes(row: ComputeRow, options: Options) -> tuple[MatmulRoute, ...]:
    """Return the routes of a row that a run tries, the one that is searched with first."""
    return routes.routes_for(row.name, optional=options.compile_routes)


def may_run(case: Case, device: Device) -> bool:
    """Return whether the device alone does not rule ``case`` out; what is installed is not asked.

    A search runs where any route of its row does.
    """
    assert case.row is not None, case.case_id
    row = rows.BY_NAME[case.row]
    if case.op == "pipe":
        on_cpu = row.precision in _CPU_FULL or cpu_has(device, row)
        return row.sparsity is None and (device.backend != "cpu" or on_cpu)
    if case.route == "none":
        return False
    target = target_of(device)
    if case.op != "search":
        route = routes.route_named(row.name, case.route)
        return routes.refused_by_device(route, target) is None
    return any(routes.refused_by_device(r, target) is None for r in routes.routes_for(row.name))


def depth_for(device: Device, options: Options) -> _Depth:
    """Return how much is done on this kind of device at the tier that was asked for."""
    return _DEPTHS[("cpu" if device.backend == "cpu" else "gpu", options.tier)]


def anchors_for(device: Device, row: ComputeRow) -> tuple[Shape, ...]:
    """Return the fixed shapes of a row on this class of device, the largest gain first."""
    if device.backend == "cpu":
        if row.precision in _CPU_FULL or cpu_has(device, row):
            return _SQUARE[1024], _SQUARE[2048]
        small = _SQUARE[512] if row.precision == "fp8" else _SQUARE[256]
        return small, (_SQUARE[1024] if row.precision == "fp8" else _SQUARE[512])
    group = row.precision if row.precision in ("fp64", "fp32", "tf32") else "narrow"
    return _GPU_ANCHORS[device_class(device)][group]


def cpu_has(device: Device, row: ComputeRow) -> bool:
    """Return whether a processor has instructions for the row's precision."""
    return bool(set(CPU_INSTRUCTIONS.get(row.precision, ())) & set(device.features))


def cpu_flops(device: Device, row: ComputeRow) -> float:
    """Return the operations of one launch that a processor does in about a tenth of a second."""
    if row.precision == "fp8":
        return 4 * _CPU_FLOPS[False]
    return _CPU_FLOPS[row.precision in _CPU_FULL or cpu_has(device, row)]


def device_class(device: Device) -> str:
    """Return ``large``, ``medium`` or ``small`` by units and memory; unknown counts as small."""
    units = device.unit_count or 0
    memory_gib = (device.memory_bytes or 0) / 2**30
    if units >= 80 and memory_gib >= 30:
        return "large"
    return "medium" if units >= 36 and memory_gib >= 14 else "small"


def gemm(
    route: MatmulRoute,
    shape: Shape,
    role: Role,
    *,
    regime: Regime = "burst",
    pattern: str = "uniform",
    layout: str = "TN",
    config: str | None = None,
) -> Case:
    """Return the case of one product by one route."""
    m, n, k = shape
    row = route.compute_row
    parts = [role, row.name, route.name, layout, f"{m}x{n}x{k}", regime, pattern]
    return Case(
        case_id="/".join([*parts, config] if config else parts),
        family="compute",
        op="stability" if role == "stability" else "gemm",
        precision=row.precision,
        route=route.name,
        shape={"m": m, "n": n, "k": k},
        row=row.name,
        role=role,
        layout=layout,
        scaling=row.scaling,
        config=config,
        accumulator=row.accumulator,
        fast_accum=row.fast_accum,
        pipe=row.pipe,
        sparsity=row.sparsity,
        pattern=pattern,
        regime=regime,
    )


def _bare(row: ComputeRow, role: Role, route: str, shape: dict[str, int]) -> Case:
    """Return a case that has no shape yet: a search, the pipe alone, a row without a route."""
    op = {"search": "search", "pipe": "pipe"}.get(role, "gemm")
    return Case(
        case_id=f"{role}/{row.name}/{route}",
        family="compute",
        op=op,
        precision=row.precision,
        route=route,
        shape=shape,
        row=row.name,
        role=role,
        layout="TN" if op == "search" else None,
        scaling=row.scaling,
        accumulator=row.accumulator,
        fast_accum=row.fast_accum,
        pipe=row.pipe,
        sparsity=row.sparsity,
    )
