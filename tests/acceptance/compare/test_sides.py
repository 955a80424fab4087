"""Which runs make a side, and which devices are held against each other."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from roofprobe.acceptance.compare.judge import compare, compare_runs
from roofprobe.acceptance.compare.sides import Runs, pair_devices, read_side
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Headline, Run


def paired(a: list[Run], b: list[Run]) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return [(p.record.pairing, p.record.a, p.record.b) for p in pair_devices(a, b)]


def test_devices_pair_by_id_whatever_their_index(built: ModuleType) -> None:
    a = built.run([], devices=[built.device("GPU-1"), built.device("GPU-2", index=1)])
    b = built.run([], devices=[built.device("GPU-2"), built.device("GPU-1", index=1)])
    assert paired([a], [b]) == [
        ("same-device", ("GPU-1",), ("GPU-1",)),
        ("same-device", ("GPU-2",), ("GPU-2",)),
    ]


def test_devices_with_other_ids_pair_by_kind_and_index(built: ModuleType) -> None:
    a = built.run([], devices=[built.device("GPU-1", catalogue_key="x", name="one name")])
    b = built.run([], devices=[built.device("GPU-9", catalogue_key="x", name="another name")])
    assert paired([a], [b]) == [("same-kind-and-index", ("GPU-1",), ("GPU-9",))]


def test_different_devices_are_paired_said_and_marked(built: ModuleType) -> None:
    m = built.measured("x", built.steady(100))
    a = built.run([m], devices=[built.device(name="H100")])
    b = built.run([m], devices=[built.device(name="H200")], run_id="b")
    assert paired([a], [b]) == [("different-devices", ("GPU-1",), ("GPU-1",))]
    found = compare_runs(Runs(Path("a"), (a,)), Runs(Path("b"), (b,)))
    assert found.warnings[0].code == "different-devices", "it is said first"
    assert "H100 in A, H200 in B" in found.warnings[0].sentence
    assert found.rows[0].verdict == "~"


def test_two_kinds_of_processor_are_not_the_same_device(built: ModuleType) -> None:
    a = built.run([], devices=[built.processor("one")])
    b = built.run([], devices=[built.processor("two")])
    assert paired([a], [b]) == [("different-devices", ("cpu",), ("cpu",))]


def test_processors_of_one_name_on_two_hosts_are_two(built: ModuleType) -> None:
    a = built.run([], devices=[built.processor()], environment={"host": "one"})
    b = built.run([], devices=[built.processor()], environment={"host": "two"})
    (pair,) = pair_devices([a], [b])
    assert pair.record.pairing == "same-kind-and-index"
    assert pair.record.sentence == "processors of the same name of different hosts"
    (itself,) = pair_devices([a], [a])
    assert itself.record.pairing == "same-device"
    assert itself.record.sentence == "the same processor by host and name"


def test_a_processor_and_a_gpu_are_never_paired(built: ModuleType) -> None:
    a, b = built.run([], devices=[built.processor()]), built.run([])
    assert paired([a], [b]) == [("unpaired", ("cpu",), ()), ("unpaired", (), ("GPU-1",))]


def test_rows_of_a_device_without_partner_are_listed(built: ModuleType) -> None:
    a = built.run([built.measured("x", [1.0], device_id="cpu")], devices=[built.processor()])
    b = built.run([built.measured("x", [1.0])], run_id="b")
    found = compare_runs(Runs(Path("a"), (a,)), Runs(Path("b"), (b,)))
    assert [row.verdict for row in found.rows] == ["only-a", "only-b"]
    assert [w.code for w in found.warnings] == ["unpaired-device", "unpaired-device"]


def test_runs_of_a_side_on_devices_of_one_kind_are_pooled(built: ModuleType) -> None:
    a = [built.run([], devices=[built.device(f"GPU-{i}")], run_id=f"a{i}") for i in (1, 2)]
    b = [built.run([], devices=[built.device("GPU-9")], run_id="b")]
    assert paired(a, b) == [("same-kind-and-index", ("GPU-1", "GPU-2"), ("GPU-9",))]


def test_different_kinds_are_never_pooled(built: ModuleType) -> None:
    a = [
        built.run([], devices=[built.device("GPU-1", name=name)], run_id=name)
        for name in ("old", "new")
    ]
    b = [built.run([], devices=[built.device("GPU-9", name="other")], run_id="b")]
    assert [(p.record.pairing, p.record.name_a) for p in pair_devices(a, b)] == [
        ("different-devices", "new"),
        ("unpaired", "old"),
    ]


def test_a_device_that_the_run_does_not_list_is_compared_too(built: ModuleType) -> None:
    a = built.run([built.measured("x", built.steady(1))], devices=[])
    found = compare_runs(Runs(Path("a"), (a,)), Runs(Path("b"), (a,)))
    assert [row.verdict for row in found.rows] == ["~"]


def test_a_side_is_a_run_folder_its_file_or_all_runs_of_a_folder(
    built: ModuleType, tmp_path: Path
) -> None:
    first = built.write(tmp_path / "runs" / "one", built.run([], run_id="one"))
    later = built.run([], run_id="two", started_at="2025-01-01T00:00:00+00:00")
    built.write(tmp_path / "runs" / "two", later)
    (tmp_path / "runs" / "latest").symlink_to("one")
    (tmp_path / "runs" / "empty").mkdir()
    for path in (first, first / "run.json", tmp_path / "runs" / "latest"):
        assert [run.run_id for run in read_side(path, "A").runs] == ["one"]
    found = read_side(tmp_path / "runs", "A")
    assert [run.run_id for run in found.runs] == ["two", "one"], "in the order of their start"


def test_a_damaged_run_of_many_is_left_out_with_a_warning(
    built: ModuleType, tmp_path: Path
) -> None:
    built.write(tmp_path / "runs" / "good", built.run([]))
    bad = tmp_path / "runs" / "bad"
    bad.mkdir()
    (bad / "run.json").write_text("{")
    found = compare(tmp_path / "runs", tmp_path / "runs")
    assert [w.code for w in found.warnings] == ["left-out", "left-out"]
    assert found.a.runs == ("run",)
    built.write(tmp_path / "runs" / "good", built.run([]))
    (tmp_path / "runs" / "good" / "run.json").write_text(json.dumps({"run": 1}))
    with pytest.raises(RoofprobeError, match="no run in"):
        compare(tmp_path / "runs", tmp_path / "runs")


def test_a_run_without_record_is_left_out_with_a_warning(built: ModuleType, tmp_path: Path) -> None:
    built.write(tmp_path / "good", built.run([]))
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "journal.jsonl").write_text("")
    (warning,) = read_side(tmp_path, "A").warnings
    assert "killed has no record yet" in warning.sentence
    with pytest.raises(RoofprobeError, match="has no record yet"):
        read_side(killed, "A")


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_no_run_at_all_is_refused_in_a_sentence(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "empty":
        path.mkdir()
    with pytest.raises(RoofprobeError, match="there is no run at") as caught:
        read_side(path, "A")
    assert caught.value.exit_code == 2


def test_a_path_that_the_system_refuses_is_a_sentence_too() -> None:
    with pytest.raises(RoofprobeError, match=r"cannot read .* \(File name too long\)"):
        read_side(Path("x" * 300), "A")


def test_best_rates_stand_side_by_side_whatever_their_shape(built: ModuleType) -> None:
    def at(tflops: float, run_id: str, **more: Any) -> Run:
        one = built.measured("x", [tflops]).latency.model_copy(update={"unit": "TFLOPS"})
        headline = Headline(
            device_id="GPU-1", family="compute", label="bf16", title="BF16", precision="bf16",
            case_id=run_id, route="r", regime="burst", rate=one,
        )  # fmt: skip
        found = built.run([], run_id=run_id, headlines=(headline,), **more)
        assert isinstance(found, Run)
        return found

    def lines(*b: Run) -> list[list[float]]:
        found = compare_runs(Runs(Path("a"), (at(800, "a"),)), Runs(Path("b"), b))
        return [[line.a, line.b, line.ratio] for line in found.headlines]

    assert lines(at(600, "b")) == [pytest.approx([800, 600, 0.75])]
    assert lines(at(400, "b"), at(900, "c")) == [pytest.approx([800, 600, 0.75])], "geometric mean"
    assert lines(at(0, "b")) == []
    assert lines(at(600, "b", method_version=2)) == []
