"""Devices whose figures fall short of their equals': when, and as one finding for one reason.

Ten thousand devices with a hundred metrics are a million tests. Three things keep chance out of the
verdict:

- *Effect and z.* A shortfall counts from ``warn_effect`` on (3.5 %, as beside a host's own GPUs in
  `roofprobe.acceptance.verdict.relative`; eight healthy H100 of one host span 2.1 %) and only
  beyond ``z`` robust standard deviations, so that a noisy metric needs a larger one. z is at least
  what keeps a device's aspects together to ``FALSE_SHARE`` false alarms, were they normal.
- *Levels.* What a device's metrics have in common is tested once per aspect, as their median: one
  test where there were twenty, and a steadier one.
- *Company.* A metric that falls short beyond its device's level counts where another of its line or
  precision does too, or two of any. A metric alone must lie further off than any but
  ``FALSE_ALONE`` of the devices lies off *to the better side*, and by ``MARGIN`` more: faults make
  slower, chance does both, so that the better side shows what chance does in this fleet, whatever
  its tails. (The same symmetry carries the knockoff filter of Barber & Candès 2015.) Few devices
  show little of that tail, so that a metric alone is a ``warn`` and a reason to repeat the run; it
  fails from twice ``fail_effect`` on, or where it stays in a second run (`over_time.stayed`).

Levels and metrics of one device make one finding, with the worst metric as evidence and the cause
that they have in common.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from roofprobe.acceptance.fleet.criteria import ASPECTS, LEVELLED, SHOWN_ONLY, Held
from roofprobe.acceptance.fleet.fleet_verdict import (
    Aspect,
    Cause,
    FleetFinding,
    FleetOptions,
)
from roofprobe.acceptance.fleet.present import Metric, Present
from roofprobe.acceptance.fleet.robust import Array, Bools
from roofprobe.records.schema import Judgement
from roofprobe.records.wording import plural

FALSE_SHARE: Final = 5e-4  # of healthy devices, by chance, in all aspects together
FALSE_ALONE, MARGIN = 1e-4, 1.25
# Aspects by which a device is judged; launches are its host's (`hosts`).
JUDGED: Final[tuple[Aspect, ...]] = tuple(
    aspect for aspect in ASPECTS if aspect not in SHOWN_ONLY and aspect != "launch"
)
_CLOCK_EXPLAINS: Final = 0.5  # of a shortfall, so that the clock is its cause
_FAR_ALONE: Final = 2.0  # times the fail effect: then a metric alone needs no better side
RETEST: Final = "repeat the run: one figure alone may be chance, and fails where it stays"
_MANY: Final = 3  # metrics of any kind that are company to each other
_NAMED: Final = 3
_CAUSES: Final[dict[Cause, tuple[str, str]]] = {
    "clock": (
        "its clock is lower too: power, heat or a clock limit, not the units",
        "look at its power and clock limits, cooling and throttle reasons, then repeat the run",
    ),
    "units": (
        "at the clock that its equals have",
        "repeat the run alone on the host; if it stays, have the device replaced",
    ),
    "memory": (
        "in memory alone",
        "look at its ECC and remapped rows and repeat the run; if it stays, have it replaced",
    ),
    "interconnect": ("in its links", "look at its link's width, generation and errors"),
    "latency": ("in latency", "repeat the run alone on the host"),
    "host": ("in what its host gives it", "compare the host's processor and settings"),
    "all": (
        "in arithmetic and memory alike",
        "see that nothing else ran on it, and its power limit; then repeat the run",
    ),
}


@dataclass(frozen=True, slots=True)
class Flags:
    """What fell short: (devices, aspects) and (devices, metrics); ``several`` are in company."""

    levels: Bools
    metrics: Bools
    several: Bools
    z_needed: float
    z_alone: float

    @property
    def devices(self) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """The rows of devices with any."""
        return np.flatnonzero(self.levels.any(axis=1) | self.metrics.any(axis=1))


def flags_of(present: Present, held: Held, options: FleetOptions) -> Flags:
    """Return which levels and metrics of which devices fall short."""
    warn = np.log1p(-options.warn_effect)
    judged = [place for place, aspect in enumerate(ASPECTS) if aspect in JUDGED]
    needed = max(options.z, NormalDist().inv_cdf(1 - FALSE_SHARE / len(judged)))
    levels = np.zeros(held.level.shape, dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        levels[:, judged] = (held.level[:, judged] <= warn) & (held.level_z[:, judged] <= -needed)
        apart = held.deviation + present.halves < 0
        short = (held.deviation <= warn) & (held.z <= -needed) & apart
    judged_metrics = np.array([metric.aspect in JUDGED for metric in present.metrics], dtype=bool)
    in_level = np.array([metric.aspect in LEVELLED for metric in present.metrics], dtype=bool)
    short[:, ~judged_metrics] = False
    with np.errstate(invalid="ignore"):
        beyond = held.rest <= np.where(in_level, np.log1p(-options.variant_effect), warn)
        short &= beyond & (held.rest_z <= -needed)
    explained = np.zeros_like(short)
    for place, aspect in enumerate(ASPECTS):
        columns = [at for at, metric in enumerate(present.metrics) if metric.aspect == aspect]
        explained[:, columns] = levels[:, place][:, None]
    short &= ~explained
    several = _in_company(present, short)
    healthy = ~levels.any(axis=1) & ~several.any(axis=1)
    alone = max(needed, _better_side(held.rest_z[healthy][:, judged_metrics]))
    far = _FAR_ALONE * np.log1p(-options.fail_effect)
    with np.errstate(invalid="ignore"):
        counts = (held.rest_z <= -alone) | (held.deviation <= far)
    metrics = short & (several | counts)
    return Flags(levels, metrics, several, needed, alone)


def _in_company(present: Present, short: Bools) -> Bools:
    """Return which metrics that fall short have another one beside them that does."""
    kin: dict[tuple[str, str], list[int]] = {}
    for at, metric in enumerate(present.metrics):
        arithmetic = metric.family in ("compute", "llm")
        family = "compute" if arithmetic else metric.family
        for word in metric.label.split() if arithmetic else (metric.label,):
            if not (arithmetic and word.isalpha()):  # "prefill" and "GEMM" are no precision
                kin.setdefault((family, word), []).append(at)
    found = np.repeat((short.sum(axis=1) >= _MANY)[:, None], short.shape[1], axis=1)
    for columns in kin.values():
        found[:, columns] |= (short[:, columns].sum(axis=1) >= 2)[:, None]
    return np.asarray(found & short)


def _better_side(rest_z: Array) -> float:
    """Return the z that chance reaches, as the better side of healthy devices tells it."""
    finite = np.where(np.isfinite(rest_z), rest_z, -np.inf)
    if not finite.size:
        return 0.0
    best = np.sort(finite.max(axis=1))
    allowed = int(FALSE_ALONE * best.size)
    found = MARGIN * float(best[best.size - 1 - allowed])
    return found if np.isfinite(found) else 0.0


def shortfalls(
    present: Present, held: Held, flags: Flags, row: int, options: FleetOptions
) -> list[FleetFinding]:
    """Return the findings of one device's figures, the worst first."""
    low = [aspect for place, aspect in enumerate(ASPECTS) if flags.levels[row, place]]
    columns = np.flatnonzero(flags.metrics[row]).tolist()
    if low:
        return [_of_levels(present, held, row, low, columns, options)]
    alone = not flags.several[row].any()
    return [_of_metrics(present, held, row, columns, alone, options)] if columns else []


