"""A narrower format that is slower than a wider one: the sign of a silent fallback.

Each step from FP32 to 16-bit to 8-bit formats exists because hardware does more of them per clock.
Where a device has that hardware and the narrower format is slower all the same, something slow
stands in for it: operands converted on the way, a generic kernel, the ordinary pipe. The result is
right and the clock is right, so nothing else tells.

A device's own derived peaks say whether it should be faster at all: Blackwell Ultra has little INT8
left, and a processor without the instructions emulates a format. Where they do not say that the
narrower format gains, nothing is expected of it; only a GPU whose peaks are unknown is held to the
ordinary expectation.
"""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.acceptance.checks import finding
from roofprobe.records.ceilings import ceiling_for
from roofprobe.records.schema import Ceiling, Device, Finding, Headline, Measurement, Run
from roofprobe.records.wording import rate_words

# The format that each should beat, by precision.
WIDER: dict[str, str] = {"bf16": "fp32", "fp16": "fp32", "fp8": "bf16", "int8": "bf16"}

# A derived peak must promise this much more before its absence is worth a finding.
_PROMISED_GAIN = 1.5


def slow_formats(run: Run) -> Iterator[Finding]:
    """Yield a warning for each row whose format is slower than the one that it should beat.

    Both figures are bursts of dense matrix products; their confidence intervals must be apart.
    """
    sources = {(m.device_id, m.case.case_id): m for m in run.measurements if m.status == "ok"}
    for device in run.devices:
        products: list[tuple[Headline, Measurement]] = []
        for headline in run.headlines:
            source = sources.get((headline.device_id, headline.case_id))
            own = source is not None and headline.device_id == device.device_id
            if source is not None and own and _is_dense_product(source):
                products.append((headline, source))
        for narrow, source in products:
            wider_name = WIDER.get(narrow.precision)
            wide = next((pair for pair in products if pair[0].precision == wider_name), None)
            if wide is None or narrow.rate.ci_high >= wide[0].rate.ci_low:
                continue
            if _should_gain(device, source, wide[1], run.ceilings):
                yield _finding(device, narrow, wide[0])


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
