"""Prefill and decode: what a language model would do on this device, from its own operations.

Time to first token (TTFT) over the prompt, time per output token (TPOT) over the sequences at a
time, and what users see against what the device gives as more requests are in flight. All of it is
predicted (`serving_points`); an engine's own overheads come on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Run
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.curves import Bound, Line, Mark, curve_figure
from roofprobe.reporting.drawing import Drawing
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.naming import alike, device_title
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.serving_points import (
    INPUT_LEN,
    OUTPUT_LEN,
    TARGETS,
    TARGETS_SOURCE,
    Curve,
    Loaded,
    Serving,
    Span,
    most_within,
    serving_of,
)
from roofprobe.reporting.small_table import SmallTable

if TYPE_CHECKING:
    from roofprobe.costmodel.calibration import Calibration

TITLE = "Prefill and decode"
_ATTENTION = ("attention_prefill", "attention_decode", "mla_prefill", "mla_decode")
_LABELLED = (1, 4, 16, 64, 256)


def serving(run: Run, device_id: str, beside: Beside) -> Exhibit | None:
    """Return the exhibit of a device whose operations of language models were calibrated.

    Of devices of one kind the first has the curves; they differ by less than a line is wide.
    """
    calibration = calibration_of(device_id, beside)
    if calibration is None:
        return None
    try:
        found = serving_of(calibration)
    except RoofprobeError as error:
        return Exhibit(TITLE, f"Nothing is predicted here: {clean(error.sentence)}")
    title = f"{TITLE} of {found.model}, predicted"
    kind = (d for d in alike(run, device_id) if calibration_of(d.device_id, beside))
    first = next(kind, None)
    if first is not None and first.device_id != device_id:
        same = f"The curves stand with {device_title(first)}, a device of the same kind."
        return Exhibit(title, f"{_sentence(found)} {same}", tables=serving_tables(found)[:1])
    drawings = _prefill(found.ttft), _decode(found.tpot), _wait(found.load), _load(found.load)
    return Exhibit(
        title,
        _sentence(found),
        drawings=tuple(drawing for drawing in drawings if drawing is not None),
        tables=serving_tables(found),
        notes=_notes(found),
    )


def target_tables(run: Run, device_id: str, beside: Beside) -> tuple[SmallTable, ...]:
    """Return the exhibit's table of targets alone, or none."""
    calibration = calibration_of(device_id, beside)
    try:
        return serving_tables(serving_of(calibration))[:1] if calibration else ()
    except RoofprobeError:
        return ()


def calibration_of(device_id: str, beside: Beside) -> Calibration | None:
    """Return the calibration of a device, None where it has no operation of language models."""
    from roofprobe.costmodel.calibration import Calibration, calibration_from
    from roofprobe.costmodel.forms import OP_CLASSES

    file = beside.calibration
    if file is None or all(one.device_id != device_id for one in file.devices):
        return None
    found = calibration_from(file, device=device_id)
    known = tuple(fit for fit in found.device.ops if fit.op in OP_CLASSES)
    if not any(fit.op in _ATTENTION for fit in known):
        return None
    return Calibration(found.device.model_copy(update={"ops": known}), found.provenance)


def _sentence(found: Serving) -> str:
    told = f"What {found.model} would do in {found.precision} on this device alone"
    alone = found.load[0] if found.load else None
    if alone is not None:
        told += (
            f": a prompt of {INPUT_LEN:,} tokens gets its first token after {_ms(alone.ttft)} and "
            f"each further one after {_ms(alone.tpot)} on average, as the context grows to "
            f"{INPUT_LEN + OUTPUT_LEN:,}"
        )
    met = [(target, at) for target in TARGETS if (at := most_within(found.load, target))]
    if met:
        target, at = met[0]
        told += (
            f". The target “{target.name}” is still met with "
            f"{plural(at.in_flight, 'request')} in flight, which give "
            f"{numbers.digits(at.tokens_per_second)} tokens/s"
        )
    elif found.load:
        told += ". None of the targets is met, not even by one request at a time"
    return f"{told}. Predicted from measured operations, not measured."


def _notes(found: Serving) -> tuple[str, ...]:
    doubts, caveats = (
        " ".join(clean(why) for why in whys) for whys in (found.doubts, found.caveats)
    )
    less_sure = f"Hollow marks and dashed lines are less sure than their bands: {doubts}"
    return (
        f"Bands span 80 % of the errors that held-out operations had. {clean(found.basis)} An "
        "engine’s own overheads come on top of all times.",
        *((less_sure,) if doubts else ()),
        *((f"Of all of it: {caveats}",) if caveats else ()),
        TARGETS_SOURCE,
    )


