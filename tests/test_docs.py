"""The documents speak of commands that exist, of files that exist, and of nothing else."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roofprobe.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/*.md", "reports/README.md") for path in ROOT.glob(pattern)
)
FORBIDDEN = ("/work/", "shared/field", "shared/data", "shared/design", "pypi.org", "/root/")
# Commands that only read, so that a test can run them as they are printed.
RUNNABLE = ("probe peaks", "probe schema")


def commands_in(text: str) -> list[list[str]]:
    """Return the ``probe`` commands of code blocks, indented blocks and inline code."""
    lines = re.findall(r"^(?: {4})?(probe [^\n#]*)", text, flags=re.MULTILINE)
    lines += re.findall(r"`(probe [^`]*)`", text)
    return [shlex.split(line) for line in lines]


def options_of(command: str) -> set[str]:
    return {option for parameter in commands()[command].params for option in parameter.opts}


def command_names() -> set[str]:
    return set(commands())


def commands() -> dict[str, Any]:
    import typer.main

    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert {name for name in command_names() if f"`probe {name}" not in text} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shown_commands_and_options_exist(document: Path) -> None:
    for _, name, *rest in commands_in(document.read_text()):
        assert name in command_names(), f"probe {name} in {document.name}"
        options = {word.split("=")[0] for word in rest if word.startswith("--")}
        assert options <= options_of(name) | {"--help"}, (document.name, name, options)


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ {4}make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_gate_runs_the_readmes_test_command() -> None:
    assert re.search(r"^make test$", (ROOT / ".ci/run").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            shlex.join(words)
            for document in DOCUMENTS
            for words in commands_in(document.read_text())
            if shlex.join(words).startswith(RUNNABLE) and "NAME" not in shlex.join(words)
        }
    ),
)
def test_commands_that_only_look_run_as_printed(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "roofprobe", *shlex.split(command)[1:]],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere_and_nothing_forbidden_is_said(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
    assert [word for word in FORBIDDEN if word in text] == []
