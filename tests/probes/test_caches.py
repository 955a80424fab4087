"""Caches are read as they are stated, each instance once, and what nobody states is not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.peaks.catalogue import load
from roofprobe.probes.caches import _cpu_list, cpu_caches, driver_caches, last_level_bytes
from roofprobe.probes.caches import with_catalogue as added
from roofprobe.records.schema import CacheLevel, Device, Limits

KIB, MIB = 1 << 10, 1 << 20
Host = Callable[..., Path]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Give ``host((cpu, level, type, shared, size), …)``: a folder as the kernel makes it."""

    def made(*caches: tuple[int, int, str, str, str]) -> Path:
        for number, (cpu, level, kind, shared, size) in enumerate(caches):
            folder = tmp_path / f"cpu{cpu}" / "cache" / f"index{number}"
            folder.mkdir(parents=True)
            for name, text in (("level", level), ("type", kind), ("shared_cpu_list", shared),
                               ("size", size)):  # fmt: skip
                (folder / name).write_text(f"{text}\n")
        return tmp_path

    return made


def epyc(host: Host, cores: int = 4, threads: int = 1, per_l3: int = 2) -> Path:
    """Return a host with L1 and L2 per core and an L3 per ``per_l3`` cores; threads lie apart."""
    caches = []
    for core in range(cores):
        own = [core + cores * thread for thread in range(threads)]
        first = core // per_l3 * per_l3
        l3 = ",".join(f"{first + cores * t}-{first + per_l3 - 1 + cores * t}"
                      for t in range(threads))  # fmt: skip
        mine = ",".join(map(str, own))
        for cpu in own:
            caches += [
                (cpu, 1, "Data", mine, "48K"), (cpu, 1, "Instruction", mine, "32K"),
                (cpu, 2, "Unified", mine, "1024K"), (cpu, 3, "Unified", l3, "32M"),
            ]  # fmt: skip
    return host(*caches)


def level(number: int, size: int, count: int, used: int | None, shared: int) -> CacheLevel:
    return CacheLevel(
        level=number, kind="data" if number == 1 else "unified", instance_bytes=size,
        instance_count=count, used_count=used, shared_by=shared, source="system",
    )  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_each_instance_counts_once_and_is_shared_by_cores_not_threads(
    host: Host, threads: int
) -> None:
    assert cpu_caches(range(4 * threads), 4, epyc(host, threads=threads)) == (
        level(1, 48 * KIB, 4, 4, 1),
        level(2, MIB, 4, 4, 1),
        level(3, 32 * MIB, 2, 2, 2),
    )


@pytest.mark.parametrize(
    ("allowed", "cores", "used"),
    [
        ({0, 1}, 2, [2, 2, 1]),  # both in one half of the host
        ({0, 2}, 2, [2, 2, 2]),  # one in each half
        (range(4), 1, [1, 1, 1]),  # a quota of one core
        ({9}, 1, [None, None, None]),  # none of the CPUs that are listed
    ],
)
def test_used_are_the_instances_of_the_cores_that_may_be_kept_busy(
    host: Host, allowed: set[int], cores: int, used: list[int | None]
) -> None:
    found = cpu_caches(allowed, cores, epyc(host))
    assert [each.used_count for each in found] == used
    assert [each.instance_count for each in found] == [4, 4, 2]


def test_sizes_that_differ_within_a_level_are_rows_of_their_own(host: Host) -> None:
    folder = host(
        (0, 1, "Data", "0", "48K"), (1, 1, "Data", "1", "32K"), (2, 1, "Data", "2", "32K"),
        (0, 2, "Unified", "0", "2048K"), (1, 2, "Unified", "1-2", "4M"),
        (2, 2, "Unified", "1-2", "4M"),
    )  # fmt: skip
    assert cpu_caches(range(3), 3, folder) == (
        level(1, 32 * KIB, 2, 2, 1), level(1, 48 * KIB, 1, 1, 1),
        level(2, 2 * MIB, 1, 1, 1), level(2, 4 * MIB, 1, 1, 2),
    )  # fmt: skip
    assert [each.used_count for each in cpu_caches(range(3), 1, folder)] == [None, 1, 1, 1]


