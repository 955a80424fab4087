"""From a matched row to what can be said of it: the figures of both sides, then the verdict.

A change is proven where all hold: the test says so after correction for the number of rows, the
interval of the ratio leaves 1 out, the median *and* the fast tail (the 10th percentile) moved by
at least the floor of ``noise``. Where both sides together have several runs, the spread
between a side's runs takes the place of σ. What moved by the minimum but is not proven is ambiguous
and says which condition it misses, and so is what cannot exclude the minimum. ``~`` is the rest.

Where a whole family moved as one, its rows are a strong prior for each of them: a row that lies
among them counts by the minimum alone (plus what its clock explains), even where its own samples
are few or scatter too much to tell. It then says ``moved-together``. Nothing helps a row that
others disturbed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from roofprobe.acceptance.compare import noise
from roofprobe.acceptance.compare.comparison import Cause, Change, ComparedRow, SideFigure
from roofprobe.acceptance.compare.evidence import (
    Evidence,
    Times,
    evidence_of,
    median_clock_mhz,
    times_of,
    undisturbed,
)
from roofprobe.acceptance.compare.match import Match, measured
from roofprobe.acceptance.compare.statistics import (
    Interval,
    TTest,
    adjusted,
    moderated_test,
    prior_variance,
    rank_test,
    ratio_interval,
)
from roofprobe.records.schema import Reason
from roofprobe.records.titles import label_of

FALSE_DISCOVERIES = 0.01
LEAST_SAMPLES = 5


def judge_rows(matches: Sequence[Match], backends: Sequence[str]) -> tuple[ComparedRow, ...]:
    """Return one row with its verdict per match, in the same order; none is dropped."""
    evidence = [evidence_of(match) for match in matches]
    known = [each for each in evidence if each is not None]
    tests = _tests(known)
    ps = [test.p if isinstance(test, TTest) else test for test in tests]
    tested = [p for p in ps if p is not None]
    corrected = iter(adjusted(tested))
    moved = [
        noise.Movement(e.match.pair, e.match.case.family, label_of(e.match.case), e.effect)
        for e in known
    ]
    around = noise.backgrounds(moved, backends)
    judged = iter(
        _judged(e, test, p, None if p is None else next(corrected), background,
                backends[e.match.pair])
        for e, test, p, background in zip(known, tests, ps, around, strict=True)
    )  # fmt: skip
    return tuple(
        _unjudged(match) if each is None else next(judged)
        for match, each in zip(matches, evidence, strict=True)
    )


def _tests(rows: Sequence[Evidence]) -> list[TTest | float | None]:
    """Return per row the t test between runs where it has several, else Mann and Whitney's p."""
    priors: dict[tuple[int, str], float | None] = {}
    tests: list[TTest | float | None] = []
    for row in rows:
        if not row.several:
            whole = row.a.raw and row.b.raw
            tests.append(rank_test(row.a.samples[0], row.b.samples[0]) if whole else None)
            continue
        key = (row.match.pair, row.match.case.family)
        if key not in priors:
            alike = [r.between for r in rows if (r.match.pair, r.match.case.family) == key]
            priors[key] = prior_variance(alike)
        prior = priors[key]
        assert prior is not None, key
        tests.append(moderated_test(row.between, row.effect, prior))
    return tests


