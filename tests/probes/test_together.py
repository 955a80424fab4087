"""What devices do together: who exchanges data, what comes of it, and what a dead rank costs."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from roofprobe.probes import together
from roofprobe.probes.collective_cases import CollectiveCase, CollectiveResult
from roofprobe.records.schema import Device, Distribution, Measurement, Options, Reason

CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")


def gpu(index: int) -> Device:
    return Device(
        device_id=f"GPU-{index}", torch_device=f"cuda:{index}", backend="cuda", name="Example GPU"
    )


def at(tier: str = "standard", *families: Any) -> Options:
    return Options.model_validate({"families": families or ("interconnect",), "tier": tier})


def test_all_accelerators_of_a_kind_exchange_and_one_alone_does_not() -> None:
    (group,) = together.groups([gpu(0), gpu(1), gpu(2), gpu(3)], at())
    assert group.ranks == ("cuda:0", "cuda:1", "cuda:2", "cuda:3")
    assert group.backend == "nccl"
    assert {case.op for case in group.cases} == {
        "all_reduce", "all_gather", "reduce_scatter", "all_to_all",
    }  # fmt: skip
    assert together.groups([gpu(0)], at()) == ()
    assert together.groups([gpu(0), gpu(1)], at("standard", "compute")) == ()


def test_a_processor_has_two_ranks_and_at_tier_soak_four_too() -> None:
    assert [group.ranks for group in together.groups([CPU], at())] == [("cpu",) * 2]
    assert [len(group.ranks) for group in together.groups([CPU], at("soak"))] == [2, 4]
    ids = [c.case_id for group in together.groups([CPU], at("soak")) for c in group.cases]
    assert len(set(ids)) == len(ids)


@pytest.mark.timeout(120)
def test_two_ranks_on_a_processor_give_bus_bandwidths_of_right_results() -> None:
    (group,) = together.groups([CPU], at("quick"))
    kept: list[Measurement] = []
    together.measure(group, group.cases[:2], kept.append, subprocess.DEVNULL)
    assert [m.case for m in kept] == list(group.cases[:2])
    for found in kept:
        assert found.status == "ok", found.reason
        assert found.device_id == "cpu"
        assert found.correctness is not None
        assert found.correctness.error == 0
        assert found.rate is not None
        assert found.rate.unit == "GB/s"
        assert found.kernel_config is not None
        assert found.kernel_config["ranks"] == 2


def test_a_failed_exchange_is_a_failed_case_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (group,) = together.groups([CPU], at("quick"))
    reason = Reason(code="rank-died", sentence="rank 1 was ended by SIGKILL")

    def run(ranks: Any, backend: str, cases: list[CollectiveCase], *, keep: Any, **_: Any) -> None:
        for case in cases:
            keep(CollectiveResult(case, backend, 2, tuple(ranks), "failed", reason))

    monkeypatch.setattr(together, "run_collectives", run)
    kept: list[Measurement] = []
    together.measure(group, group.cases, kept.append, subprocess.DEVNULL)
    assert {(m.status, m.reason) for m in kept} == {("failed", reason)}


def test_the_rate_is_the_bus_bandwidth_and_the_algorithm_s_stands_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (group,) = together.groups([CPU], at("quick"))

    def figure(value: float) -> Distribution:
        return Distribution(unit="GB/s", median=value, ci_low=value, ci_high=value, p10=value,
                            p90=value, best=value, n=3)  # fmt: skip

    def run(ranks: Any, backend: str, cases: list[CollectiveCase], *, keep: Any, **_: Any) -> None:
        keep(CollectiveResult(cases[0], backend, 4, tuple(ranks), "ok", bus_factor=1.5,
                              algorithm_rate=figure(2.0), bus_rate=figure(3.0)))  # fmt: skip

    monkeypatch.setattr(together, "run_collectives", run)
    kept: list[Measurement] = []
    together.measure(group, group.cases[:1], kept.append, subprocess.DEVNULL)
    (found,) = kept
    assert found.rate == figure(3.0)
    assert found.kernel_config is not None
    assert found.kernel_config["algorithm_gbps"] == "2"
    assert found.kernel_config["bus_factor"] == "1.5"


def test_nothing_is_started_when_nothing_is_left_to_measure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise AssertionError("ranks were started")

    monkeypatch.setattr(together, "run_collectives", run)
    (group,) = together.groups([CPU], at("quick"))
    together.measure(group, (), lambda m: None, subprocess.DEVNULL)
