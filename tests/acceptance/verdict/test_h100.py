"""Copies of one H100's record, each with one thing changed, and the verdict that each deserves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from roofprobe.acceptance.verdict.judge import judge
from roofprobe.records.runfolder import write_run
from roofprobe.records.schema import NOT_ALONE, Health, Judgement, Measurement, Note, Run, Span
from roofprobe.reporting.check_json import check_json_schema

Change = Callable[[ModuleType, Run], Run]


def of_memory(m: Measurement) -> bool:
    return m.case.family == "memory"


def of_bf16(m: Measurement) -> bool:
    return m.case.family == "compute" and m.case.precision == "bf16"


def throttled(h100: ModuleType, run: Run) -> Run:
    """Halve the clock of all compute, and with it the rates: as many cycles as before."""

    def slowed(m: Measurement) -> Measurement:
        if m.clock_mhz is None:
            return m
        half = m.clock_mhz.median / 2
        clock = Span(min=half, median=half, max=half)
        changed: Measurement = h100.at_speed(m, 0.5)
        return changed.model_copy(update={"clock_mhz": clock})

    measurements = tuple(map(slowed, run.measurements))
    done: Run = h100.finished(run.model_copy(update={"measurements": measurements}))
    return done


def with_ecc_error(h100: ModuleType, run: Run) -> Run:
    before = Health(source="nvml", ecc_corrected=0, ecc_uncorrected=0)
    after = before.model_copy(update={"ecc_uncorrected": 2})
    changed: Run = h100.with_device(run, health_before=before, health_after=after)
    return changed


def skipped_for_want_of_time(h100: ModuleType, run: Run) -> Run:
    reason = {"code": "time-budget", "sentence": "the time budget was spent before its turn"}
    last = run.measurements[-1]
    late = Measurement.model_validate(
        {"case": last.case, "device_id": last.device_id, "status": "skipped", "reason": reason}
    )
    done: Run = h100.finished(
        run.model_copy(update={"measurements": (*run.measurements[:-1], late)})
    )
    return done


# What was changed, the verdict, the code that says why (and a word of its sentence).
COPIES: dict[str, tuple[Change, Judgement, str | None, str]] = {
    "itself": (lambda h100, run: run, "pass", None, ""),
    "power-limit-lowered": (
        lambda h100, run: h100.with_device(run, limits={"power_limit_w": 500}),
        "fail", "RP-POWER-LIMIT", "71%",
    ),
    "power-limit-lowered-a-little": (
        lambda h100, run: h100.with_device(run, limits={"power_limit_w": 650}),
        "warn", "RP-POWER-LIMIT", "93%",
    ),
    "power-limit-and-default-lowered": (
        lambda h100, run: h100.with_device(
            run, limits={"power_limit_w": 350, "default_power_limit_w": 350}
        ),
        "fail", "RP-POWER-LIMIT", "50% of the TDP",
    ),
    "power-limit-lowered-meanwhile": (
        lambda h100, run: h100.with_device(run, health_after=Health(power_limit_w=450)),
        "fail", "RP-POWER-LIMIT", "64%",
    ),
    "renamed-to-h200": (
        lambda h100, run: h100.with_device(run, name="NVIDIA H200"),
        "fail", "RP-IDENTITY", "H200",
    ),
    "renamed-to-h200-without-pci-id": (
        lambda h100, run: h100.with_device(
            run, name="NVIDIA H200", pci_id=None, catalogue_key="nvidia_h200_sxm_141gb"
        ),
        "fail", "RP-IDENTITY", "141",
    ),
    "renamed-to-what-nobody-knows": (
        lambda h100, run: h100.with_device(run, name="NVIDIA Graphics Device"),
        "unknown", "RP-IDENTITY", "none of its names",
    ),
    "units-fused-off": (
        lambda h100, run: h100.with_device(run, unit_count=114), "fail", "RP-UNITS", "114",
    ),
    "half-of-the-memory": (
        lambda h100, run: h100.with_device(run, memory_bytes=40 << 30),
        "fail", "RP-MEMORY-SIZE", "40.0 GiB",
    ),
    "clock-locked": (
        lambda h100, run: h100.with_device(run, limits={"max_sm_clock_mhz": 1880}),
        "warn", "RP-CLOCK-LIMIT", "1880",
    ),
    "a-slice": (
        lambda h100, run: h100.with_device(run, limits={"mig_enabled": True}),
        "unknown", "RP-IDENTITY", "part of a card",
    ),
    "bandwidth-30-percent-less": (
        lambda h100, run: h100.scaled(run, 0.7, of_memory), "fail", "RP-BANDWIDTH", "66%",
    ),
    "half-of-the-rows-missing": (
        lambda h100, run: run.model_copy(update={"measurements": run.measurements[::2]}),
        "unknown", "RP-COMPLETE", "60 of 121",
    ),
    "half-of-the-rows-missing-everywhere": (
        lambda h100, run: h100.finished(
            run.model_copy(update={"measurements": run.measurements[1::2]})
        ),
        "unknown", "RP-COMPLETE", "61 of 121",
    ),
    "no-time-for-one-case": (skipped_for_want_of_time, "unknown", "RP-COMPLETE", "1 of 121"),
    "cut-short": (
        lambda h100, run: run.model_copy(update={"status": "incomplete"}),
        "unknown", "RP-COMPLETE", "cut short",
    ),
    "no-plan": (
        lambda h100, run: run.model_copy(update={"planned": {}}),
        "unknown", "RP-COMPLETE", "planned",
    ),
    "ecc-error": (with_ecc_error, "fail", "RP-ECC", ""),
    "one-precision-half-as-fast": (
        lambda h100, run: h100.scaled(run, 0.5, of_bf16), "fail", "RP-COMPUTE", "slow at its clock",
    ),
    "clocks-throttled": (throttled, "fail", "RP-COMPUTE", "its clock was low"),
    "above-the-pins": (
        lambda h100, run: h100.scaled(run, 1.2, of_memory), "unknown", "RP-INVALID", "physical",
    ),
    "unknown-card": (
        lambda h100, run: h100.with_device(run, name="NVIDIA Example 9000", pci_id="10de:ffff"),
        "unknown", "RP-IDENTITY", "No catalogue row",
    ),
    "older-method": (
        lambda h100, run: run.model_copy(update={"method_version": 0}),
        "warn", "RP-METHOD", "older",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def healthy(h100: ModuleType) -> Run:
    made: Run = h100.run()
    return made


@pytest.mark.parametrize("name", COPIES)
def test_each_copy_gets_the_verdict_that_it_deserves(
    name: str, h100: ModuleType, healthy: Run
) -> None:
    change, judgement, code, word = COPIES[name]
    verdict = judge(change(h100, healthy))
    assert verdict.judgement == judgement
    if code is None:
        assert {f.judgement for f in verdict.findings if f.required} == {"pass"}
        return
    why = [f for f in verdict.findings if f.code == code and f.judgement == judgement]
    assert any(word in f.sentence for f in why), [f.sentence for f in verdict.findings]
    assert all(f.remedy for f in why)


@pytest.mark.parametrize(
    "name", ["power-limit-lowered", "bandwidth-30-percent-less", "one-precision-half-as-fast"]
)
def test_a_change_of_one_thing_fails_that_check_alone(
    name: str, h100: ModuleType, healthy: Run
) -> None:
    change, _, code, _ = COPIES[name]
    verdict = judge(change(h100, healthy))
    assert {f.code for f in verdict.findings if f.judgement == "fail"} == {code}
    assert verdict.host == "pass"


def test_findings_name_the_device_by_index_uuid_and_pci_id(healthy: Run) -> None:
    device = healthy.devices[0]
    for found in judge(healthy).findings:
        if found.device_id is not None:
            assert found.device == f"cuda:0 ({device.uuid}, {device.pci_bus_id})"


def test_stored_headlines_and_verdict_are_not_believed(h100: ModuleType, healthy: Run) -> None:
    slow = h100.scaled(healthy, 0.7, of_memory)
    painted = slow.model_copy(update={"headlines": healthy.headlines, "verdict": healthy.verdict})
    verdict = judge(painted)
    assert verdict.judgement == "fail"
    answers = {(f.code, f.judgement) for f in verdict.findings}
    assert {("RP-BANDWIDTH", "fail"), ("RP-RECORD", "unknown")} <= answers


@pytest.mark.parametrize(
    ("count", "change", "slow"),
    [(8, 0.90, "fail"), (8, 0.95, "warn"), (8, 0.98, "pass"), (3, 0.90, "fail")],
)
def test_the_one_gpu_that_is_slower_than_its_neighbours_is_named(
    count: int, change: float, slow: str, h100: ModuleType
) -> None:
    run = h100.run(count)
    odd = run.devices[2].device_id
    run = h100.scaled(run, change, lambda m: m.device_id == odd and m.case.family == "compute")
    verdict = judge(run)
    found = {f.device_id: f.judgement for f in verdict.findings if f.code == "RP-HOST-RELATIVE"}
    assert found == {d.device_id: slow if d.device_id == odd else "pass" for d in run.devices}
    assert verdict.devices[odd] == slow


def test_two_gpus_have_no_median(h100: ModuleType) -> None:
    verdict = judge(h100.run(2))
    found = [f for f in verdict.findings if f.code == "RP-HOST-RELATIVE"]
    assert [(f.judgement, f.required) for f in found] == [("unknown", False)] * 2
    assert verdict.judgement == "pass"


def against(h100: ModuleType, run: Run, reference: Run) -> dict[str, str]:
    """Return the judgement of each family held against the reference."""
    found = [f for f in judge(run, [reference]).findings if f.code == "RP-REFERENCE"]
    return {f.sentence.split(":")[0]: f.judgement for f in found}


def test_a_reference_that_was_ten_percent_faster_fails_the_run(
    h100: ModuleType, healthy: Run
) -> None:
    slower = h100.scaled(healthy, 1 / 1.1)
    assert judge(slower, [healthy]).judgement == "fail"
    found = against(h100, slower, healthy)
    assert found == {
        "compute": "fail", "memory": "fail", "latency": "fail", "launch": "pass",
        "interconnect": "warn",
    }  # fmt: skip
    assert judge(healthy, [slower]).judgement == "pass"


def test_nothing_under_two_percent_is_a_verdict(h100: ModuleType, healthy: Run) -> None:
    assert judge(h100.scaled(healthy, 0.981), [healthy]).judgement == "pass"


def test_an_unknown_card_is_held_against_its_own_past(h100: ModuleType, healthy: Run) -> None:
    unknown = COPIES["unknown-card"][0](h100, healthy)
    assert judge(unknown, [unknown]).judgement == "pass"
    cut = h100.with_device(unknown, unit_count=100)
    (found,) = [f for f in judge(cut, [unknown]).findings if f.code == "RP-IDENTITY"]
    assert found.judgement == "fail"
    assert "units 100 instead of 132" in found.sentence


def test_another_card_of_the_kind_is_a_reference_and_another_kind_is_none(
    h100: ModuleType, healthy: Run
) -> None:
    other = h100.with_device(healthy, uuid="GPU-of-a-friend")
    assert judge(healthy, [other]).judgement == "pass"
    stranger = h100.with_device(
        healthy, uuid="GPU-x", name="NVIDIA H200", pci_id="10de:2335", memory_bytes=141 << 30
    )
    (found,) = [f for f in judge(healthy, [stranger]).findings if f.code == "RP-REFERENCE"]
    assert (found.judgement, found.required) == ("unknown", True)
    assert found.sentence.endswith("they have NVIDIA H200 (132 units)")
    assert found.remedy is not None
    assert found.remedy.startswith("name another reference with --against")


def test_a_reference_of_another_method_judges_nothing(healthy: Run) -> None:
    older = healthy.model_copy(update={"method_version": 0})
    (found,) = [f for f in judge(healthy, [older]).findings if f.code == "RP-REFERENCE"]
    assert found.judgement == "unknown"
    assert "do not mean the same" in found.sentence


def test_rows_that_the_reference_has_and_the_run_has_not_are_unknown(
    h100: ModuleType, healthy: Run
) -> None:
    left = h100.finished(healthy.model_copy(update={"measurements": healthy.measurements[:-9]}))
    (found,) = [f for f in judge(left, [healthy]).findings if f.code == "RP-REFERENCE-MISSING"]
    assert (found.judgement, found.required) == ("unknown", True)
    options = healthy.options.model_copy(update={"families": ("compute", "memory")})
    narrow = left.model_copy(update={"options": options})
    (found,) = [f for f in judge(narrow, [healthy]).findings if f.code == "RP-REFERENCE-MISSING"]
    assert (found.judgement, found.required) == ("unknown", False)


def test_a_baseline_of_zero_judges_nothing_and_stops_nothing(
    h100: ModuleType, healthy: Run
) -> None:
    def zero(m: Measurement) -> Measurement:
        if m.rate is None:
            return m
        return m.model_copy(update={"rate": m.rate.model_copy(update={"median": 0.0})})

    empty = healthy.model_copy(update={"measurements": tuple(map(zero, healthy.measurements))})
    found = against(h100, healthy, empty)
    assert set(found) == {"latency", "launch", "interconnect"}
    assert set(found.values()) == {"pass"}


def test_rows_during_which_others_were_at_work_say_nothing(h100: ModuleType, healthy: Run) -> None:
    def shared(m: Measurement) -> Measurement:
        note = Note(code=NOT_ALONE, sentence="others took a half of the cores meanwhile")
        return m.model_copy(update={"notes": (note,)}) if of_memory(m) else m

    slower = h100.scaled(healthy, 0.5, of_memory)
    noted = slower.model_copy(update={"measurements": tuple(map(shared, slower.measurements))})
    assert against(h100, slower, healthy)["memory"] == "fail"
    assert against(h100, noted, healthy)["memory"] == "unknown"


def test_a_line_is_slower_only_beyond_the_scatter_of_the_others(
    h100: ModuleType, healthy: Run
) -> None:
    def scattered(m: Measurement) -> Measurement:
        if m.status != "ok" or m.case.family != "compute":
            return m
        by = 0.9 if of_bf16(m) else 0.8 + 0.05 * (len(m.case.case_id) % 9)
        changed: Measurement = h100.at_speed(m, by)
        return changed

    def wild(m: Measurement) -> Measurement:
        if m.status != "ok" or m.case.family != "compute":
            return m
        changed: Measurement = h100.at_speed(m, 0.3 + 0.2 * (len(m.case.case_id) % 9))
        return changed

    noisy = healthy.model_copy(update={"measurements": tuple(map(scattered, healthy.measurements))})
    chaos = healthy.model_copy(update={"measurements": tuple(map(wild, healthy.measurements))})
    assert against(h100, chaos, healthy)["compute"] == "unknown"
    calm = h100.scaled(healthy, 0.9, of_bf16)
    assert against(h100, calm, healthy)["compute"] == "fail"
    assert against(h100, noisy, healthy)["compute"] == "pass"


def test_of_several_references_the_middle_one_counts(h100: ModuleType, healthy: Run) -> None:
    lucky = h100.scaled(healthy, 1.2)
    references = [healthy, healthy, lucky]
    found = [f for f in judge(healthy, references).findings if f.code == "RP-REFERENCE"]
    assert {f.judgement for f in found} == {"pass"}


EXIT_CODES = {"pass": 0, "warn": 0, "fail": 1, "unknown": 3}


def probe_check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roofprobe", "check", *arguments], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def folders(
    h100: ModuleType, healthy: Run, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Write every copy into a run folder."""
    root = tmp_path_factory.mktemp("copies")
    found = {}
    for name, (change, *_) in COPIES.items():
        found[name] = root / name
        found[name].mkdir()
        write_run(found[name], change(h100, healthy).model_copy(update={"run_id": name}))
    return found


