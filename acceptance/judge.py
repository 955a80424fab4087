"""The verdict on a run: every check of the catalogue asked, and what the answers amount to.

Layers stand side by side and are never merged into one number. Not run is not OK: a device
failed where a check failed; else it is unknown where a required check has no answer; else there is
a warning where one warned; else it passed. Without a single answer it is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from roofprobe.acceptance.absolute import absolute
from roofprobe.acceptance.integrity import integrity
from roofprobe.records.schema import Finding, Judgement, Run, Verdict

LAYERS: Final[tuple[Callable[[Run], Iterator[Finding]], ...]] = (integrity, absolute)


def judge(run: Run) -> Verdict:
    """Return the findings on ``run`` and what they amount to."""
    findings = tuple(found for layer in LAYERS for found in layer(run))
    return Verdict(
        judgement=rolled_up(findings),
        devices={
            device.device_id: rolled_up(f for f in findings if f.device_id == device.device_id)
            for device in run.devices
        },
        host=rolled_up(f for f in findings if f.device_id is None),
        findings=findings,
    )


def rolled_up(findings: Iterable[Finding]) -> Judgement:
    """Return fail over unknown (of required checks) over warn over pass; of nothing, unknown."""
    answers = {f.judgement for f in findings if f.required or f.judgement != "unknown"}
    order: tuple[Judgement, ...] = ("fail", "unknown", "warn", "pass")
    return next((judgement for judgement in order if judgement in answers), "unknown")
