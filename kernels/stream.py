"""Streaming kernels: what device memory delivers to plain code, counted as STREAM counts.

Each kernel goes once over arrays far larger than every cache, so bytes over time is the memory's
rate. Counted is each byte that must cross the memory interface once, reads plus writes, without
write-allocate traffic (McCalpin's STREAM convention; on a CPU without non-temporal stores the
hardware moves up to half as much again on writes, which this figure does not see). ``read`` and
``dot`` only read; ``write`` only writes; ``copy`` and ``scale`` are half and half and usually the
slowest on a GPU, because the bus turns round; ``add`` and ``triad`` read two and write one;
``nstream`` reads three and writes one of them back. What ``gather`` and ``strided`` do, and what
their figures are not, stands in ``stream_rows``.

The copy engine (``cudaMemcpyAsync`` behind ``Tensor.copy_``) is no kernel on the compute units and
does not reach the memory's roof: it has a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from roofprobe.kernels import cpu_stream, stream_check, stream_torch
from roofprobe.kernels.stream_check import SCALAR
from roofprobe.kernels.stream_rows import (
    BY_NAME,
    DTYPES,
    ITEM_BYTES,
    KERNELS,
    SECTOR_BYTES_CPU,
    SECTOR_BYTES_GPU,
    StreamKernel,
    bytes_per_launch,
)
from roofprobe.kernels.triton_stream_configs import StreamConfig, config_named, configs_for
from roofprobe.kernels.work import Check, Target, Unsupported, Work, without_triton

if TYPE_CHECKING:
    import torch

__all__ = [
    "BY_NAME",
    "DTYPES",
    "ITEM_BYTES",
    "KERNELS",
    "ROUTES",
    "SCALAR",
    "StreamKernel",
    "bytes_per_launch",
    "candidates",
    "page_order",
    "prepare",
    "unavailable",
]

ROUTES: tuple[str, ...] = ("torch", "machine-code", "triton", "copy-engine")


def unavailable(kernel: str, route: str, precision: str, target: Target) -> Unsupported | None:
    """Say why this kernel has no such route on ``target``, or return None when it can be tried."""
    if route == "copy-engine":
        if kernel != "copy":
            return Unsupported("copy-engine", "a copy engine only copies")
        if target.kind == "cpu":
            return Unsupported("no-copy-engine", "a CPU has no copy engine for its own memory")
        return None
    if BY_NAME[kernel].group == "cache" and route != "triton":
        return Unsupported("cache-route", "only our Triton kernel stays within a GPU's L2")
    if route == "machine-code":
        if target.kind != "cpu":
            return Unsupported("cpu-only", "machine code of our own streams on processors only")
        return cpu_stream.unavailable(kernel, precision, target.features, target.architecture)
    if route == "torch" and kernel == "copy" and target.is_gpu:
        return Unsupported(
            "copy-engine-route",
            "torch hands a copy within a device to the copy engine, which has its own row",
        )
    if route == "triton":
        if not target.is_gpu or target.architecture is None:
            return Unsupported(
                "no-triton-target",
                f"Triton kernels are compiled for CUDA and ROCm GPUs; this device is a "
                f"{target.kind}"
                + (
                    " (its interpreter is for tests, not for timing)"
                    if target.kind == "cpu"
                    else ""
                ),
            )
        return without_triton()
    return None


def candidates(kernel: str, route: str, precision: str, target: Target) -> tuple[str, ...]:
    """Return the names of the configurations worth trying, best guess first.

    Only Triton has any; a probe tries each once and keeps the winner for good.
    """
    if route != "triton" or target.architecture is None:
        return ()
    found = configs_for(kernel, DTYPES[precision], target.architecture)
    return tuple(config.name for config in found)


def prepare(
    kernel: str,
    route: str,
    precision: str,
    target: Target,
    *,
    elements: int,
    buffer_sets: int,
    seed: int,
    config: str | None = None,
    passes: int = 1,
) -> Work:
    """Allocate and fill ``buffer_sets`` sets of arrays of ``elements`` and return the work.

    Values are uniform in [−1, 1] from ``seed``, never constant: some memories compress. ``config``
    names a Triton configuration, without which the first of :func:`candidates` is taken. Our own
    machine code, and the reads that stay in a GPU's L2, go over the arrays ``passes`` times in a
    launch.
    Raises ``Unsupported`` where the route does not exist on ``target``, ``ValueError`` where the
    configuration cannot do it.
    """
    import torch

    reason = unavailable(kernel, route, precision, target)
    if reason is not None:
        raise reason
    row = BY_NAME[kernel]
    if row.read_elements(precision, elements) == 0:
        raise Unsupported(
            "too-small", f"{elements} elements of {precision} hold no unit of {kernel}"
        )
    if config is not None and route != "triton":
        raise ValueError(f"only Triton kernels have configurations; {route} was given {config!r}")
    dtype = getattr(torch, DTYPES[precision])
    device = torch.device(target.torch_device)
    seeds = torch.Generator().manual_seed(seed)
    sets: list[tuple[torch.Tensor, ...]] = []
    for _ in range(buffer_sets):
        arrays = [_random(elements, dtype, device, seeds) for _ in range(row.reads)]
        arrays += [
            torch.empty(elements, dtype=dtype, device=device)
            for _ in range(row.writes - row.in_place)
        ]
        sets.append(tuple(arrays))
    used = row.used_elements(precision, elements)
    run, step = _run_and_step(row, precision, target)
    index = None
    if row.page_bytes is not None:
        index = page_order(used // run, seeds).to(device)
    if route == "machine-code":
        bind = partial(_bind_machine_code, row, target, precision, passes)
    elif row.group == "cache":
        bind = partial(_bind_cache, target, _config(kernel, precision, target, config), passes)
    elif route == "triton":
        bind = partial(_bind_triton, row, target, _config(kernel, precision, target, config))
    else:
        bind = partial(_bind_torch, row, target)
    bound = [
        bind(tuple(array[:used] for array in arrays), index=index, run=run, step=step)
        for arrays in sets
    ]
    _, check, settings = bound[0]
    if passes != 1 and route != "machine-code" and row.group != "cache":
        raise ValueError(f"{route} goes over its arrays once in a launch, not {passes} times")
    read, written = (passes * size for size in bytes_per_launch(kernel, precision, elements))
    launches = tuple(launch for launch, _, _ in bound)
    return Work(
        launches=launches,
        flops=passes * row.flops_per_element * row.read_elements(precision, elements),
        bytes_read=read,
        bytes_written=written,
        array_bytes=elements * dtype.itemsize,
        check=check,
        kernel=_kernel_name(row, route),
        config={**_geometry(row, index, run * dtype.itemsize), **settings},
        assembly=partial(_assembly, launches[0]) if route == "triton" else None,
    )


def page_order(pages: int, seeds: torch.Generator) -> torch.Tensor:
    """Return the index of a gather (pages,): every page once, in random order, as int32."""
    import torch

    return torch.randperm(pages, generator=seeds).to(torch.int32)


def _random(
    elements: int, dtype: torch.dtype, device: torch.device, seeds: torch.Generator
) -> torch.Tensor:
    import torch

    seed = int(torch.randint(0, 2**31, (), generator=seeds))
    generator = torch.Generator(device=device if device.type == "cuda" else "cpu")
    generator.manual_seed(seed)
    array = torch.empty(elements, dtype=dtype, device=device)
    if device.type in ("cpu", "cuda"):
        return array.uniform_(-1, 1, generator=generator)
    return array.copy_(torch.empty(elements, dtype=dtype).uniform_(-1, 1, generator=generator))


Config = dict[str, int | str | bool | None]
Bound = tuple[Callable[[], object], Callable[[], Check], Config]


def _run_and_step(row: StreamKernel, precision: str, target: Target) -> tuple[int, int]:
    """Return (elements read in one piece, elements from one piece to the next)."""
    item = ITEM_BYTES[precision]
    if row.page_bytes is not None:
        return row.page_bytes // item, row.page_bytes // item
    sector = SECTOR_BYTES_GPU if target.is_gpu else SECTOR_BYTES_CPU
    return sector // item, row.one_of * sector // item


def _geometry(row: StreamKernel, index: torch.Tensor | None, run_bytes: int) -> Config:
    """Return what the bytes of a gather or a stride do not tell."""
    if index is not None:
        return {"page_bytes": run_bytes, "pages": index.numel(), "index_bytes": index.nbytes}
    if row.one_of > 1:
        return {"sector_bytes": run_bytes, "one_of": row.one_of}
    return {}


def _kernel_name(row: StreamKernel, route: str) -> str:
    if route == "triton":
        return f"{row.name} (triton)"
    operation = stream_torch.OPERATIONS
    return f"{operation.get(row.name) or operation.get(row.group) or row.name} ({route})"


def _bind_torch(
    row: StreamKernel,
    target: Target,
    arrays: tuple[torch.Tensor, ...],
    *,
    index: torch.Tensor | None,
    run: int,
    step: int,
) -> Bound:
    return stream_torch.bind(row, arrays, target, index=index, run=run, step=step)


def _bind_machine_code(
    row: StreamKernel,
    target: Target,
    precision: str,
    passes: int,
    arrays: tuple[torch.Tensor, ...],
    *,
    index: torch.Tensor | None,
    run: int,
    step: int,
) -> Bound:
    stream = cpu_stream.CpuStream(
        row.name,
        precision,
        target.features,
        elements=arrays[0].numel(),
        threads=max(1, target.unit_count or 1),
        scalar=SCALAR,
        passes=passes,
    )
    launch, total = stream.launcher(*arrays)
    if row.writes:
        return launch, partial(stream_check.check_map, row, row.name, arrays, launch), stream.config
    return launch, partial(stream_check.check_total, total, arrays, launch), stream.config


def _config(kernel: str, precision: str, target: Target, name: str | None) -> StreamConfig:
    assert target.architecture is not None
    if name is not None:
        return config_named(name)
    return configs_for(kernel, DTYPES[precision], target.architecture)[0]


def _bind_triton(
    row: StreamKernel,
    target: Target,
    config: StreamConfig,
    arrays: tuple[torch.Tensor, ...],
    *,
    index: torch.Tensor | None,
    run: int,
    step: int,
) -> Bound:
    from roofprobe.kernels import triton_gather, triton_stream

    dtype = str(arrays[0].dtype).removeprefix("torch.")
    units = target.unit_count or _units(arrays[0].device)
    told: Config = {"name": config.name}
    if row.group == "stream":
        programs = triton_stream.programs_for(arrays[0].numel(), dtype, config, units)
        count, terms_of = arrays[0].numel(), stream_check.products(arrays)
    else:
        count = arrays[0].numel() // step * run
        config = triton_gather.fitted(config, run * arrays[0].element_size())
        blocks = triton_gather.blocks_of(count // run, run * arrays[0].element_size(), config)
        programs = config.programs(blocks, units)
        terms_of = stream_check.runs_of(arrays[0], index, run, step)
    block = config.block(dtype)
    told |= {"block": block, "num_warps": config.num_warps, "programs": programs}
    if row.writes:
        # What is written is rounded here, once; a factor keeps its bits for the arithmetic.
        value = SCALAR if row.reads else float(arrays[-1].new_tensor(SCALAR))
        launch = triton_stream.launcher(
            row.name, arrays, config, multiprocessors=units, value=value
        )
        return launch, partial(stream_check.check_map, row, row.name, arrays, launch), told
    partials = _partials(arrays[0], programs)
    if row.group == "stream":
        launch = triton_stream.launcher(
            row.name, arrays, config, multiprocessors=units, partials=partials
        )
    else:
        launch = triton_gather.launcher(
            arrays[0], index, partials, config, run=run, step=step, runs=count // run
        )
    check = partial(stream_check.check_programs, partials, terms_of, count, block, launch)
    return launch, check, told


def _bind_cache(
    target: Target,
    config: StreamConfig,
    passes: int,
    arrays: tuple[torch.Tensor, ...],
    *,
    index: torch.Tensor | None,
    run: int,
    step: int,
) -> Bound:
    from roofprobe.kernels import triton_cache

    assert target.architecture is not None
    array = arrays[0]
    block = config.block(str(array.dtype).removeprefix("torch."))
    programs = triton_cache.programs_for(config, target.unit_count or _units(array.device))
    partials = _partials(array, programs)
    launch = triton_cache.launcher(array, partials, config, passes=passes, arch=target.architecture)
    wanted = partial(triton_cache.sums_by_program, array, programs, block, passes)
    check = partial(stream_check.check_sums, partials, wanted, passes * array.numel(), launch)
    told: Config = {"name": config.name, "block": block, "num_warps": config.num_warps}
    return launch, check, told | {"programs": programs, "passes": passes}


def _partials(array: torch.Tensor, programs: int) -> torch.Tensor:
    """Return a place for one sum per program, in a type that holds products without rounding."""
    import torch

    wide = torch.float64 if array.dtype == torch.float64 else torch.float32
    return torch.full((programs,), float("nan"), dtype=wide, device=array.device)


def _units(device: torch.device) -> int:
    import torch

    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _assembly(launch: Callable[[], object]) -> str | None:
    from roofprobe.kernels.aot import assembly_of

    return assembly_of(launch())
