"""The JSON of simulated runs, fast: one template per number of devices, filled with figures.

The template is made once from a record that `roofprobe.records.schema.Run` itself wrote, so that
what is filled in is a record again; every figure in it stands at a marked place. A host's file is
then one ``%`` of a string with its figures.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from roofprobe.acceptance.fleet.simulate_noise import Array
from roofprobe.acceptance.fleet.simulate_nominal import Nominal
from roofprobe.records.schema import (
    Case,
    Device,
    Distribution,
    Headline,
    Limits,
    Measurement,
    Peer,
    Span,
    Telemetry,
)

# A place is the number _FIRST + place; no real figure lies there.
_FIRST: Final = 7_000_000_000
_PLACE: Final = re.compile(r"7\d{9}(?:\.0)?(?=[,}\]\s])")
# Where the parts of a distribution lie beside its median, and the number of its samples.
_PARTS: Final = {
    "median": 1.0, "ci_low": 0.9994, "ci_high": 1.0006, "p10": 0.997, "p90": 1.003, "best": 1.004,
}  # fmt: skip
_SAMPLES: Final = 60


@dataclass(slots=True)
class _Places:
    """The marked places so far: which column of the figures each takes, times what."""

    columns: list[int]
    factors: list[float]

    def put(self, column: int, factor: float = 1.0) -> float:
        self.columns.append(column)
        self.factors.append(factor)
        return float(_FIRST + len(self.columns) - 1)


@dataclass(frozen=True, slots=True)
class Template:
    """The figures' part of one device's JSON: each ``%.7g`` takes a column times a factor.

    The words ``DEVICE`` and ``PEER`` stand for the device's id and its neighbour's.
    """

    headlines: str
    measurements: str
    headline_columns: np.ndarray[Any, np.dtype[np.intp]]
    headline_factors: Array
    measurement_columns: np.ndarray[Any, np.dtype[np.intp]]
    measurement_factors: Array

    def fill(self, figures: Array, device_id: str, peer_id: str) -> tuple[str, str]:
        """Return one device's headlines and measurements, from its figures by column."""
        headlines = self.headlines % tuple(
            (figures[self.headline_columns] * self.headline_factors).tolist()
        )
        measurements = self.measurements % tuple(
            (figures[self.measurement_columns] * self.measurement_factors).tolist()
        )
        return (
            headlines.replace("DEVICE", device_id),
            measurements.replace("DEVICE", device_id).replace("PEER", peer_id),
        )


def template_of(numbers: tuple[Nominal, ...]) -> Template:
    """Return the template of a device that has ``numbers``."""
    column = {(n.family, n.label, n.quantity): at for at, n in enumerate(numbers)}
    unit = {(n.family, n.label, n.quantity): n.unit for n in numbers}
    lines, cases = _Places([], []), _Places([], [])

    def spread(places: _Places, key: tuple[str, str, str], unit: str, factor: float = 1.0) -> Any:
        parts = {name: places.put(column[key], part * factor) for name, part in _PARTS.items()}
        return Distribution(unit=unit, n=_SAMPLES, **parts)

    headlines, measurements = [], []
    family: Any  # one of the schema's words
    for family, label in dict.fromkeys((n.family, n.label) for n in numbers):
        keys = {q: (family, label, q) for q in ("burst", "settled", "pipe", "clock", "energy")}
        if family in ("latency", "launch") or label.endswith("slowest pair"):
            measurements.append(_single(cases, family, label, unit, spread))
            continue
        settled_id = f"settled/{label}"
        has = {name: key for name, key in keys.items() if key in column}
        compute = family == "compute"
        headlines.append(
            Headline(
                device_id="DEVICE", family=family, label=label, title=label,
                precision=label.split("-")[0] if compute else "none",
                row=label if compute else None, case_id=f"anchor/{label}", route="simulated",
                regime="burst", rate=spread(lines, keys["burst"], unit[keys["burst"]]),
                settled=spread(lines, has["settled"], unit[keys["burst"]])
                if "settled" in has else None,
                settled_case_id=settled_id if "settled" in has else None,
                pipe_rate=spread(lines, has["pipe"], unit[keys["burst"]])
                if "pipe" in has else None,
                sm_clock_mhz=lines.put(column[has["clock"]]) if "clock" in has else None,
                energy_j_per_tflop=lines.put(column[has["energy"]]) if "energy" in has else None,
            )
        )  # fmt: skip
        heat = (family, label, "temperature")
        if "settled" in has and heat in column:
            place = column[heat]
            span = Span(
                min=cases.put(place, 0.8), median=cases.put(place, 0.97), max=cases.put(place)
            )
            measurements.append(
                Measurement(
                    case=_case(settled_id, family, "gemm", "settled"), device_id="DEVICE",
                    status="ok", telemetry=Telemetry(n_samples=10, temperature_c=span),
                    rate=spread(cases, has["settled"], unit[keys["burst"]]),
                )
            )  # fmt: skip
    text, columns, factors = _filled(headlines, lines)
    others, other_columns, other_factors = _filled(measurements, cases)
    return Template(
        text, others, np.array(columns, dtype=np.intp), np.array(factors),
        np.array(other_columns, dtype=np.intp), np.array(other_factors),
    )  # fmt: skip


