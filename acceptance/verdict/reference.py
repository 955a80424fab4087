"""Is it as fast as it, or another of its kind, was in earlier runs: matched rows, line by line.

Rows are matched by their case, which fixes operation, shape, route, data and regime. Of several
references the same device (by UUID) goes before others of its kind; a row's baseline is then the
median of their medians, and its interval spans all of theirs. A row is slower only where the
intervals are apart, and a line of the result (all rows of ``bf16``, all sizes of ``triad fp32``)
only where most of its rows are, by more than the noise that such figures have from run to run: a
floor per kind of device and family, or 3.5 times the spread that the other lines show between
these very runs (`compare.noise`). Rows during which others were at work say nothing about the
device and are left out. A baseline of zero, or none, judges nothing and stops nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.compare.noise import SIGMAS, Movement, backgrounds, device_class
from roofprobe.acceptance.verdict.relative import FAIL_SLOWER, WARN_SLOWER
from roofprobe.acceptance.verdict.subject import subject_of
from roofprobe.records.disturbed import is_disturbed
from roofprobe.records.schema import (
    Case,
    Device,
    Distribution,
    Family,
    Finding,
    Judgement,
    Measurement,
    Run,
)
from roofprobe.records.titles import label_of
from roofprobe.records.wording import are, plural, rate_words

# What two runs of the same healthy device may differ by, by kind of device and family. On a
# processor neighbours of a virtual machine move the median of memory rows by 10 % and more; small
# and short work (launches, latencies) scatters everywhere.
_FLOORS: dict[tuple[str, Family], float] = {
    ("gpu", "compute"): 0.02, ("gpu", "memory"): 0.02, ("gpu", "llm"): 0.05,
    ("gpu", "latency"): 0.05, ("gpu", "interconnect"): 0.08, ("gpu", "launch"): 0.15,
    ("gpu", "validate"): 0.05,
    ("cpu", "compute"): 0.10, ("cpu", "memory"): 0.20, ("cpu", "llm"): 0.20,
    ("cpu", "latency"): 0.20, ("cpu", "interconnect"): 0.30, ("cpu", "launch"): 0.30,
    ("cpu", "validate"): 0.15,
}  # fmt: skip
# Where the noise takes more of the speed than this, a pass would say nothing.
_BLIND = 0.5
_ANOTHER = (
    "name another reference with --against: a run of this device, or of one of its kind with as "
    "many units"
)
_MOST_DEVICES = 4


@dataclass(frozen=True, slots=True)
class _Row:
    """One case now and in the references; ``slower`` is the share of speed that is lost."""

    family: Family
    label: str
    case_id: str
    slower: float
    is_apart: bool
    disturbed: bool
    now: float
    before: float
    unit: str


def reference_relative(run: Run, against: Sequence[Run]) -> Iterator[Finding]:
    """Yield findings per device and family, and what the references have that the run lacks."""
    if not against:
        return
    for device in run.devices:
        same, twins = _twins(device, run, against)
        if not twins:
            yield finding(
                "RP-REFERENCE", "unknown",
                "No reference has this device or another of its kind: they have "
                f"{_devices_of(against)}",
                device=device, remedy=_ANOTHER,
            )  # fmt: skip
            continue
        usable = [pair for pair in twins if pair[0].method_version == run.method_version]
        if not usable:
            versions = sorted({reference.method_version for reference, _ in twins})
            yield finding(
                "RP-REFERENCE", "unknown",
                f"The references were measured by method {', '.join(map(str, versions))}, this run "
                f"by {run.method_version}: their figures do not mean the same",
                device=device, remedy="measure the reference again with this version",
            )  # fmt: skip
            continue
        yield from _of_device(run, device, usable, same)


def _twins(
    device: Device, run: Run, against: Sequence[Run]
) -> tuple[bool, list[tuple[Run, Device]]]:
    """Return the references' devices to hold it against, and whether they are this very device."""
    everyone = [(reference, other) for reference in against for other in reference.devices]
    same = [pair for pair in everyone if _is_same(device, run, *pair)]
    if same:
        return True, same
    kind = _kind(device)
    return False, [(reference, other) for reference, other in everyone if _kind(other) == kind]


def _devices_of(against: Sequence[Run]) -> str:
    """Name what the references have, each kind once, with its units where they are known."""
    names = [
        d.name + (f" ({d.unit_count} units)" if d.unit_count else "")
        for reference in against
        for d in reference.devices
    ]
    kinds = list(dict.fromkeys(names))
    more = len(kinds) - _MOST_DEVICES
    told = ", ".join(kinds[:_MOST_DEVICES]) + (f" and {more} more" if more > 0 else "")
    return told or "no device"


