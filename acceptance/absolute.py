"""Does it reach what its kind reaches: each headline held against the device's own peak."""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.acceptance.checks import device_of, finding
from roofprobe.records.ceilings import ceiling_for
from roofprobe.records.schema import Finding, Run

# A headline below this share of its derived peak deserves a look. They are wide on purpose: bands
# learnt from reference runs take their place where there are such runs.
_SUSPICIOUS_SHARE = {"compute": 0.35, "memory": 0.5}
_CODES = {"compute": "RP-COMPUTE", "memory": "RP-BANDWIDTH"}


def absolute(run: Run) -> Iterator[Finding]:
    """Yield a finding for each headline whose device has a derived peak."""
    sources = {(m.device_id, m.case.case_id): m for m in run.measurements if m.status == "ok"}
    for headline in run.headlines:
        source = sources.get((headline.device_id, headline.case_id))
        if headline.share_derived is None or source is None:
            continue
        if source.case.engine == "copy-engine":
            continue
        derived = ceiling_for(source, "derived", run.ceilings)
        # A peak that rests on assumptions (a processor's, at a clock it may exceed) judges nothing.
        if derived is None or derived.assumed:
            continue
        bound = _SUSPICIOUS_SHARE.get(headline.family)
        if bound is None:
            continue
        low = headline.share_derived < bound
        yield finding(
            _CODES[headline.family], "warn" if low else "pass",
            f"{headline.label} reaches {headline.share_derived:.0%} of its derived peak"
            + (f", less than {bound:.0%}: something holds it back" if low else ""),
            device=device_of(run, headline.device_id), case_id=headline.case_id,
            figure=headline.share_derived, bound=bound, unit="share of the derived peak",
        )  # fmt: skip
