"""The files of a run that people and machines read, as bytes to be written beside ``run.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roofprobe.acceptance.verdict.judge import verdict_of
from roofprobe.records.schema import Run
from roofprobe.reporting.beside import NOTHING, Beside, beside_among
from roofprobe.reporting.html import to_html
from roofprobe.reporting.junit import junit_bytes
from roofprobe.reporting.markdown import to_markdown
from roofprobe.reporting.prometheus import prometheus_bytes


def render_reports(run: Run, beside: Beside = NOTHING) -> dict[str, bytes]:
    """Return the reports for people, by name."""
    return {
        "report.md": to_markdown(run, beside).encode(),
        "report.html": to_html(run, beside).encode(),
    }


def render_files(run: Run, beside: Beside = NOTHING) -> dict[str, bytes]:
    """Return the reports, the verdict as JUnit XML, and the metrics for Prometheus, by name."""
    verdict = verdict_of(run)
    return {
        **render_reports(run, beside),
        "junit.xml": junit_bytes(run, verdict),
        "metrics.prom": prometheus_bytes(run, verdict),
    }


def render_bundled(run: Run, documents: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    """Return the files of a run whose folder's other JSON documents are at hand, not the folder."""
    return render_files(run, beside_among(documents, run))
