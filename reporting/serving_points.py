"""What the report predicts about serving: for which model, which cases, and held against what.

Everything follows from the device's own calibration, in two batches of cases: first every model of
`MODELS` once, which decides whom the figures are about; then that model over prompt length, over
sequences, and over requests in flight. A point that lies outside of what was measured is kept and
marked (``sure`` is false); what holds for all that the calibration says (few measured sites, a
published fit) is no mark of a point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from roofprobe.records.errors import RoofprobeError

if TYPE_CHECKING:
    from roofprobe.costmodel.calibration import Calibration

# From big to small; dense, and of the layers that `probe llm` measures or alike.
MODELS: Final = (
    "llama-3.1-70b", "qwen3-32b", "qwen3-14b", "llama-3.1-8b", "qwen3-4b", "qwen3-1.7b",
    "qwen3-0.6b",
)  # fmt: skip
# Weights and KV cache alike; the first that the calibration can time is taken.
PRECISIONS: Final = ("bf16", "fp16", "fp32")
# Room that a model must leave: so many requests of this context.
_ROOM_REQUESTS: Final = 8
_ROOM_CONTEXT: Final = 4096

PROMPTS: Final = (128, 256, 512, 1024, 2048, 4096, 8192)
PROMPT_BATCHES: Final = (1, 8)
SEQUENCES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS: Final = (1024, 4096, 16384)
# Flags (`roofprobe.costmodel.correction`) of all that a calibration says, not of a size.
_OF_ALL: Final = ("sibling", "generic", "published-fit", "few-sites")
INPUT_LEN: Final = 1024
OUTPUT_LEN: Final = 256
IN_FLIGHT: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)


@dataclass(frozen=True, slots=True)
class Target:
    """What users are promised: both bounds in milliseconds."""

    name: str
    ttft_ms: float
    tpot_ms: float


# Bounds of MLPerf Inference's server scenario, there for the 99th percentile: ttft_latency and
# tpot_latency of llama3_1-8b-interactive, llama3_1-8b and llama2-70b.
TARGETS: Final = (
    Target("interactive", 500.0, 30.0),
    Target("server", 2000.0, 100.0),
    Target("server, large model", 2000.0, 200.0),
)
TARGETS_SOURCE: Final = (
    "Targets are the bounds of MLPerf Inference’s server scenario for Llama 3.1 8B (interactive "
    "and not) and Llama 2 70B (github.com/mlcommons/inference, loadgen/mlperf.conf). There they "
    "hold for the 99th percentile under random arrivals, here for the predicted median in a steady "
    "state."
)


@dataclass(frozen=True, slots=True)
class Span:
    """A predicted time in milliseconds with its 80 % interval."""

    median: float
    p10: float
    p90: float


@dataclass(frozen=True, slots=True)
class At:
    """A time at one size; not ``sure`` outside of what was measured."""

    size: int
    time: Span
    sure: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """Times over a size; ``parameter`` is what stays the same along it."""

    parameter: int
    points: tuple[At, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What users see with so many requests in flight, and what the device gives."""

    in_flight: int
    ttft: Span
    tpot: Span
    tokens_per_second: float
    sure: bool

    @property
    def per_user(self) -> float:
        """Output tokens per second of one request, while it is answered."""
        return 1e3 / self.tpot.median

    def meets(self, target: Target) -> bool:
        """Return whether both predicted medians are within the bounds."""
        return self.ttft.median <= target.ttft_ms and self.tpot.median <= target.tpot_ms

    def surely_meets(self, target: Target) -> bool:
        """Return whether both upper ends of the intervals are within the bounds."""
        return self.ttft.p90 <= target.ttft_ms and self.tpot.p90 <= target.tpot_ms


@dataclass(frozen=True, slots=True)
class Serving:
    """One model on one device: TTFT by batch, TPOT by context, and the load curve.

    ``doubts`` say why some points are not sure, ``caveats`` what holds for the calibration.
    """

    model: str
    precision: str
    most_requests: int
    ttft: tuple[Curve, ...]
    tpot: tuple[Curve, ...]
    load: tuple[Loaded, ...]
    doubts: tuple[str, ...]
    caveats: tuple[str, ...]
    basis: str


