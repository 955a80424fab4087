"""Files are data, names are text, paths stay inside, and nothing speaks to the network."""

from __future__ import annotations

import ast
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from roofprobe.costmodel.calibration import default_calibration
from roofprobe.costmodel.calibration_file import CalibrationFile, calibration_bytes
from roofprobe.costmodel.export import export
from roofprobe.costmodel.exporters.files import Export
from roofprobe.costmodel.exporters.planners import PLANNERS
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.runfolder import new_run_folder, read_run, write_run
from roofprobe.records.schema import Run
from roofprobe.records.tables import measurements_csv
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown
from roofprobe.reporting.terminal import render_run

ROOT = Path(__file__).parents[1]
ROOMS = ("acceptance", "costmodel", "kernels", "peaks", "probes", "records", "reporting", "tools")
SOURCES = sorted(
    file for room in (*ROOMS, "src/roofprobe") for file in (ROOT / room).glob("**/*.py")
    if not file.is_symlink()
)  # fmt: skip
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib",
                     "requests", "urllib.request", "http.client", "ftplib", "smtplib",
                     "telnetlib", "xmlrpc"}  # fmt: skip
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "os.system",
    "os.popen", "tempfile.mktemp", "torch.load", "numpy.load", "np.load", "pandas.read_pickle",
    "pd.read_pickle", "tarfile.open", "zipfile.ZipFile.extractall", "shutil.unpack_archive",
}  # fmt: skip
# (file, call): why it is no danger.
EXCEPTIONS: dict[tuple[str, str], str] = {
    (
        "src/roofprobe/fleet_run/archive.py",
        "tarfile.open",
    ): "reads plain files of bounded size into memory and makes no path of a member's name",
    ("src/roofprobe/fleet_run/remote.py", "tarfile.open"): "writes an archive",
}
HOSTILE = (
    "<script>alert(1)</script>", "](http://x.example)", "a|b", "\x1b[31mred\x1b[0m", "two\nlines",
    "\u202egnp.exe", "nul\x00", "[bold]x[/bold]", "`code`", "<img src=x onerror=alert(1)>",
    "&lt;", "\x9b31m", "\u2028", "{{7*7}}", "'\"",
)  # fmt: skip


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_our_code_never_turns_data_into_code(file: Path) -> None:
    name = str(file.relative_to(ROOT))
    tree = ast.parse(file.read_text())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN_MODULES:
            found.append(str(node.module))
    for called, node in calls(tree):
        if called in FORBIDDEN_CALLS and (name, called) not in EXCEPTIONS:
            found.append(called)
        for keyword in node.keywords:
            plain = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg == "shell" and not plain:
                found.append(f"{called}(shell=)")
            if keyword.arg in ("trust_remote_code", "allow_pickle") and not plain:
                found.append(f"{called}({keyword.arg}=)")
    assert found == []


def test_every_exception_is_still_needed() -> None:
    for (name, called), reason in EXCEPTIONS.items():
        assert called in [each for each, _ in calls(ast.parse((ROOT / name).read_text()))], name
        assert reason


# What every Python process of a run loads first: connections that leave the host end it.
NO_NETWORK = """
import os, socket
LOCAL = ("127.", "::1", "localhost", "0.0.0.0")
def outside(address):
    return isinstance(address, tuple) and not str(address[0]).startswith(LOCAL)
def told(what):
    with open(os.environ["NETWORK_LOG"], "a") as log:
        log.write(f"{what}\\n")
    raise PermissionError(f"the network is forbidden: {what}")
class Socket(socket.socket):
    def connect(self, address):
        if self.family != socket.AF_UNIX and outside(address):
            told(f"connect {address}")
        return super().connect(address)
    def connect_ex(self, address):
        if self.family != socket.AF_UNIX and outside(address):
            told(f"connect {address}")
        return super().connect_ex(address)
    def sendto(self, data, *rest):
        if self.family != socket.AF_UNIX and outside(rest[-1]):
            told(f"send to {rest[-1]}")
        return super().sendto(data, *rest)
    def bind(self, address):
        if self.family != socket.AF_UNIX and outside(address) and address[0] != "":
            told(f"bind {address}")
        return super().bind(address)
socket.socket = Socket
look_up = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    if host is not None and not str(host).startswith(LOCAL):
        told(f"look up {host}")
    return look_up(host, *rest, **more)
socket.getaddrinfo = getaddrinfo
open(os.environ["NETWORK_LOG"] + ".loaded", "a").write(f"{os.getpid()}\\n")
"""


