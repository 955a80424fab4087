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
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from roofprobe.probes import nvml_readers as readers
from roofprobe.probes.nvml_facts import (
    DeviceLimits,
    GpuProcess,
    Identity,
    LinkToPeer,
    NvmlUnavailable,
    ProcessList,
    Snapshot,
    reason_code,
    unavailable,
)
from roofprobe.probes.nvml_interview import (
    Answer,
    Interview,
    Question,
    call,
    field_answer,
    first_answer,
)
from roofprobe.probes.nvml_links import link_between

if TYPE_CHECKING:
    from roofprobe.records.schema import Health

# Numbers of the NVML interface, which it keeps for good; a test holds them against pynvml.
CLOCK_SM, CLOCK_MEMORY = 1, 2
TEMPERATURE_GPU, THRESHOLD_SLOWDOWN = 0, 1
MEMORY_INFO_V2 = 0x02000028
FIELD_MEMORY_TEMPERATURE = 82
FIELD_C2C_LINK_COUNT = 170
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

_COMPUTE_MODES: Final = ("default", "exclusive-thread", "prohibited", "exclusive-process")
_VIRTUALIZATION: Final = ("none", "pass-through", "vgpu", "host-vgpu", "host-vsga")
_FIRST_PID_NAMESPACE: Final = "pid:[4026531836]"  # Linux's fixed number of the host's own


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
    started = call(module, "nvmlInit")
    return Nvml(module) if started.reason is None else unavailable(started.reason)


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
        answer = Answer(None, "not-found (no UUID and no PCI bus id)")
        for name in _uuid_spellings(uuid):
            # Old bindings hand the text to C as it is and want bytes.
            answer = first_answer(
                self._module,
                ("nvmlDeviceGetHandleByUUID", name),
                ("nvmlDeviceGetHandleByUUID", name.encode()),
            )
            if answer.reason is None:
                return self._device(answer.value)
        if pci_bus_id:
            answer = first_answer(
                self._module,
                ("nvmlDeviceGetHandleByPciBusId", pci_bus_id),
                ("nvmlDeviceGetHandleByPciBusId", pci_bus_id.encode()),
            )
            if answer.reason is None:
                return self._device(answer.value)
        assert answer.reason is not None
        return unavailable(answer.reason)

    def devices(self) -> tuple[NvmlDevice, ...]:
        """Return all devices that can be opened, in NVML's order; see `unreachable`."""
        return tuple(self._device(a.value) for a in self._handles().values() if a.reason is None)

    def unreachable(self) -> dict[str, str]:
        """Return why devices are left out of `devices`, by NVML index (``count`` if none)."""
        return {place: a.reason for place, a in self._handles().items() if a.reason is not None}

    def driver_version(self) -> str | None:
        """Return the driver's version, or None where it is not told."""
        return Interview(self._module).one("driver", readers.text, ("nvmlSystemGetDriverVersion",))

    def cuda_driver_version(self) -> str | None:
        """Return the newest CUDA version that the driver speaks, such as ``13.0``."""
        return Interview(self._module).one(
            "cuda", readers.cuda_version, ("nvmlSystemGetCudaDriverVersion_v2",)
        )

    def close(self) -> None:
        """Let the library go; devices of this object must not be asked any more."""
        call(self._module, "nvmlShutdown")

    def _handles(self) -> dict[str, Answer]:
        ask = Interview(self._module)
        count = ask.one("count", readers.count, ("nvmlDeviceGetCount",))
        if count is None:
            return {"count": Answer(None, ask.missing["count"])}
        return {
            str(index): ask.call(("nvmlDeviceGetHandleByIndex", index)) for index in range(count)
        }

    def _device(self, handle: Any) -> NvmlDevice:
        chip = call(self._module, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
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
        ask, chip = Interview(self._module), self._chip
        pci = ask.call(("nvmlDeviceGetPciInfo_v3", chip), ("nvmlDeviceGetPciInfo", chip))
        return Identity(
            **ask.table((self._handle,), _IDENTITY),
            **ask.table((), _SYSTEM),
            pci_bus_id=ask.read("pci_bus_id", pci, lambda info: readers.text(info.busId)),
            pci_device_id=ask.read(
                "pci_device_id", pci, lambda info: readers.pci_id(info.pciDeviceId)
            ),
            pci_subsystem_id=ask.read(
                "pci_subsystem_id", pci, lambda info: readers.pci_id(info.pciSubSystemId)
            ),
            vbios=ask.one("vbios", readers.text, ("nvmlDeviceGetVbiosVersion", chip)),
            missing=ask.missing,
        )

    def limits(self) -> DeviceLimits:
        """Return what bounds this device and in which modes it is."""
        ask, chip = Interview(self._module), self._chip
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
            memory_total_bytes=ask.read(
                "memory_total_bytes", memory, lambda m: readers.positive(m.total)
            ),
            memory_reserved_bytes=ask.read(
                "memory_reserved_bytes", memory, lambda m: readers.count(m.reserved)
            ),
            memory_used_bytes=ask.read(
                "memory_used_bytes", memory, lambda m: readers.count(m.used)
            ),
            memory_free_bytes=ask.read(
                "memory_free_bytes", memory, lambda m: readers.count(m.free)
            ),
            min_power_limit_w=ask.read(
                "min_power_limit_w", power, lambda pair: readers.watts(pair[0])
            ),
            max_power_limit_w=ask.read(
                "max_power_limit_w", power, lambda pair: readers.watts(pair[1])
            ),
            ecc_enabled=ask.read("ecc_enabled", ecc, lambda modes: readers.switch(modes[0])),
            ecc_pending=ask.read("ecc_pending", ecc, lambda modes: readers.switch(modes[1])),
            mig_enabled=ask.read("mig_enabled", mig, lambda modes: readers.switch(modes[0])),
            mig_pending=ask.read("mig_pending", mig, lambda modes: readers.switch(modes[1])),
            c2c_link_count=ask.read(
                "c2c_link_count",
                self._field(ask, FIELD_C2C_LINK_COUNT),
                lambda reading: readers.count(readers.field_value(reading)),
            ),
            missing=ask.missing,
        )

    def snapshot(self, *, health: bool = False) -> Snapshot:
        """Return this moment; with ``health`` also link errors, utilisation and memory in use.

        Each question costs the driver a little, and a sampler asks many times while a kernel
        runs, so these four are left out (``missing`` says ``not-asked``) unless wanted.
        """
        ask, chip = Interview(self._module), self._chip
        fields = self._fields(ask)
        return Snapshot(
            **ask.table((chip,), _NOW),
            **(self._health(ask) if health else ask.leave_out(_HEALTH)),
            memory_temperature_c=ask.read(
                "memory_temperature_c",
                fields[FIELD_MEMORY_TEMPERATURE],
                lambda reading: readers.celsius(readers.field_value(reading)),
            ),
            temperature_c=ask.one(
                "temperature_c",
                readers.celsius,
                ("nvmlDeviceGetTemperatureV", chip, TEMPERATURE_GPU),
                ("nvmlDeviceGetTemperature", chip, TEMPERATURE_GPU),
            ),
            throttle_bits=ask.one(
                "throttle_bits",
                readers.count,
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
        ask = Interview(self._module)
        others: dict[int, GpuProcess] = {}
        for kind, names in _PROCESS_CALLS.items():
            answer = ask.call(*((name, self._handle) for name in names))
            for pid, memory in (ask.read(kind, answer, readers.pids_and_memory) or {}).items():
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

    def health(self) -> Health:
        """Return what the counters say, with this moment and who else is on the device."""
        from roofprobe.probes.nvml_health import health_from

        return health_from(
            Interview(self._module), self._chip, self.snapshot(health=True), self.processes(),
            self._field,
        )  # fmt: skip

    def link_to(self, peer: NvmlDevice) -> LinkToPeer:
        """Return what joins this device and ``peer``; links between others are left out."""
        address = peer.identity().pci_bus_id
        ask = Interview(self._module)
        return link_between(ask, self._chip, peer._chip, address, self._field)

    def _health(self, ask: Interview) -> dict[str, Any]:
        busy = ask.call(("nvmlDeviceGetUtilizationRates", self._chip))
        told: dict[str, tuple[Answer, Callable[[Any], Any]]] = {
            "pcie_replay_count": (
                ask.call(("nvmlDeviceGetPcieReplayCounter", self._chip)),
                readers.count,
            ),
            "utilisation_percent": (busy, lambda rates: float(readers.count(rates.gpu))),
            "memory_utilisation_percent": (busy, lambda rates: float(readers.count(rates.memory))),
            "memory_used_bytes": (self._memory(ask), lambda memory: readers.count(memory.used)),
        }
        return {name: ask.read(name, *told[name]) for name in _HEALTH}

    def _memory(self, ask: Interview) -> Answer:
        """Return the memory sizes; only the newer question tells what the driver reserves."""
        return ask.call(
            ("nvmlDeviceGetMemoryInfo", self._handle, MEMORY_INFO_V2),
            ("nvmlDeviceGetMemoryInfo", self._handle),
        )

    def _field(self, ask: Interview, number: int, part: int | None = None) -> Answer:
        """Return one field's value (of one ``part`` of several), with its own return code."""
        name = "nvmlDeviceGetFieldValues"
        answer = ask.call((name, self._chip, [number if part is None else (number, part)]))
        if answer.reason is not None:
            return answer
        try:
            (reading,) = answer.value
            return field_answer(reading, number)
        except (AttributeError, TypeError, ValueError):
            return Answer(None, f"unreadable ({name})")

    def _fields(self, ask: Interview) -> dict[int, Answer]:
        """Return the field values, one answer each: every value carries its own return code."""
        name = "nvmlDeviceGetFieldValues"
        answers = [ask.call((name, self._chip, list(FIELD_IDS)))]
        if answers[0].reason and reason_code(answers[0].reason) == "invalid-argument":
            # This driver refuses the whole list for one number that it does not know.
            answers = [ask.call((name, self._chip, [number])) for number in FIELD_IDS]
        try:
            told = {int(reading.fieldId): reading for a in answers for reading in a.value or ()}
            found = {number: field_answer(told.get(number), number) for number in FIELD_IDS}
        except (AttributeError, TypeError, ValueError):
            return dict.fromkeys(FIELD_IDS, Answer(None, f"unreadable ({name})"))
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


def _uuid_spellings(uuid: str | None) -> tuple[str, ...]:
    text = (uuid or "").strip()
    if not text:
        return ()
    prefixed = text[:4].upper() in ("GPU-", "MIG-")
    bare = text[4:] if prefixed else text
    spellings = (*((text,) if prefixed else ()), f"GPU-{bare}", f"MIG-{bare}")
    return tuple(dict.fromkeys(spellings))


def _throttle_counters(ask: Interview, fields: Mapping[int, Answer]) -> dict[str, int]:
    counters: dict[str, int] = {}
    for name, numbers in THROTTLE_FIELDS.items():
        if name == "thermal" and counters.keys() & {"sw_thermal", "hw_thermal"}:
            continue
        side = Interview(None)
        told = (side.read(str(number), fields[number], readers.counter) for number in numbers)
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
    ("name", readers.text, "nvmlDeviceGetName"),
    ("uuid", readers.text, "nvmlDeviceGetUUID"),
)
_SYSTEM: Final[tuple[Question, ...]] = (
    ("driver_version", readers.text, "nvmlSystemGetDriverVersion"),
    ("cuda_driver_version", readers.cuda_version, "nvmlSystemGetCudaDriverVersion_v2"),
)
_LIMITS: Final[tuple[Question, ...]] = (
    ("power_limit_w", readers.watts, "nvmlDeviceGetEnforcedPowerLimit"),
    ("requested_power_limit_w", readers.watts, "nvmlDeviceGetPowerManagementLimit"),
    ("default_power_limit_w", readers.watts, "nvmlDeviceGetPowerManagementDefaultLimit"),
    ("max_sm_clock_mhz", readers.mhz, "nvmlDeviceGetMaxClockInfo", CLOCK_SM),
    ("max_mem_clock_mhz", readers.mhz, "nvmlDeviceGetMaxClockInfo", CLOCK_MEMORY),
    ("memory_bus_bits", readers.positive, "nvmlDeviceGetMemoryBusWidth"),
    ("compute_mode", readers.one_of(_COMPUTE_MODES), "nvmlDeviceGetComputeMode"),
    ("persistence_mode", readers.switch, "nvmlDeviceGetPersistenceMode"),
    ("pcie_generation", readers.positive, "nvmlDeviceGetCurrPcieLinkGeneration"),
    ("pcie_generation_max", readers.positive, "nvmlDeviceGetMaxPcieLinkGeneration"),
    ("pcie_width", readers.positive, "nvmlDeviceGetCurrPcieLinkWidth"),
    ("pcie_width_max", readers.positive, "nvmlDeviceGetMaxPcieLinkWidth"),
    ("pcie_generation_gpu_max", readers.positive, "nvmlDeviceGetGpuMaxPcieLinkGeneration"),
    ("virtualization", readers.one_of(_VIRTUALIZATION), "nvmlDeviceGetVirtualizationMode"),
    (
        "slowdown_temperature_c",
        readers.celsius,
        "nvmlDeviceGetTemperatureThreshold",
        THRESHOLD_SLOWDOWN,
    ),
)
_NOW: Final[tuple[Question, ...]] = (
    ("sm_clock_mhz", readers.mhz, "nvmlDeviceGetClockInfo", CLOCK_SM),
    ("mem_clock_mhz", readers.mhz, "nvmlDeviceGetClockInfo", CLOCK_MEMORY),
    ("power_w", readers.watts, "nvmlDeviceGetPowerUsage"),
    ("energy_mj", readers.count, "nvmlDeviceGetTotalEnergyConsumption"),
    ("pcie_generation", readers.positive, "nvmlDeviceGetCurrPcieLinkGeneration"),
    ("pcie_width", readers.positive, "nvmlDeviceGetCurrPcieLinkWidth"),
)
_HEALTH: Final = (
    "pcie_replay_count", "utilisation_percent", "memory_utilisation_percent", "memory_used_bytes",
)  # fmt: skip