def _judged(
    row: Evidence,
    test: TTest | float | None,
    p: float | None,
    p_adjusted: float | None,
    background: noise.Background,
    backend: str,
) -> ComparedRow:
    minimum = noise.minimum_effect(backend, row.match.case.family)
    ratio = _ratio(row, test)
    sigma = test.error if isinstance(test, TTest) else background.sigma
    least, base, floor = _floors(row, minimum, sigma, backend, test)
    # the fast tail must have gone the same way: what only reaches some samples is a disturbance
    whole = min(abs(row.effect), abs(row.tail)) if row.effect * row.tail > 0 else 0.0
    # threads wait for the slowest of them, so one busy core can cost far more than its share
    crowded = not row.several and noise.is_crowded(_slower(row).measurements)
    few = min(row.a.pooled.size, row.b.pooled.size)
    unusable = [
        reason
        for fails, reason in (
            (few == 1 and row.a.raw and row.b.raw, _ONE_SAMPLE),
            (not (row.a.raw and row.b.raw), _NO_SAMPLES),
        )
        if fails
    ]
    too_few = 1 < few < LEAST_SAMPLES and not row.several
    unsure = [
        reason
        for fails, reason in (
            (too_few, _FEW_SAMPLES),
            (
                p_adjusted is None
                or p_adjusted > FALSE_DISCOVERIES
                or ratio.low <= 1 <= ratio.high,
                _NOT_SIGNIFICANT,
            ),
            (whole < base <= abs(row.effect), _TAIL),
            (abs(row.effect) < base, _EXPLAINED),
            (base <= abs(row.effect) < floor, _NOISE),
        )
        if fails
    ]
    together = (
        not row.several
        and background.moved_together(minimum, noise.spread_at(backend))
        and background.centre * row.effect > 0
        and abs(row.effect) >= least
        and abs(row.effect - background.centre) <= noise.SIGMAS * background.sigma + _width(ratio)
    )
    missing = [*unusable, *([_CROWDED] if crowded else []), *([] if together else unsure)]
    verdict: Change
    if not missing:
        verdict = "slower" if row.effect > 0 else "faster"
        missing = [_TOGETHER] if unsure else []
    elif abs(row.effect) >= minimum or unusable or too_few:
        verdict = "ambiguous"
    elif max(abs(math.log(ratio.low)), abs(math.log(ratio.high))) >= minimum:
        verdict, missing = "ambiguous", [_WIDE]
    else:
        verdict, missing = "~", []
    cycles = None if row.clock_change is None else row.effect + row.clock_change
    return ComparedRow(
        key=row.match.key,
        pair=row.match.pair,
        family=row.match.case.family,
        label=label_of(row.match.case),
        role=row.match.case.role,
        verdict=verdict,
        reasons=tuple(missing),
        a=_figure(row.match, row.a, left=True),
        b=_figure(row.match, row.b, left=False),
        ratio=ratio.value,
        ratio_ci_low=ratio.low,
        ratio_ci_high=ratio.high,
        p_value=p,
        p_adjusted=p_adjusted,
        floor=math.expm1(least if together else floor),
        noise=math.expm1(sigma),
        cycles_ratio=None if cycles is None else math.exp(cycles),
        cause=_cause(cycles, minimum) if verdict in ("slower", "faster") else None,
    )


def _ratio(row: Evidence, test: TTest | float | None) -> Interval:
    if isinstance(test, TTest):
        reach = test.quantile * test.error
        return Interval(*(math.exp(row.effect + side * reach) for side in (0, -1, 1)))
    if row.a.raw and row.b.raw:
        return ratio_interval(row.a.samples[0], row.b.samples[0])
    a, b = row.a.intervals[0], row.b.intervals[0]
    return Interval(b.value / a.value, b.low / a.high, b.high / a.low)


def _width(ratio: Interval) -> float:
    return (ratio.high - ratio.low) / 2 / ratio.value


def _floors(
    row: Evidence, minimum: float, sigma: float, backend: str, test: TTest | float | None
) -> tuple[float, float, float]:
    """Return the least effect with the clock's wander, with drift too, and with σ too."""
    if isinstance(test, TTest):
        # clock, drift and neighbours are in the spread between runs already; the test asks for it
        return minimum, minimum, max(minimum, test.quantile * test.error)
    least = minimum + noise.clock_allowance(backend, row.effect, row.clock_change)
    base = least + max(row.a.drift(), row.b.drift())
    return least, base, max(base, noise.SIGMAS * sigma)


def _slower(row: Evidence) -> Times:
    return row.b if row.effect > 0 else row.a


def _cause(cycles: float | None, minimum: float) -> Cause | None:
    if cycles is None:
        return None
    return "clock" if abs(cycles) < minimum else "cycles"


