"""How many GPUs: the fewest that fit and meet targets, copies for a load, and the best of a kind.

Fitting is arithmetic; targets need predictions. For one degree of parallelism more copies mean
fewer requests each and shorter times, so the fewest copies that meet the targets are found by
bisection, after a look at whether even one request per copy would meet them.

Two users ask for the same model differently. One wants an answer soon (`low_latency`): the layout
with the shortest time per token, few requests at a time. The other has much to do
(`high_throughput`): the layout and concurrency with the most tokens per second and GPU that still
meet the targets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofprobe.costmodel.evaluate import Outcome, capacities, evaluate
from roofprobe.costmodel.memory import weight_bytes
from roofprobe.costmodel.parallelism import split_of
from roofprobe.costmodel.plan_layout import Degrees, Planned, valid_tp
from roofprobe.records.errors import RoofprobeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from roofprobe.costmodel.calibration import Calibration
    from roofprobe.costmodel.model_shape import ModelShape

# Copies beyond this are a data centre, not a plan.
MOST_COPIES: Final = 1 << 16
# Concurrency per copy that the search for throughput tries.
CONCURRENCIES: Final = tuple(1 << power for power in range(11))


def candidates(model: ModelShape, pp: int = 1) -> tuple[Degrees, ...]:
    """Return one copy's layouts to try, fewest GPUs first: tp within a server, then stages."""
    degrees = valid_tp(model)
    found = [Degrees(tp, pp, 1, 1) for tp in degrees]
    stages = pp * 2
    while stages <= min(model.layers, 16 * pp):
        found.append(Degrees(degrees[-1], stages, 1, 1))
        stages *= 2
    return tuple(found)


def _spread(case: Planned, layout: Degrees, copies: int) -> Planned:
    ep = case.degrees.ep
    if ep > 1:
        # Experts stay spread as far as the layout has GPUs for it.
        ep = max(d for d in range(1, min(ep, layout.tp) + 1) if layout.tp % d == 0)
    degrees = Degrees(layout.tp, layout.pp, ep, copies)
    return Planned(case.case, case.model, case.precision, case.kv_precision, degrees)


def fewest_gpus(
    cases: Sequence[Planned], calibration: Calibration, *, mixed: bool = True
) -> list[int | None]:
    """Return per case the fewest GPUs that hold its requests and meet its targets, or None.

    Tensor-parallel degrees are powers of two within a server that divide the heads; where one
    server is too small, pipeline stages of whole servers follow.
    """
    best: list[int | None] = [None] * len(cases)
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, case in enumerate(cases):
        alike.setdefault(_question(case), []).append(place)
    firsts = [places[0] for places in alike.values()]
    answers = _fewest([cases[place] for place in firsts], calibration, mixed)
    for places, answer in zip(alike.values(), answers, strict=True):
        for place in places:
            best[place] = answer
    return best


def _question(case: Planned) -> tuple[Any, ...]:
    """Return what decides the answer: all but the layout that the case itself names."""
    c = case.case
    return (
        id(case.model), case.precision, case.kv_precision, case.degrees.ep, c.batch, c.concurrency,
        c.input_len, c.output_len, c.ttft_ms, c.tpot_ms,
    )  # fmt: skip


