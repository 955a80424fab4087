"""Where a fleet lies: a local folder, or any place that fsspec knows (S3-compatible, memory, …).

Files of a fleet are written whole, once, and never changed, but for ``manifest.json``. A log entry
must be *new*: two merges that write the same one at the same time must not both believe that they
did. Locally a hard link does that, since it cannot replace what is there. Elsewhere it is the
file system's exclusive creation (``xb``), where it has one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from roofprobe.records.errors import RoofprobeError


class Store(Protocol):
    """A folder of files named by relative paths with slashes."""

    where: str

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the files in a folder; none where it does not exist."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes; raises ``FileNotFoundError`` where there is none."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a new file whole; False where it exists already, which is left as it is."""

    def replace(self, name: str, data: bytes) -> None:
        """Write a file whole in the place of what was there."""

    def add(self, name: str, local: Path) -> None:
        """Move a local file here; nobody else has its name."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def url(self, name: str) -> str:
        """Return what DuckDB calls a file."""

    def filesystem(self) -> Any | None:
        """Return the file system that DuckDB must be given to read here; None for its own."""


def open_store(where: str | os.PathLike[str]) -> Store:
    """Return the store at a path or URL; raises ``RoofprobeError`` (``bad-fleet``)."""
    text = os.fspath(where)
    return _Remote(text) if "://" in text else _Local(Path(text))


class _Local:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.where = str(folder)

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self._folder / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def create(self, name: str, data: bytes) -> bool:
        with self._whole(name, data) as temporary:
            try:
                os.link(temporary, self._folder / name)
            except FileExistsError:
                return False
            except OSError:  # no hard links here
                return self._create_without_link(name, data)
        return True

    def _create_without_link(self, name: str, data: bytes) -> bool:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(self._folder / name, flags, 0o644)
        except FileExistsError:
            return False
        with open(descriptor, "wb") as file:
            file.write(data)
        return True

    def replace(self, name: str, data: bytes) -> None:
        with self._whole(name, data) as temporary:
            os.replace(temporary, self._folder / name)

    def add(self, name: str, local: Path) -> None:
        target = self._folder / name
        with self._said():
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
            shutil.move(local, temporary)
            os.replace(temporary, target)

    def remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self._folder / name).unlink()

    def url(self, name: str) -> str:
        return str(self._folder / name)

    def filesystem(self) -> Any | None:
        return None

    @contextlib.contextmanager
    def _whole(self, name: str, data: bytes) -> Iterator[Path]:
        """Write a temporary file beside ``name``; what is left of it is removed."""
        target = self._folder / name
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            with self._said():
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(temporary, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                yield temporary
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RoofprobeError(
                "unwritable",
                f"cannot write to the fleet {self.where} ({error.strerror or error}); make room or "
                "name another folder with --out, then repeat: what was merged stays",
            ) from error


class _Remote:
    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._fs, self._root = fsspec.core.url_to_fs(url.rstrip("/"))
        except (ImportError, ValueError) as error:
            raise RoofprobeError(
                "bad-fleet",
                f"cannot use {url} ({error}); install the package that the message names, or name "
                "a folder",
            ) from error
        self.where = url.rstrip("/")

    def names(self, folder: str) -> list[str]:
        path = f"{self._root}/{folder}"
        self._fs.invalidate_cache()
        try:
            return sorted(
                str(found).rsplit("/", 1)[-1] for found in self._fs.ls(path, detail=False)
            )
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        data = self._fs.cat_file(f"{self._root}/{name}")
        return data if isinstance(data, bytes) else bytes(data)

    def create(self, name: str, data: bytes) -> bool:
        path = f"{self._root}/{name}"
        with self._said():
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            try:
                with self._fs.open(path, "xb") as file:
                    file.write(data)
                return True
            except FileExistsError:
                return False
            except (ValueError, NotImplementedError):  # knows no exclusive creation
                if self._fs.exists(path):
                    return False
                self._fs.pipe_file(path, data)
                return True

    def replace(self, name: str, data: bytes) -> None:
        with self._said():
            self._fs.pipe_file(f"{self._root}/{name}", data)

    def add(self, name: str, local: Path) -> None:
        path = f"{self._root}/{name}"
        with self._said():
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self._fs.put_file(str(local), path)
        local.unlink()

    def remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._fs.rm_file(f"{self._root}/{name}")

    def url(self, name: str) -> str:
        return f"{self._fs.unstrip_protocol(self._root)}/{name}"

    def filesystem(self) -> Any | None:
        return self._fs

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            raise RoofprobeError(
                "unwritable",
                f"cannot write to the fleet {self.where} ({error}); see to its credentials and "
                "room, then repeat: what was merged stays",
            ) from error
