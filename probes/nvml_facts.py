"""What NVML tells, as plain data: identity, limits, a moment, processes; and why a part is absent.

What has no answer is None, and ``missing`` maps its field to a reason such as ``not-supported
(nvmlDeviceGetEccMode)``: a code from a short list, then the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

THROTTLE_NAMES: Final[dict[int, str]] = {
    0x1: "idle",
    0x2: "application_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "power_brake",
    0x100: "display_clock",
    0x200: "board_limit",
    0x400: "reliability",
}
LOST_CODES: Final = frozenset({"gpu-is-lost", "gpu-not-found", "reset-required", "uninitialized"})


def throttle_names(bits: int) -> tuple[str, ...]:
    """Return the names of the set bits, lowest first; an unknown bit keeps its number."""
    ones = (1 << place for place in range(bits.bit_length()) if bits >> place & 1)
    return tuple(THROTTLE_NAMES.get(bit, f"bit_{bit:#x}") for bit in ones)


@dataclass(frozen=True, slots=True)
class NvmlUnavailable:
    """Why NVML, or one device in it, cannot be asked: a code, one sentence, what to do."""

    code: str
    sentence: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a device is. PCI ids are ``vendor:device`` in hexadecimal, as ``lspci -n`` prints."""

    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    pci_device_id: str | None = None
    pci_subsystem_id: str | None = None
    vbios: str | None = None
    driver_version: str | None = None
    cuda_driver_version: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """What bounds a device and in which modes it is; ``pending`` holds after the next reset.

    ``power_limit_w`` is the one enforced, whoever set it; ``requested_power_limit_w`` is what was
    asked for. ``pcie_generation`` is of this moment and falls while the device idles;
    ``pcie_generation_max`` is what device and slot can do together, ``pcie_generation_gpu_max``
    what the device could do in any slot. ``c2c_link_count`` counts the links to a processor in the
    same module (Grace).
    """

    power_limit_w: float | None = None
    requested_power_limit_w: float | None = None
    default_power_limit_w: float | None = None
    min_power_limit_w: float | None = None
    max_power_limit_w: float | None = None
    max_sm_clock_mhz: float | None = None
    max_mem_clock_mhz: float | None = None
    memory_bus_bits: int | None = None
    memory_total_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_free_bytes: int | None = None
    ecc_enabled: bool | None = None
    ecc_pending: bool | None = None
    mig_enabled: bool | None = None
    mig_pending: bool | None = None
    compute_mode: str | None = None
    persistence_mode: bool | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_generation_gpu_max: int | None = None
    c2c_link_count: int | None = None
    virtualization: str | None = None
    slowdown_temperature_c: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of a device. Counters run since the driver was loaded: use differences.

    ``throttle_ns`` has ``power``, ``sw_thermal``, ``hw_thermal``, ``brake`` and ``sync``, each
    only where the driver told it (else it is in ``missing`` as ``throttle_ns.power``), and
    ``thermal``, the older sum, only where neither of the two newer thermal counters is told.
    ``others_cpu_s`` is the host's processor time that went to other processes than this one, or
    that a hypervisor took.
    """

    sm_clock_mhz: float | None = None
    mem_clock_mhz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    memory_temperature_c: float | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    throttle_bits: int | None = None
    energy_mj: int | None = None
    throttle_ns: Mapping[str, int] = field(default_factory=dict)
    pcie_replay_count: int | None = None
    utilisation_percent: float | None = None
    memory_utilisation_percent: float | None = None
    memory_used_bytes: int | None = None
    others_cpu_s: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def throttle_reasons(self) -> tuple[str, ...]:
        """Return the reasons for lower clocks at this moment, by name."""
        return throttle_names(self.throttle_bits or 0)

    @property
    def lost(self) -> str | None:
        """Return the reason if the device is gone, so that asking on makes no sense."""
        return next((why for why in self.missing.values() if reason_code(why) in LOST_CODES), None)


@dataclass(frozen=True, slots=True)
class LinkToPeer:
    """What joins two GPUs at this moment: ``nvlink``, or ``pcie`` where no NVLink does.

    ``nvlink_count`` counts the active links whose other end is the peer; where none ends there, a
    switch stands between (``switched``) and all ``nvlink_active`` links lead to it. Where one link
    has no answer there is no count.
    ``nvlink_gbps`` is the speed of those that lead to the peer, together and one way, GB/s.
    """

    kind: str | None = None
    switched: bool | None = None
    nvlink_count: int | None = None
    nvlink_active: int | None = None
    nvlink_gbps: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds the device; ``kind`` is ``compute``, ``mps`` or ``graphics``."""

    pid: int
    kind: str
    name: str | None = None
    used_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ProcessList:
    """The processes on a device but our own, and whether an empty list means that it is free.

    ``conclusive`` is true only where all process ids are visible and each question was answered;
    otherwise ``note`` says in one sentence why used memory and utilisation must be looked at.
    """

    others: tuple[GpuProcess, ...]
    conclusive: bool
    note: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


def reason_code(reason: str) -> str:
    """Return the code of a reason: ``not-supported`` of ``not-supported (nvml...)``."""
    return reason.partition(" ")[0]


_ADVICE: Final[dict[str, tuple[str, str | None]]] = {
    "library-not-found": (
        "The NVML library (libnvidia-ml.so.1) was not found, so clocks, power and limits stay "
        "unknown.",
        "Install the NVIDIA driver, or start the container with the driver in it: "
        "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility ...",
    ),
    "driver-not-loaded": (
        "The NVIDIA kernel driver is not loaded.",
        "sudo modprobe nvidia  # then look at: sudo dmesg | grep -i nvidia",
    ),
    "no-permission": (
        "This user may not ask the NVIDIA driver.",
        "ls -l /dev/nvidia*  # the user needs read and write permission on these",
    ),
    "version-mismatch": (
        "The NVIDIA kernel driver and its libraries are of different versions, as after an "
        "update without a restart.",
        "sudo reboot",
    ),
    "binding-too-old": (
        "The installed pynvml module is not the official binding, or too old.",
        "pip uninstall -y pynvml && pip install --upgrade --force-reinstall nvidia-ml-py",
    ),
    "gpu-is-lost": (
        "The GPU has fallen off the bus; the driver cannot reach it any more.",
        "sudo dmesg | grep -i xid  # then restart the host, or hand the instance back",
    ),
    "not-found": ("NVML knows no such device.", "nvidia-smi -L  # lists the devices it knows"),
}


def unavailable(reason: str) -> NvmlUnavailable:
    """Say in a sentence what a reason means for NVML as a whole, or for one device in it."""
    code = reason_code(reason)
    sentence, remedy = _ADVICE.get(code, (f"NVML does not answer: {reason}.", "nvidia-smi"))
    return NvmlUnavailable(code, sentence, remedy)
