"""A run folder on its way from a node: unpacked whole or not at all, and never outside its place.

What comes from a node is not trusted: only plain files directly in one folder are taken, their
names and sizes are bounded, and links, devices and paths are refused.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.runfolder import RUN_FILE

MAX_UNPACKED_BYTES: Final = 512 << 20
_MOST_FILES: Final = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Told:
    """What a record tells: whether it is complete, and of which devices it is."""

    status: str = ""
    device_ids: tuple[str, ...] = ()


def place(data: bytes, out: Path, node: str) -> Path:
    """Unpack a run folder to ``OUT/<node>/<run folder>`` and return where it lies.

    A number is added where another run has its name. Raises ``RoofprobeError``
    (``bad-archive``, exit code 3; ``disk-full`` or ``unwritable``).
    """
    home = out / folder_name(node)
    name, files = unpacked(data)
    temporary = home / f".incoming-{os.getpid()}"
    try:
        home.mkdir(exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for file_name, content in files.items():
            with open(temporary / file_name, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for number in range(1, 1000):
            target = home / (name if number == 1 else f"{name}-{number}")
            if not os.path.lexists(target):
                os.rename(temporary, target)
                _sync(home)
                return target
        raise RoofprobeError("unwritable", f"{home} already has 999 runs named {name}")
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RoofprobeError(
            "disk-full" if error.errno == 28 else "unwritable",
            f"cannot write {home} ({error.strerror}); make room, then repeat with --resume",
            exit_code=3,
        ) from error


def folder_name(node: str) -> str:
    """Return the name of a node's folder: the node's, without what a path could be made of."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", node).strip("-.")[:120] or "node"


def unpacked(data: bytes) -> tuple[str, dict[str, bytes]]:
    """Return the folder's name and its files; raises ``RoofprobeError`` (``bad-archive``)."""
    folders: set[str] = set()
    files: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for member in archive:
                folder, _, name = member.name.partition("/")
                if not (member.isreg() and _NAME.fullmatch(folder) and _NAME.fullmatch(name)):
                    raise ValueError(f"{member.name!r} is no plain file of a run folder")
                total += member.size
                if total > MAX_UNPACKED_BYTES or len(files) == _MOST_FILES or name in files:
                    raise ValueError("it holds more than a run folder does")
                content = archive.extractfile(member)
                assert content is not None  # since it is a plain file
                files[name] = content.read()
                folders.add(folder)
    except (tarfile.TarError, ValueError, OSError, EOFError) as error:
        raise _bad(str(error)) from None
    if len(folders) != 1:
        raise _bad(f"it holds {len(folders)} folders")
    return folders.pop(), files


def _bad(why: str) -> RoofprobeError:
    return RoofprobeError(
        "bad-archive", f"what the node sent is not the archive of a run ({why})", exit_code=3
    )


def told_by(folder: Path) -> Told:
    """Return the little that a fleet run wants of a record."""
    try:
        record = json.loads((folder / RUN_FILE).read_bytes())
        devices = tuple(str(device["device_id"]) for device in record["devices"])
        return Told(str(record["status"]), devices)
    except (OSError, ValueError, KeyError, TypeError):
        return Told()


def _sync(folder: Path) -> None:
    """Have the names in ``folder`` on disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
