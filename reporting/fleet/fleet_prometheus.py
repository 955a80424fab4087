"""A fleet's verdict as metrics for the textfile collector of Prometheus' node exporter.

As for a run: gauges in base units, no timestamps, no series for what is not known. Devices that
pass have no series of their own, only their count, so that ten thousand of them cost a few lines.
A file that nobody writes any more keeps its values, so alert on the age of
``roofprobe_fleet_last_merge_time_seconds`` too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from roofprobe.acceptance.fleet.fleet_verdict import DeviceVerdict, FleetVerdict
from roofprobe.reporting.fleet.fleet_rows import simulated_lines
from roofprobe.reporting.prometheus import Metric, Sample, states, unix_s, written
from roofprobe.reporting.verdict_rows import WORST_FIRST


def prometheus_bytes(verdict: FleetVerdict, merged_at: str | None) -> bytes:
    """Return the metrics of a fleet in Prometheus' text format; what is made up says so first."""
    head = "".join(f"# SIMULATED: {sentence}\n" for sentence in simulated_lines(verdict))
    return head.encode("utf-8", "replace") + written(metrics(verdict, merged_at))


def metrics(verdict: FleetVerdict, merged_at: str | None) -> Iterator[Metric]:
    """Yield every metric of a fleet."""
    source = verdict.generated_from
    for name, what, moment in (
        ("merge", "When runs were last merged into the fleet", merged_at),
        ("run", "When the fleet's latest run began", source.last_started_at),
    ):
        at = unix_s(_zoned(moment)) if moment else None
        yield Metric(
            f"roofprobe_fleet_last_{name}_time_seconds", f"{what}, in seconds since 1970.",
            () if at is None else (({}, at),),
        )  # fmt: skip
    yield Metric(
        "roofprobe_fleet_simulated", "1 where the fleet holds runs that nobody measured.",
        (({}, 1.0),) if source.simulated else (),
    )  # fmt: skip
    for name, what, count in (
        ("runs", "How many runs the fleet holds.", source.n_runs),
        ("refused_files", "How many files were refused by merges.", source.n_refused),
    ):
        yield Metric(f"roofprobe_fleet_{name}", what, (({}, float(count)),))
    yield Metric(
        "roofprobe_fleet_verdict", "1 for the state that the fleet was judged to be, else 0.",
        tuple(states({}, verdict.judgement)),
    )  # fmt: skip
    yield Metric(
        "roofprobe_fleet_devices", "How many devices of a kind were judged to be in a state.",
        tuple(
            ({"sku": sku.sku, "state": state}, float(sku.counts.get(state, 0)))
            for sku in verdict.skus
            for state in WORST_FIRST
        ),
    )  # fmt: skip
    yield Metric(
        "roofprobe_fleet_hosts", "How many hosts were judged to be in a state.",
        tuple(
            ({"state": state}, float(verdict.host_counts.get(state, 0))) for state in WORST_FIRST
        ),
    )  # fmt: skip
    yield Metric(
        "roofprobe_fleet_host_verdict",
        "1 for the state of a host, else 0, of hosts that do not pass.",
        tuple(s for host in verdict.hosts for s in states({"host": host.host}, host.judgement)),
    )
    yield Metric(
        "roofprobe_fleet_device_verdict",
        "1 for the state of a device, else 0, of devices that do not pass.",
        tuple(s for device in verdict.devices for s in states(_names(device), device.judgement)),
    )
    yield Metric(
        "roofprobe_fleet_device_worst_effect_ratio",
        "Share by which a device that does not pass is worse (negative) than its like.",
        tuple(_worst(verdict)),
    )
    yield Metric(
        "roofprobe_fleet_findings", "How many findings of a code there are, by judgement.",
        tuple(_findings(verdict)),
    )  # fmt: skip


def _names(device: DeviceVerdict) -> dict[str, str]:
    return {
        "host": device.host,
        "device": str(device.position),
        "uuid": device.device_id,
        "sku": device.sku,
    }


def _worst(verdict: FleetVerdict) -> Iterator[Sample]:
    for device in verdict.devices:
        if device.worst_effect is not None and device.worst_metric is not None:
            yield {**_names(device), "metric": device.worst_metric}, device.worst_effect


def _findings(verdict: FleetVerdict) -> Iterator[Sample]:
    every = [*verdict.findings, *(found for device in verdict.devices for found in device.findings)]
    counts = Counter((found.code, found.judgement) for found in every)
    for (code, judgement), count in sorted(counts.items()):
        yield {"code": code, "judgement": judgement}, float(count)


def _zoned(moment: str) -> str:
    """Return a moment with its zone; those of the tables are UTC and do not say so."""
    told = moment[10:]
    return moment if "Z" in told or "+" in told or "-" in told else f"{moment}+00:00"
