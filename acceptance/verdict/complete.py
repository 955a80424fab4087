"""Was everything measured that was planned? What is not there must not pass for healthy.

Each planned case has to end in a figure or in a reason that lies in the case itself: a format that
the device lacks is an answer. Time that ran out, and a device that was given up, are none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.verdict.resuming import resume_command
from roofprobe.records.schema import Device, Finding, Measurement, Run

# Reasons that say something about the run and nothing about the case: it was not run.
NOT_RUN = frozenset({"time-budget", "device-given-up", "interrupted"})
_STATUS_WORDS = {"running": "is still running, or was killed", "incomplete": "was cut short"}
_MOST_KINDS = 6


def complete(run: Run) -> Iterator[Finding]:
    """Yield one answer for each device, and one for the host where the run itself lacks parts."""
    lacking = list(_lacking(run))
    if lacking:
        yield _unknown(run, f"The run {'; it '.join(lacking)}")
    for device in run.devices:
        yield _of_device(run, device)


def _lacking(run: Run) -> Iterator[str]:
    if run.status != "complete":
        yield _STATUS_WORDS[run.status]
    if not run.devices:
        yield "has no device"
    measured = {m.case.family for m in run.measurements if not _not_run(m)}
    missing = [family for family in run.options.families if family not in measured]
    if missing:
        yield f"has no result of {', '.join(missing)}, which it was asked for"


def _of_device(run: Run, device: Device) -> Finding:
    planned = run.planned.get(device.device_id)
    if not planned:
        return _unknown(
            run,
            "The record does not say what was planned, so nobody knows what is missing",
            device=device,
        )  # fmt: skip
    own = [m for m in run.measurements if m.device_id == device.device_id]
    ended = {m.case.case_id for m in own if not _not_run(m)}
    left_out = {m.case.case_id for m in own} - ended
    absent = [case_id for case_id in dict.fromkeys(planned) if case_id not in ended]
    # cases that followed from a search are not in the plan, and may have been left out all the same
    missing = [*absent, *sorted(left_out - set(planned))]
    count = len({*planned, *left_out})
    if not missing:
        return finding(
            "RP-COMPLETE", "pass", f"All {count} planned cases ended in a figure or a reason",
            device=device, figure=1.0, bound=1.0, unit="share of the planned cases",
        )  # fmt: skip
    kinds = Counter(_kind(case_id) for case_id in missing)
    return _unknown(
        run,
        f"{len(missing)} of {count} planned cases have no result: {_told(kinds)}",
        device=device, figure=1 - len(missing) / count, bound=1.0,
        unit="share of the planned cases", case_id=missing[0],
    )  # fmt: skip


def _unknown(run: Run, sentence: str, **more: Any) -> Finding:
    """Return that something is missing, with the command that goes on with this run."""
    command = resume_command(run)
    if command is not None:
        more["remedy"] = f"go on with `{command}`, or run it again with more time"
    return finding("RP-COMPLETE", "unknown", sentence, **more)


def _not_run(measurement: Measurement) -> bool:
    return measurement.reason is not None and measurement.reason.code in NOT_RUN


def _kind(case_id: str) -> str:
    """Return the words before the sizes in a case's id, which say what it measures."""
    return "/".join(case_id.split("/")[:2])


def _told(kinds: Counter[str]) -> str:
    told = [f"{count} {kind}" for kind, count in kinds.most_common(_MOST_KINDS)]
    rest = sum(kinds.values()) - sum(count for _, count in kinds.most_common(_MOST_KINDS))
    return ", ".join([*told, *([f"{rest} others"] if rest else [])])
