"""A run folder arrives whole, or not at all, and never outside its place."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofprobe.fleet_run import archive, remote
from roofprobe.records.errors import RoofprobeError

NAME = "20260101T000000Z-a"
RUN = b'{"status": "complete", "devices": [{"device_id": "GPU-1"}]}'


def packed(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            member.type, member.linkname = kind, "/etc/passwd"
            made.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def test_what_a_node_packs_is_unpacked_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "node" / NAME
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(RUN)
    (folder / "journal.jsonl").write_bytes(b"{}\n")
    (folder / ".run.json.17").write_bytes(b"half")
    (tmp_path / "node/latest").symlink_to(NAME)
    sent = remote._packed(tmp_path / "node", 1 << 20)
    assert sent["left_out"] == []
    placed = archive.place(sent["archive"], tmp_path, "gpu 1")
    assert placed == tmp_path / "gpu-1" / NAME
    assert {file.name: file.read_bytes() for file in placed.iterdir()} == {
        "run.json": RUN, "journal.jsonl": b"{}\n"
    }  # fmt: skip
    assert archive.told_by(placed) == archive.Told("complete", ("GPU-1",))


def test_what_is_too_large_is_left_out_and_named_the_record_last(tmp_path: Path) -> None:
    folder = tmp_path / "node" / NAME
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(RUN)
    (folder / "worker-cpu.log").write_bytes(bytes(50_000))
    sent = remote._packed(tmp_path / "node", 20_000)
    assert sent["left_out"] == ["worker-cpu.log"]
    assert archive.unpacked(sent["archive"])[1] == {"run.json": RUN}


def test_two_runs_of_a_name_have_two_folders(tmp_path: Path) -> None:
    data = packed((f"{NAME}/run.json", RUN))
    names = [archive.place(data, tmp_path, "a").name for _ in range(3)]
    assert names == [NAME, f"{NAME}-2", f"{NAME}-3"]


@pytest.mark.parametrize(
    "name",
    ["../run.json", "/etc/run.json", f"{NAME}/../../x", f"{NAME}/a/b", "run.json", f"{NAME}/.x",
     f".{NAME}/run.json", f"{NAME}/a\nb", f"{NAME}/", "../../x/run.json", f"{NAME}//run.json"],
)  # fmt: skip
def test_a_path_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(RoofprobeError) as caught:
        archive.place(packed((f"{NAME}/run.json", RUN), (name, b"x")), tmp_path / "out", "a")
    assert (caught.value.code, caught.value.exit_code) == ("bad-archive", 3)
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]
)
def test_only_plain_files_are_taken(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError, match="no plain file"):
        archive.place(packed((f"{NAME}/run.json", b""), kind=kind), tmp_path, "a")


def test_an_archive_that_unfolds_to_more_than_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(RoofprobeError, match="more than a run"):
        archive.place(packed((f"{NAME}/run.json", bytes(2 << 20))), tmp_path, "a")
    for members in ([(f"{NAME}/{n}", b"") for n in range(300)], [(f"{NAME}/x", b"")] * 2):
        with pytest.raises(RoofprobeError, match="more than a run"):
            archive.place(packed(*members), tmp_path, "a")
    with pytest.raises(RoofprobeError, match="2 folders"):
        archive.place(packed(("a/x", b""), ("b/y", b"")), tmp_path, "a")


@pytest.mark.parametrize(
    ("node", "folder"),
    [("gpu-1.example", "gpu-1.example"), ("../../etc", "etc"), ("..", "node"), ("a/b", "a-b"),
     ("10.0.0.1:6379", "10.0.0.1-6379"), ("", "node")],
)  # fmt: skip
def test_a_nodes_folder_is_no_path(node: str, folder: str) -> None:
    assert archive.folder_name(node) == folder


def refusal(call: Callable[[bytes], object], data: bytes) -> str:
    try:
        call(data)
    except RoofprobeError as error:
        return error.code
    return ""


@settings(max_examples=200)
@given(st.integers(0, 400), st.binary(max_size=20))
def test_a_damaged_archive_is_one_sentence(at: int, noise: bytes) -> None:
    data = packed((f"{NAME}/run.json", RUN))
    damaged = data[:at] + noise + data[at + len(noise) :]
    assert refusal(archive.unpacked, damaged) in ("", "bad-archive")
