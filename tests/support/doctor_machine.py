"""A host in any state for the doctor, built from files, doubles and an environment."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from roofprobe.probes.doctor import examine
from roofprobe.probes.doctor_scene import GIB, Finding, Host
from roofprobe.probes.nvml import open_nvml

DRIVER_FILE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.03  Tue Sep 2 2025"
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


def gpus(status: str, figure: str, sentence: str, remedy: str | None = None) -> Finding:
    return Finding("gpus", "GPUs", status, figure, sentence, remedy)  # type: ignore[arg-type]


CPU_TORCH = torch_double("2.13.0+cpu", cuda=None, architectures=())
TRITON = SimpleNamespace(__version__="3.6.0")


class Machine:
    """A host in a folder: write its files, set its modules, then examine it."""

    torch_double = staticmethod(torch_double)
    gpus = staticmethod(gpus)
    uuids = UUIDS

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