def _fewest(cases: Sequence[Planned], calibration: Calibration, mixed: bool) -> list[int | None]:
    best = np.full(len(cases), np.inf)
    layouts = {
        key: candidates(model) for key, model in {id(c.model): c.model for c in cases}.items()
    }
    for number in range(max((len(found) for found in layouts.values()), default=0)):
        tried = [place for place, case in enumerate(cases) if number < len(layouts[id(case.model)])]
        # A larger copy cannot be fewer GPUs than what is already found.
        tried = [p for p in tried if layouts[id(cases[p].model)][number].gpus < best[p]]
        if not tried:
            continue
        one = [_spread(cases[p], layouts[id(cases[p].model)][number], 1) for p in tried]
        room, full = capacities(one, calibration)
        static = np.array([case.case.batch is not None for case in one])
        holds = np.where(static, full, room)
        least = np.ceil(np.array([case.requests for case in one]) / np.maximum(holds, 1))
        copies = np.where((holds >= 1) & (least <= MOST_COPIES), least, np.inf)
        size = np.array([float(case.degrees.gpus) for case in one])
        # More copies than this would not be fewer GPUs than what is already found.
        most = np.minimum(np.ceil(best[tried] / size) - 1, MOST_COPIES)
        copies[copies > most] = np.inf
        targets = np.array([_has_targets(case) for case in one])
        asked = np.flatnonzero(targets & np.isfinite(copies))
        if asked.size:
            copies[asked] = _copies_meeting(
                [one[i] for i in asked.tolist()], copies[asked], most[asked], calibration, mixed
            )
        best[tried] = np.minimum(best[tried], copies * size)
    return [int(value) if math.isfinite(value) else None for value in best]


def _has_targets(case: Planned) -> bool:
    return case.case.ttft_ms is not None or case.case.tpot_ms is not None


def _copies_meeting(
    cases: Sequence[Planned], least: Any, most: Any, calibration: Calibration, mixed: bool
) -> Any:
    """Return the copies from ``least`` to ``most`` with which each case just meets its targets."""
    requests = np.array([float(case.requests) for case in cases])
    high = np.maximum(least, np.minimum(requests, most))
    # Mostly the fewest copies that hold the requests do, or not even one request per copy does.
    good = _meets(cases, least, calibration, mixed)
    low = np.where(good, least - 1, least)
    high = np.where(good, least, high)
    more = np.flatnonzero(~good & (high > least))
    good[more] = _meets([cases[p] for p in more.tolist()], high[more], calibration, mixed)
    while np.any(open_ := good & (high - low > 1)):
        middle = np.floor((low + high) / 2)
        places = np.flatnonzero(open_)
        enough = _meets([cases[p] for p in places.tolist()], middle[places], calibration, mixed)
        high[places] = np.where(enough, middle[places], high[places])
        low[places] = np.where(enough, low[places], middle[places])
    return np.where(good, high, np.inf)


def _meets(
    cases: Sequence[Planned], copies: Any, calibration: Calibration, mixed: bool
) -> NDArray[np.bool_]:
    if not cases:
        return np.zeros(0, dtype=bool)
    spread = [
        _spread(case, case.degrees, copy)
        for case, copy in zip(cases, copies.astype(int).tolist(), strict=True)
    ]
    return meets_targets(spread, evaluate(spread, calibration, mixed=mixed))


def meets_targets(cases: Sequence[Planned], outcome: Outcome) -> NDArray[np.bool_]:
    """Return per case whether its requests fit and the medians meet its targets."""
    ttft = np.array([case.case.ttft_ms or np.inf for case in cases]) / 1e3
    tpot = np.array([case.case.tpot_ms or np.inf for case in cases]) / 1e3
    token = np.nan_to_num(outcome.tpot_s.median, nan=0.0)
    timed = np.isfinite(outcome.ttft_s.median)
    return outcome.fits & timed & (outcome.ttft_s.median <= ttft) & (token <= tpot)


def copies_for_load(
    requests_per_second: float,
    output_len: float,
    *,
    wanted_requests_per_second: float | None = None,
    wanted_tokens_per_minute: float | None = None,
) -> int:
    """Return how many systems of ``requests_per_second`` carry a load (the larger of those given).

    Tokens are output tokens.
    """
    wanted = max(
        wanted_requests_per_second or 0.0, (wanted_tokens_per_minute or 0.0) / 60 / output_len
    )
    # A load that is a whole number of systems but for rounding needs no further one.
    return max(1, math.ceil(wanted / requests_per_second - 1e-9))


@dataclass(frozen=True, slots=True)
class Choice:
    """A layout and concurrency that were chosen, and what they give; times in seconds."""

    gpu: str
    degrees: Degrees
    concurrency: int
    ttft_s: float
    tpot_s: float
    tokens_per_second: float
    tokens_per_second_per_gpu: float
    price_per_million_tokens: float | None = None


