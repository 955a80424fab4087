"""Hosts in order, what the doctor promises of any finding, and its exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from roofprobe.probes.doctor import examine, exit_code
from roofprobe.probes.doctor_scene import Finding

if TYPE_CHECKING:
    from tests.support.doctor_machine import Machine

CHOICE = "changes the device: your choice, or your provider's"


def statuses(found: dict[str, Finding]) -> dict[str, str]:
    return {code: finding.status for code, finding in found.items()}


def test_a_healthy_host_without_a_gpu(machine: Machine) -> None:
    found = machine.examine()
    assert statuses(found) == dict.fromkeys(
        ["python", "system", "torch", "gpus", "triton", "cpus", "load", "clock", "memory", "disk"],
        "ok",
    )
    assert list(found) == [
        "python", "system", "torch", "gpus", "triton", "cpus", "load", "clock", "memory", "disk",
    ]  # fmt: skip
    assert found["torch"].figure == "2.13.0+cpu (CPU only)"
    assert found["gpus"] == machine.gpus(
        "ok",
        "none (the CPU will be measured)",
        "No GPU was found, so the CPU is what will be measured.",
        "If there should be one in this container: docker run --gpus all ...",
    )
    assert exit_code(found.values()) == 0


def test_a_healthy_host_with_an_h200(machine: Machine) -> None:
    module = machine.plug_in(machine.fake.h200())
    found = machine.examine()
    assert set(statuses(found).values()) == {"ok"}
    assert {code: finding.figure for code, finding in found.items()} == {
        "python": "3.12.3",
        "system": "Linux",
        "torch": "2.11.0+cu130 (CUDA 13.0)",
        "gpus": "1 of 1",
        "driver": "580.159.03 (CUDA 13.0)",
        "nvml": "1 device",
        "triton": "3.6.0",
        "compiler": "/usr/bin/cc",
        "headers": str(machine.host.python_headers / "Python.h"),
        "processes": "none",
        "device-memory": "140.5 of 141.0 GiB free",
        "power": "700 W",
        "mig": "off",
        "ecc": "on",
        "cpus": "16 CPUs",
        "load": "0.5",
        "clock": "tsc, 1 ns",
        "memory": "64.0 GiB free",
        "disk": "80.0 GB free",
    }
    assert module.calls[-1] == "nvmlShutdown"


def test_features_that_a_board_lacks_are_no_fault(machine: Machine) -> None:
    card = machine.fake.geforce()
    machine.plug_in(card, torch_sees=(card.uuid.removeprefix("GPU-"),))
    found = machine.examine()
    assert (found["mig"].status, found["mig"].figure) == ("ok", "not offered")
    assert (found["ecc"].status, found["ecc"].figure) == ("ok", "not offered")


def test_a_check_that_breaks_hides_no_other(machine: Machine) -> None:
    def fail() -> int:
        raise ValueError("odd")

    machine.change(available_memory_bytes=fail)
    found = machine.examine()
    assert found["room"] == Finding(
        "room", "Room", "unknown", "?", "This check broke: ValueError: odd.", "Please report it."
    )
    assert found["clock"].status == "ok"
    assert exit_code(found.values()) == 3


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ((), 0),
        (("ok",), 0),
        (("ok", "warn"), 0),
        (("ok", "warn", "unknown"), 3),
        (("fail", "unknown"), 1),
        (("fail", "ok"), 1),
    ],
)
def test_exit_code(found: tuple[Any, ...], code: int) -> None:
    assert exit_code(Finding("c", "t", status, "f", "s") for status in found) == code


def test_no_remedy_changes_a_device_without_saying_that_it_is_a_choice(
    machine: Machine,
) -> None:
    machine.plug_in(
        machine.fake.h200(
            nvmlDeviceGetEnforcedPowerLimit=300_000,
            nvmlDeviceGetMigMode=[1, 1],
            nvmlDeviceGetEccMode=[0, 0],
            nvmlDeviceGetComputeMode=2,
        )
    )
    changing = [
        f.remedy for f in machine.examine().values() if "sudo nvidia-smi" in (f.remedy or "")
    ]
    assert len(changing) == 4
    assert all(remedy is not None and remedy.endswith(CHOICE) for remedy in changing)


def test_every_problem_has_a_sentence_and_a_remedy_or_is_a_fact(machine: Machine) -> None:
    facts = {"virtualization", "mig", "system"}
    machine.plug_in(machine.fake.h200(nvmlDeviceGetEccMode=[0, 0]))
    machine.change(system="FreeBSD", which=lambda name: None)
    for finding in machine.examine().values():
        assert finding.sentence.endswith(".")
        assert finding.status == "ok" or finding.remedy or finding.code in facts


def test_this_very_machine_can_be_examined(tmp_path: Path) -> None:
    findings = examine(out=tmp_path)
    assert {"python", "torch", "gpus", "triton", "cpus", "clock", "disk"} <= {
        finding.code for finding in findings
    }
    assert not [finding for finding in findings if "This check broke" in finding.sentence]
