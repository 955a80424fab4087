"""Many cases at once: what fits, and what their users see, as arrays in the order of the cases.

Cases of one model and pair of precisions become one `serving.Group`; memory, which depends on the
layout in whole layers and heads, is asked once per layout. A static batch has to fit at its full
length. Under continuous batching a sequence is on average input + output/2 tokens long, and that
decides how many run at a time; requests beyond wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from roofprobe.costmodel.forms import FloatArray
from roofprobe.costmodel.memory import max_batch
from roofprobe.costmodel.plan_layout import Degrees, Planned
from roofprobe.costmodel.serving import Band, Group, Requests, serve
from roofprobe.costmodel.steps import Layout
from roofprobe.records.errors import RoofprobeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from roofprobe.costmodel.calibration import Calibration
    from roofprobe.costmodel.model_shape import ModelShape
    from roofprobe.records.schema import Reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of each case: arrays in the order of the cases, times in seconds.

    ``room`` requests of their mean length, ``most`` of their full length fit one copy; a case
    ``fits`` if its requests do. Rates are of the whole system, ``active`` requests of one copy.
    ``prefill_bound`` and ``decode_bound`` index `ops.BOUNDS`. ``refused`` says by case what the
    calibration cannot time.
    """

    room: FloatArray
    most: FloatArray
    fits: NDArray[np.bool_]
    sequences: FloatArray
    active: FloatArray
    ttft_s: Band
    tpot_s: Band
    e2e_s: Band
    prefill_s: FloatArray
    decode_s: FloatArray
    tokens_per_second: FloatArray
    requests_per_second: FloatArray
    prefill_bound: NDArray[np.int64]
    decode_bound: NDArray[np.int64]
    flags: NDArray[np.int64]
    refused: Mapping[int, Reason]


def evaluate(cases: Sequence[Planned], calibration: Calibration, *, mixed: bool = True) -> Outcome:
    """Return what becomes of ``cases``; raises ``RoofprobeError`` if memory is of unknown size."""
    room, most = capacities(cases, calibration)
    parts = list(_parts(cases))
    asked = np.array([_requests(case) for case in cases])
    static = np.array([case.case.batch is not None for case in cases], dtype=bool)
    fits = np.where(static, most >= asked, room >= 1) if cases else np.zeros(0, dtype=bool)
    in_flight = np.where(static, asked, np.minimum(asked, np.maximum(room, 1)))
    groups = []
    for (model, precision, kv_precision), places in parts:
        at = np.array(places)
        degrees = [cases[place].degrees for place in places]
        groups.append(
            Group(
                model,
                precision,
                kv_precision,
                _layout(degrees),
                Requests(
                    sequences=in_flight[at],
                    input_len=np.array([float(cases[p].case.input_len) for p in places]),
                    output_len=np.array([float(cases[p].case.output_len) for p in places]),
                    static=static[at],
                    waiting=np.maximum(asked[at] - in_flight[at], 0.0),
                ),
                separate_quantise=quantises_apart(calibration, precision),
            )
        )
    served = serve(calibration, groups, mixed=mixed)
    copies = np.array([float(case.degrees.dp) for case in cases])
    order = np.argsort([place for _, places in parts for place in places])

    def joined(pick: Any) -> Any:
        return np.concatenate([pick(one) for one in served])[order] if served else np.zeros(0)

    def band(name: str) -> Band:
        return Band(
            *(joined(lambda one, n=n: getattr(getattr(one, name), n)) for n in Band.__slots__)
        )

    return Outcome(
        room=room,
        most=most,
        fits=fits,
        sequences=in_flight,
        active=joined(lambda one: one.active),
        ttft_s=band("ttft_s"),
        tpot_s=band("tpot_s"),
        e2e_s=band("e2e_s"),
        prefill_s=joined(lambda one: one.prefill.total_s),
        decode_s=joined(lambda one: one.decode.total_s),
        tokens_per_second=joined(lambda one: one.tokens_per_second) * copies,
        requests_per_second=joined(lambda one: one.requests_per_second) * copies,
        prefill_bound=joined(lambda one: one.prefill.bound()),
        decode_bound=joined(lambda one: one.decode.bound()),
        flags=joined(lambda one: one.prefill.flags | one.decode.flags),
        refused={
            places[case]: reason
            for (_, places), one in zip(parts, served, strict=True)
            for case, reason in one.refused.items()
        },
    )


def quantises_apart(calibration: Calibration, precision: str) -> bool:
    """Return whether converting activations is an operation beside the calibrated product.

    Our own runs time the product alone; published tables time an engine's layer, conversion
    included.
    """
    origins = {source.key: source.origin for source in calibration.provenance}
    fits = calibration.fits("gemm", precision)
    return bool(fits) and origins.get(fits[0].provenance) == "run"


def _requests(case: Planned) -> float:
    """Return the requests of one copy: an even share, at least one."""
    return float(max(1.0, case.requests / case.degrees.dp))


def _parts(
    cases: Sequence[Planned],
) -> Iterator[tuple[tuple[ModelShape, str, str], list[int]]]:
    found: dict[tuple[int, str, str], list[int]] = {}
    for place, case in enumerate(cases):
        found.setdefault((id(case.model), case.precision, case.kv_precision), []).append(place)
    for (_, precision, kv_precision), places in found.items():
        yield (cases[places[0]].model, precision, kv_precision), places


def _layout(degrees: Sequence[Degrees]) -> Layout:
    return Layout(
        tp=np.array([d.tp for d in degrees]),
        pp=np.array([d.pp for d in degrees]),
        ep=np.array([d.ep for d in degrees]),
        dp=np.array([d.dp for d in degrees]),
    )


def capacity_of(calibration: Calibration) -> float:
    """Return the bytes of memory of one GPU; raises ``RoofprobeError`` if that is unknown."""
    capacity = calibration.hardware.memory_bytes
    if capacity is None:
        raise RoofprobeError(
            "unknown-memory",
            f"How much memory {calibration.hardware.name} has is not known, so nothing can be "
            "said to fit; choose another device.",
        )
    return float(capacity)


def capacities(cases: Sequence[Planned], calibration: Calibration) -> tuple[FloatArray, FloatArray]:
    """Return how many requests of mean and of full length fit one copy of each case.

    Raises ``RoofprobeError`` if the memory's size is unknown.
    """
    capacity = capacity_of(calibration)
    layouts: dict[tuple[Any, ...], list[int]] = {}
    for place, case in enumerate(cases):
        d = case.degrees
        key = (id(case.model), case.precision, case.kv_precision, d.tp, d.pp, d.ep)
        layouts.setdefault(key, []).append(place)
    room, most = np.zeros(len(cases)), np.zeros(len(cases))
    for (_, precision, kv_precision, tp, pp, ep), places in layouts.items():
        full = np.array([cases[p].case.input_len + cases[p].case.output_len for p in places])
        mean = np.array([cases[p].case.input_len + cases[p].case.output_len // 2 for p in places])
        both = max_batch(
            cases[places[0]].model, capacity, context_len=np.concatenate([mean, full]),
            precision=precision, kv_precision=kv_precision, tp=tp, pp=pp, ep=ep,
        )  # fmt: skip
        # A copy whose experts span ep / tp of them counts as one; its memory is per GPU anyway.
        room[places], most[places] = both[: len(places)], both[len(places) :]
    return room, most
