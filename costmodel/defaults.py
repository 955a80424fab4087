"""Constants for GPUs that nobody has calibrated, learnt from op tables that others published.

For each operation and precision the nearest relative answers: a fit of this very GPU, else of one
of its architecture, else of any; among equals the one whose arithmetic per byte of memory is most
alike. Efficiencies carry over to the GPU's own peaks. What such borrowing costs in accuracy was
measured by predicting each fitted GPU with the constants of the others, is added to the interval,
and flagged. ``fitted.json`` holds constants that this package fitted (``tools/fit_defaults.py``),
``published.toml`` fits of others, for classes whose tables are not at hand; the former win.
"""

from __future__ import annotations

import functools
import json
import math
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from roofprobe.costmodel import forms
from roofprobe.costmodel.calibration_file import (
    Band,
    DeviceCalibration,
    HeldOut,
    Intervals,
    OpFit,
    Provenance,
)
from roofprobe.costmodel.hardware import accelerator_of, datasheet_ceilings, datasheet_device
from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load

# Added half-width of ln t where constants are borrowed and no pair of GPUs tells how much.
_UNTOLD: Final[Mapping[str, float]] = {"sibling": 0.2, "generic": 0.4}
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
        shared = row.pop("shared", 1.0)
        rescaled, peaks = _rescaled(row, key, document["peaks"].get(key, {}))
        rows.append(
            Learnt(
                key,
                OpFit.model_validate(
                    {
                        **rescaled,
                        **peaks,
                        "held_out": HeldOut(
                            median=median, p90=p90, bias=0, form_median=median, form_p90=p90,
                            points=1, sites=1, splits=1, protocol=assumed or "as published",
                        ),
                        "intervals": _wide(row["op"], between(median, p90), shared),
                        "flags": ("published-fit",),
                        "provenance": source.key,
                        "note": assumed,
                    }
                ),
            )
        )  # fmt: skip
    return tuple(rows), source


