"""Is this host ready to be measured: what is missing, what would spoil the figures, how to mend it.

Each check looks at one thing and says what it found (``figure``), what that means in a sentence,
and what to type. Nothing is changed: a command that would change a device or the host is only
named, as the user's own choice. A check that breaks says ``unknown``, so that no fault of one
hides the others.

Status: ``ok``; ``warn``, it can be measured, but figures are slower, noisier or fewer than they
could be; ``fail``, something that is there cannot be measured; ``unknown``, it could not be found
out. All that a check asks of the host goes through ``Host``, so that tests can build any host:
files under ``root``, the environment, imports, NVML.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from roofprobe.probes.nvml import (
    DeviceLimits,
    Nvml,
    NvmlDevice,
    NvmlUnavailable,
    ProcessList,
    open_nvml,
    reason_code,
)

Status = Literal["ok", "warn", "fail", "unknown"]

LEAST_PYTHON: Final = (3, 11)
LEAST_TORCH: Final = (2, 6)
GB: Final = 10**9
GIB: Final = 1 << 30
_NVIDIA, _AMD = "0x10de", "0x1002"
_GPU_CLASSES: Final = ("0x03", "0x12")  # display controllers, processing accelerators
_COMPUTE_ONLY_CLASSES: Final = ("0x0380", "0x12")  # no screen: bought to compute
_COMPILERS: Final = ("cc", "gcc", "clang")
_GOOD_CLOCKS: Final = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")
_OWN_GOVERNORS: Final = ("intel_pstate", "amd-pstate", "amd-pstate-epp")
_SLOWDOWNS: Final = frozenset({"hw_slowdown", "hw_thermal", "power_brake", "sw_thermal"})
_HIDES_ALL: Final = ("", "-1", "NoDevFiles")
_NEW_TORCH: Final = "uv pip install --reinstall torch --torch-backend=auto"
_YOUR_CHOICE: Final = "changes the device: your choice, or your provider's"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``code`` is stable; ``figure`` is what was found, in short."""

    code: str
    title: str
    status: Status
    figure: str
    sentence: str
    remedy: str | None = None


def _access(path: Path, mode: int) -> bool:
    return os.access(path, mode)


def _available_memory_bytes() -> int:
    from roofprobe.probes.host import available_memory_bytes

    return available_memory_bytes()


def _allowed_cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # systems without affinity
        return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Host:
    """What the checks may ask; the defaults ask this machine."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    python: tuple[int, ...] = tuple(sys.version_info[:3])
    python_headers: Path = field(default_factory=lambda: Path(sysconfig.get_path("include")))
    system: str = field(default_factory=platform.system)
    load_module: Callable[[str], Any] = importlib.import_module
    which: Callable[[str], str | None] = shutil.which
    access: Callable[[Path, int], bool] = _access
    nvml: Callable[[], Nvml | NvmlUnavailable] = open_nvml
    free_disk_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    available_memory_bytes: Callable[[], int] = _available_memory_bytes
    allowed_cpus: Callable[[], int] = _allowed_cpus
    sees_host_pids: bool | None = None  # None: the kernel is asked
    clock_resolution_s: float = time.get_clock_info("perf_counter").resolution

    def read(self, path: str) -> str | None:
        """Return a small file's text under ``root``, or None where it cannot be read."""
        try:
            return (self.root / path).read_text(errors="replace").strip()
        except OSError:
            return None

    def find(self, pattern: str) -> list[Path]:
        """Return the paths under ``root`` that match, in order."""
        try:
            return sorted(self.root.glob(pattern))
        except OSError:
            return []


@dataclass(frozen=True, slots=True)
class _TorchDevice:
    uuid: str | None
    pci_bus_id: str | None
    lacks_code: str | None


@dataclass(frozen=True, slots=True)
class _Torch:
    """What torch is and sees, or (``error``) why it cannot be imported."""

    error: str | None = None
    version: str = ""
    cuda: str | None = None
    hip: str | None = None
    devices: tuple[_TorchDevice, ...] = ()
    other_accelerator: str | None = None
    complaint: str | None = None

    @property
    def build(self) -> str:
        if self.hip:
            return f"ROCm {self.hip}"
        return f"CUDA {self.cuda}" if self.cuda else "CPU only"


