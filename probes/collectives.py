"""Collectives: how fast the devices of a group exchange data, measured between real processes.

Measured is the time from when all ranks stand at the same operation until the slowest of them has
its result, for buffers from 1 KiB (what one token's activations need: the time hardly depends on
the size, it is latency) to 4 GiB (where only the links count). Rates follow nccl-tests, so that
they compare with published ones: algorithm bandwidth S/t, bus bandwidth S/t times the operation's
factor (``kernels.collectives``). Through ``torch.distributed`` it is NCCL on CUDA, RCCL on ROCm
and Gloo on a CPU, the libraries that serve models; each result is verified on every rank first.

What the number is not: a link's rate (the library chooses paths and protocols; small sizes measure
its software); a count of bytes on the wires (``kernels.collectives`` says when it passes their
rate); Gloo's figure on one host is memory copies and system calls over the loopback device, no
network; and nothing else ran meanwhile, while a model would overlap exchange and arithmetic.

The ranks are processes of their own, started and watched here: a rank that dies, raises or hangs
ends the case that it was in as ``failed``, with the rank's name, within the time-out. The others
of its group cannot go on without it, are ended too, and the cases left get new ranks. For several
hosts a launcher starts the rank processes instead (see ``collective_rank``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import IO

from roofprobe.probes.collective_cases import (
    CollectiveCase,
    CollectiveResult,
    Effort,
    Keep,
    RankJob,
)
from roofprobe.probes.rank_watch import run_group
from roofprobe.records.schema import Reason, Status

RANK_COMMAND: tuple[str, ...] = (sys.executable, "-m", "roofprobe.probes.collective_rank")
_FAILURES_IN_A_ROW = 3


def run_collectives(
    devices: Sequence[str],
    backend: str,
    cases: Sequence[CollectiveCase],
    *,
    effort: Effort | None = None,
    timeout_s: float = 120.0,
    start_timeout_s: float = 120.0,
    keep: Keep = lambda result: None,
    log: IO[bytes] | int = subprocess.DEVNULL,
    command: Sequence[str] = RANK_COMMAND,
) -> tuple[CollectiveResult, ...]:
    """Measure ``cases`` between ranks on this host, one per device, and return one result each.

    ``devices`` are torch's names (``cuda:0``, ``cuda:1``; ``cpu`` once per rank). Each case may
    take ``timeout_s``, and the ranks ``start_timeout_s`` until they have found each other. Each
    result is handed to ``keep`` as soon as it is known. Ranks write what libraries print to
    ``log``. No process is left behind, whatever happens.
    """
    job = RankJob(
        backend=backend,
        cases=tuple(cases),
        effort=effort or Effort(),
        devices=tuple(devices),
        # The ranks' own limit only matters where this process cannot act; it must not come
        # first, or the rank that waited would be blamed.
        timeout_s=2 * max(timeout_s, start_timeout_s) + 30,
        parent_pid=os.getpid(),
    )
    results: list[CollectiveResult] = []

    def done(result: CollectiveResult) -> None:
        results.append(result)
        keep(result)

    if len(devices) < 2:
        reason = Reason(
            code="one-device",
            sentence=f"an exchange needs two devices and there is {len(devices) or 'none'}",
        )
        _end_all(job, "skipped", reason, done)
        return tuple(results)
    failures = 0
    while len(results) < len(cases):
        left = replace(job, cases=job.cases[len(results) :])
        before = len(results)
        end = run_group(left, timeout_s, start_timeout_s, done, log, command)
        if end is None:
            continue
        left = replace(job, cases=job.cases[len(results) :])
        failures = failures + 1 if len(results) == before else 1
        if not end.began or end.status == "skipped":
            _end_all(left, end.status, end.reason, done)
            break
        _end_all(replace(left, cases=left.cases[:1]), end.status, end.reason, done)
        if failures >= _FAILURES_IN_A_ROW:
            given_up = Reason(
                code="given-up",
                sentence=f"the ranks were given up after {failures} failures in a row "
                f"(the last: {end.reason.sentence})",
            )
            _end_all(replace(left, cases=left.cases[1:]), "failed", given_up, done)
    return tuple(results)


def _end_all(job: RankJob, status: Status, reason: Reason, done: Keep) -> None:
    for case in job.cases:
        done(
            CollectiveResult(
                case=case,
                backend=job.backend,
                world_size=len(job.devices),
                devices=job.devices,
                status=status,
                reason=reason,
            )
        )
