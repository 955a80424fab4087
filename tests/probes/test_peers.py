"""Transfers between devices: which are planned, what one measures, what the driver tells of it.

The devices are doubles: their tensors lie in the host's memory and their streams are ours, and what
NVML answers is played. Planning, check, timing and figures are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from types import ModuleType
from typing import Any

import pynvml
import pytest

from roofprobe.kernels import transfers
from roofprobe.kernels.transfers import Copy
from roofprobe.probes import peers, plan
from roofprobe.probes.backends import CpuBackend
from roofprobe.probes.clocks import NoClock
from roofprobe.probes.devices import SamplerTelemeter
from roofprobe.probes.execute import measure_case
from roofprobe.probes.measure import Policy
from roofprobe.probes.nvml import Nvml, NvmlDevice
from roofprobe.probes.nvml_facts import NvmlUnavailable
from roofprobe.probes.session import Session
from roofprobe.probes.timers import BatchWallTimer
from roofprobe.records.schema import Case, Device, Measurement, Options

BRIEF = Policy(0.0005, 0.0, 0.01, 0.05, min_samples=3)
KIB = 1 << 10


def gpu(index: int, backend: str = "cuda") -> Device:
    return Device(
        device_id=f"GPU-{index}", torch_device=f"cuda:{index}", backend=backend, name="Example GPU",
        index=index, uuid=f"00000000-1111-2222-3333-44444444444{index}", architecture="sm_90",
    )  # fmt: skip


CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")


def at(tier: str = "quick", *families: Any) -> Options:
    return Options.model_validate({"families": families or ("interconnect",), "tier": tier})


def ends(cases: Sequence[Case], op: str) -> list[str]:
    return [case.peer.torch_device for case in cases if case.op == op and case.peer]


# Planning


def test_every_ordered_pair_is_planned_and_both_ways_only_once() -> None:
    planned = dict(
        (device.torch_device, cases)
        for device, cases in peers.by_source([gpu(0), gpu(1), gpu(2), CPU], at())
    )
    assert {where: ends(cases, "p2p") for where, cases in planned.items()} == {
        "cuda:0": ["cuda:1", "cuda:2"],
        "cuda:1": ["cuda:0", "cuda:2"],
        "cuda:2": ["cuda:0", "cuda:1"],
    }
    assert {where: ends(cases, "p2p-both") for where, cases in planned.items()} == {
        "cuda:0": ["cuda:1", "cuda:2"], "cuda:1": ["cuda:2"], "cuda:2": [],
    }  # fmt: skip
    for cases in planned.values():
        assert ends(cases, "p2p-latency") == ends(cases, "p2p")
        assert len({case.case_id for case in cases}) == len(cases)
        assert {case.convention for case in cases} == {"one-way"}


def test_one_device_is_met_by_one_transfer_at_a_time() -> None:
    _, cases = next(iter(peers.by_source([gpu(0), gpu(1), gpu(2)], at())))
    assert [case.op for case in cases] == [
        "p2p", "p2p", "p2p-both", "p2p-both", "p2p-latency", "p2p-latency",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("devices", "options"),
    [
        ([gpu(0)], at()),
        ([CPU], at()),
        ([gpu(0), CPU], at()),
        ([gpu(0), gpu(1, "rocm")], at()),
        ([gpu(0), gpu(1)], at("quick", "compute", "memory")),
    ],
)
def test_nothing_is_planned_without_a_second_device_of_the_kind(
    devices: list[Device], options: Options
) -> None:
    assert list(peers.by_source(devices, options)) == []


@pytest.mark.parametrize(("tier", "sizes"), [("quick", 1), ("standard", 1), ("soak", 4)])
def test_soak_measures_more_sizes_and_a_message_has_one(tier: str, sizes: int) -> None:
    _, cases = next(iter(peers.by_source([gpu(0), gpu(1)], at(tier))))
    count = {op: sum(case.op == op for case in cases) for op in peers.OPERATIONS}
    assert count == {"p2p": sizes, "p2p-both": sizes, "p2p-latency": 1}
    assert max(case.shape["bytes"] for case in cases) >= 64 << 20
    assert {case.shape["bytes"] for case in cases if case.op == "p2p-latency"} == {8}


def test_a_case_names_its_peer_by_an_id_that_outlives_torch_s_numbers() -> None:
    renumbered = [gpu(0), gpu(1).model_copy(update={"torch_device": "cuda:5"})]
    before, after = (
        [case.case_id for case in next(iter(peers.by_source(devices, at())))[1]]
        for devices in ([gpu(0), gpu(1)], renumbered)
    )
    assert before == after
    case = one_of("p2p")
    assert Case.model_validate_json(case.model_dump_json()) == case


def test_a_pair_is_sampled_briefly_and_a_hang_costs_a_minute() -> None:
    policy = plan.policy_for(one_of("p2p"), gpu(0), at("standard"))
    assert policy.max_time_s <= 0.3
    assert policy.timeout_s == 60
    assert 0.1 < plan.expected_s(one_of("p2p"), gpu(0), at("standard")) < 2


# Measuring


class Backend(CpuBackend):
    """GPUs that are the host's memory."""

    def __init__(self, *devices: Device) -> None:
        self.devices = devices

    def count(self) -> int:
        return len(self.devices)

    def describe(self, index: int = 0) -> Device:
        return self.devices[index]


