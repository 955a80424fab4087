"""From what was said to what is computed: model, precisions and layout of a case, checked.

**GPUs.** tp · pp · dp GPUs in all; dp copies share the requests evenly. With ep > tp the experts
span ep / tp copies, so dp is a multiple of that. What is not said follows from what is: dp from
``gpus``; tp, if only ``gpus`` is said, is the largest degree up to `NODE_GPUS` that divides both
the GPUs and the model's heads, pp the least power of two with which the weights fit, and the rest
are copies.

**Precision.** Not said, it is the checkpoint's; a format without arithmetic of its own (mxfp4) runs
as the weight-only format of its width, and fp8 of a model that is published in FP8 blocks
is that. The KV cache is 16 bits wide unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from roofprobe.costmodel.forms import FORMATS, KV_BYTES
from roofprobe.costmodel.memory import max_batch
from roofprobe.costmodel.model_shape import ModelShape
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.parallelism import split_of
from roofprobe.costmodel.plan_cases import PlanCase
from roofprobe.costmodel.steps import compute_precision
from roofprobe.peaks.names import shown
from roofprobe.records.errors import RoofprobeError

T = TypeVar("T")

# GPUs that an all-reduce reaches over fast links: one server of the usual eight.
NODE_GPUS: Final = 8
# Formats of checkpoints that are only stored, expanded to 16 bits before each product.
_WEIGHT_ONLY: Final = {"mxfp4": "int4"}
# Whoever says fp8 of a model that is published in FP8 blocks means the published weights.
_OWN_KIND: Final = {"fp8-block": ("fp8",)}


@dataclass(frozen=True, slots=True)
class Degrees:
    """Degrees of parallelism of a case; ``gpus`` in all."""

    tp: int
    pp: int
    ep: int
    dp: int

    @property
    def gpus(self) -> int:
        """All GPUs of the system."""
        return self.tp * self.pp * self.dp


@dataclass(frozen=True, slots=True)
class Planned:
    """A case that can be planned: its model and what it runs as."""

    case: PlanCase
    model: ModelShape
    precision: str
    kv_precision: str
    degrees: Degrees

    @property
    def requests(self) -> int:
        """Requests at a time over the whole system."""
        return self.case.batch or self.case.concurrency or 1


class Planner:
    """Resolves cases for GPUs of one size; what many cases share is worked out once.

    Models are known by the name that they were asked for. Failures are remembered too.
    """

    def __init__(self, capacity_bytes: float, *, allow_approximate: bool = False) -> None:
        """Begin empty; ``allow_approximate`` reads unknown architectures as dense decoders."""
        self._capacity = capacity_bytes
        self._allow = allow_approximate
        self._known: dict[tuple[Any, ...], Any] = {}

    def plan(self, case: PlanCase) -> Planned:
        """Return the case with everything that was not said.

        Raises ``RoofprobeError``: what `load_model` raises, ``unknown-precision``,
        ``bad-parallelism``, ``too-long``.
        """
        return self.plan_shape(self._once((case.model,), lambda: self._load(case.model)), case)

    def plan_shape(self, model: ModelShape, case: PlanCase) -> Planned:
        """Return the case of a ``model`` that is at hand already; ``case.model`` is its name."""
        said = (case.precision, case.kv_precision)
        precision, kv_precision = self._once((case.model, *said), lambda: _precisions(model, *said))
        shares = (case.tp, case.pp, case.ep, case.dp, case.gpus)
        degrees = self._once(
            (case.model, precision, *shares),
            lambda: _degrees(model, precision, self._capacity, *shares),
        )
        _check(case, model, degrees)
        return Planned(case, model, precision, kv_precision, degrees)

    def _load(self, name: str) -> ModelShape:
        return load_model(name, allow_approximate=self._allow)

    def _once(self, key: tuple[Any, ...], work: Callable[[], T]) -> T:
        if key not in self._known:
            try:
                self._known[key] = work()
            except RoofprobeError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, RoofprobeError):
            raise found
        return cast(T, found)


def _check(case: PlanCase, model: ModelShape, degrees: Degrees) -> None:
    tokens = case.input_len + case.output_len
    if model.max_context is not None and tokens > model.max_context:
        raise RoofprobeError(
            "too-long",
            f"{case.input_len:,} + {case.output_len:,} tokens are more than the "
            f"{model.max_context:,} that {model.name} has positions for; shorten one.",
        )
    requests = case.batch or case.concurrency or 1
    if case.batch and requests % degrees.dp:
        raise RoofprobeError(
            "bad-parallelism",
            f"A batch of {requests} does not divide over dp={degrees.dp} copies; use a multiple.",
        )


def _precisions(model: ModelShape, precision: str | None, kv: str | None) -> tuple[str, str]:
    own = model.checkpoint.precision
    chosen = precision or own
    if chosen in _OWN_KIND.get(own, ()):
        chosen = own
    chosen = _WEIGHT_ONLY.get(chosen, chosen)
    if chosen not in FORMATS:
        raise RoofprobeError(
            "unknown-precision",
            f"Precision {shown(chosen)} is not known; use one of {', '.join(FORMATS)}.",
        )
    cache = kv or compute_precision(chosen)
    if cache not in KV_BYTES:
        raise RoofprobeError(
            "unknown-precision",
            f"A KV cache in precision {shown(cache)} is not known; "
            f"use one of {', '.join(KV_BYTES)}.",
        )
    return chosen, cache


def _degrees(
    model: ModelShape,
    precision: str,
    capacity_bytes: float,
    tp: int | None,
    pp: int | None,
    ep: int | None,
    dp: int | None,
    gpus: int | None,
) -> Degrees:
    stages, spread = pp or 1, ep or 1
    if tp is None:
        tp = 1
        if gpus is not None and dp is not None:
            tp = max(1, gpus // (dp * stages))
        elif gpus is not None:
            tp = largest_tp(model, gpus // stages)
            while pp is None and gpus % (2 * tp * stages) == 0 and 2 * stages <= model.layers:
                if _holds(model, precision, capacity_bytes, tp, stages, spread):
                    break
                stages *= 2
    split_of(model, tp, stages, spread)
    least = max(1, spread // tp)
    if dp is None:
        dp = least if gpus is None else max(1, gpus // (tp * stages))
    found = Degrees(tp, stages, spread, dp)
    if gpus is not None and found.gpus != gpus:
        raise RoofprobeError(
            "bad-parallelism",
            f"tp={tp}, pp={stages} and dp={dp} make {found.gpus} GPUs, not {gpus}; "
            "change gpus or a degree.",
        )
    if dp % least:
        raise RoofprobeError(
            "bad-parallelism",
            f"ep={spread} spans {least} copies of tp={tp}, so dp={dp} must be a multiple of that.",
        )
    return found


def _holds(
    model: ModelShape, precision: str, capacity_bytes: float, tp: int, pp: int, ep: int
) -> bool:
    fitting = max_batch(
        model, capacity_bytes, context_len=1, precision=precision, tp=tp, pp=pp, ep=ep
    )
    return bool(fitting >= 1)


def largest_tp(model: ModelShape, gpus: int) -> int:
    """Return the largest degree up to `NODE_GPUS` that divides the GPUs and the model's heads."""
    return max(tp for tp in valid_tp(model) if gpus % tp == 0 or tp == 1)


def valid_tp(model: ModelShape) -> tuple[int, ...]:
    """Return the powers of two up to `NODE_GPUS` that divide the heads of every layer."""
    heads = [layer.attention.heads for layer, _ in model.layer_groups]
    degrees = (1 << power for power in range(NODE_GPUS.bit_length()))
    return tuple(tp for tp in degrees if all(count % tp == 0 for count in heads))