def _rescaled(
    row: dict[str, Any], key: str | None, used: Mapping[str, float]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return a row with efficiencies relative to the catalogue's peaks, and those peaks."""
    if key is None:
        return row, {"peak_gbps": 1.0}
    ceilings = datasheet_ceilings(load()[key].per_device())
    linked = forms.OP_CLASSES[row["op"]].kind == "collective"
    pipe = forms.FORMATS[row["precision"]].peak
    memory = ceilings.link if linked else ceilings.memory
    assert memory is not None, key
    scaled = dict(row)
    scaled["memory_efficiency"] *= used["link" if linked else "memory"] / memory.value
    peaks = {"peak_gbps": memory.value}
    if not linked and pipe in used:
        scaled["compute_efficiency"] *= used[pipe] / ceilings.compute[pipe].value
        peaks["peak_tflops"] = ceilings.compute[pipe].value
    return scaled, peaks


@dataclass(frozen=True, slots=True)
class Fitted:
    """What this package fitted: constants, sources, and what borrowing costs (ln t)."""

    learnt: tuple[Learnt, ...]
    provenance: tuple[Provenance, ...]
    borrowed: Mapping[str, Mapping[str, float]]
    engines: Mapping[str, int]


@functools.cache
def fitted() -> Fitted:
    """Return the constants of ``fitted.json``."""
    document = json.loads(_text("fitted.json"))
    engines: Counter[str] = Counter()
    for row in document["fits"]:
        engines[row["fit"].get("framework") or ""] += row["rows"]
    return Fitted(
        tuple(
            Learnt(row["accelerator"], OpFit.model_validate(row["fit"])) for row in document["fits"]
        ),
        tuple(
            Provenance.model_validate({"method": document["method"], **row})
            for row in document["provenance"]
        ),
        document["borrowed"],
        engines,
    )


@dataclass(frozen=True, slots=True)
class Shipped:
    """What this package ships for one GPU: operations with precisions, engines, sources."""

    accelerator: str
    name: str
    operations: tuple[str, ...]
    engines: tuple[str, ...]
    sources: tuple[str, ...]


def shipped() -> tuple[Shipped, ...]:
    """Return the GPUs that have calibrations of their own in this package, by name."""
    rows: dict[str, list[OpFit]] = {}
    for one in fitted().learnt:
        if one.accelerator is not None:
            rows.setdefault(one.accelerator, []).append(one.fit)
    return tuple(
        Shipped(
            accelerator=key,
            name=load()[key].name,
            operations=tuple(dict.fromkeys(f"{fit.op} {fit.precision}" for fit in fits)),
            engines=tuple(dict.fromkeys(fit.framework or "not told" for fit in fits)),
            sources=tuple(dict.fromkeys(fit.provenance for fit in fits)),
        )
        for key, fits in sorted(rows.items())
    )


def between(median: float, p90: float) -> float:
    """Return the 80 % quantile of errors whose median and 90 % quantile are known.

    ln of the error is taken to be linear in ln of what a normal error would have there: 0.674,
    1.282 and 1.645 standard deviations.
    """
    share = math.log(1.2816 / 0.6745) / math.log(1.6449 / 0.6745)
    return median * math.exp(share * math.log(p90 / median))


def _wide(op: str, error: float, shared: float) -> Intervals:
    axis = forms.OP_CLASSES[op].band
    band = Band(low=0, log_halfwidth=error, sites=0, enough=False)
    return Intervals(
        level=0.8, axis=axis, bands=(band,), per_octave=_PER_OCTAVE, per_distance=_PER_OCTAVE,
        shared=shared,
    )  # fmt: skip


def default_device(gpu_name: str) -> tuple[DeviceCalibration, tuple[Provenance, ...]]:
    """Return a catalogue GPU with borrowed constants, and where they come from.

    Raises ``RoofprobeError`` (``unknown-accelerator``).
    """
    row = accelerator_of(gpu_name)
    device = datasheet_device(row)
    others, source = published()
    ours = fitted()
    learnt = (*ours.learnt, *others)
    ops: list[OpFit] = []
    for key in dict.fromkeys(_key(one.fit) for one in learnt):
        same = [one for one in learnt if _key(one.fit) == key]
        best = min(same, key=lambda one: _rank(one, row, ours.engines))
        # Kernels that one engine switches between on one GPU belong together.
        ops += [_borrowed(one, row) for one in same if _origin(one) == _origin(best)]
    used = {fit.provenance for fit in ops}
    told = tuple(one for one in (*ours.provenance, source) if one.key in used)
    return device.model_copy(update={"ops": tuple(ops)}), told


def _key(fit: OpFit) -> tuple[str, str, str | None]:
    return fit.op, fit.precision, fit.kv_precision


def _origin(one: Learnt) -> tuple[str | None, ...]:
    return one.accelerator, one.fit.framework, *one.fit.flags


def architecture_of(key: str) -> str | None:
    """Return the compute capability of a catalogue row: variants of one die share it."""
    row = load()[key]
    return row.compute_capability or row.gcn_arch or row.rate_class


def _distance(one: Learnt, row: Accelerator) -> int:
    """Return 0 for this GPU (or any), 1 for its architecture, 2 for another."""
    if one.accelerator in (None, row.key):
        return 0
    return 1 if architecture_of(one.accelerator) == architecture_of(row.key) else 2


def _rank(one: Learnt, row: Accelerator, engines: Mapping[str, int]) -> tuple[float, ...]:
    """Return how far constants are carried: the kin, then ours, then balance, then the engine."""
    unlike = 0.0
    if one.accelerator is not None:
        here, there = _balance(row), _balance(load()[one.accelerator].per_device())
        unlike = abs(math.log(here / there)) if here and there else 9.0
    return (
        _distance(one, row), float("published-fit" in one.fit.flags), unlike,
        -engines.get(one.fit.framework or "", 0),
    )  # fmt: skip


def _balance(row: Accelerator) -> float | None:
    """Return operations per byte: the dense 16-bit peak over the memory's bandwidth."""
    ceilings = datasheet_ceilings(row)
    peak = ceilings.compute.get("fp16")
    return peak.value / ceilings.memory.value if peak and ceilings.memory else None


_KIN: Final = (None, "sibling", "generic")


def _borrowed(one: Learnt, row: Accelerator) -> OpFit:
    """Return constants for ``row``, flagged and widened by how far they were carried."""
    fit = one.fit
    flag = _KIN[_distance(one, row)]
    if flag is None:
        return fit
    more = fitted().borrowed.get(flag, {}).get(fit.op, _UNTOLD[flag])
    bands = tuple(
        band.model_copy(update={"log_halfwidth": band.log_halfwidth + more})
        for band in fit.intervals.bands
    )
    intervals = fit.intervals.model_copy(update={"bands": bands})
    return fit.model_copy(update={"intervals": intervals, "flags": (*fit.flags, flag)})
