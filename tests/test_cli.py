"""The command as a user meets it: one document, one sentence, the right exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from roofprobe.costmodel.calibration_file import calibration_json_schema
from roofprobe.costmodel.validation import validation_json_schema
from roofprobe.kernels.rows import ROWS, select
from roofprobe.records.schema import run_json_schema

pytestmark = pytest.mark.whole

OP_TABLE = Path(__file__).parent / "costmodel" / "data" / "gemm.csv"
PROBE = (sys.executable, "-m", "roofprobe")
# The whole command with little time per case: every row, route, search and follow-up is there. A
# stream's arrays are as small as the caches allow: most of a brief case's time goes into the pages.
BRIEF = """
from dataclasses import replace
from roofprobe.probes import memory, plan
from roofprobe.probes.measure import Policy

brief = Policy(0.001, 0.0, 0.01, 0.03, min_samples=3)
plan._BURST[("cpu", "quick")] = plan._BRIEF["cpu"] = brief
plan._SETTLED["quick"] = replace(brief, warmup_s=0.05)
plan._SEARCH_S[("cpu", "quick")] = 0.1
memory._CPU_ARRAY_BYTES = 0
from roofprobe.cli import main
main()
"""


def probe(*arguments: str | Path, timeout_s: float = 500) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return subprocess.run(
        [*PROBE, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s, env=kept
    )


QuickRun = tuple[Path, dict[str, Any], str]


def brief(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BRIEF, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def quick_run(
    tmp_path_factory: pytest.TempPathFactory,
    every_core: Callable[[], AbstractContextManager[None]],
) -> QuickRun:
    """Run the whole command once, at tier quick on the whole host, as JSON."""
    out = tmp_path_factory.mktemp("reports")
    with every_core():
        done = brief(
            *("all", "--out", out, "--tier", "quick"),
            *("--device", "cpu", "--sweep", "layouts", "--json"),
        )
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout), done.stderr


def compute_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [m for m in document["measurements"] if m["case"]["family"] == "compute"]


def test_all_prints_one_document_that_its_schema_accepts(quick_run: QuickRun) -> None:
    _, document, _ = quick_run
    jsonschema.validate(document, run_json_schema(), jsonschema.Draft202012Validator)
    assert document["status"] == "complete"


def test_every_row_is_measured_or_skipped_with_a_reason(quick_run: QuickRun) -> None:
    _, document, _ = quick_run
    groups = {row.name: [m for m in compute_rows(document) if m["case"]["row"] == row.name]
              for row in ROWS}  # fmt: skip
    for name in ("fp64", "fp32", "bf16", "fp16", "fp8", "fp8-rowwise", "int8"):
        rates = [m["rate"]["median"] for m in groups[name]
                 if m["status"] == "ok" and m["case"]["role"] == "anchor"]  # fmt: skip
        assert rates, name
        assert min(rates) > 0
    for name, group in groups.items():
        assert group, name
        for m in group:
            assert m["status"] in ("ok", "skipped"), (m["case"]["case_id"], m.get("reason"))
            if m["status"] == "skipped":
                assert m["reason"]["code"]
                assert m["reason"]["sentence"]


def test_every_row_s_support_is_told(quick_run: QuickRun) -> None:
    _, document, _ = quick_run
    support = {row["row"]: row for row in document["support"]}
    assert len(support) == len(document["support"]), "each row once"
    assert set(support) == {row.name for row in ROWS}
    for row in support.values():
        if row["status"] == "ok":
            assert row["route"]
        else:
            assert row["reason"]["sentence"]
    for name in ("fp32", "bf16", "int8", "fp8"):
        assert support[name]["status"] == "ok"
    for name in ("tf32", "nvfp4", "mxfp8", "int4", "bf16-sparse", "fp8-fast"):
        assert support[name]["status"] == "skipped"
        assert support[name]["reason"]["remedy"], name


def test_a_search_keeps_its_path_and_everything_follows_at_the_shape_it_found(
    quick_run: QuickRun,
) -> None:
    _, document, _ = quick_run
    rows = compute_rows(document)
    searches = {m["case"]["row"]: m for m in rows if m["case"]["role"] == "search"}
    found = {name: m["search"] for name, m in searches.items() if m["status"] == "ok"}
    assert set(found) == {"fp64", "fp32", "bf16", "fp16", "fp8", "fp8-rowwise", "int8"}
    for name, search in found.items():
        assert search["steps"], name
        assert search["best"], name
        assert search["best_tflops"] > 0
        m, n, k = search["best"]
        assert searches[name]["flops"] == 2 * m * n * k
        followers = [row for row in rows if row["case"]["row"] == name
                     and row["case"]["role"] in ("route", "layout")]  # fmt: skip
        assert {tuple(row["case"]["shape"].values()) for row in followers} == {(m, n, k)}
        assert {row["case"]["role"] for row in followers} == {"route", "layout"}
    (settled,) = [row for row in rows if row["case"]["role"] == "settled"]
    headline = next(h for h in document["headlines"] if h["label"] == "fp32")
    assert headline["settled_case_id"] == settled["case"]["case_id"]
    best = next(row for row in rows if row["case"]["case_id"] == headline["case_id"])
    for field in ("row", "route", "shape"):
        assert settled["case"][field] == best["case"][field], "the headline itself settles"
    order = [m["case"] for m in rows]
    at = next(
        i for i, case in enumerate(order) if (case["role"], case["row"]) == ("search", "fp32")
    )
    assert order[at + 1]["role"] == "route", "what follows comes right after its search"


def test_the_kernel_that_ran_is_named(quick_run: QuickRun) -> None:
    _, document, _ = quick_run
    named = [
        m
        for m in compute_rows(document)
        if m["status"] == "ok" and m["case"]["role"] in ("anchor", "route", "layout")
    ]
    assert named
    for m in named:
        assert m["identity"].get("names") or m["identity"]["missing"], m["case"]["case_id"]


def test_every_memory_kernel_is_measured_and_the_copy_engine_skipped(
    quick_run: QuickRun,
) -> None:
    _, document, _ = quick_run
    rows = [m for m in document["measurements"] if m["case"]["family"] == "memory"]
    ok = {m["case"]["op"] for m in rows if m["status"] == "ok"}
    assert ok == {"read", "write", "copy", "scale", "add", "triad", "dot", "nstream"}
    assert {m["reason"]["code"] for m in rows if m["case"]["engine"] == "copy-engine"} == {
        "no-copy-engine"
    }
    for m in rows:
        if m["status"] == "ok":
            assert m["case"]["convention"] == "read+write"
            moved = m["bytes_read"] + m["bytes_written"]
            assert m["rate"]["median"] == pytest.approx(moved / m["latency"]["median"] / 1e3)


def test_a_measurement_carries_its_conditions(
    quick_run: QuickRun,
) -> None:
    _, document, _ = quick_run
    for m in document["measurements"]:
        if m["status"] != "ok":
            continue
        assert m["correctness"]["error"] <= m["correctness"]["tolerance"]
        if m["case"]["op"] == "stability":
            continue  # nothing is timed there
        assert len(m["samples_us"]) == m["latency"]["n"] >= 3
        assert m["correctness"]["error"] <= m["correctness"]["tolerance"]
        assert m["latency"]["ci_low"] <= m["latency"]["median"] <= m["latency"]["ci_high"]
        if "ranks" in m["case"]["shape"]:
            continue  # several processes, with clocks of their own
        assert m["timing"]["timer"].startswith("wall clock")
        assert m["telemetry"]["n_samples"] >= 2


def test_no_datasheet_is_invented_for_the_cpu(
    quick_run: QuickRun,
) -> None:
    _, document, _ = quick_run
    assert {ceiling["kind"] for ceiling in document.get("ceilings", [])} <= {"derived"}
    assert not any(ceiling["physical_bound"] for ceiling in document.get("ceilings", []))


def test_the_run_folder_holds_its_files(quick_run: QuickRun) -> None:
    out, document, _ = quick_run
    folder = out / "latest"
    assert json.loads((folder / "run.json").read_text()) == document
    assert "<html" in (folder / "report.html").read_text()
    assert (folder / "report.md").read_text().startswith("#")
    header, *rows = (folder / "measurements.csv").read_text().splitlines()
    assert "median_us" in header
    assert len(rows) == len(document["measurements"])
    factors = json.loads((folder / "calibration.json").read_text())
    jsonschema.validate(factors, calibration_json_schema())
    assert factors["devices"][0]["gemm"]["fp32"]["achieved"] > 0


def test_progress_goes_to_standard_error(quick_run: QuickRun) -> None:
    _, document, progress = quick_run
    first, *_, last = progress.splitlines()
    assert "cases on cpu" in first
    count = len(document["measurements"]) + len(document["retests"])
    assert last.startswith(f"{count} cases done in ")


def test_show_prints_tables_within_100_columns(
    quick_run: QuickRun,
) -> None:
    shown = probe("show", quick_run[0])
    assert shown.returncode == 0, shown.stderr
    for word in ("fp32", "bf16", "triad", "copy", "skipped"):
        assert word in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100


def test_show_as_json_is_the_record(quick_run: QuickRun) -> None:
    assert json.loads(probe("show", quick_run[0], "--json").stdout) == quick_run[1]


def test_resuming_a_complete_run_with_json_measures_nothing(
    quick_run: QuickRun,
) -> None:
    out, document, _ = quick_run
    again = json.loads(brief("all", "--out", out, "--resume", "--json", "--quiet").stdout)
    assert again["measurements"] == document["measurements"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--precision", "fp13"), "unknown-precision", "no precision 'fp13'; choose from all, "),
        (("--precision", "bf16,fp8-colwise"), "unknown-precision", "fp8-rowwise, fp8-blockwise"),
        (("--precision", "half,"), "unknown-precision", "half, 8bit, 4bit, integer, serving"),
        (("--precision", ""), "unknown-precision", "needs a name, such as bf16"),
        (("--search", "grid"), "unknown-search", "one of halving, exhaustive, none"),
        (("--sweep", "layouts,shapes"), "unknown-sweep", "no sweep 'shapes'"),
        (("--tier", "fast"), "unknown-tier", "quick, standard, soak"),
        (("--device", "cuda:99"), "unknown-device", "cpu"),
        (("--device", "GPU-0000"), "unknown-device", "there is no device 'GPU-0000'"),
        (("--time-budget", "soon"), "bad-time-budget", "90s, 5m or 1h"),
        (("--resume",), "nothing-to-resume", "no run to resume"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], code: str, words: str
) -> None:
    done = probe("all", "--out", tmp_path, "--json", "--quiet", *arguments)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] == code
    assert words in error["sentence"]
    assert done.stderr == f"probe: {error['sentence']}\n"
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*/run.json"))


def test_an_unknown_option_is_a_usage_error() -> None:
    done = probe("all", "--fastest")
    assert done.returncode == 2
    assert "--fastest" in done.stderr
    assert "Traceback" not in done.stderr


def test_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "reports"
    file.write_text("")
    done = probe("all", "--out", file)
    assert done.returncode == 2
    assert done.stderr == f"probe: --out {file} is a file; name a folder\n"


def test_a_really_full_out_is_refused() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    done = probe("all", "--out", full)
    assert done.returncode == 2
    assert "is a file; name a folder" in done.stderr


def test_two_runs_into_one_folder_at_once_end_in_one_run(tmp_path: Path) -> None:
    arguments = [*PROBE, "compute", "--out", str(tmp_path), "--precision", "fp64-vector", "--quiet"]
    arguments += ["--tier", "quick", "--device", "cpu"]
    first, second = (
        subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) for _ in range(2)
    )
    errors = [process.communicate(timeout=400)[1] for process in (first, second)]
    assert sorted((first.returncode, second.returncode)) == [0, 2]
    assert "another run (process" in "".join(errors)
    assert len(list(tmp_path.glob("2*/journal.jsonl"))) == 1


@pytest.mark.parametrize(
    "words", ["vector", "4bit,int4", "nvfp4, int4 ,fp16-vector"], ids=["group", "groups", "mixed"]
)
def test_groups_precisions_and_rows_choose_what_is_measured(tmp_path: Path, words: str) -> None:
    done = brief("compute", "--out", tmp_path, "--device", "cpu", "--tier", "quick",
                 "--precision", words, "--search", "none", "--json", "--quiet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    asked = tuple(word.strip() for word in words.split(","))
    assert document["options"]["precisions"] == list(dict.fromkeys(asked))
    assert document["options"]["search"] == "none"
    rows = [m["case"]["row"] for m in document["measurements"]]
    assert set(rows) == {row.name for row in select(asked)}
    assert "search" not in {m["case"]["role"] for m in document["measurements"]}


def test_the_llm_command_measures_operations_alone_and_one_precision_if_asked(
    tmp_path: Path,
) -> None:
    done = brief("llm", "--out", tmp_path, "--device", "cpu", "--tier", "quick", "--json",
                 "--precision", "fp32")  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, run_json_schema(), jsonschema.Draft202012Validator)
    measured = document["measurements"]
    assert {m["case"]["family"] for m in measured} == {"llm"}
    assert {m["case"]["precision"] for m in measured} == {"fp32"}
    assert {m["status"] for m in measured} == {"ok"}
    labels = {headline["label"] for headline in document["headlines"]}
    assert labels == {"decode GEMM fp32", "prefill attention fp32", "decode attention fp32"}


def test_a_whole_run_has_the_operations_of_language_models(quick_run: QuickRun) -> None:
    _, document, _ = quick_run
    found = [m for m in document["measurements"] if m["case"]["family"] == "llm"]
    assert {m["status"] for m in found} == {"ok"}
    attention = [m for m in found if m["case"]["op"] == "attention_decode"]
    assert {m["case"]["kv_precision"] for m in attention} == {"fp32"}


def test_the_memory_command_knows_no_precision() -> None:
    done = probe("memory", "--precision", "bf16")
    assert done.returncode == 2
    assert "--precision" in done.stderr


def test_a_closed_pipe_is_no_error(quick_run: QuickRun) -> None:
    with subprocess.Popen(
        [*PROBE, "show", str(quick_run[0]), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("arguments", [(), ("H20 96G",), ("T4", "--json"), ("--json",)])
def test_peaks_answers(arguments: tuple[str, ...]) -> None:
    done = probe("peaks", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if "--json" in arguments:
        json.loads(done.stdout)


def test_an_unknown_accelerator_is_one_sentence() -> None:
    done = probe("peaks", "H999", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "unknown-accelerator"


def test_the_printed_schema_is_the_published_one() -> None:
    assert json.loads(probe("schema").stdout) == run_json_schema()


def test_the_schema_of_the_calibration_is_printed_too() -> None:
    assert json.loads(probe("schema", "calibration").stdout) == calibration_json_schema()
    assert json.loads(probe("schema", "validation").stdout) == validation_json_schema()
    done = probe("schema", "nonesuch")
    assert done.returncode == 2
    assert "run, calibration, validation" in done.stderr


def test_calibrate_fits_a_table_prints_it_and_writes_the_file(tmp_path: Path) -> None:
    out = tmp_path / "calibration.json"
    done = probe("calibrate", OP_TABLE, "--out", out, "--gpu", "A100 SXM 80GB")
    assert done.returncode == 0, done.stderr
    assert "NVIDIA A100 SXM4 80GB" in done.stdout
    assert "gemm (vllm_default)" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100
    document = json.loads(out.read_text())
    jsonschema.validate(document, calibration_json_schema())
    assert document["devices"][0]["ops"][0]["held_out"]["sites"] == 6


def test_calibrate_as_json_prints_the_file(tmp_path: Path) -> None:
    out = tmp_path / "calibration.json"
    arguments = ("--gpu", "H100 SXM", "--framework", "sglang", "--json")
    done = probe("calibrate", OP_TABLE, "--out", out, *arguments)
    assert done.stdout == out.read_text()


def test_calibrate_takes_a_run(quick_run: QuickRun, tmp_path: Path) -> None:
    out = tmp_path / "calibration.json"
    done = probe("calibrate", quick_run[0], "--out", out, "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads(out.read_text())["devices"][0]["device_id"] == "cpu"


def test_a_table_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b\n1,2\n")
    done = probe("calibrate", table, "--out", tmp_path / "c.json")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "op_name" in done.stderr


def test_doctor_judges_this_host(tmp_path: Path) -> None:
    done = probe("doctor", "--json", "--out", tmp_path)
    assert done.returncode in (0, 1, 3), done.stderr
    assert json.loads(done.stdout)


def test_no_color_is_respected(quick_run: QuickRun) -> None:
    done = subprocess.run(
        [*PROBE, "show", str(quick_run[0])],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": ""},
    )
    assert "\x1b[" not in done.stdout


def test_a_reader_that_goes_away_neither_passes_nor_fails() -> None:
    command = f"{sys.executable} -m roofprobe peaks | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode in (0, 141), done.stderr  # 0 where all was written before head ended
    assert done.stderr == ""
