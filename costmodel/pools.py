"""Prefill and decode apart: one pool of GPUs for prompts, one for tokens, and what crosses between.

In one pool a prompt disturbs everybody's decoding; apart, each pool has the layout and batch that
suit it (DistServe, OSDI 2024; Splitwise, ISCA 2024). The prefill pool computes prompts one after
another, so its TTFT is a prefill and its wait; the finished KV cache crosses a link to the decode
pool, which decodes undisturbed.

    first token   t_prefill(1), from the prefill pool
    transfer      KV bytes of the prompt / (GPUs of a prefill copy · link), between first and second
    TPOT          t_decode(b, input + output/2)
    rates         prefill copy 1 / t_prefill(1), decode copy b / (TPOT · (output - 1))

Copies are balanced so that neither pool waits for the other: their ratio is the inverse ratio of
those rates. Models of images and sound (`steps.encoder_ops`) form a third pool of prefills.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from roofprobe.costmodel.evaluate import evaluate
from roofprobe.costmodel.kv_cache import kv_cache_bytes
from roofprobe.costmodel.plan_layout import Planned
from roofprobe.costmodel.predict import time_of
from roofprobe.costmodel.steps import encoder_ops
from roofprobe.records.errors import RoofprobeError

if TYPE_CHECKING:
    from roofprobe.costmodel.calibration import Calibration
    from roofprobe.costmodel.model_shape import EncoderShape


@dataclass(frozen=True, slots=True)
class Pools:
    """Two pools that carry a load: copies and GPUs of each, and what users see (seconds)."""

    prefill_copies: int
    decode_copies: int
    prefill_gpus: int
    decode_gpus: int
    ttft_s: float
    transfer_s: float
    tpot_s: float
    e2e_s: float
    requests_per_second: float
    tokens_per_second: float
    tokens_per_second_per_gpu: float


def separate_pools(
    prefill: Planned,
    decode: Planned,
    calibration: Calibration,
    *,
    requests_per_second: float,
    transfer_gbps: float | None = None,
    decode_calibration: Calibration | None = None,
) -> Pools:
    """Return the pools that carry ``requests_per_second``.

    ``prefill`` and ``decode`` are one copy's layout of each pool (the same model and lengths;
    decode's batch or concurrency is that of a copy). ``transfer_gbps`` is one GPU's link one way in
    GB/s, that of the prefill pool's GPU unless given. Raises ``RoofprobeError``:
    ``does-not-fit``, ``no-link``, and what cannot be timed.
    """
    if not (math.isfinite(requests_per_second) and requests_per_second > 0):
        raise RoofprobeError("bad-rate", "A load must be a number of requests/s above 0.")
    first = replace(prefill, case=replace(prefill.case, batch=1, concurrency=None))
    together = decode.case.batch or decode.case.concurrency or 1
    steady = replace(decode, case=replace(decode.case, batch=together, concurrency=None))
    prompt = evaluate([first], calibration)
    tokens = evaluate([steady], decode_calibration or calibration)
    for name, case, outcome in (("prefill", first, prompt), ("decode", steady, tokens)):
        if not outcome.fits[0]:
            raise RoofprobeError(
                "does-not-fit",
                f"{case.model.name} does not fit a copy of the {name} pool at "
                f"tp={case.degrees.tp}, pp={case.degrees.pp}; take more GPUs or fewer requests.",
            )
        for reason in outcome.refused.values():
            raise RoofprobeError(reason.code, reason.sentence)
    prefill_s = float(prompt.ttft_s.median[0])
    tpot_s = float(tokens.tpot_s.median[0]) if decode.case.output_len > 1 else 0.0
    transfer_s = _transfer_s(first, calibration, transfer_gbps)
    later = max(decode.case.output_len - 1, 1)
    share_prefill = requests_per_second * prefill_s
    share_decode = requests_per_second * max(tpot_s, 1e-12) * later / together
    copies = math.ceil(share_prefill - 1e-9), math.ceil(share_decode - 1e-9)
    gpus = copies[0] * first.degrees.gpus, copies[1] * steady.degrees.gpus
    rate = requests_per_second * decode.case.output_len
    return Pools(
        prefill_copies=copies[0],
        decode_copies=copies[1],
        prefill_gpus=gpus[0],
        decode_gpus=gpus[1],
        ttft_s=prefill_s,
        transfer_s=transfer_s,
        tpot_s=tpot_s,
        e2e_s=prefill_s + transfer_s + tpot_s * (decode.case.output_len - 1),
        requests_per_second=requests_per_second,
        tokens_per_second=rate,
        tokens_per_second_per_gpu=rate / sum(gpus),
    )


def _transfer_s(case: Planned, calibration: Calibration, transfer_gbps: float | None) -> float:
    link = transfer_gbps * 1e9 if transfer_gbps else calibration.hardware.link
    if link is None:
        raise RoofprobeError(
            "no-link",
            f"The link of {calibration.hardware.name} is not known; say transfer_gbps.",
        )
    d = case.degrees
    # Each GPU sends its own share over its own link.
    share = kv_cache_bytes(
        case.model, case.kv_precision, context_len=case.case.input_len, tp=d.tp, pp=d.pp
    )
    return float(share) / link


@dataclass(frozen=True, slots=True)
class EncoderTime:
    """One pass of an encoder: seconds with an 80 % interval, and inputs per second and GPU."""

    median_s: float
    p10_s: float
    p90_s: float
    inputs_per_second_per_gpu: float


def encoder_time(
    encoder: EncoderShape,
    calibration: Calibration,
    *,
    inputs: int = 1,
    tokens: int | None = None,
    precision: str = "bf16",
    tp: int = 1,
) -> EncoderTime:
    """Return a pass over ``inputs`` images or windows of ``tokens`` patches or frames each.

    ``tokens`` defaults to the most that the encoder takes. Raises ``RoofprobeError``: ``no-length``
    where neither says, and what cannot be timed.
    """
    length = tokens or encoder.tokens
    if length is None:
        raise RoofprobeError(
            "no-length", f"This {encoder.kind} encoder has no size of its own; say tokens."
        )
    time = time_of(
        calibration, encoder_ops(encoder, float(inputs), float(length), precision=precision, tp=tp)
    )
    return EncoderTime(time.median_s, time.p10_s, time.p90_s, inputs / time.median_s / tp)
