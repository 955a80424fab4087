"""Find the shape of a matrix product that a device does fastest, in a fraction of brute force.

Brute force measures every shape equally long, most of that time on shapes that were never in the
running. Here every shape gets one very short turn first, the better third three times as much, and
so on (successive halving, here by three), so that each rung costs about the same and precision is
spent where it decides. Then the neighbours of the best are tried, and the last few shapes are timed
in turns, forwards and backwards, until the budget is used.

Three things would spoil short turns. The device drifts: what is measured later on a warm device
would lose against what was measured early, so scores are corrected by an anchor shape
(``search_path``). Now and then a turn is disturbed: so from the second rung on a shape has three
turns, far apart in time, and what counts is the median, in which long turns weigh more. And the
maximum of many noisy figures is a lucky one: so the figure of the winner comes from the final
alone, whose readings had no part in choosing the finalists.

The device is a black box that is asked for one rate at a time. The seed decides the order of
measurement and nothing else is random: on a device that gives the same figures and takes the same
time, the same seed goes the same path.

Method: Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter
optimization", 2016.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Iterable, Sequence

from roofprobe.probes.candidates import Shape, Space, flops
from roofprobe.probes.search_path import Bench, CandidateFailed, Clock, Found, Ledger, Step
from roofprobe.probes.search_turns import MIN_SECONDS, Run

__all__ = [
    "Bench",
    "CandidateFailed",
    "Found",
    "Step",
    "compare",
    "exhaustive",
    "grid",
    "halving",
]

KEEP_ONE_IN = 3
FINALISTS = 3
TURNS = 3  # per shape and rung, from the second rung on
ANCHOR_EVERY = 6
FINAL_ROUNDS = 5
MAX_MOVES = 6  # a search that keeps moving follows noise
# Where the budget is spent; a stage that ends early leaves its rest to the later ones.
_RUNGS_UNTIL = 0.65
_REFINE_UNTIL = 0.80
_FIRST_RUNG_UNTIL = 0.55  # when even the shortest turns exceed the first rung's share


def halving(
    space: Space,
    bench: Bench,
    budget_s: float,
    seed: int,
    now: Clock = time.monotonic,
    anchor_every: int | None = ANCHOR_EVERY,
) -> Found:
    """Return the fastest shape of ``space`` that ``budget_s`` seconds on ``bench`` can find.

    The budget is exceeded by at most one measurement; shapes that got no turn within it are in
    ``untried``. Failures of shapes are recorded and never end the search; when all fail,
    ``best`` is None. ``anchor_every`` is the number of shapes between two readings of the anchor
    (None: no anchor, scores are rates). Raises ``ValueError`` for a budget that is not positive.
    """
    if budget_s <= 0:
        raise ValueError(f"the budget must be positive, got {budget_s} s")
    run = Run(Ledger(bench, now), budget_s, anchor_every)
    order = random.Random(seed)
    first = _first(run, space.shapes)
    if first is not None and anchor_every:
        run.anchors = (first,)
    late, turn_s = _rungs(run, space.shapes, order)
    late = _refine(run, space, late, turn_s, order)
    best, best_tflops = _final(run, run.ranked(late)[:FINALISTS])
    tried = {reading.shape for reading in run.ledger.readings}
    return Found(
        method="successive halving",
        seed=seed,
        budget_s=budget_s,
        elapsed_s=run.ledger.elapsed_s,
        sentence=space.sentence,
        pruned=space.pruned,
        anchor=next(iter(run.anchors), None),
        best=best,
        best_tflops=best_tflops,
        steps=run.ledger.steps(),
        untried=tuple(shape for shape in space.shapes if shape not in tried),
    )


def exhaustive(
    space: Space, bench: Bench, seconds_per_shape: float, now: Clock = time.monotonic
) -> Found:
    """Measure every shape of ``space`` for ``seconds_per_shape``, in order: brute force.

    The best is the highest rate seen, uncorrected, as such searches report it.
    """
    ledger = Ledger(bench, now)
    readings = [ledger.measure("grid", shape, seconds_per_shape) for shape in space.shapes]
    rates = [(reading.tflops, reading.shape) for reading in readings if reading.tflops]
    best_tflops, best = max(rates, default=(None, None))
    return Found(
        method="exhaustive",
        seed=None,
        budget_s=None,
        elapsed_s=ledger.elapsed_s,
        sentence=space.sentence,
        pruned=space.pruned,
        anchor=None,
        best=best,
        best_tflops=best_tflops,
        steps=ledger.steps(),
        untried=(),
    )


def grid(ms: Iterable[int], ns: Iterable[int], ks: Iterable[int]) -> Space:
    """Return the space of all m × n × k, k innermost, without limits to leave it by."""
    axes = [tuple(dict.fromkeys(axis)) for axis in (ms, ns, ks)]
    shapes = tuple((m, n, k) for m in axes[0] for n in axes[1] for k in axes[2])
    counts = " × ".join(str(len(axis)) for axis in axes)
    return Space(f"{len(shapes)} shapes: a grid of {counts}.", shapes, 0)


def compare(
    shapes: Sequence[Shape], bench: Bench, rounds: int, seconds: float
) -> dict[Shape, tuple[float, ...]]:
    """Measure ``shapes`` in turns and return each one's TFLOPS per round.

    Odd rounds go backwards, so that a steady drift favours none. A shape that fails in one round
    raises ``CandidateFailed``: a comparison needs every reading.
    """
    rates: dict[Shape, list[float]] = {shape: [] for shape in shapes}
    for index in range(rounds):
        for shape in _there_and_back(list(rates), index):
            rates[shape].append(bench.measure(shape, seconds))
    return {shape: tuple(values) for shape, values in rates.items()}


def _first(run: Run, shapes: Sequence[Shape]) -> Shape | None:
    """Return the anchor: the cube, else the shape, of middling cost that can be measured.

    Middling, so that it loads the device as the others do and costs little. Its first two readings
    give the rate that costs are predicted from and count for nothing else: the first one is cold.
    """
    middle = statistics.median(math.log(flops(shape)) for shape in shapes) if shapes else 0.0
    by_aptness = sorted(
        shapes, key=lambda s: (len(set(s)) > 1, abs(math.log(flops(s)) - middle), s)
    )
    for shape in by_aptness:
        if run.until(1.0) <= 0:
            break
        if run.ledger.measure("first", shape, MIN_SECONDS).tflops is not None:
            if run.until(1.0) > 0:
                run.ledger.measure("first", shape, MIN_SECONDS)
            return shape
    return None


def _rungs(run: Run, shapes: Sequence[Shape], order: random.Random) -> tuple[list[Shape], float]:
    """Give all shapes one short turn, the better third three longer ones, and so on.

    Returns the shapes of the last rung, and how many seconds a turn had in it.
    """
    failed = {reading.shape for reading in run.ledger.readings if reading.failure}
    left = [shape for shape in shapes if shape not in failed]
    rungs = max(1, math.ceil(math.log(max(len(left), 1) / FINALISTS, KEEP_ONE_IN)))
    seconds = MIN_SECONDS
    for number in range(1, rungs + 1):
        if not left:
            break
        turns = _shuffled(left, 1 if number == 1 else TURNS, order)
        allotted_s = run.until(_RUNGS_UNTIL) / (rungs + 1 - number)
        seconds = run.affordable_s(run.with_anchors(turns), allotted_s)
        share = _FIRST_RUNG_UNTIL if number == 1 < rungs else _RUNGS_UNTIL
        stage = f"rung {number}"
        if not run.measure_all(stage, turns, seconds, share):
            break
        if number == 1:  # one turn is all that these had so far; a second settles it
            again = run.unsteady(stage)
            run.measure_all(stage, _shuffled(again, 1, order), seconds, share)
        ranked = run.ranked(left)
        left = ranked[: max(FINALISTS, math.ceil(len(left) / KEEP_ONE_IN))]
    return left, seconds


def _refine(
    run: Run, space: Space, late: Sequence[Shape], turn_s: float, order: random.Random
) -> list[Shape]:
    """Climb from the best shape to better neighbours until none is better, or time is up.

    Returns the shapes of the last rung and those tried here.
    """
    known = {reading.shape for reading in run.ledger.readings if reading.failure} | set(late)
    shapes = list(late)
    for _ in range(MAX_MOVES):
        ranked = run.ranked(shapes)
        if not ranked:
            break
        fresh = [shape for shape in space.neighbours(ranked[0]) if shape not in known]
        turns = _shuffled(fresh, TURNS, order)
        affordable_s = run.affordable_s(run.with_anchors(turns), run.until(_REFINE_UNTIL) / 2)
        run.measure_all("refine", turns, min(turn_s, affordable_s), _REFINE_UNTIL)
        known.update(fresh)
        shapes += fresh
        if run.ranked(shapes)[0] == ranked[0]:
            break
    return shapes


def _final(run: Run, finalists: Sequence[Shape]) -> tuple[Shape | None, float | None]:
    """Time the finalists in turns; return the one with the best median, and that median."""
    # A little is held back: a last round that comes out longer than predicted would be lost.
    planned = [*list(finalists) * FINAL_ROUNDS, *run.anchors, *run.anchors]
    seconds = run.affordable_s(planned, 0.95 * run.until(1.0))
    rates: dict[Shape, list[float]] = {shape: [] for shape in finalists}
    run.measure_anchor(seconds, 1.0)
    for index in range(FINAL_ROUNDS):
        if run.predicted_s([*finalists, *run.anchors], seconds) > run.until(1.0):
            break
        for shape in _there_and_back(finalists, index):
            if run.until(1.0) <= 0:  # the device has become slower than predicted
                break
            reading = run.ledger.measure("final", shape, seconds)
            if reading.tflops is not None:
                rates[shape].append(reading.tflops)
    run.measure_anchor(seconds, 1.0)
    medians = [(statistics.median(values), shape) for shape, values in rates.items() if values]
    if not medians:
        return _without_final(run, finalists)
    best_tflops, best = max(medians)
    return best, best_tflops


def _without_final(run: Run, ranked: Sequence[Shape]) -> tuple[Shape | None, float | None]:
    """Return the first of the ranking and its last rate, or else all that was measured."""
    rates = {r.shape: r.tflops for r in run.ledger.readings if r.tflops is not None}
    best = next(iter([*ranked, *rates]), None)
    return (None, None) if best is None else (best, rates[best])


def _shuffled(shapes: Sequence[Shape], turns: int, order: random.Random) -> list[Shape]:
    """Return every shape ``turns`` times: all of them once in a random order, then again."""
    return [shape for _ in range(turns) for shape in order.sample(shapes, len(shapes))]


def _there_and_back(shapes: Sequence[Shape], index: int) -> list[Shape]:
    return list(shapes) if index % 2 == 0 else list(reversed(shapes))
