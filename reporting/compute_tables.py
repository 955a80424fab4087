"""What stands behind the compute figures: the routes, the gap to the datasheet, what is supported.

Routes are compared at one shape. A row that has nothing to compare has no table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from roofprobe.records.ceilings import clock_mhz_of
from roofprobe.records.headlines import competitors
from roofprobe.records.schema import Attribution, Headline, Measurement, Role, Run, Status
from roofprobe.records.titles import label_of, title_of
from roofprobe.reporting import numbers
from roofprobe.reporting.marks import marked
from roofprobe.reporting.naming import kernel_text, shape_text
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.tables import clock_text, headlines_of, measurements_of

_Key = TypeVar("_Key")

# What is compared between routes: products as they are planned, not shapes or layouts of a sweep.
_COMPARED: frozenset[Role] = frozenset({"anchor", "route", "tune"})


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One route at the shape where its row's routes are compared; losers tell by how much.

    ``tried`` counts the configurations of which this is the best.
    """

    route: str
    rate: str
    gain: str
    kernel: str
    library: str
    instruction: str
    clock: str
    fallback: str
    tried: int
    wins: bool


@dataclass(frozen=True, slots=True)
class RouteGroup:
    """The routes of one compute row at one shape, the fastest first."""

    label: str
    title: str
    shape: str
    regime: str
    rows: tuple[RouteRow, ...]


@dataclass(frozen=True, slots=True)
class GapRow:
    """Where a row's gap goes: the factors that are known, and their product of what it is."""

    label: str
    title: str
    clock: str
    pipe: str
    feeding: str
    share: str
    reference: str
    basis: str


@dataclass(frozen=True, slots=True)
class SupportLine:
    """Whether a device does a row: by which route and instruction, or why not."""

    label: str
    title: str
    status: Status
    route: str
    instruction: str
    code: str
    sentence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SupportMatrix:
    """Rows × devices, for runs of several devices: the status of each row on each."""

    devices: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def rows_of(run: Run, device_id: str) -> dict[str, tuple[Measurement, ...]]:
    """Return a device's compute measurements by the label of their row, in the run's order."""
    found: dict[str, list[Measurement]] = {}
    for measurement in measurements_of(run, device_id):
        if measurement.case.family == "compute":
            found.setdefault(label_of(measurement.case), []).append(measurement)
    return {label: tuple(members) for label, members in found.items()}


def route_groups(run: Run, device_id: str) -> tuple[RouteGroup, ...]:
    """Compare the routes of each row that has more than one, at the shape that most of them did."""
    groups = []
    for label, members in rows_of(run, device_id).items():
        bursts = [
            m
            for m in competitors(members)
            if m.case.regime == "burst" and m.case.role in _COMPARED and rate_of(m) > 0
        ]
        shape = _compared_shape(bursts)
        at_shape = [m for m in bursts if shape_text(m.case) == shape]
        by_route = grouped(at_shape, lambda m: m.case.route)
        if len(by_route) < 2:
            continue
        best = {route: max(found, key=rate_of) for route, found in by_route.items()}
        winner = max(best.values(), key=rate_of)
        rows = tuple(
            _route_row(m, winner, len({other.case.config for other in by_route[m.case.route]}))
            for m in sorted(best.values(), key=rate_of, reverse=True)
        )
        groups.append(RouteGroup(clean(label), clean(title_of(winner.case)), shape, "burst", rows))
    return tuple(groups)


def _compared_shape(bursts: Sequence[Measurement]) -> str:
    """Return the shape that most routes did; of equals the one where the winner is fastest."""
    by_shape = grouped(bursts, lambda m: shape_text(m.case))
    return max(
        by_shape,
        key=lambda shape: (
            len({m.case.route for m in by_shape[shape]}),
            any(m.case.role == "route" for m in by_shape[shape]),
            max(map(rate_of, by_shape[shape])),
        ),
        default="",
    )


