"""The first figure of the HTML report: what was reached, as bars beside their peaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from roofprobe.records.schema import Family, Headline, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.drawing import SMALL, Drawing, add_axes, empty_figure, tick, units
from roofprobe.reporting.marks import with_legend
from roofprobe.reporting.plain_text import clean, shorten
from roofprobe.reporting.svg import BAR, GRID, INK, MUTED, TRACK, tip
from roofprobe.reporting.tables import doubts_marked, headlines_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 35.0
_TOP, _BOTTOM = 26.0, 34.0
_KEPT = 0.98
_WIDE = 3.0  # peaks further apart than this leave the shortest bars unreadable


def bars(run: Run, device_id: str, family: Family) -> Drawing | None:
    """Draw the rates of one family, burst and settled, beside datasheet and derived peaks."""
    headlines = doubts_marked(run, device_id, headlines_of(run, device_id, family))
    if not headlines:
        return None
    rows = [_words(headline) for headline in headlines]
    title = "Rate per row" if family == "compute" else "Bandwidth per memory kernel"
    return Drawing(
        draw=lambda: _bar_figure(headlines),
        title=title,
        label=f"Bar chart. {'; '.join(rows)}.",
        sentence=with_legend(_bar_sentence(headlines), (h.label for h in headlines)),
    )


def _words(headline: Headline) -> str:
    return f"{clean(headline.label)}: {_value(headline)}"


def _value(headline: Headline) -> str:
    text = f"{_rate_text(headline, headline.rate.median)} {headline.regime}"
    peak = _peak(headline)
    return f"{text}, {numbers.share(peak[1])} of {peak[0]}" if peak else text


def _rate_text(headline: Headline, value: float) -> str:
    return clean(numbers.rate(value, headline.rate.unit))


def _peak(headline: Headline) -> tuple[Literal["datasheet", "derived"], float] | None:
    if headline.share_datasheet is not None:
        return "datasheet", headline.share_datasheet
    if headline.share_derived is not None:
        return "derived", headline.share_derived
    return None


def _bar_sentence(headlines: Sequence[Headline]) -> str:
    shared = [(h, peak) for h in headlines if (peak := _peak(h))]
    if not shared:
        best = max(headlines, key=lambda h: h.rate.median)
        return (
            "No peak is known here, so the bars stand alone; the longest is "
            f"{clean(best.label)} with {numbers.rate(best.rate.median, best.rate.unit)}."
        )
    near = max(shared, key=lambda pair: pair[1][1])
    far = min(shared, key=lambda pair: pair[1][1])
    verb = "comes nearest to" if near[1][1] <= 1 else "is furthest above"
    told = f"{clean(near[0].label)} {verb} its {near[1][0]} peak"
    told += f" ({numbers.share(near[1][1])})"
    if far[0] is not near[0]:
        place = "stays furthest below" if far[1][1] <= 1 else "is the least above"
        told += f", {clean(far[0].label)} {place} ({numbers.share(far[1][1])})"
    return f"{told}. {_settled_sentence(headlines)}The thin line at a bar's end spans p10 to p90."


def _settled_sentence(headlines: Sequence[Headline]) -> str:
    """Say which row loses most when it goes on for seconds; nothing where none was settled."""
    kept = [(h.settled.median / h.rate.median, h) for h in headlines if h.settled and h.rate.median]
    kept = [(share, h) for share, h in kept if h.regime == "burst"]
    if not kept:
        return ""
    share, most = min(kept, key=lambda pair: pair[0])
    if share > _KEPT:
        return "No settled figure is more than 2% below its burst. "
    return f"Settled, {clean(most.label)} loses most ({numbers.gain(share)} of its burst). "


def _bar_figure(headlines: Sequence[Headline]) -> Figure:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    height = _TOP + _ROW * len(headlines) + _BOTTOM
    figure = empty_figure(height)
    axes = add_axes(figure, left=6, right=6, top=_TOP, bottom=_BOTTOM)
    factors, words, write = _axis(headlines)
    longest = max(map(_longest, headlines, factors)) or 1.0
    axes.set_xlim(0, longest * 1.02)
    axes.set_ylim(len(headlines), 0)
    for row, (headline, factor) in enumerate(zip(headlines, factors, strict=True)):
        _bar(axes, row, headline, factor)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: write(x)))
    axes.tick_params(axis="x", color=GRID, labelcolor=MUTED, length=3, labelsize=SMALL)
    figure.text(
        0.5, 3 / height, words, ha="center", va="bottom", color=MUTED, fontsize=SMALL,
        parse_math=False,
    )  # fmt: skip
    _bar_legend(figure, headlines)
    return figure


def _axis(headlines: Sequence[Headline]) -> tuple[list[float], str, Callable[[float], str]]:
    """Return what each row is multiplied by, what the axis shows, and how its ticks are written.

    Rows of one result span two orders of magnitude, from FP64 to sparse FP8. Where each row has a
    peak the bars are shares of it, so that every row can be read; else they are rates.
    """
    peaks = [headline.datasheet or headline.derived for headline in headlines]
    known = [peak for peak in peaks if peak]
    if len(known) == len(headlines) and max(known) > _WIDE * min(known):
        words = "share of the datasheet’s peak"
        if any(headline.datasheet is None for headline in headlines):
            words += ", else of the derived one"
        return [1 / peak for peak in known], words, lambda x: f"{x * 100:.0f}%"
    longest = max(_longest(headline, 1.0) for headline in headlines) or 1.0
    scale = numbers.scale_for(longest, headlines[0].rate.unit)
    return [1.0] * len(headlines), units(headlines, longest), lambda x: tick(x * scale.factor)


def _longest(headline: Headline, factor: float) -> float:
    settled = headline.settled.median if headline.settled else None
    known = (
        headline.rate.median, headline.rate.p90, settled, headline.datasheet, headline.derived,
    )  # fmt: skip
    return max(value for value in known if value is not None) * factor


def _bar(axes: Axes, row: int, headline: Headline, factor: float) -> None:
    middle, half = row + 0.72, 0.14
    right = axes.get_xlim()[1]
    peaks = [p * factor for p in (headline.datasheet, headline.derived) if p is not None]
    if peaks:
        axes.barh(middle, max(peaks), 2 * half, color=TRACK, linewidth=0)
    (bar,) = axes.barh(middle, headline.rate.median * factor, 2 * half, color=BAR, linewidth=0)
    tip(bar, _words(headline))
    spread = [headline.rate.p10 * factor, headline.rate.p90 * factor]
    axes.plot(spread, [middle] * 2, color=INK, linewidth=1.2)
    if headline.settled is not None:
        (dot,) = axes.plot(
            [headline.settled.median * factor], [middle], linestyle="", marker="o", markersize=5.5,
            markerfacecolor=INK, markeredgecolor=INK, clip_on=False,
        )  # fmt: skip
        tip(dot, f"settled: {_rate_text(headline, headline.settled.median)}")
    if headline.datasheet is not None:
        upright = [middle - 1.5 * half, middle + 1.5 * half]
        (line,) = axes.plot(
            [headline.datasheet * factor] * 2, upright, color=INK, linewidth=2, clip_on=False
        )
        tip(line, f"datasheet: {_rate_text(headline, headline.datasheet)}")
    if headline.derived is not None:
        (diamond,) = axes.plot(
            [headline.derived * factor], [middle], linestyle="", marker="D", markersize=6,
            clip_on=False, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.2,
        )  # fmt: skip
        tip(diamond, f"derived: {_rate_text(headline, headline.derived)}")
    label = shorten(clean(headline.label), 28)
    axes.text(
        0, row + 0.44, label, ha="left", va="bottom", color=INK, weight="bold", parse_math=False
    )
    axes.text(
        right, row + 0.44, _value(headline), ha="right", va="bottom", color=INK, parse_math=False
    )


def _bar_legend(figure: Figure, headlines: Sequence[Headline]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    regimes = dict.fromkeys(h.regime for h in headlines)
    handles: list[Line2D | Patch] = [Patch(color=BAR, label=" or ".join(regimes))]
    if any(h.settled is not None for h in headlines):
        handles.append(
            Line2D([], [], color=INK, marker="o", linestyle="", markersize=5, label="settled")
        )
    if any(h.datasheet is not None for h in headlines):
        handles.append(
            Line2D([], [], color=INK, marker="|", linestyle="", markersize=9, markeredgewidth=2,
                   label="datasheet")
        )  # fmt: skip
    if any(h.derived is not None for h in headlines):
        handles.append(
            Line2D([], [], color=INK, marker="D", linestyle="", markersize=5,
                   markerfacecolor="none", label="derived")
        )  # fmt: skip
    figure.legend(
        handles=handles, loc="upper left", ncols=4, frameon=False, labelcolor=INK, fontsize=SMALL,
        handlelength=1.2, borderpad=0, borderaxespad=0.5, columnspacing=1.5,
    )  # fmt: skip
