"""What is written down about a run: cases, measurements, devices, ceilings, the run itself.

A number is worth what its conditions are worth, so each measurement carries them: shape, layout,
accumulator, data pattern, route and kernel, regime, samples, spread, clocks, power, limits.
These models are the JSON of ``run.json`` and ``journal.jsonl``; their JSON Schema is published by
``probe schema``. All values are frozen; times are microseconds, rates decimal (1e9, 1e12),
capacities bytes.

``SCHEMA_VERSION`` rises when the shape of the files changes; ``METHOD_VERSION`` rises when the way
of measuring changes, so that two figures are compared only when they mean the same.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[1] = 1
METHOD_VERSION = 1

Family = Literal["compute", "memory", "latency", "launch", "interconnect", "llm", "validate"]
Status = Literal["ok", "skipped", "failed", "invalid"]
Regime = Literal["burst", "settled"]
# Why a case is in the plan: a fixed shape that every run has; a search; what follows a search at
# the shape it found (each route, each configuration of our kernel, the settled regime, each data
# pattern); a sweep over shapes, layouts or alignments; the pipe's own rate; the health check; a
# sweep over the sizes of arrays, through the caches; the work of another case launched one by one,
# where that one is replayed from a graph.
Role = Literal[
    "anchor", "search", "route", "tune", "settled", "pattern", "surface", "layout", "alignment",
    "pipe", "stability", "curve", "eager",
]  # fmt: skip
RunStatus = Literal["running", "complete", "incomplete"]
Judgement = Literal["pass", "warn", "fail", "unknown"]
# What a check asks: did it run and can the result be; is it what it is sold as; do its counters
# say that it is well; does it reach what its kind reaches; what its neighbours on the host reach;
# what it, or another of its kind, reached in an earlier run.
Layer = Literal[
    "integrity", "identity", "health", "absolute", "host-relative", "reference-relative"
]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Record(BaseModel):
    """A frozen value that refuses fields it does not know and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reason(Record):
    """Why something was not measured, or does not count: a stable code and one sentence."""

    code: str
    sentence: str
    remedy: str | None = None


NOT_ALONE = "not-alone"  # the code of the note that others used what was measured
NOT_ALONE_SHARE = 0.05  # of the measured cores: less is no note


class Note(Record):
    """A typed warning that travels with a measurement, with the numbers behind it."""

    code: str
    sentence: str
    figures: dict[str, float] = {}


class Peer(Record):
    """The device at the other end of a transfer: its stable id, and where torch found it."""

    device_id: str
    torch_device: str


class Case(Record):
    """One thing to measure on one device, before anything is known about its result.

    ``shape`` is ``{"m", "n", "k"}`` of a matrix product or ``{"elements"}`` of a stream; empty
    where the case itself looks for one. Operations of language models (family ``llm``) have the
    sizes that their operation takes, and attention the format of its cache in ``kv_precision``.
    ``row`` names the line of the compute result, ``role`` why the case is there. ``layout`` names
    how A and B are stored (``TN``: both contiguous along k). ``pipe`` is the unit that should do
    the work. ``scaling`` says how operands get their scales.
    ``config`` names a configuration of our own kernel, where it is not the best known one.
    ``convention`` says which bytes count: a stream's reads and writes, or of a transfer each byte
    once per direction. ``level`` is the level of memory in which the arrays lie, where that is not
    device memory; such a case is not held against the pins. ``peer`` is the device that a transfer
    goes to. ``model`` names the model that is run (family ``validate``), or whose operation this
    is; ``shape`` of a whole model's step has the model's sizes too. ``retest``
    counts the repeats of a case whose figure fell short, from 1; absent for what was planned.
    """

    case_id: str
    family: Family
    op: str
    precision: str
    route: str
    shape: dict[str, int]
    kv_precision: str | None = None
    row: str | None = None
    role: Role = "anchor"
    layout: str | None = None
    scaling: str | None = None
    config: str | None = None
    accumulator: str | None = None
    fast_accum: bool | None = None
    pipe: Literal["vector", "tensor"] | None = None
    sparsity: Literal["2:4"] | None = None
    engine: Literal["units", "copy-engine"] = "units"
    pattern: str = "uniform"
    regime: Regime = "burst"
    convention: Literal["read+write", "one-way"] | None = None
    level: Literal["l1", "l2"] | None = None
    peer: Peer | None = None
    model: str | None = None
    retest: int | None = Field(default=None, ge=1)


