"""Peaks from arithmetic: units x operations per clock x clock, and clock x bus width for memory.

    peak TFLOPS = units x rate x clock MHz / 1e6          (one fused multiply-add is 2 operations)
    memory GB/s = clock MHz x multiplier x bus bits / 8 / 1000

A derived peak answers another question than a datasheet: what could *these* units do at *this*
clock? With the device's highest clock it bounds any measurement, with the clock seen during a run
it is the clock-normalised peak, and at the datasheet's clock it must reproduce the datasheet
(`residuals`). The datasheet's own clock may be lower than the device's: H100 SXM quotes tensor
peaks at 1830 MHz and runs up to 1980, so its derived peak is 8% above the printed one and more than
100% of a datasheet is legal.

Memory clocks come in three conventions that must not be mixed. NVML and the CUDA driver report half
the data rate of every NVIDIA memory: multiply by 2. TechPowerUp prints the command clock: 2 for
HBM2, 4 for HBM3, 8 for GDDR6, 16 for GDDR6X and GDDR7. AMD's tools report the memory controller's
clock (UCLK): 2 x bus x clock falls short by about 1.7 on HBM3 (ROCm/rocm-systems#5034), so for AMD
devices the memory peak is taken from the datasheet and not derived from what the driver says.

GDDR6 cards with ECC switched on keep the check bits in the same memory, one byte for eight of data
(NVIDIA's DCGM divides what it reads there by 9/8), so 8/9 of the pins' bandwidth is left for data.
HBM has pins of its own for them. It explains a gap: what bounds a measurement are the pins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.precisions import peak_unit
from roofprobe.peaks.rates import Rate, agreed_rates, load_rates

_STATED_ROUNDING = 1.1


@dataclass(frozen=True, slots=True)
class DerivedPeak:
    """A peak that arithmetic gives, in ``unit``, with the sentence that says how.

    ``assumed`` is true when something in it is not independently known: a rate that was fitted to
    printed peaks, a device outside the catalogue, an assumed clock or number of FMA units.
    ``physical_bound`` is true when a measurement above it (at that clock) must be wrong.
    ``ops_per_clock`` is units x rate, from which `at_clock` makes the peak at another clock.
    """

    value: float
    unit: Literal["TFLOPS", "TOPS"]
    basis: str
    assumed: bool
    physical_bound: bool
    ops_per_clock: float
    clock_mhz: float

    def at_clock(self, clock_mhz: float) -> float:
        """The peak at another clock, in ``unit``."""
        return self.ops_per_clock * clock_mhz / 1e6


def compute_peak_tflops(unit_count: float, ops_per_clock: float, clock_mhz: float) -> float:
    """Peak in TFLOPS (TOPS for integer rates): units x dense operations per clock x MHz / 1e6."""
    return unit_count * ops_per_clock * clock_mhz / 1e6


def memory_peak_gbps(clock_mhz: float, bus_bits: int, multiplier: float) -> float:
    """Pin bandwidth in GB/s: clock x transfers per clock x bus bits / 8 / 1000."""
    return clock_mhz * multiplier * bus_bits / 8 / 1000


def nvml_memory_peak_gbps(max_mem_clock_mhz: float, bus_bits: int) -> float:
    """Pin bandwidth in GB/s from the driver's *maximum* memory clock, for any NVIDIA memory.

    NVML's and the CUDA driver's clock alike. The current clock is no use: idle cards sit far below
    it. Not for AMD (see the module docstring).
    """
    return memory_peak_gbps(max_mem_clock_mhz, bus_bits, load_rates().driver_memory_multiplier)


def has_inline_ecc(mem_type: str | None) -> bool:
    """Whether ECC, when it is on, takes its bits out of the data's bandwidth (GDDR6, GDDR6X)."""
    return (mem_type or "").upper().startswith("GDDR6")


def inline_ecc_payload_gbps(pin_gbps: float) -> float:
    """What inline ECC leaves of the pins' bandwidth for data, GB/s; see the module docstring."""
    return pin_gbps * 8 / 9


