"""What joins two GPUs, as NVML tells it: NVLink, how many links of it, how fast.

A link's other end is the peer itself, or a switch through which all of a GPU's links reach every
other one. NVML says for each link whether it is up and what stands at its other end; speeds are per
link and one way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from roofprobe.probes import nvml_readers as readers
from roofprobe.probes.nvml_facts import LinkToPeer
from roofprobe.probes.nvml_interview import Answer, Interview

# Numbers of the NVML interface, which it keeps for good; a test holds them against pynvml.
FIELD_NVLINK_COUNT, FIELD_NVLINK_SPEED = 91, 164  # the second one per link, MB/s one way
P2P_BY_NVLINK, P2P_OK, P2P_UNKNOWN = 2, 0, 6

Field = Callable[[Interview, int, int | None], Answer]


def link_between(
    ask: Interview, chip: Any, peer: Any, peer_address: str | None, field: Field
) -> LinkToPeer:
    """Return what joins the device ``chip`` and ``peer``; links to others are left out.

    ``field`` asks ``chip`` for the value of a field, or of one part of it.
    """
    joined = ask.one("kind", _told_status, ("nvmlDeviceGetP2PStatus", chip, peer, P2P_BY_NVLINK))
    if not joined:
        return LinkToPeer(None if joined is None else "pcie", missing=ask.missing)
    count = ask.read("nvlink_count", field(ask, FIELD_NVLINK_COUNT, None), _positive_field)
    if count is None:
        return LinkToPeer("nvlink", missing=ask.missing)
    states = [
        ask.one("nvlink_active", readers.switch, ("nvmlDeviceGetNvLinkState", chip, link))
        for link in range(count)
    ]
    if None in states:
        return LinkToPeer("nvlink", missing=ask.missing)
    active = [link for link, state in enumerate(states) if state]
    far_ends = {link: _far_end(ask, chip, link) for link in active}
    if peer_address is None or None in far_ends.values():
        return LinkToPeer("nvlink", nvlink_active=len(active), missing=ask.missing)
    direct = [link for link in active if far_ends[link] == peer_address]
    leading = direct or active
    speeds = [
        ask.read(
            "nvlink_gbps",
            field(ask, FIELD_NVLINK_SPEED, link),
            lambda found: _positive_field(found) / 1000,
        )
        for link in leading
    ]
    told = [speed for speed in speeds if speed is not None]
    return LinkToPeer(
        kind="nvlink",
        switched=not direct,
        nvlink_count=len(leading),
        nvlink_active=len(active),
        nvlink_gbps=sum(told) if told and len(told) == len(leading) else None,
        missing=ask.missing,
    )


def _far_end(ask: Interview, chip: Any, link: int) -> str | None:
    """Return the PCI bus id of what is at the other end of a link."""
    question = ("nvmlDeviceGetNvLinkRemotePciInfo", chip, link)
    return ask.one("nvlink_count", lambda info: readers.text(info.busId), question)


def _positive_field(reading: Any) -> int:
    return readers.positive(readers.field_value(reading))


def _told_status(value: Any) -> bool:
    status = readers.count(value)
    if status >= P2P_UNKNOWN:
        raise readers.NotTold
    return status == P2P_OK
