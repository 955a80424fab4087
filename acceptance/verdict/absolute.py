"""Does it reach what its kind reaches: the best figure of each precision and stream against a band.

A figure is held against the datasheet's peak, since that is what a card is sold by, or against the
derived peak where the catalogue prints none. What is judged is what the user gets, at the clock
that the device ran at; why it is low is told beside it. With f the clock while it ran and P(f) what
the units could do at that clock: a figure that is a good share of P(f) was slow because f was low
(power, heat, a limit), one that is a poor share of P(f) was slow at its clock (another kernel,
another load, a fault).

Of the rows of one precision the best counts: a route or a scaling that is slow says something about
software. A processor has only an assumed peak, and a card that the catalogue does not have no band:
only a reference judges them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from roofprobe.acceptance.bands import Band, Kind, load_bands
from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.verdict.subject import Subject, subjects
from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.derive import has_inline_ecc, inline_ecc_payload_gbps
from roofprobe.records.ceilings import ceiling_for
from roofprobe.records.schema import Case, Ceiling, Device, Finding, Headline, Measurement, Run
from roofprobe.records.wording import rate_words

_CODES = {"compute": "RP-COMPUTE", "memory": "RP-BANDWIDTH"}
_BY_REFERENCE = "its speed is held against the reference alone (RP-REFERENCE)"
_KIND_WORDS: Mapping[Kind, str] = {"dense": "", "sparse": " 2:4 sparse", "vector": " vector pipe"}


@dataclass(frozen=True, slots=True)
class _Held:
    """A headline held against its band: what it is a share of, and in which words."""

    headline: Headline
    what: str
    band: Band
    share: float
    peak: float
    basis: str


def absolute(run: Run, *, has_reference: bool = False) -> Iterator[Finding]:
    """Yield a finding for each precision and streaming kernel of each device that has a band.

    Without a band it is only told what judges instead: an earlier run, or, where the run
    ``has_reference``, that.
    """
    sources = {(m.device_id, m.case.case_id): m for m in run.measurements if m.status == "ok"}
    for device in run.devices:
        if device.backend == "cpu":
            yield finding(
                "RP-COMPUTE", "unknown",
                "A processor has no datasheet, only an assumed peak: "
                + (_BY_REFERENCE if has_reference else
                   "an earlier run of it judges its speed (--against)"),
                device=device, required=False,
                remedy=None if has_reference else "probe check RUN --against EARLIER_RUN",
            )  # fmt: skip
    for subject in subjects(run):
        if subject.row is None:
            yield finding(
                "RP-COMPUTE", "unknown",
                "No catalogue row says what this device should reach: "
                + (_BY_REFERENCE if has_reference else
                   "an earlier run of it does, with --against"),
                device=subject.device, required=False,
                remedy=("add a row: docs/adding-a-gpu.md" if has_reference else
                        "probe check RUN --against EARLIER_RUN, or add a row: "
                        "docs/adding-a-gpu.md"),
            )  # fmt: skip
            continue
        yield from _of_device(run, subject, subject.row, sources)


def _of_device(
    run: Run,
    subject: Subject,
    row: Accelerator,
    sources: Mapping[tuple[str, str], Measurement],
) -> Iterator[Finding]:
    best: dict[tuple[str, str], _Held] = {}
    for headline in run.headlines:
        source = sources.get((headline.device_id, headline.case_id))
        if headline.device_id != subject.device.device_id or source is None:
            continue
        held = _held(headline, source, subject.device, row, run.ceilings)
        if held is None:
            continue
        key = headline.family, held.what
        if key not in best or held.share > best[key].share:
            best[key] = held
    for held in best.values():
        yield _judged(subject.device, held)
    for family, code in _CODES.items():
        asked = family in run.options.families
        if asked and family not in {family for family, _ in best}:
            yield finding(
                code, "unknown",
                f"No valid {family} figure could be held against {row.name}",
                device=subject.device, required=not run.options.precisions,
                remedy="see why in the record: probe show RUN --full",
            )  # fmt: skip


def _held(
    headline: Headline,
    source: Measurement,
    device: Device,
    row: Accelerator,
    ceilings: tuple[Ceiling, ...],
) -> _Held | None:
    case, bands = source.case, load_bands()
    peak, words = headline.datasheet, "datasheet's"
    if peak is None:
        derived = ceiling_for(source, "derived", ceilings)
        if derived is None or derived.assumed:
            return None  # what rests on assumptions judges nothing
        peak, words = derived.value, "derived"
    if headline.family == "compute":
        kind = _kind_of(case)
        if kind is None:
            return None
        band: Band | None = bands.of_compute(row.key, row.rate_class, headline.precision, kind)
        what = f"{headline.precision}{_KIND_WORDS[kind]}"
        basis = f"the {words} {'sparse' if kind == 'sparse' else 'dense'} peak"
        if kind == "vector":
            basis = f"the {words} peak of the vector pipe"
    elif headline.family == "memory":
        if case.engine != "units" or case.level is not None:
            return None
        band = bands.of_memory(row.key, row.rate_class, case.op)
        what = case.op
        basis = f"the {words} bandwidth"
        if device.limits.ecc_enabled and has_inline_ecc(row.mem_type):
            peak = inline_ecc_payload_gbps(peak)
            basis += ", of which inline ECC leaves 8/9"
    else:
        return None
    if band is None:
        return None
    return _Held(headline, what, band, headline.rate.median / peak, peak, basis)


def _kind_of(case: Case) -> Kind | None:
    """Return which peak a compute headline is about; None for the tensor pipe's own rate."""
    if case.sparsity is not None:
        return "sparse" if case.role != "pipe" else None
    if case.pipe == "vector":
        return "vector"
    return "dense" if case.role != "pipe" else None


def _judged(device: Device, held: _Held) -> Finding:
    headline, band = held.headline, held.band
    failed = band.fail_below is not None and held.share < band.fail_below
    warned = held.share < band.warn_below
    rate = rate_words(headline.rate.median, headline.rate.unit)
    peak = rate_words(held.peak, headline.rate.unit)
    sentence = f"{held.what} reaches {rate}, {held.share:.0%} of {held.basis} ({peak})"
    bound = band.fail_below if failed and band.fail_below is not None else band.warn_below
    if warned:
        sentence += f", less than {bound:.0%}{_why(device, headline, band)}"
    return finding(
        _CODES[headline.family], "fail" if failed else "warn" if warned else "pass", sentence,
        device=device, case_id=headline.case_id, figure=held.share, bound=bound,
        unit=f"share of {held.basis}", bound_source=band.reference,
    )  # fmt: skip


def _why(device: Device, headline: Headline, band: Band) -> str:
    """Say whether the clock was low or the work slow at its clock."""
    if headline.family != "compute":
        return ""
    share, clock = headline.share_clock_normalised, headline.sm_clock_mhz
    if share is None or not clock:
        return ": its clock was not told, so whether clock or work is the cause stays open"
    highest = device.limits.max_sm_clock_mhz
    at = f"at {clock:.0f} MHz" + (f" of up to {highest:.0f}" if highest else "")
    if share >= band.warn_below:
        return (
            f": its clock was low ({at}; at that clock it does {share:.0%} of what its units can), "
            "so power, heat or a limit holds it back"
        )
    return f": it is slow at its clock ({at}, {share:.0%} of what its units can do there)"
