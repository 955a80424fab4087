"""The device as a cost model sees it: peaks, bandwidths, caches, each with where it comes from.

Compute peaks are dense and in FLOP/s, bandwidths in byte/s, the link's one way. What nobody
published or measured is absent, and an operation that needs it is not timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roofprobe.costmodel.calibration_file import Ceilings, DeviceCalibration, Peak
from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load
from roofprobe.peaks.derive import datasheet_derived_peaks
from roofprobe.peaks.find import UnknownAcceleratorError, find
from roofprobe.peaks.links import PCIE_FULL_WIDTH, pcie_peak_gbps
from roofprobe.peaks.precisions import NAMES, headline_key, precision
from roofprobe.records.errors import RoofprobeError

# Vendors print "GB" and mean 2^30 bytes of memory: an H100 of "80 GB" reports 81,559 MiB. What a
# driver reports is up to a few percent less than printed.
_GB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Hardware:
    """Peaks of one device; see the module docstring for the units.

    ``sources`` says of each figure (``peak_flops.bf16``, ``bandwidth``, ``link``, ``memory_bytes``,
    ``units``, ``l2_bytes``) where it comes from.
    """

    name: str
    catalogue_key: str | None
    memory_bytes: int | None
    units: int | None
    peak_flops: Mapping[str, float]
    bandwidth: float | None
    link: float | None
    l2_bytes: float | None
    sources: Mapping[str, str]
    architecture: str | None = None


def accelerator_of(gpu_name: str) -> Accelerator:
    """Return the catalogue's row of a GPU; raises ``RoofprobeError`` (``unknown-accelerator``)."""
    try:
        return find(gpu_name).per_device()
    except UnknownAcceleratorError as error:
        raise RoofprobeError("unknown-accelerator", str(error)) from None


def datasheet_ceilings(row: Accelerator) -> Ceilings:
    """Return the catalogue's dense peaks, bandwidth and one-way link as ceilings with sources.

    A peak that nobody published is derived from units, rate and clock where those are known.
    """

    def cited(field: str) -> str:
        return "datasheet: " + ", ".join(row.sources.get(field, ("catalogue",)))

    compute: dict[str, Peak] = {}
    derived = datasheet_derived_peaks(row)
    for name in NAMES:
        key = row.headline_key(name)
        if key is not None:
            compute[name] = Peak(
                value=row.dense[key],
                unit=precision(name).unit,
                kind="datasheet",
                source=cited(f"dense.{key}"),
            )
            continue
        known = headline_key(
            name, derived, rates=row.rates().ops_per_clock(), rate_class=row.rate_class
        )
        if known is not None:
            compute[name] = Peak(
                value=derived[known].value,
                unit=precision(name).unit,
                kind="derived",
                source=f"units x rate x clock: {derived[known].basis}",
            )
    memory = None
    if row.mem_bw_gbps is not None:
        memory = Peak(
            value=row.mem_bw_gbps, unit="GB/s", kind="datasheet", source=cited("mem_bw_gbps")
        )
    link = None
    pcie = pcie_peak_gbps(row.pcie_gen, PCIE_FULL_WIDTH) if row.pcie_gen else None
    if row.nvlink_gbps is not None:
        link = Peak(
            value=row.nvlink_gbps / 2,
            unit="GB/s",
            kind="datasheet",
            source=f"half of NVLink both ways, {cited('nvlink_gbps')}",
        )
    elif pcie is not None:
        link = Peak(
            value=pcie,
            unit="GB/s",
            kind="datasheet",
            source=f"PCIe generation {row.pcie_gen}, 16 lanes, one way, {cited('pcie_gen')}",
        )
    return Ceilings(compute=compute, memory=memory, link=link)


def _l2_bytes(row: Accelerator) -> int | None:
    """Return the size of L2; where the row has none, the greatest of cards with the same die.

    Of a regime that a larger cache opens too early, the fit tells; a cache taken for too small
    would make true timings look impossible.
    """
    sizes = [row.l2_mb] if row.l2_mb is not None else []
    if not sizes:
        kin = (one for one in load() if one.architecture == row.architecture)
        sizes = [one.l2_mb for one in kin if one.l2_mb is not None]
    return int(max(sizes) * 1e6) if sizes else None


def datasheet_device(row: Accelerator) -> DeviceCalibration:
    """Return a catalogue row as a device of a calibration without any operation."""
    return DeviceCalibration(
        name=row.name,
        architecture=row.rate_class,
        catalogue_key=row.key,
        units=row.unit_count,
        memory_bytes=None if row.mem_gb is None else int(row.mem_gb * _GB),
        l2_bytes=_l2_bytes(row),
        ceilings=datasheet_ceilings(row),
    )


def hardware_of(device: DeviceCalibration) -> Hardware:
    """Return the figures of a calibrated device in FLOP/s, byte/s and bytes."""
    ceilings = device.ceilings
    sources = {f"peak_flops.{name}": peak.source for name, peak in ceilings.compute.items()}
    for name, peak in (("bandwidth", ceilings.memory), ("link", ceilings.link)):
        if peak is not None:
            sources[name] = peak.source
    catalogue = device.catalogue_key or "the run's own device"
    for name in ("memory_bytes", "units", "l2_bytes"):
        if getattr(device, name) is not None:
            sources[name] = f"datasheet: {catalogue}" if device.device_id is None else "the device"
    row = load().accelerators.get(device.catalogue_key or "")
    if device.device_id is None and row is not None and row.l2_mb is None and device.l2_bytes:
        sources["l2_bytes"] = f"assumed: the greatest of cards with {row.architecture}"
    return Hardware(
        name=device.name,
        catalogue_key=device.catalogue_key,
        memory_bytes=device.memory_bytes,
        units=device.units,
        peak_flops={name: peak.value * 1e12 for name, peak in ceilings.compute.items()},
        bandwidth=None if ceilings.memory is None else ceilings.memory.value * 1e9,
        link=None if ceilings.link is None else ceilings.link.value * 1e9,
        l2_bytes=device.l2_bytes,
        sources=sources,
        architecture=device.architecture,
    )
