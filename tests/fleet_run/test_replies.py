"""What a node's reply means."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from roofprobe.fleet_run.cluster import lost
from roofprobe.fleet_run.replies import judged, order, title, visible_devices
from roofprobe.fleet_run.slots import Outcome


def reply(code: int, said: str = "", *, timed_out: bool = False) -> dict[str, Any]:
    return {"exit_code": code, "said": said, "timed_out": timed_out, "archive": b""}


@pytest.mark.parametrize(
    ("given", "state", "code", "said"),
    [
        (reply(0), "finished", "", ""),
        (reply(1), "failed", "verdict-fail", "its verdict is fail"),
        (reply(3, "Incomplete: 4 results"), "unknown", "incomplete", "Incomplete: 4 results"),
        (reply(3, timed_out=True), "unknown", "timed-out", "longer than 60 s"),
        (reply(0, timed_out=True), "unknown", "timed-out", ""),
        (reply(2, "noise\nprobe: there is no device 'cuda'\nmore\n"), "unknown", "probe-refused",
         "probe ended with 2: there is no device 'cuda'"),
        (reply(-signal.SIGSEGV), "unknown", "probe-died", "signal 11"),
        ({**reply(1, "Traceback"), "archive": None}, "unknown", "probe-refused",
         "with 1: Traceback"),
    ],
)  # fmt: skip
def test_an_exit_code_is_a_state(given: dict[str, Any], state: str, code: str, said: str) -> None:
    found = judged(given, 60)
    assert found[:2] == (state, code)
    assert said in found[2]


def test_an_error_of_ray_is_told_in_our_words() -> None:
    class RayError(Exception):
        pass

    class NodeDiedError(RayError):
        pass

    class Narrower(NodeDiedError):
        pass

    class RuntimeEnvSetupError(RayError):
        pass

    assert lost(Narrower("many\nlines")).code == "node-died"
    setup = lost(RuntimeEnvSetupError("\nFailed to set up\nmore"))
    assert setup.sentence.endswith("could not be installed on its node: Failed to set up")
    trace = "Failed\n  ModuleNotFoundError: No module\n  x.py, line 3\nRuntimeError: install it\n "
    assert lost(RuntimeEnvSetupError(trace)).sentence.endswith("node: RuntimeError: install it")
    other = lost(RayError("odd"))
    assert (other.code, other.sentence) == ("task-failed", "RayError: odd")


def test_gpus_are_called_as_ray_calls_them() -> None:
    assert visible_devices(["0", "1"], None) == ["0", "1"]
    assert visible_devices(["0", "1"], "4, 5") == ["4", "5"]
    assert visible_devices(["0", "1"], "4,5,6") == ["4", "5"]
    assert visible_devices(["0", "1"], "4") == ["0", "1"]
    assert visible_devices(["cpu"], "4") == ["cpu"]


def test_slots_are_sorted_by_number() -> None:
    slots = [Outcome(node, device, "finished") for node in "ba" for device in ("10", "9", "cpu")]
    assert [each.slot for each in sorted(slots, key=order)] == [
        (node, device) for node in "ab" for device in ("9", "10", "cpu")
    ]
    assert [title(each) for each in ("3", "cpu")] == ["GPU 3", "cpu"]
