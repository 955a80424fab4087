"""A bundle holds what a run left, without its owner's names, whole and the same each time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from roofprobe.acceptance.bundle.archive import LOG_TAIL_BYTES, Bundle, write_bundle, zip_bytes
from roofprobe.acceptance.bundle.redaction import Redactor
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.journal import Header, JournalWriter
from roofprobe.records.runfolder import read_run, write_run
from roofprobe.records.schema import (
    Case,
    Device,
    Environment,
    Event,
    Measurement,
    Options,
    Reason,
    Run,
)
from roofprobe.reporting.files import render_bundled
from roofprobe.run import record_of, write_files

HOST, USER, PATH, IP = "node-17.acme.example", "wilma", "/home/wilma/acme/venv", "10.9.8.7"
GPU = "GPU-8f3a0000-1111-2222-3333-444455556666"
PRIVATE = (HOST, "node-17", USER, PATH, "acme", IP, "hf_0123456789abcdefghij", "out dir")
ENVIRONMENT = Environment(
    host=HOST, os="Linux", kernel="6.0", python="3.11", roofprobe="0.1.0",
    variables={"OMP_NUM_THREADS": "8", "TRITON_CACHE_DIR": PATH},
)  # fmt: skip
DEVICE = Device(
    device_id=GPU, torch_device="cuda:0", backend="cuda", name="Example GPU", uuid=GPU,
    pci_bus_id="00000000:1B:00.0",
)  # fmt: skip
MEASURED = Measurement(
    case=Case(case_id="memory/read", family="memory", op="read", precision="fp32", route="torch",
              shape={"elements": 8}),
    device_id=GPU, status="failed",
    reason=Reason(code="worker-crashed", sentence=f"{PATH}/bin/python on {HOST} lost {IP}"),
)  # fmt: skip
EVENT = Event(at="2026-01-01T00:00:00+00:00", code="worker-crashed", sentence=f"{USER} on {IP}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a run folder with its owner's names in every file."""
    run_id = f"20260101T000000Z-{HOST}"
    made = tmp_path / "reports" / run_id
    made.mkdir(parents=True)
    options = Options(families=("memory",))
    command = ("probe", "memory", "--out", "out dir")
    header = Header(
        run_id=run_id, started_at=EVENT.at, command=command, options=options,
        environment=ENVIRONMENT, devices=(DEVICE,),
    )  # fmt: skip
    writer = JournalWriter(made)
    writer.header(header)
    writer.measurement(MEASURED)
    writer.event(EVENT)
    writer.close()
    run = Run(
        run_id=run_id, status="complete", started_at=EVENT.at, command=command, options=options,
        environment=ENVIRONMENT, devices=(DEVICE,), measurements=(MEASURED,), events=(EVENT,),
    )  # fmt: skip
    write_files(made, run)
    log = f'File "{PATH}/lib/site-packages/torch/x.py"\nHF_TOKEN=hf_0123456789abcdefghij\n'
    (made / f"worker-{GPU}.log").write_text(log)
    (made.parent / "latest").symlink_to(made.name)
    return made


def pack(path: Path, out: Path, keep: tuple[str, ...] = (), rebuild: Any = record_of) -> Bundle:
    return write_bundle(path, out, redactor=Redactor(keep), render=render_bundled, rebuild=rebuild)


def contents(bundle: Bundle) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle.path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_bundle_holds_every_file_and_no_private_value(folder: Path, tmp_path: Path) -> None:
    files = contents(pack(folder, tmp_path / "b.zip"))
    assert set(files) == {
        "MANIFEST.json", "calibration.json", "journal.jsonl", "junit.xml", "measurements.csv",
        "metrics.prom", "report.html", "report.md", "run.json", f"worker-{GPU}.log",
    }  # fmt: skip
    for name, data in files.items():
        for private in PRIVATE:
            assert private.encode() not in data, (name, private)
        if name not in ("MANIFEST.json", "calibration.json", f"worker-{GPU}.log"):
            assert GPU.encode() in data, "the device is the evidence"
    assert b"path-" in files[f"worker-{GPU}.log"]
    assert b"/torch/x.py" in files[f"worker-{GPU}.log"]


