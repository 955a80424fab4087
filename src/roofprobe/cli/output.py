"""What every command ends with: data to standard output, a sentence to standard error, a code."""

from __future__ import annotations

import codecs
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console


_READER_GONE = 128 + signal.SIGPIPE


def exit_with(run: Callable[[], int], json_: bool) -> NoReturn:
    """Run a command; turn what went wrong into one sentence and an exit code."""
    from roofprobe.records.errors import RoofprobeError

    try:
        code = run()
        sys.stdout.flush()
    except RoofprobeError as error:
        code = _report(error.code, error.sentence, error.exit_code, json_)
    except KeyboardInterrupt:
        code = _report("interrupted", "interrupted before anything was measured", 3, json_)
    except BrokenPipeError:
        # The reader went away (`probe show … | head`); Python must not complain at exit. What the
        # command would have said is not known, so it ends as other programs do on SIGPIPE: neither
        # passed nor failed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _READER_GONE
    sys.exit(code)


def _report(code: str, sentence: str, exit_code: int, json_: bool) -> int:
    if json_:
        print_json({"error": {"code": code, "sentence": sentence, "exit_code": exit_code}})
    say(f"probe: {sentence}")
    return exit_code


_LEAST_COLUMNS = 20
_PIPED_COLUMNS = 100


def console() -> Console:
    """Return a console on standard output, as wide as ``COLUMNS`` says, or else the terminal.

    Where standard output is no terminal and ``COLUMNS`` is not set, it is 100 columns wide. What
    the encoding cannot write is written in its nearest ASCII.
    """
    from rich.console import Console

    from roofprobe.reporting.plain_text import nearest_ascii

    codecs.register_error("nearest-ascii", nearest_ascii)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="nearest-ascii")

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1, which means "failed" here

    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said) >= _LEAST_COLUMNS:
        width: int | None = int(said)
    else:
        # an explicit width, for rich would take a COLUMNS of 0 at its word
        width = _terminal_columns() if sys.stdout.isatty() else _PIPED_COLUMNS
    return Piped(width=width, highlight=False)


def _terminal_columns() -> int | None:
    with suppress(OSError):
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
        return columns if columns >= _LEAST_COLUMNS else None
    return None


def print_json(document: Any) -> None:
    """Print one JSON document."""
    write_stdout(json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n")


def write_stdout(data: bytes) -> None:
    """Write bytes as they are, in any encoding of the terminal."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say(sentence: str) -> None:
    """Print a sentence to standard error."""
    with suppress(BrokenPipeError, ValueError):
        print(sentence, file=sys.stderr)
