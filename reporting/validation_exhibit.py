"""Predicted beside measured: every step of a real model that ``probe validate`` ran on a device."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from roofprobe.records.schema import Run
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.drawing import SMALL, Drawing, add_axes, empty_figure, quiet
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.plain_text import clean, shorten
from roofprobe.reporting.small_table import SmallTable
from roofprobe.reporting.svg import GRID, INK, MUTED, SERIES, tips

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from roofprobe.costmodel.validation import HeldStep

NEAR: Final = 0.15  # lines beside the diagonal: the error that docs/cost-model.md aims at
_MARKERS: Final = ("o", "s", "^", "D")
_MOST_ROWS: Final = 40
_HEIGHT: Final = 330.0


def validation(run: Run, device_id: str, beside: Beside) -> Exhibit | None:
    """Return the exhibit of a device whose steps were held against predictions."""
    found, steps = beside.validation, _steps(device_id, beside)
    if found is None or not steps:
        return None
    left = [f"Not compared: {clean(row.case_id)}: {clean(row.sentence)}" for row in found.unheld]
    return Exhibit(
        title="Predictions against a real model",
        sentence=f"{_sentence(steps, clean(found.calibration))}{_furthest_part(steps)}",
        drawings=(_drawing(steps),),
        tables=(validation_table(steps),),
        notes=(*(clean(note) for note in found.notes), *dict.fromkeys(left)),
    )


def step_tables(run: Run, device_id: str, beside: Beside) -> tuple[SmallTable, ...]:
    """Return the exhibit's table alone, or none."""
    steps = _steps(device_id, beside)
    return (validation_table(steps),) if steps else ()


def _steps(device_id: str, beside: Beside) -> list[HeldStep]:
    found = beside.validation
    own = [step for step in found.steps if step.device_id == device_id] if found else []
    return [step for step in own if step.measured_us > 0 and step.predicted_us > 0]


def _sentence(steps: Sequence[HeldStep], source: str) -> str:
    errors = [abs(step.error) for step in steps]
    inside = sum(step.inside for step in steps)
    return (
        f"{plural(len(steps), 'step')} of {_listed(steps)} were predicted from {source} and then "
        f"measured: off by {statistics.median(errors):.1%} in the median and {max(errors):.1%} at "
        f"most; {inside} of {len(steps)} lie in the 80 % interval of their prediction."
    )


def _furthest_part(steps: Sequence[HeldStep]) -> str:
    """Say in which operation most of the difference lies, where operations were watched."""
    told: dict[str, float] = {}
    measured: dict[str, float] = {}
    for step in steps:
        for part in step.parts:
            if part.measured_us is not None:
                told[part.name] = told.get(part.name, 0.0) + part.predicted_us
                measured[part.name] = measured.get(part.name, 0.0) + part.measured_us
    if not told:
        return ""
    name = max(told, key=lambda part: abs(told[part] - measured[part]))
    return (
        f" Of all operations {clean(name)} is furthest off: {numbers.duration_us(told[name])} "
        f"predicted in all steps together, {numbers.duration_us(measured[name])} measured."
    )


def _listed(steps: Sequence[HeldStep]) -> str:
    return ", ".join(dict.fromkeys(clean(step.model) for step in steps))


def _drawing(steps: Sequence[HeldStep]) -> Drawing:
    near = sum(abs(step.error) <= NEAR for step in steps)
    slow = sum(step.error < 0 for step in steps)
    worst = max(steps, key=lambda step: abs(step.error))
    return Drawing(
        draw=lambda: _figure(steps),
        title="Predicted over measured time of a step",
        label=f"Scatter chart with the diagonal. {'; '.join(_words(step) for step in steps)}.",
        sentence=(
            f"{near} of {plural(len(steps), 'step')} lie between the dotted lines (±{NEAR:.0%}); "
            f"{slow} took longer than predicted (below the diagonal). Furthest off is "
            f"{_name(worst)} ({worst.error:+.1%}). Upright lines are 80 % intervals."
        ).replace("-", "−"),
    )


