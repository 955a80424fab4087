"""``probe compare`` as a user meets it: exit codes, documents, hostile names, any two runs."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from roofprobe.acceptance.compare.comparison import (
    ComparedHeadline,
    Comparison,
    comparison_json_schema,
)
from roofprobe.acceptance.compare.judge import compare, compare_runs, exit_code
from roofprobe.acceptance.compare.options import families_of, share_of
from roofprobe.acceptance.compare.sides import Runs
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Run
from roofprobe.reporting.compare_markdown import to_markdown
from roofprobe.reporting.compare_view import render, to_json

HOSTILE = "GPU\x1b[31m|`<script>alert(1)</script>\u202e\n# title"


def probe(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roofprobe", "compare", *map(str, arguments)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture(scope="module")
def sides(built: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write a run, and one of which a kernel is 10 % slower, another faster, and one is gone."""
    folder = tmp_path_factory.mktemp("sides")
    names = ("bf16/1", "fp16/1", "fp8/1", "int8/1")
    a = built.run([built.measured(name, built.steady(100)) for name in names])
    b = built.slower(built.slower(a, 1.1, only="bf16"), 0.8, only="fp8", run_id="b")
    b = b.model_copy(update={"measurements": b.measurements[:3]})
    return built.write(folder / "a", a), built.write(folder / "b", b)


def test_the_table_tells_what_changed_and_ends_with_the_summary(sides: tuple[Path, Path]) -> None:
    done = probe(*sides)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    slow = next(i for i, line in enumerate(lines) if "bf16/1" in line)
    fast = next(i for i, line in enumerate(lines) if "fp8/1" in line)
    assert slow < fast, "slower rows come first"
    assert re.search(r"bf16/1 +100 µs +110 µs +1\.100", lines[slow])
    assert "No proven change: 1 row (--all lists them)" in lines
    assert "only in A, 1 row: B has no such case: int8/1" in lines
    assert lines[-1] == (
        "3 rows compared: 1 slower, 1 faster, 1 without a proven change, 0 ambiguous"
    )
    assert not any("fp16/1" in line for line in lines)
    assert "fp16/1" in probe(*sides, "--all").stdout


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--fail-on", "5%"), 1),
        (("--fail-on", "0.05"), 1),
        (("--fail-on", "20%"), 0),
        (("--fail-on", "5"), 2),
        (("--fail-on", "much"), 2),
        (("--family", "memory"), 3),
        (("--family", "memory", "--fail-on", "5%"), 3),
        (("--family", "colour"), 2),
        (("--json", "--markdown"), 2),
        (("--unknown",), 2),
    ],
)
def test_exit_codes(sides: tuple[Path, Path], options: tuple[str, ...], code: int) -> None:
    done = probe(*sides, *options)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_side_is_one_sentence_and_exit_2(sides: tuple[Path, Path]) -> None:
    done = probe(sides[0], sides[0] / "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("probe: there is no run at ")
    asked = probe(sides[0], sides[0] / "nowhere", "--json")
    assert json.loads(asked.stdout)["error"]["code"] == "not-a-run"


def test_json_is_one_document_that_its_schema_accepts(sides: tuple[Path, Path]) -> None:
    done = probe(*sides, "--json", "--fail-on", "5%")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    jsonschema.validate(document, comparison_json_schema(), jsonschema.Draft202012Validator)
    assert document["regressions"] == ["bf16/1"]
    assert document["changed_share"] == pytest.approx(2 / 3)
    assert document["counts"] == {"faster": 1, "only-a": 1, "slower": 1, "~": 1}
    assert Comparison.model_validate(document) == compare(*sides, fail_on=0.05)


def test_the_schema_command_prints_the_schema_of_a_comparison() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "roofprobe", "schema", "comparison"], capture_output=True, text=True
    )
    assert json.loads(done.stdout) == json.loads(json.dumps(comparison_json_schema()))


def test_markdown_begins_with_the_summary_and_folds_what_did_not_change(
    sides: tuple[Path, Path],
) -> None:
    done = probe(*sides, "--markdown")
    assert done.returncode == 0
    assert done.stdout.startswith("# roofprobe: A compared with B\n\n**3 rows compared: 1 slower")
    assert "| `bf16/1` | 100 µs | 110 µs | 1.100 |" in done.stdout
    assert "<details><summary>No proven change: 1 row</summary>" in done.stdout


def rendered(comparison: Comparison, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    render(comparison, Console(file=file, width=100, highlight=False), full=True)
    file.flush()
    return raw.getvalue().decode(encoding)


def test_each_table_says_beneath_it_what_its_ratio_is(sides: tuple[Path, Path]) -> None:
    best = ComparedHeadline(
        pair=0, family="compute", label="bf16", title="bf16 dense", unit="TFLOPS", a=1.0, b=2.0,
        ratio=2.0,
    )  # fmt: skip
    found = compare(*sides).model_copy(update={"headlines": (best,)})
    for text in (rendered(found), to_markdown(found)):
        places = [
            text.index(words)
            for words in ("bf16/1", "time over time", "Best rates", "bf16 dense", "rate over rate")
        ]
        assert places == sorted(places)


def test_hostile_names_are_only_text_in_every_output(built: ModuleType) -> None:
    def at(us: float, run_id: str) -> Run:
        m = built.measured("x", built.steady(us)).model_dump()
        m["case"]["case_id"] = HOSTILE
        environment = {"host": HOSTILE + run_id, "torch": "[bold]" + run_id}
        devices = [built.device(name=HOSTILE)]
        found = built.run([], devices=devices, run_id=run_id, environment=environment)
        assert isinstance(found, Run)
        return Run.model_validate(found.model_dump() | {"measurements": [m]})

    a, b = Runs(Path(HOSTILE), (at(1, "a"),)), Runs(Path("b"), (at(2, "b"),))
    found = compare_runs(a, b)
    assert found.counts == {"slower": 1}
    for encoding in ("utf-8", "ascii"):
        text = rendered(found, encoding)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[bold]a in A" in text, "nothing is read as markup"
        assert not any(line.startswith("# title") for line in text.splitlines())
    markdown = to_markdown(found)
    assert "\x1b" not in markdown
    assert "\u202e" not in markdown
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown)  # code spans
    assert "<script>" not in outside
    assert "\n# title" not in markdown
    assert json.loads(to_json(found))["rows"][0]["key"] == HOSTILE