def _prefill(curves: Sequence[Curve]) -> Drawing | None:
    if not curves:
        return None
    lines = [Line(_prompts(c), _marks(c, f"{_prompts(c)} of {{}} tokens")) for c in curves]
    bounds = _bounds(target.ttft_ms for target in TARGETS)
    told = []
    for bound in bounds:
        within = [at.size for at in curves[0].points if at.time.median <= bound.at]
        if within:
            told.append(f"within {bound.name} up to {within[-1]:,} tokens")
        if len(within) == len(curves[0].points):
            break
    sentence = (
        f"One prompt alone has its first token {', '.join(told)}."
        if told
        else f"No prompt of {curves[0].points[0].size:,} tokens or more has its first token within "
        f"{bounds[-1].name}."
    )
    return Drawing(
        draw=lambda: curve_figure(
            lines, x_words="tokens of each prompt", y_words="TTFT", y_text=short_ms,
            x_ticks=_sizes(curves), across=bounds,
        ),
        title="Time to first token over the prompt",
        label=f"Line chart. {_told(curves, 'prompts at a time', 'tokens')}.",
        sentence=f"{sentence} Dotted lines are targets.",
    )  # fmt: skip


def _decode(curves: Sequence[Curve]) -> Drawing | None:
    if not curves:
        return None
    lines = [
        Line(
            f"context {c.parameter:,}",
            _marks(c, f"{{}} × {c.parameter:,} tokens of context"),
        )
        for c in curves
    ]
    first, last = curves[0].points[0], curves[0].points[-1]
    told = f"One sequence gets a token every {_ms(first.time)}."
    if last.size > first.size:
        gained = last.size / first.size * first.time.median / last.time.median
        told = (
            f"At {curves[0].parameter:,} tokens of context a sequence alone gets a token every "
            f"{_ms(first.time)}, one of {last.size} every {_ms(last.time)}: "
            f"{numbers.digits(gained)} times the tokens per second in all."
        )
    if any(c.points[-1].size < max(_sizes(curves)) for c in curves):
        told += " A line ends where memory is full."
    return Drawing(
        draw=lambda: curve_figure(
            lines, x_words="sequences at a time", y_words="TPOT", y_text=short_ms,
            x_ticks=_sizes(curves), across=_bounds(target.tpot_ms for target in TARGETS),
        ),
        title="Time per output token over the batch",
        label=f"Line chart. {_told(curves, 'tokens of context', 'sequences')}.",
        sentence=told,
    )  # fmt: skip


def _load(load: Sequence[Loaded]) -> Drawing | None:
    if not load:
        return None
    marks = tuple(
        Mark(
            at.per_user, at.tokens_per_second, 1e3 / at.tpot.p90, 1e3 / at.tpot.p10, at.sure,
            f"{plural(at.in_flight, 'request')} in flight: {numbers.digits(at.per_user)} tokens/s "
            f"each, {numbers.digits(at.tokens_per_second)} in all",
            str(at.in_flight) if at.in_flight in _LABELLED else "",
        )
        for at in load
    )  # fmt: skip
    best = max(load, key=lambda at: at.tokens_per_second)
    bounds = [Bound(f"TPOT {b.name}", 1e3 / b.at) for b in _bounds(t.tpot_ms for t in TARGETS)]
    return Drawing(
        draw=lambda: curve_figure(
            [Line("requests in flight", marks, sideways=True)],
            x_words="output tokens/s that each user sees", y_words="output tokens/s in all",
            upright=bounds,
        ),
        title="Throughput against what each user sees",
        label=f"Line chart over requests in flight. {_in_words(marks)}.",
        sentence=(
            f"Numbers are requests in flight, each {INPUT_LEN:,} tokens in and {OUTPUT_LEN} out. "
            f"Each gets less the more there are; in all, {best.in_flight} in flight give the most, "
            f"{numbers.digits(best.tokens_per_second)} tokens/s. Right of a dotted line that TPOT "
            "is kept."
        ),
    )  # fmt: skip


