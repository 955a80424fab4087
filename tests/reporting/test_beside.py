"""What lies beside a record is read where it is whole and of that run, else left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roofprobe.costmodel.calibration_file import CalibrationFile, calibration_bytes
from roofprobe.costmodel.validation import Validation, validation_bytes
from roofprobe.records.schema import Run
from roofprobe.reporting.beside import NOTHING, Beside, beside_among, beside_of


def validation(run_id: str) -> Validation:
    return Validation(run_id=run_id, implementation="i", calibration="c", median_error=0.25)


def folder_with(folder: Path, run_id: str) -> Path:
    (folder / "calibration.json").write_bytes(calibration_bytes(CalibrationFile(run_id=run_id)))
    (folder / "validation.json").write_bytes(validation_bytes(validation(run_id)))
    return folder


def test_both_files_are_read(tmp_path: Path, example_run: Run) -> None:
    run_id = example_run.run_id
    found = beside_of(folder_with(tmp_path, run_id), example_run)
    assert found == Beside(CalibrationFile(run_id=run_id), validation(run_id))


def test_without_them_there_is_nothing(tmp_path: Path, example_run: Run) -> None:
    assert beside_of(tmp_path, example_run) == NOTHING
    assert beside_of(tmp_path / "absent", example_run) == NOTHING


def test_files_of_another_run_do_not_count(tmp_path: Path, example_run: Run) -> None:
    assert beside_of(folder_with(tmp_path, "another"), example_run) == NOTHING


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"format": "x"}', None]
)
def test_a_damaged_file_does_not_count_and_the_other_does(
    content: bytes | None, tmp_path: Path, example_run: Run
) -> None:
    run_id = example_run.run_id
    folder_with(tmp_path, run_id)
    for name, kept in (
        ("calibration.json", Beside(validation=validation(run_id))),
        ("validation.json", Beside(calibration=CalibrationFile(run_id=run_id))),
    ):
        file = tmp_path / name
        whole = file.read_bytes()
        file.unlink()
        if content is None:
            file.mkdir()
        else:
            file.write_bytes(content)
        assert beside_of(tmp_path, example_run) == kept
        if content is None:
            file.rmdir()
        file.write_bytes(whole)


def test_documents_at_hand_give_what_the_folder_gives(tmp_path: Path, example_run: Run) -> None:
    folder = folder_with(tmp_path, example_run.run_id)
    documents = {path.name: json.loads(path.read_bytes()) for path in folder.iterdir()}
    assert beside_among(documents, example_run) == beside_of(folder, example_run)
    assert beside_among({"calibration.json": {"run_id": 7}}, example_run) == NOTHING
    other = example_run.model_copy(update={"run_id": "another"})
    assert beside_among(documents, other) == NOTHING
