"""A support bundle: what a run left, without what identifies its owner, as one zip to send.

Everything in it is written anew: the record, the journal line by line and the calibration as
redacted JSON, the table and the reports from the redacted record, the workers' logs as redacted
text. ``MANIFEST.json`` lists each file with its SHA-256, what was taken out by kind and number
(never the values), and what could not be put in and why. The same run gives the same bytes.

A run that crashed, or whose record is damaged, gives a bundle of what there is.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from roofprobe import __version__
from roofprobe.acceptance.bundle.redaction import KINDS, Redactor
from roofprobe.records import journal
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import MIB, is_file, is_folder, json_object, read_bytes
from roofprobe.records.runfolder import (
    MAX_RUN_BYTES,
    RUN_FILE,
    newest,
    read_run,
    run_bytes,
    write_whole,
)
from roofprobe.records.schema import Run
from roofprobe.records.tables import measurements_csv

FORMAT: Final = "roofprobe-bundle"
VERSION: Final = 1
MANIFEST: Final = "MANIFEST.json"
# Other JSON documents of a run folder, and the most that each may hold.
_DOCUMENTS: Final = ("calibration.json", "validation.json")
_MOST_DOCUMENT_BYTES: Final = 128 * MIB
_DEEPEST: Final = 40  # levels of objects and lists
_LOGS: Final = ("worker-*.log", "collectives.log")
_MOST_LOGS: Final = 64
LOG_TAIL_BYTES: Final = MIB  # the end of a log tells what happened
_MOST_LOG_BYTES: Final = 1024 * MIB
_MOST_MANIFEST_BYTES: Final = 16 * MIB
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)

# A record, and the other JSON documents of its folder by name, to reports; all of it redacted.
Render = Callable[[Run, Mapping[str, Mapping[str, Any]]], Mapping[str, bytes]]
Rebuild = Callable[[journal.Journal], Run]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A written bundle: where it is, its manifest, and its size."""

    path: Path
    manifest: Mapping[str, Any]
    size_bytes: int


@dataclass
class _Found:
    """What a run folder holds, as it was read; ``left_out`` says why the rest is not there."""

    run: Run | None = None
    rebuilt: bool = False
    raw: dict[str, Any] | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def write_bundle(
    run: Path,
    out: Path | str | None,
    *,
    redactor: Redactor,
    render: Render,
    rebuild: Rebuild | None = None,
) -> Bundle:
    """Write the bundle of a run folder, a ``run.json``, or the newest run of a folder of runs.

    ``render`` makes the reports of a record and what lies beside it, ``rebuild`` a record from a
    journal, for a run that was killed before its record was written. Without ``out``, or where it
    is a folder, the file is named after the run; text that ends with a slash is a folder, which is
    made. An older bundle is overwritten, any other file is not. Raises ``RoofprobeError``
    (``not-a-run``, ``unwritable``, ``not-a-bundle``).
    """
    found = _read(run, rebuild)
    if not (found.run or found.raw or found.lines or found.logs):
        raise RoofprobeError(
            "not-a-run",
            f"there is nothing of a run at {run}: name a run folder or its {RUN_FILE}"
            + "".join(f" ({name}: {why})" for name, why in found.left_out.items()),
        )
    files, left_out, run_id = _redacted(found, redactor, render)
    manifest = {
        "format": FORMAT,
        "schema_version": VERSION,
        "roofprobe": __version__,
        "run_id": run_id,
        "kept": sorted(redactor.keep),
        "redacted": redactor.counts(),
        "kinds": {kind: words for kind, words in KINDS.items() if kind not in redactor.keep},
        "not_redacted": "UUIDs and PCI addresses of GPUs, which say what was measured",
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in sorted(files.items())
        },
        "left_out": left_out,
    }
    files[MANIFEST] = json.dumps(manifest, ensure_ascii=False, indent=1).encode() + b"\n"
    packed = zip_bytes(files)
    path = _path(out, run_id)
    if os.path.exists(path) and not _is_bundle(path):
        raise RoofprobeError(
            "not-a-bundle",
            f"{path} exists and is not a bundle, so it stays as it is; choose another --out",
        )
    write_whole(path, packed, advice="choose another --out")
    return Bundle(path, manifest, len(packed))


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return a zip that depends on names and contents only: sorted, one date, one mode."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return packed.getvalue()


