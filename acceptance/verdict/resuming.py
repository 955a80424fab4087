"""How a run that was cut short is gone on with: the command to type, from what the run recorded."""

from __future__ import annotations

import re
import shlex
from typing import Final

from roofprobe.records.schema import Run

# What may measure a run; another word of a record is not repeated as a command.
_COMMANDS: Final = frozenset({"all", "compute", "memory", "interconnect", "llm", "validate"})
_DEFAULT_OUT: Final = "reports"


def resume_command(run: Run) -> str | None:
    """Return ``probe all --out OUT --resume`` as the run was begun; None where that is not told."""
    words = run.command
    if len(words) < 2 or words[0] != "probe" or words[1] not in _COMMANDS:
        return None
    out = _out_of(words[2:])
    if re.search(r"[`\x00-\x1f]", out):
        return None  # what no sentence can show as a command
    return f"probe {words[1]} --out {shlex.quote(out)} --resume"


def _out_of(words: tuple[str, ...]) -> str:
    found = _DEFAULT_OUT
    for number, word in enumerate(words):
        if word == "--out" and number + 1 < len(words):
            found = words[number + 1]
        elif word.startswith("--out="):
            found = word.removeprefix("--out=")
    return found
