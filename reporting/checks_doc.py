"""The catalogue of checks as a document: written from the table of checks and the file of bands.

``python -m roofprobe.reporting.checks_doc docs/checks.md`` writes it anew; a test holds that it is
up to date.
"""

from __future__ import annotations

import importlib.resources
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, get_args

from roofprobe.acceptance.bands import Band, Bands, ComputeBand, load_bands
from roofprobe.acceptance.check_table import TABLE, Check
from roofprobe.records.schema import Layer
from roofprobe.reporting.markdown_text import escape

_LAYERS: Final[dict[Layer, str]] = {
    "integrity": "Did it run, is the result right, and can it be? Blind to what is slow but right.",
    "identity": "Is it what it is sold as? Facts of the device against each other and against the "
    "catalogue.",
    "health": "Do the device's own counters say that it is well, before and after? Blind to "
    "silent slowness.",
    "absolute": "Does it reach what its kind reaches? Blind to small losses.",
    "host-relative": "Is it like its neighbours? Blind to hosts all of whose GPUs are slow.",
    "reference-relative": "Is it like itself, or another of its kind, in earlier runs?",
}


def document() -> str:
    """Return ``docs/checks.md``."""
    checks: list[str] = []
    for layer in get_args(Layer):
        checks += [f"### {layer.capitalize()}", "", _LAYERS[layer], ""]
        checks += [*_check_table([check for check in TABLE if check.layer == layer]), ""]
    folder = importlib.resources.files("roofprobe.reporting").joinpath("templates")
    text = folder.joinpath("checks.md").read_text(encoding="utf-8")
    text = text.replace("{{ checks }}", "\n".join(checks).strip())
    return text.replace("{{ bands }}", "\n".join(_band_tables(load_bands())))


def _check_table(checks: Sequence[Check]) -> Iterable[str]:
    yield "| code | asks | at worst | required | held against | if not |"
    yield "|---|---|---|---|---|---|"
    for check in checks:
        required = "yes" if check.required else "no"
        bound, remedy = _cell(check.bound), _cell(check.remedy)
        yield (
            f"| `{check.code}` | {_cell(check.title)} | `{check.worst}` | {required} | {bound} | "
            f"{remedy} |"
        )


def _band_tables(bands: Bands) -> Iterable[str]:
    yield "| cards | precisions | warns below | fails below | leaves room for |"
    yield "|---|---|---|---|---|"
    for band in bands.compute:
        words = ", ".join(band.precisions) + _KINDS[band.kind]
        yield _band(band, words)
    yield ""
    yield "| cards | kernels | warns below | fails below | leaves room for |"
    yield "|---|---|---|---|---|"
    for stream in bands.memory:
        yield _band(stream, ", ".join(stream.kernels))
    yield ""
    yield "Links follow from the printed bandwidth:"
    yield ""
    yield "| cards | one NVLink, both ways | from |"
    yield "|---|---|---|"
    for rule in bands.nvlink:
        cards = _cards(rule.rows, rule.classes)
        yield f"| {cards} | {rule.link_gbps:g} GB/s | {_cell(rule.source)} |"


_KINDS: Final[dict[str, str]] = {
    "dense": "", "sparse": " (2:4 sparse)", "vector": " (vector pipe)",
}  # fmt: skip


def _band(band: Band | ComputeBand, what: str) -> str:
    fails = f"{band.fail_below:.0%}" if band.fail_below is not None else "–"
    return (
        f"| {_cards(band.rows, band.classes)} | {what} | {band.warn_below:.0%} | {fails} | "
        f"{_cell(band.source)} |"
    )


def _cards(rows: Sequence[str], classes: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in (*rows, *classes)) or "any"


def _cell(text: str) -> str:
    """Escape a text for a table; of the code that is marked in it, only what ends a cell."""
    parts = text.split("`")
    return "`".join(
        part.replace("|", "\\|") if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
