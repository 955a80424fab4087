"""How much of its bulk a report shows, so that the report of a large host still opens at once.

A run of eight GPUs has 16,000 measurements and 25,000 looks of searches: as tables 13 MB, which
no one reads and a phone does not open. Three ways were weighed. Leaner markup alone does not
suffice: a row with the name of its kernel is 400 bytes however it is written. Data that a script
unfolds leaves nothing without the script, and is still megabytes. So a page has a budget, shared by
its devices: a run of one device stays whole, of a large host the page has what the results stand on
and the fastest of every kind, and says where the rest lies, in ``measurements.csv`` and
``run.json``, which are made for sorting and filtering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from roofprobe.acceptance.verdict.judge import verdict_of
from roofprobe.records.schema import Headline, Measurement, Run


@dataclass(frozen=True, slots=True)
class Budget:
    """How many rows and pictures there may be of what a report folds away."""

    measurements: int
    looks: int
    search_figures: int
    map_figures: int
    exhibit_figures: int


PAGE: Final = Budget(
    measurements=1_600, looks=1_400, search_figures=12, map_figures=12, exhibit_figures=20
)


def share_of(n_devices: int, page: Budget = PAGE) -> Budget:
    """Return the even share of each device.

    Pictures are there or not: of eight devices each would draw one map of its four or so, which
    only looks as if the others had not been measured. Their tables are always there.
    """
    shares = {each.name: getattr(page, each.name) // max(1, n_devices) for each in _FIELDS}
    for pictures in ("search_figures", "map_figures", "exhibit_figures"):
        if shares[pictures] < _FEWEST_PICTURES:
            shares[pictures] = 0
    return Budget(**shares)


_FIELDS: Final = fields(Budget)
_FEWEST_PICTURES: Final = 3


def chosen(
    run: Run, device_id: str, measurements: Sequence[Measurement], most: int
) -> tuple[Measurement, ...]:
    """Return at most ``most`` of a device's ``measurements``, in the order of the run.

    First what headlines and adverse findings stand on and what failed or cannot be true; then the
    fastest of each kind (family, operation, row, role), the second of each, and so on; last what
    was skipped, which the report tells by its reasons.
    """
    if len(measurements) <= most:
        return tuple(measurements)
    needed = _stood_on(run, device_id)
    order = sorted(measurements, key=lambda m: -m.rate.median if m.rate else 0.0)
    seen: dict[tuple[str, ...], int] = {}
    ranks: dict[int, tuple[int, int]] = {}
    for m in order:
        case = m.case
        kind = (case.family, case.op, case.row or case.precision, case.role)
        place = seen[kind] = seen.get(kind, -1) + 1
        first = case.case_id in needed or m.status in ("failed", "invalid")
        ranks[id(m)] = (0 if first else 2 if m.status == "skipped" else 1, place)
    kept = {id(m) for m in sorted(measurements, key=lambda m: ranks[id(m)])[:most]}
    return tuple(m for m in measurements if id(m) in kept)


def _stood_on(run: Run, device_id: str) -> set[str | None]:
    def cases(headline: Headline) -> tuple[str | None, str | None]:
        return headline.case_id, headline.settled_case_id

    found = [f for f in verdict_of(run).findings if f.judgement != "pass"]
    own = (headline for headline in run.headlines if headline.device_id == device_id)
    return {
        *(case_id for headline in own for case_id in cases(headline)),
        *(finding.case_id for finding in found if finding.device_id in (None, device_id)),
    }
