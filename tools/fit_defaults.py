"""Fit the constants of ``costmodel/data/fitted.json`` to op tables that others published.

    OPENBLAS_NUM_THREADS=1 python tools/fit_defaults.py TABLE... --out costmodel/data/fitted.json

The tables themselves are not part of this package. What is written are closed forms and what all
sites had in common, per GPU, operation and precision, with held-out errors, and how much worse a
GPU is predicted with the constants of another: of its architecture (``sibling``) and of any other
(``generic``), the median over pairs of the growth of the 80 % quantile of |ln(t / t_hat)|.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from roofprobe.costmodel import forms, kriging
from roofprobe.costmodel.calibrate import plausible, rates_of
from roofprobe.costmodel.calibration import coefficients_of
from roofprobe.costmodel.calibration_file import OpFit
from roofprobe.costmodel.defaults import architecture_of
from roofprobe.costmodel.fit import Settings, calibrate_points, count_points
from roofprobe.costmodel.hardware import datasheet_device
from roofprobe.costmodel.op_tables import read_table
from roofprobe.costmodel.points import Points
from roofprobe.peaks.catalogue import load

# A fixed time like this is the host's, of eager calls; serving replays graphs, which have none.
_EAGER_US = 30.0
_LEAST_ROWS = 40
_SETTINGS = Settings(keep_sites=False)
LICENSES = {
    "Python package index: aiconfigurator-core": "Apache-2.0",
    "alibaba/InferSim": "Apache-2.0",
    "inference-sim": "Apache-2.0",
}


def error_of(fit: OpFit, points: Points) -> float:
    """Return the 80 % quantile of |ln(t / t_hat)| of constants at another GPU's rows."""
    rates = rates_of(datasheet_device(load()[points.device].per_device()), points)
    assert rates is not None
    predicted = np.log(forms.seconds(count_points(points, rates), coefficients_of(fit), rates))
    if fit.surface is not None:
        size = kriging.coordinates(points.op, points.shape).size
        predicted += kriging.interpolate(fit.surface, size)
    return float(np.quantile(np.abs(np.log(points.latency_s) - predicted), 0.8))


def identity(fit: OpFit, accelerator: str) -> tuple[str | None, ...]:
    """Return what tells a fit from others: GPU, operation, precisions, kernel and source."""
    return (
        accelerator, fit.op, fit.precision, fit.kv_precision, fit.kernel, fit.provenance,
    )  # fmt: skip


def main() -> None:
    """Read, fit, compare across GPUs, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--retrieved", required=True, help="When the tables were fetched.")
    parser.add_argument(
        "--known", nargs="*", type=Path, default=[], help="Earlier outputs to reuse."
    )
    options = parser.parse_args()
    known = {}
    for path in options.known:
        for row in json.loads(path.read_text())["fits"]:
            fit = OpFit.model_validate(row["fit"])
            known[identity(fit, row["accelerator"])] = fit
    rows: list[tuple[OpFit, Points]] = []
    for path in options.tables:
        for points in read_table(path).points:
            rates = rates_of(datasheet_device(load()[points.device].per_device()), points)
            if rates is None:
                continue
            kept = plausible(points, rates, [])
            if len(kept) < _LEAST_ROWS:
                continue
            fit = known.get(
                (points.device, points.op, points.precision, points.kv_precision, points.kernel,
                 points.source)
            ) or calibrate_points(kept, rates, points.source, _SETTINGS)  # fmt: skip
            print(
                points.device, points.describe(), fit.held_out and fit.held_out.median, flush=True
            )
            if fit.host_floor_us > _EAGER_US or fit.t0_us > 2 * _EAGER_US + 40:
                print("  left out: the host's time of eager calls", flush=True)
                continue
            rows.append((fit, kept))
    grown: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for fit, own in rows:
        for donor, other in rows:
            same = (fit.op, fit.precision, fit.kv_precision) == (
                donor.op, donor.precision, donor.kv_precision,
            )  # fmt: skip
            if not same or own.device == other.device:
                continue
            kin = architecture_of(own.device) == architecture_of(other.device)
            growth = max(0.0, error_of(donor, own) - error_of(fit, own))
            grown["sibling" if kin else "generic"][fit.op].append(growth)
    document = {
        "method": f"{_SETTINGS.splits} splits, share {_SETTINGS.share}, seed {_SETTINGS.seed}",
        "provenance": [
            {
                "key": source,
                "origin": "op-table",
                "title": f"constants fitted by roofprobe to {source}",
                "locator": source,
                "license": next((v for k, v in LICENSES.items() if source.startswith(k)), None),
                "retrieved": options.retrieved,
                "rows": sum(len(points) for _, points in rows if points.source == source),
            }
            for source in dict.fromkeys(points.source for _, points in rows)
        ],
        "borrowed": {
            kind: {op: round(float(np.median(values)), 3) for op, values in per_op.items()}
            for kind, per_op in grown.items()
        },
        "pairs": {k: {op: len(v) for op, v in per_op.items()} for k, per_op in grown.items()},
        "fits": [
            {
                "accelerator": points.device,
                "rows": len(points),
                "fit": fit.model_dump(mode="json", exclude_defaults=True),
            }
            for fit, points in rows
        ],
    }
    parts = [f'"{key}": {_lines(value)}' for key, value in document.items()]
    options.out.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def _lines(value: object) -> str:
    """Return JSON with one line per element of a list."""
    if isinstance(value, list):
        return "[\n" + ",\n".join(json.dumps(one, ensure_ascii=False) for one in value) + "\n]"
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