def test_the_manifest_tells_hashes_and_counts_but_no_values(folder: Path, tmp_path: Path) -> None:
    bundle = pack(folder, tmp_path / "b.zip")
    files = contents(bundle)
    manifest = json.loads(files.pop("MANIFEST.json"))
    assert manifest == bundle.manifest
    assert {name: facts["sha256"] for name, facts in manifest["files"].items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    assert manifest["redacted"]["ips"]["values"] == 1
    assert manifest["redacted"]["secrets"] == {"values": 1, "occurrences": 1}
    assert manifest["left_out"] == {}


def test_the_redacted_record_is_a_record_and_tells_the_same(folder: Path, tmp_path: Path) -> None:
    files = contents(pack(folder, tmp_path / "b.zip"))
    (tmp_path / "run.json").write_bytes(files["run.json"])
    run = read_run(tmp_path / "run.json")
    assert run.environment.host == "host-1"
    assert run.run_id == "20260101T000000Z-host-1"
    assert run.measurements[0].reason is not None
    assert run.measurements[0].reason.sentence.endswith(" on host-1 lost ip-1")
    assert run.events[0].sentence == "user-1 on ip-1"
    assert run.devices[0].pci_bus_id == DEVICE.pci_bus_id
    lines = [json.loads(line) for line in files["journal.jsonl"].splitlines()]
    assert lines[2]["sentence"] == "user-1 on ip-1", "the same placeholders in all files"


def test_the_same_run_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first, second = pack(folder, tmp_path / "1.zip"), pack(folder.parent, tmp_path / "2.zip")
    assert first.path.read_bytes() == second.path.read_bytes()


def test_what_is_kept_stays(folder: Path, tmp_path: Path) -> None:
    files = contents(pack(folder, tmp_path / "b.zip", keep=("host", "ips")))
    assert HOST.encode() in files["run.json"]
    assert IP.encode() in files["run.json"]
    assert PATH.encode() not in files["run.json"]
    assert json.loads(files["MANIFEST.json"])["kept"] == ["host", "ips"]


def test_a_run_that_crashed_gives_what_its_journal_has(folder: Path, tmp_path: Path) -> None:
    for name in ("run.json", "report.md", "report.html", "calibration.json", "measurements.csv"):
        (folder / name).unlink()
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"kind":"measurement","case":{"case_id":"torn by wilma')
    bundle = pack(folder, tmp_path / "b.zip")
    files = contents(bundle)
    assert {"run.json", "journal.jsonl", "report.html", "measurements.csv"} <= set(files)
    (tmp_path / "run.json").write_bytes(files["run.json"])
    run = read_run(tmp_path / "run.json")
    assert (run.status, len(run.measurements)) == ("incomplete", 1)
    assert b"wilma" not in b"".join(files.values())
    assert "made from the journal" in bundle.manifest["left_out"]["run.json"]
    assert bundle.manifest["left_out"]["journal.jsonl"] == "1 damaged lines of it"


def test_a_run_whose_record_still_says_running_is_made_anew(folder: Path, tmp_path: Path) -> None:
    write_run(folder, read_run(folder).model_copy(update={"status": "running", "measurements": ()}))
    files = contents(pack(folder, tmp_path / "b.zip"))
    assert len(json.loads(files["run.json"])["measurements"]) == 1


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[" * 500 + b"]" * 500, b"\xff\xfe", b'{"schema_version": 99}', b"NaN"]
)
def test_damaged_files_are_left_out_and_told(folder: Path, tmp_path: Path, damage: bytes) -> None:
    for name in ("run.json", "calibration.json"):
        (folder / name).write_bytes(damage)
    bundle = pack(folder, tmp_path / "b.zip", rebuild=None)
    assert "journal.jsonl" in contents(bundle)
    assert bundle.manifest["left_out"]


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "private.txt"
    outside.write_text("the private key")
    log = folder / "worker-cpu.log"
    log.symlink_to(outside)
    (folder / "calibration.json").unlink()
    (folder / "calibration.json").symlink_to(outside)
    os.mkfifo(folder / "worker-pipe.log")
    bundle = pack(folder, tmp_path / "b.zip")
    assert b"the private key" not in b"".join(contents(bundle).values())
    assert {"worker-cpu.log", "worker-pipe.log", "calibration.json"} <= set(
        bundle.manifest["left_out"]
    )


def test_of_a_long_log_the_end_is_kept(folder: Path, tmp_path: Path) -> None:
    log = folder / f"worker-{GPU}.log"
    log.write_text("x" * 99 + "\n" + ("y" * 99 + "\n") * (LOG_TAIL_BYTES // 100) + "the end\n")
    bundle = pack(folder, tmp_path / "b.zip")
    kept = contents(bundle)[log.name]
    assert kept.endswith(b"the end\n")
    assert b"x" not in kept
    assert bundle.manifest["left_out"][log.name] == "all but its last 1 MiB"


def test_a_bundle_that_cannot_be_written_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError, match=r"cannot write .*; choose another --out"):
        pack(folder, tmp_path / "no such folder" / "b.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reports"]


@pytest.mark.parametrize("content", [b"my notes", b"", zip_bytes({"a.txt": b"a"})])
def test_a_file_that_is_no_bundle_is_not_overwritten(
    folder: Path, tmp_path: Path, content: bytes
) -> None:
    out = tmp_path / "mine.zip"
    out.write_bytes(content)
    with pytest.raises(RoofprobeError, match=r"exists and is not a bundle.*choose another") as told:
        pack(folder, out)
    assert (told.value.exit_code, out.read_bytes()) == (2, content)


def test_an_older_bundle_is_overwritten(folder: Path, tmp_path: Path) -> None:
    older = pack(folder, tmp_path / "b.zip", keep=("host",)).path.read_bytes()
    assert pack(folder, tmp_path / "b.zip").path.read_bytes() != older


def test_without_a_link_the_newest_run_counts_though_it_was_killed(
    folder: Path, tmp_path: Path
) -> None:
    (folder.parent / "latest").unlink()
    older = folder.parent / f"20251231T000000Z-{HOST}"
    older.mkdir()
    write_run(older, read_run(folder).model_copy(update={"run_id": older.name}))
    assert pack(folder.parent, tmp_path / "1.zip").manifest["run_id"] == "20260101T000000Z-host-1"
    (folder / "run.json").unlink()
    bundle = pack(folder.parent, tmp_path / "2.zip")
    assert bundle.manifest["run_id"] == "20260101T000000Z-host-1"


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_nothing_of_a_run_gives_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RoofprobeError, match="there is nothing of a run at"):
        pack(tmp_path / name, tmp_path / "b.zip")


def probe(*arguments: str, cwd: Path, verb: str = "bundle") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "roofprobe", verb, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_the_command_writes_a_file_named_after_the_redacted_run(
    folder: Path, tmp_path: Path
) -> None:
    done = probe(str(folder.parent / "latest"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "probe-bundle-20260101T000000Z-host-1.zip").exists()
    assert "Taken out: IP and MAC addresses: 1 value in" in done.stdout
    assert HOST not in done.stdout


def test_the_command_tells_its_manifest_as_json(folder: Path, tmp_path: Path) -> None:
    done = probe(str(folder), "--out", "b.zip", "--keep", "host,paths", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["path"], told["kept"]) == ("b.zip", ["host", "paths"])
    wrong = probe(str(folder), "--keep", "names", "--json", cwd=tmp_path)
    assert (wrong.returncode, json.loads(wrong.stdout)["error"]["code"]) == (2, "unknown-kind")


def test_an_out_that_ends_with_a_slash_is_a_folder_to_make(folder: Path, tmp_path: Path) -> None:
    done = probe(str(folder), "--out", "new/bundles/", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"].startswith("new/bundles/probe-bundle-")
    assert [file.suffix for file in (tmp_path / "new/bundles").iterdir()] == [".zip"]


def test_a_real_run_and_its_bundle_tell_the_same_row_by_row(tmp_path: Path) -> None:
    options = "--device cpu --precision fp32 --tier quick --time-budget 2s --quiet --out"
    done = probe(*options.split(), "runs", cwd=tmp_path, verb="llm")
    assert (tmp_path / "runs/latest/run.json").exists(), done.stderr
    assert probe("runs/latest", "--out", "b.zip", cwd=tmp_path).returncode == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "sent")
    run, sent = read_run(tmp_path / "runs/latest"), read_run(tmp_path / "sent")
    assert [row.case for row in sent.measurements] == [row.case for row in run.measurements]
    assert sent.planned == run.planned
    assert any("top-p/" in case for cases in run.planned.values() for case in cases)
    compared = probe("runs/latest", "sent", "--json", cwd=tmp_path, verb="compare")
    told = {row["verdict"] for row in json.loads(compared.stdout)["rows"]}
    assert told
    assert not told & {"only-a", "only-b"}


def test_the_reports_of_a_bundle_have_every_part_of_those_of_the_run(tmp_path: Path) -> None:
    kept = Path(__file__).parents[3] / "reports/reference/cpu-amd-epyc-2-cores"
    files = contents(pack(kept, tmp_path / "b.zip"))

    def parts(text: str) -> list[str]:
        return re.findall(r"^#+ .*$|<(?:h[234]|summary)[^>]*>.*?</", text, re.MULTILINE)

    for name in ("report.md", "report.html"):
        own = parts((kept / name).read_text())
        assert any("redict" in part or "Targets of serving" in part for part in own)
        assert parts(files[name].decode()) == own
