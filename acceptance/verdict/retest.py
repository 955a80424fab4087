"""Retest before fail: one sample is no verdict, and one good repeat is no acquittal.

A figure of a headline that falls short (of what its kind reaches, or of its neighbours) is measured
again on the idle, cooled device, at least three times. The median of the repeats then stands in
for the first figure, and is judged like it: still too low is a fail that both figures stand behind;
a shortfall that went away is a warning of its own, since the next user may meet it again. First
figure and repeats stay in the record.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from roofprobe.acceptance.checks import device_of, finding
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import Case, Device, Finding, Layer, Measurement, Run
from roofprobe.records.titles import label_of
from roofprobe.records.wording import rate_words

REPEATS: Final = 3
RETESTED: Final[frozenset[Layer]] = frozenset({"absolute", "host-relative"})

Key = tuple[str, str]  # device, case


def breaches(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the failures that a repeat can confirm: of a figure, on one device."""
    return tuple(
        found
        for found in findings
        if found.judgement == "fail" and found.layer in RETESTED and found.device_id
        if found.case_id
    )


def repeats_of(measurement: Measurement) -> tuple[Case, ...]:
    """Return the cases that measure again what ``measurement`` did, each under its own name."""
    case = measurement.case
    return tuple(
        case.model_copy(update={"case_id": f"{case.case_id}/retest-{number}", "retest": number})
        for number in range(1, REPEATS + 1)
    )


def first_of(case: Case) -> str:
    """Return the id of the case that ``case`` repeats."""
    return case.case_id.removesuffix(f"/retest-{case.retest}")


def control_of(run: Run, found: Finding, breaching: Iterable[Finding]) -> Device | None:
    """Return a device of the same kind that did the same case well, to be measured beside it."""
    faulty = {other.device_id for other in breaching}
    device = device_of(run, found.device_id or "")
    done = {m.device_id for m in run.measurements if m.case.case_id == found.case_id if m.rate}
    if device is None:
        return None
    return next(
        (
            other
            for other in run.devices
            if other.device_id not in faulty
            and other.device_id in done
            and (other.backend, other.name) == (device.backend, device.name)
        ),
        None,
    )


def on_repeats(run: Run) -> Run:
    """Return ``run`` as if each repeated figure had been the median of its repeats."""
    middle = {key: _middle(members) for key, members in _repeated(run).items()}

    def replaced(first: Measurement) -> Measurement:
        repeat = middle.get((first.device_id, first.case.case_id))
        if repeat is None or first.rate is None:
            return first
        return repeat.model_copy(update={"case": first.case})

    measurements = tuple(map(replaced, run.measurements))
    headlines = headlines_of(run.devices, measurements, run.ceilings)
    return run.model_copy(update={"measurements": measurements, "headlines": headlines})


def after_retest(
    first: Sequence[Finding], again: Sequence[Finding], run: Run
) -> tuple[Finding, ...]:
    """Return the findings that stand: of each repeated breach, what the repeats say of it.

    ``first`` are the findings on ``run``, ``again`` those on `on_repeats` of it.
    """
    repeated = _repeated(run)
    measured = {(m.device_id, m.case.case_id): m for m in run.measurements}
    lines = {_line(found, measured) for found in first}
    failing = {_line(found, measured) for found in breaches(first)}
    standing: list[Finding] = []
    unstable: set[Key] = set()  # device and line: told once, however many checks it fell short of
    for found in first:
        key = (found.device_id or "", found.case_id or "")
        members = repeated.get(key)
        if not breaches([found]) or not members or key not in measured:
            standing.append(found)
            continue
        told = _told(measured[key], members, run)
        line = _line(found, measured)
        alike = [
            other
            for other in again
            if (other.code, other.device_id) == (found.code, found.device_id)
            # Another case may lead a line now, that was not asked about before.
            and (_line(other, measured) == line or _line(other, measured) not in lines)
        ]
        low = next((other for other in alike if other.judgement == "fail"), None)
        if low is not None or _middle(members) is None:
            stands = found if low is None else low
            standing.append(stands.model_copy(update={"sentence": f"{stands.sentence}; {told}"}))
            continue
        standing += [other for other in alike if _line(other, measured) not in failing - {line}]
        if line[1:] in unstable:
            continue
        unstable.add(line[1:])
        standing.append(
            finding(
                "RP-UNSTABLE", "warn",
                f"{label_of(measured[key].case)} fell short once and did not again: {told}",
                device=device_of(run, key[0]), case_id=key[1], figure=found.figure,
                bound=found.bound, unit=found.unit, bound_source=found.bound_source,
            )
        )  # fmt: skip
    return tuple(dict.fromkeys(standing))


def _line(found: Finding, measured: Mapping[Key, Measurement]) -> tuple[str, str, str]:
    """Tell what a finding is about: its code, its device and the line that its case belongs to."""
    device_id, case_id = found.device_id or "", found.case_id or ""
    measurement = measured.get((device_id, case_id))
    return found.code, device_id, label_of(measurement.case) if measurement else case_id


def _repeated(run: Run) -> dict[Key, list[Measurement]]:
    """Return the repeats of each case, in order, but those that no time was left for."""
    repeated: dict[Key, list[Measurement]] = {}
    for measurement in run.retests:
        if measurement.status != "skipped":
            key = (measurement.device_id, first_of(measurement.case))
            repeated.setdefault(key, []).append(measurement)
    return repeated


def _middle(members: Sequence[Measurement]) -> Measurement | None:
    """Return the repeat with the median rate, the lower of two; None unless enough ended well."""
    rated = [(m.rate.median, m) for m in members if m.rate is not None and m.status == "ok"]
    if len(rated) < REPEATS:
        return None
    middle = statistics.median_low([rate for rate, _ in rated])
    return next(m for rate, m in rated if rate == middle)


def _told(first: Measurement, members: Sequence[Measurement], run: Run) -> str:
    """Say both figures, and what a healthy device did meanwhile."""
    assert first.rate is not None, first.case.case_id
    unit, begun = first.rate.unit, f"first {rate_words(first.rate.median, first.rate.unit)}"
    middle = _middle(members)
    if middle is None:
        ended = sum(m.status == "ok" for m in members)
        return f"{begun}; only {ended} of {len(members)} repeats ended well"
    assert middle.rate is not None, middle.case.case_id
    sentence = (
        f"{begun}, then {rate_words(middle.rate.median, unit)} as the median of {len(members)} "
    )
    sentence += "repeats on the idle, cooled device"
    return sentence + "".join(_controls(first, run))


def _controls(first: Measurement, run: Run) -> Iterator[str]:
    for (device_id, case_id), members in _repeated(run).items():
        middle = _middle(members)
        if case_id != first.case.case_id or device_id == first.device_id or middle is None:
            continue
        device = device_of(run, device_id)
        assert middle.rate is not None, middle.case.case_id
        name = device.torch_device if device else device_id
        yield f"; {name} beside it reached {rate_words(middle.rate.median, middle.rate.unit)}"
