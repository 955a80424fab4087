"""The memory probe: what device memory delivers to kernels that stream through it.

Read, write, copy, scale, add, triad, dot and nstream go once over arrays of at least four times the
last-level cache (1 GiB on a GPU where it fits), so that caches can hold only a small part. Smaller
arrays, pages through an index and sectors with a stride follow. The rate is bytes read plus bytes
written over the median time. What limits it: pins × clock, the bus turning between reads and
writes, refresh, and too few bytes in flight. It is **not** a latency, not the rate of the host
link, and a copy's figure is twice what tools that count one direction print.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from roofprobe.kernels import stream
from roofprobe.kernels.stream_rows import CACHE_GRANULE_BYTES
from roofprobe.kernels.work import Unsupported, Work
from roofprobe.probes.backends import target_of
from roofprobe.records.schema import Case, Device, Options, Role

if TYPE_CHECKING:
    import torch

FAMILY = "memory"
MIB = 1 << 20
_LEAST_CURVE_BYTES = 256 << 10
_LEAST_CPU_CURVE_BYTES = 16 << 10  # both cores' shares lie within their first caches
_CPU_CURVE_BYTES = 64 * MIB  # what a launch of a curve moves at least
_GPU_ARRAY_BYTES = 1024 * MIB
_CPU_ARRAY_BYTES = 256 * MIB
_CACHE_MULTIPLE = 4
# L2 of large GPUs is two partitions, and what the near one serves fits into half of it. A quarter
# leaves room for everything else, and a launch that moves a gibibyte lasts a hundred microseconds.
_CACHE_SHARE, _CACHED_READ_BYTES = 4, 1 << 30
CHECK = "memory-check"
_CHUNK_BYTES = 1 << 30
_CHECKED_SHARE, _CHECKED_SHARE_CPU = 0.9, 0.5  # a host's memory is not all ours
_SHARE_OF_FREE = 0.6


def cases(device: Device, options: Options) -> Iterator[Case]:
    """Yield the streams at full size, then (beyond tier quick) what else memory is asked for.

    Streams in a 4-byte type and beyond tier quick in a second one; other configurations of our
    Triton kernels; pages through an index and sectors with a stride; sizes through the caches.
    """
    on_cpu = device.backend == "cpu"
    second = "fp64" if on_cpu else "bf16"
    types = ("fp32",) if options.tier == "quick" else ("fp32", second)
    for precision in types:
        for kernel in _of_group("stream"):
            best = device.tuned_streams.get(kernel.name) if precision == "fp32" else None
            # Between 4 and 8 bytes nothing changes on a processor but the label: two rows show it.
            brief = on_cpu and precision != "fp32" and options.tier != "soak"
            if brief and kernel.name not in ("copy", "triad"):
                continue
            for route in stream.ROUTES:
                if route == "copy-engine" and (kernel.name != "copy" or precision != "fp32"):
                    continue
                config = best if route == "triton" else None
                size = array_bytes(device)
                yield _case(device, kernel.name, route, precision, "anchor", size, config)
    if options.tier == "quick":
        return
    yield from _tuned(device, options)
    yield from _cached(device)
    strides = _of_group("strided")[:: 3 if on_cpu else 1]  # a CPU's torch loop is the limit there
    for kernel in (*_of_group("gather"), *strides):
        precision = "bf16" if device.backend != "cpu" and kernel.group == "gather" else "fp32"
        for route in ("torch", "triton"):
            yield _case(device, kernel.name, route, precision, "anchor", array_bytes(device))
    yield from _curve(device)
    if options.tier == "soak":
        yield Case(
            case_id="memory-check",
            family="memory",
            op=CHECK,
            precision="none",
            route="torch",
            shape={},
            role="stability",
        )


def free_chunks(device: Device, free_bytes: int | None) -> list[torch.Tensor]:
    """Return tensors of bytes over most of the free memory of an accelerator, half of a host's.

    Raises ``Unsupported`` where the free memory is not told.
    """
    import torch

    if free_bytes is None:
        raise Unsupported("memory", "how much memory is free is not told on this device")
    share = _CHECKED_SHARE_CPU if device.backend == "cpu" else _CHECKED_SHARE
    left = int(free_bytes * share) // MIB * MIB
    chunks = []
    while left > 0:
        size = min(left, _CHUNK_BYTES)
        chunks.append(torch.empty(size, dtype=torch.uint8, device=device.torch_device))
        left -= size
    return chunks


def _of_group(group: str) -> tuple[stream.StreamKernel, ...]:
    return tuple(kernel for kernel in stream.KERNELS if kernel.group == group)


def _tuned(device: Device, options: Options) -> Iterator[Case]:
    """Yield the other configurations of our Triton streams, each once, in the 4-byte type.

    Kernels whose best one is known from an earlier run are not tried again, but at tier soak.
    """
    target = target_of(device)
    if not target.is_gpu or device.architecture is None:
        return
    for kernel in _of_group("stream"):
        best = device.tuned_streams.get(kernel.name)
        if best and options.tier != "soak":
            continue
        names = stream.candidates(kernel.name, "triton", "fp32", target)
        for name in names:
            if name != (best or names[0]):
                size = array_bytes(device)
                yield _case(device, kernel.name, "triton", "fp32", "tune", size, name)


def _cached(device: Device) -> Iterator[Case]:
    """Yield reads that stay within a GPU's L2, in each configuration."""
    target, cache = target_of(device), device.last_level_cache_bytes
    if not target.is_gpu or device.architecture is None or not cache:
        return
    size = max(1, cache // _CACHE_SHARE // CACHE_GRANULE_BYTES) * CACHE_GRANULE_BYTES
    for kernel in _of_group("cache"):
        for name in stream.candidates(kernel.name, "triton", "fp32", target):
            yield _case(device, kernel.name, "triton", "fp32", "tune", size, name)


def _curve(device: Device) -> Iterator[Case]:
    """Yield streams from small arrays to the full size, always over the same ones.

    Small arrays stay in a cache, and that is meant: the figure is then the cache's, and where it
    falls is the cache's size. Such cases are held against no peak of the memory. On a processor
    only reads show the caches, since our stores go past them, and a launch goes over a small array
    many times, so that waking the threads does not count.
    """
    on_cpu = device.backend == "cpu"
    route, kernels = ("machine-code", ("read", "dot")) if on_cpu else ("triton", ("read", "triad"))
    for kernel in kernels:
        size = _LEAST_CPU_CURVE_BYTES if on_cpu else _LEAST_CURVE_BYTES
        while size < array_bytes(device):
            yield _case(device, kernel, route, "fp32", "curve", size)
            size *= 4 if on_cpu else 2


def _case(
    device: Device,
    kernel: str,
    route: str,
    precision: str,
    role: Role,
    size_bytes: int,
    config: str | None = None,
) -> Case:
    elements = size_bytes // stream.ITEM_BYTES[precision]
    in_cache = stream.BY_NAME[kernel].group == "cache"
    parts = ["stream" if role == "anchor" else role, kernel, precision, route, str(elements)]
    cached = stream.BY_NAME[kernel].arrays * size_bytes
    resident = cached < _CACHE_MULTIPLE * (device.last_level_cache_bytes or 0)
    return Case(
        case_id="/".join([*parts, config] if config else parts),
        family="memory",
        op=kernel,
        precision=precision,
        route=route,
        shape={"elements": elements},
        role=role,
        config=config,
        engine="copy-engine" if route == "copy-engine" else "units",
        convention="read+write",
        level="l2" if resident and (role == "curve" or in_cache) else None,
    )


def array_bytes(device: Device) -> int:
    """Return the size of each array: ≥ 4 × last-level cache and ≥ 1 GiB (CPU: 256 MiB), that fits.

    Three arrays stay within 60 % of the free memory; never below 4 × cache unless memory itself
    is smaller (``prepare`` then refuses).
    """
    wanted = _CPU_ARRAY_BYTES if device.backend == "cpu" else _GPU_ARRAY_BYTES
    least = _CACHE_MULTIPLE * (device.last_level_cache_bytes or 0)
    wanted = max(wanted, least)
    free = device.memory_free_bytes or device.memory_bytes
    if free is not None:
        wanted = min(wanted, max(least, int(free * _SHARE_OF_FREE / 3)))
    return max(MIB, wanted // MIB * MIB)


def case_bytes(case: Case) -> int:
    """Return the bytes of all arrays of ``case``."""
    if case.op == CHECK:
        return 1 << 40  # whatever is free: give it back at once
    arrays = stream.BY_NAME[case.op].arrays
    return arrays * case.shape["elements"] * stream.ITEM_BYTES[case.precision]


def prepare(case: Case, device: Device, free_bytes: int | None, seed: int) -> Work:
    """Make the work of ``case``; raises ``Unsupported`` with the reason when it cannot be done."""
    target = target_of(device)
    reason = stream.unavailable(case.op, case.route, case.precision, target)
    if reason is not None:
        raise reason
    elements = case.shape["elements"]
    needed = case_bytes(case)
    if free_bytes is not None and needed > 0.9 * free_bytes:
        raise Unsupported(
            "memory",
            f"the arrays need {needed / 2**30:.1f} GiB and {free_bytes / 2**30:.1f} GiB are free",
            "free memory on the device",
        )
    return stream.prepare(
        case.op,
        case.route,
        case.precision,
        target,
        elements=elements,
        buffer_sets=1,
        seed=seed,
        config=case.config,
        passes=_passes(case),
    )


def _passes(case: Case) -> int:
    """Return how often a launch goes over its arrays: once, but for those meant for a cache."""
    if stream.BY_NAME[case.op].group == "cache":
        return max(1, _CACHED_READ_BYTES // case_bytes(case))
    if case.role != "curve" or case.route != "machine-code":
        return 1
    return max(1, _CPU_CURVE_BYTES // case_bytes(case))
