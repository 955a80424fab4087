"""What every page is made with: one style sheet, scripts named by their hash, text that is text.

A page is one file without any other: its policy forbids everything but its own style sheet and its
own few lines of script, each named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from roofprobe.reporting.numbers import UNKNOWN
from roofprobe.reporting.plain_text import code_spans, with_remedy
from roofprobe.reporting.svg import StyleSheet

if TYPE_CHECKING:
    from markupsafe import Markup


def page(
    name: str,
    sheet: StyleSheet,
    *,
    styles: Sequence[str] = ("report.css",),
    scripts: Sequence[str] = ("report.js",),
    **values: Any,
) -> str:
    """Return template ``name`` filled with ``values``, all of which are escaped."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    css = f"{''.join(map(template, styles))}{sheet.css()}\n"
    texts = [template(script) for script in scripts]
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(template),
    )
    environment.filters["prose"] = prose
    filled = environment.get_template(name).render(
        policy=_policy(css, texts),
        css=Markup(css),
        scripts=[Markup(text) for text in texts],
        unknown=UNKNOWN,
        with_remedy=told,
        **values,
    )
    return filled.lstrip()


def told(sentence: str, remedy: str | None) -> Markup:
    """Return what is wrong and what to do, as `prose`."""
    text = with_remedy(sentence, remedy)
    return prose(f"{text}{'.' if text[-1:].isalnum() or text.endswith('`') else ''}")


def prose(text: str) -> Markup:
    """Return a sentence, escaped, with what stands between backticks as code.

    Markdown reads the same text as the same code: one backtick on each side.
    """
    from markupsafe import Markup, escape

    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(code_spans(text))
    )


def template(name: str) -> str:
    """Return the text of a template, a style sheet or a script."""
    folder = resources.files("roofprobe.reporting") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _policy(css: str, scripts: Sequence[str]) -> str:
    own = " ".join(f"'{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; style-src '{_hash(css)}'; script-src {own}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"