def _is_bundle(path: Path) -> bool:
    """Whether ``path`` is a zip whose manifest says that it is a bundle."""
    if not is_file(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive, archive.open(MANIFEST) as file:
            manifest = json_object(file.read(_MOST_MANIFEST_BYTES))
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return False
    return manifest.get("format") == FORMAT


def _path(out: Path | str | None, run_id: str) -> Path:
    safe = "".join(c if c.isalnum() or c in "-." else "-" for c in run_id)[:120].strip("-.")
    name = f"probe-bundle-{safe or 'run'}.zip"
    if out is None:
        return Path(name)
    path = Path(out)
    if isinstance(out, str) and out.endswith(("/", os.sep)) and not os.path.exists(path):
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise RoofprobeError(
                "unwritable", f"cannot make {path} ({error.strerror}); choose another --out"
            ) from error
    return path / name if is_folder(path) else path


def _read(path: Path, rebuild: Rebuild | None) -> _Found:
    """Read what there is; links in the place of files are refused, since others made the folder."""
    found = _Found()
    if not is_folder(path):
        _read_record(path, found)
        return found
    path = newest(path).resolve()
    if (path / RUN_FILE).exists():
        _read_record(path / RUN_FILE, found)
    else:
        found.left_out[RUN_FILE] = "it was not written"
    _read_journal(path, found, rebuild)
    for name in _DOCUMENTS:
        if (path / name).exists():
            try:
                data = read_bytes(path / name, _MOST_DOCUMENT_BYTES, follow=False)
                found.documents[name] = _object(data)
            except (OSError, ValueError) as error:
                found.left_out[name] = _why(error)
    logs = sorted({file for pattern in _LOGS for file in path.glob(pattern)})
    for file in logs[:_MOST_LOGS]:
        try:
            data = read_bytes(file, _MOST_LOG_BYTES, follow=False)
        except OSError as error:
            found.left_out[file.name] = _why(error)
            continue
        if len(data) > LOG_TAIL_BYTES:
            data = data[-LOG_TAIL_BYTES:].partition(b"\n")[2]
            found.left_out[file.name] = f"all but its last {LOG_TAIL_BYTES // MIB} MiB"
        found.logs[file.name] = data.decode(errors="replace")
    return found


def _object(data: bytes) -> dict[str, Any]:
    """Return a JSON object that is no deeper than any of ours; raises ``ValueError``."""
    document = json_object(data)
    level: list[Any] = [document]
    for _ in range(_DEEPEST):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return document
    raise ValueError("it is nested too deep")


def _read_record(file: Path, found: _Found) -> None:
    try:
        data = read_bytes(file, MAX_RUN_BYTES, follow=False)
        found.raw = _object(data)
    except (OSError, ValueError) as error:
        found.left_out[RUN_FILE] = _why(error)
        return
    try:
        found.run = read_run(file)
    except RoofprobeError as error:
        if error.code == "not-a-run":
            found.raw = None
        found.left_out["report.md, report.html, measurements.csv"] = error.code


def _read_journal(folder: Path, found: _Found, rebuild: Rebuild | None) -> None:
    file = folder / journal.NAME
    if not file.exists():
        found.left_out[journal.NAME] = "it was not written"
        return
    try:
        data = read_bytes(file, journal.MAX_JOURNAL_BYTES, follow=False)
    except OSError as error:
        found.left_out[journal.NAME] = _why(error)
        return
    damaged = 0
    for line in data.split(b"\n"):
        try:
            if line.strip():
                found.lines.append(_object(line))
        except ValueError:
            damaged += 1
    if damaged:
        found.left_out[journal.NAME] = f"{damaged} damaged lines of it"
    if rebuild is not None and (found.run is None or found.run.status == "running"):
        try:
            found.run = rebuild(journal.read_journal(folder))
            found.rebuilt = True
        except RoofprobeError as error:
            found.left_out[f"{RUN_FILE} from the journal"] = error.code


def _redacted(
    found: _Found, redactor: Redactor, render: Render
) -> tuple[dict[str, bytes], dict[str, str], str]:
    """Return the files, what was left out, and the run's name, all of them redacted."""
    record = json.loads(run_bytes(found.run)) if found.run else found.raw
    for document in (record, *found.lines, *found.documents.values()):
        redactor.learn(document)
    for text in found.logs.values():
        redactor.learn_text(text)
    files: dict[str, bytes] = {}
    run_id = "unknown"
    left_out = dict(found.left_out)
    documents = {name: redactor.document(each) for name, each in found.documents.items()}
    if record is not None:
        record = redactor.document(record)
        run_id = str(record.get("run_id", run_id))
        files[RUN_FILE] = json_bytes(record)
        if found.rebuilt:
            left_out[RUN_FILE] = "it was not finished; this one was made from the journal"
        if found.run is not None:
            _add_views(record, documents, files, left_out, render)
    if found.lines:
        lines = [redactor.document(line) for line in found.lines]
        files[journal.NAME] = b"".join(
            json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            for line in lines
        )
        if record is None:
            run_id = str(lines[0].get("run_id", run_id))
    files |= {name: json_bytes(document) for name, document in documents.items()}
    for name, text in found.logs.items():
        files[redactor.text(name)] = redactor.text(text).encode(errors="replace")
    told = {redactor.text(name): redactor.text(why) for name, why in left_out.items()}
    return files, told, run_id


def _add_views(
    record: dict[str, Any],
    documents: Mapping[str, Mapping[str, Any]],
    files: dict[str, bytes],
    left_out: dict[str, str],
    render: Render,
) -> None:
    """Add the table and the reports of a redacted record."""
    try:
        run = Run.model_validate(record)
    except ValidationError:  # a value that the schema knows was taken for a name
        left_out["report.md, report.html, measurements.csv"] = "the redacted record is not one"
        return
    files["measurements.csv"] = measurements_csv(run)
    files.update(render(run, documents))


def json_bytes(document: Any) -> bytes:
    """Return a JSON document as run folders have them."""
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def _why(error: OSError | ValueError) -> str:
    return (error.strerror or "unreadable") if isinstance(error, OSError) else str(error)
