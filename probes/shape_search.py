"""Search for the shape of a row that a device does fastest, over our own routes and timers.

The algorithm is in ``search`` and knows no device; here it gets one: candidates from what the
device is and what memory it has (all of it: the last arena goes first), one arena of operands for
all of them, the row's first route that works here, and the timer. No candidate is trusted: the best
is checked and sampled like any case.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from roofprobe.kernels import matmul, routes
from roofprobe.kernels.operands import Arena, fitting, item_bytes
from roofprobe.kernels.routes import MatmulRoute
from roofprobe.kernels.rows import BY_NAME, ComputeRow
from roofprobe.kernels.work import Target, Unsupported, Work
from roofprobe.probes import compute
from roofprobe.probes.backends import target_of
from roofprobe.probes.candidates import Group, Limits, Space, space_for
from roofprobe.probes.measure import Policy
from roofprobe.probes.search import CandidateFailed, Found, exhaustive, grid, halving
from roofprobe.probes.session import Session, is_lost
from roofprobe.probes.timers import Timer, for_searching
from roofprobe.records.schema import Case, Device, Search, SearchStep

Shape = tuple[int, int, int]

_GPU_FLOPS = (2 * 1024**3, 2 * 16384**3)
# The grid of an exhaustive search, the same on each of the three axes.
_GRIDS = {
    "gpu": (1024, 2048, 4096, 8192),
    "cpu-fast": (256, 512, 768, 1024),
    "cpu-slow": (64, 128, 192, 256),
}


@dataclass(frozen=True, slots=True)
class MatmulBench:
    """Asks the device for the rate of one shape, on views of one arena."""

    route: MatmulRoute
    device: Device
    arena: Arena
    timer: Timer

    def measure(self, shape: Shape, seconds: float) -> float:
        """Return TFLOPS over about ``seconds``, the median of up to five batches.

        Raises ``CandidateFailed`` for what the route, the arena or the library refuses; a lost
        device is not a candidate's failure and passes through.
        """
        if self.arena.capacity(shape) == 0:
            raise CandidateFailed("it does not fit into the memory set aside for the search")
        try:
            work = matmul.prepare(self.route, target_of(self.device), self.arena, shape)
            with work.settings():
                return work.flops / self._launch_s(work, seconds) * 1e-12
        except Unsupported as reason:
            raise CandidateFailed(reason.sentence) from reason
        except Exception as error:  # libraries refuse in many ways
            if is_lost(error, self.device):
                raise
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CandidateFailed(text[:200]) from error

    def _launch_s(self, work: Work, seconds: float) -> float:
        first_s = self.timer.time_batch(work.launches, 1)
        launches = max(1, round(seconds / max(first_s, 1e-7)))
        batches = min(5, launches)
        count = min(512, math.ceil(launches / batches))
        return statistics.median(
            self.timer.time_batch(work.launches, count) / count for _ in range(batches)
        )


def search(case: Case, session: Session, policy: Policy, method: str) -> tuple[Search, MatmulRoute]:
    """Return the path of a search by ``method`` for the row of ``case``, and the route it took.

    Raises ``Unsupported`` where no route of the row works on the device or nothing fits.
    """
    assert case.row is not None, case.case_id
    route = first_available(case.row, case.route, session.target)
    row = route.compute_row
    device = session.device
    room = session.arenas.room()
    if method == "exhaustive":
        space = _exhaustive_space(device, row)
    else:
        space = _space(session, route, room)
    # Each would fit; the largest A, B and C of different shapes together may not.
    kept = set(fitting(row, space.shapes, room))
    space = space.without(
        [shape for shape in space.shapes if shape not in kept], "memory for all together"
    )
    if not space.shapes:
        raise Unsupported("memory", f"no candidate fits: {space.sentence}")
    arena = session.arenas.get(
        row,
        session.target,
        space.shapes,
        cache_bytes=device.last_level_cache_bytes,
        pattern=case.pattern,
        seed=session.seed,
        limit_bytes=room,
    )
    bench = MatmulBench(route, device, arena, for_searching(session.timer))
    if method == "exhaustive":
        found = exhaustive(space, bench, policy.search_s)
    else:
        found = halving(space, bench, policy.search_s, session.seed)
    return record(found, len(space.shapes), route.name, session.seed), route


def first_available(row: str, preferred: str, target: Target) -> MatmulRoute:
    """Return the preferred route if it works on ``target``, else the first other that does.

    Raises the preferred route's ``Unsupported`` when none does.
    """
    first = routes.route_named(row, preferred)
    refusal = routes.unavailable(first, target)
    if refusal is None:
        return first
    for route in routes.routes_for(row):
        if routes.unavailable(route, target) is None:
            return route
    raise refusal


def record(found: Found, candidates: int, route: str, seed: int) -> Search:
    """Return the search as it is written down."""
    return Search(
        method=found.method,
        route=route,
        seed=seed if found.seed is None else found.seed,
        sentence=found.sentence,
        budget_s=found.budget_s,
        elapsed_s=found.elapsed_s,
        candidates=candidates,
        pruned=found.pruned,
        anchor=found.anchor,
        best=found.best,
        best_tflops=found.best_tflops,
        steps=tuple(
            SearchStep(
                stage=step.stage,
                shape=step.shape,
                tflops=_short(step.tflops),
                score=_short(step.score),
                anchor_ratio=_short(step.anchor_ratio),
                at_s=round(step.at_s, 4),
                seconds=round(step.seconds, 5),
                failure=step.failure,
            )
            for step in found.steps
        ),
        untried=found.untried,
    )


def _short(value: float | None) -> float | None:
    """Keep six digits: the record of a search has a thousand of these."""
    return None if value is None else float(f"{value:.6g}")


def _space(session: Session, route: MatmulRoute, room: int | None) -> Space:
    device, row = session.device, route.compute_row
    on_cpu = device.backend == "cpu"
    operand, output = item_bytes(row)
    align_n = 128 if row.scaling == "blockwise" else route.align_n
    limits = Limits(
        max_set_bytes=(room or (1 << 33) / 3) / 2,
        operand_bytes=operand,
        output_bytes=output,
        max_flops=compute.cpu_flops(device, row) / 2 if on_cpu else _GPU_FLOPS[1],
        min_flops=0 if on_cpu else _GPU_FLOPS[0],
        align_n=align_n,
        align_k=route.align_k,
        min_m=route.above_m,
    )
    group: Group = "narrow"
    for name in ("fp64", "fp32", "tf32"):
        if row.precision == name:
            group = name
    return space_for(
        kind="cpu" if on_cpu else "gpu",
        group=group,
        limits=limits,
        units=device.unit_count,
        family=device.architecture,
    )


def _exhaustive_space(device: Device, row: ComputeRow) -> Space:
    if device.backend != "cpu":
        sizes = _GRIDS["gpu"]
    else:
        fast = compute.cpu_flops(device, BY_NAME[row.name]) > 5e9
        sizes = _GRIDS["cpu-fast" if fast else "cpu-slow"]
    return grid(sizes, sizes, sizes)
