"""One rank of a group that measures collectives: a process with one device.

``python -m roofprobe.probes.collective_rank JOB``, where JOB is a ``RankJob`` as JSON. Started by
``run_collectives``, a rank tells its parent in JSON lines what it does, and dies with it. Over
several hosts a launcher starts the ranks and tells them their places in the environment (RANK,
WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), for example, on each host,

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-endpoint HOST:29500 --rdzv-backend c10d \\
        -m roofprobe.probes.collective_rank '{"backend": "nccl"}'

and rank 0 writes the results, each as ``{"event": "result", "result": …}``, to standard output.

Ranks agree on what to do next through the group's store, not through the library they measure:
that a rank lacks the memory, or has a wrong result, is then known to all before anyone waits for
it in an operation. Times are taken so that a late start of one rank counts for nobody: on a device
the events stand behind an operation that was not timed, which ends everywhere at once; on a CPU
the clock is read behind a barrier. The slowest rank's time of each batch is the sample.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, Protocol

from roofprobe.kernels import collectives as kernels
from roofprobe.kernels.collectives import BY_WAY_OF, Exchange, Layout
from roofprobe.kernels.work import Check, Unsupported
from roofprobe.probes import host, statistics
from roofprobe.probes.collective_cases import (
    JOB,
    RESULT,
    CollectiveCase,
    CollectiveResult,
    Effort,
    RankJob,
    plan_cases,
)
from roofprobe.probes.timers import EventTimer, Timer, WallTimer
from roofprobe.probes.worker import die_with_parent
from roofprobe.records.schema import Correctness, Note, Reason, Timing

if TYPE_CHECKING:
    import torch

Tell = Callable[[dict[str, Any]], None]

MAX_LAUNCHES_PER_SAMPLE = 128  # an operation queues several kernels and events
_LONG_S = 0.1  # an operation that is worth no second look
_LOOKS = 5
_HOLD_FACTOR = 4  # a collective's launch goes through torch's process group: several kernels' cost
_LARGEST_SHARE = 0.8  # of the free memory; libraries and the check need some
_CHECK_BYTES = 1 << 30  # positions and reference values of one chunk
_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory", re.IGNORECASE)
# How torch's backends say that they lack an operation or a type, as against a fault in it.
_LACKING = re.compile(
    r"does not support|not implemented|not supported|unsupported|invalid scalar type", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank stands among all ranks, and among those of its host."""

    rank: int
    world_size: int
    local_rank: int
    local_size: int


class Store(Protocol):
    """What is used of torch's stores, which its stubs do not name."""

    def set(self, key: str, value: str) -> None:
        """Write a value."""
        ...

    def get(self, key: str) -> bytes:
        """Wait for a value and return it."""
        ...

    def add(self, key: str, amount: int) -> int:
        """Add to a counter and return it."""
        ...


class Unavailable(Exception):
    """This torch cannot make such a group at all."""

    def __init__(self, reason: Reason) -> None:
        """Keep the reason."""
        super().__init__(reason.sentence)
        self.reason = reason


class Group:
    """The other ranks: an agreement with them, and what is known of them."""

    def __init__(self, store: Store, place: Place, tell: Tell) -> None:
        """Agree through ``store``; tell the parent through ``tell``."""
        self._store = store
        self._round = 0
        self.place = place
        self.tell = tell
        self.devices: tuple[str, ...] = ()
        self.hosts = 1
        self.library = ""

    def gather(self, value: Any) -> list[Any]:
        """Return what each rank gave as its ``value``, in the order of ranks."""
        self._round += 1
        self._store.set(f"{self._round}/{self.place.rank}", json.dumps(value))
        return [
            json.loads(self._store.get(f"{self._round}/{rank}"))
            for rank in range(self.place.world_size)
        ]

    def leave(self) -> None:
        """Return when no rank needs rank 0, which may be the one that serves the store."""
        left = self._store.add("left", 1)
        while self.place.rank == 0 and left < self.place.world_size:
            time.sleep(0.01)
            left = self._store.add("left", 0)


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