def memory_peak_problem(stated_gbps: float, derived_gbps: float) -> str | None:
    """Say why a stated memory bandwidth cannot be that of these pins, or None when it can.

    Vendors round (H200: 4800 for 4917; T4: 300 or 320), never by more than a tenth. Beyond that
    it is a unit mixed up, another card's figure, or a data rate doubled twice.
    """
    ratio = stated_gbps / derived_gbps
    if 1 / _STATED_ROUNDING <= ratio <= _STATED_ROUNDING:
        return None
    return (
        f"{stated_gbps:.4g} GB/s is {ratio:.3g} times what clock and bus width give "
        f"({derived_gbps:.4g} GB/s)"
    )


def catalogue_memory_peak_gbps(accelerator: Accelerator) -> float | None:
    """Pin bandwidth of a catalogue row in GB/s; None where clock or bus width is not sourced."""
    clock, bus = accelerator.mem_clock_mhz, accelerator.mem_bus_bits
    if clock is None or bus is None or accelerator.mem_clock_multiplier is None:
        return None
    return memory_peak_gbps(clock, bus, accelerator.mem_clock_multiplier)


def derived_peaks(
    accelerator: Accelerator | None,
    *,
    compute_capability: str | None = None,
    gcn_arch: str | None = None,
    unit_count: int | None = None,
    clock_mhz: float | None = None,
) -> dict[str, DerivedPeak]:
    """Peaks of a device at one clock, by peak key; empty where units or clock are unknown.

    ``unit_count`` and ``clock_mhz`` are what the device reports (its maximum clock for a bound, the
    measured one for the clock-normalised peak); without a unit count the row's is taken. A device
    that is not in the catalogue gets the rates on which every class of its architecture agrees, so
    that a cut-down variant is never credited with its sister's tensor cores.
    """
    units = unit_count
    if units is None and accelerator is not None:
        units = accelerator.unit_count
    if not units or units < 0 or not clock_mhz or clock_mhz <= 0:
        return {}
    if accelerator is not None:
        rates: Mapping[str, Rate] = accelerator.rates().rates
        where = f"rates of {accelerator.rate_class}"
        kind = accelerator.unit_kind
    else:
        rates = agreed_rates(compute_capability=compute_capability, gcn_arch=gcn_arch)
        arch = f"compute capability {compute_capability}" if compute_capability else gcn_arch
        where = f"device not in the catalogue: the rate that all known variants of {arch} share"
        kind = "SM" if compute_capability else "CU"
    return {
        key: _derived(rate, units, kind, clock_mhz, where, known=accelerator is not None)
        for key, rate in rates.items()
    }


def datasheet_derived_peaks(accelerator: Accelerator) -> dict[str, DerivedPeak]:
    """Peaks of a row at the clock at which its datasheet quotes each (tensor or boost clock).

    Empty where the row has no unit count; a peak whose clock is unknown is left out.
    """
    peaks: dict[str, DerivedPeak] = {}
    if accelerator.unit_count is None:
        return peaks
    rate_class = accelerator.rates()
    for key, rate in rate_class.rates.items():
        clock = accelerator.clock_mhz_for(key)
        if clock is None:
            continue
        assumed = clock == accelerator.tensor_clock_mhz_assumed
        where = f"rates of {rate_class.name}" + (", assumed tensor clock" if assumed else "")
        peaks[key] = _derived(
            rate,
            accelerator.unit_count,
            rate_class.unit,
            clock,
            where,
            known=True,
            assumed_clock=assumed,
        )
    return peaks


_BASIS_WORDS = {
    "independent": "",
    "read_off": ", read off one card's printed peak",
    "fitted": ", fitted to printed peaks",
}


def _derived(
    rate: Rate,
    units: int,
    kind: str,
    clock_mhz: float,
    where: str,
    *,
    known: bool,
    assumed_clock: bool = False,
) -> DerivedPeak:
    words = _BASIS_WORDS[rate.basis] + ("" if rate.settled else ", not settled")
    return DerivedPeak(
        value=compute_peak_tflops(units, rate.ops_per_clock, clock_mhz),
        unit=peak_unit(rate.key),
        basis=f"{units} {kind} x {clock_mhz:g} MHz x {rate.ops_per_clock:g} ({where}{words})",
        assumed=not known or assumed_clock or rate.basis == "fitted",
        physical_bound=known and rate.settled,
        ops_per_clock=units * rate.ops_per_clock,
        clock_mhz=clock_mhz,
    )