def _of_levels(
    present: Present, held: Held, row: int, low: list[Aspect], more: list[int],
    options: FleetOptions,
) -> FleetFinding:  # fmt: skip
    level = {aspect: float(held.level[row, ASPECTS.index(aspect)]) for aspect in low}
    shown = [aspect for aspect in low if aspect != "clock"] or low
    worst = min(shown, key=lambda aspect: level[aspect])
    columns = [at for at, metric in enumerate(present.metrics) if metric.aspect in low]
    inside = [at for at in columns if present.metrics[at].aspect == worst]
    at = min(inside, key=lambda at: _or_zero(held.deviation[row, at]))
    cause = cause_of(level)
    effect = float(np.expm1(level[worst]))
    z = float(held.level_z[row, ASPECTS.index(worst)])
    judgement: Judgement = "fail" if effect <= -options.fail_effect else "warn"
    names = ", ".join(shown)
    if len(shown) > 1:
        names += f"; in {worst}, the worst"
    told = [at for at in columns if np.isfinite(held.deviation[row, at])]
    return _finding(
        "slow", judgement, present, held, row, at, cause,
        f"{names}: {_off(effect, present.metrics[at])} the median of {{n}} equal devices over "
        f"{plural(sum(present.metrics[at].aspect == worst for at in told), 'figure')}, "
        f"{_CAUSES[cause][0]}",
        effect=effect, z=z, n_metrics=len({*told, *more}), aspect=worst,
    )  # fmt: skip