def _figure(match: Match, times: Times | None, *, left: bool) -> SideFigure | None:
    side = match.a if left else match.b
    if not side:
        return None
    status = "ok" if measured(side) else side[-1][1].status
    if times is None:
        return SideFigure(status=status, reason=side[-1][1].reason, runs=len(side), n=0)
    first = times.measurements[0]
    logs = times.logs
    many = len(times.intervals) > 1
    rates = [m.rate for m in times.measurements if m.rate is not None and m.rate.median > 0]
    return SideFigure(
        status=status,
        runs=len(times.intervals),
        n=int(sum(m.size for m in times.samples)),
        unit="ns" if first.access_ns is not None else "us",
        median=float(np.exp(logs.mean())) if many else times.intervals[0].value,
        ci_low=min(i.value if many else i.low for i in times.intervals),
        ci_high=max(i.value if many else i.high for i in times.intervals),
        rate=float(np.exp(np.mean([math.log(r.median) for r in rates]))) if rates else None,
        rate_unit=rates[0].unit if rates else None,
        clock_mhz=median_clock_mhz(
            m.clock_mhz.median for m in times.measurements if m.clock_mhz is not None
        ),
    )


def _unjudged(match: Match) -> ComparedRow:
    a, b = measured(match.a), measured(match.b)
    verdict: Change = "not-comparable"
    reasons = match.obstacles
    if a and not b:
        verdict, reasons = "only-a", (_absence(match, left=False),)
    elif b and not a:
        verdict, reasons = "only-b", (_absence(match, left=True),)
    elif not a:
        reasons = (_NEITHER,)
    elif not reasons:
        timed = [any(m.latency or m.samples_us for _, m in side) for side in (a, b)]
        reasons = (_BASELINE if all(timed) else _UNTIMED,)
    figures = [
        _figure(match, times_of(undisturbed(seen)), left=left)
        for seen, left in ((match.a, True), (match.b, False))
    ]
    return ComparedRow(
        key=match.key,
        pair=match.pair,
        family=match.case.family,
        label=label_of(match.case),
        role=match.case.role,
        verdict=verdict,
        reasons=reasons,
        a=figures[0],
        b=figures[1],
    )


def _absence(match: Match, *, left: bool) -> Reason:
    side, letter = (match.a, "A") if left else (match.b, "B")
    if not side:
        return Reason(code="not-in-side", sentence=f"{letter} has no such case")
    last = side[-1][1]
    why = last.reason.sentence if last.reason else "no reason is recorded"
    return Reason(code=f"{last.status}-in-side", sentence=f"{last.status} in {letter}: {why}")


_ONE_SAMPLE = Reason(code="one-sample", sentence="a side has a single sample")
_NO_SAMPLES = Reason(code="no-samples", sentence="a side has a median without its samples")
_FEW_SAMPLES = Reason(code="few-samples", sentence=f"a side has fewer than {LEAST_SAMPLES} samples")
_NOT_SIGNIFICANT = Reason(
    code="not-significant", sentence="the samples, or the runs, scatter too much to tell"
)
_TAIL = Reason(
    code="tail-only", sentence="only the slower samples moved, the fast ones did not as much"
)
_NOISE = Reason(
    code="between-run-noise",
    sentence="other rows moved as much between these runs; give several runs per side",
)
_EXPLAINED = Reason(
    code="disturbed", sentence="a usual wander of the clock, or drift, can explain the difference"
)
_CROWDED = Reason(
    code="not-alone", sentence="others used the cores while the slower side was measured"
)
_TOGETHER = Reason(
    code="moved-together", sentence="proven by the other rows of its family, which moved alike"
)
_WIDE = Reason(
    code="wide-interval", sentence="the interval of the ratio is too wide to exclude a change"
)
_NEITHER = Reason(code="measured-on-neither-side", sentence="neither side measured it")
_UNTIMED = Reason(code="untimed", sentence="a check without a time to compare")
_BASELINE = Reason(
    code="no-baseline", sentence="a side's time is zero, so there is nothing to hold against"
)
