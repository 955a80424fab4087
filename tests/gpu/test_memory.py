"""Levels of memory on the real device: L2 is faster than what lies behind it, and nearer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from roofprobe.kernels import chase
from roofprobe.probes import latency, memory
from roofprobe.probes.backends import target_of
from roofprobe.records.schema import Case, Device, Measurement, Options

pytestmark = pytest.mark.gpu

Measure = Callable[[Case], Measurement]


def planned(gpu: Device, family: str) -> list[Case]:
    options = Options.model_validate({"families": (family,)})
    found = memory.cases(gpu, options) if family == "memory" else latency.cases(gpu, options)
    return list(found)


def test_l2_is_read_faster_than_device_memory(gpu: Device, measure: Measure) -> None:
    cases = planned(gpu, "memory")

    def best(op: str, route: str) -> float:
        found = [measure(c) for c in cases if (c.op, c.route, c.precision) == (op, route, "fp32")
                 and c.role != "curve"]  # fmt: skip
        assert all(m.status == "ok" for m in found), [m.reason for m in found]
        return max(m.rate.median for m in found if m.rate)

    assert best("l2-read", "triton") > 1.2 * best("read", "triton")


def test_latency_rises_from_level_to_level_and_single_loads_are_timed(
    gpu: Device, measure: Measure
) -> None:
    found = [measure(case) for case in planned(gpu, "latency")]
    assert all(m.status == "ok" for m in found), [m.reason for m in found]
    loads_ns = [m.access_ns.median for m in found if m.access_ns]
    # Neighbouring footprints may lie in the same level; a tenth is what the chain scatters.
    assert all(later > 0.9 * sooner for sooner, later in pairwise(loads_ns))
    assert loads_ns[-1] > 5 * loads_ns[0]
    for m in found:
        assert 1 <= len(m.access_populations) <= 2
        assert sum(each.share for each in m.access_populations) == pytest.approx(1, abs=0.01)


def test_the_check_of_a_chase_holds_on_the_device(gpu: Device) -> None:
    for cache in ("l1", "l2"):
        work = chase.prepare(target_of(gpu), footprint_bytes=1 << 20, seed=3, cache=cache)
        assert work.check().problem is None
