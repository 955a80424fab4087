"""From samples to figures: every number follows exactly from what was told."""

from __future__ import annotations

import pytest

from roofprobe.kernels.work import Check, Work
from roofprobe.probes import host
from roofprobe.probes.figures import energy_j_per_tflop, figures_of, share_of_others, span_of
from roofprobe.probes.measure import Sampled
from roofprobe.probes.timers import BatchWallTimer, EnqueueTimer, EventTimer, Timer, WallTimer
from roofprobe.records.schema import (
    NOT_ALONE,
    Case,
    Device,
    Distribution,
    Measurement,
    Span,
    Telemetry,
    Timing,
)

CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")


def case_of(precision: str = "bf16", family: str = "compute", op: str | None = None) -> Case:
    usual = "gemm" if family == "compute" else "triad"
    return Case.model_validate(
        {"case_id": "x", "family": family, "op": op or usual,
         "precision": precision, "route": "torch.mm", "shape": {"m": 1, "n": 1, "k": 1}}
    )  # fmt: skip


def work_of(flops: int = 2 * 10**12, moved: tuple[int, int] = (3000, 1000)) -> Work:
    return Work(
        launches=(lambda: None,) * 3,
        flops=flops,
        bytes_read=moved[0],
        bytes_written=moved[1],
        array_bytes=4000,
        check=lambda: Check(0, 0, "", 1),
        kernel="fake",
        config={"tile": 128},
    )


def sampled(
    *samples_us: float, each: int = 1, warm: int = 2, clocks: tuple[float, ...] = ()
) -> Sampled:
    return Sampled(samples_us or (1e6,) * 4, each, warm, "time limit", 4.0, clocks)


def figures(work: Work, samples: Sampled, case: Case | None = None, **more: object) -> Measurement:
    telemetry = Telemetry.model_validate(more) if more else None
    fields = figures_of(case or case_of(), CPU, work, samples, WallTimer(), telemetry)
    return Measurement.model_validate(
        {"case": case or case_of(), "device_id": "cpu", "status": "ok", **fields}
    )


def test_the_rate_of_a_product_is_its_operations_over_the_time() -> None:
    found = figures(work_of(), sampled(1e6, 1e6, 5e5, 2e6, 1e6))
    assert found.rate is not None
    assert (found.rate.unit, found.rate.median, found.rate.best) == ("TFLOPS", 2.0, 4.0)
    assert found.latency is not None
    assert (found.latency.unit, found.latency.median, found.latency.best) == ("us", 1e6, 5e5)
    assert (found.flops, found.kernel, found.kernel_config) == (2 * 10**12, "fake", {"tile": 128})


@pytest.mark.parametrize(
    ("precision", "family", "unit"),
    [("int8", "compute", "TOPS"), ("int4", "compute", "TOPS"), ("fp8", "compute", "TFLOPS"),
     ("fp32", "memory", "GB/s")],
)  # fmt: skip
def test_the_unit_follows_from_what_is_counted(precision: str, family: str, unit: str) -> None:
    found = figures(work_of(), sampled(), case_of(precision, family))
    assert found.rate is not None
    assert found.rate.unit == unit
    if family == "memory":
        assert found.rate.median == 4000 / 1e9


def test_timing_says_how_the_samples_were_taken() -> None:
    assert figures(work_of(), sampled(each=7, warm=20)).timing == Timing(
        timer="wall clock",
        launches_per_sample=7,
        warmup_launches=20,
        buffer_sets=3,
        stop_reason="time limit",
        elapsed_s=4.0,
    )


def test_clocks_of_the_samples_are_kept_and_summed_up() -> None:
    found = figures(work_of(), sampled(clocks=(1980.04, 1755.0, 1900.0, 1755.0)))
    assert found.sample_clocks_mhz == (1980.0, 1755.0, 1900.0, 1755.0)
    assert found.clock_mhz == Span(min=1755.0, median=1827.5, max=1980.04)
    without = figures(work_of(), sampled())
    assert (without.sample_clocks_mhz, without.clock_mhz) == ((), None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), None),
        ((5.0,), (5, 5, 5)),
        ((3.0, 1.0), (1, 2, 3)),
        ((3.0, 1.0, 2.5), (1, 2.5, 3)),
        ((4.0, 1.0, 2.0, 3.0), (1, 2.5, 4)),
    ],
)
def test_a_span_is_least_median_and_greatest(
    values: tuple[float, ...], expected: tuple[float, float, float] | None
) -> None:
    found = span_of(values)
    assert (found and (found.min, found.median, found.max)) == expected


def test_energy_counts_every_launch_between_the_two_readings() -> None:
    # 20 launches of warm-up and 4 samples of 5: 40 launches of 2 TFLOP on 16 kJ.
    found = figures(work_of(), sampled(each=5, warm=20), energy_j=16_000.0)
    assert found.energy_j_per_tflop == 200.0


@pytest.mark.parametrize(
    ("telemetry", "flops"),
    [
        (None, 1),
        (Telemetry(), 1),
        (Telemetry(energy_j=None), 1),
        (Telemetry(energy_j=0.0), 1),  # a counter that did not step tells nothing
        (Telemetry(energy_j=5.0), 0),
    ],
)
def test_energy_that_is_not_known_is_absent_and_not_zero(
    telemetry: Telemetry | None, flops: int
) -> None:
    assert energy_j_per_tflop(work_of(flops), sampled(), telemetry) is None


