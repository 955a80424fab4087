"""Hosts in every state, built from files, doubles and environments; findings are exact."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from roofprobe.probes.doctor import examine, exit_code
from roofprobe.probes.doctor_scene import GIB, Finding, Host
from roofprobe.probes.nvml import open_nvml

DRIVER_FILE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.03  Tue Sep 2 2025"
NEW_TORCH = "uv pip install --reinstall torch --torch-backend=auto"
CHOICE = "changes the device: your choice, or your provider's"
UUIDS = [f"00000000-1111-2222-3333-44444444444{number}" for number in range(3)]


def torch_double(
    version: str = "2.11.0+cu130",
    cuda: str | None = "13.0",
    hip: str | None = None,
    uuids: tuple[str, ...] = (),
    architectures: tuple[str, ...] = ("sm_80", "sm_90", "compute_90"),
    capability: tuple[int, int] = (9, 0),
    complaint: str | None = None,
    accelerator: str | None = None,
) -> Any:
    def is_available() -> bool:
        if complaint:
            warnings.warn(complaint, UserWarning, stacklevel=2)
        return bool(uuids)

    def properties(index: int) -> Any:
        return SimpleNamespace(
            name="a GPU", uuid=uuids[index], major=capability[0], minor=capability[1],
            pci_domain_id=0, pci_bus_id=0x1B + index, pci_device_id=0,
        )  # fmt: skip

    return SimpleNamespace(
        __version__=version,
        version=SimpleNamespace(cuda=cuda, hip=hip),
        cuda=SimpleNamespace(
            is_available=is_available,
            device_count=lambda: len(uuids),
            get_device_properties=properties,
            get_arch_list=lambda: list(architectures),
        ),
        accelerator=SimpleNamespace(
            is_available=lambda: accelerator is not None,
            current_accelerator=lambda: SimpleNamespace(type=accelerator),
            device_count=lambda: 2,
        ),
    )


CPU_TORCH = torch_double("2.13.0+cpu", cuda=None, architectures=())
TRITON = SimpleNamespace(__version__="3.6.0")


class Machine:
    """A host in a folder: write its files, set its modules, then examine it."""

    def __init__(self, root: Path, fake_nvml: ModuleType) -> None:
        self.root = root / "machine"
        self.fake = fake_nvml
        self.modules: dict[str, Any] = {"torch": CPU_TORCH, "triton": TRITON}
        self.closed: set[str] = set()
        no_library = fake_nvml.FakeNvml(nvmlInit=fake_nvml.Refusal(12))
        self.host = Host(
            root=self.root,
            environ={},
            python=(3, 12, 3),
            python_headers=root / "include",
            system="Linux",
            load_module=self._load,
            which={"cc": "/usr/bin/cc"}.get,
            access=lambda path, mode: str(path) not in self.closed,
            nvml=lambda: open_nvml(no_library),
            free_disk_bytes=lambda path: 80 * 10**9,
            available_memory_bytes=lambda: 64 * GIB,
            allowed_cpus=lambda: 16,
            sees_host_pids=True,
            clock_resolution_s=1e-9,
        )
        self.out = root / "out"
        self.out.mkdir()
        (root / "include").mkdir()
        (root / "include" / "Python.h").touch()
        clock = "sys/devices/system/clocksource/clocksource0/current_clocksource"
        self.write(clock, "tsc\n")
        self.write("proc/loadavg", "0.50 0.40 0.30 1/86 3593\n")

    def write(self, path: str, text: str = "") -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def close(self, path: str) -> None:
        self.closed.add(str(self.root / path))

    def change(self, **fields: Any) -> None:
        self.host = replace(self.host, **fields)

    def plug_in(self, *gpus: Any, torch_sees: tuple[str, ...] | None = None, **fields: Any) -> Any:
        """Put NVIDIA GPUs in, with driver and device files, and a torch that sees them all."""
        for number in range(len(gpus)):
            folder = f"sys/bus/pci/devices/0000:{0x1B + number:02x}:00.0"
            self.write(f"{folder}/vendor", "0x10de\n")
            self.write(f"{folder}/class", "0x030200\n")
            self.write(f"dev/nvidia{number}")
        self.write("dev/nvidiactl")
        self.write("proc/driver/nvidia/version", DRIVER_FILE)
        seen = tuple(UUIDS[: len(gpus)]) if torch_sees is None else torch_sees
        self.modules["torch"] = torch_double(uuids=seen, **fields)
        module = self.fake.FakeNvml(*gpus)
        self.change(nvml=lambda: open_nvml(module))
        return module

    def examine(self) -> dict[str, Finding]:
        """Return the findings by code; codes are unique on hosts with one GPU."""
        findings = examine(self.host, self.out)
        assert len({finding.code for finding in findings}) == len(findings)
        return {finding.code: finding for finding in findings}

    def _load(self, name: str) -> Any:
        module = self.modules.get(name, ModuleNotFoundError(f"No module named {name!r}"))
        if isinstance(module, Exception):
            raise module
        return module


@pytest.fixture
def machine(tmp_path: Path, fake_nvml: ModuleType) -> Machine:
    return Machine(tmp_path, fake_nvml)


def statuses(found: dict[str, Finding]) -> dict[str, str]:
    return {code: finding.status for code, finding in found.items()}


def gpus(status: str, figure: str, sentence: str, remedy: str | None = None) -> Finding:
    return Finding("gpus", "GPUs", status, figure, sentence, remedy)  # type: ignore[arg-type]


# Healthy hosts


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
    assert found["gpus"] == gpus(
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


# Python, torch, Triton


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10, 14), "fail"), ((3, 11, 0), "ok"), ((3, 14, 1), "ok")]
)
def test_python(machine: Machine, version: tuple[int, ...], status: str) -> None:
    machine.change(python=version)
    assert machine.examine()["python"].status == status


def test_another_system_is_a_warning(machine: Machine) -> None:
    machine.change(system="Darwin")
    assert machine.examine()["system"].status == "warn"


def test_no_torch(machine: Machine) -> None:
    machine.modules["torch"] = ModuleNotFoundError("No module named 'torch'")
    assert machine.examine()["torch"] == Finding(
        "torch",
        "torch",
        "fail",
        "none",
        "torch cannot be imported: ModuleNotFoundError: No module named 'torch'.",
        "uv pip install torch --torch-backend=auto",
    )


@pytest.mark.parametrize(
    "error",
    [
        OSError("libcudart.so.13: cannot open shared object file: No such file or directory"),
        ImportError("libcudart.so.13: cannot open shared object file: No such file or directory"),
        RuntimeError("numpy.core.multiarray failed to import"),
    ],
)
def test_a_torch_that_does_not_load(machine: Machine, error: Exception) -> None:
    machine.modules["torch"] = error
    found = machine.examine()
    assert found["torch"] == Finding(
        "torch",
        "torch",
        "fail",
        "broken",
        f"torch cannot be imported: {type(error).__name__}: {error}.",
        NEW_TORCH,
    )
    assert exit_code(found.values()) == 1


def test_a_gpu_with_a_broken_torch_is_unknown(machine: Machine) -> None:
    machine.plug_in(machine.fake.h200())
    machine.modules["torch"] = OSError("libc10.so: cannot open shared object file")
    found = machine.examine()
    assert found["gpus"] == gpus(
        "unknown", "1 NVIDIA", "Whether torch can use it shows once torch works."
    )
    assert found["power"].title == "GPU 0 power limit"


@pytest.mark.parametrize(
    ("version", "status"),
    [("2.5.1+cu124", "fail"), ("2.6.0", "ok"), ("2.13.0a0+git1234", "ok"), ("3.0.0", "ok")],
)
def test_the_version_of_torch(machine: Machine, version: str, status: str) -> None:
    machine.modules["torch"] = torch_double(version, cuda=None)
    assert machine.examine()["torch"].status == status


def test_no_triton(machine: Machine) -> None:
    machine.modules["triton"] = ModuleNotFoundError("No module named 'triton'")
    assert machine.examine()["triton"] == Finding(
        "triton",
        "Triton",
        "warn",
        "none",
        "Triton cannot be imported, so our own kernels are left out: ModuleNotFoundError: No "
        "module named 'triton'.",
        "uv pip install triton",
    )


def test_a_triton_that_does_not_load(machine: Machine) -> None:
    machine.modules["triton"] = OSError("libtriton.so")
    assert machine.examine()["triton"].figure == "broken"


def test_a_compiler_is_looked_for_only_where_there_is_a_gpu(machine: Machine) -> None:
    machine.change(which=lambda name: None)
    assert "compiler" not in machine.examine()
    machine.plug_in(machine.fake.h200())
    found = machine.examine()["compiler"]
    assert (found.status, found.figure) == ("warn", "none")
    assert found.remedy == "sudo apt-get install gcc  # or: conda install gcc"


def test_a_compiler_that_cc_names_must_exist(machine: Machine) -> None:
    machine.plug_in(machine.fake.h200())
    machine.change(environ={"CC": "icx"})
    found = machine.examine()["compiler"]
    assert (found.status, found.figure, found.remedy) == ("warn", "CC=icx", "unset CC")


def test_python_headers_are_needed_with_a_gpu(machine: Machine) -> None:
    machine.plug_in(machine.fake.h200())
    (machine.host.python_headers / "Python.h").unlink()
    found = machine.examine()["headers"]
    assert (found.status, found.remedy) == ("warn", "sudo apt-get install python3.12-dev")


# GPUs that torch cannot use


def blind(machine: Machine, **fields: Any) -> None:
    machine.plug_in(machine.fake.h200(), torch_sees=(), **fields)


def test_a_cpu_only_torch_on_a_gpu_host(machine: Machine) -> None:
    blind(machine)
    machine.modules["torch"] = CPU_TORCH
    assert machine.examine()["gpus"] == gpus(
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
    assert machine.examine()["gpus"] == gpus(
        "warn",
        "0 of 1 NVIDIA",
        f"CUDA_VISIBLE_DEVICES is {value!r}, which hides every GPU from torch.",
        "unset CUDA_VISIBLE_DEVICES",
    )


def test_cuda_visible_devices_names_a_gpu_that_is_not_there(machine: Machine) -> None:
    blind(machine)
    machine.change(environ={"CUDA_VISIBLE_DEVICES": "7"})
    assert machine.examine()["gpus"] == gpus(
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
    assert found["gpus"] == gpus("fail", "0 of 1 NVIDIA", sentence, remedy)
    assert found["nvml"].status == "warn"


def test_device_files_that_this_user_may_not_open(machine: Machine) -> None:
    blind(machine)
    machine.close("dev/nvidia0")
    machine.close("dev/nvidiactl")
    assert machine.examine()["gpus"] == gpus(
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
    assert machine.examine()["gpus"] == gpus(
        "fail",
        "0 of 1 NVIDIA",
        "The driver is loaded, but its device files are not in this container.",
        "docker run --gpus all ...  # on the machine itself: sudo nvidia-modprobe -c0 -u",
    )


def test_a_gpu_without_any_driver(machine: Machine) -> None:
    machine.write("sys/bus/pci/devices/0000:1b:00.0/vendor", "0x10de\n")
    machine.write("sys/bus/pci/devices/0000:1b:00.0/class", "0x030200\n")
    machine.modules["torch"] = torch_double()
    found = machine.examine()
    assert found["gpus"] == gpus(
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
    assert machine.examine()["gpus"] == gpus(
        "fail",
        "0 of 1 NVIDIA",
        "torch cannot use it: CUDA initialization: CUDA unknown error.",
        f"nvidia-smi  # if that works: {NEW_TORCH}",
    )


def test_a_torch_that_raises_when_asked_for_devices(machine: Machine) -> None:
    blind(machine)
    broken = torch_double()

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
        assert found == gpus("fail", lacking, sentence, NEW_TORCH)


def test_another_accelerator_of_torch(machine: Machine) -> None:
    machine.modules["torch"] = torch_double(cuda=None, accelerator="npu")
    assert machine.examine()["gpus"] == gpus("ok", "2 × npu", "torch can use this accelerator.")


# AMD


def amd(machine: Machine, kind: str = "0x120000", **fields: Any) -> None:
    machine.write("sys/bus/pci/devices/0000:c1:00.0/vendor", "0x1002\n")
    machine.write("sys/bus/pci/devices/0000:c1:00.0/class", f"{kind}\n")
    machine.modules["torch"] = torch_double(cuda=None, **fields)


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


# Several GPUs


def test_cuda_visible_devices_reorders_and_the_findings_follow_torch(machine: Machine) -> None:
    first, second = machine.fake.h200(0), machine.fake.h200(1)
    second.answers["nvmlDeviceGetEnforcedPowerLimit"] = 500_000
    machine.plug_in(first, second, torch_sees=(UUIDS[1], UUIDS[0]))
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
    machine.plug_in(machine.fake.h200(0), machine.fake.h200(1), torch_sees=(UUIDS[0],))
    found = machine.examine()["gpus"]
    assert (found.status, found.figure) == ("warn", "1 of 2")
    machine.change(environ={"CUDA_VISIBLE_DEVICES": "0"})
    found = machine.examine()["gpus"]
    assert (found.status, found.figure) == ("ok", "1 of 2 (CUDA_VISIBLE_DEVICES=0)")


def test_a_gpu_that_the_driver_has_lost(machine: Machine) -> None:
    machine.plug_in(machine.fake.h200(0), machine.fake.Refusal(15), torch_sees=(UUIDS[0],))
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


# Each GPU


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


# The host


def test_a_quota_of_a_container(machine: Machine) -> None:
    machine.write("sys/fs/cgroup/cpu.max", "200000 100000\n")
    found = machine.examine()["cpus"]
    assert (found.status, found.figure) == ("warn", "2 of 16 CPUs")
    assert found.remedy == "docker run --cpuset-cpus=0-1 ...  # whole CPUs instead of --cpus"


@pytest.mark.parametrize(
    ("files", "figure"),
    [
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, "16 CPUs"),
        ({"sys/fs/cgroup/cpu.max": "1600000 100000"}, "16 CPUs"),
        (
            {
                "proc/self/cgroup": "0::/system.slice/job.service",
                "sys/fs/cgroup/system.slice/cpu.max": "max 100000",
                "sys/fs/cgroup/system.slice/job.service/cpu.max": "150000 100000",
            },
            "1.5 of 16 CPUs",
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            "4 of 16 CPUs",
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            "16 CPUs",
        ),
        ({"sys/devices/system/cpu/smt/active": "1"}, "16 CPUs, two or more threads per core"),
    ],
    ids=["none", "enough", "nested", "version-1", "version-1-none", "threads"],
)
def test_cpus(machine: Machine, files: dict[str, str], figure: str) -> None:
    for path, text in files.items():
        machine.write(path, text)
    assert machine.examine()["cpus"].figure == figure


@pytest.mark.parametrize(("load", "status"), [("8.0", "ok"), ("8.1", "warn")])
def test_load(machine: Machine, load: str, status: str) -> None:
    machine.write("proc/loadavg", f"{load} 1 1 1/1 1")
    assert machine.examine()["load"].status == status


@pytest.mark.parametrize(
    ("governor", "driver", "status"),
    [
        ("performance", "acpi-cpufreq", "ok"),
        ("powersave", "intel_pstate", "ok"),
        ("powersave", "amd-pstate-epp", "ok"),
        ("powersave", "acpi-cpufreq", "warn"),
        ("schedutil", "acpi-cpufreq", "ok"),
    ],
)
def test_governor(machine: Machine, governor: str, driver: str, status: str) -> None:
    folder = "sys/devices/system/cpu/cpu0/cpufreq"
    machine.write(f"{folder}/scaling_governor", governor)
    machine.write(f"{folder}/scaling_driver", driver)
    found = machine.examine()["governor"]
    assert (found.status, found.figure) == (status, governor)


@pytest.mark.parametrize(
    ("source", "resolution_s", "status", "figure"),
    [
        ("tsc", 1e-9, "ok", "tsc, 1 ns"),
        ("hpet", 1e-9, "warn", "hpet, 1 ns"),
        ("tsc", 0.015625, "warn", "tsc, 1.5625e+07 ns"),
    ],
)
def test_clock(
    machine: Machine, source: str, resolution_s: float, status: str, figure: str
) -> None:
    machine.write("sys/devices/system/clocksource/clocksource0/current_clocksource", source)
    machine.change(clock_resolution_s=resolution_s)
    found = machine.examine()["clock"]
    assert (found.status, found.figure) == (status, figure)


@pytest.mark.parametrize(("free", "status"), [(4 * GIB, "ok"), (4 * GIB - 1, "warn")])
def test_host_memory(machine: Machine, free: int, status: str) -> None:
    machine.change(available_memory_bytes=lambda: free)
    assert machine.examine()["memory"].status == status


@pytest.mark.parametrize(
    ("free", "status"), [(10**9, "ok"), (10**9 - 1, "warn"), (10**8, "warn"), (10**8 - 1, "fail")]
)
def test_disk_room(machine: Machine, free: int, status: str) -> None:
    machine.change(free_disk_bytes=lambda path: free)
    assert machine.examine()["disk"].status == status


def test_a_folder_that_is_still_to_be_made(machine: Machine) -> None:
    place = machine.out
    machine.out = place / "a" / "b"
    assert machine.examine()["disk"].sentence == f"Reports can be written to {place}."


def test_a_folder_that_may_not_be_written(machine: Machine) -> None:
    machine.closed.add(str(machine.out))
    assert machine.examine()["disk"] == Finding(
        "disk",
        "Disk",
        "fail",
        str(machine.out),
        f"This user may not write to {machine.out}, where the report would go.",
        "probe all --out ~/reports  # or any folder that you may write",
    )


def test_a_file_where_the_folder_should_be(machine: Machine) -> None:
    (machine.out / "reports").touch()
    machine.out = machine.out / "reports" / "today"
    found = machine.examine()["disk"]
    assert found.status == "fail"
    assert found.sentence == f"{machine.out.parent} is a file, so no folder can be made there."


# The doctor


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
