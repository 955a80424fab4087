"""A worker on a host of GPUs that are not there: ``gpu_host_worker.py FAULTS STATE``.

Finding devices, reading limits and health, sampling sensors and the conversation with the runner
are what users run; NVML is the double of ``fake_nvml.py``. Figures are invented: each case reaches
85 % of an H200's pins, unless the fault says otherwise. ``FAULTS`` names one fault for each GPU,
with ``|`` between; an empty one is a healthy GPU.
``STATE`` is a folder in which the processes of one run leave what they did.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import util
from pathlib import Path
from typing import Any

from roofprobe.probes import cool_down, devices, execute, worker
from roofprobe.probes.backends import CpuBackend
from roofprobe.records.schema import Case, Device, Distribution, Measurement

PLANTED, STATE = sys.argv[1].split("|"), Path(sys.argv[2])
SHARE, LOW = 0.85, 0.2
PEAK_GBPS = 2 * 3201 * 6144 / 8000  # of the double's memory clock and bus

_spec = util.spec_from_file_location("fake_nvml", Path(__file__).parent / "fake_nvml.py")
assert _spec is not None
assert _spec.loader is not None
fake = util.module_from_spec(_spec)
sys.modules["fake_nvml"] = fake
_spec.loader.exec_module(fake)


def worked() -> bool:
    """Return whether a case has run, so that counters may have grown."""
    return any(STATE.iterdir())


def grown(before: int, after: int) -> Iterator[int]:
    while True:
        yield after if worked() else before


def counter(gpu: Any, number: int, before: int, after: int) -> None:
    gpu.fields[number] = (fake.ULONGLONG, grown(before, after))


def hang() -> Iterator[int]:
    time.sleep(600)
    yield 0


def answers(**changes: Any) -> Callable[[Any], None]:
    return lambda gpu: gpu.answers.update(changes)


def lost(gpu: Any) -> None:
    if worked():
        gpu.lost_after = 0


def hot(gpu: Any) -> None:
    key = ("nvmlDeviceGetTemperatureV", fake.pynvml.NVML_TEMPERATURE_GPU)
    gpu.answers[key] = grown(31, 86)


def throttled(gpu: Any) -> None:
    counter(gpu, 270, 4_000, 4_000 + 10**9)
    gpu.answers["nvmlDeviceGetCurrentClocksEventReasons"] = grown(0x1, 0x48)


def small(gpu: Any) -> None:
    key = ("nvmlDeviceGetMemoryInfo", fake.pynvml.nvmlMemory_v2)
    gpu.answers[key] = fake.memory_info(70 * fake.GIB, fake.GIB)


def memory_faults(kind: int) -> Callable[[Any], None]:
    """Errors of one kind appear while the run goes on."""

    def plant(gpu: Any) -> None:
        gpu.answers["nvmlDeviceGetTotalEccErrors", kind, 0] = grown(0, 40)

    return plant


FAULTS: dict[str, Callable[[Any], None]] = {
    "uncorrected memory errors": memory_faults(1),
    "many corrected memory errors": memory_faults(0),
    "row remapping pending": answers(nvmlDeviceGetRemappedRows=(0, 1, 1, 0)),
    "row remapping failed": answers(nvmlDeviceGetRemappedRows=(0, 8, 0, 1)),
    "page retirement pending": answers(nvmlDeviceGetRetiredPagesPendingStatus=1),
    "device lost half-way": lost,
    "clocks throttled half-way": throttled,
    "hot": hot,
    "another process on the device": answers(
        nvmlDeviceGetComputeRunningProcesses_v3=[fake.process(4_000_001, 3 << 30)]
    ),
    "MIG switched on": answers(nvmlDeviceGetMigMode=[1, 1]),
    "PCIe sends again": answers(nvmlDeviceGetPcieReplayCounter=grown(3, 500)),
    "an NVLink goes down": answers(nvmlDeviceGetNvLinkState=grown(1, 0)),
    "NVLink errors": answers(nvmlDeviceGetNvLinkErrorCounter=grown(0, 10_000)),
    "NVML hangs": answers(nvmlDeviceGetRemappedRows=hang()),
    "power limit lowered": answers(
        nvmlDeviceGetEnforcedPowerLimit=400_000, nvmlDeviceGetPowerManagementLimit=400_000
    ),
    "PCIe degraded": answers(
        nvmlDeviceGetCurrPcieLinkWidth=4, nvmlDeviceGetMaxPcieLinkWidth=4,
        nvmlDeviceGetCurrPcieLinkGeneration=3,
    ),
    "memory smaller than it should be": small,
}  # fmt: skip


class Gpus(CpuBackend):
    """What torch would tell of H200s."""

    kind = "cuda"

    def count(self) -> int:
        return len(PLANTED)

    def describe(self, index: int = 0) -> Device:
        uuid = f"GPU-00000000-1111-2222-3333-44444444444{index}"
        small = PLANTED[index] == "memory smaller than it should be"
        return Device(
            device_id=uuid, torch_device=f"cuda:{index}", backend="cuda", name="NVIDIA H200",
            index=index, uuid=uuid, pci_bus_id=f"00000000:{0x1B + index:02x}:00.0",
            architecture="sm_90", unit="SM", unit_count=132,
            memory_bytes=(70 if small else 141) * fake.GIB,
        )  # fmt: skip


class Opened:
    """A device that is open for measuring."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.telemeter = devices.telemeter_of(device)
        self.timer = nullcontext()


def measured(case: Case, policy: Any, session: Any) -> Measurement:
    """Return an invented figure, with what the sensors told meanwhile."""
    device = session.device
    fault = PLANTED[device.index]
    if fault == "worker killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "worker hangs":
        time.sleep(600)
    (STATE / f"{device.index}-{case.case_id.replace('/', '_')}").touch()
    with session.telemeter.watch():
        time.sleep(0.002)
    return Measurement(
        case=case, device_id=device.device_id, status="ok", wall_s=0.1,
        rate=rate(share(case, fault) * PEAK_GBPS), telemetry=session.telemeter.summary(),
        started_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def share(case: Case, fault: str) -> float:
    """Return the share of the peak that a case reaches; copies of fp32 are what falls short."""
    if case.op != "copy" or case.precision != "fp32":
        return SHARE
    if fault == "slow at first":
        return SHARE - 0.01 if case.retest else LOW
    if fault == "slow for good":
        return LOW + 0.01 if case.retest else LOW
    if fault == "slow, then killed":
        if case.retest == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return LOW
    return SHARE


def rate(gbps: float) -> Distribution:
    spread = {name: gbps for name in ("median", "ci_low", "ci_high", "p10", "p90", "best")}
    return Distribution(unit="GB/s", n=10, **spread)


def host() -> Any:
    gpus = [fake.h200(number) for number in range(len(PLANTED))]
    for gpu, fault in zip(gpus, PLANTED, strict=True):
        FAULTS.get(fault, lambda gpu: None)(gpu)
    return fake.FakeNvml(*gpus)


if __name__ == "__main__":
    STATE.mkdir(exist_ok=True)
    sys.modules["pynvml"] = None if "NVML missing" in PLANTED else host()  # type: ignore[assignment]
    backend = Gpus()
    doubles: dict[Any, dict[str, Any]] = {
        devices: {"available_backends": lambda: (backend,)},
        execute: {"measure_case": measured},
        worker: {"opened": lambda device, seed: Opened(device)},
        cool_down: {"_LEAST_S": 0.05},
    }
    for module, functions in doubles.items():
        for name, function in functions.items():
            setattr(module, name, function)
    sys.argv = sys.argv[:1]
    sys.exit(worker.main())
