"""Where the gap to the datasheet goes, as stacked bars: clock, pipe, feeding.

The three factors multiply to the share that is reached, so the losses stack from the right: first
what the clock leaves of the datasheet, then what the pipe alone leaves of that clock, then what the
matrix product leaves of the pipe. A clock above the datasheet's makes a bar longer than 100 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.records.schema import Headline, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.compute_tables import attributed_share, reference_of
from roofprobe.reporting.drawing import SMALL, WIDTH, Drawing, add_axes, empty_figure
from roofprobe.reporting.plain_text import clean, shorten
from roofprobe.reporting.svg import BAR, GRID, INK, MUTED, SERIES, tip
from roofprobe.reporting.tables import headlines_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW, _TOP, _BOTTOM = 33.0, 28.0, 34.0
_COLORS = {"reached": BAR, "feeding": SERIES[1], "pipe": SERIES[4], "clock": SERIES[6]}


@dataclass(frozen=True, slots=True)
class Stack:
    """One bar: the share reached and what each factor lost, as shares of the reference.

    ``clock`` is absent where there is no datasheet: then the reference is the derived peak, or
    without that the pipe.
    """

    label: str
    reached: float
    feeding: float
    pipe: float | None
    clock: float | None
    reference: str

    def parts(self) -> tuple[tuple[str, float], ...]:
        """Return the parts with a width, from the left."""
        lost = (("feeding", self.feeding), ("pipe", self.pipe), ("clock", self.clock))
        return (("reached", self.reached), *((name, width or 0.0) for name, width in lost))

    def greatest_loss(self) -> tuple[str, float]:
        """Return the part that costs most."""
        return max(self.parts()[1:], key=lambda part: part[1])


def stack_of(headline: Headline) -> Stack | None:
    """Return the bar of a headline; None where nothing could be attributed.

    A factor above 1 is no loss: its part has no width, and what follows is longer.
    """
    found, share = headline.attribution, attributed_share(headline)
    if found is None or share is None:
        return None
    at_clock = 1.0 if found.clock is None else found.clock
    of_pipe = at_clock * (1.0 if found.pipe is None else found.pipe)
    return Stack(
        label=clean(headline.label),
        reached=share,
        feeding=max(0.0, of_pipe - share),
        pipe=None if found.pipe is None else max(0.0, at_clock - max(of_pipe, share)),
        clock=None if found.clock is None else max(0.0, 1.0 - max(at_clock, of_pipe, share)),
        reference=reference_of(found),
    )


def gap(run: Run, device_id: str) -> Drawing | None:
    """Draw the attribution of every row that has one."""
    headlines = headlines_of(run, device_id, "compute")
    stacks = _alike([stack for headline in headlines if (stack := stack_of(headline))])
    if not stacks:
        return None
    words = [_words(stack) for stack in stacks]
    return Drawing(
        figure=_figure(stacks, stacks[0].reference),
        title="Where the gap goes",
        label=f"Stacked bar chart, shares of {stacks[0].reference}. {'; '.join(words)}.",
        sentence=_sentence(stacks),
    )


def _alike(stacks: Sequence[Stack]) -> list[Stack]:
    """Keep the bars of the fullest reference, so that one axis serves them all."""
    with_clock = [stack for stack in stacks if stack.clock is not None]
    with_pipe = [stack for stack in stacks if stack.pipe is not None]
    return with_clock or with_pipe or list(stacks)


def _words(stack: Stack) -> str:
    lost = [f"{numbers.share(width)} lost to {name}" for name, width in stack.parts()[1:] if width]
    return ", ".join([f"{stack.label}: {numbers.share(stack.reached)} reached", *lost])


def _sentence(stacks: Sequence[Stack]) -> str:
    worst = max(stacks, key=lambda stack: stack.greatest_loss()[1])
    name, width = worst.greatest_loss()
    means = {
        "clock": "the clock that power and heat allow",
        "pipe": "the pipe, which even without memory traffic does not reach its arithmetic",
        "feeding": "feeding: caches, tiles and the kernel, not the arithmetic",
    }
    told = f"The greatest single loss is {worst.label}'s {numbers.share(width)} to {means[name]}."
    fast = [stack.label for stack in stacks if sum(w for _, w in stack.parts()) > 1.005]
    if fast:
        told += " A bar beyond 100% ran at a clock above the one that its peak is stated for."
    return told


def _figure(stacks: Sequence[Stack], reference: str) -> Figure:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    height = _TOP + _ROW * len(stacks) + _BOTTOM
    figure = empty_figure(height)
    axes = add_axes(figure, left=6, right=10, top=_TOP, bottom=_BOTTOM)
    longest = max(1.0, *(sum(width for _, width in stack.parts()) for stack in stacks))
    axes.set_xlim(0, longest)
    axes.set_ylim(len(stacks), 0)
    for row, stack in enumerate(stacks):
        start = 0.0
        for name, width in stack.parts():
            if width > 0:
                (bar,) = axes.barh(
                    row + 0.72, width, 0.3, left=start, color=_COLORS[name], linewidth=0
                )
                lost = "" if name == "reached" else "lost to "
                tip(bar, f"{stack.label}: {numbers.share(width)} {lost}{name}")
            start += width
        label, told = shorten(stack.label, 20), numbers.share(stack.reached)
        axes.text(0, row + 0.5, label, va="bottom", color=INK, weight="bold", parse_math=False)
        axes.text(longest, row + 0.5, f"{told} reached", ha="right", va="bottom", color=INK)
    axes.plot([1, 1], [0, len(stacks)], color=INK, linewidth=1, linestyle=(0, (3, 2)))
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x * 100:.0f}%"))
    axes.tick_params(axis="x", color=GRID, labelcolor=MUTED, length=3, labelsize=SMALL)
    figure.text(
        0.5, 3 / height, f"share of {reference}", ha="center", va="bottom", color=MUTED,
        fontsize=SMALL,
    )  # fmt: skip
    _legend(figure, stacks)
    return figure


def _legend(figure: Figure, stacks: Sequence[Stack]) -> None:
    from matplotlib.patches import Patch

    shown = {name for stack in stacks for name, width in stack.parts() if width > 0}
    names = {"reached": "reached", "feeding": "feeding", "pipe": "pipe", "clock": "clock"}
    figure.legend(
        handles=[Patch(color=_COLORS[name], label=names[name]) for name in names if name in shown],
        loc="upper left", ncols=4, frameon=False, labelcolor=INK, fontsize=SMALL,
        handlelength=1.2, borderpad=0, borderaxespad=0.5, columnspacing=WIDTH / 240,
    )  # fmt: skip
