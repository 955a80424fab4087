"""What the verdict finds of what was planted, and what it finds where nothing was.

Seeds here are others than those that thresholds were looked at with (0 to 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofprobe.acceptance.fleet.criteria import hold
from roofprobe.acceptance.fleet.fleet_verdict import FleetOptions, FleetVerdict
from roofprobe.acceptance.fleet.judge import judge_fleet
from roofprobe.acceptance.fleet.present import read_present
from roofprobe.acceptance.fleet.shortfall import flags_of
from roofprobe.acceptance.fleet.simulate import simulate
from roofprobe.acceptance.fleet.simulate_faults import Truth
from roofprobe.acceptance.fleet.simulate_noise import Noise
from roofprobe.acceptance.fleet.simulate_present import Imagined, imagine
from roofprobe.records.fleet.dataset import Fleet
from roofprobe.records.fleet.merge import merge
from roofprobe.records.fleet.query import connect
from roofprobe.records.fleet.store import open_store

HELD_OUT = (101, 102, 103, 104, 105)
MIXED = (
    "slow-gpu:100:5%:all", "slow-gpu:60:5%:memory", "slow-gpu:60:5%:compute",
    "slow-gpu:40:5%:fp8", "slow-gpu:40:5%:bf16", "throttling-rack:5:5%",
)  # fmt: skip


def flagged(made: Imagined, options: FleetOptions | None = None) -> set[int]:
    options = options or FleetOptions()
    held = hold(made.present, options)
    return set(flags_of(made.present, held, options).devices.tolist())


def test_of_ten_thousand_healthy_devices_no_more_than_one_in_a_thousand_is_flagged() -> None:
    counts = [len(flagged(imagine(1250, seed))) for seed in HELD_OUT]
    assert max(counts) <= 5
    assert sum(counts) <= 10


def test_healthy_devices_stay_healthy_with_other_tails() -> None:
    counts = [len(flagged(imagine(250, seed, noise=Noise(dof=3)))) for seed in HELD_OUT]
    assert sum(counts) <= 5 * 4  # of 2,000 each


@pytest.mark.parametrize(("effect", "least_recall"), [("5%", 0.99), ("10%", 0.999)])
def test_planted_faults_are_found_and_little_else(effect: str, least_recall: float) -> None:
    found = right = planted = 0
    for seed in HELD_OUT[:2]:
        made = imagine(1250, seed, [text.replace("5%", effect) for text in MIXED])
        rows = flagged(made)
        found, right = found + len(rows), right + len(rows & made.flawed)
        planted += len(made.flawed)
    assert planted == 2 * 340
    assert right >= least_recall * planted
    assert right >= 0.99 * found


@pytest.mark.parametrize("share", ["10%", "20%", "23%"])
def test_many_bad_devices_do_not_move_the_criterion_that_finds_them(share: str) -> None:
    made = imagine(500, 201, [f"slow-gpu:{share}:6%:all"])
    rows = flagged(made)
    assert len(rows & made.flawed) >= 0.99 * len(made.flawed)
    assert len(rows - made.flawed) <= 4


@pytest.mark.parametrize("share", ["45%", "55%", "70%"])
def test_how_many_throttle_does_not_change_who_does(share: str) -> None:
    made = imagine(32, 202, [f"throttling-rack:{share}:8%"])
    assert flagged(made) == made.flawed


def test_beyond_three_quarters_the_fleet_itself_tells_nothing() -> None:
    assert flagged(imagine(32, 202, ["throttling-rack:80%:8%"])) == set()


def fleet_of(tmp_path: Path, hosts: int, seed: int, faults: Sequence[str], **more: Any) -> Truth:
    truth = simulate(tmp_path / "sim", hosts=hosts, seed=seed, faults=faults, **more)
    merge([tmp_path / "sim" / "runs"], tmp_path / "FLEET")
    return truth


def verdict_of(tmp_path: Path, truth: Truth) -> FleetVerdict:
    expected: dict[str, int | None] = {f"sim-{host:05}": truth.gpus for host in range(truth.hosts)}
    return judge_fleet(Fleet(open_store(tmp_path / "FLEET")), FleetOptions(expected=expected))


def test_imagined_devices_are_those_of_the_files(tmp_path: Path) -> None:
    faults = ["slow-gpu:1:8%", "throttling-rack:1", "variant:1"]
    fleet_of(tmp_path, 6, 5, faults, gpus=2)
    with connect(Fleet(open_store(tmp_path / "FLEET"))) as connection:
        written = read_present(connection, None)
    made = imagine(6, 5, faults, gpus=2).present
    assert written.devices.device_id.tolist() == made.devices.device_id.tolist()
    order = [[m.metric for m in made.metrics].index(m.metric) for m in written.metrics]
    assert [made.metrics[at] for at in order] == list(written.metrics)
    np.testing.assert_allclose(written.logs, made.logs[:, order], rtol=0, atol=1e-6)


ALL_KINDS = (
    "slow-gpu:6:5%", "slow-gpu:4:5%:fp8", "slow-gpu:4:5%:memory", "throttling-rack:2",
    "variant:30%:3%", "wrong-sku:1", "missing-host:1", "missing-gpu:1", "truncated:1",
    "duplicate:1", "duplicate-uuid:1", "incomplete:1", "own-fail:1",
)  # fmt: skip


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> tuple[Truth, FleetVerdict]:
    """Give a fleet of 1,000 devices with each kind of fault, from files, and its verdict."""
    folder = tmp_path_factory.mktemp("thousand")
    truth = fleet_of(folder, 125, 301, ALL_KINDS)
    return truth, verdict_of(folder, truth)


def test_a_thousand_devices_from_files_are_judged_right(
    thousand: tuple[Truth, FleetVerdict],
) -> None:
    truth, verdict = thousand
    slow = {d.device_id for d in verdict.devices
            if {f.code for f in d.findings} & {"slow", "slow-metric", "wrong-sku"}}  # fmt: skip
    flawed = set(truth.flawed)
    assert len(slow & flawed) >= 0.99 * len(flawed)
    assert len(slow - flawed) <= 1
    assert verdict.judgement == "fail"
    assert verdict.summary.startswith("SIMULATED, nothing was measured")


def test_each_kind_of_fault_is_called_by_its_name(thousand: tuple[Truth, FleetVerdict]) -> None:
    truth, verdict = thousand
    planted = {fault.kind: fault for fault in truth.faults if fault.kind != "slow-gpu"}
    of_device: dict[str, set[str]] = {}
    for device in verdict.devices:
        of_device[device.device_id] = {finding.code for finding in device.findings}
    about: dict[str, set[str]] = {}
    for finding in verdict.findings:
        about.setdefault(finding.code, set()).update(finding.hosts or {finding.host or ""})
    assert about["throttling-hosts"] == set(planted["throttling-rack"].hosts)
    assert about["slow-host"] == set(planted["throttling-rack"].hosts)
    assert about["variant"] == set(planted["variant"].hosts)
    assert about["missing-host"] == {*planted["missing-host"].hosts, *planted["truncated"].hosts}
    assert about["missing-device"] == set(planted["missing-gpu"].hosts)
    assert planted["duplicate-uuid"].hosts[0] in about["duplicate-uuid"]
    assert about["refused-files"]
    assert "wrong-sku" in of_device[planted["wrong-sku"].devices[0]]
    assert "own-verdict" in of_device[planted["own-fail"].devices[0]]
    cut = [h for h in verdict.hosts if h.host == planted["incomplete"].hosts[0]]
    assert [(h.judgement, h.n_not_pass) for h in cut] == [("unknown", 8)]
    variant = next(f for f in verdict.findings if f.code == "variant")
    assert variant.effect == pytest.approx(-0.03, abs=0.003)
    rack = next(f for f in verdict.findings if f.code == "throttling-hosts")
    assert rack.cause == "clock"


@pytest.mark.parametrize(("hosts", "seed", "racks"), [(16, 7, 4), (32, 5, 8), (16, 7, 10)])
def test_racks_that_are_a_quarter_of_the_fleet_or_most_of_it_throttle_and_are_no_other_kind(
    tmp_path: Path, hosts: int, seed: int, racks: int
) -> None:
    truth = fleet_of(tmp_path, hosts, seed, [f"throttling-rack:{racks}"])
    verdict = verdict_of(tmp_path, truth)
    found = {finding.code: finding for finding in verdict.findings}
    assert "bimodal" not in found
    assert ("most-throttle" in found) == (2 * racks > hosts)
    assert set(found["throttling-hosts"].hosts) == set(truth.faults[0].hosts)
    assert {device.device_id for device in verdict.devices} == set(truth.flawed)
    assert verdict.judgement == "fail"


@pytest.mark.parametrize("seed", [108, 115])
def test_a_lone_figure_of_chance_in_a_small_fleet_is_a_reason_to_repeat_and_no_fail(
    tmp_path: Path, seed: int
) -> None:
    verdict = verdict_of(tmp_path, fleet_of(tmp_path, 12, seed, []))
    (device,) = verdict.devices
    (finding,) = device.findings
    assert (verdict.judgement, finding.n_metrics) == ("warn", 1)
    assert (finding.remedy or "").startswith("repeat the run")
    assert "replaced" not in (finding.remedy or "")


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_ten_thousand_devices_from_files_are_judged_right(tmp_path: Path) -> None:
    truth = fleet_of(tmp_path, 1250, 302, MIXED)
    verdict = verdict_of(tmp_path, truth)
    flawed = set(truth.flawed)
    found = {device.device_id for device in verdict.devices}
    assert verdict.generated_from.n_metrics == 1_000_000
    assert len(found & flawed) >= 0.99 * len(flawed)
    assert len(found & flawed) >= 0.99 * len(found)
    racks = next(f for f in verdict.findings if f.code == "throttling-hosts")
    assert set(racks.hosts) == set(truth.faults[-1].hosts)
