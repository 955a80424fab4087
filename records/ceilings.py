"""A device's ceilings: datasheet, and derived from units × rate × clock, never mixed.

The datasheet's figures come from the catalogue row that matches the device; a device that matches
none has no datasheet. The derived figures use what the device itself reports (units, highest
clock, memory clock and bus width) and need only its architecture.

There is one ceiling per device, precision, pipe and sparsity, because a figure that is held against
its neighbour's peak says nothing: a vector pipe does a thirtieth of a tensor core's work, and a
2:4-sparse product counts twice the operations that are done. The ``pipe`` of a ceiling is
``tensor`` or ``vector``, and absent where the peak is what a matrix product is held against
whatever unit it runs on (FP32 on a GPU without a matrix rate for it; every precision of a CPU).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal

from roofprobe.peaks import derive
from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load
from roofprobe.peaks.cpu import cpu_peaks
from roofprobe.peaks.derive import DerivedPeak
from roofprobe.peaks.precisions import PRECISIONS, headline_key, is_vector_key, peak_unit, pipe_key
from roofprobe.records.schema import Case, Ceiling, Device, Measurement

# 2:4 sparsity skips two of four products, so the pipe finishes twice the counted operations. A
# printed pair of peaks further from this than rounding is about something else.
_SPARSE_GAIN = 2.0
_SPARSE_ROUNDING = 0.02


def ceilings_of(device: Device) -> tuple[Ceiling, ...]:
    """Return what is known of ``device``'s ceilings; nothing is invented for what is not."""
    if device.backend == "cpu":
        return tuple(_cpu_ceilings(device))
    accelerator = accelerator_of(device)
    return tuple(
        (
            *_datasheet(device, accelerator),
            *_derived_compute(device, accelerator),
            *_derived_memory(device, accelerator),
        )
    )


def accelerator_of(device: Device) -> Accelerator | None:
    """Return the catalogue row that ``device`` was recognised as, per device of a module."""
    if device.catalogue_key is None:
        return None
    row = next((row for row in load() if row.key == device.catalogue_key), None)
    return row.per_device() if row is not None else None


def ceiling_for(
    measurement: Measurement, kind: Literal["datasheet", "derived"], ceilings: Iterable[Ceiling]
) -> Ceiling | None:
    """Return the ceiling of ``kind`` that a measurement is held to, or None when unknown.

    A sparse product is held against a sparse peak only, work of the vector pipe against the vector
    peak only, and neither of them is ever a dense matrix product's ceiling.
    """
    case = measurement.case
    for ceiling in ceilings:
        same_device = ceiling.device_id == measurement.device_id
        if not same_device or ceiling.kind != kind or ceiling.family != case.family:
            continue
        if case.family == "memory" or _bounds(ceiling, case):
            return ceiling
    return None


def clock_mhz_of(measurement: Measurement) -> tuple[float | None, bool]:
    """Return the clock while a case ran, MHz, and whether the device's own counter gave it.

    Without a counter the driver's samples stand in; they are taken some times a second and can
    miss what happens within a burst.
    """
    if measurement.clock_mhz is not None:
        return measurement.clock_mhz.median, True
    telemetry = measurement.telemetry
    if telemetry is not None and telemetry.sm_clock_mhz is not None:
        return telemetry.sm_clock_mhz.median, False
    return None, False


def clock_normalised_peak(measurement: Measurement, derived: Ceiling | None) -> float | None:
    """Return the derived peak at the clock that a case ran at; None where that is not known.

    An assumed peak (a processor's, or one whose rate was fitted) is scaled only by a clock that the
    device counted: with a clock that is merely reported, nothing in it would be measured.
    """
    if derived is None or derived.family != "compute" or not derived.clock_mhz:
        return None
    clock, counted = clock_mhz_of(measurement)
    if not clock or (derived.assumed and not counted):
        return None
    return derived.value * clock / derived.clock_mhz


def _bounds(ceiling: Ceiling, case: Case) -> bool:
    if (ceiling.precision, ceiling.sparsity) != (case.precision, case.sparsity):
        return False
    return (ceiling.pipe == "vector") == (case.pipe == "vector")


def _datasheet(device: Device, accelerator: Accelerator | None) -> Iterator[Ceiling]:
    if accelerator is None:
        return
    for precision in PRECISIONS:
        name = precision.name
        key = accelerator.headline_key(name)
        if key is not None:
            yield _printed(device, accelerator, name, key, pipe=_product_pipe(key))
        key = pipe_key(name, "vector", accelerator.dense)
        if key is not None:
            yield _printed(device, accelerator, name, key, pipe="vector")
        key = _sparse_key(accelerator, name)
        if key is not None:
            yield _printed(device, accelerator, name, key, pipe="tensor", sparsity="2:4")
    if accelerator.mem_bw_gbps is not None:
        yield Ceiling(
            device_id=device.device_id,
            kind="datasheet",
            family="memory",
            peak_key="mem_bw_gbps",
            value=accelerator.mem_bw_gbps,
            unit="GB/s",
            basis=accelerator.name,
            sources=tuple(accelerator.sources.get("mem_bw_gbps", ())),
        )


def _printed(
    device: Device,
    accelerator: Accelerator,
    precision: str,
    key: str,
    *,
    pipe: Literal["vector", "tensor"] | None,
    sparsity: Literal["2:4"] | None = None,
) -> Ceiling:
    part, words = ("sparse", "with 2:4 sparsity") if sparsity else ("dense", "dense")
    peaks = accelerator.sparse if sparsity else accelerator.dense
    return Ceiling(
        device_id=device.device_id,
        kind="datasheet",
        family="compute",
        precision=precision,
        pipe=pipe,
        sparsity=sparsity,
        peak_key=key,
        value=peaks[key],
        unit=peak_unit(key),
        clock_mhz=accelerator.clock_mhz_for(key),
        basis=f"{accelerator.name}, {words}",
        sources=tuple(accelerator.sources.get(f"{part}.{key}", ())),
    )


