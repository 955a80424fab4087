"""Whether a model can be spread over GPUs in the way asked for, and what each GPU then does.

tp splits every layer over GPUs, pp gives each a run of layers, ep spreads whole experts. Experts
live on max(tp, ep) GPUs of a stage: with ep below tp each expert is itself split over tp / ep of
them, with ep above tp the stage has ep / tp copies of everything else (data parallelism).
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Final

from roofprobe.costmodel.model_shape import ModelShape
from roofprobe.records.errors import RoofprobeError

#: More GPUs than any cluster has; above it a figure is a mistake.
MOST_GPUS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Split:
    """Degrees of tensor, pipeline and expert parallelism, checked against a model."""

    tp: int = 1
    pp: int = 1
    ep: int = 1

    @property
    def expert_tp(self) -> int:
        """Over how many GPUs one expert is split."""
        return max(1, self.tp // self.ep)


@functools.lru_cache(maxsize=1024)
def split_of(shape: ModelShape, tp: int = 1, pp: int = 1, ep: int = 1) -> Split:
    """The split, if the model allows it; raises `RoofprobeError` saying why not and what would."""
    for name, degree in (("tp", tp), ("pp", pp), ("ep", ep)):
        if isinstance(degree, bool) or not isinstance(degree, int) or not 1 <= degree <= MOST_GPUS:
            raise RoofprobeError(
                "bad-parallelism",
                f"{name}={degree!r} must be a whole number from 1 to {MOST_GPUS:,}.",
            )
    for layer, _ in shape.layer_groups:
        heads = layer.attention.heads
        if heads % tp:
            allowed = ", ".join(str(d) for d in range(1, min(heads, 1024) + 1) if heads % d == 0)
            raise RoofprobeError(
                "bad-parallelism",
                f"tp={tp} does not divide the {heads} heads of {shape.name}; use one of {allowed}.",
            )
    if pp > shape.layers:
        raise RoofprobeError(
            "bad-parallelism",
            f"pp={pp} is more than the {shape.layers} layers of {shape.name}; use at most that.",
        )
    if ep > 1 and not shape.experts:
        raise RoofprobeError(
            "bad-parallelism",
            f"ep={ep} spreads experts, but {shape.name} has none; use ep=1.",
        )
    if ep > max(shape.experts, 1):
        raise RoofprobeError(
            "bad-parallelism",
            f"ep={ep} is more than the {shape.experts} experts of {shape.name}; use at most that.",
        )
    if tp % ep and ep % tp:
        raise RoofprobeError(
            "bad-parallelism",
            f"ep={ep} and tp={tp} do not fit each other; one must be a multiple of the other.",
        )
    return Split(tp, pp, ep)


def stage_bounds(layers: int, pp: int) -> tuple[tuple[int, int], ...]:
    """First layer and end of each pipeline stage, as even as can be; earlier stages get more."""
    each, rest = divmod(layers, pp)
    starts = [stage * each + min(stage, rest) for stage in range(pp + 1)]
    return tuple(itertools.pairwise(starts))