def test_last_is_the_highest_level_over_all_its_instances(host: Host) -> None:
    assert last_level_bytes(cpu_caches(range(4), 1, epyc(host))) == 64 * MIB
    assert last_level_bytes(()) is None


def test_what_is_not_written_as_the_kernel_writes_it_is_not_there(host: Host) -> None:
    folder = host(
        (0, 1, "Data", "x", "48K"), (1, 1, "Data", "1", "big"), (2, 1, "Trace", "2", "48K"),
        (3, 1, "Data", "3", "0K"), (4, 0, "Data", "4", "48K"),
    )  # fmt: skip
    (folder / "cpu5" / "cache" / "index0").mkdir(parents=True)
    assert cpu_caches(range(6), 6, folder) == ()
    assert cpu_caches({0}, 1, folder / "none") == ()


@given(st.sets(st.integers(0, 300), min_size=1))
def test_a_list_of_cpus_reads_back(cpus: set[int]) -> None:
    assert _cpu_list(",".join(map(str, sorted(cpus)))) == cpus
    assert _cpu_list("0-2,8,10-11") == {0, 1, 2, 8, 10, 11}


def test_what_a_driver_tells_of_a_gpu_is_kept_and_nothing_else() -> None:
    told = SimpleNamespace(shared_memory_per_multiprocessor=1000, L2_cache_size=50 * MIB)
    shared, second = driver_caches(told, "cuda", 10)
    assert (shared.kind, shared.instance_bytes, shared.instance_count) == (
        "shared-memory",
        1000,
        10,
    )
    assert (second.kind, second.level, second.instance_bytes) == ("unified", 2, 50 * MIB)
    assert (second.instance_count, second.shared_by, second.source) == (1, 10, "driver")
    assert driver_caches(told, "rocm", 10) == (second,)
    assert driver_caches(SimpleNamespace(L2_cache_size=0), "cuda", None) == ()


def gpu(backend: str, *caches: CacheLevel, mig: bool | None = None) -> Device:
    return Device(
        device_id="g", torch_device="cuda:0", backend=backend, name="Example", unit_count=304,
        caches=caches, limits=Limits(mig_enabled=mig),
    )  # fmt: skip


def l2(size: int) -> CacheLevel:
    (found,) = driver_caches(SimpleNamespace(L2_cache_size=size), "rocm", 304)
    return found


def test_the_catalogue_adds_what_the_driver_does_not_tell() -> None:
    row = next(row for row in load() if row.infinity_cache_mb and row.l2_mb)
    assert row.l2_mb is not None
    assert row.infinity_cache_mb is not None
    total, last = int(row.l2_mb * MIB), int(row.infinity_cache_mb * MIB)
    second, third = added(gpu("rocm"), row)
    assert (second.instance_bytes, second.source) == (total, "catalogue")
    assert (third.level, third.instance_bytes, third.source) == (3, last, "catalogue")
    one_die = added(gpu("rocm", l2(total // 8)), row)[0]
    assert (one_die.instance_bytes, one_die.instance_count) == (total // 8, 8)
    assert (one_die.shared_by, one_die.source) == (38, "driver, catalogue")
    assert added(gpu("rocm", l2(total)), row)[0] == l2(total)
    assert added(gpu("rocm", l2(total // 8 + 1)), row)[0] == l2(total // 8 + 1)


def test_the_catalogue_says_nothing_of_a_slice_nor_of_an_unknown_card() -> None:
    row = next(row for row in load() if row.l2_mb and not row.infinity_cache_mb)
    assert added(gpu("cuda", mig=True), row) == ()
    assert added(gpu("cuda", l2(MIB)), row) == (l2(MIB),)  # the driver's own stands
    assert added(gpu("cuda", l2(MIB)), None) == (l2(MIB),)
    assert added(gpu("cuda"), replace(row, l2_mb=None)) == ()
