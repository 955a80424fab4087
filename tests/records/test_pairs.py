"""The peak of a pair: a switch gives it all links, direct wiring its part of them."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.records.pairs import PairPeak, pair_peak
from roofprobe.records.schema import Ceiling, Peer, PeerLink

CEILINGS = [
    Ceiling(device_id="GPU-x", kind="datasheet", family="interconnect", peak_key="nvlink_gbps",
            value=300.0, unit="GB/s", basis="Example, NVLink"),
    Ceiling(device_id="GPU-x", kind="derived", family="interconnect", peak_key="pcie_gbps",
            value=63.0, unit="GB/s", basis="PCIe Gen5 x16"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("link", "peak"),
    [
        (PeerLink(kind="nvlink", switched=True, nvlink_count=12, nvlink_active=12),
         PairPeak(300.0, "Example, NVLink")),
        (PeerLink(kind="nvlink", switched=False, nvlink_count=4, nvlink_active=12),
         PairPeak(100.0, "Example, NVLink, 4 of 12 links")),
        (PeerLink(kind="nvlink"), PairPeak(300.0, "Example, NVLink")),
        (PeerLink(kind="pcie"), PairPeak(63.0, "PCIe Gen5 x16")),
        (PeerLink(), None),
        (None, None),
    ],
)  # fmt: skip
def test_a_pair_is_held_against_the_links_that_join_it(
    make: Any, link: PeerLink | None, peak: PairPeak | None
) -> None:
    peer = Peer(device_id="GPU-y", torch_device="cuda:1")
    transfer = make(1.0, family="interconnect", op="p2p", peer=peer, link=link)
    assert pair_peak(transfer, CEILINGS) == peak


def test_a_latency_has_no_peak(make: Any) -> None:
    peer = Peer(device_id="GPU-y", torch_device="cuda:1")
    link = PeerLink(kind="nvlink", nvlink_count=12, nvlink_active=12)
    message = make(1.0, family="interconnect", op="p2p-latency", peer=peer, link=link)
    assert pair_peak(message, CEILINGS) is None
