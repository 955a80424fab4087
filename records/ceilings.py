"""A device's ceilings: datasheet, and derived from units × rate × clock, never mixed.

The datasheet's figures come from the catalogue row that matches the device; a device that matches
none has no datasheet. The derived figures use what the device itself reports (units, highest
clock, memory clock and bus width) and need only its architecture.

There is one ceiling per device, precision, pipe and sparsity, because a figure that is held against
its neighbour's peak says nothing: a vector pipe does a thirtieth of a tensor core's work, and a
2:4-sparse product counts twice the operations that are done. The ``pipe`` of a ceiling is
``tensor`` or ``vector``, and absent where the peak is what a matrix product is held against
whatever unit it runs on (FP32 on a GPU without a matrix rate for it; every precision of a CPU).

Memory bandwidth is told in up to three ways, each a ceiling of its own: the datasheet's; NVML's
greatest memory clock x bus width x 2; and the same from the CUDA driver's properties. They differ:
H200 has 4800 on paper and 4917 by its clock; older drivers give B200 a bus of 8192 bits, newer ones
7680. None is clamped to another, and the first derived one is what shares are made of. Under MIG
only CUDA tells the slice's part of the bus, so it alone counts there. The clock of the moment is
never used.

A link's ceiling (PCIe one way and both ways at once, NVLink of the catalogue) is a bound only where
it surely is the link that the data take: not beside a processor in the same module (Grace), which
has links of its own, and not where the slot is said to be slower than the device, because virtual
machines invent their slots. Two devices are held against NVLink where the driver says that it joins
them, against the PCIe link of the one that is measured where it says that it does not, and against
nothing where it does not say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal

from roofprobe.peaks import derive, links
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

_MEMORY_KEY = "mem_bw_gbps"
# Which link bounds a transfer; what is not here (latencies, copies within the host) has no link.
LINK_OF: Mapping[str, str] = {
    "h2d": links.PCIE,
    "d2h": links.PCIE,
    "both": links.PCIE_BOTH,
    "p2p": links.NVLINK,
    "p2p-both": links.NVLINK_BOTH,
}
# What bounds two devices that no NVLink joins: each one's own PCIe link.
_WITHOUT_NVLINK: Mapping[str, str] = {
    links.NVLINK: links.PCIE,
    links.NVLINK_BOTH: links.PCIE_BOTH,
}
_DIFFERENT = 0.005  # two ways of telling the memory's bandwidth that differ by more say so
_FIRST_WITH_C2C = 90  # Hopper is the first architecture that is sold in a module with a processor


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
            *_pcie(device),
            *_nvlink(device, accelerator),
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
    """Return the first ceiling of ``kind`` that a measurement is held to, or None when unknown."""
    return next(ceilings_for(measurement, kind, ceilings), None)


def ceilings_for(
    measurement: Measurement, kind: Literal["datasheet", "derived"], ceilings: Iterable[Ceiling]
) -> Iterator[Ceiling]:
    """Yield all ceilings of ``kind`` that a measurement is held to, in their order.

    A sparse product is held against a sparse peak only, work of the vector pipe against the vector
    peak only, and neither of them is ever a dense matrix product's ceiling. What stays in a cache
    is held against no memory peak, a transfer against its own link only.
    """
    for ceiling in ceilings:
        same_device = ceiling.device_id == measurement.device_id
        if same_device and ceiling.kind == kind and _applies(ceiling, measurement):
            yield ceiling


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


def pcie_peak_under_load(measurement: Measurement) -> float | None:
    """Return what the PCIe link carries one way, GB/s, as it was while a case ran; None if untold.

    The median state counts, of generation and width each: a link that trains up within the case
    was slower only for its first moments.
    """
    telemetry = measurement.telemetry
    if telemetry is None or telemetry.pcie_generation is None or telemetry.pcie_width is None:
        return None
    return links.pcie_peak_gbps(
        int(telemetry.pcie_generation.median), int(telemetry.pcie_width.median)
    )


def _applies(ceiling: Ceiling, measurement: Measurement) -> bool:
    case = measurement.case
    if ceiling.family != case.family:
        return False
    if case.family == "memory":
        return case.level is None
    if case.family == "interconnect":
        return ceiling.peak_key == _link_key(measurement)
    return _bounds(ceiling, case)


def _link_key(measurement: Measurement) -> str | None:
    """Return which link's peak counts; between devices only the driver knows what joins them."""
    key = LINK_OF.get(measurement.case.op)
    if measurement.case.peer is None or key is None:
        return key
    kind = measurement.link.kind if measurement.link else None
    return {"nvlink": key, "pcie": _WITHOUT_NVLINK[key]}.get(kind or "")


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
    if accelerator.mem_bw_gbps is not None and not device.limits.mig_enabled:
        yield Ceiling(
            device_id=device.device_id,
            kind="datasheet",
            family="memory",
            peak_key=_MEMORY_KEY,
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
    told = list(_told_memory(device))
    for method, value, basis in told:
        others = [gbps for _, gbps, _ in told if abs(gbps / value - 1) > _DIFFERENT]
        if others:
            basis += f"; its other interface gives {others[0]:.0f} GB/s"
        if device.limits.ecc_enabled and derive.has_inline_ecc(
            accelerator.mem_type if accelerator else None
        ):
            payload = derive.inline_ecc_payload_gbps(value)
            basis += f"; inline ECC is on and leaves about 8/9 of it for data ({payload:.0f} GB/s)"
        yield _memory_ceiling(device, value, basis, method=method, physical_bound=True)
    if told or accelerator is None or device.limits.mig_enabled:
        return
    peak = derive.catalogue_memory_peak_gbps(accelerator)
    if peak is not None:
        basis = (
            f"{accelerator.mem_clock_mhz} MHz x {accelerator.mem_clock_multiplier} x "
            f"{accelerator.mem_bus_bits} bits, from the catalogue"
        )
        yield _memory_ceiling(device, peak, basis, method="catalogue", physical_bound=False)


def _told_memory(device: Device) -> Iterator[tuple[Literal["nvml", "driver"], float, str]]:
    """Yield (method, GB/s, basis) for each way in which the driver tells the memory's peak."""
    if device.backend != "cuda":
        return
    clock, bits = device.limits.max_mem_clock_mhz, device.limits.memory_bus_bits
    # In MIG mode every CUDA device is a slice, while NVML may speak of the whole chip.
    if clock and bits and not device.limits.mig_enabled:
        value = derive.nvml_memory_peak_gbps(clock, bits)
        yield "nvml", value, f"2 x {clock:.0f} MHz x {bits} bits, as the driver reports them"
    clock, bits = device.driver_mem_clock_mhz, device.driver_memory_bus_bits
    if clock and bits:
        value = derive.nvml_memory_peak_gbps(clock, bits)
        words = ", the slice's share of the bus" if device.limits.mig_enabled else ""
        yield (
            "driver",
            value,
            f"2 x {clock:.0f} MHz x {bits} bits, properties of the CUDA driver{words}",
        )


def _memory_ceiling(
    device: Device,
    value: float,
    basis: str,
    *,
    method: Literal["nvml", "driver", "catalogue"],
    physical_bound: bool,
) -> Ceiling:
    return Ceiling(
        device_id=device.device_id,
        kind="derived",
        family="memory",
        peak_key=_MEMORY_KEY,
        value=value,
        unit="GB/s",
        method=method,
        physical_bound=physical_bound,
        basis=basis,
    )


def _pcie(device: Device) -> Iterator[Ceiling]:
    """Yield the PCIe link's ceilings, one way and both ways at once, as device and slot allow."""
    limits = device.limits
    generation, lanes = limits.pcie_generation_max, limits.pcie_width_max
    if not generation or not lanes or limits.c2c_link_count:
        return
    one_way = links.pcie_peak_gbps(generation, lanes)
    if one_way is None:
        return
    slot_is_no_limit = (
        generation == limits.pcie_generation_gpu_max and lanes >= links.PCIE_FULL_WIDTH
    )
    for key, directions, words in (
        (links.PCIE, 1, "one way"),
        (links.PCIE_BOTH, 2, "both ways at once"),
    ):
        yield Ceiling(
            device_id=device.device_id,
            kind="derived",
            family="interconnect",
            peak_key=key,
            value=directions * one_way,
            unit="GB/s",
            method="nvml",
            physical_bound=slot_is_no_limit and not _may_have_c2c(device),
            basis=f"PCIe Gen{generation} x{lanes} ({links.pcie_encoding(generation)}), {words}; "
            "packet headers leave pinned copies 76 to 87% of it",
        )


def _may_have_c2c(device: Device) -> bool:
    """Whether data for the host may take another way than PCIe; a driver that lacks it says so."""
    if device.limits.c2c_link_count is not None:
        return device.limits.c2c_link_count > 0
    if device.missing.get("c2c_link_count", "").startswith("not-supported"):
        return False
    number = (device.architecture or "").removeprefix("sm_")
    return not number.isdigit() or int(number) >= _FIRST_WITH_C2C


def _nvlink(device: Device, accelerator: Accelerator | None) -> Iterator[Ceiling]:
    """Yield what the catalogue prints for NVLink; whether two devices are joined it cannot know."""
    if accelerator is None or accelerator.nvlink_gbps is None:
        return
    both = accelerator.nvlink_gbps
    for key, value, words in (
        (links.NVLINK, links.nvlink_one_way_gbps(both), "NVLink, one way: half of both ways"),
        (links.NVLINK_BOTH, both, "NVLink, both ways at once"),
    ):
        yield Ceiling(
            device_id=device.device_id,
            kind="datasheet",
            family="interconnect",
            peak_key=key,
            value=value,
            unit="GB/s",
            basis=f"{accelerator.name}, {words}",
            sources=tuple(accelerator.sources.get("nvlink_gbps", ())),
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
