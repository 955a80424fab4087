"""Sampling: exact summaries of told readings, and no failure that reaches the measurement."""

from __future__ import annotations

import itertools
import json
import pickle
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from roofprobe.probes.nvml import Nvml, open_nvml
from roofprobe.probes.nvml_facts import Snapshot
from roofprobe.probes.telemetry import (
    CpuSource,
    NoSource,
    Sampler,
    Span,
    TelemetrySummary,
    TracePoint,
    others_cores,
    summarise,
    trace_of,
)
from roofprobe.records.schema import Telemetry

LONG_S = 3600.0  # the thread never reads by itself
NAMES = ("power", "sw_thermal", "hw_thermal", "brake", "sync")


class Told:
    """Gives the readings it was told, one by one, and then the last one again."""

    def __init__(self, readings: Iterable[Snapshot | Exception]) -> None:
        self.readings = list(readings)
        self.asked = 0
        self.enough = threading.Event()

    def snapshot(self) -> Snapshot:
        reading = self.readings[min(self.asked, len(self.readings) - 1)]
        self.asked += 1
        if self.asked >= len(self.readings):
            self.enough.set()
        if isinstance(reading, Exception):
            raise reading
        return reading


def reading(clock: float, energy_mj: int = 0, bits: int = 0, **throttle_ns: int) -> Snapshot:
    counters = {**dict.fromkeys(NAMES, 0), **throttle_ns}
    return Snapshot(
        sm_clock_mhz=clock,
        mem_clock_mhz=3201.0,
        power_w=clock / 10,
        temperature_c=40.0,
        memory_temperature_c=50.0,
        pcie_generation=5,
        pcie_width=16,
        throttle_bits=bits,
        energy_mj=energy_mj,
        throttle_ns=counters,
    )


LOST = Snapshot(
    missing={
        "sm_clock_mhz": "gpu-is-lost (nvmlDeviceGetClockInfo)",
        "energy_mj": "gpu-is-lost (nvmlDeviceGetTotalEnergyConsumption)",
    }
)


# Sums


def test_a_summary_of_told_readings() -> None:
    summary = summarise(
        [
            reading(345, 1_000, bits=0x1, power=10),
            reading(1980, 250_000, bits=0x0, power=10),
            reading(1800, 400_000, bits=0x4, power=500),
            reading(1700, 650_500, bits=0x4 | 0x20, power=900, sw_thermal=7),
        ],
        0.05,
    )
    assert summary == TelemetrySummary(
        n_samples=4,
        interval_s=0.05,
        sm_clock_mhz=Span(1700.0, 1800.0, 1980.0),
        mem_clock_mhz=Span(3201.0, 3201.0, 3201.0),
        power_w=Span(170.0, 180.0, 198.0),
        temperature_c=Span(40.0, 40.0, 40.0),
        memory_temperature_c=Span(50.0, 50.0, 50.0),
        pcie_generation=Span(5.0, 5.0, 5.0),
        pcie_width=Span(16.0, 16.0, 16.0),
        throttle_reasons=("sw_power_cap", "sw_thermal"),
        throttle_ns={"power": 890, "sw_thermal": 7, "hw_thermal": 0, "brake": 0, "sync": 0},
        energy_j=649.5,
    )


def test_the_idle_clock_from_before_the_work_enters_only_alone() -> None:
    assert summarise([reading(345), reading(1980)], 1.0).sm_clock_mhz == Span(1980, 1980, 1980)
    assert summarise([reading(345)], 1.0).sm_clock_mhz == Span(345, 345, 345)


def test_the_link_that_a_copy_ran_at_is_not_the_one_from_before_it() -> None:
    idle = replace(reading(345), pcie_generation=1)
    training = replace(reading(1980), pcie_generation=3, pcie_width=8)
    summary = summarise([idle, training, reading(1980), reading(1980)], 0.05)
    assert summary.pcie_generation == Span(3.0, 5.0, 5.0)
    assert summary.pcie_width == Span(8.0, 16.0, 16.0)