def _route_row(m: Measurement, winner: Measurement, tried: int) -> RouteRow:
    identity = m.identity
    clock, counted = clock_mhz_of(m)
    return RouteRow(
        route=clean(m.case.route),
        rate=rate_text(m),
        gain=numbers.UNKNOWN
        if m is winner
        else marked(numbers.gain(rate_of(m) / rate_of(winner)), m, winner),
        kernel=kernel_text(m),
        library=clean(identity.library) if identity and identity.library else numbers.UNKNOWN,
        instruction=_instruction(m),
        clock=clock_text(clock, counted=counted),
        fallback=clean(identity.fallback) if identity and identity.fallback else "",
        tried=tried,
        wins=m is winner,
    )


def _instruction(m: Measurement) -> str:
    told = m.identity.instruction if m.identity else None
    return clean(told) if told else numbers.UNKNOWN


def gap_rows(run: Run, device_id: str) -> tuple[GapRow, ...]:
    """Return the factors of every row whose gap could be attributed."""
    return tuple(
        GapRow(
            label=clean(headline.label),
            title=clean(headline.title),
            clock=numbers.factor(headline.attribution.clock),
            pipe=numbers.factor(headline.attribution.pipe),
            feeding=numbers.factor(headline.attribution.feeding),
            share=numbers.share(attributed_share(headline)),
            reference=reference_of(headline.attribution),
            basis=clean(headline.attribution.basis),
        )
        for headline in headlines_of(run, device_id, "compute")
        if headline.attribution is not None
    )


def reference_of(attribution: Attribution) -> str:
    """Name what the product of the known factors is a share of."""
    if attribution.clock is not None:
        return "the datasheet"
    return "the derived peak, clock aside" if attribution.pipe is not None else "the pipe alone"


def attributed_share(headline: Headline) -> float | None:
    """Return what the known factors multiply to, which is a share of ``reference_of``."""
    if headline.attribution is None:
        return None
    product = headline.attribution.feeding
    for factor in (headline.attribution.clock, headline.attribution.pipe):
        product *= 1.0 if factor is None else factor
    return product


def support_lines(run: Run, device_id: str) -> tuple[SupportLine, ...]:
    """Return a device's line for every compute row, in the run's order."""
    return tuple(
        SupportLine(
            label=clean(row.row),
            title=clean(row.title),
            status=row.status,
            route=clean(row.route) if row.route else numbers.UNKNOWN,
            instruction=clean(row.instruction) if row.instruction else numbers.UNKNOWN,
            code=clean(row.reason.code) if row.reason else "",
            sentence=clean(row.reason.sentence) if row.reason else "",
            remedy=clean(row.reason.remedy) if row.reason and row.reason.remedy else "",
        )
        for row in run.support
        if row.device_id == device_id
    )


def support_matrix(run: Run, names: dict[str, str]) -> SupportMatrix | None:
    """Return rows × devices for a run with support on several devices; ``names`` heads columns."""
    told = {(row.device_id, row.row): row.status for row in run.support}
    devices = tuple(dict.fromkeys(device_id for device_id, _ in told))
    if len(devices) < 2:
        return None
    labels = dict.fromkeys(label for _, label in told)
    return SupportMatrix(
        devices=tuple(clean(names.get(device_id, device_id)) for device_id in devices),
        rows=tuple(
            (
                clean(label),
                tuple(told.get((device_id, label), numbers.UNKNOWN) for device_id in devices),
            )
            for label in labels
        ),
    )


def grouped(
    measurements: Iterable[Measurement], key: Callable[[Measurement], _Key]
) -> dict[_Key, list[Measurement]]:
    """Return the measurements by what ``key`` gives, in the order of their first."""
    groups: dict[_Key, list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault(key(measurement), []).append(measurement)
    return groups


def rate_of(m: Measurement) -> float:
    """Return the median rate; 0 where there is none."""
    return m.rate.median if m.rate else 0.0


def rate_text(m: Measurement) -> str:
    """Write the median rate with its unit, and the mark where others disturbed it."""
    if m.rate is None:
        return numbers.UNKNOWN
    return marked(clean(numbers.rate(m.rate.median, m.rate.unit)), m)
