"""What equal devices reach: groups, their variants, and a criterion for each metric.

Equal are devices of one kind, driver, power limit and way of measuring. Where fewer than
``least_peers`` are, they are held against those of any driver, then of any driver and power limit;
where that does not help they have no criterion. A batch of boards that differs from the others
*as a batch* (all of a PCI subsystem id, or a second mode that more devices belong to than can be
bad) becomes a group of its own: one finding about the batch, and its bad devices are still found.
A second mode that fills whole hosts at a lower clock is no kind: those hosts throttle, and their
devices are held against the others; where they are most of the kind, only if what is recorded says
that they should reach what the others do (`slower_clock`).

For each device and metric a *deviation* from the criterion is kept, and for each aspect that has
several metrics the device's *level*, the median of its deviations: what a board's silicon or a
fault gives to all of them. ``rest`` is what a metric deviates beyond its level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofprobe.acceptance.fleet.fleet_verdict import Aspect, Criterion, FleetOptions, Mode
from roofprobe.acceptance.fleet.present import NORMAL_95, Present
from roofprobe.acceptance.fleet.robust import (
    Array,
    Bools,
    Centre,
    centre_of,
    median_of,
    two_modes,
    z_of,
)
from roofprobe.acceptance.fleet.slower_clock import Clocks, clocks_of, of_whole_hosts

if TYPE_CHECKING:
    import pandas as pd

Rows = np.ndarray[Any, np.dtype[np.intp]]
ASPECTS: Final[tuple[Aspect, ...]] = (
    "compute", "sustained", "clock", "memory", "interconnect", "latency", "launch", "energy",
    "heat",
)  # fmt: skip
# Aspects whose metrics go up and down together on a board.
LEVELLED: Final[tuple[Aspect, ...]] = ("compute", "sustained", "clock", "memory")
# Aspects that explain others but are no reason by themselves: heat depends on the place.
SHOWN_ONLY: Final[tuple[Aspect, ...]] = ("energy", "heat")
_LEAST_METRICS: Final = 3
_CLOCK_EXPLAINS: Final = 0.5  # of a gap, so that the clock is its cause
_LEAST_ERRORS: Final = 5.0  # standard errors between a batch and the others
_LEAST_CLEAR: Final = 0.9  # of a batch's devices lie beyond the middle between it and the others


@dataclass(frozen=True, slots=True)
class Group:
    """Devices that are judged together (rows), and those that they are held against.

    Rows that are no peers are of a throttled batch: held against the others, not counted in.
    """

    sku: str
    driver: str | None
    power_limit_w: float | None
    method_version: int
    pooled: bool
    rows: Rows
    peers: Rows
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that lies apart: which devices, from what it is known, and how far it lies off.

    A second mode may have a lower ``clock`` beside it, and fill ``whole_hosts``: where both are so,
    and it is the smaller one or its ``clocks`` are known to be too low, its devices are
    ``throttled`` where they stand, and no other kind.
    """

    group: Group
    attribute: str | None
    value: str | None
    aspect: Aspect
    metrics: tuple[int, ...]
    rows: Rows
    n_others: int
    effect: float  # a logarithm
    ashman_d: float | None = None
    clock: bool = False
    whole_hosts: bool = False
    throttled: bool = False
    clocks: Clocks | None = None

    @property
    def most(self) -> bool:
        """Whether it is the larger part of its kind."""
        return len(self.rows) >= self.n_others


@dataclass(slots=True)
class Held:
    """All devices held against their criteria; (devices, metrics) or (devices, aspects).

    Deviations are logarithms of speed, NaN where there is no figure or no criterion.
    ``criterion`` is the index of a cell's criterion, or -1.
    """

    deviation: Array
    z: Array
    rest: Array
    rest_z: Array
    level: Array
    level_z: Array
    criterion: np.ndarray[Any, np.dtype[np.int32]]
    criteria: list[Criterion]
    groups: list[Group]
    batches: list[Batch]
    alone: Rows  # rows without equals


