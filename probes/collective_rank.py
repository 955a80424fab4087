"""One rank of a group that measures collectives: a process with one device.

``python -m roofprobe.probes.collective_rank JOB``, where JOB is a ``RankJob`` as JSON. Started by
``run_collectives``, a rank tells its parent in JSON lines what it does, and dies with it. Over
several hosts a launcher starts the ranks and tells them their places in the environment (RANK,
WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), for example, on each host,

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:29500 --rdzv-backend c10d \\
        -m roofprobe.probes.collective_rank '{"backend": "nccl"}'

and rank 0 writes the results, each as ``{"event": "result", "result": …}``, to standard output.

How ranks meet and agree stands in ``rank_group``, how they are timed in ``collective_timing``.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from roofprobe.kernels import collectives as kernels
from roofprobe.kernels.collectives import BY_WAY_OF, Exchange, Layout
from roofprobe.kernels.work import Check, Unsupported
from roofprobe.probes.collective_cases import (
    JOB,
    RESULT,
    CollectiveCase,
    CollectiveResult,
    RankJob,
    plan_cases,
)
from roofprobe.probes.collective_timing import figures, timed
from roofprobe.probes.rank_group import (
    Group,
    Place,
    Tell,
    Unavailable,
    device_of,
    join,
    leave_library,
    place_of,
)
from roofprobe.probes.worker import die_with_parent
from roofprobe.records.schema import Correctness, Note, Reason

if TYPE_CHECKING:
    import torch

_LARGEST_SHARE = 0.8  # of the free memory; libraries and the check need some
_CHECK_BYTES = 1 << 30  # positions and reference values of one chunk
_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory", re.IGNORECASE)
# How torch's backends say that they lack an operation or a type, as against a fault in it.
_LACKING = re.compile(
    r"does not support|not implemented|not supported|unsupported|invalid scalar type", re.IGNORECASE
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job given as the only argument."""
    (text,) = sys.argv[1:] if arguments is None else arguments
    job = JOB.validate_json(text)
    if job.parent_pid is not None:
        die_with_parent()
        if os.getppid() != job.parent_pid:  # it died before the line above
            return 1
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not look like events
    tell = _teller(job, lines)
    at = Progress()
    try:
        run(job, place_of(os.environ), tell, at)
    except Unavailable as unavailable:
        tell({"event": "unavailable", "reason": unavailable.reason.model_dump()})
        print(unavailable, file=sys.stderr)
        return 0 if job.parent_pid is not None else 3
    except Exception as error:
        text = (str(error).strip().splitlines() or [""])[0]
        sentence = f"{type(error).__name__}: {text}"[:400]
        tell({"event": "error", "sentence": sentence, "at_s": time.monotonic()})
        at.fail(job, tell, sentence)
        traceback.print_exc()
        sys.stderr.flush()
        # Libraries wait in their destructors for ranks that will not come.
        os._exit(1)
    return 0


class Progress:
    """The case that a rank without a parent is in, so that its failure is written down."""

    def __init__(self) -> None:
        """Stand before the first case."""
        self.group: Group | None = None
        self.case: CollectiveCase | None = None

    def fail(self, job: RankJob, tell: Tell, sentence: str) -> None:
        """Write the current case as failed where nobody else would."""
        if job.parent_pid is None and self.group is not None and self.case is not None:
            rank = self.group.place.rank
            reason = Reason(code="rank-error", sentence=f"rank {rank} failed: {sentence}")
            result = _ended(self.case, job, self.group, status="failed", reason=reason)
            tell({"event": "result", "result": RESULT.dump_python(result, mode="json")})


def _teller(job: RankJob, lines: IO[str]) -> Tell:
    def tell(event: dict[str, Any]) -> None:
        if job.parent_pid is not None or event["event"] == "result":
            with suppress(BrokenPipeError):
                lines.write(json.dumps(event) + "\n")
                lines.flush()

    return tell


def run(job: RankJob, place: Place, tell: Tell, at: Progress) -> None:
    """Join the other ranks, measure all cases, take leave."""
    device = device_of(job, place)
    group = join(job, place, device, tell)
    at.group = group
    tell({"event": "ready"})
    for number, case in enumerate(job.cases or plan_cases()):
        at.case = case

        def stage(name: str, number: int = number) -> None:
            tell({"event": "stage", "case": number, "stage": name})

        result = measure(case, job, group, device, stage)
        if place.rank == 0:
            tell({"event": "result", "result": RESULT.dump_python(result, mode="json")})
    at.case = None
    group.leave()
    tell({"event": "finished"})
    leave_library()


