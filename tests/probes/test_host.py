"""What the host says of itself is read from the system's files, and absent where they are."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from roofprobe.probes import host

Redirect = Callable[[dict[str, str]], Path]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Redirect:
    """Give a root folder that takes the place of the system's ``/``."""

    def redirect(contents: dict[str, str]) -> Path:
        for name, text in contents.items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(host, "Path", lambda name: tmp_path / str(name).lstrip("/"))
        return tmp_path

    return redirect


def test_a_system_without_files_tells_nothing(files: Redirect) -> None:
    files({})
    assert host._sysfs_max_clock_mhz() is None
    assert host._cgroup_cpu_quota() is None
    assert host._proc_cpuinfo() == {}


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", None), ("150000 100000", 1.5), ("nonsense", None)]
)
def test_the_cpu_quota_is_read_from_the_cgroup(
    files: Redirect, text: str, expected: float | None
) -> None:
    files({"/sys/fs/cgroup/cpu.max": text})
    assert host._cgroup_cpu_quota() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is asked of Linux")
@pytest.mark.parametrize(
    ("allowed", "logical", "physical", "quota", "expected"),
    [
        (16, 16, 8, None, 8),  # two threads to a core
        (8, 16, 8, None, 4),  # half of the host by affinity
        (16, 16, 8, "300000 100000", 3),  # a quota of three CPUs
        (16, 16, 8, "50000 100000", 1),  # never less than one
        (1, 16, 8, None, 1),
        (4, 4, 4, None, 4),
    ],
)
def test_usable_cores_are_physical_and_within_affinity_and_quota(
    files: Redirect,
    monkeypatch: pytest.MonkeyPatch,
    allowed: int,
    logical: int,
    physical: int,
    quota: str | None,
    expected: int,
) -> None:
    files({"/sys/fs/cgroup/cpu.max": quota} if quota else {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)))
    monkeypatch.setattr(os, "cpu_count", lambda: logical)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: physical)
    assert host.usable_cores() == expected


def test_available_memory_stays_within_the_container(files: Redirect) -> None:
    files({"/sys/fs/cgroup/memory.max": "1000000\n", "/sys/fs/cgroup/memory.current": "400000\n"})
    assert host.available_memory_bytes() == 600000


def test_a_container_over_its_limit_has_no_memory_left(files: Redirect) -> None:
    files({"/sys/fs/cgroup/memory.max": "1000\n", "/sys/fs/cgroup/memory.current": "4000\n"})
    assert host.available_memory_bytes() == 0


def test_processor_facts_come_from_the_first_block(files: Redirect) -> None:
    files({"/proc/cpuinfo": "model name\t: Example CPU\nflags\t\t: fpu avx2 fma amx_bf16\n\n"
                            "model name\t: Another\n"})  # fmt: skip
    host.cpu_facts.cache_clear()
    try:
        facts = host.cpu_facts()
    finally:
        host.cpu_facts.cache_clear()
    assert facts.name == "Example CPU"
    assert facts.simd_features == ("amx_bf16", "avx2", "fma")
    assert (facts.vendor, facts.family, facts.model) == ("unknown", None, None)


def test_the_environment_records_only_the_variables_that_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("EXAMPLE_SECRET", "hidden")
    found = host.environment()
    assert found.variables["NVIDIA_TF32_OVERRIDE"] == "0"
    assert "EXAMPLE_SECRET" not in found.variables
    assert found.torch is not None
    assert found.python == ".".join(str(part) for part in sys.version_info[:3])


def test_the_environment_tells_the_versions_of_what_computes() -> None:
    import numpy

    libraries = host.environment().libraries
    assert libraries["numpy"] == numpy.__version__
    assert "pytest" not in libraries


@pytest.mark.parametrize(
    ("name", "computes"),
    [
        ("nvidia-cublas", True),
        ("nvidia-cublas-cu12", True),
        ("nvidia-cusparselt-cu13", True),
        ("nvidia-nccl-cu12", True),
        ("nvidia-ml-py", False),
        ("numpydoc", False),
        ("mkl", True),
        ("mkl-service", False),
    ],
)
def test_a_package_that_computes_is_known_by_its_name(name: str, computes: bool) -> None:
    assert bool(host._COMPUTES.match(name)) is computes


def test_a_host_is_called_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOFPROBE_HOST", " gpu-17 ")
    assert host.environment().host == "gpu-17"
    monkeypatch.setenv("ROOFPROBE_HOST", "")
    assert host.environment().host == socket.gethostname()
