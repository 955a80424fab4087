"""The record of a comparison of two sides: what ``probe compare --json`` prints.

A *side* is one run or several; a *row* is a case on a pair of devices, one of each side. Ratios are
time of B over time of A: 1.10 is 10 % slower in B. What could not be compared stays in the record
with its reasons; an absent figure is absent, never zero. ``floor`` is the least change (of the
ratio, 0.05 is 5 %) that would have counted as proven in that row, so that "no change" never says
more than was seen.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from roofprobe.records.schema import Family, NonNegative, Positive, Reason, Record, Role, Status

COMPARISON_VERSION: Literal[1] = 1

Change = Literal["faster", "slower", "~", "ambiguous", "only-a", "only-b", "not-comparable"]
Pairing = Literal["same-device", "same-kind-and-index", "different-devices", "unpaired"]
# What a row's change follows from: another clock (power, heat), or other cycles (kernel, memory,
# neighbours). Absent where no clock was counted on both sides.
Cause = Literal["clock", "cycles"]
SIMULATED: Final = "simulated"  # the code of the warning that nothing of a side was measured
JUDGED: tuple[Change, ...] = ("faster", "slower", "~", "ambiguous")


class Remark(Record):
    """A warning about the comparison, or something seen in many rows at once, with its numbers.

    ``pair`` is the index of the pair of devices that it is about; absent, it is about all.
    """

    code: str
    sentence: str
    pair: int | None = None
    figures: dict[str, float] = Field(default_factory=dict)


class Side(Record):
    """One side: where it was read from, and its runs in the order of their start."""

    path: str
    runs: tuple[str, ...]


class DevicePair(Record):
    """Devices that are held against each other, and by what they were paired.

    Ids are several where runs on devices of one kind are pooled; empty on a side without one.
    """

    a: tuple[str, ...]
    b: tuple[str, ...]
    name_a: str | None = None
    name_b: str | None = None
    backend: str
    pairing: Pairing
    sentence: str


class SideFigure(Record):
    """What one side measured in a row: the median time over all its runs, with a 95 % interval.

    ``unit`` is ``us`` per launch, or ``ns`` per load of a pointer chase. With several runs the
    median is that of the runs' medians, the interval spans them. ``status`` is ``ok`` where
    at least one run measured it; else that of the last run, with its reason.
    """

    status: Status
    reason: Reason | None = None
    runs: int = Field(ge=0)
    n: int = Field(ge=0)
    unit: Literal["us", "ns"] = "us"
    median: NonNegative | None = None
    ci_low: NonNegative | None = None
    ci_high: NonNegative | None = None
    rate: NonNegative | None = None
    rate_unit: str | None = None
    clock_mhz: Positive | None = None


class ComparedRow(Record):
    """One case on one pair of devices, both sides, and what can be said of the difference.

    ``ratio`` is B's median time over A's with a 95 % interval: of the medians by bootstrap for
    single runs, from the spread between runs where there are several. ``p_value`` is
    Mann-Whitney's over the raw samples (single runs), or that of the moderated t test between runs;
    ``p_adjusted`` is after Benjamini and Hochberg over all rows. ``noise`` is the spread between
    runs that was reckoned with, ``cycles_ratio`` the ratio in clock cycles.
    """

    key: str
    pair: int
    family: Family
    label: str
    role: Role
    verdict: Change
    reasons: tuple[Reason, ...] = ()
    a: SideFigure | None = None
    b: SideFigure | None = None
    ratio: Positive | None = None
    ratio_ci_low: NonNegative | None = None
    ratio_ci_high: NonNegative | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    floor: NonNegative | None = None
    noise: NonNegative | None = None
    cycles_ratio: Positive | None = None
    cause: Cause | None = None


class ComparedHeadline(Record):
    """A line of the result on both sides: the best rate that each found, whatever the shape.

    Shown without a verdict: searches may have found different shapes, so this tells what a user
    gets, and not that one kernel changed. ``ratio`` is B's rate over A's: 0.9 is 10 % less. Several
    runs give the geometric mean.
    """

    pair: int
    family: Family
    label: str
    title: str
    unit: str
    a: Positive
    b: Positive
    ratio: Positive


class Comparison(Record):
    """The whole comparison. Shares are of the rows that were compared (``compared`` of them).

    ``regressions`` are keys of rows that are proven slower by at least ``fail_on``, and of rows
    that A measured and B failed.
    """

    comparison_version: Literal[1] = COMPARISON_VERSION
    a: Side
    b: Side
    pairs: tuple[DevicePair, ...] = ()
    warnings: tuple[Remark, ...] = ()
    findings: tuple[Remark, ...] = ()
    headlines: tuple[ComparedHeadline, ...] = ()
    rows: tuple[ComparedRow, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    compared: int = Field(ge=0)
    changed_share: float | None = None
    ambiguous_share: float | None = None
    fail_on: NonNegative | None = None
    regressions: tuple[str, ...] = ()
    summary: str


def comparison_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what ``probe compare --json`` prints."""
    schema = Comparison.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "roofprobe comparison",
        **{key: value for key, value in schema.items() if key != "title"},
    }
