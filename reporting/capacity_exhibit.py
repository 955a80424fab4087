"""What fits: how many GPUs like this one a model needs, by precision. Arithmetic, no measurement.

Weights follow from the model's sizes, the KV cache from the context, activations and the runtime's
share from `roofprobe.costmodel.memory`. The fewest GPUs are those of the smallest layout (tensor
parallel within a server, then pipeline stages) that holds one request of `CONTEXT` tokens.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from roofprobe.records.schema import Run
from roofprobe.reporting import numbers
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.naming import alike
from roofprobe.reporting.small_table import SmallTable

# From small to big; presets of the cost model.
MODELS: Final = (
    "qwen3-0.6b", "qwen3-4b", "llama-3.1-8b", "qwen3-14b", "qwen3-32b", "llama-3.1-70b",
    "qwen3-235b-a22b", "llama-3.1-405b", "deepseek-r1",
)  # fmt: skip
PRECISIONS: Final = ("bf16", "fp8", "int4")
CONTEXT: Final = 4096
_NODE: Final = 8  # GPUs of one server
_OWN_HOST: Final = "cpu"  # a backend of which there is one, whatever a model needs


def capacity(run: Run, device_id: str, beside: Beside) -> Exhibit | None:
    """Return the table for a device whose memory is known, the first of its kind in the run."""
    device = next(iter(alike(run, device_id)), None)
    if device is None or device.device_id != device_id or not device.memory_bytes:
        return None
    alone = device.backend == _OWN_HOST
    most = 1 if alone else None
    made = {
        model: [_fit(model, precision, device.memory_bytes, most) for precision in PRECISIONS]
        for model in MODELS
    }
    rows = tuple(
        (model, *(cell for fit in fits for cell in _cells(fit))) for model, fits in made.items()
    )
    unit = "hosts" if alone else "GPUs"
    heads = tuple(
        f"{precision} {what}" for precision in PRECISIONS for what in ("GB", unit, "requests")
    )
    table = SmallTable(
        f"Models that fit, at {CONTEXT:,} tokens",
        f"Memory of the weights in GB of 10^9 bytes, the fewest {unit}, and how many requests of "
        f"{CONTEXT:,} tokens they hold at a time; a dash where the model does not fit.",
        ("model", *heads),
        rows,
    )
    return Exhibit(
        title="What fits",
        sentence=_sentence({m: fits[0] for m, fits in made.items()}, device.memory_bytes, alone),
        tables=(table,),
        notes=(_note(),),
    )


def _sentence(
    fits: dict[str, tuple[float, int | None, int]], memory_bytes: int, alone: bool
) -> str:
    one = [model for model, (_, gpus, _) in fits.items() if gpus == 1]
    size = numbers.capacity(memory_bytes)
    if not one:
        return f"Of these models none fits {size} in {PRECISIONS[0]}; this is arithmetic."
    told = (
        f"In {size} the greatest of these models that fits in {PRECISIONS[0]} is {one[-1]}, with "
        f"room for {_counted(fits[one[-1]][2])} of {CONTEXT:,} tokens."
    )
    server = [m for m, (_, gpus, _) in fits.items() if gpus is not None and 1 < gpus <= _NODE]
    if server and not alone:
        told += f" A server of {_NODE} holds {server[-1]} on {fits[server[-1]][1]}."
    return f"{told} This is arithmetic, not a measurement."


def _counted(requests: int) -> str:
    return "1 request" if requests == 1 else f"{requests:,} requests"


def _note() -> str:
    from roofprobe.costmodel import memory

    return (
        f"{memory.UTILISATION:.0%} of the memory is used, of which "
        f"{memory.RUNTIME_RESERVE_BYTES / 1e9:.0f} GB are the runtime’s; the KV cache has 16 bits; "
        "activations are an estimate. The command probe plan answers for any model, layout and "
        "context."
    )


@cache
def _fit(
    model: str, precision: str, memory_bytes: int, most: int | None
) -> tuple[float, int | None, int]:
    """Return bytes of the weights, the fewest GPUs (None: does not fit) and their requests."""
    from roofprobe.costmodel.memory import max_batch, weight_bytes
    from roofprobe.costmodel.plan_cases import PlanCase
    from roofprobe.costmodel.plan_layout import Planner
    from roofprobe.costmodel.sizing import candidates

    planned = Planner(float(memory_bytes)).plan(
        PlanCase(model, precision=precision, tp=1, input_len=CONTEXT - 1, output_len=1)
    )
    shape, stored = planned.model, planned.precision
    weights = float(weight_bytes(shape, stored))
    for layout in sorted(candidates(shape), key=lambda degrees: degrees.gpus):
        if most is not None and layout.gpus > most:
            break
        held = max_batch(
            shape, float(memory_bytes), context_len=CONTEXT, precision=stored, tp=layout.tp,
            pp=layout.pp,
        )  # fmt: skip
        if int(held) >= 1:
            return weights, layout.gpus, int(held)
    return weights, None, 0


def _cells(fit: tuple[float, int | None, int]) -> tuple[str, str, str]:
    weights, gpus, requests = fit
    if gpus is None:
        return numbers.digits(weights / 1e9), numbers.UNKNOWN, numbers.UNKNOWN
    return numbers.digits(weights / 1e9), str(gpus), f"{requests:,}"