class Runtime:
    """Copies run at once, one after the other."""

    def pin(self, address: int, size_bytes: int) -> Callable[[], object]:
        raise AssertionError("nothing is pinned between devices")

    def at_once(self, copies: Sequence[Copy]) -> Callable[[], object]:
        return lambda: [copy.enqueue() for copy in copies]

    def wait(self) -> None:
        pass


def one_of(op: str, size: int = 64 * KIB) -> Case:
    _, cases = next(iter(peers.by_source([gpu(0), gpu(1)], at())))
    case = next(case for case in cases if case.op == op)
    return case.model_copy(update={"shape": {"bytes": size if op != "p2p-latency" else 8}})


def session(*devices: Device) -> Session:
    backend = Backend(*(devices or (gpu(0), gpu(1))))
    return Session.on(
        gpu(0), backend, SamplerTelemeter(None), NoClock(), timer=BatchWallTimer(lambda: None)
    )


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Give a function that plays the runtime, with or without access between the two."""
    real = transfers.prepare_peer
    monkeypatch.setattr(
        peers, "open_nvml", lambda: NvmlUnavailable("library-not-found", "There is no NVML.")
    )

    def play(access: bool) -> None:
        monkeypatch.setattr(
            transfers, "prepare_peer",
            partial(
                real, runtime=Runtime(), can_access=lambda a, b: access,
                tensor_devices=("cpu", "cpu"),
            ),
        )  # fmt: skip

    return play


def measured(case: Case, opened: Session | None = None) -> Measurement:
    return measure_case(case, BRIEF, opened or session())


@pytest.mark.parametrize(("op", "directions"), [("p2p", 1), ("p2p-both", 2)])
def test_a_transfer_is_checked_and_its_rate_counts_each_direction_once(
    op: str, directions: int, reachable: Callable[[bool], None]
) -> None:
    reachable(True)
    found = measured(one_of(op))
    assert found.status == "ok", found.reason
    assert found.device_id == "GPU-0"
    assert found.correctness is not None
    assert found.correctness.error == 0
    assert found.rate is not None
    assert found.latency is not None
    assert found.rate.unit == "GB/s"
    moved = directions * 64 * KIB
    assert found.rate.median == pytest.approx(moved / found.latency.median / 1e3, rel=1e-6)
    assert found.kernel_config is not None
    assert found.kernel_config["peer"] == "cuda:1"


def test_a_small_message_has_a_latency_and_no_rate(reachable: Callable[[bool], None]) -> None:
    reachable(True)
    found = measured(one_of("p2p-latency"))
    assert found.status == "ok", found.reason
    assert found.rate is None
    assert found.latency is not None
    assert found.latency.unit == "us"


def test_devices_without_direct_access_are_skipped_with_the_reason(
    reachable: Callable[[bool], None],
) -> None:
    reachable(False)
    found = measured(one_of("p2p"))
    assert (found.status, found.reason and found.reason.code) == ("skipped", "no-peer-access")


@pytest.mark.parametrize(
    "devices", [(gpu(0),), (gpu(0), gpu(2)), (gpu(1), gpu(0))], ids=["gone", "another", "swapped"]
)
def test_a_device_that_is_another_one_now_is_not_measured_in_its_name(
    devices: tuple[Device, ...], reachable: Callable[[bool], None]
) -> None:
    reachable(True)
    found = measured(one_of("p2p"), session(*devices))
    assert (found.status, found.reason and found.reason.code) == ("skipped", "device-moved")


def test_what_no_driver_tells_of_a_link_is_absent_with_the_reason(
    reachable: Callable[[bool], None],
) -> None:
    reachable(True)
    found = measured(one_of("p2p"))
    assert found.link is not None
    assert found.link.kind is None
    assert found.link.missing == {"kind": "There is no NVML."}
    rocm = session(gpu(0, "rocm"), gpu(1, "rocm"))
    assert peers.link_of(one_of("p2p"), Session.on(
        gpu(0, "rocm"), rocm.backend, rocm.telemeter, rocm.clock, timer=rocm.timer
    )) is None  # fmt: skip


# What joins them


def linked(
    fake_nvml: ModuleType, number: int, far_ends: Sequence[str | None], **changes: Any
) -> Any:
    """Return an H200 with one link per far end (a bus id), None where the link is down."""
    found = fake_nvml.h200(number, nvmlDeviceGetP2PStatus=0, **changes)
    found.fields[pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT] = (fake_nvml.UINT, len(far_ends))
    for link, bus_id in enumerate(far_ends):
        found.answers["nvmlDeviceGetNvLinkState", link] = int(bus_id is not None)
        if bus_id is not None:
            info = fake_nvml.pci_info(bus_id, 0x2335, 0x18BE)
            found.answers["nvmlDeviceGetNvLinkRemotePciInfo", link] = info
            speed = (pynvml.NVML_FI_DEV_NVLINK_GET_SPEED, link)
            found.fields[speed] = (fake_nvml.UINT, 26_562)
    return found


def joined(fake_nvml: ModuleType, one: Any, other: Any) -> Any:
    nvml = Nvml(fake_nvml.FakeNvml(one, other))
    source, peer = (nvml.device_by_uuid(found.uuid) for found in (one, other))
    assert isinstance(source, NvmlDevice)
    assert isinstance(peer, NvmlDevice)
    return source.link_to(peer)


HERE, THERE, SWITCH = "00000000:1B:00.0", "00000000:1C:00.0", "00000000:05:00.0"


def test_links_behind_a_switch_all_lead_to_the_peer(fake_nvml: ModuleType) -> None:
    one = linked(fake_nvml, 0, [SWITCH] * 17 + [None])
    found = joined(fake_nvml, one, linked(fake_nvml, 1, []))
    assert (found.kind, found.switched) == ("nvlink", True)
    assert (found.nvlink_count, found.nvlink_active) == (17, 17)
    assert found.nvlink_gbps == pytest.approx(17 * 26.562)
    assert found.missing == {}


def test_of_direct_links_only_those_to_the_peer_count(fake_nvml: ModuleType) -> None:
    elsewhere = "00000000:1D:00.0"
    one = linked(fake_nvml, 0, [THERE, elsewhere, THERE, elsewhere, elsewhere, None])
    found = joined(fake_nvml, one, linked(fake_nvml, 1, []))
    assert (found.kind, found.switched) == ("nvlink", False)
    assert (found.nvlink_count, found.nvlink_active) == (2, 5)
    assert found.nvlink_gbps == pytest.approx(2 * 26.562)


@pytest.mark.parametrize(("status", "kind"), [(0, "nvlink"), (1, "pcie"), (5, "pcie"), (6, None)])
def test_the_driver_says_whether_nvlink_joins_two(
    fake_nvml: ModuleType, status: int, kind: str | None
) -> None:
    one = linked(fake_nvml, 0, [SWITCH])
    one.answers["nvmlDeviceGetP2PStatus"] = status
    found = joined(fake_nvml, one, linked(fake_nvml, 1, []))
    assert found.kind == kind
    assert ("kind" in found.missing) == (kind is None)


def test_what_a_driver_does_not_tell_of_its_links_is_missing_not_zero(
    fake_nvml: ModuleType,
) -> None:
    one = linked(fake_nvml, 0, [SWITCH, SWITCH])
    one.fields[pynvml.NVML_FI_DEV_NVLINK_GET_SPEED, 1] = fake_nvml.Refusal(3)
    found = joined(fake_nvml, one, linked(fake_nvml, 1, []))
    assert (found.nvlink_count, found.nvlink_gbps) == (2, None)
    assert found.missing["nvlink_gbps"].startswith("not-supported")
    del one.fields[pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT]
    found = joined(fake_nvml, one, linked(fake_nvml, 1, []))
    assert (found.kind, found.nvlink_count) == ("nvlink", None)
    assert found.missing["nvlink_count"].startswith("not-supported")
    del one.answers["nvmlDeviceGetP2PStatus"]
    found = joined(fake_nvml, one, linked(fake_nvml, 1, []))
    assert found.kind is None
    assert found.missing["kind"].startswith("function-not-found")


@pytest.mark.parametrize("answer", [None, "twelve", object(), [], -7])
@pytest.mark.parametrize(
    "call",
    ["nvmlDeviceGetP2PStatus", "nvmlDeviceGetNvLinkState", "nvmlDeviceGetNvLinkRemotePciInfo"],
)
def test_a_strange_answer_counts_as_none(fake_nvml: ModuleType, call: str, answer: object) -> None:
    one = linked(fake_nvml, 0, [THERE, THERE])
    for key in [key for key in one.answers if call in (key, key[0])]:
        one.answers[key] = iter([answer]) if answer is None else answer
    found = joined(fake_nvml, one, linked(fake_nvml, 1, []))
    told = {name for name, value in asdict(found).items() if value is not None} - {"missing"}
    assert (
        told
        == {
            "nvmlDeviceGetP2PStatus": set(),
            "nvmlDeviceGetNvLinkState": {"kind"},
            "nvmlDeviceGetNvLinkRemotePciInfo": {"kind", "nvlink_active"},
        }[call]
    )
    assert len(found.missing) == 1


def test_the_link_of_a_measured_pair_is_in_its_record(
    fake_nvml: ModuleType, reachable: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    reachable(True)
    ours = [linked(fake_nvml, number, [SWITCH] * 18) for number in (0, 1)]
    nvml = Nvml(fake_nvml.FakeNvml(*ours))
    monkeypatch.setattr(peers, "open_nvml", lambda: nvml)
    found = measured(one_of("p2p")).link
    assert found is not None
    assert (found.kind, found.nvlink_count, found.nvlink_active) == ("nvlink", 18, 18)
    assert found.nvlink_gbps == pytest.approx(18 * 26.562)