def low_latency(case: Planned, calibration: Calibration, *, mixed: bool = True) -> Choice | None:
    """Return the layout with the shortest time per token at the case's own concurrency.

    None where no layout fits or meets the targets; of equally fast ones the smallest.
    """
    tried = [_spread(case, layout, 1) for layout in candidates(case.model)]
    outcome = evaluate(tried, calibration, mixed=mixed)
    good = np.flatnonzero(meets_targets(tried, outcome))
    if not good.size:
        return None
    best = int(good[np.nan_to_num(outcome.tpot_s.median, nan=0.0)[good].argmin()])
    return _choice(tried[best], outcome, best, calibration)


def high_throughput(
    case: Planned, calibration: Calibration, *, mixed: bool = True
) -> Choice | None:
    """Return the layout and concurrency with the most tokens per second and GPU.

    Only those that fit and meet the targets; None where there is none.
    """
    asked = [
        replace(case, case=replace(case.case, batch=None, concurrency=concurrency))
        for concurrency in CONCURRENCIES
    ]
    tried = [_spread(one, layout, 1) for layout in candidates(case.model) for one in asked]
    outcome = evaluate(tried, calibration, mixed=mixed)
    gpus = np.array([one.degrees.gpus for one in tried])
    # Requests that only wait add nothing; what does not run at a time is not a concurrency.
    running = outcome.sequences >= np.array([one.requests for one in tried])
    good = np.flatnonzero(meets_targets(tried, outcome) & running)
    if not good.size:
        return None
    best = int(good[(outcome.tokens_per_second / gpus)[good].argmax()])
    return _choice(tried[best], outcome, best, calibration)


def _choice(case: Planned, outcome: Outcome, place: int, calibration: Calibration) -> Choice:
    rate = float(outcome.tokens_per_second[place])
    return Choice(
        gpu=calibration.hardware.name,
        degrees=case.degrees,
        concurrency=case.requests,
        ttft_s=float(outcome.ttft_s.median[place]),
        tpot_s=float(outcome.tpot_s.median[place]),
        tokens_per_second=rate,
        tokens_per_second_per_gpu=rate / case.degrees.gpus,
    )


def rank_gpus(
    case: Planned,
    calibrations: Sequence[Calibration],
    *,
    price_per_hour: Mapping[str, float] | None = None,
    mixed: bool = True,
) -> list[Choice]:
    """Return the best choice of each GPU type for throughput under the targets, best first.

    By price per million output tokens where ``price_per_hour`` (of one GPU, by the name of the
    calibrated device) has a price, then by tokens per second and GPU. Types on which no layout
    fits, meets the targets or can be timed are left out.
    """
    prices = price_per_hour or {}
    found = []
    for calibration in calibrations:
        choice = high_throughput(case, calibration, mixed=mixed)
        if choice is None:
            continue
        price = prices.get(calibration.hardware.name)
        if price is not None:
            per_token = price / 3600 / choice.tokens_per_second_per_gpu
            choice = replace(choice, price_per_million_tokens=per_token * 1e6)
        found.append(choice)
    return sorted(
        found,
        key=lambda c: (
            c.price_per_million_tokens is None,
            c.price_per_million_tokens or 0.0,
            -c.tokens_per_second_per_gpu,
        ),
    )


def cold_start_s(
    model: ModelShape, precision: str, *, source_gbps: float, tp: int = 1, pp: int = 1, ep: int = 1
) -> float:
    """Return seconds until the weights are in place, read once at ``source_gbps`` (GB/s, 10^9).

    The source (disk, network, host link) is shared by all GPUs of a copy, so it carries all of
    their shares. Raises ``RoofprobeError`` for a rate that is not above 0 or a wrong split.
    """
    split_of(model, tp, pp, ep)
    if not (math.isfinite(source_gbps) and source_gbps > 0):
        raise RoofprobeError("bad-rate", "A source's rate must be a number of GB/s above 0.")
    share = weight_bytes(model, precision, tp=tp, pp=pp, ep=ep)
    return share * max(tp, ep) * pp / (source_gbps * 1e9)
