"""Facts about the host and its software: what every run records beside its numbers.

Cores are those that this process may use: affinity and the container's CPU quota count, because a
peak for cores that the process cannot use would be fiction.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import socket
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from roofprobe.probes.caches import cpu_caches
from roofprobe.records.schema import CacheLevel, Environment

_SIMD = re.compile(
    r"^(sse2|avx|avx2|fma|f16c|avx512\w*|avx_vnni|amx_\w+|asimd\w*|sve\w*|bf16|i8mm|fphp|asimdhp)$"
)
# Packages whose version decides how fast a product is; system-wide libraries are not seen.
_COMPUTES = re.compile(
    r"numpy$|mkl$|intel-openmp$|nvidia-(cublas|cuda-runtime|cuda-nvrtc|cudnn|cusparselt|nccl|"
    r"nvshmem)\b|rocm-sdk|torchao$"
)
_RECORDED_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "CUBLAS_EMULATE_DOUBLE_PRECISION",
    "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_LAUNCH_BLOCKING", "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_TUNABLEOP_ENABLED", "TORCH_BLAS_PREFER_CUBLASLT", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS",
    "MKL_ENABLE_INSTRUCTIONS", "NVIDIA_VISIBLE_DEVICES", "TRITON_INTERPRET",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CpuFacts:
    """The processor as the system reports it; ``clock_mhz`` is its highest reported clock."""

    name: str
    vendor: str
    family: int | None
    model: int | None
    usable_cores: int
    logical_cpus: int
    clock_mhz: float | None
    caches: tuple[CacheLevel, ...]
    simd_features: tuple[str, ...]


@functools.cache
def cpu_facts() -> CpuFacts:
    """Return what /proc, sysfs and the operating system say of the processor."""
    import psutil

    info = _proc_cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    name = info.get("model name") or platform.processor() or platform.machine()
    clocks = [_sysfs_max_clock_mhz()]
    try:
        frequency = psutil.cpu_freq()
        clocks += [frequency.max, frequency.current] if frequency else []
    except (OSError, NotImplementedError, AttributeError):
        pass
    known = [clock for clock in clocks if clock]
    return CpuFacts(
        name=name.strip(),
        vendor=info.get("vendor_id", "unknown"),
        family=_int(info.get("cpu family")),
        model=_int(info.get("model")),
        usable_cores=usable_cores(),
        logical_cpus=os.cpu_count() or 1,
        clock_mhz=float(max(known)) if known else None,
        caches=cpu_caches(_allowed_cpus(), usable_cores()),
        simd_features=tuple(sorted({flag for flag in flags if _SIMD.match(flag)})),
    )


def physical_cores() -> int:
    """Return the host's cores, hardware threads apart, whoever may use them."""
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def usable_cores() -> int:
    """Return the physical cores that this process may keep busy: affinity, quota, threads apart."""
    import psutil

    allowed = len(_allowed_cpus())
    logical = os.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or logical
    cores = max(1, min(physical, round(allowed * physical / logical) or 1))
    quota = _cgroup_cpu_quota()
    return max(1, min(cores, int(quota))) if quota else cores


def _allowed_cpus() -> frozenset[int]:
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:
        return frozenset(range(os.cpu_count() or 1))


def available_memory_bytes() -> int:
    """Return memory that can be allocated without swapping, within the cgroup's limit."""
    import psutil

    available = int(psutil.virtual_memory().available)
    limit, used = _read_int("/sys/fs/cgroup/memory.max"), _read_int("/sys/fs/cgroup/memory.current")
    if limit is not None and used is not None:
        available = min(available, max(0, limit - used))
    return available


def _libraries() -> dict[str, str]:
    """Return the versions of the packages that compute: BLAS, collectives, the CUDA runtime."""
    found = {}
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower()
        if _COMPUTES.match(name):
            found[name] = distribution.version
    return dict(sorted(found.items()))


def host_name() -> str:
    """Return what this host is called in records: ``ROOFPROBE_HOST``, or the system's name for it.

    In a container the system's name is the container's, and the next one's is another.
    """
    return os.environ.get("ROOFPROBE_HOST", "").strip()[:253] or socket.gethostname()


def environment() -> Environment:
    """Return software and host facts; imports nothing heavy and opens no device."""
    import psutil

    from roofprobe import __version__

    facts = cpu_facts()
    return Environment(
        host=host_name(),
        os=_os_name(),
        kernel=platform.release(),
        python=platform.python_version(),
        roofprobe=__version__,
        torch=_version("torch"),
        triton=_version("triton"),
        libraries=_libraries(),
        cpu=facts.name,
        logical_cpus=facts.logical_cpus,
        memory_bytes=int(psutil.virtual_memory().total),
        container=_container(),
        variables={name: os.environ[name] for name in _RECORDED_VARIABLES if name in os.environ},
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _proc_cpuinfo() -> dict[str, str]:
    """Return the first processor's block of /proc/cpuinfo; empty elsewhere."""
    facts: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return facts
    for line in text.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        facts[key.strip()] = value.strip()
    return facts


def _sysfs_max_clock_mhz() -> float | None:
    khz = _read_int("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    return khz / 1000 if khz else None


def _cgroup_cpu_quota() -> float | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return float(quota) / float(period) if quota != "max" else None
    except (OSError, ValueError):
        return None


def _read_int(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _int(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.platform())
    except OSError:
        return f"{sys.platform} {platform.release()}"


def _container() -> str | None:
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    return "kubernetes" if "KUBERNETES_SERVICE_HOST" in os.environ else None
