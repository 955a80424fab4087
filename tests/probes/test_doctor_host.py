"""Software and host in every state: Python, torch, Triton, CPUs, clock, memory, disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from roofprobe.probes.doctor import exit_code
from roofprobe.probes.doctor_scene import GIB, Finding

if TYPE_CHECKING:
    from tests.support.doctor_machine import Machine

NEW_TORCH = "uv pip install --reinstall torch --torch-backend=auto"


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
    assert found["gpus"] == machine.gpus(
        "unknown", "1 NVIDIA", "Whether torch can use it shows once torch works."
    )
    assert found["power"].title == "GPU 0 power limit"


@pytest.mark.parametrize(
    ("version", "status"),
    [("2.5.1+cu124", "fail"), ("2.6.0", "ok"), ("2.13.0a0+git1234", "ok"), ("3.0.0", "ok")],
)
def test_the_version_of_torch(machine: Machine, version: str, status: str) -> None:
    machine.modules["torch"] = machine.torch_double(version, cuda=None)
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
