"""What the doctor looks at: a host that answers, what torch and the bus show, and a finding.

All that a check asks of the host goes through ``Host``, so that tests can build any host: files
under ``root``, the environment, imports, NVML. What several checks need to know is looked up once
and makes the ``Scene``.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from roofprobe.probes.nvml import Nvml, open_nvml
from roofprobe.probes.nvml_facts import NvmlUnavailable

Status = Literal["ok", "warn", "fail", "unknown"]

GIB: Final = 1 << 30
NEW_TORCH: Final = "uv pip install --reinstall torch --torch-backend=auto"
YOUR_CHOICE: Final = "changes the device: your choice, or your provider's"
_NVIDIA, _AMD = "0x10de", "0x1002"
_GPU_CLASSES: Final = ("0x03", "0x12")  # display controllers, processing accelerators
_COMPUTE_ONLY_CLASSES: Final = ("0x0380", "0x12")  # no screen: bought to compute


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
class TorchDevice:
    """A GPU that torch sees; ``lacks_code`` is its architecture where torch has no code for it."""

    uuid: str | None
    pci_bus_id: str | None
    lacks_code: str | None


@dataclass(frozen=True, slots=True)
class Torch:
    """What torch is and sees, or (``error``) why it cannot be imported."""

    error: str | None = None
    version: str = ""
    cuda: str | None = None
    hip: str | None = None
    devices: tuple[TorchDevice, ...] = ()
    other_accelerator: str | None = None
    complaint: str | None = None

    @property
    def build(self) -> str:
        """Return what this torch was built for."""
        if self.hip:
            return f"ROCm {self.hip}"
        return f"CUDA {self.cuda}" if self.cuda else "CPU only"


@dataclass(frozen=True, slots=True)
class Hardware:
    """Which GPUs the host shows, whether or not they can be used."""

    nvidia: int
    amd: int
    amd_computes: bool

    def __str__(self) -> str:
        """Return how many GPUs of which vendor there are."""
        counts = ((self.nvidia, "NVIDIA"), (self.amd, "AMD"))
        return ", ".join(f"{count} {vendor}" for count, vendor in counts if count) or "none"


@dataclass(frozen=True, slots=True)
class Scene:
    """What several checks need to know."""

    host: Host
    nvml: Nvml | NvmlUnavailable
    torch: Torch
    hardware: Hardware
    out: Path

    @property
    def has_nvidia(self) -> bool:
        """Return whether there is an NVIDIA GPU."""
        return bool(self.hardware.nvidia or (self.torch.cuda and self.torch.devices))

    @property
    def has_gpu(self) -> bool:
        """Return whether there is a GPU to compute with."""
        return self.has_nvidia or bool(self.torch.devices) or self.hardware.amd_computes


def look_at_torch(host: Host) -> Torch:
    """Import torch and ask what it sees; its warnings become the complaint."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            torch = host.load_module("torch")
            version = str(torch.__version__)
            cuda, hip = torch.version.cuda, getattr(torch.version, "hip", None)
        except Exception as error:  # missing, half installed, or a library that does not load
            return Torch(error=f"{type(error).__name__}: {error}")
        complaint: str | None = None
        devices: tuple[TorchDevice, ...] = ()
        try:
            devices = _torch_devices(torch)
        except Exception as error:  # the driver's errors come as RuntimeError and others
            complaint = str(error)
        other = None if devices else _other_accelerator(torch)
    said = [str(entry.message) for entry in caught if "CUDA" in str(entry.message)]
    return Torch(
        version=version,
        cuda=cuda,
        hip=hip,
        devices=devices,
        other_accelerator=other,
        complaint=complaint or (said[0] if said else None),
    )


def _torch_devices(torch: Any) -> tuple[TorchDevice, ...]:
    if not torch.cuda.is_available():
        return ()
    built_for = tuple(map(str, torch.cuda.get_arch_list()))
    devices = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        uuid = getattr(properties, "uuid", None)
        devices.append(
            TorchDevice(
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


def look_at_hardware(host: Host, nvml: Nvml | NvmlUnavailable) -> Hardware:
    """Count the GPUs that the PCI bus, the device files or NVML show."""
    found: dict[str, list[str]] = {_NVIDIA: [], _AMD: []}
    for folder in host.find("sys/bus/pci/devices/*"):
        place = str(folder.relative_to(host.root))
        vendor, kind = host.read(f"{place}/vendor") or "", host.read(f"{place}/class") or ""
        if vendor in found and kind.startswith(_GPU_CLASSES):
            found[vendor].append(kind)
    nodes = len(host.find("dev/nvidia[0-9]*"))
    known = len(nvml.devices()) + len(nvml.unreachable()) if isinstance(nvml, Nvml) else 0
    return Hardware(
        nvidia=max(len(found[_NVIDIA]), nodes, known),
        amd=len(found[_AMD]),
        amd_computes=any(kind.startswith(_COMPUTE_ONLY_CLASSES) for kind in found[_AMD]),
    )


def version_of(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (2, 13) of ``2.13.0+cpu``."""
    numbers = []
    for part in text.split(".")[:2]:
        digits = "".join(c for c in part if c.isdigit())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def words_of(error: Exception) -> str:
    """Return an error's type and its first line."""
    return one_line(f"{type(error).__name__}: {error}")


def one_line(text: str) -> str:
    """Return the first line, short enough for a sentence, without its full stop."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no text")
    return (line[:297] + "...") if len(line) > 300 else line.rstrip(".")