def measure(
    case: CollectiveCase,
    job: RankJob,
    group: Group,
    device: torch.device,
    stage: Callable[[str], None],
) -> CollectiveResult:
    """Prepare, check, warm up and time one case, in step with the other ranks.

    All ranks return the same figures. Raises what a library raises unless it only lacks the
    operation.
    """
    begun = time.monotonic()
    started_at = datetime.now(UTC).isoformat(timespec="milliseconds")

    def ended(**fields: Any) -> CollectiveResult:
        wall_s = round(time.monotonic() - begun, 3)
        return _ended(case, job, group, started_at=started_at, wall_s=wall_s, **fields)

    stage("prepare")
    exchange, obstacle = _prepared(case, group.place, device)
    stage("prepared")
    obstacle = _first(group.gather(obstacle))
    if obstacle is not None:
        return ended(**_fields(obstacle))
    assert exchange is not None, case
    stage("check")
    check, obstacle = _checked(exchange, job.backend)
    stage("checked")
    verdicts = group.gather({"check": asdict(check) if check else None, "obstacle": obstacle})
    obstacle = _first([verdict["obstacle"] for verdict in verdicts])
    if obstacle is not None:
        return ended(**_fields(obstacle))
    checks = [Check(**verdict["check"]) for verdict in verdicts]
    correctness = _joined(checks)
    note = _note(job.backend, case.operation)
    about = {"correctness": correctness, "call": exchange.call, "note": note}
    wrong = [rank for rank, found in enumerate(checks) if found.problem is not None]
    if wrong:
        others = f" (and on {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        reason = Reason(
            code="wrong-result",
            sentence=f"the result on rank {wrong[0]}{others} is wrong and was not timed: "
            f"{checks[wrong[0]].problem}",
            remedy="repeat; if it stays, a device, a link or the library is faulty",
        )
        return ended(status="failed", reason=reason, **about)
    samples, timing = timed(exchange, device, group, job.effort, stage)
    stage("timed")
    samples_by_rank = group.gather(samples)
    return ended(status="ok", timing=timing, **about, **figures(exchange.layout, samples_by_rank))


Obstacle = dict[str, str | None]


def _prepared(
    case: CollectiveCase, place: Place, device: torch.device
) -> tuple[Exchange | None, Obstacle | None]:
    """Return the exchange, or what stands against it on this rank."""
    try:
        layout = kernels.layout_of(
            case.operation, case.precision, place.world_size, case.size_bytes
        )
        _must_fit(layout, place, device)
        return kernels.prepare(layout, place.rank, device), None
    except Unsupported as missing:
        return None, _obstacle("skipped", missing.code, missing.sentence, missing.remedy)
    except RuntimeError as error:
        if not _OUT_OF_MEMORY.search(str(error)):
            raise
        sentence = f"the buffers of rank {place.rank} did not fit into its memory"
        return None, _obstacle("failed", "out-of-memory", sentence)


def _must_fit(layout: Layout, place: Place, device: torch.device) -> None:
    """Raise ``Unsupported`` where the memory is clearly too small: a host would kill, not say."""
    if device.type == "cuda":
        import torch

        free, needed = torch.cuda.mem_get_info(device)[0], layout.buffer_bytes
    else:
        import psutil

        # A CPU library copies what it works on, and all ranks of the host share its memory.
        free = psutil.virtual_memory().available
        needed = 2 * layout.buffer_bytes * place.local_size
    needed += min(_CHECK_BYTES, 64 * layout.whole)
    if needed > _LARGEST_SHARE * free:
        raise Unsupported(
            "memory",
            f"it needs about {needed / 2**30:.1f} GiB where {free / 2**30:.1f} GiB are free",
            "free memory on the devices or measure smaller sizes",
        )


def _checked(exchange: Exchange, backend: str) -> tuple[Check | None, Obstacle | None]:
    """Return the outcome of the check, or that the library lacks the operation.

    A library lacks it on all ranks alike, so none waits in it for one that went on.
    """
    try:
        return exchange.check(), None
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
        if not (isinstance(error, NotImplementedError) or _LACKING.search(str(error))):
            raise
        text = (str(error).strip().splitlines() or [""])[0]
        return None, _obstacle(
            "skipped", "not-implemented", f"{backend} does not do it here: {text}"[:400]
        )


def _ended(case: CollectiveCase, job: RankJob, group: Group, **fields: Any) -> CollectiveResult:
    return CollectiveResult(
        case=case,
        backend=job.backend,
        world_size=group.place.world_size,
        devices=group.devices,
        library=group.library,
        hosts=group.hosts,
        **fields,
    )


def _joined(checks: Sequence[Check]) -> Correctness:
    return Correctness(
        error=max(check.error for check in checks),
        tolerance=checks[0].tolerance,
        measure=checks[0].measure,
        checked_elements=sum(check.checked_elements for check in checks),
    )


def _note(backend: str, operation: str) -> Note | None:
    sentence = BY_WAY_OF.get((backend, operation))
    return Note(code="by-way-of", sentence=sentence) if sentence else None


def _obstacle(status: str, code: str, sentence: str, remedy: str | None = None) -> Obstacle:
    return {"status": status, "code": code, "sentence": sentence, "remedy": remedy}


def _first(obstacles: Sequence[Obstacle | None]) -> Obstacle | None:
    return next((obstacle for obstacle in obstacles if obstacle is not None), None)


def _fields(obstacle: Obstacle) -> dict[str, Any]:
    told = {name: value for name, value in obstacle.items() if name != "status"}
    return {"status": obstacle["status"], "reason": Reason.model_validate(told)}


if __name__ == "__main__":
    sys.exit(main())