def test_a_summary_is_plain_data_and_the_records_take_it() -> None:
    summary = summarise([reading(345, 5), reading(1980, 7, bits=0x4)], 0.05)
    assert pickle.loads(pickle.dumps(summary)) == summary
    plain = json.loads(json.dumps(asdict(summary)))
    assert plain["sm_clock_mhz"] == {"min": 1980.0, "median": 1980.0, "max": 1980.0}
    record = Telemetry.model_validate(asdict(summary))
    assert record.energy_j == 0.002
    assert record.throttle_reasons == ("sw_power_cap",)
    of_threads = {"waiting_threads"}  # not sampled: counted over the whole time by the device
    assert set(Telemetry.model_fields) - of_threads == set(asdict(summary))


def test_what_was_never_told_is_absent_with_its_reason() -> None:
    refused = "not-supported (nvmlDeviceGetFieldValues[82])"
    missing = {
        "memory_temperature_c": refused,
        "energy_mj": "not-supported (nvmlDeviceGetTotalEnergyConsumption)",
        "throttle_bits": "no-permission (nvmlDeviceGetCurrentClocksEventReasons)",
        "throttle_ns.brake": "not-told (nvmlDeviceGetFieldValues[271])",
        "pcie_replay_count": "not-asked",
    }
    snapshot = Snapshot(sm_clock_mhz=1000.0, throttle_ns={"power": 1}, missing=missing)
    summary = summarise([snapshot, snapshot], 0.05)
    assert summary == TelemetrySummary(
        n_samples=2,
        interval_s=0.05,
        sm_clock_mhz=Span(1000.0, 1000.0, 1000.0),
        throttle_ns={"power": 0},
        missing={
            "memory_temperature_c": refused,
            "energy_j": "not-supported (nvmlDeviceGetTotalEnergyConsumption)",
            "throttle_reasons": "no-permission (nvmlDeviceGetCurrentClocksEventReasons)",
            "throttle_ns.brake": "not-told (nvmlDeviceGetFieldValues[271])",
            "mem_clock_mhz": "not-told",
            "power_w": "not-told",
            "temperature_c": "not-told",
            "pcie_generation": "not-told",
            "pcie_width": "not-told",
        },
    )


def test_a_counter_that_goes_back_or_away_has_no_difference() -> None:
    back = summarise([reading(1, 900), reading(1, 100)], 0.05)
    assert back.energy_j is None
    assert back.missing == {"energy_j": "went-back (the counter was reset meanwhile)"}
    gone = Snapshot(sm_clock_mhz=1.0, missing={"energy_mj": "no-permission (x)"})
    away = summarise([reading(1, 900), gone], 0.05)
    assert away.throttle_ns == {}
    assert away.missing["energy_j"] == "no-permission (x)"
    assert away.missing["throttle_ns.power"] == "not-told"
    assert away.mem_clock_mhz is None
    assert away.missing["mem_clock_mhz"] == "not-told"
    assert away.missing["throttle_reasons"] == "not-told"


def test_a_value_told_later_is_not_missing() -> None:
    late = Snapshot(missing={"sm_clock_mhz": "timeout (nvmlDeviceGetClockInfo)"})
    assert summarise([late, reading(1500)], 0.05).missing == {}


# Sampling


def test_a_short_case_has_a_first_and_a_last_reading() -> None:
    source = Told([reading(345, 1_000), reading(1980, 3_000)])
    with Sampler(source, LONG_S) as sampler:
        assert source.asked == 1
    assert source.asked == 2
    summary = sampler.summary()
    assert summary.n_samples == 2
    assert summary.energy_j == 2.0
    assert sampler.summary() is summary
    assert source.asked == 2


def test_the_thread_reads_in_between() -> None:
    source = Told([reading(345), *(reading(clock) for clock in (1000, 1100, 1200))])
    with Sampler(source, 0.001) as sampler:
        assert source.enough.wait(10)
    span = sampler.summary().sm_clock_mhz
    assert span is not None
    assert (span.min, span.max) == (1000.0, 1200.0)
    assert sampler.summary().n_samples >= 4


