"""What the catalogue knows about one accelerator.

Units: peaks in TFLOPS (TOPS for integer types), bandwidths in GB/s (1e9 bytes), memory sizes in GB
as the vendor prints them (a driver shows a few percent less), caches in MB, clocks in MHz, power in
W. ``dense`` is the peak without 2:4 sparsity and ``sparse`` the one printed with it; neither is
derived from the other. What nobody published is ``None`` or missing, never zero and never a sister
card's.

Two rows (MI250X, Ascend 910C) are modules whose driver shows two devices; `Accelerator.per_device`
gives the share of one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from roofprobe.peaks.precisions import headline_key
from roofprobe.peaks.rates import RateClass, load_rates


@dataclass(frozen=True, slots=True)
class ConflictValue:
    """One of several values found for a field, with the sources that state it."""

    value: float | str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Sources that disagree about a field (or a peak key), and why one was chosen or none."""

    field: str
    values: tuple[ConflictValue, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One row of the catalogue; see the module docstring for the units.

    ``sources`` maps every sourced value ("mem_bw_gbps", "dense.fp64") to source keys. ``unit_kind``
    is SM, CU, AI core or MME. ``tensor_clock_mhz`` is the clock at which tensor peaks are quoted
    where that is not the boost clock; ``tensor_clock_mhz_assumed`` is one that was fitted or
    supposed. ``mem_clock_mhz`` x ``mem_clock_multiplier`` x ``mem_bus_bits`` / 8 / 1000 is the
    memory's GB/s. ``nvlink_gbps`` counts both directions. ``excluded_subsystem_ids`` are boards
    that carry one of ``pci_ids`` but are another product.
    """

    key: str
    name: str
    vendor: str
    rate_class: str
    dense_basis: str
    architecture: str
    unit_kind: str
    sources: Mapping[str, tuple[str, ...]]
    dense: Mapping[str, float]
    sparse: Mapping[str, float]
    conflicts: tuple[Conflict, ...] = ()
    aliases: tuple[str, ...] = ()
    founding_column: str | None = None
    compute_capability: str | None = None
    gcn_arch: str | None = None
    launch: str | None = None
    form_factor: str | None = None
    driver_names: tuple[str, ...] = ()
    pci_ids: tuple[str, ...] = ()
    pci_subsystem_ids: tuple[str, ...] = ()
    excluded_subsystem_ids: tuple[str, ...] = ()
    devices_per_module: int = 1
    unit_count: int | None = None
    vector_core_count: int | None = None
    tpc_count: int | None = None
    boost_clock_mhz: float | None = None
    tensor_clock_mhz: float | None = None
    tensor_clock_mhz_assumed: float | None = None
    mem_gb: float | None = None
    mem_type: str | None = None
    mem_bw_gbps: float | None = None
    mem_bus_bits: int | None = None
    mem_clock_mhz: float | None = None
    mem_clock_multiplier: int | None = None
    l2_mb: float | None = None
    infinity_cache_mb: float | None = None
    sram_mb: float | None = None
    tdp_w: float | None = None
    nvlink_gbps: float | None = None
    hccs_gbps: float | None = None
    nic_tbit_per_s: float | None = None
    pcie_gen: int | None = None

    def rates(self) -> RateClass:
        """The rate class of this row: operations per clock per unit."""
        return load_rates().classes[self.rate_class]

    def headline_key(self, precision: str) -> str | None:
        """Key of the published dense peak that a matrix product of a precision is held against."""
        return headline_key(
            precision,
            self.dense,
            rates=self.rates().ops_per_clock(),
            rate_class=self.rate_class,
        )

    def headline_peak(self, precision: str) -> float | None:
        """Published dense peak of a matrix product, TFLOPS (TOPS for integers); None if unknown."""
        key = self.headline_key(precision)
        return None if key is None else self.dense[key]

    def clock_mhz_for(self, peak_key: str) -> float | None:
        """The clock at which the datasheet quotes a peak, MHz.

        Hopper and Blackwell data-centre parts quote tensor peaks below the boost clock (H100
        whitepaper V1.04: 1830 against 1980 MHz), but vector and FP64 peaks at it.
        """
        at_boost = (
            peak_key in ("fp64", "fp64_tensor", "fp32", "fp32_vector", "fp32_packed", "fp32_matrix")
            or peak_key.endswith("_vector")
            or peak_key in self.rates().boost_clock_keys
        )
        if at_boost:
            return self.boost_clock_mhz
        return self.tensor_clock_mhz or self.tensor_clock_mhz_assumed or self.boost_clock_mhz

    def per_device(self) -> Accelerator:
        """What one device of a multi-device module is: peaks, units and memory divided evenly.

        Figures that belong to the package as a whole (power, links) become unknown. A row of one
        device is returned as it is.
        """
        count = self.devices_per_module
        if count == 1:
            return self
        return dataclasses.replace(
            self,
            name=f"{self.name}, one of {count} devices",
            devices_per_module=1,
            dense={key: value / count for key, value in self.dense.items()},
            sparse={key: value / count for key, value in self.sparse.items()},
            unit_count=_share(self.unit_count, count),
            vector_core_count=_share(self.vector_core_count, count),
            mem_gb=None if self.mem_gb is None else self.mem_gb / count,
            mem_bw_gbps=None if self.mem_bw_gbps is None else self.mem_bw_gbps / count,
            mem_bus_bits=_share(self.mem_bus_bits, count),
            l2_mb=None if self.l2_mb is None else self.l2_mb / count,
            tdp_w=None,
            nvlink_gbps=None,
            hccs_gbps=None,
        )


def _share(total: int | None, count: int) -> int | None:
    return None if total is None else total // count
