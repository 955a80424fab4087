"""What measured neighbours correct, how sure a time is, and what lies outside the measured range.

A closed form is off in ways that neighbouring weights share at the same size (a tile choice, a wave
that does not fill), so the time at a shape is corrected by what the nearest measured sites were off
by there. Outside of what was measured the form only extrapolates: that is flagged, and the interval
widens with the distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel import forms
from roofprobe.costmodel.calibration_file import OpFit
from roofprobe.costmodel.forms import FloatArray


@dataclass(frozen=True, slots=True)
class Flag:
    """Why an estimate is less sure than its calibration: a stable code and one sentence."""

    code: str
    sentence: str


# Bit → why. The codes and bits are part of the interface.
FLAGS: Final[Mapping[int, Flag]] = MappingProxyType(
    {
        1: Flag("size-range", "a number of tokens, a batch or a context lies outside the measured "
                "range"),
        2: Flag("far-site", "no measured weight or head geometry is within a factor of two"),
        4: Flag("stand-in", "another precision's constants stand in for one never measured"),
        8: Flag("sibling", "constants are of another GPU of the same architecture"),
        16: Flag("generic", "constants are generic: nobody published timings of this GPU or of its "
                 "architecture"),
        32: Flag("published-fit", "constants are a published fit, not fitted to timings here"),
        64: Flag("few-sites", "too few measured sites for an 80 % interval; it is a guess"),
    }
)  # fmt: skip
STAND_IN_LOG: Final = 0.2  # added half-width of ln t where another precision stands in


def bit(code: str) -> int:
    """Return the bit of a flag's code."""
    return next(bit for bit, flag in FLAGS.items() if flag.code == code)


def flags_of(mask: int) -> tuple[Flag, ...]:
    """Return the flags that are set in ``mask``."""
    return tuple(flag for bit, flag in FLAGS.items() if mask & bit)


def apply(
    fit: OpFit, shape: Mapping[str, FloatArray]
) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Return ln-correction, half-width of ln t, and flags at ``shape`` (arrays of one shape)."""
    axis = fit.intervals.axis
    at = shape[axis]
    spread = np.zeros_like(at)
    flags = np.zeros(at.shape, dtype=np.int64)
    always = sum(bit(code) for code in fit.flags)
    for band in fit.intervals.bands:
        inside = at >= band.low
        spread = np.where(inside, band.log_halfwidth, spread)
        flags = np.where(inside, 0 if band.enough else bit("few-sites"), flags)
    octaves = np.zeros_like(at)
    for name, span in fit.domain.items():
        if name in forms.OP_CLASSES[fit.op].sizes:
            value = shape[name]
            octaves += np.maximum(
                0.0, np.log2(np.maximum(span.low, 1e-9) / np.maximum(value, 1e-9))
            )
            octaves += np.maximum(
                0.0, np.log2(np.maximum(value, 1e-9) / np.maximum(span.high, 1e-9))
            )
    flags = flags | np.where(octaves > 1e-9, bit("size-range"), 0)
    spread = spread + fit.intervals.per_octave * octaves
    return np.zeros_like(at), spread, flags | always