def hold(present: Present, options: FleetOptions) -> Held:
    """Hold each device against its equals."""
    shape = present.logs.shape
    aspects = len(present.devices), len(ASPECTS)

    def blank(of: tuple[int, int]) -> Array:
        return np.full(of, np.nan)

    groups, alone = groups_of(present, options)
    held = Held(
        blank(shape), blank(shape), blank(shape), blank(shape), blank(aspects), blank(aspects),
        np.full(shape, -1, dtype=np.int32), [], [], [], alone,
    )  # fmt: skip
    for group in groups:
        batches = list(_batches(present, group, options))
        held.batches += batches
        for part in _parts(group, batches, options):
            held.groups.append(part)
            _hold_group(held, present, part, options)
    held.alone = np.flatnonzero((held.criterion < 0).all(axis=1))
    return held


def groups_of(present: Present, options: FleetOptions) -> tuple[list[Group], Rows]:
    """Return the groups, and the rows that have too few equals for one."""
    frame = present.devices
    keys = ["sku", "method_version", "power_limit_w", "driver"]
    left = np.arange(len(frame))
    groups: list[Group] = []
    for depth in (4, 3, 2):
        used = keys[:depth]
        rest: list[int] = []
        wider = _places(frame, used, np.arange(len(frame)))
        for key, rows in _places(frame, used, left).items():
            peers = wider[key]
            if len(peers) < options.least_peers:
                rest += rows.tolist()
                continue
            sku, method, *more = key
            limit, driver = (*more, None, None)[:2]
            groups.append(
                Group(
                    sku=str(sku), driver=driver if depth > 3 else None,
                    power_limit_w=limit if depth > 2 else None, method_version=int(method),
                    pooled=depth < 4, rows=rows, peers=peers,
                )
            )  # fmt: skip
        left = np.array(sorted(rest), dtype=np.intp)
        if not left.size:
            break
    return groups, left


def _places(frame: pd.DataFrame, keys: list[str], rows: Rows) -> dict[tuple[Any, ...], Rows]:
    """Return the rows of each combination of keys; what is not told is None."""
    columns = [frame[key].to_numpy(dtype=object)[rows] for key in keys]
    found: dict[tuple[Any, ...], list[int]] = {}
    for row, *values in zip(rows.tolist(), *columns, strict=True):
        key = tuple(None if value is None or value != value else value for value in values)
        found.setdefault(key, []).append(row)
    return {key: np.array(members, dtype=np.intp) for key, members in found.items()}


def _hold_group(held: Held, present: Present, group: Group, options: FleetOptions) -> None:
    rows, peers = group.rows, np.union1d(group.peers, group.rows)
    counted = np.isin(peers, group.peers)
    warn, fail = np.log1p(-options.warn_effect), np.log1p(-options.fail_effect)
    of_peers = np.full((len(peers), len(present.metrics)), np.nan)
    centres: dict[int, Centre] = {}
    for at, metric in enumerate(present.metrics):
        values = present.logs[peers, at]
        told = np.isfinite(values) & counted
        if told.sum() < options.least_peers:
            continue
        halves = present.halves[peers, at][told]
        centre = centre_of(values[told], median_of(halves) / NORMAL_95)
        modes = two_modes(values[told], -np.log1p(-options.variant_effect), options.most_bad_share)
        centres[at] = centre
        of_peers[:, at] = values - centre.median
        if modes is not None:  # each device is held against its own mode; the two are one finding
            of_peers[:, at] = values - np.where(values <= modes.split, modes.low, modes.high)
        worst = min(warn, -options.z * centre.scale)
        exp = np.exp
        held.criterion[rows, at] = len(held.criteria)
        held.criteria.append(
            Criterion(
                sku=group.sku, driver=group.driver, power_limit_w=group.power_limit_w,
                method_version=group.method_version, variant=group.variant,
                metric=metric.metric, family=metric.family, label=metric.label,
                quantity=metric.quantity, aspect=metric.aspect, unit=metric.unit,
                better=metric.better, n=centre.n, n_apart=centre.n_apart,
                median=float(exp(metric.sign * centre.median)), mad=centre.mad,
                scale=centre.scale, scale_from=centre.scale_from,
                bound=float(exp(metric.sign * (centre.median + worst))),
                fail_bound=float(exp(metric.sign * (centre.median + min(fail, worst)))),
                minimum_effect=options.warn_effect, pooled=group.pooled,
                modes=() if modes is None else (
                    Mode(centre=float(exp(metric.sign * modes.low)), share=modes.low_share),
                    Mode(centre=float(exp(metric.sign * modes.high)), share=1 - modes.low_share),
                ),
            )
        )  # fmt: skip
    own = np.isin(peers, rows)
    levels = _levels(present, of_peers)
    rest = of_peers.copy()
    for place, aspect in enumerate(ASPECTS):
        columns = _columns(present, aspect)
        told = np.isfinite(levels[:, place])
        if (told & counted).sum() >= options.least_peers:
            centre = centre_of(levels[told & counted, place])
            levels[:, place] -= centre.median
            held.level[peers[own], place] = levels[own, place]
            held.level_z[peers[own], place] = z_of(levels[own, place], centre.scale)
            if aspect in LEVELLED:
                rest[:, columns] -= np.where(told, levels[:, place], 0.0)[:, None]
    held.deviation[peers[own]] = of_peers[own]
    held.rest[peers[own]] = rest[own]
    for at, centre in centres.items():
        held.z[peers[own], at] = z_of(of_peers[own, at], centre.scale)
        told = np.isfinite(rest[:, at]) & counted
        spread = centre_of(rest[told, at], median_of(present.halves[peers, at]) / NORMAL_95)
        held.rest_z[peers[own], at] = z_of(rest[own, at], spread.scale)


