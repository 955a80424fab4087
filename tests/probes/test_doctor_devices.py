"""Each GPU's users, memory, limits and modes; findings are exact."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from roofprobe.probes.doctor_scene import GIB, Finding
from roofprobe.probes.nvml import open_nvml

if TYPE_CHECKING:
    from tests.support.doctor_machine import Machine

CHOICE = "changes the device: your choice, or your provider's"


def finding_of(machine: Machine, code: str, **answers: Any) -> Finding | None:
    machine.plug_in(machine.fake.h200(**answers))
    return machine.examine().get(code)


def test_a_power_limit_that_is_not_told(machine: Machine) -> None:
    refused = machine.fake.Refusal(3)
    found = finding_of(machine, "power", nvmlDeviceGetEnforcedPowerLimit=refused)
    assert found == Finding(
        "power",
        "cuda:0 power limit",
        "unknown",
        "?",
        "The driver does not tell it (not-supported (nvmlDeviceGetEnforcedPowerLimit)).",
        "nvidia-smi -q",
    )


def test_a_gpu_in_slices(machine: Machine) -> None:
    found = finding_of(machine, "mig", nvmlDeviceGetMigMode=[1, 1])
    assert found is not None
    assert (found.status, found.figure) == ("warn", "on")
    assert found.remedy == f"sudo nvidia-smi -i 00000000:1B:00.0 -mig 0  # {CHOICE}"


def test_a_slice_of_a_gpu(machine: Machine) -> None:
    chip = machine.fake.h200(nvmlDeviceGetMigMode=[1, 1])
    part = machine.fake.mig_slice(chip)
    machine.plug_in(chip, part, torch_sees=(part.uuid.removeprefix("MIG-"),))
    found = machine.examine()
    assert (found["mig"].status, found["mig"].figure) == ("warn", "slice")
    assert found["device-memory"].figure == "18.0 of 18.0 GiB free"
    assert found["gpus"].status == "ok"


@pytest.mark.parametrize(
    ("modes", "status", "figure"),
    [
        ([1, 1], "ok", "on"),
        ([0, 0], "warn", "off"),
        ([1, 0], "warn", "on, off after a reset"),
        ([0, 1], "warn", "off, on after a reset"),
    ],
)
def test_ecc(machine: Machine, modes: list[int], status: str, figure: str) -> None:
    found = finding_of(machine, "ecc", nvmlDeviceGetEccMode=modes)
    assert found is not None
    assert (found.status, found.figure) == (status, figure)


@pytest.mark.parametrize("call", ["nvmlDeviceGetEccMode", "nvmlDeviceGetMigMode"])
def test_a_mode_that_may_not_be_asked_is_unknown(machine: Machine, call: str) -> None:
    code = "ecc" if "Ecc" in call else "mig"
    found = finding_of(machine, code, **{call: machine.fake.Refusal(4)})
    assert found is not None
    assert found.status == "unknown"


def memory(machine: Machine, used: int) -> dict[Any, Any]:
    return {"nvmlDeviceGetMemoryInfo": machine.fake.memory_info(100 * GIB, used)}


def test_memory_that_is_taken(machine: Machine) -> None:
    gpu = machine.fake.h200()
    gpu.answers.pop(("nvmlDeviceGetMemoryInfo", 0x02000028))
    gpu.answers |= memory(machine, 40 * GIB)
    machine.plug_in(gpu)
    found = machine.examine()["device-memory"]
    assert (found.status, found.figure) == ("warn", "60.0 of 100.0 GiB free")


def test_other_processes(machine: Machine) -> None:
    found = finding_of(
        machine,
        "processes",
        nvmlDeviceGetComputeRunningProcesses_v3=[
            machine.fake.process(os.getpid(), GIB),
            machine.fake.process(4_000_001, GIB),
        ],
    )
    assert found == Finding(
        "processes",
        "cuda:0 other processes",
        "warn",
        "1",
        "Others use this GPU, so figures will be low and noisy: process (4000001).",
        "nvidia-smi  # wait for them, or ask their owner",
    )


@pytest.mark.parametrize(
    ("used", "busy", "status", "figure"),
    [
        (GIB, 0, "ok", "none to be seen"),
        (30 * GIB, 0, "warn", "30.0 GiB used"),
        (GIB, 97, "warn", "97% busy"),
        (30 * GIB, 97, "warn", "30.0 GiB used, 97% busy"),
    ],
)
def test_in_a_container_memory_and_use_tell_of_others(
    machine: Machine, used: int, busy: int, status: str, figure: str
) -> None:
    gpu = machine.fake.h200()
    gpu.answers.pop(("nvmlDeviceGetMemoryInfo", 0x02000028))
    gpu.answers |= memory(machine, used)
    machine.plug_in(gpu)
    gpu.answers["nvmlDeviceGetUtilizationRates"].gpu = busy
    machine.change(sees_host_pids=False)
    found = machine.examine()["processes"]
    assert (found.status, found.figure) == (status, figure)


def test_in_a_container_that_is_told_nothing_it_is_unknown(machine: Machine) -> None:
    gpu = machine.fake.h200(nvmlDeviceGetUtilizationRates=machine.fake.Refusal(3))
    gpu.answers[("nvmlDeviceGetMemoryInfo", 0x02000028)] = machine.fake.Refusal(3)
    machine.plug_in(gpu)
    machine.change(sees_host_pids=False)
    assert machine.examine()["processes"].status == "unknown"


@pytest.mark.parametrize(
    ("code", "answers", "status", "figure"),
    [
        ("compute-mode", {"nvmlDeviceGetComputeMode": 2}, "fail", "prohibited"),
        ("compute-mode", {"nvmlDeviceGetComputeMode": 3}, None, None),
        ("pcie", {"nvmlDeviceGetCurrPcieLinkWidth": 8}, "warn", "x8 of x16"),
        ("pcie", {}, None, None),
        ("virtualization", {"nvmlDeviceGetVirtualizationMode": 2}, "warn", "vgpu"),
        ("virtualization", {}, None, None),
        (
            "throttle",
            {"nvmlDeviceGetCurrentClocksEventReasons": 0x88},
            "warn",
            "hw_slowdown, power_brake",
        ),
        ("throttle", {"nvmlDeviceGetCurrentClocksEventReasons": 0x5}, None, None),
    ],
)
def test_what_is_mentioned_only_when_it_is_wrong(
    machine: Machine,
    code: str,
    answers: dict[str, Any],
    status: str | None,
    figure: str | None,
) -> None:
    found = finding_of(machine, code, **answers)
    assert (found and found.status, found and found.figure) == (status, figure)


def test_a_driver_without_a_version_is_unknown(machine: Machine) -> None:
    module = machine.plug_in(machine.fake.h200())
    module.refuse("nvmlSystemGetDriverVersion", 3)
    assert machine.examine()["driver"].status == "unknown"


def test_without_nvml_the_kernel_tells_the_driver(machine: Machine) -> None:
    machine.plug_in(machine.fake.h200())
    module = machine.fake.FakeNvml(nvmlInit=machine.fake.Refusal(4))
    machine.change(nvml=lambda: open_nvml(module))
    found = machine.examine()
    assert found["driver"].figure == "580.159.03"
    assert (found["nvml"].status, found["nvml"].figure) == ("warn", "no-permission")
