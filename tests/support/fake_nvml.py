"""A double of ``pynvml``: GPUs that answer what a test tells them, over the binding's own types.

Constants, error classes and structures are those of the installed ``pynvml``, and a function that
``pynvml`` lacks is an AttributeError here too, so a misspelt name cannot pass. A function that the
double does not play raises ``NVMLError_FunctionNotFound``, as an old driver does.

No recording from hardware exists yet: `ORIGIN` says of each answer whether its value is from NVML's
documentation or vendors' tables, or invented. Units (mW, mJ, ns, MHz), structures, return codes and
value types of fields are documented; the order in which a lost device starts to fail is invented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pynvml

GIB = 1 << 30
NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 3, 4, 6
FUNCTION_NOT_FOUND, GPU_IS_LOST = 13, 15
UINT, ULONGLONG = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG


_DOCUMENTED, _INVENTED = "documentation", "invented"
# Where the value of each answer of `h200` is from; "recorded" is for a day with a GPU at hand.
ORIGIN: dict[str | int, str] = {
    **dict.fromkeys(
        (
            "nvmlDeviceGetName", "nvmlDeviceGetEnforcedPowerLimit",
            "nvmlDeviceGetPowerManagementLimit", "nvmlDeviceGetPowerManagementDefaultLimit",
            "nvmlDeviceGetMaxClockInfo", "nvmlDeviceGetMemoryBusWidth", "nvmlDeviceGetEccMode",
            "nvmlDeviceGetMigMode", "nvmlDeviceGetComputeMode",
            "nvmlDeviceGetMaxPcieLinkGeneration", "nvmlDeviceGetMaxPcieLinkWidth",
            "nvmlDeviceGetGpuMaxPcieLinkGeneration",
            pynvml.NVML_FI_DEV_C2C_LINK_COUNT, pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT,
        ),
        _DOCUMENTED,
    ),
    **dict.fromkeys(
        (
            "nvmlDeviceGetUUID", "nvmlDeviceGetVbiosVersion", "nvmlDeviceGetMemoryInfo",
            "nvmlDeviceGetPciInfo_v3",  # the device number is documented, bus and board are not
            "nvmlDeviceGetPowerManagementLimitConstraints", "nvmlDeviceGetPersistenceMode",
            "nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetCurrPcieLinkWidth",
            "nvmlDeviceGetVirtualizationMode", "nvmlDeviceGetTemperatureThreshold",
            "nvmlDeviceGetClockInfo", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetTemperatureV",
            "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTotalEnergyConsumption",
            "nvmlDeviceGetPcieReplayCounter", "nvmlDeviceGetTotalEccErrors",
            "nvmlDeviceGetRemappedRows", "nvmlDeviceGetRetiredPages_v2",
            "nvmlDeviceGetRetiredPagesPendingStatus", "nvmlDeviceGetNvLinkState",
            "nvmlDeviceGetNvLinkErrorCounter", "nvmlDeviceGetUtilizationRates",
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetMPSComputeRunningProcesses_v3",
            "nvmlDeviceGetGraphicsRunningProcesses_v3",
            pynvml.NVML_FI_DEV_MEMORY_TEMP, pynvml.NVML_FI_DEV_PERF_POLICY_POWER,
            pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL, pynvml.NVML_FI_DEV_PERF_POLICY_SYNC_BOOST,
            pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN,
            pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN,
            pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN,
        ),
        _INVENTED,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """An answer that is an NVML error."""

    code: int


@dataclass(eq=False)
class FakeGpu:
    """One GPU. ``answers`` holds what each function returns, by name or by name and argument.

    An answer may be a value, a `Refusal`, an exception, or an iterator whose values are given one
    by one. ``fields`` maps a field number, or (number, link), to ``(type, value)`` or a `Refusal`.
    After ``lost_after`` further questions the device is gone. ``chip`` makes this a MIG slice of
    it.
    """

    answers: dict[Any, Any]
    fields: dict[Any, Any] = field(default_factory=dict)
    lost_after: int | None = None
    chip: FakeGpu | None = None

    @property
    def uuid(self) -> str:
        return str(self.answers["nvmlDeviceGetUUID"])

    def answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if self.lost_after is not None:
            self.lost_after -= 1
            if self.lost_after < 0:
                raise pynvml.NVMLError(GPU_IS_LOST)
        if name == "nvmlDeviceGetFieldValues" and name not in self.answers:
            return self._field_values(arguments[0])
        found = self.answers.get((name, *arguments), self.answers.get(name))
        if found is None:
            raise pynvml.NVMLError(FUNCTION_NOT_FOUND)
        return _settle(found)

    def _field_values(self, numbers: list[int | tuple[int, int]]) -> Any:
        values = (pynvml.c_nvmlFieldValue_t * len(numbers))()
        for value, number in zip(values, numbers, strict=True):
            told = self.fields.get(number, Refusal(NOT_SUPPORTED))
            value.fieldId, value.scopeId = number if isinstance(number, tuple) else (number, 0)
            if isinstance(told, Refusal):
                value.nvmlReturn = told.code
                value.value.ullVal = 0xDEAD  # what is left in the union must not be read
            else:
                value.valueType, number_told = told
                member = "ullVal" if value.valueType == ULONGLONG else "uiVal"
                setattr(value.value, member, _settle(number_told))
        return values


class FakeNvml:
    """The module: pass it wherever ``pynvml`` goes. ``calls`` lists the functions asked."""

    def __init__(self, *gpus: FakeGpu, as_bytes: bool = False, **answers: Any) -> None:
        self.gpus = list(gpus)
        self.as_bytes = as_bytes  # as bindings before 11.5: bytes in, bytes out
        self.calls: list[str] = []
        self.missing_functions: set[str] = set()
        self.faults: dict[str, Any] = {}
        self.system: dict[str, Any] = {
            "nvmlInit": True,
            "nvmlShutdown": True,
            "nvmlSystemGetDriverVersion": "580.159.03",
            "nvmlSystemGetCudaDriverVersion_v2": 13000,
            "nvmlDeviceGetCount": len(self.gpus),
            **answers,
        }

    def refuse(self, name: str, fault: Any) -> None:
        """Make a function fail on every device: with an error code or an exception."""
        self.faults[name] = Refusal(fault) if isinstance(fault, int) else fault

    def __getattr__(self, name: str) -> Any:
        real = getattr(pynvml, name)
        if name in self.__dict__.get("missing_functions", ()):
            raise AttributeError(f"module 'pynvml' has no attribute {name!r}")
        is_function = name.startswith("nvml") and callable(real) and not isinstance(real, type)
        return partial(self._ask, name) if is_function else real

    def _ask(self, name: str, *arguments: Any) -> Any:
        self.calls.append(name)
        if name in self.faults:
            return _settle(self.faults[name])
        finders: dict[str, Callable[[Any], FakeGpu]] = {
            "nvmlDeviceGetHandleByIndex": self._by_index,
            "nvmlDeviceGetHandleByUUID": self._by_uuid,
            "nvmlDeviceGetHandleByPciBusId": self._by_bus_id,
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": self._chip_of,
        }
        if name in finders:
            return finders[name](arguments[0])
        if name in self.system:
            answer = _settle(self.system[name])
        elif arguments and isinstance(arguments[0], FakeGpu):
            answer = arguments[0].answer(name, arguments[1:])
        else:
            raise pynvml.NVMLError(FUNCTION_NOT_FOUND)
        return answer.encode() if self.as_bytes and isinstance(answer, str) else answer

    def _by_index(self, index: int) -> FakeGpu:
        gpu: FakeGpu = _settle(self.gpus[index])
        return gpu

    def _by_uuid(self, uuid: str | bytes) -> FakeGpu:
        return self._find(uuid, lambda gpu: gpu.uuid)

    def _by_bus_id(self, bus_id: str | bytes) -> FakeGpu:
        return self._find(
            bus_id, lambda gpu: str(gpu.answers["nvmlDeviceGetPciInfo_v3"].busId).lower()
        )

    def _find(self, wanted: str | bytes, key: Callable[[FakeGpu], str]) -> FakeGpu:
        if self.as_bytes and not isinstance(wanted, bytes):
            raise TypeError("bytes or integer address expected instead of str instance")
        text = wanted.decode() if isinstance(wanted, bytes) else wanted
        for gpu in self.gpus:
            if key(gpu) == text:
                return gpu
        raise pynvml.NVMLError(NOT_FOUND)

    def _chip_of(self, gpu: FakeGpu) -> FakeGpu:
        if gpu.chip is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return gpu.chip


def h200(number: int = 0, **changes: Any) -> FakeGpu:
    """Return an idle H200 as a whole card, with ``changes`` to its answers by function name."""
    total, used = 141 * GIB, GIB // 2
    answers: dict[Any, Any] = {
        "nvmlDeviceGetName": "NVIDIA H200",
        "nvmlDeviceGetUUID": f"GPU-00000000-1111-2222-3333-44444444444{number}",
        "nvmlDeviceGetPciInfo_v3": pci_info(f"00000000:{0x1B + number:02X}:00.0", 0x2335, 0x18BE),
        "nvmlDeviceGetVbiosVersion": "96.00.A5.00.01",
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
        "nvmlDeviceGetPowerManagementLimit": 700_000,
        "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
        "nvmlDeviceGetPowerManagementLimitConstraints": [200_000, 700_000],
        ("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM): 1980,
        ("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_MEM): 3201,
        "nvmlDeviceGetMemoryBusWidth": 6144,
        ("nvmlDeviceGetMemoryInfo", pynvml.nvmlMemory_v2): pynvml.c_nvmlMemory_v2_t(
            version=pynvml.nvmlMemory_v2, total=total, reserved=GIB, free=total - used, used=used
        ),
        "nvmlDeviceGetEccMode": [1, 1],
        "nvmlDeviceGetMigMode": [0, 0],
        "nvmlDeviceGetComputeMode": pynvml.NVML_COMPUTEMODE_DEFAULT,
        "nvmlDeviceGetPersistenceMode": 1,
        "nvmlDeviceGetCurrPcieLinkGeneration": 5,
        "nvmlDeviceGetMaxPcieLinkGeneration": 5,
        "nvmlDeviceGetCurrPcieLinkWidth": 16,
        "nvmlDeviceGetMaxPcieLinkWidth": 16,
        "nvmlDeviceGetGpuMaxPcieLinkGeneration": 5,
        "nvmlDeviceGetVirtualizationMode": pynvml.NVML_GPU_VIRTUALIZATION_MODE_PASSTHROUGH,
        (
            "nvmlDeviceGetTemperatureThreshold",
            pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
        ): 87,
        ("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM): 345,
        ("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM): 3201,
        "nvmlDeviceGetPowerUsage": 76_500,
        ("nvmlDeviceGetTemperatureV", pynvml.NVML_TEMPERATURE_GPU): 31,
        "nvmlDeviceGetCurrentClocksEventReasons": pynvml.nvmlClocksEventReasonGpuIdle,
        "nvmlDeviceGetTotalEnergyConsumption": 9_000_000,
        "nvmlDeviceGetPcieReplayCounter": 0,
        "nvmlDeviceGetTotalEccErrors": 0,
        "nvmlDeviceGetRemappedRows": (0, 0, 0, 0),
        "nvmlDeviceGetRetiredPages_v2": [],
        "nvmlDeviceGetRetiredPagesPendingStatus": 0,
        "nvmlDeviceGetNvLinkState": 1,
        "nvmlDeviceGetNvLinkErrorCounter": 0,
        "nvmlDeviceGetUtilizationRates": pynvml.c_nvmlUtilization_t(gpu=0, memory=0),
        "nvmlDeviceGetComputeRunningProcesses_v3": [],
        "nvmlDeviceGetMPSComputeRunningProcesses_v3": [],
        "nvmlDeviceGetGraphicsRunningProcesses_v3": [],
        **changes,
    }
    fields = {
        pynvml.NVML_FI_DEV_MEMORY_TEMP: (UINT, 38),
        pynvml.NVML_FI_DEV_C2C_LINK_COUNT: (UINT, 0),
        pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT: (UINT, 18),
        pynvml.NVML_FI_DEV_PERF_POLICY_POWER: (ULONGLONG, 5_000_000_000),
        pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL: (ULONGLONG, 7_000),
        pynvml.NVML_FI_DEV_PERF_POLICY_SYNC_BOOST: (ULONGLONG, 0),
        pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN: (ULONGLONG, 3_000),
        pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN: (ULONGLONG, 4_000),
        pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN: (ULONGLONG, 0),
    }
    return FakeGpu(answers, fields)


def geforce() -> FakeGpu:
    """Return an RTX 4090: no ECC switch told, no MIG, no memory temperature, older field set."""
    refused = Refusal(NOT_SUPPORTED)
    gpu = h200(
        9,
        nvmlDeviceGetName="NVIDIA GeForce RTX 4090",
        nvmlDeviceGetPciInfo_v3=pci_info("00000000:2D:00.0", 0x2684, 0x16F3),
        nvmlDeviceGetEccMode=refused,
        nvmlDeviceGetMigMode=refused,
        nvmlDeviceGetMemoryBusWidth=384,
    )
    gpu.answers[("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_MEM)] = 10501
    gpu.fields = {74: (ULONGLONG, 1), 75: (ULONGLONG, 2), 76: (ULONGLONG, 3)}
    return gpu


def mig_slice(chip: FakeGpu) -> FakeGpu:
    """Return a slice of ``chip``: it answers name, UUID, memory and processes only."""
    memory = pynvml.c_nvmlMemory_v2_t(
        version=pynvml.nvmlMemory_v2, total=18 * GIB, reserved=0, free=18 * GIB, used=0
    )
    return FakeGpu(
        {
            "nvmlDeviceGetName": "NVIDIA H200 MIG 1g.18gb",
            "nvmlDeviceGetUUID": "MIG-55555555-6666-7777-8888-999999999999",
            "nvmlDeviceGetPciInfo_v3": pci_info("00000000:FF:00.0", 0x2335, 0x18BE),
            ("nvmlDeviceGetMemoryInfo", pynvml.nvmlMemory_v2): memory,
            "nvmlDeviceGetComputeRunningProcesses_v3": [],
        },
        chip=chip,
    )


def pci_info(bus_id: str, device: int, subsystem: int) -> Any:
    """Return the binding's own PCI structure for an NVIDIA device."""
    info = pynvml.nvmlPciInfo_t()
    info.busId = bus_id
    info.pciDeviceId = device << 16 | 0x10DE
    info.pciSubSystemId = subsystem << 16 | 0x10DE
    return info


def process(pid: int, used_bytes: int | None = None) -> Any:
    """Return an entry of the process lists as the binding makes it."""
    return pynvml.nvmlFriendlyObject({"pid": pid, "usedGpuMemory": used_bytes})


def memory_info(total: int, used: int) -> Any:
    """Return the memory structure of the newer question."""
    return pynvml.c_nvmlMemory_v2_t(
        version=pynvml.nvmlMemory_v2, total=total, reserved=0, free=total - used, used=used
    )


def _settle(answer: Any) -> Any:
    """Give the value, the next value of a sequence, or raise what stands for an error."""
    if isinstance(answer, Iterator):
        answer = next(answer)
    if isinstance(answer, Refusal):
        raise pynvml.NVMLError(answer.code)
    if isinstance(answer, Exception):
        raise answer
    return answer
