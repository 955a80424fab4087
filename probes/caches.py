"""The caches of a device, level by level, as the system, the driver or the catalogue states them.

Linux lists the caches of each logical CPU in ``/sys/devices/system/cpu/cpu*/cache/index*`` (its
Documentation/ABI/testing/sysfs-devices-system-cpu): level, type, size, and the CPUs that share the
instance, by which instances are told apart. In a virtual machine it is what the hypervisor shows.
Of the instances, those count as used that the CPUs of this process belong to, and never more than
there are cores to keep busy, since one core reads through one cache of each level.

CUDA and ROCm tell the size of L2, and CUDA how much of an SM's first cache a kernel may take as
shared memory; how much the rest is, none of them tells, so no size of a GPU's first cache is
recorded. AMD's driver tells L2 of one of the dies of which the catalogue knows the sum. The last
cache of such a GPU (Infinity Cache) stands in the catalogue alone. The catalogue's MB are binary
here: cards of 50 and 60 MB have drivers that state 50 and 60 MiB.

Checked on processors; what GPUs tell was not measured on one yet.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from roofprobe.peaks.accelerator import Accelerator
from roofprobe.records.schema import CacheLevel, Device

_CPUS: Final = "/sys/devices/system/cpu"
_KINDS: Final[dict[str, Literal["data", "unified"]]] = {"Data": "data", "Unified": "unified"}
_FACTORS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Instance:
    """One cache of the host and the logical CPUs that it serves."""

    level: int
    kind: Literal["data", "unified"]
    size_bytes: int
    cpus: frozenset[int]


def cpu_caches(
    allowed: Collection[int], usable_cores: int, folder: Path | None = None
) -> tuple[CacheLevel, ...]:
    """Return the data caches of the host, by level; empty where the system does not list them.

    ``allowed`` are the logical CPUs that this process may run on, ``usable_cores`` how many cores
    it can keep busy.
    """
    found = frozenset(_instances(folder or Path(_CPUS)))
    cores = {each.cpus for each in found if each.level == 1}
    groups: dict[tuple[int, Literal["data", "unified"], int], list[_Instance]] = {}
    for each in found:
        groups.setdefault((each.level, each.kind, each.size_bytes), []).append(each)
    sizes = [level for level, _, _ in groups]
    return tuple(
        CacheLevel(
            level=level,
            kind=kind,
            instance_bytes=size,
            instance_count=len(own),
            used_count=_used(own, allowed, usable_cores, one_size=sizes.count(level) == 1),
            shared_by=max(sum(core <= each.cpus for core in cores) for each in own) or None,
            source="system",
        )
        for (level, kind, size), own in sorted(groups.items())
    )


def _used(
    own: list[_Instance], allowed: Collection[int], usable_cores: int, *, one_size: bool
) -> int | None:
    reached = sum(not each.cpus.isdisjoint(allowed) for each in own)
    if reached > usable_cores and not one_size:
        return None  # which of the sizes the busy cores have is not told
    return min(reached, usable_cores) or None


def _instances(folder: Path) -> Iterator[_Instance]:
    for index in folder.glob("cpu[0-9]*/cache/index*"):
        try:
            kind = (index / "type").read_text().strip()
            level = int((index / "level").read_text())
            cpus = _cpu_list((index / "shared_cpu_list").read_text().strip())
            size = re.fullmatch(r"(\d+)([KMG]?)", (index / "size").read_text().strip())
        except (OSError, ValueError):
            continue
        if kind in _KINDS and size and int(size[1]) and level > 0:
            yield _Instance(level, _KINDS[kind], int(size[1]) * _FACTORS[size[2]], cpus)


def _cpu_list(text: str) -> frozenset[int]:
    """Read a list of CPUs as the kernel writes it: ``0-3,8``. Raises ``ValueError``."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def last_level_bytes(caches: Collection[CacheLevel]) -> int | None:
    """Return the size of the last level over all instances on the host; None without caches."""
    last = max((each.level for each in caches), default=0)
    return sum(c.instance_bytes * c.instance_count for c in caches if c.level == last) or None


def driver_caches(properties: Any, backend: str, unit_count: int | None) -> tuple[CacheLevel, ...]:
    """Return what torch's ``properties`` of a GPU tell; empty where they tell nothing.

    Only NVIDIA's shared memory is carved out of a cache; that of others is left out.
    """
    found = []
    shared = getattr(properties, "shared_memory_per_multiprocessor", None)
    if backend == "cuda" and shared and unit_count:
        found.append(
            CacheLevel(
                level=1, kind="shared-memory", instance_bytes=shared, instance_count=unit_count,
                used_count=unit_count, shared_by=1, source="driver",
            )
        )  # fmt: skip
    second = getattr(properties, "L2_cache_size", None)
    if second:
        found.append(_whole(2, second, unit_count, "driver"))
    return tuple(found)


def with_catalogue(device: Device, row: Accelerator | None) -> tuple[CacheLevel, ...]:
    """Return a GPU's caches with what ``row`` adds; of a slice of a GPU the driver alone tells."""
    if row is None or device.limits.mig_enabled:
        return device.caches
    levels = list(device.caches)
    second = next((each for each in levels if each.level == 2), None)
    if row.l2_mb is not None:
        total = int(row.l2_mb * _MIB)
        if second is None:
            levels.append(_whole(2, total, device.unit_count, "catalogue"))
        elif device.backend == "rocm" and total > second.instance_bytes:
            levels[levels.index(second)] = _of_dies(second, total, device.unit_count)
    if row.infinity_cache_mb is not None:
        total = int(row.infinity_cache_mb * _MIB)
        levels.append(_whole(3, total, device.unit_count, "catalogue"))
    return tuple(sorted(levels, key=lambda each: each.level))


def _whole(level: int, size_bytes: int, unit_count: int | None, source: str) -> CacheLevel:
    return CacheLevel(
        level=level, kind="unified", instance_bytes=size_bytes, instance_count=1, used_count=1,
        shared_by=unit_count, source=source,
    )  # fmt: skip


def _of_dies(one: CacheLevel, total: int, unit_count: int | None) -> CacheLevel:
    """Return L2 of all dies, of which the driver tells one; as it is where they make no sum."""
    count, rest = divmod(total, one.instance_bytes)
    if rest:
        return one
    shared = unit_count // count if unit_count and unit_count % count == 0 else None
    return one.model_copy(
        update={"instance_count": count, "used_count": count, "shared_by": shared,
                "source": "driver, catalogue"}
    )  # fmt: skip