@pytest.mark.parametrize(
    "name",
    [
        "itself", "power-limit-lowered", "renamed-to-h200", "bandwidth-30-percent-less",
        "half-of-the-rows-missing", "older-method",
    ],
)  # fmt: skip
def test_the_command_exits_with_the_verdict(name: str, folders: dict[str, Path]) -> None:
    _, judgement, code, _ = COPIES[name]
    done = probe_check(str(folders[name]), "--json")
    assert done.returncode == EXIT_CODES[judgement], done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(document, check_json_schema())
    assert document["judgement"] == judgement
    assert document["exit_code"] == done.returncode
    assert code is None or code in {finding["code"] for finding in document["findings"]}


def test_strict_makes_a_warning_count(folders: dict[str, Path]) -> None:
    warned = str(folders["power-limit-lowered-a-little"])
    assert probe_check(warned).returncode == 0
    assert probe_check(warned, "--strict").returncode == 1


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [
        ("itself", 0, "OK"),
        ("power-limit-lowered-a-little", 1, "WARNING"),
        ("power-limit-lowered", 2, "CRITICAL"),
        ("half-of-the-rows-missing", 3, "UNKNOWN"),
    ],
)
def test_nagios_gets_one_line_and_its_own_codes(
    name: str, code: int, word: str, folders: dict[str, Path]
) -> None:
    done = probe_check(str(folders[name]), "--nagios")
    assert done.returncode == code
    assert done.stdout.startswith(f"ROOFPROBE {word}: ")
    assert len(done.stdout.splitlines()) == 1