def _name(step: HeldStep) -> str:
    return f"{clean(step.phase)} of {step.batch} × {step.length:,} tokens"


def _words(step: HeldStep) -> str:
    return (
        f"{clean(step.model)} {_name(step)}: {numbers.duration_us(step.measured_us)} measured, "
        f"{numbers.duration_us(step.predicted_us)} predicted"
    )


def _kind(step: HeldStep) -> str:
    return f"{shorten(clean(step.phase), 16)}, {step.regime}"


def _figure(steps: Sequence[HeldStep]) -> Figure:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    kinds = list(dict.fromkeys(_kind(step) for step in steps))
    top = 15.0 * -(-len(kinds) // 2) + 8
    figure = empty_figure(_HEIGHT)
    axes = add_axes(figure, left=58, right=10, top=top, bottom=38)
    axes.set_xscale("log")
    axes.set_yscale("log")
    quiet(axes)
    # an interval that is far wider than what it surrounds leaves the figure
    ends = [us for step in steps for us in (step.measured_us, step.predicted_us)]
    low, high = min(ends) / 1.6, max(ends) * 1.6
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.plot([low, high], [low, high], color=INK, linewidth=1)
    for off in (1 - NEAR, 1 + NEAR):
        axes.plot(
            [low, high], [low * off, high * off], color=MUTED, linewidth=1, linestyle=(0, (1, 2))
        )
    for number, kind in enumerate(kinds):
        own = [step for step in steps if _kind(step) == kind]
        color = SERIES[number % len(SERIES)]
        axes.vlines(
            [s.measured_us for s in own], [max(s.p10_us, low) for s in own],
            [s.p90_us for s in own], color=color, linewidth=1,
        )  # fmt: skip
        (dots,) = axes.plot(
            [s.measured_us for s in own], [s.predicted_us for s in own], linestyle="",
            marker=_MARKERS[number % len(_MARKERS)], markersize=5, color=color, label=kind,
        )  # fmt: skip
        tips(dots, [_words(step) for step in own])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(
            LogLocator(subs=(1.0,) if high / low > 300 else (1.0, 2.0, 5.0), numticks=12)
        )
        axis.set_major_formatter(FuncFormatter(lambda us, _: _tick(us)))
        axis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_xlabel("measured", color=MUTED, fontsize=SMALL)
    axes.set_ylabel("predicted", color=MUTED, fontsize=SMALL)
    legend = figure.legend(
        loc="upper left", ncols=2, frameon=False, labelcolor=INK, fontsize=SMALL,
        handlelength=1.2, borderpad=0, borderaxespad=0.5, columnspacing=1.5,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _tick(us: float) -> str:
    for unit in ("µs", "ms"):
        if us < 1000:
            return f"{us:g} {unit}"
        us /= 1000
    return f"{us:g} s"


def validation_table(steps: Sequence[HeldStep]) -> SmallTable:
    """Return the steps, most of all `_MOST_ROWS`, those that are furthest off first."""
    several = len({step.model for step in steps}) > 1
    ranked = sorted(steps, key=lambda step: -abs(step.error))[:_MOST_ROWS]
    cut = f" The {_MOST_ROWS} furthest of {len(steps)}." if len(steps) > _MOST_ROWS else ""
    return SmallTable(
        "Predicted and measured steps, furthest off first",
        f"Median times; an error below zero: the step took longer than predicted.{cut}",
        ("step", "measured", "predicted", "80 % interval", "error", "inside"),
        tuple(
            (
                f"{f'{clean(s.model)} ' if several else ''}{_name(s)}, {s.regime}",
                numbers.duration_us(s.measured_us),
                numbers.duration_us(s.predicted_us),
                f"{numbers.duration_us(s.p10_us)}–{numbers.duration_us(s.p90_us)}",
                f"{s.error:+.1%}".replace("-", "−"),
                "yes" if s.inside else "no",
            )
            for s in ranked
        ),
    )
