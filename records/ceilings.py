"""A device's ceilings: datasheet, and derived from units × rate × clock, never mixed.

The datasheet's figures come from the catalogue row that matches the device; a device that matches
none has no datasheet. The derived figures use what the device itself reports (units, highest
clock, memory clock and bus width) and need only its architecture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from roofprobe.peaks import derive
from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load
from roofprobe.peaks.cpu import cpu_peaks
from roofprobe.peaks.derive import DerivedPeak
from roofprobe.peaks.precisions import PRECISIONS, headline_key
from roofprobe.records.schema import Ceiling, Device


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


def _datasheet(device: Device, accelerator: Accelerator | None) -> Iterator[Ceiling]:
    if accelerator is None:
        return
    for precision in PRECISIONS:
        key = accelerator.headline_key(precision.name)
        if key is None:
            continue
        yield Ceiling(
            device_id=device.device_id,
            kind="datasheet",
            family="compute",
            precision=precision.name,
            peak_key=key,
            value=accelerator.dense[key],
            unit=precision.unit,
            clock_mhz=accelerator.clock_mhz_for(key),
            basis=f"{accelerator.name}, dense",
            sources=tuple(accelerator.sources.get(f"dense.{key}", ())),
        )
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
        key = headline_key(precision.name, peaks.keys(), rates=rates, rate_class=rate_class)
        if key is not None:
            yield _compute_ceiling(device, precision.name, key, peaks[key])


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
    peaks = cpu_peaks(
        cores=device.unit_count,
        flags=device.features,
        clock_mhz=device.limits.max_sm_clock_mhz,
        vendor=device.vendor,
        family=device.family,
        model=device.model,
    )
    for name, peak in peaks.items():
        yield _compute_ceiling(device, name, name, peak)


def _compute_ceiling(device: Device, precision: str, key: str, peak: DerivedPeak) -> Ceiling:
    return Ceiling(
        device_id=device.device_id,
        kind="derived",
        family="compute",
        precision=precision,
        peak_key=key,
        value=peak.value,
        unit=peak.unit,
        clock_mhz=peak.clock_mhz,
        physical_bound=peak.physical_bound,
        assumed=peak.assumed,
        basis=peak.basis,
    )
