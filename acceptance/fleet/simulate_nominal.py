"""What a simulated device would reach if nothing were wrong: the catalogue times a stated share.

No figure here was measured. Rates are a datasheet's dense peak, bandwidth or link times ``SHARES``,
which lie where published figures of such boards lie (matrix products 65 to 80 % of the peak,
streams 85 to 93 % of the pins), so that a simulated report looks like a report. Latencies have no
datasheet and are round numbers. What the catalogue does not know is left out, with its metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from roofprobe.peaks.accelerator import Accelerator

# The source of a metric's spread; see `roofprobe.acceptance.fleet.simulate_noise`.
Spread = Literal["core", "memory", "link", "latency", "launch", "clock", "heat", "energy"]

# Rows of the compute result and the share of the dense peak that their product reaches.
SHARES: Final = {
    "fp64": 0.88, "fp32": 0.78, "tf32": 0.75, "bf16": 0.76, "fp16": 0.74, "fp8": 0.70,
    "fp8-rowwise": 0.66, "int8": 0.64,
}  # fmt: skip
_PRECISION: Final = {"fp8-rowwise": "fp8"}
_VECTOR: Final = {"fp32-vector": "fp32", "fp64-vector": "fp64"}
_STREAMS: Final = {
    "read fp32": 0.93, "write fp32": 0.91, "copy fp32": 0.89, "scale fp32": 0.89, "add fp32": 0.90,
    "triad fp32": 0.90, "dot fp32": 0.92, "nstream fp32": 0.88, "copy fp64": 0.89,
    "triad fp64": 0.90, "gather-16 fp32": 0.20, "gather-64 fp32": 0.55, "gather-128 fp32": 0.75,
    "strided-2 fp32": 0.48, "strided-16 fp32": 0.12,
}  # fmt: skip
_SETTLED_STREAMS: Final = tuple(
    label for label in _STREAMS if label[-1] in "24" and "-" not in label
)
_LLM: Final = {  # label: (of the peak of a precision or of memory, share)
    "prefill GEMM bf16": ("bf16", 0.68), "prefill GEMM fp8": ("fp8", 0.60),
    "prefill attention bf16": ("bf16", 0.55), "decode GEMM bf16": (None, 0.80),
    "decode GEMM fp8": (None, 0.74), "decode attention bf16": (None, 0.78),
    "decode experts bf16": (None, 0.70),
}  # fmt: skip
_LATENCIES_NS: Final = {"l1/default/16384": 20.0, "l1/huge/131072": 20.0,
                        "l2/default/8388608": 150.0, "l2/huge/16777216": 150.0,
                        "device/default/4294967296": 500.0}  # fmt: skip
_LAUNCHES_US: Final = {"empty": 2.0, "empty-waited": 6.0, "graph": 1.0, "graph-waited": 5.0}
SETTLED_SHARE, PIPE_SHARE, CLOCK_SHARE = 0.93, 0.92, 0.90  # of burst, of the peak, of the boost
_TEMPERATURE_C: Final = 62.0


@dataclass(frozen=True, slots=True)
class Nominal:
    """One number of a device: its name as a fleet has it, its nominal value and its spread.

    ``of_rows`` are words that a fault may name: the label, the precision, the family.
    """

    family: str
    label: str
    quantity: str
    unit: str
    value: float
    spread: Spread

    @property
    def better(self) -> Literal["higher", "lower"]:
        """Which direction is better."""
        lower = self.quantity in ("latency", "energy", "temperature")
        return "lower" if lower else "higher"

    def touched_by(self, word: str) -> bool:
        """Whether a fault in ``word`` (all, compute, memory, a precision or a label) slows it.

        Temperatures and clocks stay: a unit that does less work per clock runs at the same clock.
        """
        if self.spread in ("heat", "clock", "launch"):
            return False
        if word == "all":
            return True
        if word == "memory":
            return self.spread == "memory"
        if word == "compute":
            return self.spread in ("core", "energy")
        return word in (self.family, self.label) or word in self.label.split()


def nominals(kind: Accelerator, *, linked: bool) -> tuple[Nominal, ...]:
    """Return the numbers of one device of a kind; ``linked`` where it has a neighbour."""
    return tuple(_compute(kind)) + tuple(_memory(kind)) + tuple(_llm(kind)) + tuple(
        _links_and_latencies(kind, linked)
    )  # fmt: skip


def _compute(kind: Accelerator) -> Iterator[Nominal]:
    for label, share in SHARES.items():
        peak = kind.headline_peak(_PRECISION.get(label, label))
        if peak is None:
            continue
        unit = "TOPS" if label.startswith("int") else "TFLOPS"
        burst = peak * share
        yield Nominal("compute", label, "burst", unit, burst, "core")
        yield Nominal("compute", label, "settled", unit, burst * SETTLED_SHARE, "core")
        yield Nominal("compute", label, "pipe", unit, peak * PIPE_SHARE, "core")
        yield from _clock("compute", label, kind)
        if kind.tdp_w:
            joules = 0.95 * kind.tdp_w / (burst * SETTLED_SHARE)
            yield Nominal("compute", label, "energy", "J/TFLOP", joules, "energy")
        yield Nominal("compute", label, "temperature", "C", _TEMPERATURE_C, "heat")
    for label, key in _VECTOR.items():
        if key in kind.dense:
            yield Nominal("compute", label, "burst", "TFLOPS", kind.dense[key] * 0.92, "core")


def _clock(family: str, label: str, kind: Accelerator) -> Iterator[Nominal]:
    if kind.boost_clock_mhz:
        clock = kind.boost_clock_mhz * CLOCK_SHARE
        yield Nominal(family, label, "clock", "MHz", clock, "clock")


def _memory(kind: Accelerator) -> Iterator[Nominal]:
    if kind.mem_bw_gbps:
        for label, share in _STREAMS.items():
            value = kind.mem_bw_gbps * share
            yield Nominal("memory", label, "burst", "GB/s", value, "memory")
            if label in _SETTLED_STREAMS:
                yield Nominal("memory", label, "settled", "GB/s", value * 0.99, "memory")


def _llm(kind: Accelerator) -> Iterator[Nominal]:
    for label, (precision, share) in _LLM.items():
        peak = kind.headline_peak(precision) if precision else kind.mem_bw_gbps
        if peak:
            spread: Spread = "core" if precision else "memory"
            unit = "TFLOPS" if precision else "GB/s"
            yield Nominal("llm", label, "burst", unit, peak * share, spread)
            yield from _clock("llm", label, kind)


def _links_and_latencies(kind: Accelerator, linked: bool) -> Iterator[Nominal]:
    yield Nominal("interconnect", "host-copy", "burst", "GB/s", 52.0, "link")
    if linked and kind.nvlink_gbps:
        one_way = kind.nvlink_gbps / 2 * 0.85
        yield Nominal("interconnect", "p2p slowest pair", "burst", "GB/s", one_way, "link")
    for label, value in _LATENCIES_NS.items():
        yield Nominal("latency", label, "latency", "ns", value, "latency")
    for label, value in _LAUNCHES_US.items():
        yield Nominal("launch", label, "latency", "us", value, "launch")