class Distribution(Record):
    """The statistics of one quantity over all samples; ``unit`` says what it is.

    ``best`` is the least time or the highest rate. ``ci_low`` and ``ci_high`` bound the median
    by a bootstrap at ``ci_level``.
    """

    unit: str
    median: NonNegative
    ci_low: NonNegative
    ci_high: NonNegative
    p10: NonNegative
    p90: NonNegative
    best: NonNegative
    n: int = Field(ge=1)
    ci_level: float = 0.95


class Correctness(Record):
    """The result of the check that came before timing: error against a float64 reference."""

    error: NonNegative
    tolerance: NonNegative
    measure: str
    checked_elements: int = Field(ge=0)


class Span(Record):
    """Least, median and greatest value seen during a case."""

    min: float
    median: float
    max: float


class TracePoint(Record):
    """One reading of the device's sensors, seconds after the case began."""

    at_s: float
    sm_clock_mhz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] = ()


class Telemetry(Record):
    """What the device said about itself while a case ran; absent fields were not available.

    ``others_cores`` is how many of the host's cores other processes, or a hypervisor, kept busy,
    ``waiting_threads`` how many of our threads stood ready meanwhile and got no processor: of all
    threads where the processor is the device, else of the one that launches.
    ``pcie_generation`` and ``pcie_width`` are of the link under load; idle links fall back.
    """

    n_samples: int = 0
    interval_s: float | None = None
    sm_clock_mhz: Span | None = None
    mem_clock_mhz: Span | None = None
    power_w: Span | None = None
    temperature_c: Span | None = None
    memory_temperature_c: Span | None = None
    pcie_generation: Span | None = None
    pcie_width: Span | None = None
    throttle_reasons: tuple[str, ...] = ()
    throttle_ns: dict[str, int] = {}
    energy_j: float | None = None
    missing: dict[str, str] = {}
    trace: tuple[TracePoint, ...] = ()
    others_cores: float | None = None
    waiting_threads: float | None = None


class PeerLink(Record):
    """What joins two devices, as the driver told right after a transfer between them.

    ``nvlink_count`` counts the active links that lead to the other device (where a switch stands
    between, all of them), out of ``nvlink_active`` on the device itself; ``nvlink_gbps`` is what
    the driver gives those that lead there, together and one way. ``missing`` says why a field is
    absent.
    """

    kind: Literal["nvlink", "pcie"] | None = None
    switched: bool | None = None
    nvlink_count: int | None = None
    nvlink_active: int | None = None
    nvlink_gbps: float | None = None
    missing: dict[str, str] = {}


class Timing(Record):
    """How the samples were taken. Each sample is the mean of ``launches_per_sample`` launches.

    ``tries`` is how often all were taken anew because others had the processor; the least disturbed
    count.
    """

    timer: str
    launches_per_sample: int = Field(ge=1)
    warmup_launches: int = Field(ge=0)
    buffer_sets: int = Field(ge=1)
    stop_reason: str
    elapsed_s: NonNegative
    tries: int = Field(default=1, ge=1)


class Population(Record):
    """Single loads of about the same latency: cycles of 10, 50 and 90 % of them, and their share.

    Reading the cycle counter is in the figure: some tens of cycles, the same for every load.
    """

    share: NonNegative
    cycles_p10: NonNegative
    cycles_median: NonNegative
    cycles_p90: NonNegative


class KernelIdentity(Record):
    """Which kernel really ran, as the profiler or the library itself named it.

    ``instruction`` is the family of the instruction that does the work (``wgmma``, ``fma``, …)
    as far as the name or the assembly tells. ``converts`` are kernels that rewrote operands in
    another format. ``fallback`` is a sentence when this is not what the row should run on.
    ``missing`` says why nothing was seen.
    """

    names: tuple[str, ...] = ()
    library: str | None = None
    instruction: str | None = None
    converts: tuple[str, ...] = ()
    fallback: str | None = None
    missing: str | None = None


class SearchStep(Record):
    """One look at one candidate of a shape search.

    ``tflops`` is what was seen, ``score`` the same with the device's drift taken out
    (``anchor_ratio`` is the anchor shape's rate then over its first). ``failure`` says why nothing
    was seen.
    """

    stage: str
    shape: tuple[int, int, int]
    tflops: float | None = None
    score: float | None = None
    anchor_ratio: float | None = None
    at_s: float
    seconds: float
    failure: str | None = None


class Part(Record):
    """One operation of a model's step: how often it was called, and microseconds of all calls."""

    name: str
    calls: int = Field(ge=1)
    us: NonNegative


