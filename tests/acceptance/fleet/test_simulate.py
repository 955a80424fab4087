"""The simulated fleet: real records that say so, the same from the same seed, with its faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roofprobe.acceptance.fleet.expected import read_expected
from roofprobe.acceptance.fleet.simulate import SENTENCE, simulate
from roofprobe.acceptance.fleet.simulate_faults import KINDS, Truth, fault_of
from roofprobe.peaks.catalogue import load
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.extract import rows_of
from roofprobe.records.fleet.lean import LeanRun
from roofprobe.records.schema import Run


def runs(out: Path) -> list[Path]:
    return sorted((out / "runs").glob("*/run.json"))


def test_its_files_are_records_that_say_that_nothing_was_measured(tmp_path: Path) -> None:
    simulate(tmp_path, hosts=3, gpus=2, seed=1)
    for path in runs(tmp_path):
        run = Run.model_validate_json(path.read_bytes())
        assert run.simulated == SENTENCE
        assert "no figure in this record was measured" in SENTENCE
        assert run.environment.host.startswith("sim-")
        assert len(run.devices) == 2


@pytest.mark.parametrize("sku", ["nvidia_h100_sxm5_80gb", "nvidia_b200", "nvidia_l4"])
def test_other_kinds_are_records_too(tmp_path: Path, sku: str) -> None:
    simulate(tmp_path, hosts=1, gpus=2, seed=1, sku=sku)
    run = Run.model_validate_json(runs(tmp_path)[0].read_bytes())
    assert {device.catalogue_key for device in run.devices} == {sku}


def test_an_h100_has_a_hundred_metrics(tmp_path: Path) -> None:
    truth = simulate(tmp_path, hosts=1, gpus=8, seed=1)
    run = LeanRun.model_validate_json(runs(tmp_path)[0].read_bytes())
    found = rows_of(run, part="p", digest="d", source="s").metrics
    assert truth.metrics_per_device == 100
    assert len(found) == 800
    value = {m.metric: m.value for m in found if m.device_id == run.devices[0].device_id}
    peak = load()["nvidia_h100_sxm5_80gb"].dense["bf16_tensor"]
    assert value["compute bf16 burst"] == pytest.approx(0.76 * peak, rel=0.04)
    assert value["compute bf16 temperature"] == pytest.approx(62, rel=0.3)
    assert value["compute bf16 clock"] == pytest.approx(1782, rel=0.04)


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    faults = ["slow-gpu:2:5%", "throttling-rack:1"]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(tmp_path / name, hosts=4, gpus=2, seed=seed, faults=faults)
    bytes_of = {name: [p.read_bytes() for p in runs(tmp_path / name)] for name in "abc"}
    assert bytes_of["a"] == bytes_of["b"]
    assert bytes_of["a"] != bytes_of["c"]


def test_a_slow_gpu_is_as_much_slower_as_was_asked(tmp_path: Path) -> None:
    simulate(tmp_path / "well", hosts=2, gpus=2, seed=1)
    truth = simulate(tmp_path / "slow", hosts=2, gpus=2, seed=1, faults=["slow-gpu:1:20%:fp8"])
    (flawed,) = truth.flawed
    ratio: dict[str, float] = {}
    for well, slow in zip(runs(tmp_path / "well"), runs(tmp_path / "slow"), strict=True):
        a, b = (Run.model_validate_json(path.read_bytes()) for path in (well, slow))
        for one, other in zip(a.headlines, b.headlines, strict=True):
            if one.device_id == flawed:
                ratio[one.label] = other.rate.median / one.rate.median
            else:
                assert one == other
    assert ratio["fp8"] == pytest.approx(0.8, rel=1e-5)
    assert ratio["bf16"] == 1


def test_the_truth_file_says_what_was_planted(tmp_path: Path) -> None:
    faults = ["slow-gpu:2:10%:memory", "missing-host:1", "variant:50%", "wrong-sku:1"]
    truth = simulate(tmp_path, hosts=8, gpus=2, seed=3, faults=faults)
    assert Truth.model_validate_json((tmp_path / "truth.json").read_bytes()) == truth
    assert [fault.kind for fault in truth.faults] == [text.split(":")[0] for text in faults]
    assert [len(fault.hosts) for fault in truth.faults] == [2, 1, 4, 1]
    concerned = [host for fault in truth.faults for host in fault.hosts]
    assert len(set(concerned)) == len(concerned)
    assert len(truth.flawed) == 3
    assert read_expected(tmp_path / "hosts.txt") == {f"sim-{n:05}": 2 for n in range(8)}
    assert len(runs(tmp_path)) == 7


def test_faults_of_files_are_in_the_files(tmp_path: Path) -> None:
    faults = ["truncated:1", "duplicate:1", "incomplete:1", "missing-gpu:1", "duplicate-uuid:1"]
    truth = simulate(tmp_path, hosts=8, gpus=4, seed=1, faults=faults)
    where = {fault.kind: fault.hosts[0] for fault in truth.faults}
    text = {path.parent.name[17:]: path.read_text() for path in runs(tmp_path)}
    with pytest.raises(json.JSONDecodeError):
        json.loads(text.pop(where["truncated"]))
    assert text[where["duplicate"]] == text.pop(where["duplicate"] + "-again")
    records = {host: json.loads(each) for host, each in text.items()}
    assert records[where["incomplete"]]["status"] == "incomplete"
    assert len(records[where["missing-gpu"]]["devices"]) == 3
    ids = [device["device_id"] for each in records.values() for device in each["devices"]]
    assert len(ids) - len(set(ids)) == 1


def test_runs_of_months_have_drift_and_another_driver(tmp_path: Path) -> None:
    faults = ["drift:1:2%", "driver-update:1:10%"]
    truth = simulate(tmp_path, hosts=2, gpus=2, seed=1, runs=4, faults=faults)
    drifting, updated = truth.faults
    rates: dict[str, list[float]] = {}
    drivers: dict[str, list[str | None]] = {}
    for path in runs(tmp_path):
        run = Run.model_validate_json(path.read_bytes())
        for line in run.headlines:
            if line.label == "bf16":
                rates.setdefault(line.device_id, []).append(line.rate.median)
        drivers.setdefault(run.environment.host, []).append(run.devices[0].driver)
    first, *_, last = rates[drifting.devices[0]]
    assert last / first == pytest.approx(0.98**3, rel=0.02)
    old, new = drivers[updated.hosts[0]][0], drivers[updated.hosts[0]][-1]
    assert drivers[updated.hosts[0]] == [old, old, new, new]
    assert old != new
    series = rates[updated.devices[0]]
    assert series[2] / series[1] == pytest.approx(0.9, rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_fault_can_be_planted_alone(tmp_path: Path, kind: str) -> None:
    truth = simulate(tmp_path, hosts=4, gpus=2, seed=1, runs=2, faults=[f"{kind}:1"])
    assert truth.faults[0].kind == kind
    assert truth.faults[0].hosts


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("slow:1", "bad-fault"),
        ("slow-gpu:x", "bad-fault"),
        ("slow-gpu:0", "bad-fault"),
        ("slow-gpu:1:150%", "bad-fault"),
        ("slow-gpu:1:5%:fp8:more", "bad-fault"),
        ("slow-gpu:1:5%:fp7", "bad-fault"),
        ("missing-host:9", "bad-fault"),
        ("wrong-sku:1::h1000", "unknown-sku"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_in_one_sentence(
    tmp_path: Path, text: str, code: str
) -> None:
    with pytest.raises(RoofprobeError) as refused:
        simulate(tmp_path, hosts=2, gpus=2, seed=1, faults=[text])
    assert refused.value.code == code


def test_a_fault_is_read_with_its_defaults() -> None:
    fault = fault_of("slow-gpu:30%")
    assert (fault.share, fault.effect, fault.detail) == (0.3, 0.05, "all")
    assert fault.of(1000) == 300
    assert fault_of("throttling-rack:2:4%").effect == 0.04