@dataclass(frozen=True, slots=True)
class _Hardware:
    """Which GPUs the host shows, whether or not they can be used."""

    nvidia: int
    amd: int
    amd_computes: bool

    def __str__(self) -> str:
        counts = ((self.nvidia, "NVIDIA"), (self.amd, "AMD"))
        return ", ".join(f"{count} {vendor}" for count, vendor in counts if count) or "none"


@dataclass(frozen=True, slots=True)
class _Scene:
    """What several checks need to know."""

    host: Host
    nvml: Nvml | NvmlUnavailable
    torch: _Torch
    hardware: _Hardware
    out: Path

    @property
    def has_nvidia(self) -> bool:
        return bool(self.hardware.nvidia or (self.torch.cuda and self.torch.devices))

    @property
    def has_gpu(self) -> bool:
        return self.has_nvidia or bool(self.torch.devices) or self.hardware.amd_computes


def examine(host: Host | None = None, out: Path = Path("reports")) -> tuple[Finding, ...]:
    """Look at everything and return what was found, the most basic things first."""
    host = host or Host()
    nvml = host.nvml()
    try:
        torch = _look_at_torch(host)
        scene = _Scene(host, nvml, torch, _look_at_hardware(host, nvml), out)
        return tuple(finding for title, check in _CHECKS for finding in _run(title, check, scene))
    finally:
        if isinstance(nvml, Nvml):
            nvml.close()


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 1 if anything failed, else 3 if anything is unknown, else 0."""
    found = {finding.status for finding in findings}
    return 1 if "fail" in found else 3 if "unknown" in found else 0


Check = Callable[[_Scene], Iterable[Finding]]


def _run(title: str, check: Check, scene: _Scene) -> list[Finding]:
    try:
        return list(check(scene))
    except Exception as error:  # see the module's docstring
        code = title.lower().replace(" ", "-")
        sentence = f"This check broke: {type(error).__name__}: {error}."
        return [Finding(code, title, "unknown", "?", sentence, "Please report it.")]


# Python, torch and what torch needs


def _check_system(scene: _Scene) -> Iterable[Finding]:
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


def _check_torch(scene: _Scene) -> Iterable[Finding]:
    torch = scene.torch
    if torch.error is not None:
        sentence = f"torch cannot be imported: {_one_line(torch.error)}."
        absent = torch.error.startswith("ModuleNotFoundError")
        remedy = "uv pip install torch --torch-backend=auto" if absent else _NEW_TORCH
        yield Finding("torch", "torch", "fail", "none" if absent else "broken", sentence, remedy)
        return
    figure = f"{torch.version} ({torch.build})"
    if _version(torch.version) < LEAST_TORCH:
        yield Finding(
            "torch", "torch", "fail", figure, "roofprobe needs torch 2.6 or newer.", _NEW_TORCH
        )
    else:
        yield Finding("torch", "torch", "ok", figure, "torch is there and recent enough.")


def _check_triton(scene: _Scene) -> Iterable[Finding]:
    try:
        triton = scene.host.load_module("triton")
    except Exception as error:  # broken installations raise anything
        absent = isinstance(error, ModuleNotFoundError)
        yield Finding(
            "triton", "Triton", "warn", "none" if absent else "broken",
            f"Triton cannot be imported, so our own kernels are left out: {_of(error)}.",
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


# GPUs: what is there, what torch can use, and why not all of it


def _check_gpus(scene: _Scene) -> Iterable[Finding]:
    torch, hardware = scene.torch, scene.hardware

    def finding(status: Status, figure: str, sentence: str, remedy: str | None = None) -> Finding:
        return Finding("gpus", "GPUs", status, figure, sentence, remedy)

    lacking = sorted({device.lacks_code for device in torch.devices if device.lacks_code})
    if lacking:
        sentence = f"This torch has no code for {', '.join(lacking)}, so its kernels will not run."
        yield finding("fail", ", ".join(lacking), sentence, _NEW_TORCH)
    elif torch.devices:
        yield _usable_gpus(scene)
    elif torch.other_accelerator:
        yield finding("ok", torch.other_accelerator, "torch can use this accelerator.")
    elif torch.error is not None and (hardware.nvidia or hardware.amd):
        yield finding("unknown", str(hardware), "Whether torch can use it shows once torch works.")
    elif hardware.nvidia:
        status, sentence, remedy = _why_no_nvidia(scene)
        yield finding(status, f"0 of {hardware.nvidia} NVIDIA", sentence, remedy)
    elif hardware.amd_computes or (hardware.amd and torch.hip):
        sentence, remedy = _why_no_amd(scene)
        yield finding("fail", f"0 of {hardware.amd} AMD", sentence, remedy)
    elif hardware.amd:
        yield finding(
            "ok", str(hardware), "It drives a screen; torch is not built for it, and the CPU is "
            "what will be measured.",
        )  # fmt: skip
    else:
        yield finding(
            "ok", "none (the CPU will be measured)",
            "No GPU was found, so the CPU is what will be measured.",
            "If there should be one in this container: docker run --gpus all ...",
        )  # fmt: skip


def _usable_gpus(scene: _Scene) -> Finding:
    usable, torch = len(scene.torch.devices), scene.torch
    there = max(usable, scene.hardware.nvidia if torch.cuda else scene.hardware.amd)
    variable = _visible_variable(scene)
    figure = f"{usable} of {there}" + (f" ({variable})" if variable else "")
    sliced = isinstance(scene.nvml, Nvml) and any(
        device.limits().mig_enabled for device in scene.nvml.devices()
    )
    if usable < there and not variable and not sliced:
        return Finding(
            "gpus", "GPUs", "warn", figure, "torch can use only a part of the GPUs of this host.",
            "nvidia-smi -L  # compare with: sudo dmesg | grep -i xid",
        )  # fmt: skip
    return Finding("gpus", "GPUs", "ok", figure, "torch can use them.")


def _why_no_nvidia(scene: _Scene) -> tuple[Status, str, str]:
    """Return what keeps torch from the NVIDIA GPUs that are there, nearest cause first."""
    host, torch, nvml = scene.host, scene.torch, scene.nvml
    visible = host.environ.get("CUDA_VISIBLE_DEVICES")
    nodes = host.find("dev/nvidia[0-9]*") + host.find("dev/nvidiactl")
    closed = [node for node in nodes if not host.access(node, os.R_OK | os.W_OK)]
    speaks = nvml.cuda_driver_version() if isinstance(nvml, Nvml) else None
    if torch.cuda is None:
        made = "for ROCm" if torch.hip else "without CUDA"
        return _fail(f"This torch is built {made}, so it cannot use the GPU.", _NEW_TORCH)
    if visible is not None and visible.strip() in _HIDES_ALL:
        sentence = f"CUDA_VISIBLE_DEVICES is {visible!r}, which hides every GPU from torch."
        return "warn", sentence, "unset CUDA_VISIBLE_DEVICES"
    if isinstance(nvml, NvmlUnavailable) and nvml.code in ("driver-not-loaded", "version-mismatch"):
        return _fail(nvml.sentence, nvml.remedy or "nvidia-smi")
    if closed:
        names = ", ".join(f"/{node.relative_to(host.root)}" for node in closed)
        return _fail(
            f"This user may not open {names}.",
            "ls -l /dev/nvidia*  # then: sudo usermod -aG GROUP $USER, with the group shown "
            "there, and log in again",
        )
    if not nodes and not host.find("dev/dxg"):
        if host.read("proc/driver/nvidia/version") is None:
            return _fail(
                "The NVIDIA driver is not loaded on this host.",
                "sudo modprobe nvidia  # or install it: sudo ubuntu-drivers install",
            )
        return _fail(
            "The driver is loaded, but its device files are not in this container.",
            "docker run --gpus all ...  # on the machine itself: sudo nvidia-modprobe -c0 -u",
        )
    if speaks and _version(speaks)[:1] < _version(torch.cuda)[:1]:
        return _fail(
            f"The driver speaks CUDA {speaks}, but torch is built for CUDA {torch.cuda}.",
            f"{_NEW_TORCH}  # picks the build for this driver; or install a newer driver",
        )
    if visible is not None:
        return _fail(
            f"CUDA_VISIBLE_DEVICES is {visible!r}, and torch finds no such GPU.",
            "unset CUDA_VISIBLE_DEVICES  # nvidia-smi -L lists what there is",
        )
    why = _one_line(torch.complaint or "no reason given")
    return _fail(f"torch cannot use it: {why}.", f"nvidia-smi  # if that works: {_NEW_TORCH}")


def _fail(sentence: str, remedy: str) -> tuple[Status, str, str]:
    return "fail", sentence, remedy


def _why_no_amd(scene: _Scene) -> tuple[str, str]:
    variable = _visible_variable(scene)
    if not scene.torch.hip:
        return "This torch is not built for ROCm, so it cannot use the GPU.", (
            "uv pip install --reinstall torch --torch-backend=rocm6.4  # as your ROCm version"
        )
    if variable:
        name = variable.partition("=")[0]
        return f"{variable} leaves torch no GPU.", f"unset {name}  # rocminfo lists what there is"
    sentence = f"torch cannot use it: {_one_line(scene.torch.complaint or 'no reason given')}."
    return sentence, "rocminfo"


def _visible_variable(scene: _Scene) -> str | None:
    names = ["CUDA_VISIBLE_DEVICES"]
    if scene.torch.hip:
        names = ["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", *names]
    environ = scene.host.environ
    return next((f"{name}={environ[name]}" for name in names if name in environ), None)


def _check_driver(scene: _Scene) -> Iterable[Finding]:
    if not scene.has_nvidia:
        return
    nvml = scene.nvml
    if isinstance(nvml, NvmlUnavailable):
        kernel = scene.host.read("proc/driver/nvidia/version")
        if kernel:
            loaded = "A driver is loaded."
            yield Finding("driver", "NVIDIA driver", "ok", _driver_number(kernel), loaded)
        yield Finding(
            "nvml", "NVML", "warn", nvml.code,
            f"{nvml.sentence} Throttling and a lowered power limit would go unseen.", nvml.remedy,
        )  # fmt: skip
        return
    version, cuda = nvml.driver_version(), nvml.cuda_driver_version()
    if version is None:
        unnamed = "The driver does not tell its version."
        yield Finding("driver", "NVIDIA driver", "unknown", "?", unnamed, "nvidia-smi")
    else:
        figure = f"{version} (CUDA {cuda})" if cuda else version
        yield Finding("driver", "NVIDIA driver", "ok", figure, "A driver is loaded.")
    lost = nvml.unreachable()
    if lost:
        figure = ", ".join(f"{place}: {reason_code(why)}" for place, why in lost.items())
        yield Finding(
            "nvml", "NVML", "fail", figure, "The driver knows GPUs that it cannot open.",
            "sudo dmesg | grep -i xid  # then restart the host, or hand the instance back",
        )  # fmt: skip
    else:
        known = len(nvml.devices())
        figure = f"{known} device" if known == 1 else f"{known} devices"
        answers = "Clocks, power and limits can be read."
        yield Finding("nvml", "NVML", "ok", figure, answers)


def _check_rocm(scene: _Scene) -> Iterable[Finding]:
    node = scene.host.root / "dev/kfd"
    if not (scene.torch.hip or (node.exists() and scene.hardware.amd_computes)):
        return
    renderers = scene.host.find("dev/dri/renderD*")
    closed = [
        f"/{path.relative_to(scene.host.root)}"
        for path in (node, *renderers)
        if path.exists() and not scene.host.access(path, os.R_OK | os.W_OK)
    ]
    if not node.exists():
        yield Finding(
            "kfd", "ROCm device files", "fail" if scene.hardware.amd_computes else "warn", "none",
            "/dev/kfd is missing: the amdgpu driver is not loaded, or not in this container.",
            "docker run --device=/dev/kfd --device=/dev/dri ...  # on the machine itself: sudo "
            "modprobe amdgpu",
        )  # fmt: skip
    elif closed:
        yield Finding(
            "kfd", "ROCm device files", "fail", ", ".join(closed), "This user may not open them.",
            "sudo usermod -aG render,video $USER  # then log in again",
        )  # fmt: skip
    else:
        yield Finding("kfd", "ROCm device files", "ok", "/dev/kfd", "This user may open them.")


# Each GPU that will be measured


def _check_devices(scene: _Scene) -> Iterable[Finding]:
    if not isinstance(scene.nvml, Nvml):
        return
    devices: list[tuple[str, NvmlDevice | NvmlUnavailable]]
    if scene.torch.devices and scene.torch.cuda:
        devices = [
            (f"cuda:{index}", scene.nvml.device_by_uuid(device.uuid, device.pci_bus_id))
            for index, device in enumerate(scene.torch.devices)
        ]
    else:
        devices = [(f"GPU {index}", device) for index, device in enumerate(scene.nvml.devices())]
    for label, device in devices:
        if isinstance(device, NvmlUnavailable):
            yield Finding(
                "device", label, "unknown", device.code,
                f"NVML cannot be asked about it: {device.sentence}", device.remedy,
            )  # fmt: skip
            continue
        yield from _check_device(label, device, scene.host)


def _check_device(label: str, device: NvmlDevice, host: Host) -> Iterable[Finding]:
    limits, bus_id = device.limits(), device.identity().pci_bus_id or "GPU"
    yield _users(label, device.processes(sees_host_pids=host.sees_host_pids), device)
    yield _free_memory(label, limits)
    yield _power_limit(label, limits, bus_id)
    yield _slices(label, device, limits, bus_id)
    yield _ecc(label, limits, bus_id)
    if limits.compute_mode == "prohibited":
        yield Finding(
            "compute-mode", f"{label} compute mode", "fail", limits.compute_mode,
            "No process may compute on this GPU.",
            f"sudo nvidia-smi -i {bus_id} -c DEFAULT  # {_YOUR_CHOICE}",
        )  # fmt: skip
    width, width_max = limits.pcie_width, limits.pcie_width_max
    if width and width_max and width < width_max:
        yield Finding(
            "pcie", f"{label} PCIe width", "warn", f"x{width} of x{width_max}",
            "The link to the host has fewer lanes than both ends could have.",
            f"nvidia-smi -i {bus_id} -q  # look under PCI, then ask the provider",
        )  # fmt: skip
    if limits.virtualization == "vgpu":
        yield Finding(
            "virtualization", f"{label} virtualization", "warn", "vgpu",
            "This is a share of a GPU; its figures are not those of the whole card.",
        )  # fmt: skip
    slowdowns = sorted(_SLOWDOWNS.intersection(device.snapshot().throttle_reasons))
    if slowdowns:
        yield Finding(
            "throttle", f"{label} throttling", "warn", ", ".join(slowdowns),
            "The clocks are held down right now, before anything is measured.",
            f"nvidia-smi -i {bus_id} -q -d TEMPERATURE,POWER,PERFORMANCE",
        )  # fmt: skip


def _users(label: str, listed: ProcessList, device: NvmlDevice) -> Finding:
    title, wait = f"{label} other processes", "nvidia-smi  # wait for them, or ask their owner"
    if listed.others:
        names = ", ".join(f"{p.name or 'process'} ({p.pid})" for p in listed.others)
        sentence = f"Others use this GPU, so figures will be low and noisy: {names}."
        return Finding("processes", title, "warn", str(len(listed.others)), sentence, wait)
    if listed.conclusive:
        return Finding("processes", title, "ok", "none", "Nobody else uses this GPU.")
    moment = device.snapshot(health=True)
    used, busy = moment.memory_used_bytes, moment.utilisation_percent
    signs = [
        f"{used / GIB:.1f} GiB used" if used is not None and used > 2 * GIB else "",
        f"{busy:.0f}% busy" if busy is not None and busy > 5 else "",
    ]
    if any(signs):
        figure = ", ".join(filter(None, signs))
        sentence = "Something that cannot be seen from here uses this GPU."
        return Finding("processes", title, "warn", figure, sentence, wait)
    if used is None and busy is None:
        sentence = "Whether others use this GPU cannot be seen from here."
        return Finding("processes", title, "unknown", "?", sentence, "nvidia-smi")
    sentence = "Processes cannot be listed from here; memory and utilisation show no one else."
    return Finding("processes", title, "ok", "none to be seen", sentence)


def _free_memory(label: str, limits: DeviceLimits) -> Finding:
    title, free, total = f"{label} memory", limits.memory_free_bytes, limits.memory_total_bytes
    if free is None or total is None:
        return _not_told("device-memory", title, limits.missing.get("memory_free_bytes"))
    figure = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if free < 0.9 * total:
        return Finding(
            "device-memory", title, "warn", figure,
            "A tenth or more is taken, so large cases may be left out.", "nvidia-smi",
        )  # fmt: skip
    return Finding("device-memory", title, "ok", figure, "The memory is free.")


def _power_limit(label: str, limits: DeviceLimits, bus_id: str) -> Finding:
    title, limit, default = (
        f"{label} power limit",
        limits.power_limit_w,
        limits.default_power_limit_w,
    )
    if limit is None or default is None:
        name = "power_limit_w" if limit is None else "default_power_limit_w"
        return _not_told("power", title, limits.missing.get(name))
    if limit < default - 0.5:
        return Finding(
            "power", title, "warn", f"{limit:.0f} of {default:.0f} W",
            "The limit is below the board's default, so clocks under load will be lower.",
            f"sudo nvidia-smi -i {bus_id} -pl {default:.0f}  # {_YOUR_CHOICE}",
        )  # fmt: skip
    return Finding("power", title, "ok", f"{limit:.0f} W", "It is the board's default or higher.")


def _slices(label: str, device: NvmlDevice, limits: DeviceLimits, bus_id: str) -> Finding:
    title = f"{label} MIG"
    if device.is_mig_slice:
        sentence = "This is a slice of a GPU; its figures are not those of the whole card."
        return Finding("mig", title, "warn", "slice", sentence)
    if limits.mig_enabled:
        return Finding(
            "mig", title, "warn", "on",
            "The GPU is in slices; CUDA uses one of them, or none if none has been made.",
            f"sudo nvidia-smi -i {bus_id} -mig 0  # {_YOUR_CHOICE}",
        )  # fmt: skip
    if limits.mig_enabled is False:
        return Finding("mig", title, "ok", "off", "The GPU is whole.")
    reason = limits.missing.get("mig_enabled")
    if _not_offered(reason):
        return Finding("mig", title, "ok", "not offered", "This GPU cannot be sliced.")
    return _not_told("mig", title, reason)


def _ecc(label: str, limits: DeviceLimits, bus_id: str) -> Finding:
    title, on, pending = f"{label} ECC", limits.ecc_enabled, limits.ecc_pending
    words = {True: "on", False: "off"}
    if on is None:
        reason = limits.missing.get("ecc_enabled")
        if _not_offered(reason):
            return Finding("ecc", title, "ok", "not offered", "This GPU has no ECC switch.")
        return _not_told("ecc", title, reason)
    if pending is not None and pending != on:
        figure = f"{words[on]}, {words[pending]} after a reset"
        sentence = "A change of ECC waits for the next reset of the GPU."
        return Finding("ecc", title, "warn", figure, sentence, "sudo reboot  # your choice")
    if not on:
        return Finding(
            "ecc", title, "warn", "off",
            "Errors in memory go unseen, and bandwidth does not compare with GPUs that check.",
            f"sudo nvidia-smi -i {bus_id} -e 1  # {_YOUR_CHOICE}",
        )  # fmt: skip
    return Finding("ecc", title, "ok", "on", "Memory is checked.")


def _not_offered(reason: str | None) -> bool:
    return reason is not None and reason_code(reason) == "not-supported"


def _not_told(code: str, title: str, reason: str | None) -> Finding:
    sentence = f"The driver does not tell it ({reason or 'no reason given'})."
    return Finding(code, title, "unknown", "?", sentence, "nvidia-smi -q")


# The host around them


def _check_cpus(scene: _Scene) -> Iterable[Finding]:
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


def _check_clock(scene: _Scene) -> Iterable[Finding]:
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


def _check_room(scene: _Scene) -> Iterable[Finding]:
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


_CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("System", _check_system),
    ("torch", _check_torch),
    ("GPUs", _check_gpus),
    ("NVIDIA driver", _check_driver),
    ("ROCm device files", _check_rocm),
    ("Triton", _check_triton),
    ("Devices", _check_devices),
    ("CPUs", _check_cpus),
    ("Clock", _check_clock),
    ("Room", _check_room),
)


# Looking


def _look_at_torch(host: Host) -> _Torch:
    """Import torch and ask what it sees; its warnings become the complaint."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            torch = host.load_module("torch")
            version = str(torch.__version__)
            cuda, hip = torch.version.cuda, getattr(torch.version, "hip", None)
        except Exception as error:  # missing, half installed, or a library that does not load
            return _Torch(error=f"{type(error).__name__}: {error}")
        complaint: str | None = None
        devices: tuple[_TorchDevice, ...] = ()
        try:
            devices = _torch_devices(torch)
        except Exception as error:  # the driver's errors come as RuntimeError and others
            complaint = str(error)
        other = None if devices else _other_accelerator(torch)
    said = [str(entry.message) for entry in caught if "CUDA" in str(entry.message)]
    return _Torch(
        version=version,
        cuda=cuda,
        hip=hip,
        devices=devices,
        other_accelerator=other,
        complaint=complaint or (said[0] if said else None),
    )