class Search(Record):
    """The whole path of a search for the best shape (m, n, k) by ``route``."""

    method: str
    route: str
    seed: int
    sentence: str
    budget_s: float | None = None
    elapsed_s: float
    candidates: int
    pruned: int
    anchor: tuple[int, int, int] | None = None
    best: tuple[int, int, int] | None = None
    best_tflops: float | None = None
    steps: tuple[SearchStep, ...] = ()
    untried: tuple[tuple[int, int, int], ...] = ()


class Measurement(Record):
    """One case on one device, as it was measured, or why it was not.

    ``flops`` counts 2·m·n·k operations (integer ones too; all of them for 2:4-sparse operands,
    half of which are zeros), ``bytes_read`` and ``bytes_written`` each byte that must cross the
    memory interface once. ``rate`` is TFLOPS, TOPS or GB/s. ``clock_mhz`` is the clock counted by
    the device's own cycle counter around the samples, ``sample_clocks_mhz`` one value per sample.
    ``energy_j_per_tflop`` is the energy counter's difference over all work of its window.
    ``access_ns`` is the time per dependent load of a pointer chase, which has no rate;
    ``access_populations`` are the groups that single loads of it fall into, the fastest first.
    ``link`` is what joins the two devices of a transfer between devices. ``parts`` are the
    operations of a whole model's step, timed one by one in other steps than the samples.
    """

    case: Case
    device_id: str
    status: Status
    reason: Reason | None = None
    notes: tuple[Note, ...] = ()
    latency: Distribution | None = None
    rate: Distribution | None = None
    access_ns: Distribution | None = None
    access_populations: tuple[Population, ...] = ()
    flops: int | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None
    array_bytes: int | None = None
    kernel: str | None = None
    kernel_config: dict[str, int | str | bool | None] | None = None
    correctness: Correctness | None = None
    timing: Timing | None = None
    telemetry: Telemetry | None = None
    link: PeerLink | None = None
    parts: tuple[Part, ...] = ()
    identity: KernelIdentity | None = None
    search: Search | None = None
    clock_mhz: Span | None = None
    energy_j_per_tflop: float | None = None
    samples_us: tuple[float, ...] = ()
    sample_clocks_mhz: tuple[float, ...] = ()
    started_at: str | None = None
    wall_s: float | None = None


class Health(Record):
    """What a device's own counters say at one moment; absent where they were not told.

    ``ecc_corrected`` and ``ecc_uncorrected`` count since the driver was loaded, ``…_total`` over
    the board's life. Rows are remapped (A100 and later) or pages retired (before). ``xids`` are
    NVIDIA's driver errors of this device in the kernel's log since the host started, in order, None
    where the log may not be read. ``throttle_ns`` are counters since the driver was loaded, and
    ``throttle_events`` counts of a processor: use differences. ``source`` is what was asked
    (``nvml``, ``amdsmi``, ``npu-smi``, ``system``), ``state`` its own word for the whole, and
    ``lost`` says that the device no longer answers. ``missing`` says why a field is absent.
    """

    at: str | None = None
    source: str | None = None
    state: str | None = None
    lost: str | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    ecc_corrected_total: int | None = None
    ecc_uncorrected_total: int | None = None
    remapped_rows_corrected: int | None = None
    remapped_rows_uncorrected: int | None = None
    remapping_pending: bool | None = None
    remapping_failed: bool | None = None
    retired_pages: int | None = None
    retirement_pending: bool | None = None
    xids: tuple[int, ...] | None = None
    pcie_replays: int | None = None
    nvlink_active: int | None = None
    nvlink_errors: int | None = None
    temperature_c: float | None = None
    memory_temperature_c: float | None = None
    slowdown_temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    throttle_ns: dict[str, int] = {}
    throttle_events: dict[str, int] = {}
    other_processes: tuple[str, ...] = ()
    missing: dict[str, str] = {}


class Limits(Record):
    """What bounds a device: power and clock limits, bus width, modes. Absent means not told.

    ``pcie_generation_max`` is what device and slot can do together, ``pcie_generation_gpu_max`` the
    device alone. ``c2c_link_count`` counts links to a processor in the same module (Grace), which
    carry what goes to the host in the place of PCIe.
    """

    power_limit_w: float | None = None
    default_power_limit_w: float | None = None
    max_sm_clock_mhz: float | None = None
    max_mem_clock_mhz: float | None = None
    memory_bus_bits: int | None = None
    ecc_enabled: bool | None = None
    mig_enabled: bool | None = None
    persistence_mode: bool | None = None
    pcie_generation_max: int | None = None
    pcie_width_max: int | None = None
    pcie_generation_gpu_max: int | None = None
    c2c_link_count: int | None = None


