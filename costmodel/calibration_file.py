"""``calibration.json``: what a run, or op tables of others, say about the speed of operations.

One file holds any number of devices. Per device: who it is, the ceilings that efficiencies are
relative to, one `OpFit` per class of operation, precision and kernel, the stream curve, the launch
costs, what was reached at best, and where every figure comes from. A run without measurements of
operations leaves ``ops`` empty and still tells the rest. Times are microseconds, rates decimal,
capacities bytes; the JSON Schema is part of ``probe schema``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.journal import first_problem
from roofprobe.records.reading import is_folder, json_document, read_bytes, said
from roofprobe.records.schema import NonNegative, Positive, Record

FORMAT: Final = "roofprobe-calibration"
VERSION: Literal[1] = 1
# Every site of every kernel of a GPU is some MiB.
MAX_BYTES: Final = 128 << 20
Origin = Literal["run", "op-table", "published-fit", "datasheet", "assumed"]


class Provenance(Record):
    """Where figures come from: a run (``run_id``), a table, or somebody's published fit."""

    key: str
    origin: Origin
    title: str
    locator: str | None = None
    license: str | None = None
    retrieved: str | None = None
    method: str | None = None
    rows: int | None = None


class Peak(Record):
    """A ceiling that efficiencies are relative to, and how it is known."""

    value: Positive
    unit: Literal["TFLOPS", "TOPS", "GB/s"]
    kind: Literal["datasheet", "derived", "measured", "assumed"]
    source: str


class Ceilings(Record):
    """Dense peaks by precision, memory bandwidth, and one link's bandwidth one way."""

    compute: dict[str, Peak] = Field(default_factory=dict)
    memory: Peak | None = None
    link: Peak | None = None


class Span(Record):
    """The least and the greatest value of a shape keyword that was measured."""

    low: float
    high: float


class Site(Record):
    """One measured weight or head geometry, and ln(measured / closed form) along its sizes."""

    key: dict[str, float]
    sizes: dict[str, tuple[float, ...]]
    residuals: tuple[float, ...]


class Kriging(Record):
    """How residuals of neighbouring points hang together: standard deviations of ln t and ranges.

    ``common`` is what all sites share at one size, ``site`` what a site has at all sizes, ``local``
    what fades along both, ``joint`` what the tiling decides, ``noise`` what hangs together with
    nothing. Ranges are in octaves.
    """

    common_sd: NonNegative
    common_range: Positive
    site_sd: NonNegative
    site_range: Positive
    local_sd: NonNegative
    local_size_range: Positive
    local_site_range: Positive
    joint_sd: NonNegative
    joint_range: Positive
    noise_sd: Positive


class Surface(Record):
    """What all sites' residuals have in common: ln t over a grid of log2 of the size axes.

    ``values`` run along the last axis first; between the knots they are interpolated linearly,
    outside the nearest edge counts.
    """

    knots: tuple[tuple[float, ...], ...]
    values: tuple[float, ...]


class HeldOut(Record):
    """Errors at sites that the fit had not seen: shares of the measured time (0.05 is 5 %).

    ``form`` are the errors of the closed form alone, without correction from measured neighbours;
    ``coverage`` the share of held-out points that the 80 % interval holds when their own site is
    left out of it. ``protocol`` says how sites were held out. The figures that begin with
    ``measured`` are of sizes that were left out at all sites, ends of the sweep excepted.
    """

    median: NonNegative
    p90: NonNegative
    bias: float
    form_median: NonNegative
    form_p90: NonNegative
    coverage: float | None = None
    measured_median: NonNegative | None = None
    measured_p90: NonNegative | None = None
    measured_coverage: float | None = None
    points: int = Field(ge=1)
    sites: int = Field(ge=1)
    splits: int = Field(ge=1)
    protocol: str


class Band(Record):
    """Half-width of ln(t) for 80 % of points at sizes from ``low`` up to ``high``.

    ``sigma`` is the kriging's standard deviation of ln t that it belongs to, and it grows in
    proportion; without it the half-width is the same everywhere. ``sites`` counts the groups of
    points that were left out in turn, and ``enough`` says whether those make a quantile.
    """

    low: float
    high: float | None = None
    log_halfwidth: NonNegative
    sigma: Positive | None = None
    sites: int = Field(ge=0)
    enough: bool


class Intervals(Record):
    """Conformal half-widths of ln(t) by ranges of a size, and how they widen.

    ``axis`` names the product of shape keywords that the bands divide. ``bands`` hold for weights
    and head geometries that were not measured, ``measured`` between the sizes of those that were
    (none: ``bands`` hold for both). ``shared`` is the part of the variance that different shapes of
    one step have in common, ``measured_shared`` the same at measured sites; the rest cancels in
    sums. ``per_octave`` is added per factor of two that a size lies outside its measured range,
    ``per_distance`` per octave of distance to the nearest measured site beyond what held-out sites
    had.
    """

    level: float
    axis: tuple[str, ...]
    bands: tuple[Band, ...]
    measured: tuple[Band, ...] = ()
    shared: float = Field(default=1.0, ge=0, le=1)
    measured_shared: float = Field(default=1.0, ge=0, le=1)
    per_octave: NonNegative
    per_distance: NonNegative


