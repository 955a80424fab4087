"""The site made of these pages: Sphinx with MyST (Markdown) and Furo."""

from __future__ import annotations

import roofprobe

project = "roofprobe"
author = "the roofprobe developers"
copyright = "2026, the roofprobe developers"
release = version = roofprobe.__version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"roofprobe {release}"
html_show_sphinx = False
html_copy_source = False
# No fonts, scripts or counters of others: the pages work without a network.
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {
    "ArrayLike": "ArrayLike",
    "FloatArray": "FloatArray",
    "IntArray": "IntArray",
}
autodoc_member_order = "bysource"
