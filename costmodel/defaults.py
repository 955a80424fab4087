"""Constants for GPUs that nobody has calibrated, learnt from op tables that others published.

For each operation and precision the nearest relative answers: a fit of this very GPU, else of one
of its architecture, else of any architecture, newest first. Efficiencies carry over to the GPU's
own peaks; what that borrowing costs in accuracy is added to the interval and flagged. ``fitted``
constants come from tables fitted by this package (`tools/fit_defaults.py`), ``published`` ones are
fits of others, for classes whose tables are not at hand.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

from roofprobe.costmodel import forms
from roofprobe.costmodel.calibration_file import (
    Band,
    DeviceCalibration,
    HeldOut,
    Intervals,
    OpFit,
    Provenance,
)
from roofprobe.costmodel.hardware import accelerator_of, datasheet_device
from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load

# Added half-width of ln t where constants are borrowed.
SIBLING_LOG: Final = 0.15
GENERIC_LOG: Final = 0.35
_PER_OCTAVE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Learnt:
    """Constants with the GPU that they were learnt on (None: any)."""

    accelerator: str | None
    fit: OpFit


def _text(name: str) -> str:
    return (resources.files("roofprobe.costmodel") / "data" / name).read_text(encoding="utf-8")


@functools.cache
def published() -> tuple[tuple[Learnt, ...], Provenance]:
    """Return the fits of others and where they come from."""
    document = tomllib.loads(_text("published.toml"))
    source = Provenance(origin="published-fit", **document["source"])
    rows = []
    for row in document["fit"]:
        row = dict(row)
        key = row.pop("accelerator", None)
        median, p90 = row.pop("error")
        assumed = row.pop("assumed", None)
        peaks = document["peaks"].get(key, {})
        linked = forms.OP_CLASSES[row["op"]].kind == "collective"
        pipe = forms.FORMATS[row["precision"]].peak
        rows.append(
            Learnt(
                key,
                OpFit(
                    **row,
                    peak_tflops=peaks.get(pipe, 1.0),
                    peak_gbps=peaks.get("link" if linked else "memory", 1.0),
                    held_out=HeldOut(
                        median=median, p90=p90, bias=0, form_median=median, form_p90=p90, points=1,
                        sites=1, splits=1, protocol=assumed or "as published",
                    ),
                    intervals=_wide(row["op"], p90),
                    provenance=source.key,
                    flags=("published-fit",),
                    note=assumed,
                ),
            )
        )  # fmt: skip
    return tuple(rows), source


def _wide(op: str, error: float) -> Intervals:
    axis = forms.OP_CLASSES[op].band
    band = Band(low=0, log_halfwidth=error, sites=0, enough=False)
    return Intervals(
        level=0.8, axis=axis, bands=(band,), per_octave=_PER_OCTAVE, per_distance=_PER_OCTAVE
    )


def default_device(gpu_name: str) -> tuple[DeviceCalibration, tuple[Provenance, ...]]:
    """Return a catalogue GPU with borrowed constants, and where they come from.

    Raises ``RoofprobeError`` (``unknown-accelerator``).
    """
    row = accelerator_of(gpu_name)
    device = datasheet_device(row)
    learnt, source = published()
    keys = dict.fromkeys((one.fit.op, one.fit.precision, one.fit.kv_precision) for one in learnt)
    ops = []
    for key in keys:
        same = [one for one in learnt if _key(one.fit) == key]
        nearest = min(same, key=lambda one: _distance(one, row))
        ops.append(_borrowed(nearest, row))
    return device.model_copy(update={"ops": tuple(ops)}), (source,)


def _key(fit: OpFit) -> tuple[str, str, str | None]:
    return fit.op, fit.precision, fit.kv_precision


def _architecture(key: str) -> str | None:
    """Return the compute capability of a catalogue row: variants of one die share it."""
    row = load()[key]
    return row.compute_capability or row.gcn_arch or row.rate_class


def _distance(one: Learnt, row: Accelerator) -> int:
    """Return 0 for this GPU (or any), 1 for its architecture, 2 for another."""
    if one.accelerator in (None, row.key):
        return 0
    return 1 if _architecture(one.accelerator) == _architecture(row.key) else 2


_BORROWED: Final[Mapping[int, tuple[str | None, float]]] = {
    0: (None, 0.0),
    1: ("sibling", SIBLING_LOG),
    2: ("generic", GENERIC_LOG),
}


def _borrowed(one: Learnt, row: Accelerator) -> OpFit:
    """Return constants for ``row``, flagged and widened by how far they were carried."""
    fit = one.fit
    flag, more = _BORROWED[_distance(one, row)]
    bands = tuple(
        band.model_copy(update={"log_halfwidth": band.log_halfwidth + more})
        for band in fit.intervals.bands
    )
    flags = (*fit.flags, *((flag,) if flag else ()))
    return fit.model_copy(
        update={"intervals": fit.intervals.model_copy(update={"bands": bands}), "flags": flags}
    )