def test_a_sampler_is_used_again_and_again_without_leaving_threads() -> None:
    before = threading.active_count()
    sampler = Sampler(Told([reading(1000)]), LONG_S)
    start = time.perf_counter()
    for _ in range(200):
        with sampler:
            pass
        assert sampler.summary().n_samples == 2
    assert time.perf_counter() - start < 5.0
    assert threading.active_count() == before


def test_each_case_starts_with_nothing_from_the_last_one() -> None:
    sampler = Sampler(
        Told([reading(1, 0), reading(2, 10), reading(3, 100), reading(4, 300)]), LONG_S
    )
    assert [_energy(sampler), _energy(sampler)] == [0.01, 0.2]


def _energy(sampler: Sampler) -> float | None:
    with sampler:
        pass
    return sampler.summary().energy_j


def test_starting_twice_and_stopping_without_start_do_no_harm() -> None:
    sampler = Sampler(Told([reading(1000)]), LONG_S)
    assert sampler.stop().missing == {"sampling": "not-asked"}
    sampler.start()
    sampler.start()
    assert sampler.stop().n_samples == 2


def test_the_thread_is_a_daemon() -> None:
    with Sampler(Told([reading(1000)]), LONG_S):
        (thread,) = [t for t in threading.enumerate() if t.name == "roofprobe-telemetry"]
        assert thread.daemon


# Failures


def test_a_device_lost_half_way_keeps_what_was_seen_and_no_differences() -> None:
    source = Told([reading(345, 1_000), reading(1980, 5_000), LOST])
    with Sampler(source, 0.001) as sampler:
        assert source.enough.wait(10)
    summary = sampler.summary()
    assert source.asked == 3
    assert summary.sm_clock_mhz == Span(1980.0, 1980.0, 1980.0)
    assert summary.energy_j is None
    assert summary.throttle_ns == {}
    lost = "gpu-is-lost (nvmlDeviceGetClockInfo)"
    assert summary.missing == {
        "sampling": lost,
        "energy_j": lost,
        **{f"throttle_ns.{name}": lost for name in NAMES},
    }


def test_a_device_lost_from_the_start_is_asked_once() -> None:
    source = Told([LOST])
    with Sampler(source, 0.001) as sampler:
        pass
    assert source.asked == 1
    assert sampler.summary() == TelemetrySummary(
        interval_s=0.001,
        missing={
            "sampling": "gpu-is-lost (nvmlDeviceGetClockInfo)",
            "sm_clock_mhz": "gpu-is-lost (nvmlDeviceGetClockInfo)",
            "energy_j": "gpu-is-lost (nvmlDeviceGetTotalEnergyConsumption)",
            "mem_clock_mhz": "not-told",
            "power_w": "not-told",
            "temperature_c": "not-told",
            "memory_temperature_c": "not-told",
            "pcie_generation": "not-told",
            "pcie_width": "not-told",
            "throttle_reasons": "not-told",
        },
    )


@pytest.mark.parametrize("place", [0, 1])
def test_a_source_that_raises_never_reaches_the_measurement(place: int) -> None:
    readings: list[Any] = [reading(1000), reading(1000), reading(1000)]
    readings[place] = ValueError("no")
    with Sampler(Told(readings), LONG_S) as sampler:
        pass
    assert sampler.summary().missing["sampling"] == "failed (ValueError: no)"


def test_an_error_of_the_measurement_passes_through() -> None:
    sampler = Sampler(Told([reading(1000)]), LONG_S)
    with pytest.raises(KeyError), sampler:
        raise KeyError("of the case")
    assert sampler.summary().n_samples == 2