class OpFit(Record):
    """How long one class of operation takes in one precision with one kernel.

    The closed form is that of ``roofprobe.costmodel.forms``: ``exponent`` absent is a hard
    maximum, ``terms`` are extra coefficients in the units of their names (``quantise_passes``:
    passes over the activations at full bandwidth). ``sites`` with ``kriging`` correct it near
    measured points, or ``surface`` by what all sites had in common. ``flags`` are codes that hold
    for every estimate.
    """

    op: str
    precision: str
    kv_precision: str | None = None
    kernel: str | None = None
    framework: str | None = None
    compute_efficiency: Positive
    memory_efficiency: Positive
    t0_us: NonNegative
    exponent: Positive | None = None
    wave: NonNegative = 0.0
    contention: NonNegative = 0.0
    host_floor_us: NonNegative = 0.0
    l2_efficiency: NonNegative = 0.0
    terms: dict[str, float] = Field(default_factory=dict)
    peak_tflops: Positive | None = None
    peak_gbps: Positive
    units: int | None = None
    domain: dict[str, Span] = Field(default_factory=dict)
    sites: tuple[Site, ...] = ()
    kriging: Kriging | None = None
    surface: Surface | None = None
    held_out: HeldOut | None = None
    intervals: Intervals
    flags: tuple[str, ...] = ()
    provenance: str
    note: str | None = None


class StreamPoint(Record):
    """One size of the stream curve: bytes that one pass moves, the arrays, and how fast."""

    bytes: NonNegative
    array_bytes: NonNegative
    gbps: NonNegative
    latency_us: NonNegative


class Achieved(Record):
    """The best valid figure of a compute row or stream kernel, and its share of the peak.

    ``domain`` are the shapes that were measured. Without a known peak there is no efficiency.
    """

    achieved: NonNegative
    unit: str
    interval: tuple[float, float]
    regime: str
    route: str
    case_id: str
    domain: tuple[str, ...] = ()
    peak: Positive | None = None
    peak_kind: Literal["derived", "datasheet"] | None = None
    efficiency: NonNegative | None = None
    efficiency_interval: tuple[float, float] | None = None


class DeviceCalibration(Record):
    """All that is known about one device.

    ``launch_disturbed`` names the launches during which others had the processor: their
    ``launch_us`` is an upper bound. ``notes`` are sentences about what all of it rests on.
    """

    name: str
    device_id: str | None = None
    architecture: str | None = None
    catalogue_key: str | None = None
    units: int | None = None
    memory_bytes: int | None = None
    l2_bytes: int | None = None
    ceilings: Ceilings = Ceilings()
    ops: tuple[OpFit, ...] = ()
    gemm: dict[str, Achieved] = Field(default_factory=dict)
    stream: dict[str, Achieved] = Field(default_factory=dict)
    stream_curve: dict[str, tuple[StreamPoint, ...]] = Field(default_factory=dict)
    launch_us: dict[str, NonNegative] = Field(default_factory=dict)
    launch_disturbed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class CalibrationFile(Record):
    """The whole file."""

    format: Literal["roofprobe-calibration"] = FORMAT
    schema_version: Literal[1] = VERSION
    method_version: int | None = None
    run_id: str | None = None
    created_at: str | None = None
    roofprobe: str | None = None
    devices: tuple[DeviceCalibration, ...] = ()
    provenance: tuple[Provenance, ...] = ()


def calibration_bytes(file: CalibrationFile) -> bytes:
    """Return the JSON document; absent values are left out."""
    data = file.model_dump(mode="json", exclude_none=True)
    return json.dumps(data, ensure_ascii=False, indent=1).encode() + b"\n"


def read_calibration(path: Path) -> CalibrationFile:
    """Read ``calibration.json``, or that of a run folder.

    Raises ``RoofprobeError`` (``not-a-calibration``, ``newer-schema``, ``damaged-calibration``).
    """
    file = path / "calibration.json" if is_folder(path) else path
    try:
        data = json_document(read_bytes(file, MAX_BYTES))
    except OSError as error:
        raise RoofprobeError(
            "not-a-calibration",
            f"{said(file, error)}; name a calibration.json or a run folder",
        ) from None
    except ValueError as error:
        raise RoofprobeError(
            "not-a-calibration",
            f"{file} is not JSON ({error}); write one with `probe calibrate RUN --out FILE`",
        ) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise RoofprobeError(
            "not-a-calibration",
            f"{file} is not a calibration of roofprobe; write one with "
            "`probe calibrate RUN --out FILE`",
        )
    version = data.get("schema_version")
    if isinstance(version, int) and version > VERSION:
        raise RoofprobeError(
            "newer-schema",
            f"{file} has schema version {version} and this roofprobe knows {VERSION}; update it",
        )
    try:
        return CalibrationFile.model_validate(data)
    except (ValidationError, RecursionError) as error:
        raise RoofprobeError(
            "damaged-calibration",
            f"{file} was changed or damaged ({first_problem(error)}); write it again",
        ) from None


def calibration_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``calibration.json``."""
    schema = CalibrationFile.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "roofprobe calibration",
        **{key: value for key, value in schema.items() if key != "title"},
    }
