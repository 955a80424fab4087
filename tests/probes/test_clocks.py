"""The counted clock: taken after a sample, not too often, and never an error."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from roofprobe.probes.clocks import CpuClock, GpuClock, NoClock, clock_of
from roofprobe.records.schema import Device

CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")
GPU = Device(
    device_id="g", torch_device="cuda:1", backend="cuda", name="X", unit_count=132,
    architecture="sm_90",
)  # fmt: skip


def test_a_device_that_cannot_count_tells_nothing() -> None:
    clock = NoClock()
    clock.clear()
    clock.begin()
    clock.end()
    assert clock.clocks_mhz() == ()


def test_the_processor_s_clock_is_taken_after_a_sample_every_50_ms_at_most() -> None:
    times_s = iter([0.0, 0.001, 0.020, 0.0509, 0.0511, 0.0512, 0.2, 0.21])
    readings = iter([3000.0, 2500.0, 2000.0])
    asked: list[float] = []

    def clock_mhz(duration_us: float) -> float:
        asked.append(duration_us)
        return next(readings)

    clock = CpuClock(clock_mhz, lambda: next(times_s))
    found = []
    for _ in range(5):
        clock.begin()
        clock.end()
        found.append(clock.clocks_mhz())
    # Read at 0 (done at 1 ms); 20 ms and 50.9 ms are too soon; 51.1 ms is 50 ms later.
    assert found == [(3000.0,)] * 3 + [(3000.0, 2500.0), (3000.0, 2500.0, 2000.0)]
    assert asked == [100, 100, 100]
    clock.clear()
    assert clock.clocks_mhz() == (), "the next case's clocks are its own"


def test_this_processor_counts_a_clock_of_its_own() -> None:
    clock = clock_of(CPU)
    if isinstance(clock, NoClock):
        pytest.skip("this processor's code for the chain of additions is not written")
    clock.begin()
    clock.end()
    (mhz,) = clock.clocks_mhz()
    assert 300 < mhz < 8000
    clock.end()
    assert clock.clocks_mhz() == (mhz,), "it was taken a moment ago"


def test_a_processor_without_code_has_no_clock_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from roofprobe.kernels import cpu_team

    def fails(duration_us: float = 0) -> float:
        raise OSError("no executable memory here")

    monkeypatch.setattr(cpu_team, "clock_mhz", fails)
    assert isinstance(clock_of(CPU), NoClock)
    assert capsys.readouterr().err == "no cycle counter: OSError: no executable memory here\n"


class Counters:
    """Stands for ``triton_clock``: the device's counter goes on by what was told at each launch."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.made: list[tuple[tuple[int, ...], str]] = []
        self.count = 0
        self.step = 1
        self.conversions = 0

    def make_readings(self, shape: tuple[int, ...], device: str) -> torch.Tensor:
        self.made.append((shape, device))
        return torch.zeros(*shape, 3, dtype=torch.int64)

    def launcher(self, readings: torch.Tensor, architecture: str) -> Callable[[], None]:
        side = "after" if readings.storage_offset() // readings.numel() % 2 else "before"

        def launch() -> None:
            self.count += self.step
            readings.fill_(self.count)
            self.log.append(f"{side} on {architecture}")

        return launch

    def clocks_mhz(self, before: Any, after: Any) -> Any:
        self.conversions += 1
        delta = (after - before)[:, 0, 0].astype(float)
        delta[delta == 13] = math.nan
        return 1000.0 * delta


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    stand_in = Counters()
    name = "roofprobe.kernels.triton_clock"
    module = ModuleType(name)
    for part in ("make_readings", "launcher", "clocks_mhz"):
        setattr(module, part, getattr(stand_in, part))
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(name, module, raising=False)
    return stand_in


def test_a_cuda_device_reads_its_counters_before_and_after_with_several_programs_per_unit(
    counters: Counters,
) -> None:
    clock = clock_of(GPU)
    assert isinstance(clock, GpuClock)
    assert counters.made == [((512, 2, 4 * 132), "cuda:1")]
    assert counters.log == ["before on sm_90"], "compiled and read once before any sample"
    clock.clear()
    for step in (1, 2, 13, 3):
        counters.step = step
        clock.begin()
        clock.end()
    assert counters.log[1:] == ["before on sm_90", "after on sm_90"] * 4
    assert counters.conversions == 0, "nothing is computed between samples"
    assert clock.clocks_mhz() == (1000.0, 2000.0, 3000.0), "without the one that cannot be told"
    assert counters.conversions == 1, "all samples at once"


def test_readings_of_a_case_that_broke_off_are_not_the_next_one_s(counters: Counters) -> None:
    clock = clock_of(GPU)
    clock.begin()
    clock.end()
    clock.begin()  # and here the work failed
    clock.clear()
    counters.step = 5
    clock.begin()
    clock.end()
    assert clock.clocks_mhz() == (5000.0,)


def test_more_samples_than_places_lose_none(
    counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GpuClock, "_PLACES", 2)
    clock = clock_of(GPU)
    for step in (1, 2, 3, 4, 5):
        counters.step = step
        clock.begin()
        clock.end()
    assert clock.clocks_mhz() == (1000.0, 2000.0, 3000.0, 4000.0, 5000.0)


@pytest.mark.usefixtures("counters")
def test_a_cuda_device_whose_architecture_is_unknown_has_no_clock(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert isinstance(clock_of(GPU.model_copy(update={"architecture": None})), NoClock)
    assert capsys.readouterr().err.startswith("no cycle counter: AssertionError")


def test_a_counter_that_cannot_be_compiled_costs_no_measurement(
    monkeypatch: pytest.MonkeyPatch, counters: Counters, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(readings: torch.Tensor, architecture: str) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(sys.modules["roofprobe.kernels.triton_clock"], "launcher", fails)
    assert isinstance(clock_of(GPU), NoClock)
    assert capsys.readouterr().err == "no cycle counter: RuntimeError: no compiler here\n"


@pytest.mark.parametrize("backend", ["rocm", "npu"])
def test_devices_without_a_counter_have_no_clock_and_no_complaint(
    backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(clock_of(GPU.model_copy(update={"backend": backend})), NoClock)
    assert capsys.readouterr().err == ""
