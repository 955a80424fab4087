"""The memory probe: what device memory delivers to kernels that stream through it.

Read, write, copy, scale, add, triad, dot and nstream go once over arrays of at least four times the
last-level cache (1 GiB on a GPU where it fits), so that caches can hold only a small part. The rate
is bytes read plus bytes written over the median time. What limits it: pins × clock, the bus turning
between reads and writes, refresh, and too few bytes in flight. It is **not** a latency, not the
rate of the host link, and a copy's figure is twice what tools that count one direction print.
"""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.kernels import stream
from roofprobe.kernels.work import Unsupported, Work
from roofprobe.probes.backends import target_of
from roofprobe.records.schema import Case, Device, Options

FAMILY = "memory"
OPERATIONS = tuple(kernel.name for kernel in stream.KERNELS)
MIB = 1 << 20
_GPU_ARRAY_BYTES = 1024 * MIB
_CPU_ARRAY_BYTES = 256 * MIB
_CACHE_MULTIPLE = 4
_SHARE_OF_FREE = 0.6


def cases(device: Device, options: Options) -> Iterator[Case]:
    """Yield each kernel by each route, in a 4-byte type, and beyond tier quick in a second type."""
    second = "fp64" if device.backend == "cpu" else "bf16"
    types = ("fp32",) if options.tier == "quick" else ("fp32", second)
    for precision in types:
        elements = array_bytes(device) // stream.ITEM_BYTES[precision]
        for kernel in stream.KERNELS:
            if kernel.group != "stream":
                continue
            for route in stream.ROUTES:
                if route == "copy-engine" and (kernel.name != "copy" or precision != "fp32"):
                    continue
                yield Case(
                    case_id=f"stream/{kernel.name}/{precision}/{route}/{elements}",
                    family="memory",
                    op=kernel.name,
                    precision=precision,
                    route=route,
                    shape={"elements": elements},
                    engine="copy-engine" if route == "copy-engine" else "units",
                    convention="read+write",
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
        case.op, case.route, case.precision, target, elements=elements, buffer_sets=1, seed=seed
    )
