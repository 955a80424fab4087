"""What a terminal gets: no line wider than it is, in any encoding, and no figure lost for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
from rich.cells import cell_len

from roofprobe.costmodel.calibrate import calibrate
from roofprobe.costmodel.calibration_file import calibration_bytes
from roofprobe.records.runfolder import write_run
from roofprobe.records.schema import Run

PROBE = (sys.executable, "-m", "roofprobe")
TABLE = Path(__file__).parent / "costmodel" / "data" / "gemm.csv"

# Every command that prints a table → what must be in it at any width.
TABLES: dict[str, tuple[list[str], list[str]]] = {
    "show": (["show", "RUN"], ["794 TFLOPS", "1403 TFLOPS", "3180 GB/s", "80%", "95%", "PASS"]),
    "show one": (["show", "ONE"], ["794 TFLOPS", "3180 GB/s", "copy fp32 (copy engine)", "80%"]),
    "show --full": (["show", "ONE", "--full"], ["794 TFLOPS", "3180 GB/s", "80%", "95%", "PASS"]),
    "check": (["check", "RUN"], ["PASS"]),
    "check --full": (["check", "RUN", "--full"], ["PASS", "RP-"]),
    "compare": (["compare", "RUN", "ONE", "--all"], ["B/A", "bf16"]),
    "peaks": (["peaks"], ["H100 SXM5 80GB", "3350", "989.4"]),
    "peaks NAME": (["peaks", "H20 96G"], ["148", "296", "4000"]),
    "plan": (["plan", "--model", "llama-3.1-8b", "--gpu", "H100 SXM5 80GB"], ["TTFT", "TPOT"]),
    "plan --list": (["plan", "--list-calibrations"], ["NVIDIA H100 SXM5 80GB"]),
    "calibrate": (["calibrate", str(TABLE), "--out", "OUT/c.json"], ["Sites", "p90"]),
    "doctor": (["doctor", "--out", "OUT"], ["Python", "torch"]),
    "bundle": (["bundle", "ONE", "--out", "OUT/b.zip"], ["run.json"]),
    "export": (
        ["export", "FILE", "--to", "genz", "--gpu", "A100 SXM4 80GB", "--out", "OUT/genz"],
        ["prefill.json"],
    ),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give folders: a run of eight H100s (published figures), one alone, and one to fill."""
    name = "tests.support.h100_run"
    spec = util.spec_from_file_location(name, Path(__file__).parent / "support" / "h100_run.py")
    assert spec is not None
    assert spec.loader is not None
    maker = util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    found = {}
    for place, count in (("RUN", 8), ("ONE", 1)):
        folder = tmp_path_factory.mktemp("runs") / place
        folder.mkdir()
        run: Run = maker.run(count)
        write_run(folder, run)
        found[place] = str(folder)
    file = tmp_path_factory.mktemp("file") / "calibration.json"
    file.write_bytes(calibration_bytes(calibrate([TABLE]).file))
    return found | {"FILE": str(file), "OUT": str(tmp_path_factory.mktemp("out"))}


def said(places: dict[str, str], words: list[str], **environ: str) -> str:
    """Return what a command prints where nothing else is set."""
    filled = [places.get(word, word.replace("OUT/", f"{places['OUT']}/")) for word in words]
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    done = subprocess.run([*PROBE, *filled], capture_output=True, env=kept | environ, timeout=300)
    assert done.returncode in (0, 1, 3), done.stderr.decode()
    return done.stdout.decode(environ.get("PYTHONIOENCODING", "utf-8"))


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", TABLES)
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_lost(
    command: str, columns: int, places: dict[str, str]
) -> None:
    words, wanted = TABLES[command]
    encoding = {80: "ascii", 120: "utf-8"}[columns]
    text = said(places, words, COLUMNS=str(columns), PYTHONIOENCODING=encoding)
    folders = tuple(places.values())
    wide = [
        line
        for line in text.splitlines()
        # the path of a file is one word that can be copied
        if cell_len(line) > columns and not any(folder in line for folder in folders)
    ]
    assert wide == []
    assert [figure for figure in wanted if figure not in text] == []
    assert "\x1b" not in text


@pytest.mark.parametrize(("columns", "width"), [(None, 100), ("60", 60), ("0", 100), ("x", 100)])
def test_a_pipe_is_100_columns_wide_unless_columns_says_otherwise(
    columns: str | None, width: int, places: dict[str, str]
) -> None:
    environ = {} if columns is None else {"COLUMNS": columns}
    text = said(places, ["show", "ONE", "--full"], **environ)
    assert width - 10 < max(map(cell_len, text.splitlines())) <= width


@pytest.mark.parametrize(
    "words",
    [["show"], ["nothing"], ["show", "x", "--bogus"], ["plan", "--batch", "many"]],
    ids=" ".join,
)
def test_a_usage_error_is_a_json_document_too_where_one_was_asked_for(words: list[str]) -> None:
    plain = subprocess.run([*PROBE, *words], capture_output=True, text=True)
    asked = subprocess.run([*PROBE, *words, "--json"], capture_output=True, text=True)
    assert (plain.returncode, plain.stdout) == (2, "")
    assert asked.returncode == 2
    error = json.loads(asked.stdout)["error"]
    assert (error["code"], error["exit_code"]) == ("usage", 2)
    assert error["sentence"] in asked.stderr
    assert "Usage: " in asked.stderr
