"""Compare two sides, each one run or many: what changed, how surely, and from what.

The main flow: read both sides, pair their devices, match their cases, judge each row, and say once
what many rows have in common. How a row is judged stands in ``rows``, what counts as noise in
``noise``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from roofprobe.acceptance.compare.comparison import (
    JUDGED,
    Change,
    ComparedRow,
    Comparison,
    DevicePair,
    Remark,
    Side,
)
from roofprobe.acceptance.compare.conditions import simulated_in, warnings_of
from roofprobe.acceptance.compare.headlines import compared_headlines
from roofprobe.acceptance.compare.match import match_rows
from roofprobe.acceptance.compare.noise import minimum_effect
from roofprobe.acceptance.compare.rows import judge_rows
from roofprobe.acceptance.compare.sides import Runs, pair_devices, read_side
from roofprobe.records.runfolder import read_run
from roofprobe.records.schema import Family, Run

# A factor that the whole device has in common: this share of its rows on one side of 1, at least
# so many rows, and at least this large.
_COMMON_SHARE = 0.75
_COMMON_ROWS = 8
_COMMON_LEAST = math.log1p(0.02)
_HOPELESS = 1.0  # who needs twice the speed, or half, to prove a change learns nothing
_NOISY = 2.5  # a usual floor this many times the minimum is worth a sentence


def compare(
    a: Path,
    b: Path,
    *,
    families: Sequence[Family] | None = None,
    fail_on: float | None = None,
    read: Callable[[Path], Run] = read_run,
) -> Comparison:
    """Compare the runs at ``a`` with those at ``b``; raises ``RoofprobeError`` as reading does.

    ``families`` leaves only these, ``fail_on`` is the slowdown (0.05 is 5 %) that is a regression;
    ``read`` reads one run.
    """
    sides = read_side(a, "A", read), read_side(b, "B", read)
    return compare_runs(*sides, families=families, fail_on=fail_on)


def compare_runs(
    a: Runs,
    b: Runs,
    *,
    families: Sequence[Family] | None = None,
    fail_on: float | None = None,
) -> Comparison:
    """Compare two sides that are read already."""
    pairs = pair_devices(a.runs, b.runs)
    records = tuple(pair.record for pair in pairs)
    wanted = None if families is None else frozenset(families)
    matches = match_rows(pairs, wanted)
    rows = judge_rows(matches, [pair.backend for pair in records])
    judged = [row for row in rows if row.verdict in JUDGED]
    counts = Counter(row.verdict for row in rows)
    changed = counts["slower"] + counts["faster"]
    regressions = tuple(row.key for row in rows if _is_regression(row, fail_on))
    return Comparison(
        a=_side(a),
        b=_side(b),
        pairs=records,
        warnings=(
            *simulated_in("A", a.runs), *simulated_in("B", b.runs), *a.warnings, *b.warnings,
            *warnings_of(a.runs, b.runs, pairs),
        ),
        findings=tuple(
            finding for number, pair in enumerate(records)
            for finding in _findings(number, pair, [r for r in rows if r.pair == number])
        ),
        headlines=compared_headlines(pairs, wanted),
        rows=rows,
        counts={verdict: counts[verdict] for verdict in sorted(counts)},
        compared=len(judged),
        changed_share=changed / len(judged) if judged else None,
        ambiguous_share=counts["ambiguous"] / len(judged) if judged else None,
        fail_on=fail_on,
        regressions=regressions,
        summary=_summary(rows, counts, len(judged), fail_on, len(regressions)),
    )  # fmt: skip


def exit_code(comparison: Comparison) -> int:
    """Return 1 where ``fail_on`` was exceeded, 3 where nothing could be compared, else 0."""
    if comparison.fail_on is not None and comparison.regressions:
        return 1
    return 0 if comparison.compared else 3


def _side(side: Runs) -> Side:
    return Side(path=str(side.path), runs=tuple(run.run_id for run in side.runs))


def _is_regression(row: ComparedRow, fail_on: float | None) -> bool:
    if fail_on is None:
        return False
    if row.verdict == "only-a":
        return row.b is not None and row.b.status in ("failed", "invalid")
    # 5 % of a planted 5 % must not depend on the last bit
    return row.verdict == "slower" and row.ratio is not None and row.ratio - 1 >= fail_on - 1e-9


def _findings(number: int, pair: DevicePair, rows: Sequence[ComparedRow]) -> Iterator[Remark]:
    yield from _common_factor(number, pair, rows)
    yield from _noisy_families(number, pair, rows)
    lost = [row for row in rows if row.verdict == "only-a"
            and row.b is not None and row.b.status in ("failed", "invalid")]  # fmt: skip
    if lost:
        yield Remark(
            code="lost-rows",
            pair=number,
            sentence=f"{_rows(len(lost))} that A measured failed or {_is(len(lost))} invalid in B",
            figures={"rows": float(len(lost))},
        )


def _common_factor(number: int, pair: DevicePair, rows: Sequence[ComparedRow]) -> Iterator[Remark]:
    """Say once that all of a device moved by one factor, and whether its clock did."""
    moved = [row for row in rows if row.ratio is not None]
    if len(moved) < _COMMON_ROWS:
        return
    effects = np.log([row.ratio for row in moved if row.ratio is not None])
    centre = float(np.median(effects))
    share = float(np.mean(np.sign(effects) == np.sign(centre)))
    if share < _COMMON_SHARE or abs(centre) < _COMMON_LEAST:
        return
    cycles = [row.cycles_ratio for row in moved if row.cycles_ratio is not None]
    left = float(np.median(np.log(cycles))) if len(cycles) >= _COMMON_ROWS else None
    name = pair.name_a if pair.name_a == pair.name_b else f"{pair.name_b} beside {pair.name_a}"
    sentence = (
        f"the whole of {name} is {abs(math.expm1(centre)):.1%} "
        f"{'slower' if centre > 0 else 'faster'} in B: {share:.0%} of {_rows(len(moved))} moved "
        "that way"
    )
    figures = {"ratio": math.exp(centre), "share": share, "rows": float(len(moved))}
    if left is not None:
        figures["cycles_ratio"] = math.exp(left)
        by_clock = abs(left) < abs(centre) / 2
        sentence += "; its clock tells why" if by_clock else "; its clock does not tell why"
    yield Remark(code="common-factor", pair=number, sentence=sentence, figures=figures)


def _noisy_families(number: int, pair: DevicePair, rows: Sequence[ComparedRow]) -> Iterator[Remark]:
    """Say where these runs scatter so much that only large changes could be proven."""
    floors: dict[Family, list[float]] = {}
    for row in rows:
        if row.floor is not None:
            floors.setdefault(row.family, []).append(row.floor)
    for family, values in floors.items():
        floor = float(np.median(values))
        if math.log1p(floor) >= _NOISY * minimum_effect(pair.backend, family):
            yield Remark(
                code="noisy-comparison",
                pair=number,
                sentence=f"{family}: {_needed(floor, min(values))}; repeat on an idle host, "
                "several runs per side",
                figures={"floor": floor, "least_floor": min(values)},
            )


def _needed(floor: float, least: float) -> str:
    """Say what the usual row, and the one that needs least, would need to prove a change."""
    if least >= _HOPELESS:
        return "the sides scatter so much that nothing can be told"
    one = f"the row that needs least proves a change from a factor of {1 + least:.2f} on"
    if floor >= _HOPELESS:
        return f"the sides scatter so much that of half of the rows nothing can be told; {one}"
    return (
        "the sides scatter, so half of the rows prove a change only from a factor of "
        f"{1 + floor:.2f} on; {one}"
    )


def _summary(
    rows: Sequence[ComparedRow],
    counts: Counter[Change],
    compared: int,
    fail_on: float | None,
    regressions: int,
) -> str:
    if not compared:
        return (
            f"nothing could be compared: {_rows(len(rows))}, none measured on both sides alike"
            if rows else "nothing could be compared: there are no rows"
        )  # fmt: skip
    parts = [
        f"{counts['slower']} slower",
        f"{counts['faster']} faster",
        f"{counts['~']} without a proven change",
        f"{counts['ambiguous']} ambiguous",
    ]
    text = f"{_rows(compared)} compared: {', '.join(parts)}"
    if fail_on is not None:
        noun = "regression" if regressions == 1 else "regressions"
        text += f"; {regressions or 'no'} {noun} of {fail_on * 100:.3g}% or more"
    return text


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
