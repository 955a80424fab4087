"""Reading files that anyone may have written: whole, bounded, and data only.

A file that a user names, or that lies in a folder somebody sent, may be a pipe, a device, a folder,
a loop of links, larger than memory, or no text at all. `read_bytes` gives the bytes of a regular
file of a stated size at most, `json_document` a JSON value without what would surprise its reader:
repeated keys, NaN and infinities, numbers of thousands of digits, halves of surrogate pairs. Both
raise ``RoofprobeError`` or ``ValueError`` with a few words, never anything else.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, Final, NoReturn

from roofprobe.records.errors import RoofprobeError

MIB: Final = 1 << 20
_MOST_DIGITS: Final = 400  # of a whole number; the greatest float has 309
_MAY_HOLD_SURROGATES: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotAFile(OSError):
    """What a path names is no regular file; ``strerror`` says what it is instead."""


class TooLarge(OSError):
    """A file is larger than any of its kind; ``strerror`` says what is allowed."""


def read_bytes(path: Path, most_bytes: int, *, follow: bool = True) -> bytes:
    """Return the bytes of a regular file, at most ``most_bytes`` of them.

    Without ``follow`` a link in the place of the file is refused. Raises ``OSError`` with a
    ``strerror`` in words: `NotAFile`, `TooLarge`, or what the system says.
    """
    # without O_NONBLOCK the opening of a pipe waits for its writer
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except ValueError:  # a NUL, or halves of surrogate pairs, in the path
        raise NotAFile(errno.EINVAL, "it is no path") from None
    try:
        found = os.fstat(descriptor)
        for is_kind, words in _KINDS:
            if is_kind(found.st_mode):
                raise NotAFile(errno.EINVAL, f"it is {words}, not a file")
        allowed = f"it is larger than {most_bytes / MIB:,.0f} MiB"
        if found.st_size > most_bytes:
            raise TooLarge(errno.EFBIG, allowed)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(most_bytes + 1)
        if len(data) > most_bytes:  # it grew, or tells no size
            raise TooLarge(errno.EFBIG, allowed)
        return data
    finally:
        os.close(descriptor)


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder that can be entered; what is no path is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether something that is no folder lies at ``path``."""
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False


def said(path: Path, error: OSError) -> str:
    """Return "cannot read PATH (why)" for the sentence of an error."""
    return f"cannot read {path} ({error.strerror or type(error).__name__})"


def json_document(data: bytes) -> Any:
    """Return the JSON value in ``data`` (UTF-8, -16 or -32, with a byte order mark or without).

    Raises ``ValueError`` with a few words for what is no JSON, nested too deep, or would not be
    read alike by everyone.
    """
    try:
        document = json.loads(
            data.decode(json.detect_encoding(data)),  # json itself lets lone surrogates pass
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_whole,
        )
        if _MAY_HOLD_SURROGATES.search(data):
            _refuse_surrogates(document)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return document


def json_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object in ``data``; raises ``ValueError`` as `json_document` does."""
    document = json_document(data)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    return document


def read_object(path: Path, most_bytes: int, code: str, what: str) -> dict[str, Any]:
    """Return the JSON object in a file; raises ``RoofprobeError`` ``code``, naming ``what``."""
    try:
        return json_object(read_bytes(path, most_bytes))
    except OSError as error:
        raise RoofprobeError(code, f"{said(path, error)}; name {what}") from None
    except ValueError as error:
        raise RoofprobeError(code, f"{path} is not {what} ({error})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has a key twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name}, which is no JSON number")


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it has a number of {len(digits):,} digits")
    return int(digits)


def _refuse_surrogates(value: Any) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("it has half of a surrogate pair in a text") from None
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_surrogates(key)
            _refuse_surrogates(inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_surrogates(inner)