def _columns(present: Present, aspect: Aspect) -> list[int]:
    return [at for at, metric in enumerate(present.metrics) if metric.aspect == aspect]


def _levels(present: Present, deviations: Array) -> Array:
    """Return each device's median deviation per aspect; NaN with fewer than three metrics."""
    levels = np.full((len(deviations), len(ASPECTS)), np.nan)
    for place, aspect in enumerate(ASPECTS):
        columns = _columns(present, aspect)
        if len(columns) < _LEAST_METRICS:
            continue
        part = deviations[:, columns]
        enough = np.isfinite(part).sum(axis=1) >= _LEAST_METRICS
        if np.isfinite(part[enough]).all():
            levels[enough, place] = np.median(part[enough], axis=1)
        elif enough.any():
            levels[enough, place] = np.nanmedian(part[enough], axis=1)
    return levels


def _parts(group: Group, batches: list[Batch], options: FleetOptions) -> Iterator[Group]:
    """Yield a group's parts: each batch by itself, and the others with what is throttled."""
    throttled = [batch.rows for batch in batches if batch.throttled]
    taken: Bools = np.zeros(int(group.peers.max()) + 1, dtype=np.bool_)
    for batch in batches:
        if batch.throttled:
            continue
        rows = batch.rows[~taken[batch.rows]]
        if len(rows) < options.least_peers:
            continue
        taken[rows] = True
        yield _part(
            group, rows, f"{batch.attribute}={batch.value}" if batch.attribute else "slower"
        )
    others = group.peers[~taken[group.peers]]
    if len(others):
        peers = others[~np.isin(others, np.concatenate(throttled))] if throttled else others
        yield _part(group, peers, None, others)


def _part(group: Group, peers: Rows, variant: str | None, judged: Rows | None = None) -> Group:
    judged = peers if judged is None else judged
    return Group(
        group.sku, group.driver, group.power_limit_w, group.method_version, group.pooled,
        judged[np.isin(judged, group.rows)], peers, variant,
    )  # fmt: skip


def _batches(present: Present, group: Group, options: FleetOptions) -> Iterator[Batch]:
    """Yield the batches of a group that lie apart as batches, the largest first."""
    if len(group.peers) < 2 * options.least_peers:
        return
    logs = present.logs[group.peers]
    with np.errstate(invalid="ignore"):
        deviations = logs - _medians(logs)
    levels = _levels(present, deviations)
    known = list(_by_attribute(present, group, levels, options))
    yield from known
    if not known:
        yield from _by_mode(present, group, levels, options)


def _medians(logs: Array) -> Array:
    return np.array([_median(column[np.isfinite(column)]) for column in logs.T])


