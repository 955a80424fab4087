"""What the NVIDIA driver tells about a GPU: who it is, what bounds it, how it does right now.

NVML is the driver's own library of getters (``nvidia-smi`` prints what it says). Only getters are
used here: no clock, limit or mode is ever changed. Drivers, boards and permissions differ in what
they answer, so each question is asked and caught on its own. What has no answer is None, and
``missing`` maps its field to a reason such as ``not-supported (nvmlDeviceGetEccMode)``: a code
from a short list, then the call. Nothing is ever filled with 0, and a reading of 0 that physics
rules out (a clock, a limit, a bus width) counts as no answer.

What the readings mean:

- Order. CUDA counts devices in its own order and through ``CUDA_VISIBLE_DEVICES``; NVML sees all,
  in PCI order. A device is therefore found by UUID, or by PCI bus id, never by index.
- Clocks are of this moment. An idle GPU drops them (the memory clock of GDDR cards too), so a
  ceiling comes from the greatest clock and a normalised ceiling from clocks read under load.
- The memory clock is half the data rate, for HBM and GDDR alike: GB/s = 2 × MHz × bits / 8000.
- Power is the driver's mean over about a second on most boards since Ampere. Over a short window
  the difference of the energy counter says more.
- Reasons for lower clocks are bits of this moment, so short events fall between two readings. The
  counters do not miss them: nanoseconds since the driver was loaded, one per cause.
- Processes carry the host's process ids. Inside a container the list is often empty or foreign.
- Of a MIG slice NVML tells name, memory and processes; clocks, power, temperature and link are
  those of the whole chip. Its share of the memory bus is not told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, TypeVar

T = TypeVar("T")
Call = tuple[Any, ...]  # the name of an NVML function and its arguments
Question = tuple[Any, ...]  # a field, its reader, the name of an NVML function, further arguments

# Numbers of the NVML interface, which it keeps for good; a test holds them against pynvml.
CLOCK_SM, CLOCK_MEMORY = 1, 2
TEMPERATURE_GPU, THRESHOLD_SLOWDOWN = 0, 1
MEMORY_INFO_V2 = 0x02000028
FIELD_MEMORY_TEMPERATURE = 82
FIELD_C2C_LINK_COUNT = 170
FIELD_NVLINK_COUNT, FIELD_NVLINK_SPEED = 91, 164  # the second one per link, MB/s one way
P2P_BY_NVLINK, P2P_OK, P2P_UNKNOWN = 2, 0, 6
VALUE_MEMBERS: Final = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
COUNTER_TYPES: Final = frozenset({2, 3})  # unsigned long, unsigned long long
NOT_AVAILABLE: Final = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})

# The three newer counters were renumbered: drivers of the 570 and 580 branches were seen with
# 251..253, today's interface has 269..271, and each gives the other's numbers to power smoothing
# (small settings, not 64-bit counters). Both are asked; only a 64-bit answer counts.
THROTTLE_FIELDS: Final[dict[str, tuple[int, ...]]] = {
    "power": (74,),
    "sync": (76,),
    "sw_thermal": (269, 251),
    "hw_thermal": (270, 252),
    "brake": (271, 253),
    "thermal": (75,),
}
FIELD_IDS: Final = tuple(
    sorted({FIELD_MEMORY_TEMPERATURE, *(n for ids in THROTTLE_FIELDS.values() for n in ids)})
)

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
ERROR_CODES: Final[dict[int, str]] = {
    1: "uninitialized",
    2: "invalid-argument",
    3: "not-supported",
    4: "no-permission",
    6: "not-found",
    9: "driver-not-loaded",
    10: "timeout",
    12: "library-not-found",
    13: "function-not-found",
    15: "gpu-is-lost",
    16: "reset-required",
    17: "operating-system",
    18: "version-mismatch",
    22: "not-supported",
    25: "version-mismatch",
    26: "deprecated",
    28: "gpu-not-found",
}
LOST_CODES: Final = frozenset({"gpu-is-lost", "gpu-not-found", "reset-required", "uninitialized"})
_ASK_ANOTHER_WAY: Final = frozenset(
    {"function-not-found", "binding-too-old", "not-supported", "invalid-argument", "deprecated",
     "version-mismatch"}
)  # fmt: skip
_COMPUTE_MODES: Final = ("default", "exclusive-thread", "prohibited", "exclusive-process")
_VIRTUALIZATION: Final = ("none", "pass-through", "vgpu", "host-vgpu", "host-vsga")
_FIRST_PID_NAMESPACE: Final = "pid:[4026531836]"  # Linux's fixed number of the host's own


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


def open_nvml(module: Any = None) -> Nvml | NvmlUnavailable:
    """Load and start NVML; ``module`` stands in for ``pynvml``."""
    if module is None:
        try:
            module = import_module("pynvml")
        except ImportError:
            return NvmlUnavailable(
                "binding-missing",
                "The Python binding of NVML is not installed, so clocks, power and limits stay "
                "unknown.",
                "pip install nvidia-ml-py",
            )
    started = _call(module, "nvmlInit")
    return Nvml(module) if started.reason is None else _unavailable(started.reason)


class Nvml:
    """NVML, started: the way to its devices. Each process opens its own."""

    def __init__(self, module: Any) -> None:
        """Keep the module; use `open_nvml`, which starts the library."""
        self._module = module

    def device_by_uuid(
        self, uuid: str | None, pci_bus_id: str | None = None
    ) -> NvmlDevice | NvmlUnavailable:
        """Return the device or MIG slice with this UUID, else the one at this PCI bus id.

        torch prints bare hexadecimal, or callers have put ``GPU-`` before a slice's UUID, so
        both prefixes are tried.
        """
        answer = _Answer(None, "not-found (no UUID and no PCI bus id)")
        for name in _uuid_spellings(uuid):
            # Old bindings hand the text to C as it is and want bytes.
            answer = _first(
                self._module,
                ("nvmlDeviceGetHandleByUUID", name),
                ("nvmlDeviceGetHandleByUUID", name.encode()),
            )
            if answer.reason is None:
                return self._device(answer.value)
        if pci_bus_id:
            answer = _first(
                self._module,
                ("nvmlDeviceGetHandleByPciBusId", pci_bus_id),
                ("nvmlDeviceGetHandleByPciBusId", pci_bus_id.encode()),
            )
            if answer.reason is None:
                return self._device(answer.value)
        assert answer.reason is not None
        return _unavailable(answer.reason)

    def devices(self) -> tuple[NvmlDevice, ...]:
        """Return all devices that can be opened, in NVML's order; see `unreachable`."""
        return tuple(self._device(a.value) for a in self._handles().values() if a.reason is None)

    def unreachable(self) -> dict[str, str]:
        """Return why devices are left out of `devices`, by NVML index (``count`` if none)."""
        return {place: a.reason for place, a in self._handles().items() if a.reason is not None}

    def driver_version(self) -> str | None:
        """Return the driver's version, or None where it is not told."""
        return _Interview(self._module).one("driver", _text, ("nvmlSystemGetDriverVersion",))

    def cuda_driver_version(self) -> str | None:
        """Return the newest CUDA version that the driver speaks, such as ``13.0``."""
        return _Interview(self._module).one(
            "cuda", _cuda_version, ("nvmlSystemGetCudaDriverVersion_v2",)
        )

    def close(self) -> None:
        """Let the library go; devices of this object must not be asked any more."""
        _call(self._module, "nvmlShutdown")

    def _handles(self) -> dict[str, _Answer]:
        ask = _Interview(self._module)
        count = ask.one("count", _count, ("nvmlDeviceGetCount",))
        if count is None:
            return {"count": _Answer(None, ask.missing["count"])}
        return {
            str(index): ask.call(("nvmlDeviceGetHandleByIndex", index)) for index in range(count)
        }

    def _device(self, handle: Any) -> NvmlDevice:
        chip = _call(self._module, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
        return NvmlDevice(self._module, handle, chip.value if chip.reason is None else None)


class NvmlDevice:
    """One GPU, or one MIG slice of it; every method asks the driver anew."""

    def __init__(self, module: Any, handle: Any, chip: Any = None) -> None:
        """Keep the handle; ``chip`` is the whole GPU if ``handle`` is a MIG slice of it."""
        self._module = module
        self._handle = handle
        self._chip = handle if chip is None else chip
        self.is_mig_slice = chip is not None

    def identity(self) -> Identity:
        """Return who this is."""
        ask, chip = _Interview(self._module), self._chip
        pci = ask.call(("nvmlDeviceGetPciInfo_v3", chip), ("nvmlDeviceGetPciInfo", chip))
        return Identity(
            **ask.table((self._handle,), _IDENTITY),
            **ask.table((), _SYSTEM),
            pci_bus_id=ask.read("pci_bus_id", pci, lambda info: _text(info.busId)),
            pci_device_id=ask.read("pci_device_id", pci, lambda info: _pci_id(info.pciDeviceId)),
            pci_subsystem_id=ask.read(
                "pci_subsystem_id", pci, lambda info: _pci_id(info.pciSubSystemId)
            ),
            vbios=ask.one("vbios", _text, ("nvmlDeviceGetVbiosVersion", chip)),
            missing=ask.missing,
        )

    def limits(self) -> DeviceLimits:
        """Return what bounds this device and in which modes it is."""
        ask, chip = _Interview(self._module), self._chip
        memory = self._memory(ask)
        power = ask.call(("nvmlDeviceGetPowerManagementLimitConstraints", chip))
        ecc = ask.call(("nvmlDeviceGetEccMode", chip))
        mig = ask.call(("nvmlDeviceGetMigMode", chip))
        told = ask.table((chip,), _LIMITS)
        if self.is_mig_slice:
            told["memory_bus_bits"] = None
            ask.missing["memory_bus_bits"] = "mig-slice (its share of the bus is not told)"
        return DeviceLimits(
            **told,
            memory_total_bytes=ask.read("memory_total_bytes", memory, lambda m: _positive(m.total)),
            memory_reserved_bytes=ask.read(
                "memory_reserved_bytes", memory, lambda m: _count(m.reserved)
            ),
            memory_used_bytes=ask.read("memory_used_bytes", memory, lambda m: _count(m.used)),
            memory_free_bytes=ask.read("memory_free_bytes", memory, lambda m: _count(m.free)),
            min_power_limit_w=ask.read("min_power_limit_w", power, lambda pair: _watts(pair[0])),
            max_power_limit_w=ask.read("max_power_limit_w", power, lambda pair: _watts(pair[1])),
            ecc_enabled=ask.read("ecc_enabled", ecc, lambda modes: _switch(modes[0])),
            ecc_pending=ask.read("ecc_pending", ecc, lambda modes: _switch(modes[1])),
            mig_enabled=ask.read("mig_enabled", mig, lambda modes: _switch(modes[0])),
            mig_pending=ask.read("mig_pending", mig, lambda modes: _switch(modes[1])),
            c2c_link_count=ask.read(
                "c2c_link_count",
                self._field(ask, FIELD_C2C_LINK_COUNT),
                lambda reading: _count(_field_value(reading)),
            ),
            missing=ask.missing,
        )

    def snapshot(self, *, health: bool = False) -> Snapshot:
        """Return this moment; with ``health`` also link errors, utilisation and memory in use.

        Each question costs the driver a little, and a sampler asks many times while a kernel
        runs, so these four are left out (``missing`` says ``not-asked``) unless wanted.
        """
        ask, chip = _Interview(self._module), self._chip
        fields = self._fields(ask)
        return Snapshot(
            **ask.table((chip,), _NOW),
            **(self._health(ask) if health else ask.leave_out(_HEALTH)),
            memory_temperature_c=ask.read(
                "memory_temperature_c",
                fields[FIELD_MEMORY_TEMPERATURE],
                lambda reading: _celsius(_field_value(reading)),
            ),
            temperature_c=ask.one(
                "temperature_c",
                _celsius,
                ("nvmlDeviceGetTemperatureV", chip, TEMPERATURE_GPU),
                ("nvmlDeviceGetTemperature", chip, TEMPERATURE_GPU),
            ),
            throttle_bits=ask.one(
                "throttle_bits",
                _count,
                ("nvmlDeviceGetCurrentClocksEventReasons", chip),
                ("nvmlDeviceGetCurrentClocksThrottleReasons", chip),
            ),
            throttle_ns=_throttle_counters(ask, fields),
            missing=ask.missing,
        )

    def processes(
        self, own_pids: frozenset[int] | None = None, sees_host_pids: bool | None = None
    ) -> ProcessList:
        """Return the processes on this device but our own and our children's.

        ``sees_host_pids`` says whether process ids here are the host's; by default the kernel
        is asked.
        """
        own = _own_pids() if own_pids is None else own_pids
        host = _in_first_pid_namespace() if sees_host_pids is None else sees_host_pids
        ask = _Interview(self._module)
        others: dict[int, GpuProcess] = {}
        for kind, names in _PROCESS_CALLS.items():
            answer = ask.call(*((name, self._handle) for name in names))
            for pid, memory in (ask.read(kind, answer, _pids_and_memory) or {}).items():
                if pid not in own and pid not in others:
                    name = _process_name(pid) if host else None
                    others[pid] = GpuProcess(pid, kind, name, memory)
        note = None
        if not host:
            note = (
                "Process ids in this container are not the host's, so processes of others may be "
                "missing from the list; used memory and utilisation at rest tell more."
            )
        elif "compute" in ask.missing:
            note = (
                f"The driver does not list the processes ({ask.missing['compute']}); used memory "
                "and utilisation at rest tell more."
            )
        return ProcessList(tuple(others.values()), note is None, note, ask.missing)

    def link_to(self, peer: NvmlDevice) -> LinkToPeer:
        """Return what joins this device and ``peer``; links between others are left out."""
        ask = _Interview(self._module)
        question = ("nvmlDeviceGetP2PStatus", self._chip, peer._chip, P2P_BY_NVLINK)
        joined = ask.one("kind", _told_status, question)
        if not joined:
            return LinkToPeer(None if joined is None else "pcie", missing=ask.missing)
        reading = self._field(ask, FIELD_NVLINK_COUNT)
        count = ask.read("nvlink_count", reading, lambda found: _positive(_field_value(found)))
        if count is None:
            return LinkToPeer("nvlink", missing=ask.missing)
        states = [
            ask.one("nvlink_active", _switch, ("nvmlDeviceGetNvLinkState", self._chip, link))
            for link in range(count)
        ]
        if None in states:
            return LinkToPeer("nvlink", missing=ask.missing)
        active = [link for link, state in enumerate(states) if state]
        address = peer.identity().pci_bus_id
        far_ends = {link: self._far_end(ask, link) for link in active}
        if address is None or None in far_ends.values():
            return LinkToPeer("nvlink", nvlink_active=len(active), missing=ask.missing)
        direct = [link for link in active if far_ends[link] == address]
        leading = direct or active
        speeds = [self._link_gbps(ask, link) for link in leading]
        told = [speed for speed in speeds if speed is not None]
        return LinkToPeer(
            kind="nvlink",
            switched=not direct,
            nvlink_count=len(leading),
            nvlink_active=len(active),
            nvlink_gbps=sum(told) if told and len(told) == len(leading) else None,
            missing=ask.missing,
        )

    def _far_end(self, ask: _Interview, link: int) -> str | None:
        """Return the PCI bus id of what is at the other end of a link."""
        question = ("nvmlDeviceGetNvLinkRemotePciInfo", self._chip, link)
        return ask.one("nvlink_count", lambda info: _text(info.busId), question)

    def _link_gbps(self, ask: _Interview, link: int) -> float | None:
        reading = self._field(ask, FIELD_NVLINK_SPEED, link)
        return ask.read("nvlink_gbps", reading, lambda found: _positive(_field_value(found)) / 1000)

    def _health(self, ask: _Interview) -> dict[str, Any]:
        busy = ask.call(("nvmlDeviceGetUtilizationRates", self._chip))
        readers: dict[str, tuple[_Answer, Callable[[Any], Any]]] = {
            "pcie_replay_count": (ask.call(("nvmlDeviceGetPcieReplayCounter", self._chip)), _count),
            "utilisation_percent": (busy, lambda rates: float(_count(rates.gpu))),
            "memory_utilisation_percent": (busy, lambda rates: float(_count(rates.memory))),
            "memory_used_bytes": (self._memory(ask), lambda memory: _count(memory.used)),
        }
        return {name: ask.read(name, *readers[name]) for name in _HEALTH}

    def _memory(self, ask: _Interview) -> _Answer:
        """Return the memory sizes; only the newer question tells what the driver reserves."""
        return ask.call(
            ("nvmlDeviceGetMemoryInfo", self._handle, MEMORY_INFO_V2),
            ("nvmlDeviceGetMemoryInfo", self._handle),
        )

    def _field(self, ask: _Interview, number: int, part: int | None = None) -> _Answer:
        """Return one field's value (of one ``part`` of several), with its own return code."""
        name = "nvmlDeviceGetFieldValues"
        answer = ask.call((name, self._chip, [number if part is None else (number, part)]))
        if answer.reason is not None:
            return answer
        try:
            (reading,) = answer.value
            return _field_answer(reading, number)
        except (AttributeError, TypeError, ValueError):
            return _Answer(None, f"unreadable ({name})")

    def _fields(self, ask: _Interview) -> dict[int, _Answer]:
        """Return the field values, one answer each: every value carries its own return code."""
        name = "nvmlDeviceGetFieldValues"
        answers = [ask.call((name, self._chip, list(FIELD_IDS)))]
        if answers[0].reason and reason_code(answers[0].reason) == "invalid-argument":
            # This driver refuses the whole list for one number that it does not know.
            answers = [ask.call((name, self._chip, [number])) for number in FIELD_IDS]
        try:
            told = {int(reading.fieldId): reading for a in answers for reading in a.value or ()}
            found = {number: _field_answer(told.get(number), number) for number in FIELD_IDS}
        except (AttributeError, TypeError, ValueError):
            return dict.fromkeys(FIELD_IDS, _Answer(None, f"unreadable ({name})"))
        whole = answers[0].reason if len(answers) == 1 else None
        return dict.fromkeys(FIELD_IDS, answers[0]) if whole else found


_PROCESS_CALLS: Final = {
    "compute": ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses"),
    "mps": (
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses",
    ),
    "graphics": (
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses",
    ),
}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a call returned, or the reason why it did not."""

    value: Any
    reason: str | None = None
    call: str = ""


class _Interview:
    """Asks questions one by one and keeps the reason of each that has no answer."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.missing: dict[str, str] = {}

    def call(self, *calls: Call) -> _Answer:
        """Return the answer to the first of these calls that has one."""
        return _first(self._module, *calls)

    def one(self, name: str, reader: Callable[[Any], T], *calls: Call) -> T | None:
        """Return the one value that a call gives."""
        return self.read(name, self.call(*calls), reader)

    def table(self, about: Call, questions: Sequence[Question]) -> dict[str, Any]:
        """Return field by field what one call each tells ``about`` a handle (or nothing)."""
        return {
            name: self.one(name, reader, (call, *about, *arguments))
            for name, reader, call, *arguments in questions
        }

    def leave_out(self, names: Sequence[str]) -> dict[str, Any]:
        """Return these fields as not asked for."""
        self.missing.update(dict.fromkeys(names, "not-asked"))
        return dict.fromkeys(names)

    def read(self, name: str, answer: _Answer, reader: Callable[[Any], T]) -> T | None:
        """Return one value out of an answer; note under ``name`` why there is none."""
        reason = answer.reason
        if reason is None:
            try:
                return reader(answer.value)
            except _NotTold:
                reason = f"not-told ({answer.call})"
            except Exception:  # a driver or binding that answers in another shape
                reason = f"unreadable ({answer.call})"
        self.missing[name] = reason
        return None


class _NotTold(Exception):
    """The driver answered with a value that stands for "no value"."""


def _call(module: Any, name: str, *arguments: Any) -> _Answer:
    """Ask one question; whatever goes wrong becomes a reason."""
    try:
        return _Answer(getattr(module, name)(*arguments), call=name)
    except Exception as error:  # NVML errors, old bindings, broken libraries: see _error_code
        return _Answer(None, f"{_error_code(error)} ({name})")


def _first(module: Any, *calls: Call) -> _Answer:
    """Ask in newer and older ways; keep the first reason that says more than "too old"."""
    reasons: list[str] = []
    for name, *arguments in calls:
        answer = _call(module, name, *arguments)
        if answer.reason is None:
            return answer
        reasons.append(answer.reason)
        if reason_code(answer.reason) not in _ASK_ANOTHER_WAY:
            break
    too_old = ("function-not-found", "binding-too-old")
    telling = [reason for reason in reasons if reason_code(reason) not in too_old]
    return _Answer(None, (telling or reasons)[0])


def _error_code(error: Exception) -> str:
    number = getattr(error, "value", None)
    if isinstance(number, int):
        return ERROR_CODES.get(number, f"nvml-error-{number}")
    if type(error).__name__ == "NVMLLibraryMismatchError":
        return "function-not-found"
    if isinstance(error, AttributeError | TypeError):
        return "binding-too-old"
    return f"failed-{type(error).__name__}"


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


def _unavailable(reason: str) -> NvmlUnavailable:
    code = reason_code(reason)
    sentence, remedy = _ADVICE.get(code, (f"NVML does not answer: {reason}.", "nvidia-smi"))
    return NvmlUnavailable(code, sentence, remedy)


def _uuid_spellings(uuid: str | None) -> tuple[str, ...]:
    text = (uuid or "").strip()
    if not text:
        return ()
    prefixed = text[:4].upper() in ("GPU-", "MIG-")
    bare = text[4:] if prefixed else text
    spellings = (*((text,) if prefixed else ()), f"GPU-{bare}", f"MIG-{bare}")
    return tuple(dict.fromkeys(spellings))


def _field_answer(reading: Any, number: int) -> _Answer:
    """Return a field's reading as an answer of its own: it has its own return code."""
    call = f"nvmlDeviceGetFieldValues[{number}]"
    code = 2 if reading is None else int(reading.nvmlReturn)
    if code:
        return _Answer(None, f"{ERROR_CODES.get(code, f'nvml-error-{code}')} ({call})")
    return _Answer(reading, call=call)


def _field_value(reading: Any) -> Any:
    """Return the union's member that ``valueType`` names; the others are other bits of it."""
    return getattr(reading.value, VALUE_MEMBERS[int(reading.valueType)])


def _counter(reading: Any) -> int:
    """Return a 64-bit counter; any other type is not the counter that was asked for."""
    if int(reading.valueType) not in COUNTER_TYPES:
        raise _NotTold
    return _count(_field_value(reading))


def _throttle_counters(ask: _Interview, fields: Mapping[int, _Answer]) -> dict[str, int]:
    counters: dict[str, int] = {}
    for name, numbers in THROTTLE_FIELDS.items():
        if name == "thermal" and counters.keys() & {"sw_thermal", "hw_thermal"}:
            continue
        side = _Interview(None)
        told = (side.read(str(number), fields[number], _counter) for number in numbers)
        values = [value for value in told if value is not None]
        if len(values) == 1:
            counters[name] = values[0]
        elif values:
            ask.missing[f"throttle_ns.{name}"] = "ambiguous (two field numbers answer)"
        else:
            ask.missing[f"throttle_ns.{name}"] = side.missing[str(numbers[0])]
    if "thermal" not in counters:
        ask.missing.pop("throttle_ns.thermal", None)  # the newer two say why
    return counters


def _text(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not isinstance(text, str) or not text.strip("\0 "):
        raise _NotTold
    return text.strip("\0 ")


def _count(value: Any) -> int:
    number = int(value)
    if number < 0 or number in NOT_AVAILABLE:
        raise _NotTold
    return number


def _pids_and_memory(entries: Any) -> dict[int, int | None]:
    return {int(entry.pid): _optional_count(entry.usedGpuMemory) for entry in entries}


def _optional_count(value: Any) -> int | None:
    try:
        return _count(value)
    except (_NotTold, TypeError, ValueError):
        return None


def _positive(value: Any) -> int:
    number = _count(value)
    if number == 0:
        raise _NotTold
    return number


def _mhz(value: Any) -> float:
    return float(_positive(value))


def _watts(milliwatts: Any) -> float:
    return _positive(milliwatts) / 1000


def _celsius(value: Any) -> float:
    return float(_positive(value))


def _bits(value: Any) -> int:
    return int(value)


def _told_status(value: Any) -> bool:
    status = _count(value)
    if status >= P2P_UNKNOWN:
        raise _NotTold
    return status == P2P_OK


def _switch(value: Any) -> bool:
    return (False, True)[_count(value)]


def _one_of(names: Sequence[str]) -> Callable[[Any], str]:
    return lambda value: names[_count(value)]


def _cuda_version(value: Any) -> str:
    number = _positive(value)
    return f"{number // 1000}.{number % 1000 // 10}"


def _pci_id(value: Any) -> str:
    number = _positive(value)
    return f"{number & 0xFFFF:04x}:{number >> 16:04x}"


def _own_pids() -> frozenset[int]:
    """Return our own process id and those of our children, workers included."""
    import psutil

    try:
        children = psutil.Process().children(recursive=True)
    except psutil.Error:
        children = []
    return frozenset({os.getpid(), *(child.pid for child in children)})


def _process_name(pid: int) -> str | None:
    import psutil

    try:
        return psutil.Process(pid).name()
    except (psutil.Error, OSError):
        return None


def _in_first_pid_namespace() -> bool:
    """Return whether process ids here are those of the machine itself; False if unknown."""
    try:
        return os.readlink("/proc/self/ns/pid") == _FIRST_PID_NAMESPACE
    except OSError:
        return False


_IDENTITY: Final[tuple[Question, ...]] = (
    ("name", _text, "nvmlDeviceGetName"),
    ("uuid", _text, "nvmlDeviceGetUUID"),
)
_SYSTEM: Final[tuple[Question, ...]] = (
    ("driver_version", _text, "nvmlSystemGetDriverVersion"),
    ("cuda_driver_version", _cuda_version, "nvmlSystemGetCudaDriverVersion_v2"),
)
_LIMITS: Final[tuple[Question, ...]] = (
    ("power_limit_w", _watts, "nvmlDeviceGetEnforcedPowerLimit"),
    ("requested_power_limit_w", _watts, "nvmlDeviceGetPowerManagementLimit"),
    ("default_power_limit_w", _watts, "nvmlDeviceGetPowerManagementDefaultLimit"),
    ("max_sm_clock_mhz", _mhz, "nvmlDeviceGetMaxClockInfo", CLOCK_SM),
    ("max_mem_clock_mhz", _mhz, "nvmlDeviceGetMaxClockInfo", CLOCK_MEMORY),
    ("memory_bus_bits", _positive, "nvmlDeviceGetMemoryBusWidth"),
    ("compute_mode", _one_of(_COMPUTE_MODES), "nvmlDeviceGetComputeMode"),
    ("persistence_mode", _switch, "nvmlDeviceGetPersistenceMode"),
    ("pcie_generation", _positive, "nvmlDeviceGetCurrPcieLinkGeneration"),
    ("pcie_generation_max", _positive, "nvmlDeviceGetMaxPcieLinkGeneration"),
    ("pcie_width", _positive, "nvmlDeviceGetCurrPcieLinkWidth"),
    ("pcie_width_max", _positive, "nvmlDeviceGetMaxPcieLinkWidth"),
    ("pcie_generation_gpu_max", _positive, "nvmlDeviceGetGpuMaxPcieLinkGeneration"),
    ("virtualization", _one_of(_VIRTUALIZATION), "nvmlDeviceGetVirtualizationMode"),
    ("slowdown_temperature_c", _celsius, "nvmlDeviceGetTemperatureThreshold", THRESHOLD_SLOWDOWN),
)
_NOW: Final[tuple[Question, ...]] = (
    ("sm_clock_mhz", _mhz, "nvmlDeviceGetClockInfo", CLOCK_SM),
    ("mem_clock_mhz", _mhz, "nvmlDeviceGetClockInfo", CLOCK_MEMORY),
    ("power_w", _watts, "nvmlDeviceGetPowerUsage"),
    ("energy_mj", _count, "nvmlDeviceGetTotalEnergyConsumption"),
    ("pcie_generation", _positive, "nvmlDeviceGetCurrPcieLinkGeneration"),
    ("pcie_width", _positive, "nvmlDeviceGetCurrPcieLinkWidth"),
)
_HEALTH: Final = (
    "pcie_replay_count", "utilisation_percent", "memory_utilisation_percent", "memory_used_bytes",
)  # fmt: skip
