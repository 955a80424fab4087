"""The record of a fleet's verdict: what ``probe fleet report --json`` prints.

`roofprobe.acceptance.fleet.judge.fleet_verdict` makes it from a fleet's tables. An *effect* is the
share by which a figure is better (positive) or worse (negative) than the median of equal devices,
whichever direction is better in that metric; *z* is the same in robust standard deviations.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from roofprobe.records.schema import Judgement, NonNegative, Positive, Record

FLEET_VERDICT_VERSION: Literal[1] = 1

Scope = Literal["fleet", "sku", "host", "device"]
# What a metric tells about: bursts of arithmetic, arithmetic over seconds, the clock, memory,
# links, latency of loads, the host's launches, energy and temperature. The last two are shown, and
# explain others, but are no reason by themselves.
Aspect = Literal[
    "compute", "sustained", "clock", "memory", "interconnect", "latency", "launch", "energy", "heat"
]
# What a shortfall follows from: the clock (power, heat), the units at the clock that they had, the
# memory, links, or everything at once.
Cause = Literal["clock", "units", "memory", "interconnect", "latency", "host", "all"]


class FleetOptions(Record):
    """What a fleet is held to.

    ``expected`` names the hosts that should be there, each with its number of devices where that
    is known; empty where nobody said. Effects are shares: 0.03 is 3 %. A device's shortfall needs
    the effect *and* ``z``. ``least_peers`` equal devices make a criterion. Up to
    ``most_bad_share`` of a kind may be bad; a lower mode that holds more of them is a kind of its
    own, unless it is known to throttle. Only runs that started within ``window_days`` of the newest
    count as the fleet's present; None counts all.
    """

    expected: dict[str, int | None] = Field(default_factory=dict)
    warn_effect: Positive = 0.035
    fail_effect: Positive = 0.05
    z: Positive = 3.5
    least_peers: int = Field(default=10, ge=3)
    most_bad_share: Positive = 0.25
    variant_effect: Positive = 0.02
    drift_effect: Positive = 0.02
    least_drift_runs: int = Field(default=5, ge=3)
    change_effect: Positive = 0.02
    window_days: Positive | None = None


class FleetSource(Record):
    """What was judged. ``simulated`` are the sentences of records that nobody measured."""

    where: str
    log_version: int
    n_runs: int
    n_hosts: int
    n_devices: int
    n_metrics: int
    n_refused: int = 0
    first_started_at: str | None = None
    last_started_at: str | None = None
    simulated: tuple[str, ...] = ()


class SkuSummary(Record):
    """The devices of one kind, and how many of them are judged how."""

    sku: str
    n_devices: int
    n_hosts: int
    drivers: tuple[str, ...]
    power_limits_w: tuple[float, ...]
    counts: dict[Judgement, int]


class Mode(Record):
    """One of the centres that a metric has in a group, and the share of devices around it."""

    centre: float
    share: float


class Criterion(Record):
    """What devices of one group reach in one metric, and the worst that still passes.

    ``driver`` or ``power_limit_w`` is None where too few devices share one, so that it is
    ``pooled`` over them, or where the device has none. ``variant`` names the attribute and value
    that make a batch a group of its own (``pci_subsystem_id=10de:16c1``). ``scale`` is the robust
    standard deviation as a share of the median, after what lies apart was set aside; ``scale_from``
    says what it rests on. Beyond ``bound`` a figure is worse by ``minimum_effect`` and z;
    ``fail_bound`` is that of a fail. Both are of a single figure: a device's level in an aspect is
    held to the same effects.
    """

    sku: str
    driver: str | None
    power_limit_w: float | None
    method_version: int
    variant: str | None = None
    metric: str
    family: str
    label: str
    quantity: str
    aspect: Aspect
    unit: str
    better: Literal["higher", "lower"]
    n: int
    n_apart: int = 0
    median: float
    mad: NonNegative
    scale: NonNegative
    scale_from: Literal["mad", "interval", "mean-deviation", "none"]
    bound: float
    fail_bound: float
    minimum_effect: float
    pooled: bool = False
    modes: tuple[Mode, ...] = ()


class FleetFinding(Record):
    """One thing found, with its evidence: ``figure`` against ``bound``, both in ``unit``.

    Many metrics that are off for one reason are one finding; the worst of them is the evidence,
    ``n_metrics`` says how many they were. ``median`` and ``n_peers`` are of the equal devices.
    ``hosts`` and ``n_devices`` tell whom a finding about a group concerns. ``since`` is when it
    began, where that is known.
    """

    code: str
    judgement: Judgement
    scope: Scope
    sku: str | None = None
    host: str | None = None
    device_id: str | None = None
    position: int | None = None
    hosts: tuple[str, ...] = ()
    n_devices: int | None = None
    aspect: Aspect | None = None
    cause: Cause | None = None
    metric: str | None = None
    n_metrics: int | None = None
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    z: float | None = None
    figure: float | None = None
    median: float | None = None
    bound: float | None = None
    unit: str | None = None
    n_peers: int | None = None
    attribute: str | None = None
    since: str | None = None
    sentence: str
    remedy: str | None = None


class DeviceVerdict(Record):
    """A device that is no pass: its worst metric, and why."""

    host: str
    device_id: str
    position: int
    name: str
    sku: str
    started_at: str
    judgement: Judgement
    worst_metric: str | None = None
    worst_effect: float | None = None
    worst_z: float | None = None
    n_metrics: int
    n_flagged: int
    findings: tuple[FleetFinding, ...]


class HostVerdict(Record):
    """A host that is no pass. A node is as good as its worst device, which is named."""

    host: str
    judgement: Judgement
    worst_device_id: str | None = None
    n_devices: int
    n_expected: int | None = None
    n_not_pass: int = 0
    sentence: str


class FleetVerdict(Record):
    """The whole verdict. ``devices`` and ``hosts`` are those that are no pass, the worst first.

    ``findings`` are about the fleet, a kind of device or a host; those of one device are with it.
    """

    fleet_verdict_version: Literal[1] = FLEET_VERDICT_VERSION
    judgement: Judgement
    generated_from: FleetSource
    options: FleetOptions
    skus: tuple[SkuSummary, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    device_counts: dict[Judgement, int] = Field(default_factory=dict)
    host_counts: dict[Judgement, int] = Field(default_factory=dict)
    devices: tuple[DeviceVerdict, ...] = ()
    hosts: tuple[HostVerdict, ...] = ()
    findings: tuple[FleetFinding, ...] = ()
    summary: str = ""


def fleet_verdict_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a fleet's verdict."""
    schema = FleetVerdict.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "roofprobe fleet verdict",
        **{key: value for key, value in schema.items() if key != "title"},
    }
