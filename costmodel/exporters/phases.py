"""Efficiencies of whole phases, for planners that know one figure for compute and one for memory.

For a model, a precision and a degree of tensor parallelism, a phase (a prefill, or one decode step)
has F operations and B bytes per GPU and takes t seconds by the calibrated operations, links aside:

    flops_efficiency  = F / (P t)        of a prefill, whose time arithmetic decides
    memory_efficiency = B / (W t)        of a decode step, whose time memory decides

with the datasheet's P and W. Fixed times (launches, prologues) are inside: they make a decode step
of one sequence less efficient than one of thirty-two, so a row holds for its batch and length. The
other figure of each phase, which should not decide, is what large matrix products reach, or what
this phase does where that is more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from roofprobe.costmodel.exporters.files import figures
from roofprobe.costmodel.exporters.subject import Subject
from roofprobe.costmodel.forms import FORMATS, LINK_SHARES
from roofprobe.costmodel.models import ModelShape
from roofprobe.costmodel.ops import Op, roofline
from roofprobe.costmodel.parallelism import split_of
from roofprobe.costmodel.predict import time_of
from roofprobe.costmodel.steps import Layout, Load, compute_precision, step_ops
from roofprobe.records.errors import RoofprobeError

PROMPT_LENS: Final = (1024, 2048, 8192)
BATCHES: Final = (1, 8, 32, 128)
CONTEXT: Final = 2048
# Of those, the rows that stand for their phase where a planner takes one only.
PREFILL_TOKENS: Final = 2048
DECODE_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of one model on one GPU of a tensor-parallel group, links aside.

    ``tokens`` are prompt tokens of each sequence in prefill, cached tokens in decode; ``seconds``
    is the calibrated time that the efficiencies reproduce.
    """

    model: str
    phase: str
    precision: str
    kv_precision: str
    tp: int
    batch: int
    tokens: int
    seconds: float
    flops: float
    bytes: float
    flops_efficiency: float
    memory_efficiency: float
    bound: str

    def as_json(self) -> dict[str, Any]:
        """Return the fields with six figures."""
        return {k: figures(v) if isinstance(v, float) else v for k, v in asdict(self).items()}


def phases(subject: Subject) -> list[Phase]:
    """Return prefill and decode of each model, precision and degree that can be timed.

    Raises ``RoofprobeError`` (``nothing-to-export``) where none can.
    """
    found: list[Phase] = []
    why: RoofprobeError | None = None
    for model in subject.models:
        for precision in subject.precisions("gemm"):
            for tp in subject.degrees:
                try:
                    split_of(model, tp)
                    found += _of(subject, model, precision, tp)
                except RoofprobeError as error:
                    why = error
    if not found:
        said = f" ({why.sentence})" if why else ""
        raise RoofprobeError(
            "nothing-to-export",
            f"{subject.source} cannot time a whole step of any of the models{said}",
        )
    return found


def _of(subject: Subject, model: ModelShape, precision: str, tp: int) -> Iterator[Phase]:
    kv = compute_precision(precision)
    loads = [
        ("prefill", 1, tokens, Load(prompts=1.0, prompt_len=float(tokens)))
        for tokens in PROMPT_LENS
    ]
    loads += [
        ("decode", batch, CONTEXT, Load(decodes=float(batch), context=float(CONTEXT)))
        for batch in BATCHES
    ]
    for phase, batch, tokens, load in loads:
        ops = local_step(model, load, precision, kv, tp)
        yield _phase(subject, ops, model.name, phase, precision, kv, tp, batch, tokens)


def local_step(model: ModelShape, load: Load, precision: str, kv: str, tp: int) -> list[Op]:
    """Return the operations of one step on one GPU, links aside."""
    ops = step_ops(model, load, precision=precision, kv_precision=kv, layout=Layout(tp=tp))
    return [op for op in ops if op.op not in LINK_SHARES and np.max(op.count) > 0]


def _phase(
    subject: Subject, ops: list[Op], model: str, phase: str, precision: str, kv: str,
    tp: int, batch: int, tokens: int,
) -> Phase:  # fmt: skip
    calibration = subject.calibration
    time = time_of(calibration, ops)
    least = roofline(calibration, ops, 1)
    product = calibration.fits("gemm", precision)[0]
    compute_s, memory_s = float(least.compute_s[0]), float(least.memory_s[0])
    hardware = calibration.hardware
    assert hardware.bandwidth is not None, "it was timed"
    prefill = phase == "prefill"
    return Phase(
        model=model,
        phase=phase,
        precision=precision,
        kv_precision=kv,
        tp=tp,
        batch=batch,
        tokens=tokens,
        seconds=time.median_s,
        # Of attention in bf16 beside fp8 products the seconds at peak add up, not the operations.
        flops=compute_s * hardware.peak_flops[FORMATS[precision].peak],
        bytes=memory_s * hardware.bandwidth,
        flops_efficiency=(
            compute_s / time.median_s
            if prefill
            else max(min(1.0, product.compute_efficiency), compute_s / time.median_s)
        ),
        memory_efficiency=(
            max(min(1.0, product.memory_efficiency), memory_s / time.median_s)
            if prefill
            else memory_s / time.median_s
        ),
        bound=time.bound,
    )


def choose(found: list[Phase], **wanted: Any) -> Phase | None:
    """Return the first phase whose fields are as wanted."""
    for one in found:
        if all(getattr(one, name) == value for name, value in wanted.items()):
            return one
    return None
