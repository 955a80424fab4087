"""Transfers, launches and the driver's own properties on the real device."""

from __future__ import annotations

import pytest

from roofprobe.kernels import launches, transfers
from roofprobe.kernels.host_memory import Place
from roofprobe.kernels.work import Target, Unsupported
from roofprobe.peaks.links import PCIE
from roofprobe.probes import numa, peers, worker
from roofprobe.probes.backends import target_of
from roofprobe.probes.devices import discover
from roofprobe.probes.execute import measure_case
from roofprobe.probes.measure import Policy, sample
from roofprobe.probes.session import Session
from roofprobe.probes.timers import EventTimer, GraphTimer, for_copies, launch_timer
from roofprobe.records.ceilings import ceilings_of
from roofprobe.records.pairs import pair_peak
from roofprobe.records.schema import Device, Options

pytestmark = pytest.mark.gpu

POLICY = Policy(batch_s=0.001, warmup_s=0.05, min_time_s=0.05, max_time_s=0.3)
SIZE = (32 << 20) + 3
LINKED = [row for row in transfers.ROWS if row.op != "host-copy"]


def places(device: Device) -> tuple[Place, ...]:
    return numa.places(numa.nodes(), numa.node_of(device.pci_bus_id))


@pytest.mark.parametrize("row", LINKED, ids=lambda row: row.name)
def test_every_transfer_is_right_and_can_be_timed(
    row: transfers.TransferRow, gpu: Device, session: Session
) -> None:
    for place in places(gpu):
        try:
            work = transfers.prepare(
                row.name, target_of(gpu), size_bytes=SIZE, buffer_sets=2, seed=1, place=place,
                pages_on=numa.pages_on,
            )  # fmt: skip
        except Unsupported as reason:
            if reason.code not in ("numa-cpus", "numa-placement", "pinning"):
                raise
            continue
        with work.settings():
            assert work.check().problem is None
            timer = for_copies(session.timer, blocking=row.blocking)
            assert min(sample(work, timer, POLICY).samples_us) > 0


def test_pinned_memory_is_known_to_torch_as_pinned(gpu: Device) -> None:
    work = transfers.prepare(
        "h2d-pinned", target_of(gpu), size_bytes=1 << 20, buffer_sets=1, seed=1
    )
    (leg,) = work.check.args[1]  # type: ignore[attr-defined]
    assert leg.source.is_pinned()


def test_peers_reach_each_other_or_say_why(gpu: Device) -> None:
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    source = target_of(gpu)
    destination = Target(source.kind, "cuda:1", source.architecture, source.unit_count)
    reason = transfers.unavailable_peer(source, destination)
    if reason is not None:
        assert reason.code == "no-peer-access"
        return
    for row in transfers.PEER_ROWS:
        work = transfers.prepare_peer(
            row.name, source, destination, size_bytes=SIZE, buffer_sets=1, seed=1
        )
        assert work.check().problem is None


@pytest.mark.parametrize("row", launches.ROWS, ids=lambda row: row.name)
def test_every_launch_is_timed_by_its_timer(
    row: launches.LaunchRow, gpu: Device, session: Session
) -> None:
    work = launches.prepare(row.name, target_of(gpu))
    assert work.check().problem is None
    timer = launch_timer(row.timed, session.timer)
    assert timer is not None
    found = sample(work, timer, POLICY)
    assert min(found.samples_us) > 0
    if isinstance(timer, GraphTimer):
        assert timer.captured
    if type(timer) is EventTimer and found.launches_per_sample > 1:
        assert not timer.outran


def test_nvml_and_the_cuda_driver_agree_on_the_memory(gpu: Device) -> None:
    if gpu.backend != "cuda":
        pytest.skip("AMD's runtime tells another clock")
    device = next(found for found in discover() if found.uuid == gpu.uuid)
    told = {c.method: c.value for c in ceilings_of(device) if c.family == "memory"}
    if {"nvml", "driver"} <= told.keys():
        assert told["nvml"] == pytest.approx(told["driver"], rel=0.07)


def test_no_pinned_copy_is_faster_than_its_link(gpu: Device, session: Session) -> None:
    device = next(found for found in discover() if found.uuid == gpu.uuid)
    bounds = [c for c in ceilings_of(device) if c.peak_key == PCIE and c.physical_bound]
    if not bounds:
        pytest.skip("no bound is known for this link")
    for name in ("h2d-pinned", "d2h-pinned"):
        work = transfers.prepare(name, target_of(gpu), size_bytes=SIZE, buffer_sets=2, seed=1)
        timer = for_copies(session.timer, blocking=False)
        best_us = min(sample(work, timer, POLICY).samples_us)
        assert SIZE / best_us / 1e3 < bounds[0].value * 1.005


def test_every_pair_of_gpus_is_measured_or_skipped_with_its_reason() -> None:
    found = [device for device in discover() if device.backend != "cpu"]
    if len(found) < 2:
        pytest.skip("there is one GPU")
    options = Options(families=("interconnect",), tier="quick")
    for device, cases in peers.by_source(found, options):
        opened = worker.opened(device, seed=0)
        for case in cases:
            measured = measure_case(case, POLICY, opened)
            if measured.status == "skipped":
                assert measured.reason is not None
                assert measured.reason.code == "no-peer-access"
                continue
            assert measured.status == "ok", (case.case_id, measured.reason)
            assert (measured.rate is None) == (case.op == "p2p-latency")
            if device.backend != "cuda" or measured.rate is None:
                continue
            assert measured.link is not None
            assert measured.link.kind in ("nvlink", "pcie"), measured.link.missing
            peak = pair_peak(measured, ceilings_of(device))
            if peak is not None:
                # The wire is a little faster than what is printed for it.
                assert measured.rate.median < 1.1 * peak.gbps
