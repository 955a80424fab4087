"""One step looked at closely: its operations one by one, and where decode stops being memory-bound.

**Turning point.** At the datasheet's peaks a decode step of b sequences needs F(b)/P seconds of
arithmetic and B(b)/W of memory traffic, F and B summed over its operations. Weights are read once
whatever b, so arithmetic grows faster, until every sequence's own KV cache does: with a long
context B grows as fast as F and decode never turns. The batch where F/P first reaches B/W is found
by bisection, since expert layers make B a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofprobe.costmodel.forms import FloatArray
from roofprobe.costmodel.ops import BOUNDS, Cost, Op, Step, price, roofline
from roofprobe.costmodel.serving import CLOCK_WIDTH
from roofprobe.costmodel.steps import Layout, Load, step_ops
from roofprobe.records.errors import RoofprobeError

if TYPE_CHECKING:
    from roofprobe.costmodel.calibration import Calibration
    from roofprobe.costmodel.model_shape import ModelShape

# Batches beyond this are out of every engine's reach; decode that has not turned there never does.
MOST_SEQUENCES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class OpTime:
    """One operation of a step: what it is called in the model, its shape, and its seconds.

    Times are of all ``count`` executions; ``bound`` is one of `ops.BOUNDS`.
    """

    name: str
    op: str
    precision: str
    shape: dict[str, float]
    count: float
    median_s: float
    p10_s: float
    p90_s: float
    bound: str


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step's seconds, its operations in order, and what most of its time is bound by."""

    median_s: float
    p10_s: float
    p90_s: float
    bound: str
    ops: tuple[OpTime, ...]


def step_time(
    calibration: Calibration,
    model: ModelShape,
    load: Load,
    *,
    precision: str,
    kv_precision: str,
    layout: Layout = Layout(),  # noqa: B008  (frozen)
    separate_quantise: bool = False,
) -> StepTime:
    """Return one step of ``model`` (see `steps.Load`), operation by operation.

    Raises ``RoofprobeError`` where an operation cannot be timed.
    """
    ops = step_ops(
        model, load, precision=precision, kv_precision=kv_precision, layout=layout,
        separate_quantise=separate_quantise,
    )  # fmt: skip
    return time_of(calibration, ops)


def time_of(calibration: Calibration, ops: Sequence[Op]) -> StepTime:
    """Return the time of ``ops`` (one case, such as `steps.encoder_ops` gives) one by one."""
    steps = [Step((op,), 1) for op in ops if float(op.count) > 0]
    costs, refused = price(calibration, steps)
    if refused:
        raise RoofprobeError(refused[0].reason.code, refused[0].reason.sentence)
    rows = []
    for step, cost in zip(steps, costs, strict=True):
        (op,) = step.ops
        low, high = cost.interval_s(0.0)
        rows.append(
            OpTime(
                name=op.name,
                op=op.op,
                precision=op.precision,
                shape={key: float(value) for key, value in op.shape.items()},
                count=float(op.count),
                median_s=float(cost.total_s[0]),
                p10_s=float(low[0]),
                p90_s=float(high[0]),
                bound=BOUNDS[int(cost.bound()[0])],
            )
        )
    total = _sum(costs)
    low, high = total.interval_s(CLOCK_WIDTH)
    return StepTime(
        float(total.total_s[0]), float(low[0]), float(high[0]), BOUNDS[int(total.bound()[0])],
        tuple(rows),
    )  # fmt: skip


def _sum(costs: Sequence[Cost]) -> Cost:
    total = costs[0]
    for cost in costs[1:]:
        total = total + cost
    return total


def turning_batch(
    calibration: Calibration,
    model: ModelShape,
    context: Any,
    *,
    precision: str,
    kv_precision: str,
    layout: Layout = Layout(),  # noqa: B008  (frozen)
) -> FloatArray:
    """Return per case the least batch at which decode is compute-bound, NaN where it never is.

    ``context`` tokens per sequence, an array of one element per case. Batches are one replica's.
    """
    context = np.atleast_1d(np.asarray(context, dtype=float))

    def compute_bound(batch: FloatArray) -> Any:
        ops = step_ops(
            model, Load(decodes=batch, context=context),
            precision=precision, kv_precision=kv_precision, layout=layout,
        )  # fmt: skip
        least = roofline(calibration, ops, context.size)
        return least.compute_s >= least.memory_s

    low, high = np.zeros(context.size), np.full(context.size, float(MOST_SEQUENCES))
    never = ~compute_bound(high)
    while np.any(high - low > 1):
        middle = np.floor((low + high) / 2)
        inside = high - low > 1
        enough = compute_bound(np.maximum(middle, 1.0))
        high = np.where(inside & enough, middle, high)
        low = np.where(inside & ~enough, middle, low)
    return np.where(never, np.nan, high)
