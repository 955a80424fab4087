"""A calibration at work: the time of any operation at any shape, with its interval and warnings.

A calibrated operation takes the closed form's time (`forms`), corrected by what measured
neighbours were off by, never less than the physical bound. The interval is split-conformal: it
covers 80 % of the errors that held-out weights and head geometries had, and widens outside what was
measured. Layers of a model repeat one operation, so their errors are one error: add half-widths of
a class, do not divide by the square root of their number.

`default_calibration` answers for GPUs that nobody has calibrated: datasheet peaks with constants
learnt from published op tables of the same GPU, else of its architecture, else generic ones, with
intervals that are as wide as such borrowing was wrong elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roofprobe.costmodel import correction, forms
from roofprobe.costmodel.calibration_file import (
    CalibrationFile,
    DeviceCalibration,
    OpFit,
    Provenance,
    read_calibration,
)
from roofprobe.costmodel.correction import FLAGS, Corrector, Flag
from roofprobe.costmodel.defaults import default_device
from roofprobe.costmodel.forms import FloatArray, Rates, Work
from roofprobe.costmodel.hardware import Hardware, hardware_of
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Reason

__all__ = [
    "FLAGS",
    "Calibration",
    "Estimate",
    "Flag",
    "Hardware",
    "default_calibration",
    "load_calibration",
]

IntArray = NDArray[np.int64]

# Who may stand in where a precision was not fitted: the same bytes, or at least the same pipe (int4
# weights are expanded to 16 bits; their bytes are counted as they are). Flagged and widened.
STAND_INS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "fp16": ("bf16",),
        "bf16": ("fp16",),
        "int8": ("fp8",),
        "mxfp8": ("fp8-block",),
        "fp8": ("fp8-block",),
        "int4": ("bf16", "fp16"),
    }
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Times of one broadcast shape: p10 and p90 are median_s · exp(∓ log_spread).

    ``shared`` is the part of the variance that other shapes of the class have in common with this
    one when they run together: 1 means that their half-widths add up, 0 that their squares do.
    ``flags`` is a bit mask; `FLAGS` says what each bit means.
    """

    median_s: FloatArray
    log_spread: FloatArray
    flags: IntArray
    shared: FloatArray

    @property
    def p10_s(self) -> FloatArray:
        """The time that 10 % of cases stay below, seconds."""
        low: FloatArray = self.median_s * np.exp(-self.log_spread)
        return low

    @property
    def p90_s(self) -> FloatArray:
        """The time that 90 % of cases stay below, seconds."""
        high: FloatArray = self.median_s * np.exp(self.log_spread)
        return high


