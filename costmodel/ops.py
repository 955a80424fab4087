"""Operations of a step and what they cost together, with an interval.

An `Op` is one operation of a step for many cases at once: its shape arrays and how often the step
runs it. `price` asks a calibration for all operations of all steps in as few calls as there are
(class, precision) pairs, and sums them up as a `Cost`.

**Intervals.** All L layers run the same operation at the same shape, so their errors are one
error: half-widths add linearly over executions, never divided by sqrt(L). Different shapes of a
class in one step have the part c of their variance in common that the calibration measured
(``Estimate.shared``), so the half-width of their sum is sqrt(c (sum w)^2 + (1 - c) sum w^2). Over
steps, where the same weights run again, both parts add linearly. Classes err independently of each
other: their half-widths add as a root of squares. Clock and power state move everything together:
one more, common error, independent of the others.

**Bounds.** An operation is bound by the larger of compute and memory when that term alone, at the
datasheet's peak, explains at least a quarter of its time, and by latency otherwise (launch,
prologue, too little work to fill the device, links). A phase is bound by what most of its time is
bound by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofprobe.costmodel.correction import FLAGS
from roofprobe.costmodel.forms import (
    ELEMENTWISE_BYTES,
    FORMATS,
    LINK_SHARES,
    OP_CLASSES,
    FloatArray,
    Rates,
    count,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from roofprobe.costmodel.calibration import Calibration
    from roofprobe.records.schema import Reason

BOUNDS: Final = ("compute", "memory", "latency")
# Classes whose errors are one error: operations that share a kernel family.
_FAMILIES: Final[Mapping[str, str]] = {
    **{name: name for name in OP_CLASSES},
    "mla_prefill": "attention_prefill",
    "mla_decode": "attention_decode",
    **{name: "elementwise" for name in ELEMENTWISE_BYTES},
    **{name: "link" for name in LINK_SHARES},
}
# A product in FP8 may reach 0.28 of its peak and is still bound by arithmetic; what does not even
# reach a quarter of either peak waits for something else.
_EXPLAINED: Final = 0.25
LEAST_FLAGGED: Final = 0.02  # of a step's time: a reason that is about less of it is none
_FLAG_BITS: Final = np.array(list(FLAGS), dtype=np.int64)
_PREFILLS: Final = ("attention_prefill", "mla_prefill")
FAMILIES: Final = tuple(dict.fromkeys(_FAMILIES.values()))
_ROW: Final = {name: FAMILIES.index(family) for name, family in _FAMILIES.items()}


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of a step: its name in the model, its class, its shapes and how often it runs.

    ``shape`` holds arrays (or numbers) that broadcast to the cases; ``count`` is executions per
    step, 0 where a case has none.
    """

    name: str
    op: str
    precision: str
    shape: Mapping[str, Any]
    count: Any
    kv_precision: str | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a step for each case, by family of operations (rows: `FAMILIES`).

    ``down_s`` and ``up_s`` are the half-widths to p10 and p90: what the shapes of a family have in
    common, then, in as many rows again, what each shape has for itself. ``bound_s`` splits
    the median by `BOUNDS`, ``flagged_s`` is the time that each of the calibration's reasons to
    distrust it (rows: `correction.FLAGS`) is about.
    """

    median_s: FloatArray
    down_s: FloatArray
    up_s: FloatArray
    bound_s: FloatArray
    flagged_s: FloatArray

    def __add__(self, other: Cost) -> Cost:
        """Return both one after the other; errors of a family are shared, so they add linearly."""
        return Cost(
            self.median_s + other.median_s,
            self.down_s + other.down_s,
            self.up_s + other.up_s,
            self.bound_s + other.bound_s,
            self.flagged_s + other.flagged_s,
        )

    def times(self, factor: Any) -> Cost:
        """Return ``factor`` (per case, not negative) such steps."""
        factor = np.asarray(factor, dtype=float)
        return Cost(
            self.median_s * factor,
            self.down_s * factor,
            self.up_s * factor,
            self.bound_s * factor,
            self.flagged_s * factor,
        )

    @property
    def total_s(self) -> FloatArray:
        """Median seconds per case."""
        total: FloatArray = self.median_s.sum(axis=0)
        return total

    @property
    def flags(self) -> NDArray[np.int64]:
        """Reasons to distrust each case, as a mask: those about a share of the time that counts.

        A step has operations that take a thousandth of it; not to know one of them well is no
        reason to call the step uncertain.
        """
        matters = self.flagged_s > LEAST_FLAGGED * self.total_s
        mask: NDArray[np.int64] = (matters * _FLAG_BITS[:, None]).sum(axis=0)
        return mask

    def interval_s(self, common: float) -> tuple[FloatArray, FloatArray]:
        """Return (p10, p90) in seconds; ``common`` is the relative width all operations share."""
        total = self.total_s
        down = np.sqrt((self.down_s**2).sum(axis=0) + (common * total) ** 2)
        up = np.sqrt((self.up_s**2).sum(axis=0) + (common * total) ** 2)
        return np.maximum(total - down, 0.0), total + up

    def bound(self) -> NDArray[np.int64]:
        """Return per case the index in `BOUNDS` of what most of the time is bound by."""
        return np.asarray(self.bound_s.argmax(axis=0), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Roofline:
    """What a step must do at least: seconds at the datasheet's peaks, per case."""

    compute_s: FloatArray
    memory_s: FloatArray


