"""Planning: what a model will do on a GPU, for one case or for thousands, as plain objects.

Cases are resolved one by one (`plan_layout`), computed together (`evaluate`), and given back in
order. A case that cannot be planned is an object with its inputs and ``error`` (code, sentence).

Times are milliseconds with an 80 % interval (p10, p90) that covers the errors of the calibrated
operations and of the clock; not an engine's own overheads, which differ by engine and version.
Memory is in GB of 10^9 bytes over all GPUs; ``per_gpu`` is the fullest one's. Token rates count
output tokens. ``max_batch`` requests of full length fit the whole system at a time; ``min_gpus``
is the fewest GPUs that fit the requests and meet the targets, null where none does.
``out_of_range`` says why a prediction is less sure than its interval, ``notes`` what it means.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofprobe.costmodel import memory
from roofprobe.costmodel.correction import flags_of
from roofprobe.costmodel.evaluate import Outcome, capacity_of, evaluate
from roofprobe.costmodel.forms import FloatArray
from roofprobe.costmodel.one_thread import one_thread
from roofprobe.costmodel.ops import BOUNDS
from roofprobe.costmodel.plan_cases import BadCase, PlanCase
from roofprobe.costmodel.plan_layout import Planned, Planner
from roofprobe.costmodel.serving import Band
from roofprobe.costmodel.sizing import copies_for_load, fewest_gpus
from roofprobe.records.errors import RoofprobeError

if TYPE_CHECKING:
    from roofprobe.costmodel.calibration import Calibration

TPOT_DEFINITION: Final = "(e2e - ttft) / (output_len - 1)"
_QUEUE: Final = (
    "TTFT above a concurrency of 1 is queueing, which no kernel time predicts: its median is a "
    "closed form for a steady state, its p90 at least the mean wait if all requests arrive at once."
)
_ONE_TOKEN: Final = "Of one output token there is no time per further token."


@one_thread()
def plan_all(
    cases: Iterable[PlanCase | BadCase],
    calibration: Calibration,
    *,
    allow_approximate: bool = False,
    mixed: bool = True,
) -> list[dict[str, Any]]:
    """Return one object per case, in order; see the module docstring.

    Raises ``RoofprobeError`` (``unknown-memory``) if nothing can be said to fit.
    """
    planner = Planner(capacity_of(calibration), allow_approximate=allow_approximate)
    results: list[dict[str, Any]] = []
    places: list[int] = []
    ready: list[Planned] = []
    for case in cases:
        try:
            if isinstance(case, BadCase):
                raise RoofprobeError(case.code, case.sentence)
            ready.append(planner.plan(case))
            places.append(len(results))
            results.append({})
        except RoofprobeError as error:
            given = case.given if isinstance(case, BadCase) else _said(case)
            results.append(_failed(given, error.code, error.sentence))
    outcome = evaluate(ready, calibration, mixed=mixed)
    fewest = fewest_gpus(ready, calibration, mixed=mixed)
    for place, found in zip(places, _objects(ready, outcome, fewest, calibration), strict=True):
        results[place] = found
    return results


def _said(case: PlanCase) -> dict[str, Any]:
    given = {field.name: getattr(case, field.name) for field in fields(case)}
    return {name: value for name, value in given.items() if value is not None}


def _failed(given: Mapping[str, Any], code: str, sentence: str) -> dict[str, Any]:
    return {**given, "error": {"code": code, "sentence": sentence}}


def _objects(
    cases: Sequence[Planned],
    outcome: Outcome,
    fewest: Sequence[int | None],
    calibration: Calibration,
) -> Iterable[dict[str, Any]]:
    bands = [_milliseconds(band) for band in (outcome.ttft_s, outcome.tpot_s, outcome.e2e_s)]
    held = _memory(cases, outcome)
    gpus = np.array([float(case.degrees.gpus) for case in cases])
    rates = _rounded(outcome.tokens_per_second)
    shares = _rounded(outcome.tokens_per_second / gpus)
    requests = _rounded(outcome.requests_per_second)
    steps = _rounded(outcome.prefill_s * 1e3), _rounded(outcome.decode_s * 1e3)
    columns = zip(
        cases, outcome.fits.tolist(), *bands, rates, shares, requests, *steps, held,
        outcome.most.tolist(), fewest, outcome.prefill_bound.tolist(),
        outcome.decode_bound.tolist(), outcome.flags.tolist(), outcome.sequences.tolist(),
        strict=True,
    )  # fmt: skip
    for place, (
        case, fits, ttft, tpot, e2e, rate, share, per_second, prefill, decode, used, most, least,
        prefill_bound, decode_bound, flags, sequences,
    ) in enumerate(columns):  # fmt: skip
        inputs = _resolved(case)
        if not fits:
            error = _does_not_fit(case, used, least, calibration)
            yield {**_failed(inputs, "does-not-fit", error), "memory_gb": used, "min_gpus": least}
            continue
        if place in outcome.refused:
            reason = outcome.refused[place]
            yield _failed(inputs, reason.code, reason.sentence)
            continue
        found = {
            **inputs,
            "ttft_ms": ttft,
            "tpot_ms": tpot,
            "e2e_ms": e2e,
            "tpot_definition": TPOT_DEFINITION,
            "prefill_ms": prefill,
            "decode_step_ms": decode,
            "tokens_per_second": rate,
            "tokens_per_second_per_gpu": share,
            "requests_per_second": per_second,
            "memory_gb": used,
            "max_batch": int(most) * case.degrees.dp,
            "min_gpus": least,
            "bound": {"prefill": BOUNDS[prefill_bound], "decode": BOUNDS[decode_bound]},
            "out_of_range": _out_of_range(case, flags, sequences),
            "notes": _notes(case),
        }
        if case.case.tokens_per_minute or case.case.requests_per_second:
            replicas = copies_for_load(
                per_second,
                case.case.output_len,
                wanted_requests_per_second=case.case.requests_per_second,
                wanted_tokens_per_minute=case.case.tokens_per_minute,
            )
            found["replicas"] = replicas
            found["gpus_for_load"] = replicas * case.degrees.gpus
        yield found


def _resolved(case: Planned) -> dict[str, Any]:
    c, d = case.case, case.degrees
    found: dict[str, Any] = {
        "model": c.model,
        "precision": case.precision,
        "kv_precision": case.kv_precision,
        "tp": d.tp,
        "pp": d.pp,
        "ep": d.ep,
        "dp": d.dp,
    }
    if c.batch is not None:
        found["batch"] = c.batch
    else:
        found["concurrency"] = c.concurrency or 1
    found.update(input_len=c.input_len, output_len=c.output_len, gpus=d.gpus)
    targets = {
        "target_ttft_ms": c.ttft_ms,
        "target_tpot_ms": c.tpot_ms,
        "target_tokens_per_minute": c.tokens_per_minute,
        "target_requests_per_second": c.requests_per_second,
    }
    found.update((name, value) for name, value in targets.items() if value is not None)
    return found


def _rounded(values: FloatArray) -> list[float | None]:
    """Return numbers to six decimals; what is not finite is None."""
    listed = np.round(values, 6).tolist()
    if np.isfinite(values).all():
        return list(listed)
    return [value if math.isfinite(value) else None for value in listed]


def _milliseconds(band: Band) -> list[dict[str, float] | None]:
    parts = (_rounded(part * 1e3) for part in (band.median, band.p10, band.p90))
    return [
        None
        if median is None or low is None or high is None
        else {"median": median, "p10": low, "p90": high}
        for median, low, high in zip(*parts, strict=True)
    ]


def _memory(cases: Sequence[Planned], outcome: Outcome) -> list[dict[str, float]]:
    """Return GB over all GPUs: weights, KV cache of the requests in flight, activations."""
    layouts: dict[tuple[Any, ...], list[int]] = {}
    for place, case in enumerate(cases):
        d = case.degrees
        key = (id(case.model), case.precision, case.kv_precision, d.tp, d.pp, d.ep)
        layouts.setdefault(key, []).append(place)
    found: list[dict[str, float]] = [{} for _ in cases]
    for (_, precision, kv_precision, tp, pp, ep), places in layouts.items():
        static = np.array([cases[p].case.batch is not None for p in places])
        inputs = np.array([cases[p].case.input_len for p in places])
        outputs = np.array([cases[p].case.output_len for p in places])
        used = memory.memory_of(
            cases[places[0]].model,
            context_len=inputs + np.where(static, outputs, outputs // 2),
            batch=np.ceil(outcome.sequences[places]),
            precision=precision, kv_precision=kv_precision, tp=tp, pp=pp, ep=ep,
        )  # fmt: skip
        gpus = np.array([float(cases[p].degrees.gpus) for p in places])
        columns = [
            np.round(part * gpus / 1e9, 4).tolist()
            for part in (
                np.full(len(places), float(used.weights_bytes)),
                used.kv_cache_bytes,
                used.activations_bytes,
                np.full(len(places), float(used.reserve_bytes)),
                used.per_gpu_bytes,
            )
        ]
        per_gpu = np.round(used.per_gpu_bytes / 1e9, 4).tolist()
        names = ("weights", "kv_cache", "activations", "reserve", "total", "per_gpu")
        for place, values in zip(places, zip(*columns, per_gpu, strict=True), strict=True):
            found[place] = dict(zip(names, values, strict=True))
    return found


def _does_not_fit(
    case: Planned, used: Mapping[str, float], least: int | None, calibration: Calibration
) -> str:
    size = (calibration.hardware.memory_bytes or 0) / 1e9
    d, requests = case.degrees, case.requests
    advice = (
        f"at least {least} GPUs are needed"
        if least is not None and least > d.gpus
        else "another layout of the GPUs fits"
        if least is not None
        else "take a narrower precision, a shorter context or fewer requests"
    )
    asked = f"{requests:,} requests" if requests > 1 else "one request"
    return (
        f"{case.model.name} does not fit on {d.gpus} × {calibration.hardware.name} with {asked} of "
        f"{case.case.input_len:,} + {case.case.output_len:,} tokens at tp={d.tp}, pp={d.pp}, "
        f"ep={d.ep}, dp={d.dp}: the fullest GPU would hold {used['per_gpu']:.1f} GB and "
        f"{memory.UTILISATION * size:.1f} of its {size:.1f} GB are used; {advice}."
    )


@functools.lru_cache(maxsize=1024)
def _flag_sentences(flags: int) -> tuple[str, ...]:
    return tuple(
        f"{flag.sentence[:1].upper()}{flag.sentence[1:].rstrip('.')}." for flag in flags_of(flags)
    )


def _out_of_range(case: Planned, flags: int, sequences: float) -> list[str]:
    said = list(_flag_sentences(flags))
    if case.model.approximate:
        said.append(case.model.approximate)
    asked = case.requests / case.degrees.dp
    if case.case.batch is None and sequences < asked:
        said.append(
            f"Only {sequences:.0f} of the {asked:.0f} requests of a copy fit its KV cache at a "
            "time; the others wait for a place."
        )
    return said


def _notes(case: Planned) -> list[str]:
    notes = []
    if case.case.batch is None and case.requests > case.degrees.dp:
        notes.append(_QUEUE)
    if case.case.output_len == 1:
        notes.append(_ONE_TOKEN)
    return notes
