"""What the doctor found, on a terminal and as JSON.

One line per thing that is in order; where something is not, a sentence below says what that means,
and the line after it what to type. The status is a word first and a colour second. Texts come from
drivers, paths and other people's processes, so none is read as markup and control characters are
shown, not sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from roofprobe.records.wording import plural
from roofprobe.reporting.plain_text import clean, in_encoding

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "unknown": "magenta"}
_WORST_FIRST = ("fail", "unknown", "warn", "ok")
_STATUS_WIDTH = 9
_TITLE_WIDTH = 26


class FindingLike(Protocol):
    """What the view needs of a finding; see ``roofprobe.probes.doctor.Finding``."""

    @property
    def code(self) -> str:
        """Return the stable code."""
        ...

    @property
    def title(self) -> str:
        """Return what was looked at."""
        ...

    @property
    def status(self) -> str:
        """Return ``ok``, ``warn``, ``fail`` or ``unknown``."""
        ...

    @property
    def figure(self) -> str:
        """Return what was found, in short."""
        ...

    @property
    def sentence(self) -> str:
        """Return what it means."""
        ...

    @property
    def remedy(self) -> str | None:
        """Return what to type, if anything."""
        ...


def render(findings: Sequence[FindingLike], console: Console) -> None:
    """Print all findings in the order given, and one line that sums them up."""
    from rich.text import Text

    for finding in findings:
        before = Text.assemble(
            (finding.status.ljust(_STATUS_WIDTH), _STYLES.get(finding.status, "")),
            _plain(finding.title, console).ljust(_TITLE_WIDTH) + " ",
        )
        _paragraph(before, finding.figure, console)
        if finding.status != "ok":
            _paragraph(Text(" " * _STATUS_WIDTH), finding.sentence, console)
            if finding.remedy:
                _paragraph(Text(" " * _STATUS_WIDTH + "> "), finding.remedy, console, "cyan")
    _print(Text(""), console)
    status = worst(findings)
    _print(Text.assemble((f"{status}: ", _STYLES[status]), summary_sentence(findings)), console)


def to_json(findings: Sequence[FindingLike]) -> dict[str, Any]:
    """Return the findings as plain data, with the worst status and how many there are of each."""
    counts = Counter(finding.status for finding in findings)
    return {
        "status": worst(findings),
        "counts": {status: counts[status] for status in _WORST_FIRST},
        "findings": [
            {
                "code": finding.code,
                "title": clean(finding.title),
                "status": finding.status,
                "figure": clean(finding.figure),
                "sentence": clean(finding.sentence),
                "remedy": None if finding.remedy is None else clean(finding.remedy),
            }
            for finding in findings
        ],
    }


def worst(findings: Sequence[FindingLike]) -> str:
    """Return the status that decides; ``unknown`` if nothing was looked at."""
    found = {finding.status for finding in findings}
    return next((status for status in _WORST_FIRST if status in found), "unknown")


def summary_sentence(findings: Sequence[FindingLike]) -> str:
    """Say in one sentence how ready this host is."""
    counts = Counter(finding.status for finding in findings)
    parts = [
        f"{plural(counts['fail'], 'thing')} to mend" if counts["fail"] else "",
        f"{plural(counts['unknown'], 'thing')} that could not be found out"
        if counts["unknown"]
        else "",
        plural(counts["warn"], "warning") if counts["warn"] else "",
    ]
    if not findings:
        return "Nothing was looked at."
    return f"{', '.join(filter(None, parts)) or 'This host is ready to be measured'}."


def _paragraph(before: Text, text: str, console: Console, style: str = "") -> None:
    """Print text behind ``before``, wrapped to the console, further lines indented as far."""
    from rich.text import Text

    width = max(20, console.width - before.cell_len)
    lines = Text(_plain(text, console), style=style).wrap(console, width, overflow="fold")
    for line in lines or [Text("")]:
        line.rstrip()
        _print(before + line, console)
        before = Text(" " * before.cell_len)


def _print(text: Text, console: Console) -> None:
    text.rstrip()
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _plain(text: str, console: Console) -> str:
    return in_encoding(clean(text), console.encoding)
