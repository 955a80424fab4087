"""GPUs that are there and why torch cannot use them; findings are exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from roofprobe.probes.doctor import examine
from roofprobe.probes.doctor_scene import Finding
from roofprobe.probes.nvml import open_nvml

if TYPE_CHECKING:
    from tests.support.doctor_machine import Machine

NEW_TORCH = "uv pip install --reinstall torch --torch-backend=auto"
CHOICE = "changes the device: your choice, or your provider's"


def blind(machine: Machine, **fields: Any) -> None:
    machine.plug_in(machine.fake.h200(), torch_sees=(), **fields)


def test_a_cpu_only_torch_on_a_gpu_host(machine: Machine) -> None:
    blind(machine)
    machine.modules["torch"] = machine.torch_double("2.13.0+cpu", cuda=None, architectures=())
    assert machine.examine()["gpus"] == machine.gpus(
        "fail",
        "0 of 1 NVIDIA",
        "This torch is built without CUDA, so it cannot use the GPU.",
        NEW_TORCH,
    )


def test_a_rocm_torch_on_an_nvidia_host(machine: Machine) -> None:
    blind(machine, cuda=None, hip="6.4")
    sentence = machine.examine()["gpus"].sentence
    assert sentence == "This torch is built for ROCm, so it cannot use the GPU."


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles"])
def test_cuda_visible_devices_hides_all(machine: Machine, value: str) -> None:
    blind(machine)
    machine.change(environ={"CUDA_VISIBLE_DEVICES": value})
    assert machine.examine()["gpus"] == machine.gpus(
        "warn",
        "0 of 1 NVIDIA",
        f"CUDA_VISIBLE_DEVICES is {value!r}, which hides every GPU from torch.",
        "unset CUDA_VISIBLE_DEVICES",
    )


def test_cuda_visible_devices_names_a_gpu_that_is_not_there(machine: Machine) -> None:
    blind(machine)
    machine.change(environ={"CUDA_VISIBLE_DEVICES": "7"})
    assert machine.examine()["gpus"] == machine.gpus(
        "fail",
        "0 of 1 NVIDIA",
        "CUDA_VISIBLE_DEVICES is '7', and torch finds no such GPU.",
        "unset CUDA_VISIBLE_DEVICES  # nvidia-smi -L lists what there is",
    )


@pytest.mark.parametrize(
    ("code", "sentence", "remedy"),
    [
        (
            9,
            "The NVIDIA kernel driver is not loaded.",
            "sudo modprobe nvidia  # then look at: sudo dmesg | grep -i nvidia",
        ),
        (
            18,
            "The NVIDIA kernel driver and its libraries are of different versions, as after an "
            "update without a restart.",
            "sudo reboot",
        ),
    ],
)
def test_a_driver_that_does_not_work(
    machine: Machine, code: int, sentence: str, remedy: str
) -> None:
    blind(machine)
    module = machine.fake.FakeNvml(nvmlInit=machine.fake.Refusal(code))
    machine.change(nvml=lambda: open_nvml(module))
    found = machine.examine()
    assert found["gpus"] == machine.gpus("fail", "0 of 1 NVIDIA", sentence, remedy)
    assert found["nvml"].status == "warn"


def test_device_files_that_this_user_may_not_open(machine: Machine) -> None:
    blind(machine)
    machine.close("dev/nvidia0")
    machine.close("dev/nvidiactl")
    assert machine.examine()["gpus"] == machine.gpus(
        "fail",
        "0 of 1 NVIDIA",
        "This user may not open /dev/nvidia0, /dev/nvidiactl.",
        "ls -l /dev/nvidia*  # then: sudo usermod -aG GROUP $USER, with the group shown there, and "
        "log in again",
    )


def test_a_container_without_the_device_files(machine: Machine) -> None:
    blind(machine)
    for node in (machine.root / "dev").iterdir():
        node.unlink()
    assert machine.examine()["gpus"] == machine.gpus(
        "fail",
        "0 of 1 NVIDIA",
        "The driver is loaded, but its device files are not in this container.",
        "docker run --gpus all ...  # on the machine itself: sudo nvidia-modprobe -c0 -u",
    )


def test_a_gpu_without_any_driver(machine: Machine) -> None:
    machine.write("sys/bus/pci/devices/0000:1b:00.0/vendor", "0x10de\n")
    machine.write("sys/bus/pci/devices/0000:1b:00.0/class", "0x030200\n")
    machine.modules["torch"] = machine.torch_double()
    found = machine.examine()
    assert found["gpus"] == machine.gpus(
        "fail",
        "0 of 1 NVIDIA",
        "The NVIDIA driver is not loaded on this host.",
        "sudo modprobe nvidia  # or install it: sudo ubuntu-drivers install",
    )
    assert found["nvml"] == Finding(
        "nvml",
        "NVML",
        "warn",
        "library-not-found",
        "The NVML library (libnvidia-ml.so.1) was not found, so clocks, power and limits stay "
        "unknown. Throttling and a lowered power limit would go unseen.",
        "Install the NVIDIA driver, or start the container with the driver in it: docker run "
        "--gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility ...",
    )
    assert "driver" not in found


def test_other_nvidia_devices_on_the_bus_are_no_gpus(machine: Machine) -> None:
    machine.write("sys/bus/pci/devices/0000:1b:00.1/vendor", "0x10de\n")
    machine.write("sys/bus/pci/devices/0000:1b:00.1/class", "0x040300\n")  # its sound device
    machine.write("sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n")
    machine.write("sys/bus/pci/devices/0000:00:02.0/class", "0x030000\n")
    assert machine.examine()["gpus"].figure == "none (the CPU will be measured)"


@pytest.mark.parametrize(
    ("driver", "torch_cuda", "too_old"),
    [(12040, "13.0", True), (12040, "12.8", False), (13000, "12.8", False), (11080, "12.1", True)],
)
def test_a_driver_older_than_torchs_cuda(
    machine: Machine, driver: int, torch_cuda: str, too_old: bool
) -> None:
    blind(machine, cuda=torch_cuda, complaint="CUDA initialization: something else")
    module = machine.fake.FakeNvml(machine.fake.h200(), nvmlSystemGetCudaDriverVersion_v2=driver)
    machine.change(nvml=lambda: open_nvml(module))
    found = machine.examine()["gpus"]
    speaks = f"{driver // 1000}.{driver % 1000 // 10}"
    expected = f"The driver speaks CUDA {speaks}, but torch is built for CUDA {torch_cuda}."
    other = "torch cannot use it: CUDA initialization: something else."
    assert found.sentence == (expected if too_old else other)
    assert found.status == "fail"


def test_torchs_own_complaint_is_shown_when_nothing_else_explains(machine: Machine) -> None:
    blind(machine, complaint="CUDA initialization: CUDA unknown error\nwith a long tail")
    assert machine.examine()["gpus"] == machine.gpus(
        "fail",
        "0 of 1 NVIDIA",
        "torch cannot use it: CUDA initialization: CUDA unknown error.",
        f"nvidia-smi  # if that works: {NEW_TORCH}",
    )


def test_a_torch_that_raises_when_asked_for_devices(machine: Machine) -> None:
    blind(machine)
    broken = machine.torch_double()

    def fail() -> bool:
        raise RuntimeError("No CUDA GPUs are available")

    broken.cuda.is_available = fail
    machine.modules["torch"] = broken
    sentence = machine.examine()["gpus"].sentence
    assert sentence == "torch cannot use it: No CUDA GPUs are available."


@pytest.mark.parametrize(
    ("architectures", "capability", "lacking"),
    [
        (("sm_80", "sm_90"), (12, 0), "sm_120"),
        (("sm_80", "sm_90", "compute_90"), (12, 0), None),
        (("sm_80",), (8, 9), None),
        (("sm_90",), (8, 0), "sm_80"),
        (("sm_90a",), (9, 0), None),
        (("sm_100a", "compute_100a"), (10, 3), "sm_103"),
        ((), (9, 0), None),
    ],
)
def test_a_torch_without_code_for_this_gpu(
    machine: Machine,
    architectures: tuple[str, ...],
    capability: tuple[int, int],
    lacking: str | None,
) -> None:
    machine.plug_in(machine.fake.h200(), architectures=architectures, capability=capability)
    found = machine.examine()["gpus"]
    if lacking is None:
        assert found.status == "ok"
    else:
        sentence = f"This torch has no code for {lacking}, so its kernels will not run."
        assert found == machine.gpus("fail", lacking, sentence, NEW_TORCH)


def test_another_accelerator_of_torch(machine: Machine) -> None:
    machine.modules["torch"] = machine.torch_double(cuda=None, accelerator="npu")
    assert machine.examine()["gpus"] == machine.gpus(
        "ok", "2 × npu", "torch can use this accelerator."
    )


def amd(machine: Machine, kind: str = "0x120000", **fields: Any) -> None:
    machine.write("sys/bus/pci/devices/0000:c1:00.0/vendor", "0x1002\n")
    machine.write("sys/bus/pci/devices/0000:c1:00.0/class", f"{kind}\n")
    machine.modules["torch"] = machine.torch_double(cuda=None, **fields)


def test_a_rocm_host_in_order(machine: Machine) -> None:
    amd(machine, hip="6.4", uuids=("1",))
    machine.write("dev/kfd")
    machine.write("dev/dri/renderD128")
    found = machine.examine()
    assert found["gpus"].figure == "1 of 1"
    assert found["torch"].figure == "2.11.0+cu130 (ROCm 6.4)"
    assert found["kfd"].status == "ok"
    assert not {"driver", "nvml", "power"} & set(found)


def test_rocm_device_files_that_this_user_may_not_open(machine: Machine) -> None:
    amd(machine, hip="6.4", complaint="HIP error")
    machine.write("dev/kfd")
    machine.write("dev/dri/renderD128")
    machine.close("dev/kfd")
    machine.close("dev/dri/renderD128")
    found = machine.examine()
    assert found["kfd"] == Finding(
        "kfd",
        "ROCm device files",
        "fail",
        "/dev/kfd, /dev/dri/renderD128",
        "This user may not open them.",
        "sudo usermod -aG render,video $USER  # then log in again",
    )
    assert found["gpus"].status == "fail"


def test_no_kfd(machine: Machine) -> None:
    amd(machine, hip="6.4")
    assert machine.examine()["kfd"].status == "fail"


def test_an_accelerator_of_amd_without_rocm_in_torch(machine: Machine) -> None:
    amd(machine, kind="0x038000")
    found = machine.examine()["gpus"]
    assert (found.status, found.figure) == ("fail", "0 of 1 AMD")
    assert found.sentence == "This torch is not built for ROCm, so it cannot use the GPU."


def test_hip_visible_devices_leaves_none(machine: Machine) -> None:
    amd(machine, hip="6.4")
    machine.change(environ={"HIP_VISIBLE_DEVICES": "5"})
    assert machine.examine()["gpus"].sentence == "HIP_VISIBLE_DEVICES=5 leaves torch no GPU."


def test_a_processor_with_graphics_of_amd_is_no_fault(machine: Machine) -> None:
    amd(machine, kind="0x030000")
    assert machine.examine()["gpus"].status == "ok"


def test_cuda_visible_devices_reorders_and_the_findings_follow_torch(machine: Machine) -> None:
    first, second = machine.fake.h200(0), machine.fake.h200(1)
    second.answers["nvmlDeviceGetEnforcedPowerLimit"] = 500_000
    machine.plug_in(first, second, torch_sees=(machine.uuids[1], machine.uuids[0]))
    machine.change(environ={"CUDA_VISIBLE_DEVICES": "1,0"})
    findings = examine(machine.host, machine.out)
    power = {f.title: (f.status, f.figure, f.remedy) for f in findings if f.code == "power"}
    assert power == {
        "cuda:0 power limit": (
            "warn",
            "500 of 700 W",
            f"sudo nvidia-smi -i 00000000:1C:00.0 -pl 700  # {CHOICE}",
        ),
        "cuda:1 power limit": ("ok", "700 W", None),
    }


def test_fewer_gpus_than_there_are(machine: Machine) -> None:
    machine.plug_in(machine.fake.h200(0), machine.fake.h200(1), torch_sees=(machine.uuids[0],))
    found = machine.examine()["gpus"]
    assert (found.status, found.figure) == ("warn", "1 of 2")
    machine.change(environ={"CUDA_VISIBLE_DEVICES": "0"})
    found = machine.examine()["gpus"]
    assert (found.status, found.figure) == ("ok", "1 of 2 (CUDA_VISIBLE_DEVICES=0)")


def test_a_gpu_that_the_driver_has_lost(machine: Machine) -> None:
    machine.plug_in(machine.fake.h200(0), machine.fake.Refusal(15), torch_sees=(machine.uuids[0],))
    found = machine.examine()
    assert found["nvml"] == Finding(
        "nvml",
        "NVML",
        "fail",
        "1: gpu-is-lost",
        "The driver knows GPUs that it cannot open.",
        "sudo dmesg | grep -i xid  # then restart the host, or hand the instance back",
    )
    assert found["gpus"].status == "warn"


def test_a_gpu_that_nvml_cannot_find(machine: Machine) -> None:
    machine.plug_in(machine.fake.h200(0), torch_sees=("ffffffff",))
    other = machine.fake.pci_info("00000000:77:00.0", 1, 1)
    module = machine.fake.FakeNvml(machine.fake.h200(0, nvmlDeviceGetPciInfo_v3=other))
    machine.change(nvml=lambda: open_nvml(module))
    found = machine.examine()["device"]
    assert (found.title, found.status, found.figure) == ("cuda:0", "unknown", "not-found")