def _is_same(device: Device, run: Run, reference: Run, other: Device) -> bool:
    if device.backend == "cpu":
        on_same_host = run.environment.host == reference.environment.host
        return on_same_host and _kind(device) == _kind(other)
    return device.uuid is not None and device.uuid == other.uuid


def _kind(device: Device) -> tuple[str, str, int | None]:
    if device.backend == "cpu":
        return "cpu", device.name, device.unit_count
    return device.backend, subject_of(device).kind, device.unit_count


def _of_device(
    run: Run, device: Device, twins: Sequence[tuple[Run, Device]], same: bool
) -> Iterator[Finding]:
    now = _ok(run, device)
    before = [_ok(reference, other) for reference, other in twins]
    source = _source(device, twins, same)
    rows = [
        row
        for case_id, m in now.items()
        if m.case.family in run.options.families
        and (row := _row(m, [known[case_id] for known in before if case_id in known]))
    ]
    alone = [row for row in rows if not row.disturbed]
    noise = _noise(device, alone)
    yield from _left_out(run, device, rows, source)
    for family in run.options.families:
        members = [row for row in alone if row.family == family]
        left_out = sum(row.family == family for row in rows) - len(members)
        if members:
            yield _judged(device, family, members, noise, left_out, source)
        elif left_out:
            yield finding(
                "RP-REFERENCE", "unknown",
                f"{family}: others were at work during {_all_of(left_out)}; repeat on an idle host",
                device=device, bound_source=source,
            )  # fmt: skip
    yield from _missing(run, device, twins, now)


def _left_out(run: Run, device: Device, rows: Sequence[_Row], source: str) -> Iterator[Finding]:
    """Say how many rows of the families that are judged all the same nothing is judged by."""
    told = []
    for family in run.options.families:
        members = [row for row in rows if row.family == family]
        disturbed = sum(row.disturbed for row in members)
        if 0 < disturbed < len(members):
            told.append(f"{disturbed} of {plural(len(members), f'{family} row')}")
    if told:
        yield finding(
            "RP-REFERENCE", "unknown",
            f"Others were at work during {', '.join(told)}: these rows are left out, and only the "
            "others count",
            device=device, required=False, bound_source=source, remedy="repeat on an idle host",
        )  # fmt: skip


def _all_of(count: int) -> str:
    return "its only row" if count == 1 else f"all of {count} rows"


def _noise(device: Device, rows: Sequence[_Row]) -> dict[tuple[Family, str], float]:
    """Return per line what share of its speed a figure loses or wins from run to run."""
    moved = [
        Movement(0, row.family, row.label, math.log1p(-row.slower))
        for row in rows
        if math.isfinite(row.slower) and row.slower < 1
    ]
    spread = backgrounds(moved, [device.backend])
    kind = device_class(device.backend)
    return {
        (row.family, row.label): max(
            _FLOORS[kind, row.family], -math.expm1(-SIGMAS * background.sigma)
        )
        for row, background in zip(moved, spread, strict=True)
    }


def _ok(run: Run, device: Device) -> dict[str, Measurement]:
    return {
        m.case.case_id: m
        for m in run.measurements
        if m.device_id == device.device_id and m.status == "ok"
    }


def _source(device: Device, twins: Sequence[tuple[Run, Device]], same: bool) -> str:
    runs = ", ".join(dict.fromkeys(reference.run_id for reference, _ in twins))
    another = (
        "another host's processor of the same name"
        if device.backend == "cpu"
        else "another device of its kind"
    )
    return f"{'this device' if same else another} in {runs}"


def _row(now: Measurement, before: Sequence[Measurement]) -> _Row | None:
    """Compare one case with its references; None where there is no baseline to compare with."""
    figure, is_rate = _figure(now)
    known = [other for m in before if (other := _figure(m)[0]) is not None]
    if figure is None or not known or {d.unit for d in known} != {figure.unit}:
        return None
    base = statistics.median(distribution.median for distribution in known)
    if not base > 0 or not figure.median > 0:
        return None
    if is_rate:
        slower = 1 - figure.median / base
        is_apart = figure.ci_high < min(distribution.ci_low for distribution in known)
    else:
        slower = 1 - base / figure.median
        is_apart = figure.ci_low > max(distribution.ci_high for distribution in known)
    return _Row(
        family=now.case.family, label=_line(now.case), case_id=now.case.case_id, slower=slower,
        is_apart=is_apart, disturbed=is_disturbed(now),
        now=figure.median, before=base, unit=figure.unit,
    )  # fmt: skip


def _line(case: Case) -> str:
    """Return what rows are told together as; latencies and launches each by their route."""
    return case.route if case.family in ("latency", "launch") else label_of(case)