def serving_of(calibration: Calibration) -> Serving:
    """Return what ``calibration`` says of the model that suits the device.

    Raises ``RoofprobeError`` with the reason where none of `MODELS` can be predicted.
    """
    from roofprobe.costmodel.planner import basis, plan_cases

    chosen = _choose(calibration)
    model = {name: chosen[name] for name in ("model", "precision", "kv_precision")}
    prompts = [(batch, size) for batch in PROMPT_BATCHES for size in PROMPTS]
    decodes = [(context, size) for context in CONTEXTS for size in SEQUENCES]
    asked = [
        *({"batch": batch, "input_len": size, "output_len": 1} for batch, size in prompts),
        *({"batch": size, "input_len": context, "output_len": 2} for context, size in decodes),
        *({"concurrency": size, "input_len": INPUT_LEN, "output_len": OUTPUT_LEN}
          for size in IN_FLIGHT),
    ]  # fmt: skip
    found = plan_cases(asked, calibration=calibration, **model, gpus=1)
    number = count()
    first = [found[next(number)] for _ in prompts]
    further = [found[next(number)] for _ in decodes]
    loaded = [found[next(number)] for _ in IN_FLIGHT]
    # requests that wait for memory are no load that the device carries
    carried = [one for one in loaded if one["concurrency"] <= one.get("max_batch", 0)]
    every = (*first, *further, *carried)
    reasons = dict.fromkeys(why for one in every for why in one.get("out_of_range", ()))
    return Serving(
        model=str(chosen["model"]),
        precision=str(chosen["precision"]),
        most_requests=max((int(one["max_batch"]) for one in carried), default=0),
        ttft=_curves(prompts, first, "ttft_ms"),
        tpot=_curves(decodes, further, "tpot_ms"),
        load=tuple(_loaded(one) for one in carried if one["ttft_ms"] and one["tpot_ms"]),
        doubts=tuple(why for why in reasons if why not in _general()),
        caveats=tuple(why for why in reasons if why in _general()),
        basis=basis(calibration),
    )


def _choose(calibration: Calibration) -> dict[str, Any]:
    """Return the planned case of the greatest model that fits, is fast enough and was measured.

    Fast enough: one request alone meets the slackest target's TPOT. Among those, the fewer reasons
    to doubt the better, then the greater. Where none is fast enough, the smallest that fits.
    """
    from roofprobe.costmodel.planner import plan_cases

    cases = [
        {"model": model, "precision": precision, "kv_precision": precision}
        for model in MODELS
        for precision in PRECISIONS
    ]
    found = plan_cases(
        cases, calibration=calibration, concurrency=1, gpus=1,
        input_len=_ROOM_CONTEXT - 1, output_len=2,
    )  # fmt: skip
    timed = [one for one in found if "error" not in one and one["tpot_ms"]]
    first: dict[str, dict[str, Any]] = {
        one["model"]: one for one in reversed(timed)
    }  # of each the first precision
    roomy = [one for one in first.values() if one["max_batch"] >= _ROOM_REQUESTS]
    fitting = sorted(roomy, key=lambda one: MODELS.index(one["model"]))
    slackest = max(target.tpot_ms for target in TARGETS)
    fast = [one for one in fitting if one["tpot_ms"]["median"] <= slackest]
    if fast:
        return min(fast, key=lambda one: len(one["out_of_range"]))
    if fitting:
        return fitting[-1]
    raise RoofprobeError("nothing-served", _why_none(found))


def _why_none(found: Sequence[Mapping[str, Any]]) -> str:
    """Return why the smallest model has no prediction: in the precision that comes nearest."""
    smallest = [one for one in found if one["model"] == MODELS[-1]]
    errors = [one["error"] for one in smallest if "error" in one]
    if len(errors) < len(smallest):
        return f"{MODELS[-1]} leaves no room for {_ROOM_REQUESTS} requests of {_ROOM_CONTEXT:,}."
    too_large = [error for error in errors if error["code"] == "does-not-fit"]
    return str((too_large or errors)[0]["sentence"])


def _sure(one: Mapping[str, Any]) -> bool:
    return all(why in _general() for why in one["out_of_range"])


@cache
def _general() -> frozenset[str]:
    """Return the sentences about a calibration as a whole, as a plan words them."""
    from roofprobe.costmodel.correction import FLAGS

    return frozenset(
        f"{flag.sentence[:1].upper()}{flag.sentence[1:].rstrip('.')}."
        for flag in FLAGS.values()
        if flag.code in _OF_ALL
    )


def _curves(
    asked: Sequence[tuple[int, int]], found: Sequence[Mapping[str, Any]], key: str
) -> tuple[Curve, ...]:
    points: dict[int, list[At]] = {}
    for (parameter, size), one in zip(asked, found, strict=True):
        if one.get(key):
            points.setdefault(parameter, []).append(At(size, Span(**one[key]), _sure(one)))
    return tuple(Curve(parameter, tuple(own)) for parameter, own in points.items())


def _loaded(one: Mapping[str, Any]) -> Loaded:
    return Loaded(
        in_flight=one["concurrency"],
        ttft=Span(**one["ttft_ms"]),
        tpot=Span(**one["tpot_ms"]),
        tokens_per_second=one["tokens_per_second_per_gpu"],
        sure=_sure(one),
    )


def most_within(load: Sequence[Loaded], target: Target, *, surely: bool = False) -> Loaded | None:
    """Return the point with the most requests in flight that still meets ``target``."""
    good = [at for at in load if (at.surely_meets(target) if surely else at.meets(target))]
    return max(good, key=lambda at: at.in_flight, default=None)
