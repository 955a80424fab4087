"""The doctor's checks of software and host: Python, torch, Triton, CPUs, clock, memory, disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from roofprobe.probes.doctor_scene import (
    GIB,
    NEW_TORCH,
    Finding,
    Host,
    Scene,
    Status,
    one_line,
    version_of,
    words_of,
)

LEAST_PYTHON: Final = (3, 11)
LEAST_TORCH: Final = (2, 6)
GB: Final = 10**9
_COMPILERS: Final = ("cc", "gcc", "clang")
_GOOD_CLOCKS: Final = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")
_OWN_GOVERNORS: Final = ("intel_pstate", "amd-pstate", "amd-pstate-epp")


def check_system(scene: Scene) -> Iterable[Finding]:
    """Look at Python and the operating system."""
    host = scene.host
    python = ".".join(map(str, host.python))
    if host.python[:2] >= LEAST_PYTHON:
        yield Finding("python", "Python", "ok", python, "This Python is recent enough.")
    else:
        yield Finding(
            "python", "Python", "fail", python, "roofprobe needs Python 3.11 or newer.",
            "uv venv --python 3.12",
        )  # fmt: skip
    if host.system == "Linux":
        yield Finding("system", "System", "ok", host.system, "This system is supported.")
    else:
        yield Finding(
            "system", "System", "warn", host.system,
            "Only Linux is tested; elsewhere clocks, limits and Triton may be missing.",
        )  # fmt: skip


def check_torch(scene: Scene) -> Iterable[Finding]:
    """Say whether torch is there and recent enough."""
    torch = scene.torch
    if torch.error is not None:
        sentence = f"torch cannot be imported: {one_line(torch.error)}."
        absent = torch.error.startswith("ModuleNotFoundError")
        remedy = "uv pip install torch --torch-backend=auto" if absent else NEW_TORCH
        yield Finding("torch", "torch", "fail", "none" if absent else "broken", sentence, remedy)
        return
    figure = f"{torch.version} ({torch.build})"
    if version_of(torch.version) < LEAST_TORCH:
        yield Finding(
            "torch", "torch", "fail", figure, "roofprobe needs torch 2.6 or newer.", NEW_TORCH
        )
    else:
        yield Finding("torch", "torch", "ok", figure, "torch is there and recent enough.")


def check_triton(scene: Scene) -> Iterable[Finding]:
    """Look at Triton and, where there is a GPU, at what it builds its launchers with."""
    try:
        triton = scene.host.load_module("triton")
    except Exception as error:  # broken installations raise anything
        absent = isinstance(error, ModuleNotFoundError)
        yield Finding(
            "triton", "Triton", "warn", "none" if absent else "broken",
            f"Triton cannot be imported, so our own kernels are left out: {words_of(error)}.",
            "uv pip install triton",
        )  # fmt: skip
        return
    version = str(getattr(triton, "__version__", "unknown version"))
    yield Finding("triton", "Triton", "ok", version, "Triton is there.")
    if not scene.has_gpu:
        return
    named = scene.host.environ.get("CC")
    compilers = (named,) if named else _COMPILERS
    compiler = next((path for name in compilers if (path := scene.host.which(name))), None)
    if compiler:
        sentence = "Triton finds a C compiler for its launchers."
        yield Finding("compiler", "C compiler", "ok", compiler, sentence)
    else:
        yield Finding(
            "compiler", "C compiler", "warn", f"CC={named}" if named else "none",
            "Triton needs a C compiler at run time to build its launchers; without one our own "
            "kernels are left out.",
            "unset CC" if named else "sudo apt-get install gcc  # or: conda install gcc",
        )  # fmt: skip
    header = scene.host.python_headers / "Python.h"
    if header.exists():
        yield Finding("headers", "Python headers", "ok", str(header), "They are there.")
    else:
        yield Finding(
            "headers", "Python headers", "warn", "none",
            f"Triton's launchers are built against {header}, which is missing; without it our own "
            "kernels are left out.",
            f"sudo apt-get install python{scene.host.python[0]}.{scene.host.python[1]}-dev",
        )  # fmt: skip


def check_cpus(scene: Scene) -> Iterable[Finding]:
    """Look at the CPUs that this process may use, their load and their governor."""
    host = scene.host
    cpus, quota = host.allowed_cpus(), _cpu_quota(host)
    threads = host.read("sys/devices/system/cpu/smt/active") == "1"
    figure = f"{cpus} CPUs" + (", two or more threads per core" if threads else "")
    if quota is not None and quota < cpus:
        yield Finding(
            "cpus", "CPUs", "warn", f"{quota:g} of {figure}",
            "The container's CPU quota stops this process for a part of each period, which makes "
            "timings noisy.",
            f"docker run --cpuset-cpus=0-{max(0, int(quota) - 1)} ...  # whole CPUs instead of "
            "--cpus",
        )  # fmt: skip
    else:
        yield Finding("cpus", "CPUs", "ok", figure, "No quota holds this process back.")
    load = _first_number(host.read("proc/loadavg"))
    if load is None:
        pass  # no such file on this system
    elif load > max(1.0, cpus / 2):
        yield Finding(
            "load", "Load", "warn", f"{load:g}", "The host is busy, so figures will be noisy.",
            "top  # wait until the load is low",
        )  # fmt: skip
    else:
        yield Finding("load", "Load", "ok", f"{load:g}", "The host is quiet.")
    yield from _governor(host)


def _governor(host: Host) -> Iterable[Finding]:
    folder = "sys/devices/system/cpu/cpu0/cpufreq"
    governor = host.read(f"{folder}/scaling_governor")
    if governor is None:
        return  # virtual machines and containers often show none
    driver = host.read(f"{folder}/scaling_driver") or ""
    if governor in ("powersave", "conservative") and driver not in _OWN_GOVERNORS:
        yield Finding(
            "governor", "CPU governor", "warn", governor,
            "CPU clocks rise late or not at all, so CPU figures and launch times will be worse.",
            "sudo cpupower frequency-set -g performance  # it changes the host: your choice",
        )  # fmt: skip
    else:
        yield Finding("governor", "CPU governor", "ok", governor, "CPU clocks follow the load.")


def check_clock(scene: Scene) -> Iterable[Finding]:
    """Look at the clock that timings are read from."""
    source = scene.host.read("sys/devices/system/clocksource/clocksource0/current_clocksource")
    resolution_ns = scene.host.clock_resolution_s * 1e9
    figure = f"{source or 'unnamed'}, {resolution_ns:g} ns"
    if resolution_ns > 1000:
        sentence = "The clock is coarse: short cases need more repeats to be timed well."
    elif source is not None and source not in _GOOD_CLOCKS:
        sentence = "Reading this clock is slow (about a microsecond), which shows in short cases."
    else:
        yield Finding("clock", "Clock", "ok", figure, "The clock is fine and quick to read.")
        return
    yield Finding(
        "clock", "Clock", "warn", figure, sentence,
        "cat /sys/devices/system/clocksource/clocksource0/available_clocksource  # tsc is best",
    )  # fmt: skip


def check_room(scene: Scene) -> Iterable[Finding]:
    """Look at free memory and at room for the report."""
    free = scene.host.available_memory_bytes()
    figure = f"{free / GIB:.1f} GiB free"
    if free < 4 * GIB:
        yield Finding(
            "memory", "Host memory", "warn", figure,
            "Large cases on the CPU and checks of results may be left out.", "free -h",
        )  # fmt: skip
    else:
        yield Finding("memory", "Host memory", "ok", figure, "There is enough.")
    yield _disk(scene.host, scene.out)


def _disk(host: Host, out: Path) -> Finding:
    place = out.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    elsewhere = "probe all --out ~/reports  # or any folder that you may write"
    if not place.is_dir():
        sentence = f"{place} is a file, so no folder can be made there."
        return Finding("disk", "Disk", "fail", str(out), sentence, elsewhere)
    if not host.access(place, os.W_OK | os.X_OK):
        sentence = f"This user may not write to {place}, where the report would go."
        return Finding("disk", "Disk", "fail", str(out), sentence, elsewhere)
    free = host.free_disk_bytes(place)
    figure = f"{free / GB:.1f} GB free"
    if free < GB:
        status: Status = "fail" if free < GB / 10 else "warn"
        sentence = f"There is little room for reports and compiled kernels in {place}."
        return Finding("disk", "Disk", status, figure, sentence, "df -h  # or choose --out")
    return Finding("disk", "Disk", "ok", figure, f"Reports can be written to {place}.")


def _cpu_quota(host: Host) -> float | None:
    """Return the CPUs' worth of time that the tightest control group allows, if one does."""
    quotas = []
    groups = (host.read("proc/self/cgroup") or "").splitlines()
    path = next((line[3:] for line in groups if line.startswith("0::")), "/")
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts) + 1):
        folder = "/".join(["sys/fs/cgroup", *parts[:depth]])
        limit = (host.read(f"{folder}/cpu.max") or "").split()
        if len(limit) == 2 and limit[0] != "max":
            quotas.append(float(limit[0]) / float(limit[1]))
    older = _first_number(host.read("sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
    period = _first_number(host.read("sys/fs/cgroup/cpu/cpu.cfs_period_us"))
    if older and period and older > 0:
        quotas.append(older / period)
    return min(quotas, default=None)


def _first_number(text: str | None) -> float | None:
    try:
        return float((text or "").split()[0])
    except (IndexError, ValueError):
        return None
