"""The part of ``run.json`` that a fleet is made of; the rest of a record is passed over unread.

A host's record is megabytes of samples and searches, and a fleet has thousands of hosts: these
models keep identities, headlines and the few measurements that no headline stands for. They take
what `roofprobe.records.schema.Run` takes, and more: fields that a later release adds are ignored,
those that an earlier one lacked have defaults. Numbers that are not finite are refused, as there.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from roofprobe.records.schema import SCHEMA_VERSION

# Record versions that are read; what an older one lacks, the defaults below stand for.
READ_VERSIONS: Final = tuple(range(1, SCHEMA_VERSION + 1))


# What the columns of a fleet's tables can hold.
Whole = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
Bytes = Annotated[int, Field(ge=0, lt=1 << 63)]


class _Lean(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Middle(_Lean):
    """The median of a distribution with its interval and the number of samples."""

    unit: str
    median: float
    ci_low: float
    ci_high: float
    n: Whole


class Headline(_Lean):
    """One line of a device's result."""

    device_id: str
    family: str
    label: str
    regime: str
    rate: Middle
    settled: Middle | None = None
    settled_case_id: str | None = None
    pipe_rate: Middle | None = None
    sm_clock_mhz: float | None = None
    energy_j_per_tflop: float | None = None


class Peer(_Lean):
    """The device at the other end of a transfer."""

    device_id: str


class Case(_Lean):
    """What was measured, as far as its name goes."""

    case_id: str
    family: str
    op: str = ""
    route: str = ""
    role: str = "anchor"
    peer: Peer | None = None


class Hottest(_Lean):
    """The greatest value seen."""

    max: float


class Telemetry(_Lean):
    """The one sensor that is compared over a fleet."""

    temperature_c: Hottest | None = None


class Measurement(_Lean):
    """One case with its result."""

    case: Case
    device_id: str
    status: str
    latency: Middle | None = None
    rate: Middle | None = None
    access_ns: Middle | None = None
    telemetry: Telemetry | None = None
    started_at: str | None = None


class Limits(_Lean):
    """What bounds a device."""

    power_limit_w: float | None = None
    max_sm_clock_mhz: float | None = None


class Device(_Lean):
    """Who a device is."""

    device_id: str
    backend: str
    name: str
    index: Whole = 0
    pci_bus_id: str | None = None
    pci_id: str | None = None
    pci_subsystem_id: str | None = None
    architecture: str | None = None
    unit_count: Whole | None = None
    memory_bytes: Bytes | None = None
    driver: str | None = None
    runtime: str | None = None
    limits: Limits = Limits()
    catalogue_key: str | None = None


class Finding(_Lean):
    """The result of one check."""

    code: str
    judgement: str
    required: bool = True
    device_id: str | None = None
    sentence: str


class Verdict(_Lean):
    """What the run's own checks amount to."""

    judgement: str
    devices: dict[str, str] = {}
    findings: tuple[Finding, ...] = ()


class Environment(_Lean):
    """Software and host."""

    host: str
    os: str = ""
    kernel: str = ""
    python: str = ""
    roofprobe: str = ""
    torch: str | None = None
    container: str | None = None


class Options(_Lean):
    """What was asked for."""

    tier: str = "standard"


class LeanRun(_Lean):
    """A run as far as a fleet keeps it."""

    schema_version: Whole
    method_version: Whole = 1
    run_id: str
    status: str
    started_at: str
    finished_at: str | None = None
    options: Options = Options()
    environment: Environment
    devices: tuple[Device, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    headlines: tuple[Headline, ...] = ()
    verdict: Verdict | None = None
    simulated: str | None = None