def _torch_devices(torch: Any) -> tuple[_TorchDevice, ...]:
    if not torch.cuda.is_available():
        return ()
    built_for = tuple(map(str, torch.cuda.get_arch_list()))
    devices = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        uuid = getattr(properties, "uuid", None)
        devices.append(
            _TorchDevice(
                uuid=None if uuid is None else str(uuid),
                pci_bus_id=_pci_bus_id(properties),
                lacks_code=_lacks_code(properties, built_for) if torch.version.cuda else None,
            )
        )
    return tuple(devices)


def _pci_bus_id(properties: Any) -> str | None:
    place = [getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    if None in place:
        return None
    domain, bus, device = (int(number or 0) for number in place)
    return f"{domain:08x}:{bus:02x}:{device:02x}.0"


def _lacks_code(properties: Any, built_for: Sequence[str]) -> str | None:
    """Return this device's architecture if torch was built for none that it can run.

    Machine code (``sm_80``) runs on its major version from its minor version on, intermediate
    code (``compute_80``) on all that is newer, and code with a letter (``sm_90a``) there alone.
    """
    here = 10 * int(properties.major) + int(properties.minor)
    for name in built_for:
        kind, _, number = name.partition("_")
        for_one = not number.isdigit()
        code = int("".join(filter(str.isdigit, number)) or 0)
        reaches = kind == "compute" or code // 10 == here // 10
        if code == here or (not for_one and reaches and code <= here):
            return None
    return f"sm_{here}" if built_for else None


def _other_accelerator(torch: Any) -> str | None:
    try:
        if not torch.accelerator.is_available():
            return None
        kind = str(torch.accelerator.current_accelerator().type)
        count = int(torch.accelerator.device_count())
    except Exception:  # torch before 2.6, or a plug-in that fails
        return None
    return f"{count} × {kind}" if count and kind != "cuda" else None


def _look_at_hardware(host: Host, nvml: Nvml | NvmlUnavailable) -> _Hardware:
    """Count the GPUs that the PCI bus, the device files or NVML show."""
    found: dict[str, list[str]] = {_NVIDIA: [], _AMD: []}
    for folder in host.find("sys/bus/pci/devices/*"):
        place = str(folder.relative_to(host.root))
        vendor, kind = host.read(f"{place}/vendor") or "", host.read(f"{place}/class") or ""
        if vendor in found and kind.startswith(_GPU_CLASSES):
            found[vendor].append(kind)
    nodes = len(host.find("dev/nvidia[0-9]*"))
    known = len(nvml.devices()) + len(nvml.unreachable()) if isinstance(nvml, Nvml) else 0
    return _Hardware(
        nvidia=max(len(found[_NVIDIA]), nodes, known),
        amd=len(found[_AMD]),
        amd_computes=any(kind.startswith(_COMPUTE_ONLY_CLASSES) for kind in found[_AMD]),
    )


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


def _version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (2, 13) of ``2.13.0+cpu``."""
    numbers = []
    for part in text.split(".")[:2]:
        digits = "".join(c for c in part if c.isdigit())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _driver_number(kernel_line: str) -> str:
    words = kernel_line.split()
    return next((word for word in words if word[:1].isdigit() and "." in word), "unnamed")


def _of(error: Exception) -> str:
    return _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    """Return the first line, short enough for a sentence, without its full stop."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no text")
    return (line[:297] + "...") if len(line) > 300 else line.rstrip(".")