def _wait(load: Sequence[Loaded]) -> Drawing | None:
    if not load:
        return None
    marks = tuple(
        Mark(
            at.in_flight, at.ttft.median, at.ttft.p10, at.ttft.p90, at.sure,
            f"{plural(at.in_flight, 'request')} in flight: {_band(at.ttft)}",
        )
        for at in load
    )  # fmt: skip
    last = load[-1]
    return Drawing(
        draw=lambda: curve_figure(
            [Line("requests in flight", marks)],
            x_words="requests in flight", y_words="TTFT", y_text=short_ms,
            x_ticks=[at.in_flight for at in load if _is_power_of_two(at.in_flight)],
            across=_bounds(target.ttft_ms for target in TARGETS),
        ),
        title="Time to first token under load",
        label=f"Line chart over requests in flight. {_in_words(marks)}.",
        sentence=(
            f"With {plural(last.in_flight, 'request')} in flight the first token comes after "
            f"{_ms(last.ttft)}. The band reaches up to all requests at the same moment."
        ),
    )  # fmt: skip


def _bounds(values: Iterable[float]) -> list[Bound]:
    return [Bound(short_ms(value), value) for value in sorted(set(values))]


def _prompts(curve: Curve) -> str:
    return plural(curve.parameter, "prompt")


def _sizes(curves: Sequence[Curve]) -> list[int]:
    return sorted({at.size for curve in curves for at in curve.points})


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def _in_words(marks: Sequence[Mark]) -> str:
    return "; ".join(mark.words for mark in marks)


def _marks(curve: Curve, words: str) -> tuple[Mark, ...]:
    return tuple(
        Mark(
            at.size, at.time.median, at.time.p10, at.time.p90, at.sure,
            f"{words.format(f'{at.size:,}')}: {_band(at.time)}{'' if at.sure else ', less sure'}",
        )
        for at in curve.points
    )  # fmt: skip


def _told(curves: Sequence[Curve], parameter: str, size: str) -> str:
    return "; ".join(
        f"{c.parameter:,} {parameter}: "
        + ", ".join(f"{at.size:,} {size} {_ms(at.time)}" for at in c.points)
        for c in curves
    )


def _band(time: Span) -> str:
    return f"{_ms(time)} ({_ms_of(time.p10)} to {_ms_of(time.p90)})"


def _ms(time: Span) -> str:
    return _ms_of(time.median)


def _ms_of(value: float) -> str:
    return numbers.duration_us(value * 1e3)


def short_ms(value: float) -> str:
    """Write a round number of milliseconds in few characters: ``500 ms``, ``2 s``."""
    return f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s"


def serving_tables(found: Serving) -> tuple[SmallTable, ...]:
    """Return the targets that are kept, and the points of the load curve; none without points."""
    if not found.load:
        return ()
    rows = []
    for target in TARGETS:
        at, sure = most_within(found.load, target), most_within(found.load, target, surely=True)
        rows.append(
            (
                target.name, short_ms(target.ttft_ms), short_ms(target.tpot_ms),
                str(at.in_flight) if at else "none", str(sure.in_flight) if sure else "none",
                numbers.digits(at.tokens_per_second) if at else numbers.UNKNOWN,
            )
        )  # fmt: skip
    shown = [at for at in found.load if _is_power_of_two(at.in_flight)]
    told = f"Requests of {INPUT_LEN:,} tokens in and {OUTPUT_LEN} out: median and 80 % interval."
    if not any(at.sure for at in shown):
        told += " All of it is less sure than its interval; the notes say why."
    elif not all(at.sure for at in shown):
        told += " What has an asterisk is less sure than its interval; the notes say why."
    some = any(at.sure for at in shown)
    return (
        SmallTable(
            f"Targets of serving {found.model} in {found.precision}, predicted",
            "The most requests in flight whose predicted medians keep both bounds, and whose upper "
            "ends of the 80 % intervals do too; tokens/s of the former.",
            ("target", "TTFT", "TPOT", "in flight", "surely", "tokens/s"),
            tuple(rows),
        ),
        SmallTable(
            "Requests in flight",
            told,
            ("in flight", "TTFT", "80 %", "TPOT", "80 %", "tokens/s each", "in all"),
            tuple(_load_row(at, mark=some and not at.sure) for at in shown),
        ),
    )


def _load_row(at: Loaded, *, mark: bool) -> tuple[str, ...]:
    return (
        f"{at.in_flight}{' *' if mark else ''}",
        _ms(at.ttft),
        f"{_ms_of(at.ttft.p10)}–{_ms_of(at.ttft.p90)}",
        _ms(at.tpot),
        f"{_ms_of(at.tpot.p10)}–{_ms_of(at.tpot.p90)}",
        numbers.digits(at.per_user),
        numbers.digits(at.tokens_per_second),
    )