def _median(values: Array) -> float:
    return median_of(values) if values.size else np.nan


def _by_attribute(
    present: Present, group: Group, levels: Array, options: FleetOptions
) -> Iterator[Batch]:
    attribute = "pci_subsystem_id"
    members = _places(present.devices, [attribute], group.peers)
    sizes = {key: len(rows) for key, rows in members.items()}
    if len(sizes) < 2:
        return
    usual = max(sizes, key=lambda key: sizes[key])
    others = np.isin(group.peers, members[usual])
    for key, rows in sorted(members.items(), key=lambda item: -len(item[1])):
        if key == usual or min(len(rows), sizes[usual]) < options.least_peers or key[0] is None:
            continue
        mine = np.isin(group.peers, rows)
        worst: Batch | None = None
        for place, aspect in enumerate(ASPECTS):
            if aspect in SHOWN_ONLY:
                continue
            gap = _gap(levels[mine, place], levels[others, place], options)
            if gap is not None and (worst is None or abs(gap) > abs(worst.effect)):
                worst = Batch(
                    group, attribute, str(key[0]), aspect, tuple(_columns(present, aspect)),
                    rows, sizes[usual], gap,
                )  # fmt: skip
        if worst is not None:
            yield worst


def _gap(mine: Array, others: Array, options: FleetOptions) -> float | None:
    """Return how far a batch lies off as a batch; None where it does not."""
    mine, others = mine[np.isfinite(mine)], others[np.isfinite(others)]
    if min(mine.size, others.size) < options.least_peers:
        return None
    a, b = centre_of(mine), centre_of(others)
    gap = a.median - b.median
    error = np.hypot(a.scale / np.sqrt(a.n), b.scale / np.sqrt(b.n)) * np.sqrt(np.pi / 2)
    beyond = np.abs(mine - b.median) > abs(gap) / 2
    clear = np.mean(beyond & (np.sign(mine - b.median) == np.sign(gap)))
    far = abs(gap) >= -np.log1p(-options.variant_effect)
    return gap if far and abs(gap) > _LEAST_ERRORS * error and clear > _LEAST_CLEAR else None


def _by_mode(
    present: Present, group: Group, levels: Array, options: FleetOptions
) -> Iterator[Batch]:
    """Yield the lower mode, where more devices are in it than can be bad, and none other tells."""
    least = -np.log1p(-options.variant_effect)
    for place, aspect in enumerate(ASPECTS):
        if aspect not in LEVELLED:
            continue
        told = np.isfinite(levels[:, place])
        modes = two_modes(levels[told, place], least, options.most_bad_share)
        if modes is not None:
            low = told & (levels[:, place] <= modes.split)
            gap = modes.low - modes.high
            batch = Batch(
                group, None, None, aspect, tuple(_columns(present, aspect)), group.peers[low],
                int((~low).sum()), gap, modes.d, _slower_clock(levels, low, gap),
                of_whole_hosts(present, group.peers, low),
            )  # fmt: skip
            yield _throttled(present, batch, group.peers[~low], options)
            return


def _throttled(present: Present, batch: Batch, others: Rows, options: FleetOptions) -> Batch:
    """Return a lower mode with what tells whether its devices throttle."""
    far = batch.effect <= np.log1p(-options.warn_effect)
    if not (batch.clock and batch.whole_hosts and far):
        return batch
    if not batch.most:
        return replace(batch, throttled=True)
    clocks = clocks_of(present, batch.group.sku, batch.rows, others)
    if clocks is not None and len(others) < options.least_peers:
        clocks = replace(clocks, undecided=f"fewer than {options.least_peers} are faster")
    throttled = clocks is not None and clocks.undecided is None
    return replace(batch, clocks=clocks, throttled=throttled)


def _slower_clock(levels: Array, low: Bools, gap: float) -> bool:
    """Return whether the clock of the lower mode explains at least half of its gap."""
    clocks = levels[:, ASPECTS.index("clock")]
    mine, others = (clocks[rows & np.isfinite(clocks)] for rows in (low, ~low))
    if not (mine.size and others.size):
        return False
    return median_of(mine) - median_of(others) <= _CLOCK_EXPLAINS * gap
