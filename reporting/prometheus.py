"""A run as metrics for the textfile collector of Prometheus' node exporter.

Gauges in base units, no timestamps (the collector refuses them), each metric with one HELP and one
TYPE (https://prometheus.io/docs/instrumenting/exposition_formats/). What was not measured has no
series: a zero would read as a figure. A file that nobody writes any more keeps its last values, so
alert on the age of ``roofprobe_last_run_time_seconds`` as well as on a state.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from roofprobe.records.schema import Headline, Run, Verdict
from roofprobe.reporting import verdict_rows
from roofprobe.reporting.plain_text import shorten
from roofprobe.reporting.verdict_rows import WORST_FIRST, Scope

Labels = Mapping[str, str]
Sample = tuple[Labels, float]

_LONGEST_LABEL: Final = 512
# Unit of a recorded rate → the metric of its base unit, and what the rate is multiplied by.
_RATES: Final[dict[str, tuple[str, float]]] = {
    "TFLOPS": ("roofprobe_operations_per_second", 1e12),
    "TOPS": ("roofprobe_operations_per_second", 1e12),
    "GB/s": ("roofprobe_bytes_per_second", 1e9),
}
_SHARES: Final = (
    ("roofprobe_datasheet_ratio", "share_datasheet", "Burst rate over the datasheet's peak."),
    ("roofprobe_derived_ratio", "share_derived", "Burst rate over units x rate x highest clock."),
    (
        "roofprobe_clock_normalised_ratio", "share_clock_normalised",
        "Burst rate over the derived peak at the clock that was measured meanwhile.",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Metric:
    """One gauge: its name, what it means, and its series."""

    name: str
    help: str
    samples: tuple[Sample, ...]


def prometheus_bytes(run: Run, verdict: Verdict) -> bytes:
    """Return the metrics of ``run`` in Prometheus' text format, in UTF-8."""
    return written(metrics(run, verdict))


def written(metrics: Iterable[Metric]) -> bytes:
    """Return metrics in Prometheus' text format, in UTF-8; one without series is left out."""
    lines: list[str] = []
    for metric in metrics:
        series = {_series(metric.name, labels): value for labels, value in reversed(metric.samples)}
        if series:
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} gauge"]
            lines += [f"{name} {_number(value)}" for name, value in reversed(series.items())]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def metrics(run: Run, verdict: Verdict) -> Iterator[Metric]:
    """Yield every metric of a run; one without series is left out when written."""
    *devices, host = verdict_rows.scopes(run, verdict)
    ended = unix_s(run.finished_at or run.started_at)
    begun = unix_s(run.started_at)
    yield Metric(
        "roofprobe_last_run_time_seconds", "When the last run ended, in seconds since 1970.",
        () if ended is None else (({}, ended),),
    )  # fmt: skip
    whole = ended is not None and begun is not None and run.finished_at is not None
    yield Metric(
        "roofprobe_run_duration_seconds", "How long the last run took.",
        (({}, max(0.0, (ended or 0.0) - (begun or 0.0))),) if whole else (),
    )  # fmt: skip
    yield Metric(
        "roofprobe_run_complete", "1 if the last run came to its end, else 0.",
        (({}, float(run.status == "complete")),),
    )  # fmt: skip
    yield Metric("roofprobe_run_info", "Identity and versions of the last run.", (_info(run),))
    yield Metric(
        "roofprobe_run_verdict", "1 for the state that the last run was judged to be, else 0.",
        tuple(states({}, verdict_rows.judgement_of(run, verdict))),
    )  # fmt: skip
    yield Metric(
        "roofprobe_device_verdict", "1 for the state that a device was judged to be, else 0.",
        tuple(s for scope in devices for s in states(_names(scope), scope.judgement)),
    )  # fmt: skip
    yield Metric(
        "roofprobe_host_verdict", "1 for the state that the host was judged to be, else 0.",
        tuple(states({}, host.judgement)) if host.findings else (),
    )  # fmt: skip
    yield Metric(
        "roofprobe_findings", "How many findings of a code there are, by judgement.",
        tuple(s for scope in (*devices, host) for s in _findings(scope)),
    )  # fmt: skip
    by_device = {scope.device_id: _names(scope) for scope in devices}
    yield from _headlines(run.headlines, by_device)
    yield Metric(
        "roofprobe_access_latency_seconds", "Time of one dependent load, by size of the array.",
        tuple(_accesses(run, by_device)),
    )  # fmt: skip


