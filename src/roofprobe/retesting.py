"""Which cases are measured again before anything is called a failure, and within which time.

Part of the main flow: what is judged comes from `roofprobe.acceptance.verdict.retest`, how it is
measured from `roofprobe.probes`. The time for it is bounded by tier and by ``--time-budget``; a
breach that no time was left for keeps its judgement, and says that it was not repeated by having no
repeats.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from roofprobe.acceptance.verdict.judge import judge_once
from roofprobe.acceptance.verdict.retest import breaches, control_of, repeats_of
from roofprobe.probes.plan import expected_s, policy_for
from roofprobe.probes.runner import Job, Planned
from roofprobe.records.schema import Case, Finding, Options, Run

# How long all repeats of one device may take, and how long each waits to be idle and cool.
BUDGET_S: Final = {"quick": 20.0, "standard": 60.0, "soak": 300.0}
COOL_DOWN_S: Final = {"quick": 15.0, "standard": 45.0, "soak": 120.0}


def jobs_of(run: Run, options: Options, done: Collection[tuple[str, str]]) -> tuple[Job, ...]:
    """Return the repeats that ``run`` calls for and that are not ``done`` yet, by device.

    A breach comes with the same repeats on a healthy device of its kind, where the host has one.
    """
    wanted: dict[str, dict[str, Planned]] = {}
    breaching = breaches(judge_once(run))
    for found in sorted(breaching, key=_shortfall):
        for device_id, cases in _repeats(run, found, breaching):
            device = next(each for each in run.devices if each.device_id == device_id)
            planned = wanted.setdefault(device_id, {})
            new = [
                (case, policy_for(case, device, options), expected_s(case, device, options))
                for case in cases
                if case.case_id not in planned and (device_id, case.case_id) not in done
            ]
            if _seconds([*planned.values(), *new]) <= BUDGET_S[options.tier]:
                planned.update({each[0].case_id: each for each in new})
    cool_down_s = COOL_DOWN_S[options.tier]
    return tuple(
        Job(device, tuple(wanted[device.device_id].values()), cool_down_s=cool_down_s)
        for device in run.devices
        if wanted.get(device.device_id)
    )


def told(jobs: Sequence[Job]) -> str:
    """Say what is measured again, and why."""
    cases = sum(len(job.cases) for job in jobs)
    names = ", ".join(job.device.torch_device for job in jobs)
    return f"figures fell short; {cases} repeats on {names} decide, once idle and cool"


def _repeats(
    run: Run, found: Finding, breaching: Sequence[Finding]
) -> Iterator[tuple[str, tuple[Case, ...]]]:
    """Yield the repeats of a breach on its device, then on the control's."""
    by_key = {(m.device_id, m.case.case_id): m for m in run.measurements}
    first = by_key.get((found.device_id or "", found.case_id or ""))
    if first is None:
        return
    yield first.device_id, repeats_of(first)
    control = control_of(run, found, breaching)
    if control is not None:
        beside = by_key[control.device_id, first.case.case_id]
        yield control.device_id, repeats_of(beside)


def _shortfall(found: Finding) -> float:
    """Put the worst first: what reaches the least of its bound."""
    return found.figure / found.bound if found.figure is not None and found.bound else 0.0


def _seconds(planned: Sequence[Planned]) -> float:
    return sum(expected for *_, expected in planned)
