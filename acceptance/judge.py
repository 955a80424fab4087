"""The verdict on a run: every check of the catalogue asked, and what the answers amount to.

Layers stand side by side and are never merged into one number. Not run is not OK: a device
failed where a check failed; else it is unknown where a required check has no answer; else there is
a warning where one warned; else it passed. Without a single answer it is unknown.

Judged is what the measurements say: ceilings, validity and headlines are made anew from them
(`recomputed`), and a verdict that a record holds is never believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from roofprobe.acceptance.absolute import absolute
from roofprobe.acceptance.identity import identity
from roofprobe.acceptance.integrity import integrity
from roofprobe.acceptance.recomputed import recomputed, record
from roofprobe.acceptance.reference import reference_relative
from roofprobe.acceptance.relative import host_relative
from roofprobe.records.schema import Finding, Judgement, Run, Verdict

# What the command exits with; Nagios has an order of its own.
EXIT_CODES: Final[dict[Judgement, int]] = {"pass": 0, "warn": 0, "fail": 1, "unknown": 3}
NAGIOS_CODES: Final[dict[Judgement, int]] = {"pass": 0, "warn": 1, "fail": 2, "unknown": 3}


def judge(run: Run, against: Sequence[Run] = ()) -> Verdict:
    """Return the findings on ``run``, held against earlier runs too, and what they amount to."""
    findings = tuple(_findings(run, against))
    return Verdict(
        judgement=rolled_up(findings),
        devices={
            device.device_id: rolled_up(f for f in findings if f.device_id == device.device_id)
            for device in run.devices
        },
        host=rolled_up(f for f in findings if f.device_id is None),
        findings=findings,
    )


def _findings(stored: Run, against: Sequence[Run]) -> Iterator[Finding]:
    run = recomputed(stored)
    references = [recomputed(reference) for reference in against]
    yield from record(stored, run)
    yield from integrity(run)
    yield from identity(run, references)
    yield from absolute(run)
    yield from host_relative(run)
    yield from reference_relative(run, references)


def rolled_up(findings: Iterable[Finding]) -> Judgement:
    """Return fail over unknown (of required checks) over warn over pass; of nothing, unknown."""
    answers = {f.judgement for f in findings if f.required or f.judgement != "unknown"}
    order: tuple[Judgement, ...] = ("fail", "unknown", "warn", "pass")
    return next((judgement for judgement in order if judgement in answers), "unknown")


def exit_code(verdict: Verdict, *, strict: bool = False) -> int:
    """Return 0 for pass and warn (1 for warn where ``strict``), 1 for fail, 3 for unknown."""
    if strict and verdict.judgement == "warn":
        return 1
    return EXIT_CODES[verdict.judgement]