@pytest.mark.parametrize(
    ("text", "value"), [("5%", 0.05), ("0.05", 0.05), ("0%", 0), ("250%", 2.5)]
)
def test_a_bound_is_a_share(text: str, value: float) -> None:
    assert share_of(text) == value


@pytest.mark.parametrize("text", ["5", "-1%", "nan", "inf%", "", "%", "1e9%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(RoofprobeError, match="is no share"):
        share_of(text)


def test_families_are_named_with_commas() -> None:
    assert families_of("compute, memory") == ("compute", "memory")
    for text in ("", ",", "compute,colour"):
        with pytest.raises(RoofprobeError, match="there is no family"):
            families_of(text)


finite = st.floats(0, 1e308) | st.sampled_from([0.0, 5e-324, 1e-9, 1.0, 1e12, 1e308])
few = st.sampled_from


@st.composite
def measurements(draw: st.DrawFn) -> dict[str, Any]:
    status = draw(few(["ok", "ok", "ok", "skipped", "failed", "invalid"]))
    family, op = draw(few([("compute", "gemm"), ("memory", "copy"), ("latency", "chase"),
                           ("interconnect", "p2p")]))  # fmt: skip
    samples = draw(st.lists(finite, max_size=8))
    median = draw(finite)
    spread = {"median": median, "ci_low": draw(finite), "ci_high": draw(finite), "p10": median,
              "p90": median, "best": median, "n": 1}  # fmt: skip
    clock = draw(finite)
    return {
        "case": {
            "case_id": draw(few(["a", "b/64x64x64", "c/GPU-2", ""])), "family": family, "op": op,
            "precision": "bf16", "route": "r",
            "shape": draw(few([{}, {"m": 64, "n": 64, "k": 64}])),
            "role": draw(few(["anchor", "route", "search", "settled"])),
            "peer": draw(few([None, {"device_id": "GPU-2", "torch_device": "cuda:1"}])),
        },
        "device_id": draw(few(["GPU-1", "GPU-2", "cpu"])),
        "status": status,
        "samples_us": samples,
        "latency": draw(few([None, {"unit": "us", **spread}])),
        "access_ns": draw(few([None, {"unit": "ns", **spread}])),
        "rate": draw(few([None, {"unit": "GB/s", **spread}])),
        "clock_mhz": draw(few([None, {"min": clock, "median": clock, "max": clock}])),
        "flops": draw(few([None, 0, 5])),
        "notes": draw(few([[], [{"code": "not-alone", "sentence": "s"}]])),
    }  # fmt: skip


@st.composite
def sides_of_runs(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [
        {
            "measurements": draw(st.lists(measurements(), max_size=6)),
            "devices": draw(st.lists(few(["GPU-1", "GPU-2", "cpu"]), max_size=3, unique=True)),
            "method_version": draw(few([1, 1, 1, 2])),
        }
        for _ in range(draw(st.integers(1, 3)))
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sides_of_runs(), sides_of_runs())
def test_any_two_valid_sides_compare_without_an_exception(
    built: ModuleType, a: list[dict[str, Any]], b: list[dict[str, Any]]
) -> None:
    def read(side: list[dict[str, Any]], letter: str) -> Runs:
        runs = []
        for number, parts in enumerate(side):
            devices = [
                built.processor() if name == "cpu" else built.device(name, index=i)
                for i, name in enumerate(parts["devices"])
            ]
            base = built.run([], devices=devices, run_id=f"{letter}{number}").model_dump()
            base |= {key: parts[key] for key in ("measurements", "method_version")}
            runs.append(Run.model_validate(base))
        return Runs(Path(letter), tuple(runs))

    left, right = read(a, "a"), read(b, "b")
    found = compare_runs(left, right, fail_on=0.05)
    document = json.loads(to_json(found))
    jsonschema.validate(document, comparison_json_schema(), jsonschema.Draft202012Validator)
    assert rendered(found)
    assert to_markdown(found)
    assert exit_code(found) in (0, 1, 3)
    assert found.compared == sum(row.verdict in ("slower", "faster", "~", "ambiguous")
                                 for row in found.rows)  # fmt: skip
    for side in (left, right):
        keys = {m.case.case_id for run in side.runs for m in run.measurements if m.status == "ok"}
        assert len(found.rows) >= len(keys), "no row is dropped"
    for row in found.rows:
        assert row.reasons or row.verdict in ("slower", "faster", "~")
        assert row.ratio is None or math.isfinite(row.ratio)