def _figure(measurement: Measurement) -> tuple[Distribution | None, bool]:
    """Return what a case is compared by, and whether more of it is better."""
    if measurement.rate is not None:
        return measurement.rate, True
    return measurement.access_ns or measurement.latency, False


def _judged(
    device: Device,
    family: Family,
    rows: Sequence[_Row],
    noise: Mapping[tuple[Family, str], float],
    left_out: int,
    source: str,
) -> Finding:
    lines: dict[str, list[_Row]] = {}
    for row in rows:
        lines.setdefault(row.label, []).append(row)
    floors = {label: noise.get((family, label), 1.0) for label in lines}
    usual = statistics.median(floors.values())
    if usual > _BLIND:
        return finding(
            "RP-REFERENCE", "unknown",
            f"{family}: figures moved up and down by so much between these runs (up to {usual:.0%} "
            "of the speed) that nothing can be told; repeat on an idle host",
            device=device, bound_source=source,
        )  # fmt: skip
    grades = {label: _grade(members, floors[label]) for label, members in lines.items()}
    order: tuple[Judgement, ...] = ("pass", "warn", "fail")
    judgement = max(grades.values(), key=order.index)
    worst_line = max(lines, key=lambda label: (order.index(grades[label]), _slower(lines[label])))
    worst = max(lines[worst_line], key=lambda row: (row.is_apart, row.slower))
    warn, fail = _bounds(floors[worst_line])
    if judgement == "pass":
        several = f"{len(lines)} lines ({len(rows)} rows)"
        what = plural(len(rows), "row") if len(lines) in (1, len(rows)) else several
        told = "the only row is not" if len(rows) == 1 else f"none of {what} is"
        sentence = f"{family}: {told} slower than before beyond noise"
    else:
        slow = sum(row.is_apart and row.slower > _bounds(floors[row.label])[0] for row in rows)
        sentence = (
            f"{family}: {slow} of {plural(len(rows), 'row')} {'is' if slow == 1 else 'are'} slower "
            f"beyond noise; of {worst_line} the median row lost "
            f"{_slower(lines[worst_line]):.1%} of its speed, the worst "
            f"{worst.slower:.1%} ({rate_words(worst.now, worst.unit)} after "
            f"{rate_words(worst.before, worst.unit)})"
        )
    if left_out:
        sentence += f"; {are(left_out, 'row')} left out, since others were at work"
    return finding(
        "RP-REFERENCE", judgement, sentence,
        device=device, case_id=worst.case_id, figure=max(0.0, _slower(lines[worst_line])),
        bound=fail if judgement == "fail" else warn,
        unit="share of the speed lost", bound_source=source,
    )  # fmt: skip


def _slower(rows: Sequence[_Row]) -> float:
    return statistics.median(row.slower for row in rows)


def _bounds(floor: float) -> tuple[float, float]:
    return max(WARN_SLOWER, floor), max(FAIL_SLOWER, 1.5 * floor)


def _grade(rows: Sequence[_Row], floor: float) -> Judgement:
    """Judge one line of the result by its median row, where most of its rows are apart."""
    slower = _slower(rows)
    warn, fail = _bounds(floor)
    if slower <= warn or sum(row.is_apart for row in rows) * 2 < len(rows):
        return "pass"
    return "fail" if slower > fail else "warn"


def _missing(
    run: Run,
    device: Device,
    twins: Sequence[tuple[Run, Device]],
    now: Mapping[str, Measurement],
) -> Iterator[Finding]:
    """Say which planned rows the references have and this run, asked for the same, has not."""
    wanted: dict[str, None] = {}
    alike = True
    for reference, other in twins:
        planned = set(reference.planned.get(other.device_id, ()))
        alike &= _asked(run) == _asked(reference)
        for case_id, m in _ok(reference, other).items():
            if case_id in planned and m.case.family in run.options.families:
                wanted[case_id] = None
    missing = [case_id for case_id in wanted if case_id not in now]
    if not missing:
        yield finding(
            "RP-REFERENCE-MISSING", "pass",
            f"All {len(wanted)} planned rows of the references have a figure", device=device,
        )  # fmt: skip
        return
    words = "" if alike else "; it was asked for something else"
    yield finding(
        "RP-REFERENCE-MISSING", "unknown",
        f"{len(missing)} of {len(wanted)} planned rows of the references have no figure here, "
        f"{missing[0]} for one{words}",
        device=device, required=alike, case_id=missing[0], figure=1 - len(missing) / len(wanted),
        bound=1.0, unit="share of the references' rows",
    )  # fmt: skip


def _asked(run: Run) -> tuple[object, ...]:
    options = run.options
    return options.tier, set(options.families), options.precisions
