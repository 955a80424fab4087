"""The documents speak of commands that exist, of files that exist, and of nothing else."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from roofprobe.cli import app

ROOT = Path(__file__).parents[1]
CODE = (
    "acceptance", "costmodel", "kernels", "peaks", "probes", "records", "reporting",
    "src/roofprobe", "tests", "benchmarks", "tools", "deploy", ".ci",
)  # fmt: skip
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/*.md", "reports/README.md") for path in ROOT.glob(pattern)
)
FORBIDDEN = (
    "/work/", "/root/", "shared/field", "shared/data", "shared/design", "pypi.org",
    "pythonhosted.org",
)  # fmt: skip
SAY_IT_TO_FORBID_IT = {"tests/test_docs.py"}
# Commands that only read: a test runs them as they are printed. Each with its exit codes; doctor
# judges the host, so any of its verdicts will do. Runs that are judged and compared have nothing.
RUNNABLE = {
    "peaks": {0}, "schema": {0}, "show": {0}, "doctor": {0, 1, 3}, "plan": {0}, "bundle": {0},
    "check": {3}, "compare": {3}, "history": {0}, "report": {0},
    "fleet merge": {0}, "fleet report": {0}, "fleet simulate": {0},
}  # fmt: skip
# Alone a name, not a command.
NAMES = {
    "plan", "show", "report", "bundle", "check", "compare", "history", "fleet merge",
    "fleet report", "fleet simulate",
}  # fmt: skip
OF_MANY_HOSTS = {"history", "fleet merge", "fleet report", "fleet simulate"}
PLACEHOLDERS = {"RUN", "NAME", "[NAME]", "A", "B", "RUNS…", "FLEET", "[SOURCE]"}
# The least that is a run, for `probe show reports/latest`.
RUN = {
    "schema_version": 1,
    "run_id": "20000101T000000Z-example",
    "status": "complete",
    "started_at": "2000-01-01T00:00:00+00:00",
    "options": {"families": ["compute"]},
    "environment": {
        "host": "example",
        "os": "Linux",
        "kernel": "6.0",
        "python": "3.11",
        "roofprobe": "0.1.0",
    },
}


def commands_in(text: str) -> list[list[str]]:
    """Return the ``probe`` commands of code blocks, indented blocks and inline code."""
    lines = re.findall(r"^(?: {4})?(probe [^\n#]*)", text, flags=re.MULTILINE)
    lines += re.findall(r"`(probe [^`]*)`", text)
    return [shlex.split(line) for line in lines]


def commands() -> dict[str, Any]:
    """Return the commands by name (``fleet merge``), as the parser knows them."""
    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        below = getattr(command, "commands", None)
        found |= {name: command} if below is None else {f"{name} {n}": c for n, c in below.items()}
    return found


def groups() -> set[str]:
    return {name.split()[0] for name in commands() if " " in name}


def named_in(words: list[str]) -> tuple[str, list[str]]:
    """Return the command that ``probe …`` names, and its arguments."""
    _, name, *rest = words
    if name in groups() and rest and not rest[0].startswith("-"):
        return f"{name} {rest[0]}", rest[1:]
    return name, rest


def command_names() -> set[str]:
    return set(commands())


def options_of(command: str) -> set[str]:
    return {option for parameter in commands()[command].params for option in parameter.opts}


def probe(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roofprobe", *arguments], capture_output=True, text=True, cwd=cwd
    )


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert {name for name in command_names() if f"`probe {name}" not in text} == set()


def test_every_option_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    options = {option for name in command_names() for option in options_of(name)}
    said = set(re.findall(r"--[a-z][a-z-]*", text))
    assert {option for option in options if option.startswith("--")} - said == set()


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_and_option_has_help(name: str) -> None:
    command = commands()[name]
    assert command.help
    assert [p.name for p in command.params if not getattr(p, "help", None)] == []
    done = probe(*name.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert command.help.split(",")[0] in done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shown_commands_and_options_exist(document: Path) -> None:
    for words in commands_in(document.read_text()):
        name, rest = named_in(words)
        if name in ("--help", "--version", *groups()):
            continue
        assert name in command_names(), f"probe {name} in {document.name}"
        options = {word.split("=")[0] for word in rest if word.startswith("--")}
        assert options <= options_of(name) | {"--help"}, (document.name, name, options)


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ {4}make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_gate_runs_the_readmes_test_command() -> None:
    assert re.search(r"^make test$", (ROOT / ".ci/run").read_text(), re.MULTILINE)


def shown_and_runnable() -> list[str]:
    shown = [words for document in DOCUMENTS for words in commands_in(document.read_text())]
    return sorted(
        {
            shlex.join(words)
            for words in shown
            if named_in(words)[0] in RUNNABLE
            and not PLACEHOLDERS & set(words)
            and (named_in(words)[1] or named_in(words)[0] not in NAMES)
        }
    )


@pytest.fixture(scope="session")
def many_hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it is where runs of many hosts are collected; the runs are simulated."""
    from roofprobe.acceptance.fleet.simulate import simulate
    from roofprobe.records.fleet.merge import merge

    folder = tmp_path_factory.mktemp("hosts")
    simulate(folder / "trial", hosts=12, gpus=2, runs=2, seed=1)
    shutil.copy(folder / "trial/hosts.txt", folder)
    shutil.copytree(folder / "trial/runs", folder / "reports")
    merge([folder / "trial/runs"], folder / "fleet", workers=1)
    return folder


