"""Where caches end on an axis of bytes, as the device states them.

What a level holds depends on who reads. A **stream** is split over all cores, each of which goes
through its own part: its working set is held by the caches of all the cores together, so a level
ends where the instances that these cores reach are full (two cores with 1 MiB of L2 each: 2 MiB; an
L3 that both share counts once). A **chase** is one core's: it sees one instance of each level, its
own L1 and L2 and the L3 of its cluster. Where cores differ, and so the instances of a level, the
chase is marked at the smallest, since nobody knows on which core it ran.

A GPU's stream is marked at L2 and beyond: the caches next to its units are emptied between
launches, and a part of the array may come to another unit each time. How much of an SM's first
cache is not shared memory no driver tells, so that there is no mark for it either.

The marks are stated, the steps are seen, and they need not agree: a last level that only takes what
the level before it throws out (AMD's L3) adds to it, pages and neighbours take a part, and a
hypervisor may show what it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from roofprobe.records.schema import CacheLevel, Device
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.drawing import SMALL, WIDTH
from roofprobe.reporting.numbers import capacity
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.small_table import SmallTable
from roofprobe.reporting.svg import MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW: Final = 12.0  # points from one row of labels to the next
_GAP: Final = 8.0  # points between labels in a row
_OTHER_FONT: Final = 1.12  # the page's typeface may be wider than the one that is measured here
_KINDS: Final = {"data": " data", "unified": "", "shared-memory": " shared memory"}


@dataclass(frozen=True, slots=True)
class Mark:
    """The end of a level: what it is called, and how many bytes it holds for who reads."""

    name: str
    size_bytes: int

    @property
    def label(self) -> str:
        """Return the words beside the line: ``L2 2.00 MiB``."""
        return f"{self.name} {capacity(self.size_bytes)}"


@dataclass(frozen=True, slots=True)
class Placed:
    """A label: its mark, the middle of its words in points from the axes' left end, and its row."""

    mark: Mark
    middle: float
    row: int


def streamed(device: Device) -> tuple[Mark, ...]:
    """Return the ends of the levels for a working set that all measured cores stream through."""
    if not device.caches:
        return _last(device)
    return tuple(
        Mark(f"L{level}", sum(each.instance_bytes * (each.used_count or 0) for each in own))
        for level, own in _levels(device)
        if all(each.used_count for each in own)
    )


def chased(device: Device) -> tuple[Mark, ...]:
    """Return the ends of the levels for one core that waits for each of its loads."""
    if not device.caches:
        return _last(device)
    return tuple(
        Mark(f"L{level}", min(each.instance_bytes for each in own))
        for level, own in _levels(device)
    )


def _last(device: Device) -> tuple[Mark, ...]:
    """Return the one level that a record has which was written before all of them were."""
    size = device.last_level_cache_bytes
    return (Mark("last-level cache", size),) if size else ()


def _levels(device: Device) -> list[tuple[int, list[CacheLevel]]]:
    found: dict[int, list[CacheLevel]] = {}
    for each in device.caches:
        if each.kind != "shared-memory":
            found.setdefault(each.level, []).append(each)
    return sorted(found.items())


def stated(device: Device, marks: Sequence[Mark], whose: str) -> str:
    """Return a sentence that names the marks, with a blank before it; empty without any."""
    if not marks:
        return ""
    if not device.caches:
        return f" The device states {capacity(marks[0].size_bytes)} of last-level cache."
    return f" Stated for {whose}: {', '.join(mark.label for mark in marks)}."


def cache_table(device: Device | None) -> SmallTable:
    """Return the stated caches, a row for each level and size; without rows where there are none.

    What one holds is where a chase is marked, what the used ones hold together where a stream is.
    """
    caches = device.caches if device else ()
    unit = clean(device.unit) if device else ""
    rows = [
        (
            f"L{each.level}{_KINDS[each.kind]}",
            capacity(each.instance_bytes),
            f"{each.used_count or numbers.UNKNOWN} of {each.instance_count}",
            capacity(each.instance_bytes * each.used_count if each.used_count else None),
            numbers.UNKNOWN if each.shared_by is None else plural(each.shared_by, unit),
            clean(each.source),
        )
        for each in caches
    ]
    sentence = (
        "A stream of all measured units is marked at what the caches that they use hold together, "
        "a chase of one at what one cache holds."
    )
    if any(each.kind == "shared-memory" for each in caches):
        sentence += (
            " Shared memory is the part of a unit's first cache that is told, and has no mark."
        )
    heads = ("level", "one holds", "used", "together", "one serves", "told by")
    return SmallTable("Caches, as stated", sentence, heads, tuple(rows))


def within(marks: Sequence[Mark], low: float, high: float) -> tuple[Mark, ...]:
    """Return the marks that lie inside an axis from ``low`` to ``high`` bytes."""
    return tuple(mark for mark in marks if low < mark.size_bytes < high)


def placed(axes: Axes, marks: Sequence[Mark], *, left: float, right: float) -> tuple[Placed, ...]:
    """Return a place above ``axes`` for the label of each mark, so that none overlap.

    ``left`` and ``right`` are the axes' margins in points. A label stands over its line, moved
    inwards where it would leave the figure, in the lowest row that has room.
    """
    from matplotlib.textpath import TextPath

    low, high = axes.get_xlim()
    scale = axes.get_xaxis().get_transform()
    first, last = scale.transform([low, high])
    width = WIDTH - left - right
    ends: list[float] = []  # of each row's last label
    found = []
    for mark in sorted(marks, key=lambda mark: mark.size_bytes):
        half = TextPath((0, 0), mark.label, size=SMALL).get_extents().width * _OTHER_FONT / 2
        line = (scale.transform([mark.size_bytes])[0] - first) / (last - first) * width
        middle = min(max(line, half - left), width + right - half)
        row = next((n for n, end in enumerate(ends) if middle - half >= end + _GAP), len(ends))
        ends[row : row + 1] = [middle + half]
        found.append(Placed(mark, middle, row))
    return tuple(found)


def draw_marks(axes: Axes, places: Sequence[Placed], *, left: float, right: float) -> None:
    """Draw a dotted line where each level ends, and its label above the axes."""
    from matplotlib.transforms import ScaledTranslation

    width = WIDTH - left - right
    figure = axes.get_figure()
    assert figure is not None
    for place in places:
        up = ScaledTranslation(0, (3 + ROW * place.row) / 72, figure.dpi_scale_trans)
        axes.axvline(place.mark.size_bytes, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
        axes.text(
            place.middle / width, 1, place.mark.label, transform=axes.transAxes + up,
            ha="center", va="bottom", color=MUTED, fontsize=SMALL, parse_math=False,
        )  # fmt: skip
