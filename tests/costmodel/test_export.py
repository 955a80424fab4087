from __future__ import annotations

import json
from pathlib import Path

import pytest

from roofprobe.costmodel.calibrate import calibrate
from roofprobe.costmodel.calibration_file import calibration_bytes, read_calibration
from roofprobe.costmodel.export import export, planner_of
from roofprobe.costmodel.exporters.planners import PLANNERS
from roofprobe.costmodel.fit import Settings
from roofprobe.records.errors import RoofprobeError

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tables = [DATA / "gemm.csv", DATA / "attention.csv"]
    outcome = calibrate(tables, framework="VLLM", settings=Settings(splits=2))
    file = tmp_path_factory.mktemp("source") / "calibration.json"
    file.write_bytes(calibration_bytes(outcome.file))
    return file


@pytest.mark.parametrize("name", [row.name for row in PLANNERS.values() if row.export])
def test_each_planner_gets_files_and_a_note_of_their_provenance(
    source: Path, tmp_path: Path, name: str
) -> None:
    done = export(source, name, tmp_path / "out", gpu="H100 SXM", models=("llama-3.1-8b",))
    written = {str(p.relative_to(done.folder)) for p in done.folder.rglob("*") if p.is_file()}
    assert written == set(done.files)
    note = (done.folder / "PROVENANCE.md").read_text()
    for heading in ("Where the figures come from", f"What {name} does with them", "Load it"):
        assert heading in note
    assert "aiconfigurator-core==0.12.0" in note, "the source of the table"
    assert "default (published-fit)" in note, "norms were not in it"
    assert done.label in note
    assert done.load in note


def test_what_disturbed_a_calibration_travels_with_its_export(source: Path, tmp_path: Path) -> None:
    read = read_calibration(source)
    note = "others had the processor during 12 of 20 measured operations"
    devices = tuple(d.model_copy(update={"notes": (note,)}) for d in read.devices)
    file = tmp_path / "calibration.json"
    file.write_bytes(calibration_bytes(read.model_copy(update={"devices": devices})))
    done = export(
        file, "aiconfigurator", tmp_path / "out", gpu="H100 SXM", models=("llama-3.1-8b",)
    )
    assert done.notes[0] == note
    assert f"- Note: {note}." in (done.folder / "PROVENANCE.md").read_text()


def test_vidur_is_refused_in_one_sentence(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError) as raised:
        export(source, "vidur", tmp_path)
    assert raised.value.code == "not-exported"
    assert "honest" in raised.value.sentence
    assert not list(tmp_path.iterdir())


def test_an_unknown_planner_is_told_which_there_are() -> None:
    with pytest.raises(RoofprobeError, match="choose aiconfigurator, llm-analysis"):
        planner_of("nonesuch")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "unknown-source"),
        (b"\x89PNG", "unknown-source"),
        (b"[1, 2", "unknown-source"),
        (b'{"format": "roofprobe-calibration", "devices": 3}', "damaged-calibration"),
        (b'{"format": "roofprobe-calibration", "schema_version": 9}', "newer-schema"),
        (b'{"format": "roofprobe-calibration"}', "unknown-device"),
    ],
)
def test_a_damaged_or_unknown_source_gives_one_sentence(
    tmp_path: Path, content: bytes, code: str
) -> None:
    file = tmp_path / "source.json"
    file.write_bytes(content)
    with pytest.raises(RoofprobeError) as raised:
        export(file, "genz", tmp_path / "out")
    assert raised.value.code == code
    assert "\n" not in raised.value.sentence
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_run_is_told_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(RoofprobeError, match=r"neither a run\.json nor a calibration\.json"):
        export(tmp_path, "aiconfigurator", tmp_path / "out")


def test_a_source_that_is_not_there_gives_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError, match="no run at"):
        export(tmp_path / "nothing", "genz", tmp_path)


def test_of_several_devices_one_must_be_chosen(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError, match="choose one with --gpu"):
        export(source, "genz", tmp_path)
    with pytest.raises(RoofprobeError, match="which is not H20"):
        export(source, "genz", tmp_path, gpu="H20 96G")


def test_ceilings_alone_cannot_be_exported(source: Path, tmp_path: Path) -> None:
    document = json.loads(source.read_text())
    document["devices"] = [{**document["devices"][0], "ops": []}]
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(document))
    with pytest.raises(RoofprobeError, match="only its ceilings"):
        export(file, "genz", tmp_path)


def test_a_file_in_place_of_the_folder_gives_one_sentence(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(RoofprobeError, match="cannot make"):
        export(source, "blis", tmp_path / "out" / "x", gpu="H100 SXM", models=("llama-3.1-8b",))
