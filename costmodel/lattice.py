"""Kriging for many shapes at once: on a lattice of sizes, linear in between.

Kriging weighs every measured point for every shape, and a sweep has hundreds of thousands of
shapes. But they run the same few weights and head geometries, and along their sizes (tokens, batch,
context) the correction changes over octaves. So it is worked out at fractions of an octave, where
it is asked for, once, and interpolated linearly. Tables sweep powers of two, which lie on the
lattice; in between, a correction that fades as exp(-d/r) bends by less than h²/8r² of itself over a
spacing h: less than a thousandth of ln t.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel import kriging
from roofprobe.costmodel.calibration_file import Kriging
from roofprobe.costmodel.forms import OP_CLASSES, FloatArray
from roofprobe.costmodel.kriging import Coordinates

# Points per octave with one size, and with several, where they multiply.
_FINE: Final = 4
_COARSE: Final = 4
_BITS: Final = 10  # of a lattice index along one size
_LOWEST: Final = -64  # octaves; an index of 0

IntArray = NDArray[np.int64]


def distinct_rows(columns: Mapping[str, FloatArray]) -> tuple[dict[str, FloatArray], IntArray]:
    """Return the distinct rows of ``columns`` and each row's number among them."""
    code: IntArray = np.zeros(len(next(iter(columns.values()))), dtype=np.int64)
    for values in columns.values():
        found, number = np.unique(values, return_inverse=True)
        _, code = np.unique(code * len(found) + number.reshape(-1), return_inverse=True)
        code = code.reshape(-1)
    _, first = np.unique(code, return_index=True)
    return {name: values[first] for name, values in columns.items()}, code


def _relative(name: str, sizes: tuple[str, ...]) -> str | None:
    """Return the size that ``name`` is told in units of, so that prompts without prefix align."""
    return "query_len" if name == "kv_len" and "query_len" in sizes else None


class Lattice:
    """The kriging of one fit: its mean and its largest covariance, kept where they were asked."""

    __slots__ = (
        "_codes",
        "_known",
        "_law",
        "_means",
        "_nearest",
        "_op",
        "_per_octave",
        "_sites",
        "_solved",
    )  # fmt: skip

    def __init__(self, op: str, known: Coordinates, law: Kriging, solved: FloatArray) -> None:
        """Begin empty; ``solved`` are the weights of the ``known`` points."""
        self._op = op
        self._known = known
        self._law = law
        self._solved = solved
        self._per_octave = _FINE if len(OP_CLASSES[op].sizes) == 1 else _COARSE
        self._sites: dict[tuple[float, ...], int] = {}
        self._codes: IntArray = np.zeros(0, dtype=np.int64)
        self._means: FloatArray = np.zeros(0)
        self._nearest: FloatArray = np.zeros(0)

    def at(self, shape: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Return the expected residual and its deviation, ln t, at flat arrays of shapes."""
        row = OP_CLASSES[self._op]
        sites, number = distinct_rows({name: shape[name] for name in row.site})
        keys = zip(*(values.tolist() for values in sites.values()), strict=True)
        own = np.array([self._sites.setdefault(key, len(self._sites)) for key in keys])
        site = own[number].astype(np.int64)
        top = (1 << _BITS) - 2
        low, part = [], []
        for name in row.sizes:
            value = np.maximum(shape[name], 1e-9)
            if (unit := _relative(name, row.sizes)) is not None:
                value = value / shape[unit]
            place = (np.log2(value) - _LOWEST) * self._per_octave
            below = np.clip(np.floor(place), 0, top)
            low.append(below.astype(np.int64))
            part.append(np.clip(place - below, 0.0, 1.0))
        mean, nearest = np.zeros(len(site)), np.zeros(len(site))
        corners = list(itertools.product((0, 1), repeat=len(low)))
        codes = np.stack([self._code(site, low, corner) for corner in corners])
        self._look_up(codes)
        for corner, code in zip(corners, codes, strict=True):
            weight = np.ones(len(site))
            for above, share in zip(corner, part, strict=True):
                weight *= share if above else 1 - share
            where = np.searchsorted(self._codes, code)
            mean += weight * self._means[where]
            nearest += weight * self._nearest[where]
        return mean, kriging.deviation(nearest, self._law)

    @staticmethod
    def _code(site: IntArray, low: list[IntArray], corner: tuple[int, ...]) -> IntArray:
        code = site
        for below, above in zip(low, corner, strict=True):
            code = (code << _BITS) + below + above
        return code

    def _look_up(self, codes: IntArray) -> None:
        """Work out what was not asked for before."""
        wanted = np.setdiff1d(codes, self._codes)
        if not len(wanted):
            return
        row = OP_CLASSES[self._op]
        shape: dict[str, FloatArray] = {}
        rest = wanted
        for name in reversed(row.sizes):
            shape[name] = np.exp2((rest & ((1 << _BITS) - 1)) / self._per_octave + _LOWEST)
            rest = rest >> _BITS
        for name in row.sizes:
            if (unit := _relative(name, row.sizes)) is not None:
                shape[name] = shape[name] * shape[unit]
        keys = np.array(list(self._sites), dtype=float).reshape(len(self._sites), len(row.site))
        for axis, name in enumerate(row.site):
            shape[name] = keys[rest, axis]
        points = kriging.coordinates(self._op, {name: shape[name] for name in row.shape})
        mean, nearest = kriging.look(points, self._known, self._law, self._solved)
        codes = np.concatenate([self._codes, wanted])
        order = np.argsort(codes)
        self._codes = codes[order]
        self._means = np.concatenate([self._means, mean])[order]
        self._nearest = np.concatenate([self._nearest, nearest])[order]
