"""A fleet's verdict as one HTML page that needs nothing else, whatever the fleet's size.

What grows with the fleet is cut, and the page says so: the worst devices, the worst hosts of the
map, so many criteria. ``--json`` and the dataset itself have all. The page of ten thousand GPUs
stays below 3 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from roofprobe.acceptance.fleet.fleet_verdict import Criterion, FleetFinding, FleetVerdict
from roofprobe.records.fleet import pictures
from roofprobe.records.fleet.dataset import Refused
from roofprobe.records.fleet.pictures import Cell, Median, Spread
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.fleet import fleet_rows as rows
from roofprobe.reporting.fleet import fleet_svg as svg
from roofprobe.reporting.pages.shell import page
from roofprobe.reporting.plain_text import clean, listed
from roofprobe.reporting.svg import StyleSheet

if TYPE_CHECKING:
    import duckdb
    from markupsafe import Markup

MOST_DEVICES: Final = 100
MOST_FAILING: Final = 5  # in the box of the verdict
MOST_HOSTS: Final = 200
MOST_CRITERIA: Final = 400
MOST_REFUSED: Final = 100
MOST_TRENDS: Final = 12
_MOST_MAIN: Final = 12
_MOST_SKUS: Final = 8
_MOST_BOUNDS: Final = 4
# What is looked at first, where a fleet has it; filled up with what most devices have.
_MAIN: Final = tuple(
    f"{family} {label} {quantity}"
    for family, label, quantity in (
        ("compute", "bf16", "burst"), ("compute", "bf16", "settled"), ("compute", "fp8", "burst"),
        ("compute", "fp16", "burst"), ("compute", "tf32", "burst"), ("compute", "fp32", "burst"),
        ("compute", "fp64", "burst"), ("compute", "bf16", "clock"),
        ("memory", "read fp32", "burst"), ("memory", "copy fp32", "burst"),
        ("memory", "triad fp32", "burst"), ("interconnect", "p2p slowest pair", "burst"),
        ("interconnect", "host-copy", "burst"),
    )
)  # fmt: skip
# Effects from which on a cell of the map is darker.
_LEVELS: Final = (-0.02, -0.03, -0.05, -0.10)
_BETTER: Final = 0.03


@dataclass(frozen=True, slots=True)
class _Picture:
    title: str
    unit: str
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class _Strip:
    metric: str
    n: int
    median: str
    unit: str
    width: str
    beyond: int
    svg: Markup


@dataclass(frozen=True, slots=True)
class _Kind:
    sku: str
    main: tuple[_Picture, ...]
    rest: tuple[_Strip, ...]


@dataclass(frozen=True, slots=True)
class _MapCell:
    text: str
    level: str
    title: str


@dataclass(frozen=True, slots=True)
class _Map:
    metrics: tuple[str, ...]
    hosts: tuple[tuple[str, tuple[_MapCell, ...]], ...]
    n_hosts: int


@dataclass(frozen=True, slots=True)
class _CriterionLine:
    group: str
    metric: str
    n: int
    median: str
    bound: str
    fail_bound: str
    scale: str
    unit: str
    note: str


def to_html(
    verdict: FleetVerdict, connection: duckdb.DuckDBPyConnection, refused: Sequence[Refused]
) -> str:
    """Return the page of a fleet's verdict; ``connection`` has the fleet's tables."""
    pictures.prepare(connection, _medians(verdict.criteria), verdict.options.window_days)
    spreads = pictures.spreads(connection)
    main = _main(spreads)
    findings = [found for found in verdict.findings if found.judgement != "pass"]
    shown = verdict.devices[:MOST_DEVICES]
    failing, more = rows.failing_rows(verdict, MOST_FAILING)
    return page(
        "fleet.html.j2",
        StyleSheet(),
        styles=("report.css", "fleet.css"),
        title="roofprobe: fleet",
        simulated=rows.simulated_lines(verdict),
        subtitle=rows.span_text(verdict),
        judgement=verdict.judgement,
        summary=clean(verdict.summary),
        device_counts=rows.counts_text(verdict.device_counts, "device"),
        host_counts=rows.counts_text(verdict.host_counts, "host"),
        skus=rows.sku_lines(verdict),
        failing=failing,
        more_failing=f"{plural(more, 'more device')} {'fails' if more == 1 else 'fail'}"
        if more
        else "",
        findings=rows.folded(rows.finding_rows(findings)),
        passed=rows.finding_rows([f for f in verdict.findings if f.judgement == "pass"]),
        trends=_trends(verdict, connection),
        devices=rows.device_lines(shown),
        n_devices=len(verdict.devices),
        missing=rows.without_runs(verdict),
        hosts=rows.host_lines(verdict)[:MOST_HOSTS],
        n_hosts=len(verdict.hosts),
        map=_map(connection, main),
        kinds=_kinds(verdict, spreads, main),
        n_kinds=len({spread.sku for spread in spreads}),
        refused=[(clean(each.code), clean(each.sentence)) for each in refused[:MOST_REFUSED]],
        n_refused=len(refused),
        criteria=_criteria(verdict.criteria),
        n_criteria=len(verdict.criteria),
    )


def _medians(criteria: Iterable[Criterion]) -> list[Median]:
    return [
        Median(
            c.sku, c.driver, c.power_limit_w, c.method_version, c.variant, c.metric, c.median,
            c.bound,
        )
        for c in criteria
    ]  # fmt: skip


def _main(spreads: Sequence[Spread]) -> tuple[str, ...]:
    """Return the metrics that are looked at first, in the order of `_MAIN`."""
    counts: dict[str, int] = {}
    for spread in spreads:
        counts[spread.metric] = counts.get(spread.metric, 0) + spread.n
    found = [metric for metric in _MAIN if metric in counts]
    bursts = [metric for metric in counts if metric.endswith(" burst") and metric not in found]
    found += sorted(bursts, key=lambda metric: (-counts[metric], metric))
    return tuple(found[:_MOST_MAIN])


def _kinds(
    verdict: FleetVerdict, spreads: Sequence[Spread], main: Sequence[str]
) -> tuple[_Kind, ...]:
    held: dict[tuple[str, str], list[Criterion]] = {}
    for criterion in sorted(verdict.criteria, key=lambda c: -c.n):
        held.setdefault((criterion.sku, criterion.metric), []).append(criterion)
    sizes: dict[str, int] = {}
    for spread in spreads:
        sizes[spread.sku] = max(sizes.get(spread.sku, 0), spread.n)
    kinds = []
    for sku in sorted(sizes, key=lambda sku: (-sizes[sku], sku))[:_MOST_SKUS]:
        own = {spread.metric: spread for spread in spreads if spread.sku == sku}
        first = [own[metric] for metric in main if metric in own]
        rest = [spread for metric, spread in own.items() if metric not in main]
        kinds.append(
            _Kind(
                rows.name_of(sku),
                tuple(_picture(each, held.get((sku, each.metric), ())) for each in first),
                tuple(map(_strip, rest)),
            )
        )
    return tuple(kinds)


def _picture(spread: Spread, criteria: Sequence[Criterion]) -> _Picture:
    """Draw one metric; ``criteria`` are those of its groups, the largest first."""
    scale = numbers.scale_for(spread.quantiles[3], spread.unit)
    bounds = tuple(dict.fromkeys(criterion.bound for criterion in criteria))
    modes = criteria[0].modes if criteria else ()
    caption = [f"{spread.n} devices, {spread.better} is better"]
    if bounds:
        several = f" of each of {len(bounds)} groups" if bounds[1:] else ""
        told = listed(tuple(map(scale.number, bounds)), _MOST_BOUNDS)
        in_view = any(spread.low < bound < spread.high for bound in bounds[:_MOST_BOUNDS])
        name = f"bound{several}, {told}"
        caption.append(f"dashed: the {name}" if in_view else f"the {name}, is beyond what is drawn")
    if spread.n_beyond:
        drawn = "" if spread.n_beyond == len(spread.marks) else f", the worst {len(spread.marks)}"
        caption.append(f"{spread.n_beyond} beyond it (dots{drawn})")
    if modes:
        centres = " and ".join(f"{scale.number(m.centre)} ({m.share:.0%})" for m in modes)
        caption.append(f"two kinds of devices: around {centres}")
    return _Picture(
        rows.name_of(spread.metric),
        scale.unit,
        svg.histogram(spread, bounds[:_MOST_BOUNDS], [mode.centre for mode in modes]),
        "; ".join(caption),
    )


def _strip(spread: Spread) -> _Strip:
    scale = numbers.scale_for(spread.quantiles[3], spread.unit)
    _, low, _, middle, _, high, _ = spread.quantiles
    width = numbers.UNKNOWN if not middle else f"{(high - low) / abs(middle):.1%}"
    return _Strip(
        rows.name_of(spread.metric), spread.n, scale.number(middle), scale.unit, width,
        spread.n_beyond, svg.strip(spread),
    )  # fmt: skip


def _map(connection: duckdb.DuckDBPyConnection, main: Sequence[str]) -> _Map:
    hosts = pictures.worst_by_host(connection, main, MOST_HOSTS)
    return _Map(
        tuple(map(rows.name_of, main)),
        tuple(
            (rows.name_of(host), tuple(_cell(cells.get(metric)) for metric in main))
            for host, cells in hosts
        ),
        pictures.n_hosts(connection),
    )


def _cell(cell: Cell | None) -> _MapCell:
    if cell is None:
        return _MapCell(numbers.UNKNOWN, "", "")
    level = sum(cell.effect <= bound for bound in _LEVELS)
    name = f"worse-{level}" if level else "better" if cell.effect >= _BETTER else ""
    title = f"device {cell.position}: {numbers.rate(cell.value, cell.unit)}"
    return _MapCell(rows.effect(cell.effect), name, title)


def _trends(verdict: FleetVerdict, connection: duckdb.DuckDBPyConnection) -> tuple[_Picture, ...]:
    """Draw what changed with time: findings that know since when, in their metric or aspect."""
    every = [*verdict.findings, *(found for device in verdict.devices for found in device.findings)]
    changed = [found for found in every if found.since and found.judgement != "pass"]
    drawn: list[_Picture] = []
    for found in changed:
        if len(drawn) == MOST_TRENDS:
            break
        metric = found.metric or _metric_of(found, verdict.criteria)
        picture = _trend(found, metric, connection) if metric else None
        if picture is not None:
            drawn.append(picture)
    return tuple(drawn)


def _metric_of(found: FleetFinding, criteria: Sequence[Criterion]) -> str | None:
    """Return the metric that stands for an aspect: the first of `_MAIN`, else any of it."""
    names = dict.fromkeys(
        c.metric for c in criteria if (c.aspect, c.sku) == (found.aspect, found.sku)
    )
    return next((metric for metric in _MAIN if metric in names), next(iter(names), None))


def _trend(
    found: FleetFinding, metric: str, connection: duckdb.DuckDBPyConnection
) -> _Picture | None:
    line = pictures.by_day(
        connection, metric, device_id=found.device_id, host=found.host, hosts=found.hosts,
        sku=found.sku,
    )  # fmt: skip
    if len(line) < 2:
        return None
    if found.device_id:
        whose = rows.place_of(found.host, found.position)
    else:
        whose = f"the {found.n_devices or len(found.hosts)} devices" if found.hosts else "all"
    lines = [(whose, line)]
    others = pictures.by_day(connection, metric, sku=found.sku) if found.sku else ()
    if others and (found.device_id or found.hosts):
        lines.append(("all of the kind", others))
    unit = _unit(connection, metric)
    scale = numbers.scale_for(line[-1].value, unit)
    title = f"{rows.name_of(metric)}: {whose}"
    return _Picture(
        title, scale.unit, svg.trend(title, lines, unit),
        f"{clean(found.sentence)} ({clean(found.code)}). "
        + ("Beside it, lighter: the median of all of the kind. " if len(lines) > 1 else "")
        + "Medians by day.",
    )  # fmt: skip


def _unit(connection: duckdb.DuckDBPyConnection, metric: str) -> str:
    row = connection.execute("SELECT any_value(unit) FROM metrics WHERE metric = ?", [metric])
    (unit,) = row.fetchall()[0]
    return str(unit or "")


def _criteria(criteria: Sequence[Criterion]) -> tuple[_CriterionLine, ...]:
    ordered = sorted(criteria, key=lambda c: (-c.n, c.sku, c.metric))[:MOST_CRITERIA]
    ordered.sort(key=lambda c: (c.sku, c.variant or "", c.driver or "", c.metric))
    return tuple(_criterion(criterion) for criterion in ordered)


def _criterion(c: Criterion) -> _CriterionLine:
    scale = numbers.scale_for(c.median, c.unit)
    group = [rows.name_of(c.sku)]
    group += [f"driver {rows.name_of(c.driver)}"] if c.driver else []
    group += [f"{c.power_limit_w:.0f} W"] if c.power_limit_w else []
    group += [rows.name_of(c.variant)] if c.variant else []
    notes = ["over all drivers or limits"] if c.pooled else []
    notes += [f"{c.n_apart} set apart"] if c.n_apart else []
    notes += [f"{len(c.modes)} centres"] if c.modes else []
    return _CriterionLine(
        ", ".join(group), rows.name_of(c.metric), c.n, scale.number(c.median),
        scale.number(c.bound), scale.number(c.fail_bound), f"{c.scale:.2%}", scale.unit,
        ", ".join(notes),
    )  # fmt: skip