def _headlines(
    headlines: Iterable[Headline], by_device: Mapping[str | None, Labels]
) -> Iterator[Metric]:
    known = [(h, by_device[h.device_id]) for h in headlines if h.device_id in by_device]
    for name, what in (
        ("roofprobe_operations_per_second", "Median rate of a compute row, by regime."),
        ("roofprobe_bytes_per_second", "Median rate of a memory kernel or a link, by regime."),
    ):
        samples: list[Sample] = []
        for headline, labels in known:
            for regime, rate in (
                (headline.regime, headline.rate), ("settled", headline.settled),
            ):  # fmt: skip
                if rate is not None and _RATES.get(rate.unit, ("",))[0] == name:
                    own = {**labels, **_line(headline), "regime": regime}
                    samples.append((own, rate.median * _RATES[rate.unit][1]))
        yield Metric(name, what, tuple(samples))
    for name, field, what in _SHARES:
        found = [({**labels, **_line(h)}, getattr(h, field)) for h, labels in known]
        shares = tuple((labels, share) for labels, share in found if share is not None)
        yield Metric(name, what, shares)


def _line(headline: Headline) -> dict[str, str]:
    return {"family": headline.family, "row": headline.label}


def _accesses(run: Run, by_device: Mapping[str | None, Labels]) -> Iterator[Sample]:
    for m in run.measurements:
        size = m.case.shape.get("footprint_bytes")
        known = m.status == "ok" and m.access_ns is not None and size is not None
        if known and m.access_ns is not None and m.device_id in by_device:
            labels = {**by_device[m.device_id], "op": m.case.op, "footprint_bytes": str(size)}
            yield labels, m.access_ns.median * 1e-9


def _names(scope: Scope) -> dict[str, str]:
    """Return what names a device in every series of it: where torch finds it, and who it is."""
    device = scope.device
    if device is None:
        return {"device": "", "name": scope.label, "uuid": scope.device_id or "", "pci_bus_id": ""}
    return {
        "device": device.torch_device,
        "name": device.name,
        "uuid": device.uuid or "",
        "pci_bus_id": device.pci_bus_id or "",
    }


def states(labels: Labels, judgement: str) -> Iterator[Sample]:
    """Yield one series per state: 1 for the one that ``judgement`` is, 0 for the others."""
    for state in WORST_FIRST:
        yield {**labels, "state": state}, float(state == judgement)


def _findings(scope: Scope) -> Iterator[Sample]:
    names = {} if scope.device_id is None else _names(scope)
    found = Counter((f.code, f.layer, f.judgement, f.required) for f in scope.findings)
    for (code, layer, judgement, required), count in found.items():
        told = {"code": code, "layer": layer, "judgement": judgement}
        yield {**names, **told, "required": str(required).lower()}, float(count)


def _info(run: Run) -> Sample:
    environment = run.environment
    return {
        "run_id": run.run_id,
        "version": environment.roofprobe,
        "method_version": str(run.method_version),
        "torch": environment.torch or "",
        "tier": run.options.tier,
    }, 1.0


def unix_s(moment: str) -> float | None:
    """Return a moment in seconds since 1970; None where it is none."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError):
        return None


def _series(name: str, labels: Labels) -> str:
    """Write a series; a label without a value says the same as no label, and is left out."""
    told = [f'{key}="{escape(shorten(v, _LONGEST_LABEL))}"' for key, v in labels.items() if v]
    return f"{name}{{{','.join(told)}}}" if told else name


def escape(text: str) -> str:
    """Return ``text`` as the value of a label, between quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)