def place_of(environment: Mapping[str, str]) -> Place:
    """Return the rank's place as the environment tells it; a launcher sets these names."""
    rank, world_size = (int(environment[name]) for name in ("RANK", "WORLD_SIZE"))
    return Place(
        rank,
        world_size,
        local_rank=int(environment.get("LOCAL_RANK", rank)),
        local_size=int(environment.get("LOCAL_WORLD_SIZE", world_size)),
    )


def run(job: RankJob, place: Place, tell: Tell, at: Progress) -> None:
    """Join the other ranks, measure all cases, take leave."""
    device = _device_of(job, place)
    group = _join(job, place, device, tell)
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
    _destroy()


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
    samples, timing = _timed(exchange, device, group, job.effort, stage)
    stage("timed")
    samples_by_rank = group.gather(samples)
    return ended(status="ok", timing=timing, **about, **figures(exchange.layout, samples_by_rank))


def figures(layout: Layout, samples_by_rank: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return times and rates of a case from each rank's samples in microseconds.

    An operation is over when the last rank has its result, so each sample is the slowest rank's.
    """
    assert len(samples_by_rank) == layout.world_size, len(samples_by_rank)
    slowest = tuple(max(times) for times in zip(*samples_by_rank, strict=True))
    factor = layout.operation.bus_factor(layout.world_size)
    return {
        "counted_bytes": layout.size_bytes,
        "bus_factor": float(factor),
        "samples_us": slowest,
        "rank_medians_us": tuple(
            statistics.summarise(times, "us", lower_is_better=True).median
            for times in samples_by_rank
        ),
        "latency": statistics.summarise(slowest, "us", lower_is_better=True),
        "algorithm_rate": statistics.rates(slowest, layout.size_bytes, "GB/s"),
        "bus_rate": statistics.rates(slowest, float(layout.size_bytes * factor), "GB/s"),
    }


def batch_of(launch_s: float, effort: Effort) -> tuple[int, int, int]:
    """Return (launches per sample, samples, warm-up launches) for an operation of ``launch_s``.

    All ranks must launch equally often, so the whole plan follows from one agreed time.
    """
    launch_s = max(launch_s, 1e-7)
    count = min(MAX_LAUNCHES_PER_SAMPLE, max(1, math.ceil(effort.batch_s / launch_s)))
    fitting = int(effort.max_time_s / (count * launch_s))
    samples = min(effort.samples, max(effort.min_samples, fitting))
    return count, samples, math.ceil(effort.warmup_s / launch_s)


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


def _timed(
    exchange: Exchange,
    device: torch.device,
    group: Group,
    effort: Effort,
    stage: Callable[[str], None],
) -> tuple[list[float], Timing]:
    """Return this rank's samples in microseconds per operation."""
    stage("warm up")
    timer = _timer_of(device, exchange.launch)
    launches = (exchange.launch,)

    def agreed_s(seconds: float) -> float:
        return float(max(group.gather(seconds)))

    launch_s = agreed_s(timer.time_batch(launches, 1))
    launched = 1
    if launch_s < _LONG_S:  # the first launches are slower than those that follow
        launch_s = agreed_s(min(timer.time_batch(launches, 1) for _ in range(_LOOKS)))
        launched += _LOOKS
    count, samples, warmup = batch_of(launch_s, effort)
    for start in range(0, warmup, count):
        timer.time_batch(launches, min(count, warmup - start))
    if launch_s < _LONG_S:
        launch_s = agreed_s(timer.time_batch(launches, count) / count)
        launched += count
        count, samples, _ = batch_of(launch_s, effort)
    stage("time")
    begun = time.monotonic()
    samples_us = [timer.time_batch(launches, count) / count * 1e6 for _ in range(samples)]
    timing = Timing(
        timer=timer.name,
        launches_per_sample=count,
        warmup_launches=launched + warmup,
        buffer_sets=1,
        stop_reason="sample limit" if samples == effort.samples else "time limit",
        elapsed_s=time.monotonic() - begun,
    )
    return samples_us, timing


class BarrierTimer:
    """The host's clock around a batch that all ranks begin together, behind a barrier."""

    name = "wall clock behind a barrier, slowest rank"

    def __init__(self) -> None:
        """Time with the wall clock."""
        self._timer = WallTimer()

    def time_batch(self, launches: Sequence[Callable[[], object]], count: int) -> float:
        """Wait for all ranks, then return the seconds that ``count`` operations took."""
        import torch.distributed as dist

        dist.barrier()
        return self._timer.time_batch(launches, count)

    def synchronize(self) -> None:
        """Do nothing: the work is synchronous."""


def _timer_of(device: torch.device, launch: Callable[[], object]) -> Timer:
    return aligning_timer(device, launch) if device.type == "cuda" else BarrierTimer()


def aligning_timer(device: torch.device, launch: Callable[[], object]) -> EventTimer:
    """Return device events behind an untimed ``launch``, which ends everywhere at the same moment.

    Before it, a kernel holds the stream until the whole batch is queued, so that the cost of
    launching is not in the time. Without such a kernel small sizes measure the launches.
    """
    import torch

    sleep: Callable[[int], None] | None = getattr(torch.cuda, "_sleep", None)
    clock_khz = getattr(torch.cuda.get_device_properties(device), "clock_rate", None) or 2_000_000

    def hold(microseconds: float) -> None:
        if sleep is not None:
            sleep(int(_HOLD_FACTOR * microseconds * clock_khz / 1000))
        launch()

    timer = EventTimer(
        lambda: torch.cuda.Event(enable_timing=True),
        lambda: torch.cuda.synchronize(device),
        hold,
    )
    cost = "" if sleep is not None else " (launch cost not hidden)"
    timer.name = f"device events behind an untimed operation, slowest rank{cost}"
    return timer


def _device_of(job: RankJob, place: Place) -> torch.device:
    """Choose and open this rank's device."""
    import torch

    if job.devices:
        device = torch.device(job.devices[place.local_rank])
    elif job.backend == "gloo":
        device = torch.device("cpu")
    else:
        device = torch.device("cuda", place.local_rank)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise Unavailable(Reason(code="no-devices", sentence="torch sees no CUDA or ROCm GPU"))
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, host.usable_cores() // place.local_size))
    return device


def _join(job: RankJob, place: Place, device: torch.device, tell: Tell) -> Group:
    """Meet the other ranks and make the library's group."""
    import torch.distributed as dist

    _must_have(job.backend)
    limit = timedelta(seconds=job.timeout_s)
    stores: Any = dist  # torch's stubs do not name the stores
    if job.store is not None:
        store = stores.FileStore(job.store, place.world_size)
    else:
        store, _, _ = next(stores.rendezvous("env://", timeout=limit))
    store.set_timeout(limit)
    dist.init_process_group(
        job.backend,
        store=stores.PrefixStore("library", store),
        rank=place.rank,
        world_size=place.world_size,
        timeout=limit,
        device_id=device if device.type == "cuda" else None,
    )
    group = Group(stores.PrefixStore("agreement", store), place, tell)
    known = group.gather([socket.gethostname(), str(device)])
    names = {name for name, _ in known}
    group.hosts = len(names)
    group.devices = tuple(
        where if len(names) == 1 else f"{name}/{where}" for name, where in known
    )  # fmt: skip
    group.library = _library(job.backend)
    return group


def _must_have(backend: str) -> None:
    import torch
    import torch.distributed as dist

    has = (
        dist.is_available()
        and {
            "gloo": dist.is_gloo_available,
            "nccl": dist.is_nccl_available,
        }.get(backend, lambda: True)()
    )
    if not has:
        raise Unavailable(
            Reason(
                code="no-backend",
                sentence=f"torch {torch.__version__} was built without {backend}",
                remedy="install a torch for this device",
            )
        )


def _library(backend: str) -> str:
    """Return the library's name and version, as far as it tells."""
    import torch

    if backend == "nccl":
        name = "RCCL" if torch.version.hip else "NCCL"
        version = torch.cuda.nccl.version()
        return f"{name} {'.'.join(map(str, version)) if isinstance(version, tuple) else version}"
    return f"{backend} of torch {torch.__version__}"


def _destroy() -> None:
    import torch.distributed as dist

    with suppress(RuntimeError):  # the results are out; an untidy end costs nothing
        dist.destroy_process_group()


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
