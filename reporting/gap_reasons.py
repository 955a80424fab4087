"""Why a gap is not attributed, and why a pipe alone is not shown, where that has a reason.

A factor that a neighbour took would be told as the pipe's or the feeding's loss, so nothing is
attributed to a disturbed figure; and a pipe that came out slower than the product on it is no
ceiling of that product.
"""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.records.disturbed import is_disturbed
from roofprobe.records.headlines import pipe_of
from roofprobe.records.schema import Headline, Measurement, Run
from roofprobe.reporting.compute_tables import rows_of
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.tables import headlines_of


def gap_reasons(run: Run, device_id: str) -> tuple[str, ...]:
    """Return a sentence for each reason for which compute lines lack their gap or their pipe."""
    return tuple(_reasons(run, device_id))


def _reasons(run: Run, device_id: str) -> Iterator[str]:
    lines = list(_with_a_pipe(run, device_id))
    untold = [
        clean(headline.label)
        for headline, product, pipe in lines
        if headline.attribution is None and (is_disturbed(product) or is_disturbed(pipe))
    ]
    if untold:
        yield (
            f"No gap is attributed for {', '.join(untold)}: others used the processor while the "
            "product or the pipe alone was measured, and what they took would be told as a loss. "
            "Repeat on an idle host."
        )
    slower = [
        (headline, pipe)
        for headline, product, pipe in lines
        if headline.pipe_rate is None and pipe is not product
    ]
    if slower:
        labels = ", ".join(clean(headline.label) for headline, _ in slower)
        others = any(is_disturbed(pipe) for _, pipe in slower)
        why = ", measured while others used the processor," if others else ""
        yield (
            f"No pipe is shown beside {labels}: the pipe alone{why} came out slower than the "
            "product, so it is no ceiling: no gap and no share of it are told."
        )


def _with_a_pipe(run: Run, device_id: str) -> Iterator[tuple[Headline, Measurement, Measurement]]:
    """Yield each compute line with what it rests on and its pipe alone, where both are there."""
    rows = rows_of(run, device_id)
    for headline in headlines_of(run, device_id, "compute"):
        members = [m for m in rows.get(headline.label, ()) if m.status == "ok"]
        product = next((m for m in members if m.case.case_id == headline.case_id), None)
        pipe = pipe_of(members)
        if product is not None and pipe is not None:
            yield headline, product, pipe