@pytest.mark.parametrize(
    "command", [c for c in shown_and_runnable() if named_in(shlex.split(c))[0] in OF_MANY_HOSTS]
)
def test_commands_for_many_hosts_run_as_printed(
    command: str, tmp_path: Path, many_hosts: Path
) -> None:
    shutil.copytree(many_hosts, tmp_path, dirs_exist_ok=True)
    name, rest = named_in(shlex.split(command))
    if name == "fleet simulate":  # it writes what the others read
        shutil.rmtree(tmp_path / "trial")
    rest = [word.replace("/srv/", f"{tmp_path}/") for word in rest if not word.startswith(">")]
    rest = [word.replace("/var/lib/node_exporter", str(tmp_path)) for word in rest]
    rest = [word.replace(f"{tmp_path}/runs", f"{tmp_path}/reports") for word in rest]
    done = probe(*name.split(), *rest, cwd=tmp_path)
    assert done.returncode in RUNNABLE[name], done.stderr
    assert "Traceback" not in done.stderr
    assert "SIMULATED" in done.stdout + done.stderr or name == "fleet merge"


def test_the_python_of_the_fleet_document_reads_a_fleet(many_hosts: Path) -> None:
    text = (ROOT / "docs/fleet.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = f"{snippet}\nassert len(frame) == 12 * 2 * 2 * frame.metric.nunique()\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=many_hosts, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command", [c for c in shown_and_runnable() if named_in(shlex.split(c))[0] not in OF_MANY_HOSTS]
)
def test_commands_that_only_look_run_as_printed(command: str, tmp_path: Path) -> None:
    for folder in ("reports/latest", "good", "before", "after"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "run.json").write_text(json.dumps({**RUN, "run_id": folder}))
    name, rest = named_in(shlex.split(command))
    done = probe(*name.split(), *rest, cwd=tmp_path)
    assert done.returncode in RUNNABLE[name], done.stderr
    assert "Traceback" not in done.stderr
    if "--json" in rest or name == "schema":
        assert json.loads(done.stdout)
    else:
        assert done.stdout


def test_each_command_that_only_looks_is_shown_somewhere() -> None:
    shown = {named_in(shlex.split(command))[0] for command in shown_and_runnable()}
    assert shown == set(RUNNABLE)


@pytest.mark.parametrize(
    "snippet",
    re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL),
)
def test_the_style_examples_are_our_own_code(snippet: str) -> None:
    files = [file for room in CODE for file in (ROOT / room).rglob("*.py")]
    code = "\n".join("".join(file.read_text().split()) for file in files)
    assert "".join(snippet.split()) in code


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
        if "://" in target:
            continue
        linked = document.parent / target if target else document
        assert linked.exists(), f"{document.name} links to {target}"
        if anchor:
            assert anchor in anchors_of(linked), f"{document.name} links to {target}#{anchor}"


def anchors_of(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of ``document``."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_nothing_forbidden_is_said() -> None:
    texts = [*DOCUMENTS, ROOT / "pyproject.toml", ROOT / "Makefile"]
    kinds = ("*.py", "*.toml", "*.sh", "*.sbatch", "*.yaml", "*.j2", "*.css", "*.md", "run")
    texts += [path for room in CODE for kind in kinds for path in (ROOT / room).rglob(kind)]
    said = [
        f"{name}: {word}"
        for name, text in ((str(path.relative_to(ROOT)), path.read_text()) for path in texts)
        for word in FORBIDDEN
        if word in text and name not in SAY_IT_TO_FORBID_IT
    ]
    assert said == []


def test_the_readme_dates_its_picture_as_the_kept_run_is_dated() -> None:
    kept = json.loads((ROOT / "reports/reference/cpu-amd-epyc-2-cores/run.json").read_bytes())
    told = re.search(
        r"kept in reports/reference, ([-0-9]+ [0-9:]+) UTC", (ROOT / "README.md").read_text()
    )
    assert told is not None
    assert told[1] == kept["started_at"].replace("T", " ")[:16]


def test_every_fault_of_a_simulated_fleet_is_described_where_it_is_shown() -> None:
    from roofprobe.acceptance.fleet.simulate_faults import KINDS

    text = (ROOT / "docs/fleet.md").read_text()
    assert [kind for kind, told in KINDS.items() if f"| `{kind}` | {told.of}s |" not in text] == []