def test_nagios_learns_that_there_is_no_run_as_unknown(tmp_path: Path) -> None:
    done = probe_check(str(tmp_path / "nothing"), "--nagios")
    assert done.returncode == 3
    assert done.stdout.startswith("ROOFPROBE UNKNOWN: there is no run")


def test_wrong_usage_exits_with_two(folders: dict[str, Path], tmp_path: Path) -> None:
    itself = str(folders["itself"])
    for arguments in (
        [str(tmp_path / "nothing")],
        [itself, "--against", str(tmp_path / "nothing")],
        [itself, "--json", "--markdown"],
        [itself, "--junit", str(tmp_path / "no" / "folder.xml")],
        [itself, "--junit", "-"],
        [itself, "--junit", str(tmp_path / "x"), "--prometheus", str(tmp_path / "a/../x")],
        [itself, "--against", itself],
    ):
        done = probe_check(*arguments)
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr


def test_the_command_writes_files_for_machines_and_markdown_for_people(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    junit, metrics = tmp_path / "junit.xml", tmp_path / "metrics.prom"
    done = probe_check(
        str(folders["power-limit-lowered"]), "--against", str(folders["itself"]), "--markdown",
        "--junit", str(junit), "--prometheus", str(metrics),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("## roofprobe verdict: fail")
    assert "RP-POWER-LIMIT" in junit.read_text()
    assert 'roofprobe_run_verdict{state="fail"} 1' in metrics.read_text()


def test_of_a_folder_of_runs_the_newest_is_judged(
    h100: ModuleType, healthy: Run, tmp_path: Path
) -> None:
    for name, run in (
        ("20260101T000000Z-h100", COPIES["power-limit-lowered"][0](h100, healthy)),
        ("20260102T000000Z-h100", healthy),
    ):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name, run)
    assert probe_check(str(tmp_path)).returncode == 0


def test_a_newest_run_without_record_is_named_and_no_older_one_is_judged(
    healthy: Run, tmp_path: Path
) -> None:
    runs, other = tmp_path / "runs", tmp_path / "other"
    for folder in (runs / "20260101T000000Z-h100", other):
        folder.mkdir(parents=True)
        write_run(folder, healthy.model_copy(update={"run_id": folder.name}))
    killed = runs / "20260102T000000Z-h100"
    killed.mkdir()
    (killed / "journal.jsonl").write_text("")
    for arguments in ([str(runs)], [str(killed)], [str(other), "--against", str(runs)]):
        done = probe_check(*arguments)
        assert done.returncode == 3, arguments
        assert done.stdout == ""
        assert killed.name in done.stderr
        assert "has no record yet" in done.stderr
        assert f"`probe all --out {runs} --resume`" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--junit", "-"], "name a file"),
        (["--prometheus", "-"], "name a file"),
        (["--junit", "x", "--prometheus", "./x"], "name two files"),
    ],
)
def test_files_that_cannot_be_meant_are_refused_before_anything_is_written(
    options: list[str], words: str, folders: dict[str, Path]
) -> None:
    done = probe_check(str(folders["itself"]), *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert not Path("-").exists()
    assert not Path("x").exists()


def test_a_run_is_not_held_against_itself_however_it_is_named(healthy: Run, tmp_path: Path) -> None:
    folder = tmp_path / "20260101T000000Z-h100"
    folder.mkdir()
    write_run(folder, healthy)
    for same in (folder, folder / "run.json", tmp_path):
        done = probe_check(str(folder), "--against", str(same))
        assert (done.returncode, done.stdout) == (2, "")
        assert "is the run that is judged" in done.stderr
