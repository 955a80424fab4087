"""Whatever lies at a path: its bytes, bounded, or the reason in words; never a wait, never more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import TooLarge, json_document, read_bytes


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def closed(path: Path) -> None:
    path.write_bytes(b"{}")
    path.chmod(0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Path.mkdir, "a folder"),
        (fifo, "a pipe"),
        (loop, "links"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to("/dev/tty"), "device|No such"),
        (lambda path: None, "No such file"),
    ],
)
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "run.json"
    make(path)
    begun = time.monotonic()
    with pytest.raises(OSError, match=words):
        read_bytes(path, 100)
    assert time.monotonic() - begun < 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    closed(tmp_path / "x")
    with pytest.raises(PermissionError):
        read_bytes(tmp_path / "x", 100)


@pytest.mark.parametrize("path", ["a\0b", "\ud800"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(OSError, match=r"no path|No such"):
        read_bytes(Path(path), 100)


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"x" * 100)
    assert len(read_bytes(file, 100)) == 100
    with pytest.raises(TooLarge, match="larger than"):
        read_bytes(file, 99)
    with pytest.raises(TooLarge):  # tells a size of 0
        read_bytes(Path("/proc/self/smaps"), 100)


def test_links_are_followed_only_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    (tmp_path / "link").symlink_to("x")
    assert read_bytes(tmp_path / "link", 9) == b"x"
    with pytest.raises(OSError, match="symbolic links"):
        read_bytes(tmp_path / "link", 9, follow=False)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_is_read_in_every_unicode_encoding(encoding: str) -> None:
    assert json_document('{"ä": [1, "é"]}'.encode(encoding)) == {"ä": [1, "é"]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a": 1, "a": 2}', "a key twice"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"1" * 401, "401 digits"),
        (b"[" * 100_000, "nested too deep"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'["\xed\xa0\x80"]', "can't decode"),
        (b"\xff\xfe", "Expecting value"),
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
    ],
)
def test_json_that_is_not_everyones_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        json_document(data)


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert json_document(b'["\\ud83d\\ude00"]') == ["😀"]


def test_an_error_is_one_printable_line_however_odd_what_it_quotes() -> None:
    error = RoofprobeError("x", "cannot read \x1b[31m\nx\u202e\ud800" + "y" * 9000)
    assert error.sentence.startswith("cannot read \\x1b[31m\\nx\\u202e\\ud800yyy")
    assert len(error.sentence) < 2100
    assert str(error) == error.sentence