def _of_metrics(
    present: Present, held: Held, row: int, columns: list[int], alone: bool,
    options: FleetOptions,
) -> FleetFinding:  # fmt: skip
    at = min(columns, key=lambda at: held.deviation[row, at])
    metric = present.metrics[at]
    effect = float(np.expm1(held.deviation[row, at]))
    far = _FAR_ALONE if alone else 1.0
    judgement: Judgement = "fail" if effect <= -far * options.fail_effect else "warn"
    aspects = Counter(present.metrics[each].aspect for each in columns)
    many = [aspect for aspect, count in aspects.items() if 3 * count >= len(columns)]
    cause = cause_of(dict.fromkeys(many or aspects, effect))
    labels = list(dict.fromkeys(present.metrics[each].label for each in columns))
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    found = _finding(
        "slow-metric", judgement, present, held, row, at, cause,
        f"{', '.join(labels[:_NAMED])}{more}: {_off(effect, metric)} the median of {{n}} equal "
        f"devices, while its other figures are as theirs",
        effect=effect, z=float(held.z[row, at]), n_metrics=len(columns), aspect=metric.aspect,
    )  # fmt: skip
    return found.model_copy(update={"remedy": RETEST}) if alone and judgement == "warn" else found


def _finding(
    code: str, judgement: Judgement, present: Present, held: Held, row: int, at: int,
    cause: Cause, sentence: str, *, effect: float, z: float, n_metrics: int, aspect: Aspect,
) -> FleetFinding:  # fmt: skip
    device = present.devices.iloc[row]
    criterion = held.criteria[held.criterion[row, at]]
    figure = present.value(row, at)
    fail = judgement == "fail"
    return FleetFinding(
        code=code, judgement=judgement, scope="device", sku=device.sku, host=device.host,
        device_id=device.device_id, position=int(device.position), aspect=aspect, cause=cause,
        metric=criterion.metric, n_metrics=n_metrics, effect=effect,
        z=z if np.isfinite(z) else None, figure=figure, median=criterion.median,
        bound=criterion.fail_bound if fail else criterion.bound, unit=criterion.unit,
        n_peers=criterion.n,
        sentence=f"{sentence.format(n=f'{criterion.n:,}')} (worst: {criterion.metric}, "
        f"{figure:.4g} against {criterion.median:.4g} {criterion.unit})",
        remedy=_CAUSES[cause][1],
    )  # fmt: skip


def cause_of(level: dict[Aspect, float]) -> Cause:
    """Return what shortfalls by aspect have in common."""
    arithmetic = min(level.get("compute", 0.0), level.get("sustained", 0.0))
    memory, clock = level.get("memory", 0.0), level.get("clock", 0.0)
    if arithmetic < 0 and memory < 0:
        return "all"
    if clock < 0 and clock <= _CLOCK_EXPLAINS * arithmetic:
        return "clock"
    if arithmetic < 0:
        return "units"
    if memory < 0:
        return "memory"
    return "interconnect" if "interconnect" in level else "latency"


def _or_zero(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0


def _off(effect: float, metric: Metric) -> str:
    """Say how far from a median a figure is; a latency that is worse is above it."""
    if metric.better == "higher":
        return f"{abs(effect):.1%} {'below' if effect < 0 else 'above'}"
    return f"{abs(effect):.1%} {'worse' if effect < 0 else 'better'} than"
