"""What measured neighbours correct, how sure a time is, and what lies outside the measured range.

Near measured points the closed form is corrected by kriging (`kriging`). Outside of what was
measured it only extrapolates: that is flagged, and the interval widens with the distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel import conformal, kriging
from roofprobe.costmodel.calibration_file import OpFit
from roofprobe.costmodel.forms import OP_CLASSES, FloatArray
from roofprobe.costmodel.lattice import Lattice, distinct_rows

IntArray = NDArray[np.int64]


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
        128: Flag("ragged-size", "the number of tokens is no multiple of 128 and only such were "
                  "measured; "
                  "FP8 products of some engines take up to 1.7 times as long there"),
    }
)  # fmt: skip
STAND_IN_LOG: Final = 0.2  # added half-width of ln t where another precision stands in
_FAR_OCTAVES: Final = 1.0
_SAME_SITE: Final = 0.05  # octaves: a padded vocabulary is still the weight that was measured
# One row past a multiple of 128 makes FP8 products of vLLM and SGLang on Hopper 1.4 to 1.7 times as
# slow (op tables of aiconfigurator-core 0.12.0); tables of powers of two do not show it.
_TILE_ROWS: Final = 128
_RAGGED: Final = ("fp8", "fp8-block")
_BITS: Final = {flag.code: bit for bit, flag in FLAGS.items()}


def bit(code: str) -> int:
    """Return the bit of a flag's code."""
    return _BITS[code]


def flags_of(mask: int) -> tuple[Flag, ...]:
    """Return the flags that are set in ``mask``."""
    return tuple(flag for bit, flag in FLAGS.items() if mask & bit)


def octaves_outside(fit: OpFit, shape: Mapping[str, FloatArray]) -> FloatArray:
    """Return how many factors of two the farthest size lies outside the measured range."""
    octaves = np.zeros_like(shape[OP_CLASSES[fit.op].shape[0]])
    for name in OP_CLASSES[fit.op].sizes:
        span = fit.domain.get(name)
        if span is not None:
            value = np.log2(np.maximum(shape[name], 1e-9))
            low, high = np.log2(max(span.low, 1e-9)), np.log2(max(span.high, 1e-9))
            octaves = np.maximum(octaves, np.maximum(low - value, value - high))
    return octaves


@dataclass(frozen=True, slots=True)
class Corrected:
    """The ln-correction, half-width of ln t, its part common to other shapes, and flags."""

    shift: FloatArray
    spread: FloatArray
    shared: FloatArray
    flags: IntArray


class Corrector:
    """The correction of one fit, with what it needs solved once."""

    __slots__ = ("_lattice", "_only_powers", "_sites", "fit")

    def __init__(self, fit: OpFit) -> None:
        """Solve for the weights of the measured points."""
        self.fit: Final = fit
        self._lattice: Lattice | None = None
        self._sites: FloatArray = np.zeros((0, 0))
        rows = {m for site in fit.sites for m in site.sizes.get("m", ())}
        self._only_powers = all(m <= _TILE_ROWS or m % _TILE_ROWS == 0 for m in rows)
        if fit.sites:
            known, residuals = kriging.known_points(fit.op, fit.sites)
            self._sites = np.unique(known.site, axis=0)
            if fit.kriging is not None:
                solved = kriging.weights(known, residuals, fit.kriging)
                self._lattice = Lattice(fit.op, known, fit.kriging, solved)

    def apply(self, shape: Mapping[str, FloatArray]) -> Corrected:
        """Return what is known at ``shape`` (arrays of one shape)."""
        outer = shape[OP_CLASSES[self.fit.op].shape[0]].shape
        found = self._found({name: np.ravel(shape[name]) for name in OP_CLASSES[self.fit.op].shape})
        return Corrected(
            found.shift.reshape(outer),
            found.spread.reshape(outer),
            found.shared.reshape(outer),
            found.flags.reshape(outer),
        )

    def _shift(self, flat: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Return the expected residual and its deviation (1: unknown), ln t."""
        if self._lattice is not None:
            return self._lattice.at(flat)
        count = len(next(iter(flat.values())))
        if self.fit.surface is not None:
            size = kriging.coordinates(self.fit.op, flat).size
            return kriging.interpolate(self.fit.surface, size), np.ones(count)
        return np.zeros(count), np.ones(count)

    def _away(self, flat: Mapping[str, FloatArray]) -> FloatArray:
        """Return the distance in octaves to the nearest measured weight or head geometry."""
        row = OP_CLASSES[self.fit.op]
        sites, number = distinct_rows({name: flat[name] for name in row.site})
        points = kriging.coordinates(
            self.fit.op, {name: sites.get(name, np.ones_like(next(iter(sites.values()))))
                          for name in row.shape}
        )  # fmt: skip
        return kriging.nearest_site(points, self._sites)[number]

    def _found(self, flat: Mapping[str, FloatArray]) -> Corrected:
        fit, intervals = self.fit, self.fit.intervals
        shift, sigma = self._shift(flat)
        at = np.prod([flat[name] for name in intervals.axis], axis=0)
        spread = conformal.widths(intervals.bands, at, sigma)
        shared = np.full(at.shape, intervals.shared)
        flags = np.zeros(at.shape, dtype=np.int64)
        for band in intervals.bands:
            flags = np.where(at >= band.low, 0 if band.enough else bit("few-sites"), flags)
        if len(self._sites):
            away = self._away(flat)
            if intervals.measured:
                here = away <= _SAME_SITE
                spread = np.where(here, conformal.widths(intervals.measured, at, sigma), spread)
                shared = np.where(here, intervals.measured_shared, shared)
                flags = np.where(here, 0, flags)
            flags |= np.where(away > _FAR_OCTAVES, bit("far-site"), 0)
            spread = spread + intervals.per_distance * np.maximum(0.0, away - _FAR_OCTAVES)
        octaves = octaves_outside(fit, flat)
        flags |= np.where(octaves > 1e-6, bit("size-range"), 0)
        spread = spread + intervals.per_octave * octaves
        if fit.op == "gemm" and fit.precision in _RAGGED and self._only_powers:
            beyond = flat["m"] > _TILE_ROWS
            ragged = beyond & (np.mod(flat["m"], _TILE_ROWS) != 0)
            flags |= np.where(ragged, bit("ragged-size"), 0)
        return Corrected(shift, spread, shared, flags | sum(bit(code) for code in fit.flags))