@dataclass(frozen=True, slots=True)
class Step:
    """The operations of one step for ``cases`` cases."""

    ops: Sequence[Op]
    cases: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Cases of a step that have an operation which the calibration cannot time, and why."""

    step: int
    cases: NDArray[np.int64]
    reason: Reason


def price(calibration: Calibration, steps: Sequence[Step]) -> tuple[list[Cost], list[Refusal]]:
    """Return the cost of each step, with one call of the calibration per class and precision.

    Where an operation cannot be timed, cases that run it cost NaN and the reason is returned.
    """
    refused: list[Refusal] = []
    costs = [_nothing(step.cases) for step in steps]
    for (name, precision, kv_precision), members in _grouped(steps).items():
        sizes = [steps[index].cases for index, _ in members]
        executions = _joined([op.count for _, op in members], sizes)
        present = np.flatnonzero(executions > 0)
        if not present.size:
            continue
        owner = np.repeat(np.arange(len(members)), sizes)[present]
        place = present - np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)[present]
        kv_precision = _timed_kv(calibration, name, precision, kv_precision)
        reason = calibration.supports(name, precision, kv_precision)
        if reason is not None:
            for number, (index, _) in enumerate(members):
                at = place[owner == number]
                costs[index].median_s[_ROW[name], at] = np.nan
                refused.append(Refusal(index, at, reason))
            continue
        arrays = {
            key: _joined([op.shape[key] for _, op in members], sizes)[present]
            for key in OP_CLASSES[name].shape
        }
        estimate = calibration.time(name, precision, kv_precision=kv_precision, **arrays)
        seconds = executions[present] * estimate.median_s
        kinds = _kinds(calibration, name, precision, kv_precision, arrays, estimate.median_s)
        row = _ROW[name]
        common = np.sqrt(estimate.shared)
        apart = np.sqrt(1 - estimate.shared)
        down = seconds * -np.expm1(-estimate.log_spread)
        up = seconds * np.expm1(estimate.log_spread)
        raised = np.flatnonzero(_FLAG_BITS & np.bitwise_or.reduce(estimate.flags))
        ends = np.searchsorted(owner, np.arange(len(members) + 1))
        for (index, _), first, last in zip(members, ends, ends[1:], strict=False):
            at, cost, here = place[first:last], costs[index], slice(first, last)
            cost.median_s[row, at] += seconds[here]
            for widths, width in ((cost.down_s, down[here]), (cost.up_s, up[here])):
                widths[row, at] += common[here] * width
                own = len(FAMILIES) + row
                widths[own, at] = np.hypot(widths[own, at], apart[here] * width)
            cost.bound_s[kinds[here], at] += seconds[here]
            for why in raised:
                doubted = (estimate.flags[here] & _FLAG_BITS[why]) > 0
                cost.flagged_s[why, at] += np.where(doubted, seconds[here], 0.0)
    return costs, refused


def _grouped(
    steps: Sequence[Step],
) -> dict[tuple[str, str, str | None], list[tuple[int, Op]]]:
    """Return the operations by class and precisions, each with the number of its step.

    Executions of one shape are one operation, whatever the model calls them: they err together.
    """
    groups: dict[tuple[str, str, str | None], dict[tuple[Any, ...], tuple[int, Op]]] = {}
    for index, step in enumerate(steps):
        for op in step.ops:
            group = groups.setdefault((op.op, op.precision, op.kv_precision), {})
            shape = (np.asarray(op.shape[name]) for name in OP_CLASSES[op.op].shape)
            alike = (index, *(value.tobytes() for value in shape))
            if alike in group:
                op = replace(op, count=np.asarray(group[alike][1].count) + op.count)
            group[alike] = (index, op)
    return {key: list(group.values()) for key, group in groups.items()}


def _timed_kv(
    calibration: Calibration, name: str, precision: str, kv_precision: str | None
) -> str | None:
    """Return the KV precision to time with: a prompt's own keys are not read from the cache yet.

    So where prefill was not measured with a narrow cache, the one without tells its time.
    """
    if name in _PREFILLS and calibration.supports(name, precision, kv_precision) is not None:
        return precision
    return kv_precision


def _nothing(cases: int) -> Cost:
    rows = len(FAMILIES)
    return Cost(
        np.zeros((rows, cases)), np.zeros((2 * rows, cases)), np.zeros((2 * rows, cases)),
        np.zeros((len(BOUNDS), cases)), np.zeros((len(FLAGS), cases)),
    )  # fmt: skip


def _joined(values: Sequence[Any], sizes: Sequence[int]) -> FloatArray:
    return np.concatenate(
        [
            np.broadcast_to(np.asarray(value, dtype=float), size)
            for value, size in zip(values, sizes, strict=True)
        ]
    )


def _kinds(
    calibration: Calibration,
    name: str,
    precision: str,
    kv_precision: str | None,
    shape: Mapping[str, FloatArray],
    median_s: FloatArray,
) -> NDArray[np.int64]:
    """Return per execution the index in `BOUNDS` of what binds it; see the module docstring."""
    if name in LINK_SHARES:
        return np.full(median_s.shape, BOUNDS.index("latency"), dtype=np.int64)
    least = _least(calibration, name, precision, kv_precision, shape)
    compute = least.compute_s >= _EXPLAINED * median_s
    memory = least.memory_s >= _EXPLAINED * median_s
    larger = np.where(least.compute_s >= least.memory_s, 0, 1)
    return np.where(compute | memory, larger, 2).astype(np.int64)


def _least(
    calibration: Calibration,
    name: str,
    precision: str,
    kv_precision: str | None,
    shape: Mapping[str, Any],
) -> Roofline:
    hardware = calibration.hardware
    assert hardware.bandwidth is not None, "the operation was timed before"
    peak = hardware.peak_flops.get(
        FORMATS[precision].peak if precision in FORMATS else precision, float("inf")
    )
    work = count(name, precision, shape, Rates(peak, hardware.bandwidth), kv_precision=kv_precision)
    return Roofline(work.flops / peak, work.bytes / hardware.bandwidth)


def roofline(calibration: Calibration, step: Iterable[Op], cases: int) -> Roofline:
    """Return what ``step`` must do at least at the datasheet's peaks; links are left out."""
    compute, memory = np.zeros(cases), np.zeros(cases)
    for op in step:
        if op.op in LINK_SHARES:
            continue
        least = _least(calibration, op.op, op.precision, op.kv_precision, op.shape)
        compute = compute + op.count * least.compute_s
        memory = memory + op.count * least.memory_s
    return Roofline(compute, memory)