def test_scattered_samples_carry_a_note_and_steady_ones_do_not() -> None:
    assert figures(work_of(), sampled(*(1e6,) * 30)).notes == ()
    noisy = figures(work_of(), sampled(*(1e6 * (1 + 0.05 * (7 * i % 10)) for i in range(10))))
    (note,) = noisy.notes
    rate = noisy.rate
    assert isinstance(rate, Distribution)
    width = (rate.ci_high - rate.ci_low) / 2 / rate.median
    assert (note.code, note.figures) == ("noisy", {"relative_ci_halfwidth": width})
    assert width > 0.02


@pytest.mark.parametrize(("cache", "noted"), [(None, False), (120, False), (121, True)])
def test_what_a_cache_could_keep_of_a_stream_is_noted_above_3_percent(
    cache: int | None, noted: bool
) -> None:
    device = CPU.model_copy(update={"last_level_cache_bytes": cache})
    memory = case_of("fp32", "memory")
    fields = figures_of(memory, device, work_of(), sampled(), WallTimer(), None)
    notes = Measurement.model_validate(
        {"case": memory, "device_id": "cpu", "status": "ok", **fields}
    ).notes
    assert [note.code for note in notes] == (["cache-residue"] if noted else [])
    if noted:
        assert notes[0].figures == {"bound": 121 / 4000, "array_bytes": 4000.0}
    whole = device.model_copy(update={"last_level_cache_bytes": 8000})
    fields = figures_of(memory, whole, work_of(), sampled(), WallTimer(), None)
    (held,) = Measurement.model_validate(
        {"case": memory, "device_id": "cpu", "status": "ok", **fields}
    ).notes
    assert held.sentence == "all of the bytes of a pass can stay in the last-level cache"
    for on_purpose in ({"role": "curve"}, {"level": "l2"}):
        sized = memory.model_copy(update=on_purpose)
        fields = figures_of(sized, whole, work_of(), sampled(), WallTimer(), None)
        assert fields["notes"] == ()
    assert held.figures["bound"] == 1.0
    product = figures_of(case_of(), device, work_of(), sampled(), WallTimer(), None)
    assert product["notes"] == (), "a product goes round its buffers"


@pytest.mark.parametrize(
    ("cores", "units", "others", "waiting", "share"),
    [
        (2, 2, 0.05, 0.0, None),  # a shell and a daemon
        (2, 2, 1.0, None, 0.5),
        (8, 2, 5.0, None, None),  # there is room for them
        (8, 2, 7.0, None, 0.5),
        (2, 2, None, None, None),
        (8, 2, 5.0, 0.4, 0.2),  # there is room, and they are on our cores all the same
        (2, 1, 1.0, 0.5, 0.5),  # kept to one core, as a neighbour is
        (2, 2, 1.0, 0.6, 0.5),
        (2, 2, None, 0.5, None),  # nobody tells who it was
        (2, 2, 0.02, 0.5, None),  # threads of our own waited for each other
    ],
)
def test_neighbours_on_the_measured_cores_are_noted(
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    units: int,
    others: float | None,
    waiting: float | None,
    share: float | None,
) -> None:
    monkeypatch.setattr(host, "physical_cores", lambda: cores)
    device = CPU.model_copy(update={"unit_count": units})
    telemetry = Telemetry(others_cores=others, waiting_threads=waiting)
    fields = figures_of(case_of(), device, work_of(), sampled(), WallTimer(), telemetry)
    notes = {note.code: note for note in fields["notes"]}  # type: ignore[attr-defined]
    if share is None:
        assert NOT_ALONE not in notes
        return
    told = {"others_cores": others, "waiting_threads": waiting}
    assert notes[NOT_ALONE].figures == {
        "share": share, **{name: value for name, value in told.items() if value is not None},
    }  # fmt: skip
    assert "of the measured cores meanwhile: the figure is too low" in notes[NOT_ALONE].sentence


@pytest.mark.parametrize(
    ("timer", "waiting", "share"),
    [
        (BatchWallTimer(lambda: None), 0.4, 0.4),
        (EnqueueTimer(lambda: None), 0.4, 0.4),
        (BatchWallTimer(lambda: None), 0.04, None),
        (BatchWallTimer(lambda: None), None, None),
        (EventTimer(lambda: None, lambda: None), 0.4, None),  # the device's own time
    ],
)
def test_on_a_gpu_the_hosts_clock_rests_on_the_thread_that_launches(
    timer: Timer, waiting: float | None, share: float | None
) -> None:
    gpu = CPU.model_copy(update={"backend": "cuda", "unit_count": 132})
    telemetry = Telemetry(others_cores=7.0, waiting_threads=waiting)
    case = case_of(family="launch", op="launch")
    assert share_of_others(gpu, timer, telemetry) == (
        waiting if isinstance(timer, WallTimer) else None
    )
    fields = figures_of(case, gpu, work_of(), sampled(), timer, telemetry)
    notes = {note.code: note for note in fields["notes"]}  # type: ignore[attr-defined]
    assert (notes[NOT_ALONE].figures["share"] if NOT_ALONE in notes else None) == share
    if share is not None:
        assert notes[NOT_ALONE].sentence == (
            "others took 40% of the launching thread's processor meanwhile: the time is too long; "
            "repeat on an idle host"
        )
