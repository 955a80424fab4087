"""Health is read by processes that crash, hang or talk nonsense, and costs no device but theirs."""

from __future__ import annotations

import sys

import pytest

from roofprobe.probes import health_reading
from roofprobe.probes.cool_down import cool_down
from roofprobe.probes.health_reading import read_health
from roofprobe.probes.nvml_facts import Snapshot
from roofprobe.records.schema import Device

WORKER = """
import json, os, signal, sys, time
for line in sys.stdin:
    what = json.loads(line)["device"]["name"]
    if what == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(60)
    if what == "garbage":
        print("Segmentation fau", flush=True)
        continue
    reply = {"health": {"source": str(os.getpid()), "ecc_uncorrected": 0}}
    if what == "nonsense":
        reply = {"health": {"ecc_uncorrected": "brilliant"}}
    if what == "error":
        reply = {"error": {"code": "worker-error", "sentence": "ValueError: no"}}
    print(json.dumps(reply), flush=True)
"""
COMMAND = (sys.executable, "-c", WORKER)


def device(name: str, number: int) -> Device:
    return Device(device_id=f"GPU-{number}", torch_device="cuda:0", backend="cuda", name=name)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("crash", "worker-crashed"),
        ("hang", "timed-out"),
        ("garbage", "worker-garbage"),
        ("nonsense", "worker-garbage"),
        ("error", "worker-garbage"),
    ],
)
def test_a_device_that_cannot_be_asked_costs_only_itself(
    fault: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_reading, "TIMEOUT_S", 2.0)
    names = ("fine", fault, "fine")
    found = read_health([device(name, n) for n, name in enumerate(names)], COMMAND)
    assert list(found) == ["GPU-0", "GPU-1", "GPU-2"]
    assert found["GPU-0"].ecc_uncorrected == found["GPU-2"].ecc_uncorrected == 0
    assert found["GPU-1"].source is None
    assert found["GPU-1"].missing["health"].startswith(f"{code} (")


def test_one_process_asks_about_all_devices_that_answer() -> None:
    found = read_health([device("fine", n) for n in range(3)], COMMAND)
    assert len({health.source for health in found.values()}) == 1


def test_a_program_that_is_no_worker_is_a_reason() -> None:
    found = read_health([device("fine", 0)], (sys.executable, "-c", "print('hello')"))
    assert found["GPU-0"].missing["health"].startswith("worker-")


# Waiting until it is idle and cool


class Time:
    """A clock that goes on while one sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def clock(self) -> float:
        return self.now_s


def waited(moments: list[Snapshot], most_s: float = 30.0, cool_c: float | None = 45.0):  # type: ignore[no-untyped-def]
    time, left = Time(), iter(moments)
    last = moments[-1]
    return cool_down(lambda: next(left, last), most_s, cool_c, sleep=time.sleep, clock=time.clock)


def at(temperature_c: float | None, busy: float | None = 0.0) -> Snapshot:
    return Snapshot(temperature_c=temperature_c, utilisation_percent=busy)


def test_it_waits_until_the_device_has_cooled() -> None:
    found = waited([at(70.0 - degree) for degree in range(40)])
    assert (found.temperature_c, found.in_the_way) == (45.0, None)
    assert 5.0 < found.waited_s < 8.0


def test_it_waits_until_the_device_is_idle() -> None:
    assert waited([at(30.0, 90.0)] * 20 + [at(30.0)]).waited_s == pytest.approx(5.0)


def test_it_gives_up_in_time_and_says_what_was_in_the_way() -> None:
    hot = waited([at(80.0)], most_s=10.0)
    assert (hot.waited_s, hot.in_the_way) == (10.0, "it has 80 °C, more than 45 °C")
    busy = waited([at(30.0, 100.0)], most_s=10.0)
    assert (busy.waited_s, busy.in_the_way) == (10.0, "it is 100 % busy")


def test_it_pauses_shortly_where_nothing_is_told_or_the_sensor_fails() -> None:
    def broken() -> Snapshot:
        raise OSError("no sensor")

    for moment in (None, broken, lambda: at(None, None)):
        time = Time()
        found = cool_down(moment, 30.0, sleep=time.sleep, clock=time.clock)
        assert (found.waited_s, found.in_the_way) == (1.0, None)
