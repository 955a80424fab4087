"""The pages of the site: all are reachable, and the reference of the command is the command's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_reference_is_what_the_command_says() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "tools/command_reference.py")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    kept = (ROOT / "docs/reference/commands.md").read_text()
    assert made == kept, "python tools/command_reference.py > docs/reference/commands.md"


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = re.findall(r"^([a-z][\w/-]*)$", (ROOT / "docs/index.md").read_text(), re.MULTILINE)
    pages = {str(page.relative_to(ROOT / "docs"))[:-3] for page in (ROOT / "docs").rglob("*.md")}
    assert set(listed) == pages - {"index"}
    assert len(listed) == len(set(listed))


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
         "-d", str(tmp_path / "trees"), str(ROOT / "docs"), str(tmp_path / "site")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r'(?:src|href)="(https?:[^"]+\.(?:js|css|woff2?|png|svg))', page.read_text()
        )
        assert loaded == [], (page.name, "a page needs no network")