@pytest.fixture
def guarded(tmp_path: Path) -> Any:
    """Give a function that runs ``probe`` where no process may reach beyond the host."""
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(NO_NETWORK)
    log = tmp_path / "network.log"
    before = os.environ.get("PYTHONPATH")
    others = [str(Path(part).resolve()) for part in before.split(os.pathsep)] if before else []
    path = os.pathsep.join([str(guard), *others])
    environment = {**os.environ, "PYTHONPATH": path, "NETWORK_LOG": str(log)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "roofprobe", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert not log.exists(), log.read_text()
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def test_the_guard_against_the_network_works(guarded: Any, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "guard"),
                   "NETWORK_LOG": str(tmp_path / "l")}  # fmt: skip
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode != 0
    assert (tmp_path / "l").read_text() == "look up 192.0.2.1\n"


@pytest.mark.whole
@pytest.mark.timeout(300)
def test_a_run_and_what_is_made_of_it_need_no_network(guarded: Any, tmp_path: Path) -> None:
    done = guarded("compute", "--tier", "quick", "--precision", "fp32", "--time-budget", "8s",
                   "--out", "reports", "--quiet")  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    loaded = (tmp_path / "network.log.loaded").read_text().split()
    assert len(set(loaded)) >= 3, "the command, the look for devices and the worker are guarded"
    for arguments in (
        ("show", "reports/latest", "--full"), ("bundle", "reports/latest"), ("doctor",),
        ("peaks", "H100 SXM"), ("schema",),
        ("plan", "--model", "llama-3.1-8b", "--gpu", "H100 SXM"),
    ):  # fmt: skip
        done = guarded(*arguments)
        assert done.returncode in ((0, 1, 3) if arguments == ("doctor",) else (0,)), done.stderr
    guarded("export", "reports/latest", "--to", "llm-analysis", "--out", "planner")


@pytest.mark.whole
@pytest.mark.timeout(300)
def test_ranks_of_one_host_speak_through_the_loopback_device(
    guarded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roofprobe.probes.rank_watch import _rank_environment

    elsewhere = {"GLOO_SOCKET_IFNAME": "eth0"}
    assert _rank_environment(elsewhere, 0, 2)["GLOO_SOCKET_IFNAME"] == "lo"
    done = guarded("interconnect", "--tier", "quick", "--out", "reports", "--quiet")
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "reports")
    ranks = [m for m in run.measurements if m.case.route == "gloo"]
    assert {m.status for m in ranks} == {"ok"}, ranks


@pytest.fixture
def hostile(documents: ModuleType) -> Run:
    """Give a record whose every text is hostile, a different one each time."""
    count = iter(range(10**9))

    def text() -> str:
        return HOSTILE[next(count) % len(HOSTILE)]

    record = documents.fill(Run, text)
    for name in ("devices", "measurements", "headlines", "ceilings", "support", "events"):
        kind = Run.model_fields[name].annotation
        record[name] = [documents.fill(kind, text)[0] for _ in HOSTILE]
    for index, device in enumerate(record["devices"]):
        device["device_id"] = f"{HOSTILE[index]}{index}"
        for part in ("measurements", "headlines", "ceilings", "support", "events"):
            record[part][index]["device_id"] = device["device_id"]
    return Run.model_validate(record)


