"""Where the gap between a figure and the datasheet goes: clock, pipe, or feeding the pipe.

With P the derived peak (units × rate × clock), which grows with the clock f, and D the datasheet's
peak, a product's rate R and its pipe's own rate Q (registers only, no memory traffic) factor as

    R / D  =  P(f_R) / D  ×  Q / P(f_Q)  ×  [R / P(f_R)] / [Q / P(f_Q)]
              clock          pipe           feeding

which is an identity, not a model. ``clock`` is the product's clock over the one that the datasheet
stands for: the clock at which units × rate gives D (1830 MHz of an H100 that runs at up to 1980).
Power and temperature limits show there. ``pipe`` is what the instruction stream alone reaches of
the arithmetic at its own clock: what is missing was never there to win. ``feeding`` is what the
matrix product loses against the pipe at equal clocks: memory, caches, tile quantisation, launch,
the kernel. It can exceed 1 where a product's kernel issues better than the pipe probe's.

Where clocks or peaks are not known, ``feeding`` is R / Q as it is, and ``pipe`` is told only
against a peak that is itself assumed (a processor's, at its reported clock); ``basis`` says so.
"""

from __future__ import annotations

from roofprobe.records.ceilings import clock_mhz_of, clock_normalised_peak
from roofprobe.records.disturbed import is_disturbed
from roofprobe.records.schema import Attribution, Ceiling, Measurement

# A printed peak and units × rate × the clock that it is quoted at differ by rounding up to this.
_ROUNDING = 0.005
_MARGIN = 0.02


def attribution_of(
    measurement: Measurement,
    pipe: Measurement | None,
    datasheet: Ceiling | None,
    derived: Ceiling | None,
) -> Attribution | None:
    """Return how ``measurement`` falls short, factor by factor; None without the pipe's own rate.

    ``pipe`` is the pipe-only measurement of the same row (the measurement itself for a row that is
    nothing else: its ``feeding`` is 1), the ceilings are those of the measurement. A pipe that came
    out slower than a product on it explains nothing (``is_ceiling``).
    """
    if pipe is None or not measurement.rate or not pipe.rate or not is_ceiling(pipe, measurement):
        return None
    if is_disturbed(measurement) or is_disturbed(pipe):
        return None  # what neighbours took would be told as the pipe's or the feeding's loss
    achieved, alone = measurement.rate.median, pipe.rate.median
    if not achieved > 0 or not alone > 0:
        return None
    here = clock_normalised_peak(measurement, derived)
    there = clock_normalised_peak(pipe, derived)
    if here is None or there is None:
        found = _without_clocks(achieved, alone, derived)
        # a row that is its own pipe says nothing when it is compared with itself alone
        return None if pipe is measurement and found.pipe is None else found
    return Attribution(
        clock=here / datasheet.value if datasheet else None,
        pipe=alone / there,
        feeding=(achieved / here) / (alone / there),
        basis=_basis(measurement, pipe, datasheet, derived),
    )


def is_ceiling(pipe: Measurement, product: Measurement) -> bool:
    """Say whether the pipe alone does at least what a product on it does, per cycle, up to 2 %.

    It cannot do less: where it does, something else ran on the device meanwhile, or another kernel
    feeds the pipe better than the probe's. Where a clock is not known, the rates are compared.
    """
    if not pipe.rate or not product.rate:
        return False
    (pipe_mhz, _), (product_mhz, _) = clock_mhz_of(pipe), clock_mhz_of(product)
    if not pipe_mhz or not product_mhz:
        pipe_mhz = product_mhz = 1.0
    alone, fed = pipe.rate.median / pipe_mhz, product.rate.median / product_mhz
    return alone >= (1 - _MARGIN) * fed


def _without_clocks(achieved: float, alone: float, derived: Ceiling | None) -> Attribution:
    """Compare rates as they are, each at the clock that it had."""
    sentence = "product over pipe as measured, whatever their clocks were"
    if derived is None:
        return Attribution(feeding=achieved / alone, basis=f"{sentence}; no derived peak is known")
    if not derived.assumed:
        return Attribution(feeding=achieved / alone, basis=f"{sentence}; no clock was measured")
    return Attribution(
        pipe=alone / derived.value,
        feeding=achieved / alone,
        basis=f"{sentence}; pipe against an assumed peak: {derived.basis}",
    )


def _basis(
    measurement: Measurement,
    pipe: Measurement,
    datasheet: Ceiling | None,
    derived: Ceiling | None,
) -> str:
    (clock, counted), (pipe_clock, pipe_counted) = clock_mhz_of(measurement), clock_mhz_of(pipe)
    how = "counted by the device" if counted and pipe_counted else "sampled by the driver"
    parts = [f"product at {clock:.0f} MHz, pipe at {pipe_clock:.0f} MHz, {how}"]
    if datasheet is None:
        parts.append("no datasheet")
    elif derived is not None and derived.clock_mhz:
        meant = derived.clock_mhz * datasheet.value / derived.value
        parts.append(f"the datasheet's {datasheet.value:g} {datasheet.unit} is {meant:.0f} MHz")
        quoted = datasheet.clock_mhz
        if quoted and abs(meant / quoted - 1) > _ROUNDING:
            parts[-1] += f", though it is quoted at {quoted:.0f} MHz"
    if derived is not None and derived.assumed:
        parts.append(f"assumed peak: {derived.basis}")
    return "; ".join(parts)
