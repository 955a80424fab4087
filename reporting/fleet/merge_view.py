"""What ``probe fleet merge`` shows: how far it is, then what was added, known and refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TextIO

from rich.text import Text

from roofprobe.records.fleet.merge import Merged
from roofprobe.records.wording import plural
from roofprobe.reporting.numbers import seconds
from roofprobe.reporting.plain_text import clean, in_encoding

if TYPE_CHECKING:
    from rich.console import Console

MOST_REFUSED: Final = 10  # lines; the manifest has them all
_STEP: Final = 10  # percent between two lines of progress where there is no terminal


def to_json(merged: Merged) -> dict[str, Any]:
    """Return one JSON document: the counts, and every refused file with its reason."""
    document = asdict(merged)
    document["refused"] = [each.model_dump() for each in merged.refused]
    return document


def render_merged(merged: Merged, console: Console) -> None:
    """Print what a merge did; of many refused files the first, and how many of each reason."""

    def line(text: str, style: str = "") -> None:
        console.print(Text(in_encoding(text, console.encoding), style=style), soft_wrap=True)

    for refused in merged.refused[:MOST_REFUSED]:
        line(f"refused: {refused.code}: {clean(refused.sentence)}", "yellow")
    if len(merged.refused) > MOST_REFUSED:
        counts = Counter(refused.code for refused in merged.refused)
        reasons = ", ".join(f"{code} {count}" for code, count in counts.most_common())
        line(f"refused in all: {reasons}; each stands with its reason in manifest.json", "yellow")
    line(
        f"{plural(merged.looked_at, 'run')} looked at in {seconds(merged.seconds)}: "
        f"{merged.added} added, {merged.known} known before, {merged.replaced} replaced, "
        f"{len(merged.refused)} refused"
        + (f"; {len(merged.cleared)} refused before are mended or gone" if merged.cleared else "")
    )
    line(
        f"{clean(merged.where)}: {plural(merged.total_runs, 'run')} of "
        f"{plural(merged.total_devices, 'device')}, {merged.total_metrics:,} figures "
        f"(version {merged.version})",
        "bold",
    )


@contextmanager
def progress_on(stream: TextIO, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield what a merge tells its progress: a bar on a terminal, else a line per tenth."""
    if quiet:
        yield lambda done, of: None
        return
    from rich.console import Console

    console = Console(file=stream)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(stream)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    bar = Progress(
        "reading runs", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
        transient=True,
    )  # fmt: skip
    task = bar.add_task("", total=None)

    def told(done: int, of: int) -> None:
        bar.start()  # not before there is something to read; again it does nothing
        bar.update(task, completed=done, total=of)

    try:
        yield told
    finally:
        bar.stop()


class _Lines:
    """Tells of each tenth once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told = 0

    def __call__(self, done: int, of: int) -> None:
        step = 100 * done // of // _STEP if of else 0
        if step > self._told:
            self._told = step
            with suppress(OSError, ValueError):  # progress must not harm what it shows
                print(f"read {done} of {plural(of, 'new run')}", file=self._stream, flush=True)
