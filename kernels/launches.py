"""Launches without work: the fixed time that every kernel costs before it computes anything.

A kernel that does nothing still has to be handed over. What that costs depends on where one looks,
and the numbers differ by a factor of ten, so each row of the table names what is timed:

- ``host``: the host's clock around launch and wait, each launch waited for. What a program pays
  that needs a result before it goes on: enqueue, start, end, and the way back to the host.
- ``enqueue``: the host's clock around the call alone. The cost of the call's own code: Python,
  torch's dispatcher or Triton's launcher, and the driver. A program whose kernels are shorter than
  this is bound by its host.
- ``batch``: the host's clock around many launches and one wait: the slower of host and device.
- ``device``: events around launches that are all queued before the first starts: how fast a stream
  begins one kernel after another. It has no host in it, if the batch was queued in time.
- ``graph``: the same launches recorded once and replayed, per node. This is what a served model
  pays whose steps are graphs.

Two constants belong in a cost model, the stream's and the graph's; neither is a kernel's run time,
and none of them is a latency of memory. A row's time per launch is seconds over launches; there are
no bytes and no operations to divide by it.

On a processor there is no queue: an operation that does nothing shows the cost of torch's
dispatcher.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from roofprobe.kernels.work import Check, Target, Unsupported, Work, without_triton

if TYPE_CHECKING:
    import torch

Call = Literal["empty", "op", "triton"]
Timed = Literal["host", "enqueue", "batch", "device", "graph"]
Launch = Callable[[], object]

MEASURE = "|counted − launched|"
_CHECKED_LAUNCHES = 3


@dataclass(frozen=True, slots=True)
class LaunchRow:
    """A row as data: what is called, and which part of the launch is timed.

    ``empty`` is a kernel without arguments (on a processor torch's own no-op), ``op`` a torch
    operation on one element, ``triton`` a Triton kernel with the arguments of a product.
    """

    name: str
    call: Call
    timed: Timed
    meaning: str


ROWS: tuple[LaunchRow, ...] = (
    LaunchRow("empty-waited", "empty", "host", "an empty kernel, launched and waited for"),
    LaunchRow("empty-stream", "empty", "device", "empty kernels back to back in a stream"),
    LaunchRow("empty-graph", "empty", "graph", "an empty kernel as a node of a graph"),
    LaunchRow("op-waited", "op", "host", "a torch operation on one element, waited for"),
    LaunchRow("op-enqueue", "op", "enqueue", "the call of a torch operation (its dispatch)"),
    LaunchRow("op-batch", "op", "batch", "torch operations one after another"),
    LaunchRow("op-stream", "op", "device", "torch operations back to back in a stream"),
    LaunchRow("op-graph", "op", "graph", "a torch operation as a node of a graph"),
    LaunchRow("triton-enqueue", "triton", "enqueue", "the call of a Triton kernel (its launcher)"),
    LaunchRow("triton-stream", "triton", "device", "Triton kernels back to back in a stream"),
)
BY_NAME = {row.name: row for row in ROWS}


def unavailable(name: str, target: Target) -> Unsupported | None:
    """Say why a row does not exist on ``target``, or return None when it can be tried."""
    row = BY_NAME[name]
    if row.timed == "graph" and not target.is_gpu:
        return Unsupported("no-graphs", f"torch records no graphs on a {target.kind}")
    if row.timed == "device" and target.kind == "cpu":
        return Unsupported("no-stream", "a CPU has no stream of its own: a call is its work")
    if row.call == "triton" or (row.call == "empty" and target.kind != "cpu"):
        if not target.is_gpu:
            return Unsupported(
                "no-triton-target",
                f"Triton kernels are compiled for CUDA and ROCm GPUs; this device is a "
                f"{target.kind}",
            )
        return without_triton()
    return None


def prepare(name: str, target: Target) -> Work:
    """Return the work of a row; ``config["timed"]`` says what a timer must look at.

    Raises ``Unsupported`` where the row does not exist on ``target``.
    """
    import torch

    reason = unavailable(name, target)
    if reason is not None:
        raise reason
    row = BY_NAME[name]
    counter = torch.zeros(1, dtype=torch.float32, device=target.torch_device)
    launch, kernel = _launcher(row.call, counter, target)
    return Work(
        launches=(launch,),
        flops=0,
        bytes_read=0,
        bytes_written=0,
        array_bytes=0,
        check=partial(_check_count if row.call == "op" else _check_arrival, counter, launch),
        kernel=kernel,
        config={"call": row.call, "timed": row.timed},
    )


def _launcher(call: Call, counter: torch.Tensor, target: Target) -> tuple[Launch, str]:
    if call == "op":
        return partial(counter.add_, 1), "add_ on one element"
    if not target.is_gpu:
        return counter.detach, "detach (no work)"
    from roofprobe.kernels import triton_empty

    if call == "empty":
        return triton_empty.empty_launcher(), "empty_kernel (triton)"
    return triton_empty.arguments_launcher(counter), "arguments_kernel (triton)"


def _check_count(counter: torch.Tensor, launch: Launch) -> Check:
    """Count the launches that arrived, from a poisoned counter: each one adds 1."""
    counter.fill_(float("nan"))
    counter.zero_()
    for _ in range(_CHECKED_LAUNCHES):
        launch()
    counted = float(counter.item())
    error = abs(counted - _CHECKED_LAUNCHES) if math.isfinite(counted) else 1.0
    problem = f"{_CHECKED_LAUNCHES} launches added {counted:g}" if error else None
    return Check(error, 0.0, MEASURE, 1, problem)


def _check_arrival(counter: torch.Tensor, launch: Launch) -> Check:
    """Launch once and wait: an empty kernel can only fail; here it is also compiled and loaded."""
    launch()
    counter.item()
    return Check(0.0, 0.0, "launched and waited for", 0)
