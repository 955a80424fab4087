"""Matplotlib figures as SVG that may stand inside an HTML page under a strict policy.

Matplotlib writes whole SVG documents: style attributes, ids that repeat from figure to figure, a
style sheet for everything. Inside a page each of these would leak or be refused, so styles become
classes of one shared sheet, ids get a prefix, and colours become variables that follow the page
from light to dark. The result is the same bytes for the same figure.
"""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES_COUNT = 8
HEAT_LEVELS = 9

# Colours that figures are drawn with stand for variables of the page's style sheet.
INK, MUTED, GRID, TRACK, BAR = "#000001", "#000002", "#000003", "#000004", "#000005"
SERIES = tuple(f"#0001{number:02x}" for number in range(SERIES_COUNT))
# Levels of a heat map, from nothing to everything, and the ink that can be read on each.
HEAT = tuple(f"#0002{number:02x}" for number in range(HEAT_LEVELS))
HEAT_INK = tuple(f"#0003{number:02x}" for number in range(HEAT_LEVELS))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    TRACK: "var(--track)",
    BAR: "var(--accent)",
    **{color: f"var(--series-{number})" for number, color in enumerate(SERIES)},
    **{color: f"var(--heat-{number})" for number, color in enumerate(HEAT)},
    **{color: f"var(--heat-ink-{number})" for number, color in enumerate(HEAT_INK)},
}
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_RC = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.unicode_minus": False,
    "path.simplify": False,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw as on every machine: matplotlib's defaults, whatever a user's settings say."""
    from matplotlib import style

    with style.context(_RC, after_reset=True), warnings.catch_warnings():
        # the reader's fonts show what matplotlib's lack
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


class StyleSheet:
    """Gives each distinct inline style a class."""

    def __init__(self) -> None:
        """Begin without a class."""
        self._classes: dict[str, str] = {}

    def class_of(self, style: str) -> str:
        """Return the class that stands for ``style``."""
        for color, variable in _VARIABLES.items():
            style = style.replace(color, variable)
        # the page's own typeface
        style = re.sub(r"font-family: [^;]*;? ?", "", style).strip("; ")
        return self._classes.setdefault(style, f"v{len(self._classes)}")

    def css(self) -> str:
        """Return the rules of all classes."""
        return "\n".join(f"figure .{name} {{{style}}}" for style, name in self._classes.items())


def inline_svg(figure: Figure, key: str, label: str, sheet: StyleSheet) -> str:
    """Return ``figure`` as an ``svg`` element called ``label``, with ids that begin with ``key``.

    Call it, and draw the figure, under ``figure_style``.
    """
    root = ET.fromstring(_document(figure, key))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    text = ET.tostring(root, encoding="unicode")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    for element in root.iter():
        _rewrite(element, key, used, sheet)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def _document(figure: Figure, key: str) -> bytes:
    from matplotlib import rc_context

    out = BytesIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with rc_context({"svg.hashsalt": key}):
        figure.savefig(out, format="svg", metadata=metadata)
    return out.getvalue()


def _rewrite(element: ET.Element, key: str, used: set[str], sheet: StyleSheet) -> None:
    element.tag = element.tag.removeprefix(_SVG)
    attributes = {}
    for name, value in element.attrib.items():
        if name == "style":
            attributes["class"] = sheet.class_of(value)
        elif name == "id":
            if value in used:
                attributes["id"] = f"{key}-{value}"
        elif name == _HREF:
            attributes["href"] = value.replace("#", f"#{key}-")
        else:
            attributes[name] = " ".join(value.replace("url(#", f"url(#{key}-").split())
    element.attrib = attributes
    if element.text and not element.text.strip():
        element.text = None
    element.tail = None