def test_a_source_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roofprobe.probes.telemetry._JOIN_TIMEOUT_S", 0.01)
    release, hanging = threading.Event(), threading.Event()

    class Hangs(Told):
        def snapshot(self) -> Snapshot:
            if self.asked:
                hanging.set()
                release.wait(10)
            return super().snapshot()

    source = Hangs([reading(1000, 1), reading(2000, 2)])
    with Sampler(source, 0.001) as sampler:
        assert hanging.wait(10)
    summary = sampler.summary()
    release.set()
    assert summary.missing["sampling"] == "stalled (the source did not answer in time)"
    assert summary.sm_clock_mhz == Span(1000.0, 1000.0, 1000.0)
    assert summary.energy_j is None
    asked = source.asked
    with sampler:
        pass
    assert sampler.summary().missing == {"sampling": "stalled (the source did not answer in time)"}
    assert source.asked <= asked + 1  # only the thread that came back at last


def test_no_thread_to_be_had_leaves_first_and_last_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Sampler(Told([reading(1, 0), reading(2, 4_000)]), 0.001) as sampler:
        pass
    assert sampler.summary().energy_j == 4.0
    assert sampler.summary().missing == {"sampling": "no-thread (can't start new thread)"}


# Sources


def test_an_nvml_device_is_a_source(fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200(nvmlDeviceGetTotalEnergyConsumption=iter([9_000_000, 9_350_000]))
    gpu.fields[74] = (fake_nvml.ULONGLONG, iter([5_000, 12_000]))
    gpu.answers["nvmlDeviceGetCurrentClocksEventReasons"] = iter([0x1, 0x4])
    nvml = open_nvml(fake_nvml.FakeNvml(gpu))
    assert isinstance(nvml, Nvml)
    with Sampler(nvml.devices()[0], LONG_S) as sampler:
        pass
    summary = sampler.summary()
    assert summary.energy_j == 350.0
    assert summary.throttle_ns == {
        "power": 7_000, "sync": 0, "sw_thermal": 0, "hw_thermal": 0, "brake": 0,
    }  # fmt: skip
    assert summary.throttle_reasons == ("sw_power_cap",)
    assert summary.missing == {}


def test_an_nvml_device_lost_after_some_questions_ends_the_sampling(
    fake_nvml: ModuleType,
) -> None:
    gpu = fake_nvml.h200()
    module = fake_nvml.FakeNvml(gpu)
    nvml = open_nvml(module)
    assert isinstance(nvml, Nvml)
    sampler = Sampler(nvml.devices()[0], LONG_S)
    with sampler:
        gpu.lost_after = 0
    summary = sampler.summary()
    assert summary.sm_clock_mhz == Span(345.0, 345.0, 345.0)
    assert summary.energy_j is None
    assert summary.missing["sampling"].startswith("gpu-is-lost (nvml")


def test_the_processor_is_a_source() -> None:
    system = SimpleNamespace(
        cpu_freq=lambda: SimpleNamespace(current=2596.0),
        cpu_percent=lambda interval: 0.0,
        sensors_temperatures=lambda: {
            "k10temp": [SimpleNamespace(current=55.0), SimpleNamespace(current=61.5)],
            "nvme": [SimpleNamespace(current=80.0)],
        },
    )
    snapshot = CpuSource(system).snapshot()
    assert snapshot.sm_clock_mhz == 2596.0
    assert snapshot.temperature_c == 61.5
    assert snapshot.utilisation_percent == 0.0
    assert snapshot.power_w is None
    assert snapshot.missing["power_w"].startswith("not-supported")


def test_a_processor_that_tells_nothing_gives_reasons() -> None:
    system = SimpleNamespace(
        cpu_freq=lambda: None, cpu_percent=lambda interval: 3.0, sensors_temperatures=dict
    )
    missing = CpuSource(system).snapshot().missing
    assert missing["sm_clock_mhz"] == "failed (AttributeError)"
    assert missing["temperature_c"] == "not-told"
    zero = SimpleNamespace(cpu_freq=lambda: SimpleNamespace(current=0.0))
    assert CpuSource(zero).snapshot().missing["sm_clock_mhz"] == "not-told"


def test_the_processor_is_read_seldom() -> None:
    with Sampler(CpuSource(), 0.001) as sampler:
        pass
    assert sampler.summary().interval_s == 0.5
    Telemetry.model_validate(asdict(sampler.summary()))


def test_a_device_without_a_source_gives_its_reason_and_no_thread() -> None:
    before = threading.active_count()
    with Sampler(NoSource("not-supported (no telemetry on this accelerator)")) as sampler:
        assert threading.active_count() == before
    summary = sampler.summary()
    assert summary.n_samples == 0
    assert summary.interval_s is None
    assert set(summary.missing.values()) == {"not-supported (no telemetry on this accelerator)"}
    Telemetry.model_validate(asdict(summary))


# Traces


def test_a_trace_is_each_reading_with_its_time_since_the_first() -> None:
    snapshots = [reading(345), reading(1980, bits=0x4), reading(1700, bits=0x4 | 0x20)]
    assert trace_of([100.0, 100.0504, 101.25], snapshots) == (
        TracePoint(0.0, 345.0, 34.5, 40.0, ()),
        TracePoint(0.05, 1980.0, 198.0, 40.0, ("sw_power_cap",)),
        TracePoint(1.25, 1700.0, 170.0, 40.0, ("sw_power_cap", "sw_thermal")),
    )


def test_a_trace_leaves_out_readings_that_told_nothing_and_keeps_their_time() -> None:
    points = trace_of([1.0, 2.0, 4.0], [Snapshot(), reading(1000), reading(1100)])
    assert [point.at_s for point in points] == [1.0, 3.0]
    assert trace_of([1.0], [Snapshot()]) == ()
    assert trace_of([], []) == ()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 100, 127, 1000, 7201])
