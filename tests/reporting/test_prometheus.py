import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofprobe.acceptance.verdict.judge import verdict_of
from roofprobe.records.schema import Finding, Run, Verdict
from roofprobe.reporting.prometheus import metrics, prometheus_bytes

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = 'a"b\\c\nd}\r,e="f" # g \x00\x1b\u2028é🦉\\n{'
RUNS = ["judged_run", "example_run", "incomplete_run", "empty_run", "hostile_run", "compute_run"]
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')


class Series(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), text)


def read(data: bytes) -> list[Series]:
    """Read the text format strictly: one HELP and TYPE per metric, together, nothing twice."""
    text = data.decode("utf-8")
    assert text.endswith("\n")
    found: list[Series] = []
    helped: list[str] = []
    seen = set()
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            helped.append(line.split(" ", 3)[2])
            assert helped.count(helped[-1]) == 1
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {helped[-1]} gauge"
        else:
            series = read_series(line)
            assert series.name == helped[-1]
            key = (series.name, tuple(sorted(series.labels.items())))
            assert key not in seen
            seen.add(key)
            found.append(series)
    return found


def read_series(line: str) -> Series:
    match = NAME.match(line)
    assert match is not None
    place = match.end()
    labels: dict[str, str] = {}
    if line[place] == "{":
        while line[place] != "}":
            label = LABEL.match(line, place + 1)
            assert label is not None
            assert label[1] not in labels
            labels[label[1]] = unescaped(label[2])
            place = label.end()
            assert line[place] in ",}"
        place += 1
    assert line[place] == " "
    value = line[place + 1 :]
    assert re.fullmatch(r"-?[0-9.]+(e[+-]?[0-9]+)?", value), "no timestamp follows the value"
    return Series(match[0], labels, float(value))


def series_of(run: Run) -> list[Series]:
    return read(prometheus_bytes(run, verdict_of(run)))


@pytest.mark.parametrize("name", RUNS)
def test_the_file_can_be_read_strictly(name: str, request: pytest.FixtureRequest) -> None:
    names = {series.name for series in series_of(request.getfixturevalue(name))}
    assert {"roofprobe_last_run_time_seconds", "roofprobe_run_verdict"} <= names


def test_the_file_is_the_golden_one(judged_run: Run) -> None:
    text = prometheus_bytes(judged_run, verdict_of(judged_run)).decode()
    golden = GOLDEN / "judged_run.metrics.prom"
    if os.environ.get("ROOFPROBE_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_exactly_one_state_of_the_run_and_of_each_device_is_1(judged_run: Run) -> None:
    series = series_of(judged_run)
    states = [s.labels["state"] for s in series if s.name == "roofprobe_run_verdict" and s.value]
    assert states == ["fail"]
    devices = [s for s in series if s.name == "roofprobe_device_verdict"]
    assert len(devices) == 3 * 4
    assert [(s.labels.get("uuid"), s.labels["state"]) for s in devices if s.value] == [
        ("GPU-00000000-example", "unknown"),
        ("GPU-11111111-example", "fail"),
        (None, "pass"),
    ]


def test_rates_are_in_base_units(judged_run: Run) -> None:
    rates = {
        (s.labels["row"], s.labels["regime"]): (s.name, s.value)
        for s in series_of(judged_run)
        if s.labels.get("regime") and s.labels["device"] == "cuda:0"
    }
    assert rates["bf16", "burst"] == ("roofprobe_operations_per_second", 800e12)
    assert rates["int8", "burst"] == ("roofprobe_operations_per_second", 1234.5e12)
    assert rates["fp64 tensor", "settled"] == ("roofprobe_operations_per_second", 50e12)
    assert rates["copy", "burst"] == ("roofprobe_bytes_per_second", 2700e9)


def test_times_are_seconds_since_1970(judged_run: Run) -> None:
    values = {s.name: s.value for s in series_of(judged_run) if not s.labels}
    assert values["roofprobe_last_run_time_seconds"] == 946684980
    assert values["roofprobe_run_duration_seconds"] == 180
    assert values["roofprobe_run_complete"] == 1


def test_what_was_not_measured_has_no_series(incomplete_run: Run, judged_run: Run) -> None:
    names = {series.name for series in series_of(incomplete_run)}
    assert names == {
        "roofprobe_last_run_time_seconds", "roofprobe_run_complete", "roofprobe_run_info",
        "roofprobe_run_verdict", "roofprobe_device_verdict",
    }  # fmt: skip
    shares = [s for s in series_of(judged_run) if s.name == "roofprobe_datasheet_ratio"]
    assert {s.labels["device"] for s in shares} == {"cuda:0"}


def test_findings_are_counted_by_code_and_judgement(judged_run: Run) -> None:
    twice = verdict_of(judged_run).findings * 2
    run = judged_run.model_copy(update={"verdict": Verdict(judgement="fail", findings=twice)})
    found = {
        (s.labels.get("uuid"), s.labels["code"], s.labels["judgement"]): s.value
        for s in series_of(run)
        if s.name == "roofprobe_findings"
    }
    assert len(found) == 7
    assert found["GPU-11111111-example", "RP-COMPUTE", "fail"] == 2
    assert found[None, "RP-COMPLETE", "pass"] == 2


def test_the_time_of_a_load_is_in_seconds(judged_run: Run) -> None:
    first = next(m for m in judged_run.measurements if m.status == "ok")
    assert first.rate is not None
    chase = first.model_copy(
        update={
            "case": first.case.model_copy(
                update={"op": "chase", "shape": {"footprint_bytes": 1024}, "family": "latency"}
            ),
            "access_ns": first.rate.model_copy(update={"unit": "ns", "median": 500.0}),
        }
    )
    run = judged_run.model_copy(update={"measurements": (chase,)})
    (series,) = [s for s in series_of(run) if s.name == "roofprobe_access_latency_seconds"]
    assert series.value == pytest.approx(500e-9)
    assert (series.labels["op"], series.labels["footprint_bytes"]) == ("chase", "1024")


def test_the_documents_tell_every_metric_and_no_other(judged_run: Run) -> None:
    written = {metric.name for metric in metrics(judged_run, verdict_of(judged_run))}
    told = (Path(__file__).parents[2] / "docs/reading-a-verdict.md").read_text()
    assert set(re.findall(r"roofprobe_[a-z_]+", told)) == written


@pytest.mark.parametrize("text", [HOSTILE, "x" * 100_000, "", '"', "\\", "\n"])
def test_hostile_names_stay_inside_their_label(text: str, spoilt_run: Callable[[str], Run]) -> None:
    series = series_of(spoilt_run(text))
    codes = {s.labels.get("code", "") for s in series if s.name == "roofprobe_findings"}
    assert {code[:500] for code in codes} == {text[:500]}
    assert all(len(value) <= 512 for s in series for value in s.labels.values())


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=500))
def test_what_is_read_back_is_what_was_written(text: str) -> None:
    found = Finding(code=text, judgement="fail", layer="health", sentence="s")
    run = Run.model_validate(
        {
            "run_id": text, "status": "complete", "started_at": text,
            "options": {"families": ()},
            "environment": dict.fromkeys(("host", "os", "kernel", "python", "roofprobe"), text),
        }
    )  # fmt: skip
    series = read(prometheus_bytes(run, Verdict(judgement="fail", findings=(found,))))
    (info,) = [s for s in series if s.name == "roofprobe_run_info"]
    assert info.labels.get("run_id", "") == text
    (counted,) = [s for s in series if s.name == "roofprobe_findings"]
    assert counted.labels.get("code", "") == text
