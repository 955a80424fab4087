"""How the best shape of a row was found: the search in one line, and every look that it took."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from roofprobe.records.schema import Measurement, Run, Search, SearchStep
from roofprobe.records.titles import title_of
from roofprobe.reporting import numbers
from roofprobe.reporting.compute_tables import rows_of
from roofprobe.reporting.marks import marked
from roofprobe.reporting.naming import triple_text
from roofprobe.reporting.plain_text import clean


@dataclass(frozen=True, slots=True)
class StepRow:
    """One look at one shape; ``score`` is the rate with the device's drift taken out."""

    stage: str
    shape: str
    rate: str
    score: str
    drift: str
    at: str
    failure: str


@dataclass(frozen=True, slots=True)
class SearchRow:
    """One search: how it went, what it found, and how far above the anchor shape that is."""

    label: str
    title: str
    route: str
    method: str
    sentence: str
    candidates: str
    looks: str
    untried: str
    budget: str
    elapsed: str
    anchor: str
    best: str
    rate: str
    gain: str
    steps: tuple[StepRow, ...]


def searches_of(run: Run, device_id: str) -> tuple[tuple[str, Measurement, Search], ...]:
    """Return each search of a device with the label of its row, in the run's order."""
    return tuple(
        (label, m, m.search)
        for label, members in rows_of(run, device_id).items()
        for m in members
        if m.search is not None
    )


def search_rows(run: Run, device_id: str, most_looks: int | None = None) -> tuple[SearchRow, ...]:
    """Return the searches of a device, in all with about ``most_looks`` of their looks.

    Of each the last are kept, among which the best shape was decided.
    """
    found = searches_of(run, device_id)
    each = None if most_looks is None else max(1, most_looks // max(1, len(found)))
    return tuple(_search_row(label, m, search, each) for label, m, search in found)


def gain_over_anchor(search: Search) -> float | None:
    """Return the best shape's rate over the median of all looks at the anchor shape.

    Both come from the same search, so clocks and neighbours were the same; None without an anchor.
    """
    seen = [s.tflops for s in search.steps if s.shape == search.anchor and s.tflops]
    if not seen or search.best_tflops is None:
        return None
    return search.best_tflops / median(seen)


def _search_row(label: str, m: Measurement, search: Search, most: int | None) -> SearchRow:
    unit = unit_of(m)
    return SearchRow(
        label=clean(label),
        title=clean(title_of(m.case)),
        route=clean(search.route),
        method=clean(search.method),
        sentence=clean(search.sentence),
        candidates=f"{search.candidates} ({search.pruned} pruned)",
        looks=str(len(search.steps)),
        untried=str(len(search.untried)),
        budget=numbers.seconds(search.budget_s),
        elapsed=numbers.seconds(search.elapsed_s),
        anchor=triple_text(search.anchor),
        best=triple_text(search.best),
        rate=marked(numbers.rate(search.best_tflops, unit), m),
        gain=marked(numbers.gain(gain_over_anchor(search)), m),
        steps=tuple(_step_row(step, unit) for step in search.steps[-(most or 0) :]),
    )


def unit_of(m: Measurement) -> str:
    """Return the unit of the rates that a search saw: integer products are TOPS."""
    if m.rate is not None:
        return m.rate.unit
    return "TOPS" if m.case.precision.startswith("int") else "TFLOPS"


def _step_row(step: SearchStep, unit: str) -> StepRow:
    return StepRow(
        stage=clean(step.stage),
        shape=triple_text(step.shape),
        rate=clean(numbers.rate(step.tflops, unit)),
        score=clean(numbers.rate(step.score, unit)),
        drift=numbers.gain(step.anchor_ratio),
        at=f"{step.at_s:.1f} s",
        failure=clean(step.failure) if step.failure else "",
    )