def test_a_long_trace_is_thinned_evenly_to_64_points_with_both_ends(count: int) -> None:
    points = trace_of([float(at) for at in range(count)], [reading(at + 1) for at in range(count)])
    assert len(points) == min(count, 64)
    assert (points[0].at_s, points[-1].at_s) == (0.0, count - 1.0)
    assert all(point.sm_clock_mhz == point.at_s + 1 for point in points)
    steps = {int(b.at_s - a.at_s) for a, b in itertools.pairwise(points)}
    assert not steps or max(steps) - min(steps) <= 1, "evenly"
    assert min(steps, default=1) >= 1, "none twice"


def test_a_sampler_keeps_the_trace_of_its_window_and_the_records_take_it() -> None:
    sampler = Sampler(Told([reading(345, 1), reading(1980, 2)]), LONG_S)
    with sampler:
        pass
    trace = sampler.summary().trace
    assert [point.sm_clock_mhz for point in trace] == [345.0, 1980.0]
    assert trace[0].at_s == 0.0
    assert trace[1].at_s >= 0.0
    record = Telemetry.model_validate(asdict(sampler.summary()))
    assert [point.sm_clock_mhz for point in record.trace] == [345.0, 1980.0]
    with sampler:
        pass
    assert len(sampler.summary().trace) == 2, "nothing of the last window is left"


def test_what_others_did_with_the_cores_is_their_time_over_the_window() -> None:
    def processor(total_s: float, own_s: float) -> Snapshot:
        times = SimpleNamespace(user=total_s, nice=1.0, system=2.0, steal=3.0, idle=1e6)
        own = SimpleNamespace(user=own_s, system=0.5)
        system = SimpleNamespace(
            cpu_times=lambda: times, Process=lambda: SimpleNamespace(cpu_times=lambda: own)
        )
        return CpuSource(system).snapshot()

    before, after = processor(100.0, 40.0), processor(106.0, 43.0)
    assert before.others_cpu_s == 100 + 1 + 2 + 3 - 40.5
    # 6 s of processor time in 2 s, 3 of them our own: others kept 1.5 cores busy.
    assert others_cores((10.0, 11.0, 12.0), (before, Snapshot(), after)) == 1.5
    assert others_cores((10.0, 10.01), (before, after)) is None, "too short for the system's clock"
    assert others_cores((10.0, 12.0), (Snapshot(), Snapshot())) is None