class CacheLevel(Record):
    """Caches of one level and size, as the system, the driver or the catalogue states them.

    There are ``instance_count`` of ``instance_bytes`` on the whole device; those of a processor
    that the measured cores reach are ``used_count``, None where that cannot be told. ``shared_by``
    is how many units (cores, SMs) one instance serves. ``shared-memory`` is what a kernel may take
    of a unit's first cache, which holds at least that. ``source`` says who stated it: ``system``,
    ``driver``, ``catalogue``. A level whose instances differ in size has a row for each size.
    """

    level: int = Field(ge=1)
    kind: Literal["data", "unified", "shared-memory"]
    instance_bytes: int = Field(ge=1)
    instance_count: int = Field(ge=1)
    used_count: int | None = Field(default=None, ge=1)
    shared_by: int | None = Field(default=None, ge=1)
    source: str


class Device(Record):
    """One device as found: who it is, what it has, what it allows.

    ``device_id`` is stable over runs (a GPU's UUID; ``cpu`` for the host's processor) and names
    the device in every measurement. ``unit_count`` counts ``unit`` (SM, CU, core). ``caches`` are
    all levels that are stated, ``last_level_cache_bytes`` the last as driver or system state it,
    over all instances. ``family`` and ``model`` are a processor's own numbers (CPUID).
    ``driver_mem_clock_mhz`` and ``driver_memory_bus_bits`` are the CUDA driver's own properties of
    the memory that this device sees (of a MIG slice: its share of the bus), beside NVML's of the
    whole card in ``limits``. ``tuned_streams`` names per memory kernel the configuration that an
    earlier run on such a device, ``tuned_by``, found best.
    """

    device_id: str
    torch_device: str
    backend: str
    name: str
    index: int = 0
    uuid: str | None = None
    pci_bus_id: str | None = None
    pci_id: str | None = None
    pci_subsystem_id: str | None = None
    architecture: str | None = None
    vendor: str | None = None
    family: int | None = None
    model: int | None = None
    unit: str = "unit"
    unit_count: int | None = None
    memory_bytes: int | None = None
    memory_free_bytes: int | None = None
    last_level_cache_bytes: int | None = None
    caches: tuple[CacheLevel, ...] = ()
    driver_mem_clock_mhz: float | None = None
    driver_memory_bus_bits: int | None = None
    driver: str | None = None
    runtime: str | None = None
    limits: Limits = Limits()
    catalogue_key: str | None = None
    identity: str | None = None
    features: tuple[str, ...] = ()
    health_before: Health | None = None
    health_after: Health | None = None
    other_processes: tuple[str, ...] = ()
    tuned_streams: dict[str, str] = {}
    tuned_by: str | None = None
    missing: dict[str, str] = {}


class Ceiling(Record):
    """What a device should reach in one quantity, and how we know.

    ``kind``: ``datasheet`` (sourced) or ``derived`` (units × rate × clock). ``peak_key`` is the
    catalogue's name of the quantity. Only where ``physical_bound`` is true does a figure above
    it prove itself wrong; a datasheet never is one. ``method`` tells derived ceilings of one
    quantity apart: ``nvml`` (the driver's management library), ``driver`` (its compute interface)
    or ``catalogue``.
    """

    device_id: str
    kind: Literal["datasheet", "derived"]
    family: Family
    precision: str | None = None
    pipe: Literal["vector", "tensor"] | None = None
    sparsity: Literal["2:4"] | None = None
    peak_key: str
    value: Positive
    unit: str
    clock_mhz: float | None = None
    method: Literal["nvml", "driver", "catalogue"] | None = None
    physical_bound: bool = False
    assumed: bool = False
    basis: str
    sources: tuple[str, ...] = ()


class Attribution(Record):
    """Where the gap between a figure and the datasheet goes; the three factors multiply to it.

    ``clock`` is the measured clock over the datasheet's, ``pipe`` what the pipe alone reaches at
    that clock over units × rate × clock, ``feeding`` what the product reaches of the pipe alone.
    A factor may be above 1 (a clock above the datasheet's). ``clock`` and ``pipe`` are absent
    where there is no datasheet, no derived peak or no clock to hold them against.
    """

    clock: float | None = None
    pipe: float | None = None
    feeding: float
    basis: str


