"""The verdict on a run: every check of the catalogue asked, and what the answers amount to.

Layers stand side by side and are never merged into one number. Not run is not OK: a device
failed where a check failed; else it is unknown where a required check has no answer; else there is
a warning where one warned; else it passed. Without a single answer it is unknown.

Judged is what the measurements say: ceilings, validity and headlines are made anew from them
(`recomputed`), and a verdict that a record holds is never believed. Where figures that fell short
were measured again, the repeats decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.health.judge import health
from roofprobe.acceptance.verdict.absolute import absolute
from roofprobe.acceptance.verdict.identity import identity
from roofprobe.acceptance.verdict.integrity import integrity
from roofprobe.acceptance.verdict.recomputed import recomputed, record
from roofprobe.acceptance.verdict.reference import reference_relative
from roofprobe.acceptance.verdict.relative import host_relative
from roofprobe.acceptance.verdict.retest import after_retest, on_repeats
from roofprobe.records.schema import Finding, Judgement, Run, RunStatus, Verdict


def judge(run: Run, against: Sequence[Run] = ()) -> Verdict:
    """Return the findings on ``run``, held against earlier runs too, and what they amount to.

    A simulated run has one finding: that nothing in it was measured.
    """
    if run.simulated is not None:
        return _of_nothing(run, run.simulated)
    fresh, references = recomputed(run), [recomputed(reference) for reference in against]
    judged = judge_once(fresh, references)
    if fresh.retests:
        judged = after_retest(judged, judge_once(on_repeats(fresh), references), fresh)
    findings = (*record(run, fresh), *judged)
    return Verdict(
        judgement=rolled_up(findings),
        devices={
            device.device_id: rolled_up(f for f in findings if f.device_id == device.device_id)
            for device in run.devices
        },
        host=rolled_up(f for f in findings if f.device_id is None),
        findings=findings,
    )


def verdict_of(run: Run) -> Verdict:
    """Return the verdict that a record stands for: its own, but of a simulated run that of `judge`.

    A run that was not judged is unknown.
    """
    if run.simulated is not None:
        return _of_nothing(run, run.simulated)
    return run.verdict or Verdict(judgement="unknown")


def concluded(judgement: Judgement, status: RunStatus, simulated: str | None) -> Judgement:
    """Return what a run is judged to be, of what its findings amount to.

    Of a simulated run nothing is known. Without its end a run is unknown too, unless a check
    failed.
    """
    if simulated is not None or (judgement != "fail" and status != "complete"):
        return "unknown"
    return judgement


def _of_nothing(run: Run, simulated: str) -> Verdict:
    """Return the verdict on a record that nobody measured: unknown, and nothing else is asked."""
    told = finding(
        "RP-COMPLETE", "unknown", f"Nothing here was measured: {simulated}",
        remedy="measure a device; a simulated record proves nothing of one",
    )  # fmt: skip
    return Verdict(
        judgement="unknown",
        devices={device.device_id: "unknown" for device in run.devices},
        host="unknown",
        findings=(told,),
    )


def judge_once(run: Run, against: Sequence[Run] = ()) -> tuple[Finding, ...]:
    """Return the findings on the first figures of a run whose ceilings and headlines are its own.

    ``against`` are references, made anew like the run itself.
    """
    return tuple(_layers(run, against))


def _layers(run: Run, against: Sequence[Run]) -> Iterator[Finding]:
    yield from integrity(run)
    yield from identity(run, against)
    yield from health(run)
    yield from absolute(run, has_reference=bool(against))
    yield from host_relative(run)
    yield from reference_relative(run, against)


def rolled_up(findings: Iterable[Finding]) -> Judgement:
    """Return fail over unknown (of required checks) over warn over pass; of nothing, unknown."""
    answers = {f.judgement for f in findings if f.required or f.judgement != "unknown"}
    order: tuple[Judgement, ...] = ("fail", "unknown", "warn", "pass")
    return next((judgement for judgement in order if judgement in answers), "unknown")