class Calibration:
    """Timed operations of one device; numpy only."""

    __slots__ = ("_correctors", "_index", "device", "hardware", "provenance")

    def __init__(self, device: DeviceCalibration, provenance: tuple[Provenance, ...] = ()) -> None:
        """Index the fits by operation and precisions."""
        self.device: Final = device
        self.provenance: Final = provenance
        self.hardware: Final = hardware_of(device)
        self._correctors: dict[int, Corrector] = {}
        self._index: dict[tuple[str, str, str | None], list[OpFit]] = {}
        for fit in device.ops:
            self._index.setdefault((fit.op, fit.precision, fit.kv_precision), []).append(fit)

    def fits(self, op: str, precision: str, kv_precision: str | None = None) -> list[OpFit]:
        """Return the fits that answer for an operation: one per kernel, or a stand-in's, or none.

        Element-wise operations stand in for one another, and so do collectives.
        """
        row = forms.OP_CLASSES[op]
        kv = (kv_precision or precision) if row.kv else None
        for name in (precision, *STAND_INS.get(precision, ())):
            for known in (kv, *STAND_INS.get(kv, ())) if kv is not None else (None,):
                if found := self._index.get((op, name, known)):
                    return found
        if row.kind not in ("elementwise", "collective"):
            return []
        kin = [f for f in self.device.ops if forms.OP_CLASSES[f.op].kind == row.kind]
        return [f for f in kin if f.op == op][:1] or kin[:1]

    def supports(self, op: str, precision: str, kv_precision: str | None = None) -> Reason | None:
        """Return why an operation cannot be timed in this precision, or None when it can."""
        if op not in forms.OP_CLASSES:
            return Reason(
                code="unknown-op",
                sentence=f"There is no operation {op!r}; known: {', '.join(forms.OP_CLASSES)}.",
            )
        row = forms.OP_CLASSES[op]
        arithmetic = row.kind not in ("elementwise", "collective")
        if arithmetic and precision not in forms.FORMATS:
            return Reason(
                code="unknown-precision",
                sentence=f"There is no precision {precision!r} of {op}; known: "
                f"{', '.join(forms.FORMATS)}.",
            )
        if row.kv and (kv_precision or precision) not in forms.KV_BYTES:
            return Reason(
                code="unknown-precision",
                sentence=f"There is no KV cache in {kv_precision or precision!r}; known: "
                f"{', '.join(forms.KV_BYTES)}.",
            )
        name = self.device.name
        if arithmetic and forms.FORMATS[precision].peak not in self.hardware.peak_flops:
            return Reason(
                code="no-peak",
                sentence=f"{name} has no known dense peak for {precision}, so {op} cannot be timed "
                "in it.",
                remedy="Choose a precision that the device computes in; `probe peaks NAME` lists "
                "them.",
            )
        if self.hardware.bandwidth is None:
            return Reason(
                code="no-bandwidth", sentence=f"The memory bandwidth of {name} is not known."
            )
        if row.kind == "collective" and self.hardware.link is None:
            return Reason(
                code="no-link", sentence=f"The link bandwidth between devices of {name} is unknown."
            )
        if not self.fits(op, precision, kv_precision):
            kv = f" with a KV cache in {kv_precision or precision}" if row.kv else ""
            return Reason(
                code="not-measured",
                sentence=f"{op} in {precision}{kv} was never measured on {name}.",
                remedy="Measure it with `probe llm`, or calibrate from a table that has it.",
            )
        return None

    def time(
        self,
        op: str,
        precision: str,
        *,
        kv_precision: str | None = None,
        **shape: ArrayLike,
    ) -> Estimate:
        """Return the time of an operation; shape keywords are those of `forms.OP_CLASSES`.

        Raises ``RoofprobeError`` with the sentence of `supports`, and `ValueError` for wrong shape
        keywords.
        """
        reason = self.supports(op, precision, kv_precision)
        if reason is not None:
            raise RoofprobeError(reason.code, reason.sentence)
        kv = (kv_precision or precision) if forms.OP_CLASSES[op].kv else None
        rates = self._rates(precision)
        work = forms.count(op, precision, shape, rates, kv_precision=kv)
        arrays = {
            name: np.broadcast_to(np.asarray(value, float), work.flops.shape)
            for name, value in shape.items()
        }
        fits = self.fits(op, precision, kv_precision)
        found = self._estimate(fits[0], work, rates, arrays)
        outside = correction.octaves_outside(fits[0], arrays)
        for fit in fits[
            1:
        ]:  # another kernel, where the size lies nearer to what it was measured at
            other = self._estimate(fit, work, rates, arrays)
            away = correction.octaves_outside(fit, arrays)
            nearer = away < outside
            outside = np.where(nearer, away, outside)
            found = Estimate(
                np.where(nearer, other.median_s, found.median_s),
                np.where(nearer, other.log_spread, found.log_spread),
                np.where(nearer, other.flags, found.flags),
                np.where(nearer, other.shared, found.shared),
            )
        median, spread, flags = found.median_s, found.log_spread, found.flags
        row = forms.OP_CLASSES[op]
        if (fits[0].precision, fits[0].kv_precision) != (precision, kv) and row.kind == "":
            flags = flags | correction.bit("stand-in")
            spread = spread + correction.STAND_IN_LOG
        median = np.maximum(median, forms.bound_s(work, rates))
        if row.kind == "collective":
            median = np.where(arrays["ranks"] > 1, median, 0.0)
        return Estimate(np.asarray(median), np.asarray(spread), np.asarray(flags), found.shared)

    def _estimate(
        self, fit: OpFit, work: Work, rates: Rates, arrays: Mapping[str, FloatArray]
    ) -> Estimate:
        closed = forms.seconds(work, coefficients_of(fit), rates)
        known = self._corrector(fit).apply(arrays)
        median = np.asarray(closed * np.exp(known.shift))
        return Estimate(median, known.spread, known.flags, known.shared)

    def _corrector(self, fit: OpFit) -> Corrector:
        if id(fit) not in self._correctors:
            self._correctors[id(fit)] = Corrector(fit)
        return self._correctors[id(fit)]

    def _rates(self, precision: str) -> Rates:
        hardware = self.hardware
        peak = forms.FORMATS[precision].peak if precision in forms.FORMATS else precision
        assert hardware.bandwidth is not None, "supports() would have told"
        return Rates(
            flops=hardware.peak_flops.get(peak, float("inf")),
            bandwidth=hardware.bandwidth,
            link=hardware.link,
            units=hardware.units,
            l2_bytes=hardware.l2_bytes,
        )


def coefficients_of(fit: OpFit) -> forms.Coefficients:
    """Return the closed form's constants in seconds."""
    return forms.Coefficients(
        compute_efficiency=fit.compute_efficiency,
        memory_efficiency=fit.memory_efficiency,
        t0_s=fit.t0_us * 1e-6,
        exponent=fit.exponent if fit.exponent is not None else float("inf"),
        wave=fit.wave,
        contention=fit.contention,
        host_floor_s=fit.host_floor_us * 1e-6,
        l2_efficiency=fit.l2_efficiency,
        terms=fit.terms,
    )


def load_calibration(path: Path, *, device: str | None = None) -> Calibration:
    """Read a calibration; ``device`` names one of several by its name or id (else the first).

    Raises ``RoofprobeError`` when the file cannot be read or has no such device.
    """
    return calibration_from(read_calibration(path), device=device, what=str(path))


def calibration_from(
    file: CalibrationFile, *, device: str | None = None, what: str = "the calibration"
) -> Calibration:
    """Return the calibration of one device of a file; see `load_calibration`."""
    found = [d for d in file.devices if device is None or device in (d.name, d.device_id)]
    if not found:
        names = ", ".join(d.name for d in file.devices) or "none"
        raise RoofprobeError(
            "unknown-device", f"{what} has no device {device or ''}; it has {names}"
        )
    return Calibration(found[0], file.provenance)


def default_calibration(gpu_name: str) -> Calibration:
    """Return a calibration of a catalogue GPU that nobody measured here; see the module docstring.

    Raises ``RoofprobeError`` (``unknown-accelerator``) naming the closest rows.
    """
    device, provenance = default_device(gpu_name)
    return Calibration(device, provenance)