class Headline(Record):
    """One line of the result: the best valid figure of a compute row or a memory kernel.

    ``rate`` is the best burst figure, ``settled`` the same work after seconds back to back.
    Shares are medians over ceilings (0.8 is 80 %). ``share_clock_normalised`` holds the figure
    against the derived peak at the clock that was measured while it ran; ``clock_measured`` tells
    that the device's own cycle counter gave that clock, not the driver's samples. ``pipe_rate`` is
    what the pipe reaches without memory traffic, absent where the line itself is that rate.
    """

    device_id: str
    family: Family
    label: str
    title: str
    precision: str
    row: str | None = None
    sparsity: Literal["2:4"] | None = None
    case_id: str
    route: str
    regime: Regime
    rate: Distribution
    settled: Distribution | None = None
    settled_case_id: str | None = None
    pipe_rate: Distribution | None = None
    datasheet: float | None = None
    derived: float | None = None
    clock_normalised: float | None = None
    share_datasheet: float | None = None
    share_derived: float | None = None
    share_clock_normalised: float | None = None
    sm_clock_mhz: float | None = None
    clock_measured: bool = False
    energy_j_per_tflop: float | None = None
    attribution: Attribution | None = None


class SupportRow(Record):
    """Whether a device does a compute row: measured, or why not and what it would take."""

    device_id: str
    row: str
    title: str
    status: Status
    route: str | None = None
    instruction: str | None = None
    reason: Reason | None = None


class Finding(Record):
    """The result of one check on one device or on the whole run: a judgement and what it rests on.

    Checks that pass are kept too. ``code`` is one of `roofprobe.acceptance.checks.CHECKS`.
    ``figure`` was held against ``bound``, both in ``unit``; ``bound_source`` says where the bound
    comes from. ``device`` names the device for people: index, UUID, PCI bus id. An ``unknown``
    that is not ``required`` (the host does not tell, or the check does not apply) leaves the
    verdict alone.
    """

    code: str
    judgement: Judgement
    layer: Layer
    required: bool = True
    device_id: str | None = None
    device: str | None = None
    sentence: str
    remedy: str | None = None
    figure: float | None = None
    bound: float | None = None
    unit: str | None = None
    bound_source: str | None = None
    case_id: str | None = None


class Verdict(Record):
    """What the findings amount to: for each device, for what concerns the host, and in all."""

    judgement: Judgement
    devices: dict[str, Judgement] = {}
    host: Judgement = "unknown"
    findings: tuple[Finding, ...] = ()


class Environment(Record):
    """Software and host of a run.

    ``libraries`` are those that do the arithmetic and come as packages (``nvidia-cublas`` 13.0),
    ``variables`` what the process environment set for them.
    """

    host: str
    os: str
    kernel: str
    python: str
    roofprobe: str
    torch: str | None = None
    triton: str | None = None
    libraries: dict[str, str] = {}
    cpu: str | None = None
    logical_cpus: int | None = None
    memory_bytes: int | None = None
    container: str | None = None
    variables: dict[str, str] = {}


class Options(Record):
    """What was asked for; a resumed run goes on with the same options.

    ``precisions`` are the words as given: rows, precisions or groups. ``sweeps`` are optional
    sweeps at the best shape; ``compile_routes`` adds what ``torch.compile`` makes. ``calibrated``
    says that a calibration is given, so that `validate` measures no operations for one.
    """

    families: tuple[Family, ...]
    devices: str = "auto"
    tier: Literal["quick", "standard", "soak"] = "standard"
    precisions: tuple[str, ...] = ()
    search: Literal["halving", "exhaustive", "none"] = "halving"
    sweeps: tuple[Literal["layouts", "alignment"], ...] = ()
    compile_routes: bool = False
    calibrated: bool = False
    time_budget_s: Positive | None = None
    seed: int = 0


class Event(Record):
    """Something that happened to the run itself: a worker that died, an interruption, a resume."""

    at: str
    code: str
    sentence: str
    device_id: str | None = None


class Run(Record):
    """The whole record of a run: ``run.json``.

    ``planned`` are the ids of the cases that every such run has, by device; what follows from
    their results (searches) is not among them. ``retests`` are repeats of cases whose figure fell
    short, on that device and on a healthy one beside it; nothing else counts them. ``simulated``
    says what made the record up where nothing was measured: no figure in it is of a real device.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    method_version: int = METHOD_VERSION
    run_id: str
    status: RunStatus
    started_at: str
    finished_at: str | None = None
    command: tuple[str, ...] = ()
    options: Options
    environment: Environment
    devices: tuple[Device, ...] = ()
    planned: dict[str, tuple[str, ...]] = {}
    measurements: tuple[Measurement, ...] = ()
    retests: tuple[Measurement, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    headlines: tuple[Headline, ...] = ()
    support: tuple[SupportRow, ...] = ()
    verdict: Verdict | None = None
    events: tuple[Event, ...] = ()
    simulated: str | None = None


def run_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``run.json``."""
    schema = Run.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "roofprobe run",
        **{key: value for key, value in schema.items() if key != "title"},
    }