class Tags(HTMLParser):
    """What a browser would see: elements, attributes, text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.n_scripts = 0
        self.attributes: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.n_scripts += tag == "script"
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in ("href", "src")}


def steering(text: str) -> set[str]:
    """Return characters that steer a terminal, hide, or turn the direction of text."""
    controls = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
    return set(re.findall(controls, text))


def test_hostile_names_are_text_in_html(hostile: Run) -> None:
    page = to_html(hostile)
    seen = Tags()
    seen.feed(page)
    assert seen.n_scripts == 1  # the page's own, which its policy names by hash
    assert page.count("<script>") == page.count("</script>") == 1
    assert not seen.tags & {"img", "iframe", "object", "embed", "link", "base", "form"}
    assert not [name for name in seen.attributes if name.startswith("on")]
    assert not [link for link in seen.links if not link.startswith("#")]
    assert steering(page) == set()
    assert "&lt;script&gt;" in page
    assert "{{7*7}}" in page, "what looks like a template is no template"


def test_hostile_names_are_text_in_markdown(hostile: Run) -> None:
    text = to_markdown(hostile)
    outside_of_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert not re.search(r"<(script|img)", outside_of_code)
    assert not re.search(r"(?<!\\)\]\(", outside_of_code), "no link of theirs"
    assert steering(text) == set()
    heads = [line for line in text.splitlines() if re.fullmatch(r"\|( ?-+:? ?\|)+", line)]
    assert heads, "there are tables"
    columns = 0
    for line in text.splitlines():
        if line.startswith("|"):
            found = len(re.findall(r"(?<!\\)\|", line))
            assert columns in (0, found), line
            columns = found
        else:
            columns = 0


@pytest.mark.parametrize("full", [False, True])
def test_hostile_names_are_text_in_a_terminal(hostile: Run, full: bool) -> None:
    out = io.StringIO()
    render_run(hostile, Console(file=out, width=120, force_terminal=False), full=full)
    assert steering(out.getvalue()) == set()


def test_hostile_names_stay_in_their_cell_of_the_csv(hostile: Run) -> None:
    import pandas as pd

    frame = pd.read_csv(io.BytesIO(measurements_csv(hostile)))
    assert len(frame) == len(hostile.measurements) + len(hostile.retests)


@pytest.mark.parametrize("host", ["../../etc", "/abs", "a\0b", "..", "", "x" * 500, "a\nb", "~"])
def test_a_hosts_name_never_leads_out_of_the_folder(tmp_path: Path, host: str) -> None:
    folder = new_run_folder(tmp_path, "2026-01-01T00:00:00+00:00", host)
    assert folder.parent == tmp_path
    assert folder.resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize("planner", sorted(n for n, each in PLANNERS.items() if each.export))
def test_an_export_never_writes_outside_of_its_folder(tmp_path: Path, planner: str) -> None:
    """Names of devices and models come from files, and become names of files."""
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
              "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
              "num_hidden_layers": 2, "vocab_size": 128256}  # fmt: skip
    model = tmp_path / "models" / "..evil"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(config))
    known = default_calibration("H100 SXM")
    device = known.device.model_copy(update={"name": "../../../evil", "catalogue_key": None})
    file = CalibrationFile(devices=(device,), provenance=tuple(known.provenance))
    source = tmp_path / "calibration.json"
    source.write_bytes(calibration_bytes(file))
    before = {path for path in tmp_path.rglob("*")}
    out = tmp_path / "a" / "out"
    export(source, planner, out, models=(str(model),), degrees=(1,))
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert made
    assert [path for path in made if not path.is_relative_to(out)] == []


def test_a_name_that_leads_out_of_the_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = dataclasses.replace(
        PLANNERS["calculon"], export=lambda subject: Export({"../../evil.json": b"{}"})
    )
    monkeypatch.setattr("roofprobe.costmodel.export.planner_of", lambda name: planner)
    known = default_calibration("H100 SXM")
    source = tmp_path / "calibration.json"
    file = CalibrationFile(devices=(known.device,), provenance=tuple(known.provenance))
    source.write_bytes(calibration_bytes(file))
    with pytest.raises(RoofprobeError, match="would be written outside"):
        export(source, "calculon", tmp_path / "a" / "b")
    assert not (tmp_path / "evil.json").exists()


def test_a_run_folder_is_written_below_out_only(tmp_path: Path, hostile: Run) -> None:
    folder = new_run_folder(tmp_path, "2026-01-01T00:00:00+00:00", hostile.environment.host)
    write_run(folder, hostile)
    assert {path.name for path in folder.iterdir()} == {"run.json"}
    assert read_run(folder).devices[0].name == hostile.devices[0].name
