"""Each GPU against the median of equal GPUs of its host: the same work, the same minute.

Neighbours share datasheet, driver, cooling and method, so a healthy one lies within 2 to 3 % of the
others (eight H100 of one host: 657 to 671 TFLOPS). What this cannot see is a host all of whose GPUs
are equally slow, and it says nothing about fewer than three. Compared are cases that all of them
have, never each one's own best shape.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.verdict.subject import Subject, subjects
from roofprobe.records.schema import Case, Distribution, Finding, Judgement, Run
from roofprobe.records.titles import label_of
from roofprobe.records.wording import rate_words

WARN_SLOWER, FAIL_SLOWER = 0.035, 0.07
_LEAST_EQUALS = 3
_ROLES = frozenset({"anchor", "pipe"})


@dataclass(frozen=True, slots=True)
class _Row:
    """One device's figure in one row beside the median of the group."""

    label: str
    case_id: str
    slower: float
    is_apart: bool
    value: float
    median: float
    unit: str


def host_relative(run: Run) -> Iterator[Finding]:
    """Yield one finding per accelerator: its worst row against the median of its equals."""
    groups: dict[str, list[Subject]] = {}
    for subject in subjects(run):
        groups.setdefault(subject.kind, []).append(subject)
    for members in groups.values():
        if len(members) < _LEAST_EQUALS:
            for subject in members:
                yield finding(
                    "RP-HOST-RELATIVE", "unknown",
                    f"{_counted(len(members))} of its kind in this run: a median takes "
                    f"{_LEAST_EQUALS}",
                    device=subject.device, required=False, remedy="probe all --device all",
                )  # fmt: skip
            continue
        yield from _judged(run, members)


def _judged(run: Run, members: Sequence[Subject]) -> Iterator[Finding]:
    rows = _rows(run, [subject.device.device_id for subject in members])
    for subject in members:
        own = rows.get(subject.device.device_id, [])
        if not own:
            yield finding(
                "RP-HOST-RELATIVE", "unknown", "It has no figure that its equals have too",
                device=subject.device, required=False,
            )  # fmt: skip
            continue
        worst = max(own, key=lambda row: (_grade(row) == "fail", _grade(row) == "warn", row.slower))
        judgement = _grade(worst)
        yield finding(
            "RP-HOST-RELATIVE", judgement,
            f"{worst.label}, the worst of {len(own)} rows, is {_off(worst.slower)} the median of "
            f"{len(members)} equal GPUs ({rate_words(worst.value, worst.unit)} "
            f"and {rate_words(worst.median, worst.unit)})",
            device=subject.device, case_id=worst.case_id, figure=worst.slower,
            bound=FAIL_SLOWER if judgement == "fail" else WARN_SLOWER,
            unit="share below the median", bound_source="equal GPUs of this host in this run",
        )  # fmt: skip


def _rows(run: Run, device_ids: Sequence[str]) -> dict[str, list[_Row]]:
    """Return per device one row for each line of the result, at its fastest common case."""
    cases: dict[str, dict[str, Distribution]] = {}
    labels: dict[str, str] = {}
    for m in run.measurements:
        if m.device_id in device_ids and m.status == "ok" and m.rate and _counts(m.case):
            cases.setdefault(m.case.case_id, {})[m.device_id] = m.rate
            labels[m.case.case_id] = label_of(m.case)
    best: dict[str, tuple[float, str]] = {}
    for case_id, rates in cases.items():
        if len(rates) >= _LEAST_EQUALS:
            median = statistics.median(rate.median for rate in rates.values())
            best[labels[case_id]] = max(best.get(labels[case_id], (0.0, "")), (median, case_id))
    rows: dict[str, list[_Row]] = {}
    for label, (median, case_id) in best.items():
        for device_id, row in _against_median(label, case_id, median, cases[case_id]).items():
            rows.setdefault(device_id, []).append(row)
    return rows


def _against_median(
    label: str, case_id: str, median: float, rates: Mapping[str, Distribution]
) -> dict[str, _Row]:
    if not median > 0:
        return {}
    low = statistics.median(rate.ci_low for rate in rates.values())
    return {
        device_id: _Row(
            label=label,
            case_id=case_id,
            slower=1 - rate.median / median,
            is_apart=rate.ci_high < low,
            value=rate.median,
            median=median,
            unit=rate.unit,
        )
        for device_id, rate in rates.items()
    }


def _counts(case: Case) -> bool:
    """Whether a case is the device's own work: no copy engine, no link, no sweep of shapes."""
    own = case.family in ("compute", "memory") and case.engine == "units"
    return own and case.role in _ROLES and case.level is None


def _grade(row: _Row) -> Judgement:
    if not row.is_apart or row.slower <= WARN_SLOWER:
        return "pass"
    return "fail" if row.slower > FAIL_SLOWER else "warn"


def _off(slower: float) -> str:
    return f"{abs(slower):.1%} {'below' if slower >= 0 else 'above'}"


def _counted(count: int) -> str:
    return "There is only one GPU" if count == 1 else f"There are only {count} GPUs"
