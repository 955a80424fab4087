"""A narrower format that is slower than a wider one: the sign of a silent fallback.

Each step from FP32 to 16-bit to 8-bit formats exists because hardware does more of them per clock.
Where a device has that hardware and the narrower format is slower all the same, something slow
stands in for it: operands converted on the way, a generic kernel, the ordinary pipe. The result is
right and the clock is right, so nothing else tells.

A device's own derived peaks say whether it should be faster at all: Blackwell Ultra has little INT8
left, and a processor without the instructions emulates a format. Where they do not say that the
narrower format gains, nothing is expected of it; only a GPU whose peaks are unknown is held to the
ordinary expectation.

A figure that was measured while others were at work is only a lower bound: a narrower format that
is slower then accuses nobody, and one that beats a disturbed wider format proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from roofprobe.acceptance.checks import finding
from roofprobe.records.ceilings import ceiling_for
from roofprobe.records.disturbed import is_disturbed
from roofprobe.records.schema import Ceiling, Device, Finding, Headline, Measurement, Run
from roofprobe.records.wording import rate_words

# The format that each should beat, by precision.
WIDER: dict[str, str] = {"bf16": "fp32", "fp16": "fp32", "fp8": "bf16", "int8": "bf16"}

# A derived peak must promise this much more before its absence is worth a finding.
_PROMISED_GAIN = 1.5


@dataclass(frozen=True, slots=True)
class _Pair:
    """A narrower format beside the wider one that it should beat, where anything says so."""

    narrow: Headline
    wide: Headline
    expected: bool
    slower: bool  # the confidence intervals are apart
    disturbed: str | None  # the label of the figure that decides, where others held it down


def slow_formats(run: Run) -> Iterator[Finding]:
    """Yield a warning for each row whose format is slower than the one that it should beat.

    Both figures are bursts of dense matrix products; their confidence intervals must be apart.
    Where others were at work during the figure that decides, the answer is unknown.
    """
    for device in run.devices:
        for pair in _pairs(run, device):
            if pair.expected and pair.disturbed is not None:
                yield _untold(device, pair, pair.disturbed)
            elif pair.expected and pair.slower:
                yield _finding(device, pair.narrow, pair.wide)


def no_slow_formats(run: Run, device: Device) -> str | None:
    """Say which formats beat the wider one, and of which nothing was expected; None of none."""
    pairs = _pairs(run, device)
    held = [pair for pair in pairs if pair.expected and not pair.slower and not pair.disturbed]
    if not held:
        return None
    aside = [pair for pair in pairs if not pair.expected]
    told = f"No narrower format is slower than the wider one that it should beat: {_names(held)}"
    if aside:
        told += f" (aside: {_names(aside)}, since no peak says that this device gains from them)"
    return told


def _names(pairs: Sequence[_Pair]) -> str:
    return ", ".join(dict.fromkeys(pair.narrow.label for pair in pairs))


def _pairs(run: Run, device: Device) -> list[_Pair]:
    """Return each dense product of the device beside the first of the wider format."""
    sources = {(m.device_id, m.case.case_id): m for m in run.measurements if m.status == "ok"}
    products: list[tuple[Headline, Measurement]] = []
    for headline in run.headlines:
        source = sources.get((headline.device_id, headline.case_id))
        own = source is not None and headline.device_id == device.device_id
        if source is not None and own and _is_dense_product(source):
            products.append((headline, source))
    pairs = []
    for narrow, source in products:
        wider_name = WIDER.get(narrow.precision)
        found = next((each for each in products if each[0].precision == wider_name), None)
        if found is None:
            continue
        wide, beside = found
        slower = narrow.rate.ci_high < wide.rate.ci_low
        decides, measured = (narrow, source) if slower else (wide, beside)
        pairs.append(
            _Pair(
                narrow=narrow,
                wide=wide,
                expected=_should_gain(device, source, beside, run.ceilings),
                slower=slower,
                disturbed=decides.label if is_disturbed(measured) else None,
            )
        )
    return pairs


def _is_dense_product(source: Measurement) -> bool:
    case = source.case
    product = case.family == "compute" and case.role != "pipe" and case.sparsity is None
    return product and case.regime == "burst"


def _should_gain(
    device: Device, narrow: Measurement, wide: Measurement, ceilings: tuple[Ceiling, ...]
) -> bool:
    above = ceiling_for(narrow, "derived", ceilings)
    below = ceiling_for(wide, "derived", ceilings)
    if above is not None and below is not None:
        return above.value >= _PROMISED_GAIN * below.value
    return device.backend != "cpu" and above is None and below is None


def _finding(device: Device, narrow: Headline, wide: Headline) -> Finding:
    return finding(
        "RP-SLOW-FALLBACK", "warn",
        f"{narrow.label} reaches {rate_words(narrow.rate.median, narrow.rate.unit)}, less than "
        f"the {rate_words(wide.rate.median, wide.rate.unit)} of {wide.label}, which it should "
        "beat: something slow stands in for it",
        device=device, case_id=narrow.case_id, figure=narrow.rate.median, bound=wide.rate.median,
        unit=narrow.rate.unit, bound_source=f"{wide.label} in the same run",
    )  # fmt: skip


def _untold(device: Device, pair: _Pair, disturbed: str) -> Finding:
    narrow, wide = pair.narrow, pair.wide
    return finding(
        "RP-SLOW-FALLBACK", "unknown",
        f"Others were at work while {disturbed} was measured, so its figure is too low to hold "
        f"{narrow.label} ({narrow.rate.median:.4g} {narrow.rate.unit}) against {wide.label} "
        f"({wide.rate.median:.4g} {wide.rate.unit})",
        device=device, case_id=narrow.case_id, required=False,
        remedy="repeat on an idle host",
    )  # fmt: skip
