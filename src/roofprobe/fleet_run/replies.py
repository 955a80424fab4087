"""What a node's reply means, and how slots are told of and sorted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roofprobe.fleet_run.slots import CPU, Outcome


def judged(reply: Mapping[str, Any], limit_s: float) -> tuple[Any, str, str]:
    """Return state, code and sentence of a slot by how its ``probe`` ended."""
    lines = [line.strip() for line in reply["said"].splitlines() if line.strip()]
    said = next((line.removeprefix("probe: ") for line in reversed(lines) if
                 line.startswith("probe: ")), lines[-1] if lines else "")  # fmt: skip
    code = reply["exit_code"]
    if reply["timed_out"]:
        return "unknown", "timed-out", f"it took longer than {limit_s:.0f} s and was stopped"
    if code == 0:
        return "finished", "", ""
    if code == 1 and reply["archive"] is not None:
        return "failed", "verdict-fail", "its verdict is fail"
    if code == 3:
        return "unknown", "incomplete", f"the run is incomplete: {said}" if said else "incomplete"
    if code < 0:
        return "unknown", "probe-died", f"probe was killed by signal {-code}"
    return "unknown", "probe-refused", f"probe ended with {code}: {said}"


def title(device: str) -> str:
    """Return how a slot's device is told to people."""
    return f"GPU {device}" if device.isdigit() else device


def visible_devices(devices: list[str], visible: str | None) -> list[str]:
    """Return Ray's names of a node's GPUs: the node's CUDA_VISIBLE_DEVICES, or numbers from 0."""
    names = [name.strip() for name in (visible or "").split(",") if name.strip()]
    if devices == [CPU] or len(names) < len(devices):
        return devices
    return names[: len(devices)]


def order(outcome: Outcome) -> tuple[str, int, str]:
    """Return by what outcomes are sorted: the node, then the number of the GPU."""
    return (
        outcome.node,
        int(outcome.device) if outcome.device.isdigit() else 1 << 30,
        outcome.device,
    )
