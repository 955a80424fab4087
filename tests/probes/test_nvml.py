"""The driver's answers, field by field: exact values, and exact reasons where there is none."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from dataclasses import asdict, fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pynvml
import pytest

from roofprobe.probes import nvml as subject
from roofprobe.probes import nvml_facts, nvml_health, nvml_interview, nvml_links, nvml_readers
from roofprobe.probes.nvml import Nvml, NvmlDevice, open_nvml
from roofprobe.probes.nvml_facts import (
    DeviceLimits,
    GpuProcess,
    Identity,
    NvmlUnavailable,
    ProcessList,
    Snapshot,
    reason_code,
    throttle_names,
)

if TYPE_CHECKING:
    from tests.support.fake_nvml import FakeGpu, FakeNvml


def _calls_in_the_code() -> list[str]:
    """Return every NVML function that the sources name in full."""
    modules = (subject, nvml_facts, nvml_health, nvml_interview, nvml_links, nvml_readers)
    return sorted(
        {
            node.value
            for module in modules
            for node in ast.walk(ast.parse(inspect.getsource(module)))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith("nvml")
            and node.value.isidentifier()
            and node.value != "nvml"
        }
    )


CALLS = _calls_in_the_code()
GETTERS = [
    name
    for name in CALLS
    if name not in ("nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount")
    and not name.startswith("nvmlDeviceGetHandle")
]
# What stands in when a newer call fails and the double plays the older one; here it plays none.
FIELDS_OF = {
    "nvmlDeviceGetName": {"name"},
    "nvmlDeviceGetUUID": {"uuid"},
    "nvmlDeviceGetPciInfo_v3": {"pci_bus_id", "pci_device_id", "pci_subsystem_id"},
    "nvmlDeviceGetVbiosVersion": {"vbios"},
    "nvmlSystemGetDriverVersion": {"driver_version"},
    "nvmlSystemGetCudaDriverVersion_v2": {"cuda_driver_version"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit_w"},
    "nvmlDeviceGetPowerManagementLimit": {"requested_power_limit_w"},
    "nvmlDeviceGetPowerManagementDefaultLimit": {"default_power_limit_w"},
    "nvmlDeviceGetPowerManagementLimitConstraints": {"min_power_limit_w", "max_power_limit_w"},
    "nvmlDeviceGetMaxClockInfo": {"max_sm_clock_mhz", "max_mem_clock_mhz"},
    "nvmlDeviceGetMemoryBusWidth": {"memory_bus_bits"},
    "nvmlDeviceGetMemoryInfo": {
        "memory_total_bytes", "memory_reserved_bytes", "memory_used_bytes", "memory_free_bytes",
    },
    "nvmlDeviceGetEccMode": {"ecc_enabled", "ecc_pending"},
    "nvmlDeviceGetMigMode": {"mig_enabled", "mig_pending"},
    "nvmlDeviceGetComputeMode": {"compute_mode"},
    "nvmlDeviceGetPersistenceMode": {"persistence_mode"},
    "nvmlDeviceGetCurrPcieLinkGeneration": {"pcie_generation"},
    "nvmlDeviceGetMaxPcieLinkGeneration": {"pcie_generation_max"},
    "nvmlDeviceGetCurrPcieLinkWidth": {"pcie_width"},
    "nvmlDeviceGetMaxPcieLinkWidth": {"pcie_width_max"},
    "nvmlDeviceGetGpuMaxPcieLinkGeneration": {"pcie_generation_gpu_max"},
    "nvmlDeviceGetVirtualizationMode": {"virtualization"},
    "nvmlDeviceGetTemperatureThreshold": {"slowdown_temperature_c"},
    "nvmlDeviceGetClockInfo": {"sm_clock_mhz", "mem_clock_mhz"},
    "nvmlDeviceGetPowerUsage": {"power_w"},
    "nvmlDeviceGetTemperatureV": {"temperature_c"},
    "nvmlDeviceGetFieldValues": {
        "nvlink_active", "nvlink_errors",
        "memory_temperature_c", "throttle_ns.power", "throttle_ns.sync", "throttle_ns.sw_thermal",
        "throttle_ns.hw_thermal", "throttle_ns.brake", "c2c_link_count",
    },
    "nvmlDeviceGetCurrentClocksEventReasons": {"throttle_bits"},
    "nvmlDeviceGetTotalEnergyConsumption": {"energy_mj"},
    "nvmlDeviceGetPcieReplayCounter": {"pcie_replay_count"},
    "nvmlDeviceGetUtilizationRates": {"utilisation_percent", "memory_utilisation_percent"},
    "nvmlDeviceGetTotalEccErrors": {
        "ecc_corrected", "ecc_uncorrected", "ecc_corrected_total", "ecc_uncorrected_total",
    },
    "nvmlDeviceGetRemappedRows": {
        "remapped_rows_corrected", "remapped_rows_uncorrected", "remapping_pending",
        "remapping_failed",
    },
    "nvmlDeviceGetRetiredPages_v2": {"retired_pages"},
    "nvmlDeviceGetRetiredPagesPendingStatus": {"retirement_pending"},
    "nvmlDeviceGetNvLinkErrorCounter": {"nvlink_errors"},
    "nvmlDeviceGetComputeRunningProcesses_v3": {"compute"},
    "nvmlDeviceGetMPSComputeRunningProcesses_v3": {"mps"},
    "nvmlDeviceGetGraphicsRunningProcesses_v3": {"graphics"},
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": set(),  # not a slice
    "nvmlDeviceGetNvLinkState": {"nvlink_active", "nvlink_errors"},
    "nvmlDeviceGetP2PStatus": set(),  # of a pair: test_peers.py
    "nvmlDeviceGetNvLinkRemotePciInfo": set(),
    "nvmlDeviceGetPciInfo": set(),  # the older ways are not needed on this device
    "nvmlDeviceGetRetiredPages": set(),
    "nvmlDeviceGetTemperature": set(),
    "nvmlDeviceGetCurrentClocksThrottleReasons": set(),
    "nvmlDeviceGetComputeRunningProcesses": set(),
    "nvmlDeviceGetMPSComputeRunningProcesses": set(),
    "nvmlDeviceGetGraphicsRunningProcesses": set(),
}  # fmt: skip
TEXTS = ("Name", "UUID", "VbiosVersion", "DriverVersion")
STRANGE_ANSWERS = [
    pytest.param(name, answer, id=f"{name}-{label}")
    for name in GETTERS
    if FIELDS_OF[name]
    for label, answer in {
        "none": None, "text": "twelve", "object": object(), "list": [], "negative": -7,
    }.items()
    if not (label == "text" and name.endswith(TEXTS))
    if not (label == "list" and ("Processes" in name or "Pages_" in name))
]  # fmt: skip


def opened(module: Any) -> Nvml:
    nvml = open_nvml(module)
    assert isinstance(nvml, Nvml)
    return nvml


def only_device(module: Any) -> NvmlDevice:
    (device,) = opened(module).devices()
    return device


def everything(device: NvmlDevice) -> tuple[Identity, DeviceLimits, Snapshot, ProcessList]:
    return (
        device.identity(),
        device.limits(),
        device.snapshot(health=True),
        device.processes(own_pids=frozenset(), sees_host_pids=True),
    )


def all_missing(device: NvmlDevice) -> dict[str, str]:
    """Return why fields are absent; what health takes from a snapshot has other names there."""
    missing: dict[str, str] = {}
    for part in everything(device):
        missing |= part.missing
    renamed = ("pcie_replays", "throttle_reasons", "other_processes")
    counters = {k: v for k, v in device.health().missing.items() if k not in renamed}
    return missing | counters


# The interface


def test_every_function_named_in_the_code_exists_in_pynvml() -> None:
    assert [name for name in CALLS if not callable(getattr(pynvml, name, None))] == []


def test_every_getter_is_covered_below() -> None:
    assert sorted(FIELDS_OF) == GETTERS


def test_nothing_but_getters_is_called() -> None:
    verbs = {name.removeprefix("nvmlDevice").removeprefix("nvmlSystem")[:3] for name in GETTERS}
    assert verbs == {"Get"}


def test_numbers_of_the_interface_are_those_of_pynvml() -> None:
    assert (subject.CLOCK_SM, subject.CLOCK_MEMORY) == (
        pynvml.NVML_CLOCK_SM,
        pynvml.NVML_CLOCK_MEM,
    )
    assert subject.TEMPERATURE_GPU == pynvml.NVML_TEMPERATURE_GPU
    assert subject.THRESHOLD_SLOWDOWN == pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
    assert pynvml.nvmlMemory_v2 == subject.MEMORY_INFO_V2
    assert subject.FIELD_MEMORY_TEMPERATURE == pynvml.NVML_FI_DEV_MEMORY_TEMP
    assert nvml_links.FIELD_NVLINK_COUNT == pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT
    assert nvml_links.FIELD_NVLINK_SPEED == pynvml.NVML_FI_DEV_NVLINK_GET_SPEED
    assert (nvml_health.ECC_CORRECTED, nvml_health.ECC_UNCORRECTED) == (
        pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
        pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
    )
    assert (nvml_health.ECC_VOLATILE, nvml_health.ECC_AGGREGATE) == (
        pynvml.NVML_VOLATILE_ECC,
        pynvml.NVML_AGGREGATE_ECC,
    )
    assert (nvml_health.RETIRED_FOR_CORRECTED, nvml_health.RETIRED_FOR_UNCORRECTED) == (
        pynvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
        pynvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    )
    assert nvml_health.THRESHOLD_SLOWDOWN == pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
    assert nvml_health.NVLINK_ERROR_COUNTERS == (
        pynvml.NVML_NVLINK_ERROR_DL_REPLAY,
        pynvml.NVML_NVLINK_ERROR_DL_RECOVERY,
        pynvml.NVML_NVLINK_ERROR_DL_CRC_FLIT,
        pynvml.NVML_NVLINK_ERROR_DL_CRC_DATA,
    )
    assert nvml_links.P2P_BY_NVLINK == pynvml.NVML_P2P_CAPS_INDEX_NVLINK
    assert (nvml_links.P2P_OK, nvml_links.P2P_UNKNOWN) == (
        pynvml.NVML_P2P_STATUS_OK,
        pynvml.NVML_P2P_STATUS_UNKNOWN,
    )
    assert {name: numbers[0] for name, numbers in subject.THROTTLE_FIELDS.items()} == {
        "power": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP,
        "sync": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST,
        "sw_thermal": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN,
        "hw_thermal": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN,
        "brake": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN,
        "thermal": pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL,
    }


def test_value_members_are_in_the_order_of_the_value_types() -> None:
    types = {
        "dVal": pynvml.NVML_VALUE_TYPE_DOUBLE,
        "uiVal": pynvml.NVML_VALUE_TYPE_UNSIGNED_INT,
        "ulVal": pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG,
        "ullVal": pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
        "sllVal": pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG,
        "siVal": pynvml.NVML_VALUE_TYPE_SIGNED_INT,
        "usVal": pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT,
    }
    assert {name: number for number, name in enumerate(nvml_readers.VALUE_MEMBERS)} == types
    assert [name for name, _ in pynvml.c_nvmlValue_t._fields_] == list(nvml_readers.VALUE_MEMBERS)


def test_the_double_says_of_each_answer_where_its_value_is_from(fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200()
    played = {name[0] if isinstance(name, tuple) else name for name in gpu.answers}
    assert played | set(gpu.fields) == set(fake_nvml.ORIGIN)
    assert set(fake_nvml.ORIGIN.values()) == {"documentation", "invented"}, "none was recorded yet"


def test_throttle_bits_are_those_of_pynvml() -> None:
    assert {name: bit for bit, name in nvml_facts.THROTTLE_NAMES.items()} == {
        "idle": pynvml.nvmlClocksEventReasonGpuIdle,
        "application_clocks": pynvml.nvmlClocksEventReasonApplicationsClocksSetting,
        "sw_power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
        "hw_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
        "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
        "sw_thermal": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
        "hw_thermal": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
        "power_brake": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
        "display_clock": pynvml.nvmlClocksEventReasonDisplayClockSetting,
        "board_limit": pynvml.nvmlClocksThrottleReasonBoardLimit,
        "reliability": pynvml.nvmlClocksThrottleReasonReliability,
    }


@pytest.mark.parametrize(
    ("code", "constant"),
    [
        ("uninitialized", "NVML_ERROR_UNINITIALIZED"),
        ("not-supported", "NVML_ERROR_NOT_SUPPORTED"),
        ("no-permission", "NVML_ERROR_NO_PERMISSION"),
        ("driver-not-loaded", "NVML_ERROR_DRIVER_NOT_LOADED"),
        ("library-not-found", "NVML_ERROR_LIBRARY_NOT_FOUND"),
        ("function-not-found", "NVML_ERROR_FUNCTION_NOT_FOUND"),
        ("gpu-is-lost", "NVML_ERROR_GPU_IS_LOST"),
        ("reset-required", "NVML_ERROR_RESET_REQUIRED"),
        ("version-mismatch", "NVML_ERROR_LIB_RM_VERSION_MISMATCH"),
        ("gpu-not-found", "NVML_ERROR_GPU_NOT_FOUND"),
    ],
)
def test_error_numbers_are_those_of_pynvml(code: str, constant: str) -> None:
    assert nvml_interview.ERROR_CODES[getattr(pynvml, constant)] == code


def test_the_module_imports_neither_pynvml_nor_psutil() -> None:
    script = (
        "import sys, roofprobe.probes.nvml, roofprobe.probes.telemetry;"
        "print(sorted({'pynvml', 'psutil', 'torch', 'pydantic'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stdout.strip() == "[]"


# Values


def test_identity_of_an_h200(fake_nvml: ModuleType) -> None:
    assert only_device(fake_nvml.FakeNvml(fake_nvml.h200())).identity() == Identity(
        name="NVIDIA H200",
        uuid="GPU-00000000-1111-2222-3333-444444444440",
        pci_bus_id="00000000:1B:00.0",
        pci_device_id="10de:2335",
        pci_subsystem_id="10de:18be",
        vbios="96.00.A5.00.01",
        driver_version="580.159.03",
        cuda_driver_version="13.0",
    )


def test_limits_of_an_h200(fake_nvml: ModuleType) -> None:
    assert only_device(fake_nvml.FakeNvml(fake_nvml.h200())).limits() == DeviceLimits(
        power_limit_w=700.0,
        requested_power_limit_w=700.0,
        default_power_limit_w=700.0,
        min_power_limit_w=200.0,
        max_power_limit_w=700.0,
        max_sm_clock_mhz=1980.0,
        max_mem_clock_mhz=3201.0,
        memory_bus_bits=6144,
        memory_total_bytes=141 << 30,
        memory_reserved_bytes=1 << 30,
        memory_used_bytes=1 << 29,
        memory_free_bytes=(141 << 30) - (1 << 29),
        ecc_enabled=True,
        ecc_pending=True,
        mig_enabled=False,
        mig_pending=False,
        compute_mode="default",
        persistence_mode=True,
        pcie_generation=5,
        pcie_generation_max=5,
        pcie_width=16,
        pcie_width_max=16,
        pcie_generation_gpu_max=5,
        c2c_link_count=0,
        virtualization="pass-through",
        slowdown_temperature_c=87.0,
    )


def test_snapshot_of_an_h200(fake_nvml: ModuleType) -> None:
    snapshot = only_device(fake_nvml.FakeNvml(fake_nvml.h200())).snapshot(health=True)
    assert snapshot == Snapshot(
        sm_clock_mhz=345.0,
        mem_clock_mhz=3201.0,
        power_w=76.5,
        temperature_c=31.0,
        memory_temperature_c=38.0,
        pcie_generation=5,
        pcie_width=16,
        throttle_bits=1,
        energy_mj=9_000_000,
        throttle_ns={
            "power": 5_000_000_000,
            "sync": 0,
            "sw_thermal": 3_000,
            "hw_thermal": 4_000,
            "brake": 0,
        },
        pcie_replay_count=0,
        utilisation_percent=0.0,
        memory_utilisation_percent=0.0,
        memory_used_bytes=1 << 29,
    )
    assert snapshot.throttle_reasons == ("idle",)
    assert snapshot.lost is None


def test_health_is_asked_only_when_wanted(fake_nvml: ModuleType) -> None:
    module = fake_nvml.FakeNvml(fake_nvml.h200())
    snapshot = only_device(module).snapshot()
    assert snapshot.missing == {
        "pcie_replay_count": "not-asked",
        "utilisation_percent": "not-asked",
        "memory_utilisation_percent": "not-asked",
        "memory_used_bytes": "not-asked",
    }
    assert "nvmlDeviceGetUtilizationRates" not in module.calls


def test_a_board_that_lacks_features_says_so_and_keeps_the_rest(fake_nvml: ModuleType) -> None:
    device = only_device(fake_nvml.FakeNvml(fake_nvml.geforce()))
    limits, snapshot = device.limits(), device.snapshot(health=True)
    assert limits.ecc_enabled is None
    assert limits.mig_enabled is None
    assert limits.max_mem_clock_mhz == 10501.0
    assert limits.missing == {
        "ecc_enabled": "not-supported (nvmlDeviceGetEccMode)",
        "ecc_pending": "not-supported (nvmlDeviceGetEccMode)",
        "mig_enabled": "not-supported (nvmlDeviceGetMigMode)",
        "mig_pending": "not-supported (nvmlDeviceGetMigMode)",
        "c2c_link_count": "not-supported (nvmlDeviceGetFieldValues[170])",
    }
    assert snapshot.memory_temperature_c is None
    assert snapshot.throttle_ns == {"power": 1, "sync": 3, "thermal": 2}
    assert snapshot.missing == {
        "memory_temperature_c": "not-supported (nvmlDeviceGetFieldValues[82])",
        "throttle_ns.sw_thermal": "not-supported (nvmlDeviceGetFieldValues[269])",
        "throttle_ns.hw_thermal": "not-supported (nvmlDeviceGetFieldValues[270])",
        "throttle_ns.brake": "not-supported (nvmlDeviceGetFieldValues[271])",
    }


def test_throttle_names_keep_unknown_bits() -> None:
    assert throttle_names(0) == ()
    assert throttle_names(0x4 | 0x20 | 0x80) == ("sw_power_cap", "sw_thermal", "power_brake")
    assert throttle_names(0x1000 | 0x1) == ("idle", "bit_0x1000")


# One getter after another fails


@pytest.mark.parametrize("name", GETTERS)
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (pynvml.NVML_ERROR_NOT_SUPPORTED, "not-supported"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no-permission"),
        (pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, "function-not-found"),
        (pynvml.NVML_ERROR_GPU_IS_LOST, "gpu-is-lost"),
        (pynvml.NVML_ERROR_UNINITIALIZED, "uninitialized"),
        (pynvml.NVML_ERROR_UNKNOWN, "nvml-error-999"),
        (TypeError("takes 1 positional argument but 2 were given"), "binding-too-old"),
        (pynvml.NVMLLibraryMismatchError("versions differ"), "function-not-found"),
        (OSError("broken library"), "failed-OSError"),
    ],
    ids=[
        "not-supported",
        "no-permission",
        "function-not-found",
        "lost",
        "uninitialized",
        "unknown",
        "old-binding",
        "library-mismatch",
        "broken-library",
    ],
)
def test_a_failing_getter_costs_its_own_fields_only(
    fake_nvml: ModuleType, name: str, fault: Any, code: str
) -> None:
    module = fake_nvml.FakeNvml(fake_nvml.h200())
    module.refuse(name, fault)
    missing = all_missing(only_device(module))
    assert set(missing) == FIELDS_OF[name]
    assert {reason_code(why) for why in missing.values()} <= {code}
    assert {why.partition("(")[2] for why in missing.values()} <= {f"{name})"}


@pytest.mark.parametrize("name", GETTERS)
def test_a_getter_that_the_binding_lacks_costs_its_own_fields_only(
    fake_nvml: ModuleType, name: str
) -> None:
    module = fake_nvml.FakeNvml(fake_nvml.h200())
    module.missing_functions = {name}
    missing = all_missing(only_device(module))
    assert set(missing) == FIELDS_OF[name]
    assert {reason_code(why) for why in missing.values()} <= {"binding-too-old"}


@pytest.mark.parametrize(("name", "answer"), STRANGE_ANSWERS)
def test_an_answer_of_another_type_is_absent_never_zero(
    fake_nvml: ModuleType, name: str, answer: Any
) -> None:
    module = fake_nvml.FakeNvml(fake_nvml.h200())
    module.faults[name] = answer
    missing = all_missing(only_device(module))
    assert set(missing) == FIELDS_OF[name]
    codes = {reason_code(why) for why in missing.values()}
    assert codes <= {"unreadable", "not-told", "invalid-argument"}


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("nvmlDeviceGetEnforcedPowerLimit", "power_limit_w"),
        ("nvmlDeviceGetPowerManagementDefaultLimit", "default_power_limit_w"),
        ("nvmlDeviceGetMemoryBusWidth", "memory_bus_bits"),
        ("nvmlDeviceGetCurrPcieLinkWidth", "pcie_width"),
    ],
)
@pytest.mark.parametrize("nothing", [0, 0xFFFFFFFF])
def test_a_value_that_stands_for_no_value_is_absent(
    fake_nvml: ModuleType, name: str, field: str, nothing: int
) -> None:
    limits = only_device(fake_nvml.FakeNvml(fake_nvml.h200(**{name: nothing}))).limits()
    assert getattr(limits, field) is None
    assert limits.missing == {field: f"not-told ({name})"}


def test_a_lost_device_answers_nothing_and_says_lost(fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200()
    device = only_device(fake_nvml.FakeNvml(gpu))
    gpu.lost_after = 0
    snapshot = device.snapshot(health=True)
    values = {f.name: getattr(snapshot, f.name) for f in fields(Snapshot) if f.name != "missing"}
    assert {value for name, value in values.items() if name != "throttle_ns"} == {None}
    assert snapshot.throttle_ns == {}
    assert snapshot.lost is not None
    assert reason_code(snapshot.lost) == "gpu-is-lost"


# Older drivers and bindings


def test_older_calls_stand_in_for_newer_ones(fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200()
    for newer, older in {
        "nvmlDeviceGetPciInfo_v3": "nvmlDeviceGetPciInfo",
        ("nvmlDeviceGetTemperatureV", 0): ("nvmlDeviceGetTemperature", 0),
        "nvmlDeviceGetCurrentClocksEventReasons": "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlDeviceGetComputeRunningProcesses_v3": "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3": "nvmlDeviceGetMPSComputeRunningProcesses",
        "nvmlDeviceGetGraphicsRunningProcesses_v3": "nvmlDeviceGetGraphicsRunningProcesses",
    }.items():
        gpu.answers[older] = gpu.answers.pop(newer)
    module = fake_nvml.FakeNvml(gpu)
    assert all_missing(only_device(module)) == {}


def test_the_older_memory_question_tells_all_but_what_is_reserved(fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200()
    del gpu.answers[("nvmlDeviceGetMemoryInfo", pynvml.nvmlMemory_v2)]
    gpu.answers["nvmlDeviceGetMemoryInfo"] = iter(
        [fake_nvml.Refusal(13), pynvml.c_nvmlMemory_t(total=100, free=60, used=40)]
    )
    limits = only_device(fake_nvml.FakeNvml(gpu)).limits()
    assert (limits.memory_total_bytes, limits.memory_used_bytes) == (100, 40)
    assert limits.missing == {"memory_reserved_bytes": "unreadable (nvmlDeviceGetMemoryInfo)"}


def test_bytes_and_str_give_the_same(fake_nvml: ModuleType) -> None:
    as_str = opened(fake_nvml.FakeNvml(fake_nvml.h200()))
    as_bytes = opened(fake_nvml.FakeNvml(fake_nvml.h200(), as_bytes=True))
    assert as_bytes.devices()[0].identity() == as_str.devices()[0].identity()
    assert as_bytes.driver_version() == as_str.driver_version() == "580.159.03"
    found = as_bytes.device_by_uuid("00000000-1111-2222-3333-444444444440")
    assert isinstance(found, NvmlDevice)


def test_text_is_freed_of_padding(fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200(nvmlDeviceGetName=b"NVIDIA H200\0\0", nvmlDeviceGetVbiosVersion=" \0")
    identity = only_device(fake_nvml.FakeNvml(gpu)).identity()
    assert identity.name == "NVIDIA H200"
    assert identity.missing == {"vbios": "not-told (nvmlDeviceGetVbiosVersion)"}


# Throttle counters


def test_counters_are_read_under_the_numbers_of_the_580_branch_too(fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200()
    for new, old in ((269, 251), (270, 252), (271, 253)):
        gpu.fields[old] = gpu.fields.pop(new)
    snapshot = only_device(fake_nvml.FakeNvml(gpu)).snapshot()
    assert snapshot.throttle_ns == {
        "power": 5_000_000_000, "sync": 0, "sw_thermal": 3_000, "hw_thermal": 4_000, "brake": 0,
    }  # fmt: skip


def test_a_small_setting_under_a_counters_number_is_not_taken_for_it(
    fake_nvml: ModuleType,
) -> None:
    gpu = fake_nvml.h200()
    gpu.fields[251] = (fake_nvml.UINT, 1)  # power smoothing is on
    assert only_device(fake_nvml.FakeNvml(gpu)).snapshot().throttle_ns["sw_thermal"] == 3_000
    gpu.fields[269] = (fake_nvml.UINT, 5)  # and here a preset's number
    del gpu.fields[251]
    snapshot = only_device(fake_nvml.FakeNvml(gpu)).snapshot()
    assert "sw_thermal" not in snapshot.throttle_ns
    assert snapshot.missing["throttle_ns.sw_thermal"] == "not-told (nvmlDeviceGetFieldValues[269])"


def test_two_numbers_that_both_answer_are_no_answer(fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200()
    gpu.fields[251] = (fake_nvml.ULONGLONG, 9)
    snapshot = only_device(fake_nvml.FakeNvml(gpu)).snapshot()
    assert snapshot.missing["throttle_ns.sw_thermal"] == "ambiguous (two field numbers answer)"
    assert "sw_thermal" not in snapshot.throttle_ns


def test_the_return_code_of_each_value_counts(fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200()
    gpu.fields[74] = fake_nvml.Refusal(pynvml.NVML_ERROR_NO_PERMISSION)
    snapshot = only_device(fake_nvml.FakeNvml(gpu)).snapshot()
    assert "power" not in snapshot.throttle_ns
    assert snapshot.missing["throttle_ns.power"] == "no-permission (nvmlDeviceGetFieldValues[74])"
    assert snapshot.throttle_ns["hw_thermal"] == 4_000


def test_a_driver_that_refuses_the_list_is_asked_number_by_number(fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200()
    play = gpu._field_values

    def refuse_lists(numbers: list[int]) -> Any:
        if len(numbers) > 1 or numbers[0] > 250:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return play(numbers)

    gpu._field_values = refuse_lists
    snapshot = only_device(fake_nvml.FakeNvml(gpu)).snapshot()
    assert snapshot.memory_temperature_c == 38.0
    assert snapshot.throttle_ns == {"power": 5_000_000_000, "sync": 0, "thermal": 7_000}
    assert snapshot.missing["throttle_ns.brake"] == (
        "invalid-argument (nvmlDeviceGetFieldValues[271])"
    )


# Which device


@pytest.mark.parametrize(
    "uuid",
    [
        "00000000-1111-2222-3333-444444444441",
        "GPU-00000000-1111-2222-3333-444444444441",
        " GPU-00000000-1111-2222-3333-444444444441 ",
    ],
)
def test_a_device_is_found_by_its_uuid_whatever_the_order(fake_nvml: ModuleType, uuid: str) -> None:
    nvml = opened(fake_nvml.FakeNvml(fake_nvml.h200(0), fake_nvml.h200(1)))
    device = nvml.device_by_uuid(uuid)
    assert isinstance(device, NvmlDevice)
    assert device.identity().pci_bus_id == "00000000:1C:00.0"


@pytest.mark.parametrize("prefix", ["", "MIG-", "GPU-"])
def test_a_mig_slice_is_found_and_tells_chip_wide_facts_of_its_chip(
    fake_nvml: ModuleType, prefix: str
) -> None:
    chip = fake_nvml.h200()
    nvml = opened(fake_nvml.FakeNvml(chip, fake_nvml.mig_slice(chip)))
    device = nvml.device_by_uuid(f"{prefix}55555555-6666-7777-8888-999999999999")
    assert isinstance(device, NvmlDevice)
    assert device.is_mig_slice
    identity, limits, snapshot = device.identity(), device.limits(), device.snapshot()
    assert identity.name == "NVIDIA H200 MIG 1g.18gb"
    assert identity.pci_bus_id == "00000000:1B:00.0"
    assert limits.memory_total_bytes == 18 << 30
    assert limits.power_limit_w == 700.0
    assert limits.memory_bus_bits is None
    assert reason_code(limits.missing["memory_bus_bits"]) == "mig-slice"
    assert snapshot.sm_clock_mhz == 345.0


def test_the_pci_bus_id_is_the_second_way(fake_nvml: ModuleType) -> None:
    nvml = opened(fake_nvml.FakeNvml(fake_nvml.h200(0), fake_nvml.h200(1)))
    device = nvml.device_by_uuid("11111111-dead", "00000000:1c:00.0")
    assert isinstance(device, NvmlDevice)
    assert device.identity().uuid == "GPU-00000000-1111-2222-3333-444444444441"
    assert isinstance(nvml.device_by_uuid(None, "00000000:1b:00.0"), NvmlDevice)


@pytest.mark.parametrize("uuid", [None, "", "11111111-dead"])
def test_an_unknown_device_is_a_reason(fake_nvml: ModuleType, uuid: str | None) -> None:
    missing = opened(fake_nvml.FakeNvml(fake_nvml.h200())).device_by_uuid(uuid)
    assert isinstance(missing, NvmlUnavailable)
    assert missing.code == "not-found"
    assert missing.sentence == "NVML knows no such device."


def test_a_device_that_cannot_be_opened_is_named_and_the_others_stay(
    fake_nvml: ModuleType,
) -> None:
    module = fake_nvml.FakeNvml(fake_nvml.h200(0), fake_nvml.Refusal(15), fake_nvml.h200(2))
    nvml = opened(module)
    assert [device.identity().pci_bus_id for device in nvml.devices()] == [
        "00000000:1B:00.0", "00000000:1D:00.0",
    ]  # fmt: skip
    assert nvml.unreachable() == {"1": "gpu-is-lost (nvmlDeviceGetHandleByIndex)"}


@pytest.mark.parametrize("fault", [4, None])
def test_a_count_that_fails_is_a_reason(fake_nvml: ModuleType, fault: int | None) -> None:
    module = fake_nvml.FakeNvml(fake_nvml.h200())
    module.refuse("nvmlDeviceGetCount", fault)
    nvml = opened(module)
    assert nvml.devices() == ()
    code = "unreadable" if fault is None else "no-permission"
    assert nvml.unreachable() == {"count": f"{code} (nvmlDeviceGetCount)"}


# Opening


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (12, "library-not-found"),
        (9, "driver-not-loaded"),
        (4, "no-permission"),
        (18, "version-mismatch"),
        (15, "gpu-is-lost"),
        (999, "nvml-error-999"),
        (AttributeError("nvmlInit"), "binding-too-old"),
        (OSError("libnvidia-ml.so.1"), "failed-OSError"),
    ],
)
def test_why_nvml_cannot_be_opened(fake_nvml: ModuleType, fault: Any, code: str) -> None:
    module = fake_nvml.FakeNvml()
    module.refuse("nvmlInit", fault)
    closed = open_nvml(module)
    assert isinstance(closed, NvmlUnavailable)
    assert closed.code == code
    assert closed.sentence.endswith(".")
    assert closed.remedy


def test_a_host_without_the_library_is_told_apart_from_one_without_the_binding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    closed = open_nvml()
    assert closed == NvmlUnavailable(
        "binding-missing",
        "The Python binding of NVML is not installed, so clocks, power and limits stay unknown.",
        "pip install nvidia-ml-py",
    )


def test_closing_tells_the_library(fake_nvml: ModuleType) -> None:
    module = fake_nvml.FakeNvml()
    opened(module).close()
    assert module.calls == ["nvmlInit", "nvmlShutdown"]


def test_versions_of_the_driver(fake_nvml: ModuleType) -> None:
    nvml = opened(fake_nvml.FakeNvml(nvmlSystemGetCudaDriverVersion_v2=12080))
    assert (nvml.driver_version(), nvml.cuda_driver_version()) == ("580.159.03", "12.8")
    refused = opened(
        fake_nvml.FakeNvml(
            nvmlSystemGetCudaDriverVersion_v2=fake_nvml.Refusal(3),
            nvmlSystemGetDriverVersion=fake_nvml.Refusal(3),
        )
    )
    assert (refused.driver_version(), refused.cuda_driver_version()) == (None, None)


# Processes


def _busy(fake_nvml: ModuleType) -> FakeGpu:
    gpu: FakeGpu = fake_nvml.h200(
        nvmlDeviceGetComputeRunningProcesses_v3=[
            fake_nvml.process(os.getpid(), 1 << 20),
            fake_nvml.process(4_000_001, 3 << 30),
            fake_nvml.process(4_000_002, 0xFFFFFFFFFFFFFFFF),
        ],
        nvmlDeviceGetMPSComputeRunningProcesses_v3=[fake_nvml.process(4_000_003)],
        nvmlDeviceGetGraphicsRunningProcesses_v3=[fake_nvml.process(4_000_001, 3 << 30)],
    )
    return gpu


def test_processes_of_others_are_listed_once_and_ours_are_not(fake_nvml: ModuleType) -> None:
    device = only_device(fake_nvml.FakeNvml(_busy(fake_nvml)))
    assert device.processes(sees_host_pids=True) == ProcessList(
        others=(
            GpuProcess(4_000_001, "compute", None, 3 << 30),
            GpuProcess(4_000_002, "compute", None, None),
            GpuProcess(4_000_003, "mps", None, None),
        ),
        conclusive=True,
    )


def test_a_process_has_its_name_only_where_process_ids_are_the_hosts(
    fake_nvml: ModuleType,
) -> None:
    module: FakeNvml = fake_nvml.FakeNvml(_busy(fake_nvml))
    device = only_device(module)
    ours = os.getpid()
    named = device.processes(own_pids=frozenset(), sees_host_pids=True).others[0]
    assert (named.pid, bool(named.name)) == (ours, True)
    assert device.processes(own_pids=frozenset(), sees_host_pids=False).others[0].name is None


def test_an_empty_list_in_a_container_is_not_conclusive(fake_nvml: ModuleType) -> None:
    device = only_device(fake_nvml.FakeNvml(fake_nvml.h200()))
    inside = device.processes(sees_host_pids=False)
    assert inside.others == ()
    assert not inside.conclusive
    assert inside.note is not None
    assert "container" in inside.note
    assert device.processes(sees_host_pids=True).conclusive


def test_a_list_that_is_refused_is_not_conclusive(fake_nvml: ModuleType) -> None:
    module = fake_nvml.FakeNvml(fake_nvml.h200())
    module.refuse("nvmlDeviceGetComputeRunningProcesses_v3", 4)
    listed = only_device(module).processes(sees_host_pids=True)
    assert not listed.conclusive
    assert listed.missing == {"compute": "no-permission (nvmlDeviceGetComputeRunningProcesses_v3)"}


def test_children_count_as_our_own(fake_nvml: ModuleType) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        gpu = fake_nvml.h200(
            nvmlDeviceGetComputeRunningProcesses_v3=[fake_nvml.process(child.pid, 1)]
        )
        assert only_device(fake_nvml.FakeNvml(gpu)).processes(sees_host_pids=True).others == ()
    finally:
        child.communicate(b"\n")


def test_values_turn_into_plain_data(fake_nvml: ModuleType) -> None:
    for part in everything(only_device(fake_nvml.FakeNvml(fake_nvml.geforce()))):
        assert asdict(part)["missing"] == part.missing
