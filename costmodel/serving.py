"""Serving: what steps mean for the users of one replica, in static and in continuous batching.

**Metrics.** TTFT: time to first token. TPOT: time per output token after the first,
(E2E - TTFT) / (output - 1), undefined for one token. E2E = TTFT + TPOT · (output - 1). Token
rates count output tokens.

**Static batch.** b requests start together: TTFT = t_prefill(b), and decode step j sees input + j
tokens, so the mean over steps is t_decode(b, input + output/2) (steps are affine in the context).

**Continuous batching** at concurrency c. b = min(c, what the KV cache holds) requests are in
flight; one that ends is replaced at once. Each is in its prompt during one of ``output`` steps, so
in steady state with independent phases a step carries the prompt of a given other request with
probability 1/output:

    P0 = (1 - 1/output)^(b - 1)                      no prompt in the step
    K  = (b - 1)/output / (1 - P0)                   prompts of a step that has any
    TPOT = P0·t_decode(b) + (1 - P0)·t_mixed(K prompts, b - K decodes)

A *mixed* step runs prompt and decoding tokens through the same matrix products (iteration-level
scheduling, Orca, OSDI 2022; the default of vLLM's and TensorRT-LLM's schedulers): weights are read
once for both, so a prompt costs the decoding requests t_mixed - t_decode, less than a prefill of
its own. With ``mixed=False`` prompts run in steps of their own (SGLang's default), during which
decoding waits: TPOT = t_decode(b) + (b - 1)/output · t_prefill(1).

**Token budget** (chunked prefill, Sarathi-Serve, OSDI 2024). A step holds at most ``budget`` new
prompt tokens; longer prompts are split, later chunks attend to earlier ones. More than ``budget``
prompt tokens per step do not arrive for long: decoding requests are then at most
1 + budget · output / input, and the rest waits for its first token.

**TTFT under concurrency is queueing** and not predicted by kernels: the median is a closed form,
what is left of the running step on arrival, E[t²] / 2E[t], plus the step with the own prompt; p10
is the prefill alone; p90 at least the mean wait when all requests arrive at once,
(b + 1)/2 · t_prefill. Requests beyond b wait for a place first (Little's law).

**Pipeline.** pp micro-batches of b/pp fill the stages; a token takes the sum of all stages. A
prompt delays a stage by its share of the layers: (1 - P0)/pp. A static prefill of M micro-batches
leaves (pp - 1)/(M + pp - 1) of the pipeline idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofprobe.costmodel.forms import FloatArray
from roofprobe.costmodel.ops import Cost, Step, price
from roofprobe.costmodel.steps import Layout, Load, step_ops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from roofprobe.costmodel.calibration import Calibration
    from roofprobe.costmodel.model_shape import ModelShape
    from roofprobe.records.schema import Reason

# Prompt tokens per step: max_num_batched_tokens of vLLM on data-centre GPUs, max_num_tokens of
# TensorRT-LLM and chunked_prefill_size of SGLang are 8192 by default.
TOKEN_BUDGET: Final = 8192
# Tokens below which splitting a prefill into more micro-batches no longer fills a stage.
MICROBATCH_TOKENS: Final = 2048
# Relative half-width that all operations share: a calibration made at another clock or power
# state. Clocks more than 2 % off are reported as out of range; of an even spread within that, 80 %
# lie within 1.6 %.
CLOCK_WIDTH: Final = 0.8 * 0.02
# What the host adds to a prefill and to a step, seconds. Engines differ; nothing is added unless
# it was measured for the engine at hand.
HOST_PREFILL_S: Final = 0.0
HOST_STEP_S: Final = 0.0


@dataclass(frozen=True, slots=True)
class Requests:
    """What one replica serves, arrays per case.

    ``sequences`` are in flight and have a place in the KV cache, ``waiting`` have none yet.
    ``static`` batches start and end together.
    """

    sequences: FloatArray
    input_len: FloatArray
    output_len: FloatArray
    static: NDArray[np.bool_]
    waiting: FloatArray


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that share a model and its precisions; the arrays are in layout and requests.

    ``separate_quantise``: the calibration's products do not contain converting their input.
    """

    model: ModelShape
    precision: str
    kv_precision: str
    layout: Layout
    requests: Requests
    separate_quantise: bool = False

    @property
    def cases(self) -> int:
        """Return the number of cases."""
        return int(self.requests.sequences.size)


@dataclass(frozen=True, slots=True)
class Band:
    """A predicted time in seconds per case: median and the bounds of an 80 % interval."""

    median: FloatArray
    p10: FloatArray
    p90: FloatArray


@dataclass(frozen=True, slots=True)
class Served:
    """What users of one replica see, per case; NaN where a metric is undefined.

    ``prefill`` and ``decode`` are the costs of the steps behind: all of a case's prompt alone, and
    one decode step. ``active`` requests decode at a time. ``tokens_per_second`` is one replica's.
    """

    ttft_s: Band
    tpot_s: Band
    e2e_s: Band
    tokens_per_second: FloatArray
    requests_per_second: FloatArray
    active: FloatArray
    prefill: Cost
    decode: Cost
    refused: Mapping[int, Reason]


@dataclass(frozen=True, slots=True)
class _Shares:
    """How steps and prompts divide, per case; see the module docstring."""

    active: FloatArray
    micro: FloatArray  # micro-batches of a static prefill
    chunk: FloatArray  # tokens of a prompt in one step
    alone: Load
    alone_steps: FloatArray
    decode: Load
    mixed: Load
    loaded: FloatArray  # share of steps with a prompt
    own_steps: FloatArray


