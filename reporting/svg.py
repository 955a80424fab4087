"""Matplotlib figures as SVG that may stand inside an HTML page under a strict policy.

Matplotlib writes whole SVG documents: style attributes, ids that repeat from figure to figure, a
style sheet for everything. Inside a page each of these would leak or be refused, so styles become
classes of one shared sheet, ids become the page's, and colours become variables that follow the
page from light to dark. The result is the same bytes for the same figure.

What a mark stands for is told when it is pointed at: ``tip`` and ``tips`` hang words on an artist,
which become the ``title`` that every browser shows by itself. They are an extra for those who
point; the same is in the figure's label and in its table.
"""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.artist import Artist
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
# Words travel in an artist's id, which matplotlib writes as it is; private signs mark them.
_TIP, _NEXT, _THROUGH = "\ue000tip", "\ue001", "\ue000through"
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_NO_TURN = re.compile(r"rotate\(-?0 [^()]*\)")
_COMMAND = re.compile(r" ?([A-Za-z]) ?")
_PLACES = frozenset({"d", "x", "y", "width", "height", "points", "transform"})
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


def tip(artist: Artist, text: str) -> None:
    """Tell ``text`` when ``artist`` is pointed at."""
    artist.set_gid(_TIP + text.replace(_NEXT, ""))


def tips(artist: Artist, texts: Sequence[str]) -> None:
    """Tell one of ``texts`` at each marker of a line, all of which lie within the figure."""
    if texts:
        artist.set_gid(_TIP + "".join(text.replace(_NEXT, "") + _NEXT for text in texts))


def see_through(artist: Artist) -> None:
    """Let what lies below ``artist`` be pointed at: a number in a cell that tells more."""
    artist.set_gid(_THROUGH)


class StyleSheet:
    """Gives each distinct inline style a class, and each id of a figure a short one of the page."""

    def __init__(self) -> None:
        """Begin without a class."""
        self._classes: dict[str, str] = {}
        self._seen: dict[str, str] = {}
        self._ids: dict[tuple[str, str], str] = {}

    def class_of(self, style: str) -> str:
        """Return the class that stands for ``style``."""
        if style not in self._seen:
            self._seen[style] = self._new(style)
        return self._seen[style]

    def _new(self, style: str) -> str:
        for color, variable in _VARIABLES.items():
            style = style.replace(color, variable)
        # the page's own typeface
        style = re.sub(r"font-family: [^;]*;? ?", "", style).strip("; ")
        return self._classes.setdefault(style, f"v{len(self._classes)}")

    def id_of(self, key: str, name: str) -> str:
        """Return the page's id of what figure ``key`` calls ``name``."""
        return self._ids.setdefault((key, name), f"i{len(self._ids)}")

    def css(self) -> str:
        """Return the rules of all classes."""
        return "\n".join(f"figure .{name} {{{style}}}" for style, name in self._classes.items())


def inline_svg(figure: Figure, key: str, label: str, sheet: StyleSheet) -> str:
    """Return ``figure`` as an ``svg`` element called ``label``; ``key`` is its own in the page.

    Call it, and draw the figure, under ``figure_style``.
    """
    root = ET.fromstring(_document(figure, key))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    used = _targets(root)
    for element in root.iter():
        _rewrite(element, key, used, sheet)
    _without_bare_groups(root)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


def _targets(root: ET.Element) -> set[str]:
    """Return the ids that something refers to."""
    found: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == _HREF:
                found.add(value.removeprefix("#"))
            elif "url(#" in value:
                found.update(re.findall(r"url\(#([^)]+)\)", value))
    return found


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
                attributes["id"] = sheet.id_of(key, value)
            elif value.startswith(_TIP):
                _hang(element, value.removeprefix(_TIP))
            elif value == _THROUGH:
                attributes["pointer-events"] = "none"
        elif name == _HREF:
            attributes["href"] = f"#{sheet.id_of(key, value.removeprefix('#'))}"
        elif "url(#" in value:
            attributes[name] = f"url(#{sheet.id_of(key, value[len('url(#') : -1])})"
        elif not _NO_TURN.fullmatch(value):
            told = " ".join(value.split())
            told = _LONG_NUMBER.sub(_rounded, told) if name in _PLACES else told
            attributes[name] = _COMMAND.sub(r"\1", told) if name == "d" else told
    element.attrib = attributes
    if element.text and not element.text.strip():
        element.text = None
    element.tail = None


def _hang(element: ET.Element, words: str) -> None:
    """Put titles below ``element``: one for all of it, or one at each of its markers."""
    if _NEXT not in words:
        title = ET.Element("title")
        title.text = words
        element.insert(0, title)
        return
    markers = [found for found in element.iter() if found.tag.removeprefix(_SVG) == "use"]
    for marker, text in zip(markers, words.split(_NEXT)[:-1], strict=True):
        ET.SubElement(marker, "title").text = text


def _rounded(number: re.Match[str]) -> str:
    """Write a coordinate to a hundredth of a point."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _without_bare_groups(element: ET.Element) -> None:
    """Put what stands in groups that say nothing of their own in their place."""
    for child in list(element):
        _without_bare_groups(child)
    kept: list[ET.Element] = []
    for child in element:
        bare = (
            child.tag == "g" and not child.attrib and (len(child) == 0 or child[0].tag != "title")
        )
        kept += list(child) if bare else [child]
    element[:] = kept
