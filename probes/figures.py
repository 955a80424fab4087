"""Turn samples into the figures of a measurement: latency, rate, clock, energy, and warnings."""

from __future__ import annotations

from roofprobe.kernels.transfers import PEER_BY_NAME
from roofprobe.kernels.work import Work
from roofprobe.probes import host, statistics
from roofprobe.probes.measure import Sampled
from roofprobe.probes.timers import Timer, WallTimer
from roofprobe.records.noise import NOISY_HALFWIDTH, noise_note, relative_halfwidth
from roofprobe.records.retold import CACHE_RESIDUE, is_sized_for_caches
from roofprobe.records.schema import (
    NOT_ALONE,
    NOT_ALONE_SHARE,
    Case,
    Device,
    Distribution,
    Note,
    Span,
    Telemetry,
    Timing,
)
from roofprobe.records.titles import is_arithmetic

_RESIDUE_SHARE = 0.03
_TIMES = ("launch", "latency", "validate")  # families whose figure is a time, not a rate


def figures_of(
    case: Case,
    device: Device,
    work: Work,
    sampled: Sampled,
    timer: Timer,
    telemetry: Telemetry | None,
    *,
    tries: int = 1,
) -> dict[str, object]:
    """Return the fields of a ``Measurement`` that follow from samples and accounting."""
    moved = work.bytes_read + work.bytes_written
    latency = statistics.summarise(sampled.samples_us, "us", lower_is_better=True)
    rate, access_ns = _rate(case, work, sampled), _access_ns(work, sampled)
    return {
        "latency": latency,
        "rate": rate,
        "access_ns": access_ns,
        "flops": work.flops,
        "bytes_read": work.bytes_read,
        "bytes_written": work.bytes_written,
        "array_bytes": work.array_bytes,
        "kernel": work.kernel,
        "kernel_config": work.config or None,
        "notes": (
            *_noise(rate or access_ns or latency),
            *_crowded(case, device, timer, telemetry),
            *_residue(case, device, work, moved),
        ),
        "samples_us": tuple(round(value, 4) for value in sampled.samples_us),
        "sample_clocks_mhz": tuple(round(value, 1) for value in sampled.clocks_mhz),
        "clock_mhz": span_of(sampled.clocks_mhz),
        "energy_j_per_tflop": energy_j_per_tflop(work, sampled, telemetry),
        "timing": Timing(
            timer=timer.name,
            launches_per_sample=sampled.launches_per_sample,
            warmup_launches=sampled.warmup_launches,
            buffer_sets=len(work.launches),
            stop_reason=sampled.stop_reason,
            elapsed_s=sampled.elapsed_s,
            tries=tries,
        ),
    }


def _rate(case: Case, work: Work, sampled: Sampled) -> Distribution | None:
    """Return operations or bytes over time; None for work that is neither, but a latency."""
    if case.family == "compute" or is_arithmetic(case):
        unit = "TOPS" if case.precision.startswith("int") else "TFLOPS"
        return statistics.rates(sampled.samples_us, work.flops, unit)
    moved = work.bytes_read + work.bytes_written
    peer_row = PEER_BY_NAME.get(case.op)
    if case.family in (
        "validate",
        "launch",
    ):  # a step is no single rate: parts of it compute, parts stream
        return None
    is_message = peer_row is not None and peer_row.message_bytes is not None
    if work.accesses or is_message or not moved:
        return None
    return statistics.rates(sampled.samples_us, moved, "GB/s")


def _access_ns(work: Work, sampled: Sampled) -> Distribution | None:
    """Return the nanoseconds per dependent load; None for work that has none."""
    if not work.accesses:
        return None
    per_load_ns = [us * 1e3 / work.accesses for us in sampled.samples_us]
    return statistics.summarise(per_load_ns, "ns", lower_is_better=True)


def energy_j_per_tflop(work: Work, sampled: Sampled, telemetry: Telemetry | None) -> float | None:
    """Return joules per 10¹² operations over the whole window, idle power included.

    The energy counter's difference over all launches between its two readings, warm-up too: the
    counter steps every few tens of milliseconds, so the samples alone would be too short for it.
    No timer launches more than it was asked to, so these are all.
    None where the device counts no energy or the work no operations.
    """
    if telemetry is None or not telemetry.energy_j or not work.flops:
        return None
    launches = sampled.warmup_launches + len(sampled.samples_us) * sampled.launches_per_sample
    return telemetry.energy_j / (launches * work.flops * 1e-12)


def span_of(values: tuple[float, ...]) -> Span | None:
    """Return least, median and greatest of ``values``; None for none."""
    if not values:
        return None
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return Span(min=ordered[0], median=median, max=ordered[-1])


def _noise(figure: Distribution) -> tuple[Note, ...]:
    return (noise_note(figure),) if relative_halfwidth(figure) > NOISY_HALFWIDTH else ()


def share_of_others(device: Device, timer: Timer, telemetry: Telemetry | None) -> float | None:
    """Return the share that others took of the processors on which a measurement rests.

    On a processor these are the device's cores: what others kept busy beyond the spare ones, or
    how many of our threads waited, whichever is more; but no more waited for others than they kept
    cores busy, since threads of our own wait for each other too. On any other device it is the one
    that the launching thread runs on, where the host's clock times. None where nothing rests on the
    host, or nothing tells.
    """
    if telemetry is None:
        return None
    waiting, others = telemetry.waiting_threads, telemetry.others_cores
    if device.backend != "cpu":
        return waiting if isinstance(timer, WallTimer) else None
    if others is None:
        return None
    ours = device.unit_count or 1
    spare = max(0, host.physical_cores() - ours)
    return max(0.0, others - spare, min(waiting or 0.0, others)) / ours


def _crowded(
    case: Case, device: Device, timer: Timer, telemetry: Telemetry | None
) -> tuple[Note, ...]:
    """Note that others used the cores that were measured; a steady neighbour leaves no scatter."""
    taken = share_of_others(device, timer, telemetry)
    if taken is None or taken <= NOT_ALONE_SHARE:
        return ()
    assert telemetry is not None, taken
    told = {name: getattr(telemetry, name) for name in ("others_cores", "waiting_threads")}
    on_cpu = device.backend == "cpu"
    of_what = "the measured cores" if on_cpu else "the launching thread's processor"
    wrong = "the time is too long" if case.family in _TIMES else "the figure is too low"
    return (
        Note(
            code=NOT_ALONE,
            sentence=f"others took {taken:.0%} of {of_what} meanwhile: {wrong}; "
            "repeat on an idle host",
            figures={"share": taken, **{k: v for k, v in told.items() if v is not None}},
        ),
    )


def _residue(case: Case, device: Device, work: Work, moved: int) -> tuple[Note, ...]:
    cache = device.last_level_cache_bytes or 0
    # sizes of a curve that fit in a cache are there to be measured in it
    if case.family != "memory" or is_sized_for_caches(case) or cache <= _RESIDUE_SHARE * moved:
        return ()
    bound = min(1.0, cache / moved)
    part = "all" if bound >= 1 else f"up to {bound:.0%}"
    return (
        Note(
            code=CACHE_RESIDUE,
            sentence=f"{part} of the bytes of a pass can stay in the last-level cache",
            figures={"bound": bound, "array_bytes": float(work.array_bytes)},
        ),
    )