def _product_pipe(key: str) -> Literal["tensor"] | None:
    return None if is_vector_key(key) else "tensor"


def _sparse_key(accelerator: Accelerator, precision: str) -> str | None:
    return headline_key(
        precision,
        accelerator.sparse,
        rates=accelerator.rates().ops_per_clock(),
        rate_class=accelerator.rate_class,
    )


def _derived_compute(device: Device, accelerator: Accelerator | None) -> Iterator[Ceiling]:
    architecture = device.architecture or ""
    cuda = architecture.removeprefix("sm_") if architecture.startswith("sm_") else None
    peaks: Mapping[str, DerivedPeak] = derive.derived_peaks(
        accelerator,
        compute_capability=f"{cuda[:-1]}.{cuda[-1]}" if cuda else None,
        gcn_arch=architecture if architecture.startswith("gfx") else None,
        unit_count=device.unit_count,
        clock_mhz=device.limits.max_sm_clock_mhz
        or (accelerator.boost_clock_mhz if accelerator else None),
    )
    rates = accelerator.rates().ops_per_clock() if accelerator else None
    rate_class = accelerator.rate_class if accelerator else None
    for precision in PRECISIONS:
        name = precision.name
        key = headline_key(name, peaks.keys(), rates=rates, rate_class=rate_class)
        if key is not None:
            yield _compute_ceiling(device, name, key, peaks[key], pipe=_product_pipe(key))
        key = pipe_key(name, "vector", peaks)
        if key is not None:
            yield _compute_ceiling(device, name, key, peaks[key], pipe="vector")
        key = _sparse_key(accelerator, name) if accelerator else None
        if accelerator and key and key in peaks and _doubles(accelerator, key):
            yield _sparse_ceiling(device, name, key, peaks[key])


def _doubles(accelerator: Accelerator, key: str) -> bool:
    """Whether a card prints twice its dense peak with sparsity: its units then have the feature.

    No table says which architecture has it, so the card's own pair of peaks is the evidence.
    """
    dense, sparse = accelerator.dense.get(key), accelerator.sparse.get(key)
    if dense is None or sparse is None:
        return False
    return abs(sparse / dense / _SPARSE_GAIN - 1) <= _SPARSE_ROUNDING


def _sparse_ceiling(device: Device, precision: str, key: str, dense: DerivedPeak) -> Ceiling:
    ceiling = _compute_ceiling(device, precision, key, dense, pipe="tensor")
    return ceiling.model_copy(
        update={
            "sparsity": "2:4",
            "value": _SPARSE_GAIN * dense.value,
            "basis": f"2 (2:4 sparsity) x {dense.basis}",
        }
    )


def _derived_memory(device: Device, accelerator: Accelerator | None) -> Iterator[Ceiling]:
    clock, bits = device.limits.max_mem_clock_mhz, device.limits.memory_bus_bits
    if device.backend == "cuda" and clock and bits:
        yield _memory_ceiling(
            device,
            derive.nvml_memory_peak_gbps(clock, bits),
            f"2 x {clock:.0f} MHz x {bits} bits, as the driver reports them",
            physical_bound=True,
        )
    elif accelerator is not None:
        value = derive.catalogue_memory_peak_gbps(accelerator)
        if value is not None:
            yield _memory_ceiling(
                device,
                value,
                f"{accelerator.mem_clock_mhz} MHz x {accelerator.mem_clock_multiplier} x "
                f"{accelerator.mem_bus_bits} bits, from the catalogue",
                physical_bound=False,
            )


def _memory_ceiling(device: Device, value: float, basis: str, *, physical_bound: bool) -> Ceiling:
    return Ceiling(
        device_id=device.device_id,
        kind="derived",
        family="memory",
        peak_key="mem_bw_gbps",
        value=value,
        unit="GB/s",
        physical_bound=physical_bound,
        basis=basis,
    )


def _cpu_ceilings(device: Device) -> Iterator[Ceiling]:
    for name, peak in _cpu_peaks(device, device.features).items():
        yield _compute_ceiling(device, name, name, peak, pipe=None)
    # AMX is a matrix unit: work of the vector pipe cannot use it.
    vector_flags = [flag for flag in device.features if not flag.startswith("amx")]
    for name, peak in _cpu_peaks(device, vector_flags).items():
        yield _compute_ceiling(device, name, name, peak, pipe="vector")


def _cpu_peaks(device: Device, flags: Collection[str]) -> dict[str, DerivedPeak]:
    return cpu_peaks(
        cores=device.unit_count,
        flags=flags,
        clock_mhz=device.limits.max_sm_clock_mhz,
        vendor=device.vendor,
        family=device.family,
        model=device.model,
    )


def _compute_ceiling(
    device: Device,
    precision: str,
    key: str,
    peak: DerivedPeak,
    *,
    pipe: Literal["vector", "tensor"] | None,
) -> Ceiling:
    return Ceiling(
        device_id=device.device_id,
        kind="derived",
        family="compute",
        precision=precision,
        pipe=pipe,
        peak_key=key,
        value=peak.value,
        unit=peak.unit,
        clock_mhz=peak.clock_mhz,
        # a card may boost above the catalogue's clock, but not above its own greatest one
        physical_bound=peak.physical_bound and device.limits.max_sm_clock_mhz is not None,
        assumed=peak.assumed,
        basis=peak.basis,
    )
