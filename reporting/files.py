"""The files of a run that people read, as bytes to be written beside ``run.json``."""

from __future__ import annotations

from roofprobe.records.schema import Run
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown


def render_files(run: Run) -> dict[str, bytes]:
    """Return the contents of ``report.md`` and ``report.html``."""
    return {"report.md": to_markdown(run).encode(), "report.html": to_html(run).encode()}
