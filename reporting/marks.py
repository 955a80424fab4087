"""The short mark behind a figure that others disturbed while it was measured, and its legend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from roofprobe.records.disturbed import disturbed_of, is_disturbed
from roofprobe.records.schema import Measurement, Run
from roofprobe.records.wording import plural
from roofprobe.reporting.numbers import UNKNOWN

MARK: Final = "†"
MEANING: Final = f"{MARK} others used the processor meanwhile"


def marked(text: str, *measurements: Measurement | None) -> str:
    """Return a figure with the mark where any of what it rests on was disturbed."""
    disturbed = any(m is not None and is_disturbed(m) for m in measurements)
    return f"{text}{MARK}" if disturbed and text != UNKNOWN else text


def with_legend(sentence: str, labels: Iterable[str]) -> str:
    """Return what is said below a figure, and what the mark means where a label carries it."""
    return f"{sentence} {MEANING}." if any(MARK in label for label in labels) else sentence


def legend_of(run: Run, device_id: str) -> str | None:
    """Say what the mark means and how many figures of a device carry it; None where none does."""
    found = disturbed_of(m for m in run.measurements if m.device_id == device_id)
    if not found:
        return None
    count = f"during {len(found)} of {plural(found.measured, 'measurement')}"
    return f"{MEANING} ({count}): a rate can be too low, a time too long."