def serve(
    calibration: Calibration,
    groups: Sequence[Group],
    *,
    mixed: bool = True,
    budget: int = TOKEN_BUDGET,
) -> list[Served]:
    """Return what users of each case see; all operations of all groups are timed together.

    Cases with an operation that the calibration cannot time are NaN, their ``refused`` says why.
    """
    shares = [_shares(group, budget) for group in groups]
    steps = []
    for group, share in zip(groups, shares, strict=True):
        for load in (share.alone, share.decode, share.mixed):
            ops = step_ops(
                group.model,
                load,
                precision=group.precision,
                kv_precision=group.kv_precision,
                layout=group.layout,
                separate_quantise=group.separate_quantise,
            )
            steps.append(Step(ops, group.cases))
    costs, refusals = price(calibration, steps)
    refused: list[dict[int, Reason]] = [{} for _ in groups]
    for refusal in refusals:
        for case in refusal.cases.tolist():
            refused[refusal.step // 3].setdefault(case, refusal.reason)
    return [
        _served(group, share, (costs[3 * i], costs[3 * i + 1], costs[3 * i + 2]), mixed, refused[i])
        for i, (group, share) in enumerate(zip(groups, shares, strict=True))
    ]


def _shares(group: Group, budget: int) -> _Shares:
    r, pp = group.requests, np.asarray(group.layout.pp, dtype=float)
    s, output = r.input_len, r.output_len
    active = np.where(r.static, r.sequences, np.minimum(r.sequences, 1 + budget * output / s))
    chunk = np.minimum(s, budget)
    prefix = (s - chunk) / 2
    together = np.where(r.static, r.sequences, 1.0)
    micro = np.where(pp > 1, np.clip(np.floor(together * s / MICROBATCH_TOKENS), 1, together), 1.0)
    prompts = together / micro
    alone_steps = np.maximum(1.0, prompts * s / budget)
    alone = Load(prompts * s / (alone_steps * chunk), chunk, prefix)
    mean_context = s + output / 2
    flight = np.maximum(1.0, active / pp)
    others = np.maximum(active - 1, 0.0)
    # log1p(-1) is -inf for one output token: every step of the others is a prompt.
    with np.errstate(divide="ignore", invalid="ignore"):
        none = np.where(others > 0, np.exp(others * np.log1p(-1 / output)), 1.0)
    prompts = np.where(others > 0, others / output / np.maximum(1 - none, 1e-12), 1.0)
    burst_steps = np.maximum(1.0, prompts * s / budget)
    loaded = np.where(r.static, 0.0, np.minimum(1.0, (1 - none) * burst_steps))
    in_step = prompts * s / (burst_steps * chunk)
    return _Shares(
        active=active,
        micro=micro,
        chunk=chunk,
        alone=alone,
        alone_steps=alone_steps,
        decode=Load(decodes=flight, context=mean_context),
        mixed=Load(in_step, chunk, prefix, np.maximum(flight - in_step / pp, 0.0), mean_context),
        loaded=loaded,
        own_steps=s / chunk,
    )


def _served(
    group: Group,
    share: _Shares,
    steps: tuple[Cost, Cost, Cost],
    mixed: bool,
    refused: dict[int, Reason],
) -> Served:
    r, pp = group.requests, np.asarray(group.layout.pp, dtype=float)
    alone, decode, mix = steps
    # M micro-batches pass pp stages in M + pp - 1 turns of a stage's share each.
    prefill = alone.times(share.alone_steps * (share.micro + pp - 1) / pp)
    several = ~r.static & (share.active > 1)
    loaded = share.loaded / pp
    if mixed:
        token = decode.times(1 - loaded) + mix.times(loaded)
        own = mix.times(share.own_steps)
    else:
        turns = np.where(several, np.maximum(share.active - 1, 0.0) / r.output_len, 0.0)
        token = decode + prefill.times(turns / pp)
        own = prefill
    own = prefill.times(~several * 1.0) + own.times(several * 1.0)
    later = np.maximum(r.output_len - 1, 0.0)
    cycle = own.total_s + token.total_s * later
    # What is left of the running step: E[t²] / 2E[t] over steps with and without a prompt.
    square = (1 - loaded) * decode.total_s**2 + loaded * mix.total_s**2
    rest = np.where(several, square / (2 * token.total_s**2), 0.0)
    first = own + token.times(rest)
    queue_s = (r.waiting + r.sequences - share.active) / share.active * cycle
    ttft = _band(first, HOST_PREFILL_S)
    least = prefill.interval_s(CLOCK_WIDTH)[0]
    burst = (share.active + 1) / 2 * prefill.total_s
    ttft = Band(
        ttft.median + queue_s,
        np.where(several, np.minimum(least, ttft.p10), ttft.p10) + queue_s,
        np.where(several, np.maximum(burst, ttft.p90), ttft.p90) + queue_s,
    )
    tpot = _band(token, HOST_STEP_S)
    e2e_cost = first + token.times(later)
    e2e = _band(e2e_cost, HOST_PREFILL_S + HOST_STEP_S * later)
    e2e = Band(
        e2e.median + queue_s,
        e2e.p10 + queue_s,
        np.maximum(e2e.p90 + queue_s, ttft.p90 + tpot.median * later),
    )
    one = r.output_len <= 1
    tpot = Band(*(np.where(one, np.nan, part) for part in (tpot.median, tpot.p10, tpot.p90)))
    rate = share.active / cycle
    return Served(
        ttft_s=ttft,
        tpot_s=tpot,
        e2e_s=e2e,
        tokens_per_second=rate * r.output_len,
        requests_per_second=rate,
        active=share.active,
        prefill=prefill,
        decode=decode,
        refused=refused,
    )


def _band(cost: Cost, host_s: Any) -> Band:
    low, high = cost.interval_s(CLOCK_WIDTH)
    return Band(cost.total_s + host_s, low + host_s, high + host_s)
