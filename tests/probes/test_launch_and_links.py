"""Launches and transfers on a real processor, through the whole path of a case."""

from __future__ import annotations

import pytest

from roofprobe.kernels import launches, transfers
from roofprobe.probes import launch, links, numa
from roofprobe.probes.backends import CpuBackend
from roofprobe.probes.clocks import NoClock
from roofprobe.probes.devices import SamplerTelemeter
from roofprobe.probes.execute import measure_case
from roofprobe.probes.measure import Policy
from roofprobe.probes.session import Session
from roofprobe.records.schema import Case, Device, Measurement, Options

BRIEF = Policy(0.0005, 0.0, 0.01, 0.05, min_samples=3)
OPTIONS = Options(families=("launch", "interconnect"), tier="quick")
GPU = Device(
    device_id="GPU-example", torch_device="cuda:0", backend="cuda", name="Example GPU",
    architecture="sm_90",
)  # fmt: skip


@pytest.fixture(scope="module")
def session() -> Session:
    device = CpuBackend().describe()
    return Session.on(device, CpuBackend(), SamplerTelemeter(None), NoClock())


def measured(case: Case, session: Session) -> Measurement:
    return measure_case(case, BRIEF, session)


def test_every_launch_is_a_case_that_is_timed_or_skipped_with_a_reason(session: Session) -> None:
    found = {case.route: measured(case, session) for case in launch.cases(session.device, OPTIONS)}
    assert set(found) == set(launches.BY_NAME)
    for name in ("op-waited", "op-enqueue", "op-batch"):
        assert found[name].status == "ok", found[name].reason
        assert found[name].rate is None
        latency = found[name].latency
        assert latency is not None
        assert 0 < latency.median < 1000
    for name in ("empty-graph", "op-stream", "triton-enqueue"):
        assert found[name].status == "skipped"
        assert found[name].reason is not None


def test_a_copy_within_the_host_is_a_transfer_and_the_others_need_a_link(session: Session) -> None:
    found = {case.route: measured(case.model_copy(update={"shape": {"bytes": 1 << 20}}), session)
             for case in links.cases(session.device, OPTIONS)}  # fmt: skip
    assert set(found) == set(transfers.BY_NAME)
    copy = found["host-copy"]
    assert copy.status == "ok", copy.reason
    assert copy.rate is not None
    assert copy.rate.unit == "GB/s"
    assert copy.correctness is not None
    assert copy.correctness.error == 0
    others = [m for name, m in found.items() if name != "host-copy"]
    assert {m.status for m in others} == {"skipped"}
    assert {m.reason.code for m in others if m.reason} == {"no-link"}


def test_a_gpu_s_pinned_transfers_come_from_near_and_from_far_memory() -> None:
    cases = list(links.cases(GPU, OPTIONS))
    assert len({case.case_id for case in cases}) == len(cases)
    places = {(case.route, case.config) for case in cases}
    assert {("h2d-pinned", "near"), ("h2d-pinned", "far"), ("h2d-pageable", "near")} <= places
    assert ("h2d-pageable", "far") not in places
    assert {case.convention for case in cases} == {"one-way"}


def test_far_memory_on_a_host_of_one_node_is_skipped_and_says_so(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numa, "nodes", lambda: ())
    far = next(case for case in links.cases(GPU, OPTIONS) if case.config == "far")
    found = measured(far, session)
    assert found.status == "skipped"
    assert found.reason is not None
    assert found.reason.code == "one-node"