def _single(
    places: _Places, family: str, label: str, unit: dict[tuple[str, str, str], str], spread: Any
) -> Measurement:
    if family == "interconnect":
        key = (family, label, "burst")
        op = label.split()[0]
        case = _case(f"{op}/pair", family, op, "burst").model_copy(
            update={"peer": Peer(device_id="PEER", torch_device="cuda:0")}
        )
        return Measurement(
            case=case, device_id="DEVICE", status="ok", rate=spread(places, key, "GB/s")
        )
    key = (family, label, "latency")
    op = "chase" if family == "latency" else "launch"
    chase = op == "chase"
    return Measurement(
        case=_case(f"{op}/{label}", family, op, "burst"), device_id="DEVICE", status="ok",
        access_ns=spread(places, key, "ns") if chase else None,
        latency=spread(places, key, "us", 200.0 if chase else 1.0),
        started_at="2026-01-01T00:00:10+00:00",
    )  # fmt: skip


def _case(case_id: str, family: Any, op: str, regime: Any) -> Case:
    return Case(
        case_id=case_id, family=family, op=op, precision="none", route="simulated", shape={},
        regime=regime,
    )  # fmt: skip


def _filled(records: list[Any], places: _Places) -> tuple[str, list[int], list[float]]:
    """Return records as the inside of a JSON list, with ``%.7g`` at the marked places.

    With it come the columns and factors in the order in which the text has the places.
    """
    text = ", ".join(r.model_dump_json(exclude_none=True) for r in records)
    if "%" in text:
        raise ValueError("a label with a percent sign would be taken for a place")
    order = [round(float(found)) - _FIRST for found in _PLACE.findall(text)]
    columns, factors = places.columns, places.factors
    return (
        _PLACE.sub("%.7g", text), [columns[at] for at in order], [factors[at] for at in order]
    )  # fmt: skip


def device_json(
    sku: Any, *, device_id: str, index: int, driver: str, subsystem: str | None,
    max_clock_mhz: float | None,
) -> str:  # fmt: skip
    """Return one simulated device as JSON."""
    memory = round(sku.mem_gb * 0.995 * 2**30) if sku.mem_gb else None
    device = Device(
        device_id=device_id, torch_device=f"cuda:{index}", backend="cuda", index=index,
        uuid=device_id, name=sku.driver_names[0] if sku.driver_names else sku.name,
        pci_bus_id=f"00000000:{0x18 + index:02X}:00.0",
        pci_id=sku.pci_ids[0] if sku.pci_ids else None, pci_subsystem_id=subsystem,
        architecture=sku.rate_class, vendor=sku.vendor, unit=sku.unit_kind,
        unit_count=sku.unit_count, memory_bytes=memory, driver=driver, catalogue_key=sku.key,
        limits=Limits(
            power_limit_w=sku.tdp_w, default_power_limit_w=sku.tdp_w,
            max_sm_clock_mhz=max_clock_mhz,
        ),
    )  # fmt: skip
    return json.dumps(device.model_dump(exclude_none=True))
