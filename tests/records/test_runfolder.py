"""Run folders: whole files, one run at a time, clear words about what cannot be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.journal import NAME as JOURNAL_NAME
from roofprobe.records.runfolder import (
    RUN_FILE,
    locked,
    new_run_folder,
    point_latest,
    prepare_out,
    read_run,
    resumable,
    run_bytes,
    write_run,
    write_whole,
)
from roofprobe.records.schema import Device, Environment, Options, Run, run_json_schema

RUN = Run(
    run_id="20260101T000000Z-h",
    status="complete",
    started_at="2026-01-01T00:00:00+00:00",
    options=Options(families=("compute", "memory")),
    environment=Environment(host="h", os="o", kernel="k", python="3.11", roofprobe="0"),
    devices=(Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU"),),
)


def test_a_run_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_run(tmp_path, RUN)
    assert read_run(tmp_path) == RUN
    assert read_run(tmp_path / RUN_FILE) == RUN
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]


def test_the_published_schema_accepts_a_run_and_refuses_an_unknown_field() -> None:
    schema = run_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(run_bytes(RUN))
    jsonschema.validate(document, schema, jsonschema.Draft202012Validator)
    document["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema, jsonschema.Draft202012Validator)


def test_a_folder_of_runs_means_its_latest(tmp_path: Path) -> None:
    folder = new_run_folder(tmp_path, RUN.started_at, "host")
    write_run(folder, RUN)
    point_latest(tmp_path, folder)
    assert os.readlink(tmp_path / "latest") == folder.name
    assert read_run(tmp_path) == RUN


@pytest.mark.parametrize("points", [None, "20260101T000000Z-h", "20260102T000000Z-h"])
def test_a_newest_run_without_record_is_never_replaced_by_an_older_one(
    tmp_path: Path, points: str | None
) -> None:
    old, new = tmp_path / "20260101T000000Z-h", tmp_path / "20260102T000000Z-h"
    old.mkdir()
    write_run(old, RUN)
    new.mkdir()
    (new / "journal.jsonl").write_text("")
    if points:
        point_latest(tmp_path, tmp_path / points)
    with pytest.raises(RoofprobeError, match=f"{new.name}, has no record yet") as raised:
        read_run(tmp_path)
    assert (raised.value.code, raised.value.exit_code) == ("unfinished-run", 3)
    write_run(new, RUN.model_copy(update={"run_id": new.name}))
    assert read_run(tmp_path).run_id == new.name


def test_run_folders_are_named_by_time_and_host_and_never_shared(tmp_path: Path) -> None:
    names = [new_run_folder(tmp_path, RUN.started_at, "a/b c").name for _ in range(3)]
    first = "20260101T000000Z-a-b-c"
    assert names == [first, f"{first}-2", f"{first}-3"]


def _truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _newer(data: bytes) -> bytes:
    return data.replace(b'"schema_version": 1', b'"schema_version": 2')


def _edited(data: bytes) -> bytes:
    return data.replace(b'"complete"', b'"splendid"')


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (_truncated, "damaged-run", "truncated or not JSON"),
        (_newer, "newer-schema", "pip install --upgrade roofprobe"),
        (_edited, "damaged-run", "status"),
        (lambda data: b"{}", "not-a-run", "names no schema version"),
        (lambda data: b"[1, 2]", "not-a-run", "not a run of roofprobe"),
        (lambda data: b"[" * 100_000, "damaged-run", "truncated or not JSON"),
        (lambda data: b"\x89PNG\r\n", "damaged-run", "not JSON"),
    ],
)
def test_what_is_no_run_is_refused_with_the_reason(
    tmp_path: Path, change: Callable[[bytes], bytes], code: str, words: str
) -> None:
    (tmp_path / RUN_FILE).write_bytes(change(run_bytes(RUN)))
    with pytest.raises(RoofprobeError) as raised:
        read_run(tmp_path)
    assert (raised.value.code, raised.value.exit_code) == (code, 2)
    assert words in raised.value.sentence


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError, match="there is no run at"):
        read_run(tmp_path / "nowhere")


def test_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for out in (file, file / "below"):
        with pytest.raises(RoofprobeError, match="is a file; name a folder"):
            prepare_out(out)


def test_an_unwritable_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, data: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)  # root may write anywhere, so it is refused
    with pytest.raises(RoofprobeError, match="Permission denied"):
        prepare_out(tmp_path)


def test_a_full_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("U", (), {"free": 1 << 20}))
    with pytest.raises(RoofprobeError, match="1 MiB free"):
        prepare_out(tmp_path)


def test_a_second_run_is_kept_out_and_told_who_has_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom roofprobe.records.runfolder import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    print('in', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"in\n"
        with pytest.raises(RoofprobeError, match=f"process {holder.pid}"), locked(tmp_path):
            pass
        holder.kill()
    with locked(tmp_path):
        pass  # the system drops the lock of a dead holder


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f"
    write_whole(file, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RoofprobeError) as raised:
        write_whole(file, b"new")
    assert raised.value.exit_code == 3
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError, match="holds no run to resume"):
        resumable(tmp_path)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, 2000), data=st.binary(min_size=1, max_size=30))
def test_a_run_with_any_bytes_changed_is_read_or_refused(
    tmp_path: Path, at: int, data: bytes
) -> None:
    whole = run_bytes(RUN)
    at %= len(whole)
    (tmp_path / RUN_FILE).write_bytes(whole[:at] + data + whole[at + len(data) :])
    exit_code = 2
    try:
        read_run(tmp_path)
    except RoofprobeError as error:
        exit_code = error.exit_code
    assert exit_code == 2


def test_a_run_that_was_cut_off_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).write_text("{}\n")
    with pytest.raises(RoofprobeError, match=r"no record yet.*--resume") as caught:
        read_run(tmp_path)
    assert (caught.value.code, caught.value.exit_code) == ("unfinished-run", 3)


def test_a_file_that_is_no_run_is_not_told_to_resume(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(RoofprobeError, match=r"notes.txt is truncated.*name a run folder"):
        read_run(tmp_path / "notes.txt")


def test_a_refused_run_leaves_nothing_that_was_not_there(tmp_path: Path) -> None:
    def refuse(out: Path) -> None:
        made = prepare_out(out)
        with locked(out, made):
            raise RoofprobeError("refused", "no")

    for out in (tmp_path, tmp_path / "a" / "b"):
        with pytest.raises(RoofprobeError, match="no"):
            refuse(out)
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes").write_text("mine")
    with pytest.raises(RoofprobeError, match="no"):
        refuse(tmp_path / "a" / "b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["notes"]
    with locked(tmp_path):
        pass
    with pytest.raises(RoofprobeError, match="no"):
        refuse(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".probe.lock", "a"]
