"""The journal outlives its writer, is resumed for the same figures only, and repeats nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roofprobe import __version__
from roofprobe.fleet_run import journal
from roofprobe.fleet_run.asked import Asked
from roofprobe.fleet_run.slots import Outcome
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import METHOD_VERSION

FIGURES = Asked(family="compute", tier="quick").figures()


def begun(out: Path, *outcomes: Outcome) -> Path:
    """Write a journal of one node with three GPUs, whose writer then died."""
    out.mkdir(exist_ok=True)
    written, _ = journal.begin(out, FIGURES, resume=False)
    written.write("node", node="a", node_id="x", devices=["0", "1", "2"])
    written.write("sent", node="a", devices=["0", "1", "2"], beside=3)
    for outcome in outcomes:
        written.outcome(outcome)
    written.close()
    return out / journal.NAME


def test_results_are_kept_and_what_is_unknown_is_repeated(tmp_path: Path) -> None:
    kept = Outcome("a", "0", "finished", folder="a/run", device_ids=("GPU-1",), seconds=1.5)
    begun(tmp_path, kept, Outcome("a", "1", "unknown", "node-died"), Outcome("a", "2", "failed"))
    written, past = journal.begin(tmp_path, FIGURES, resume=True)
    assert past.done("a") == ["0", "2"]
    assert past.nodes == {"a": ["0", "1", "2"]}
    assert past.outcomes["a", "0"] == kept
    written.outcome(Outcome("a", "1", "finished"))
    written.close()
    again = journal.read(tmp_path / journal.NAME)
    assert again.done("a") == ["0", "1", "2"]
    assert again.token == past.token


def test_a_line_that_was_cut_off_is_dropped_and_written_over(tmp_path: Path) -> None:
    path = begun(tmp_path, Outcome("a", "0", "finished"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"what": "slot", "node": "a", "dev')
    written, past = journal.begin(tmp_path, FIGURES, resume=True)
    written.close()
    assert past.done("a") == ["0"]
    assert path.read_bytes().startswith(whole)
    assert [json.loads(line)["what"] for line in path.read_text().splitlines()][-2:] == [
        "slot", "resumed"
    ]  # fmt: skip


def test_a_fleet_run_lies_there_already(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(RoofprobeError) as caught:
        journal.begin(tmp_path, FIGURES, resume=False)
    assert (caught.value.code, caught.value.exit_code) == ("has-a-fleet-run", 2)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"tier": "soak"}, "begun with --tier quick and would go on with --tier soak, which"),
        ({"precisions": ("bf16",)}, "begun without --precision and would go on with --precision "),
        ({"family": "llm"}, "begun with family compute and would go on with family llm, which"),
        ({"device": "cpu"}, "begun with --device cuda and would go on with --device cpu, which"),
        ({"per_node": 1}, "begun without --per-node and would go on with --per-node 1, which"),
        (
            {"seed": 7, "tier": "soak"},
            "begun with --tier quick, with --seed 0 and would go on with --tier soak, with --seed",
        ),
    ],
)
def test_what_changes_the_figures_is_refused_with_both_values(
    changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    path = begun(tmp_path)
    before = path.read_bytes()
    now = Asked(**{"family": "compute", "tier": "quick", **changed})
    with pytest.raises(RoofprobeError) as caught:
        journal.begin(tmp_path, now.figures(), resume=True)
    assert (caught.value.code, caught.value.exit_code) == ("other-options", 2)
    assert told in caught.value.sentence
    assert path.read_bytes() == before


def test_another_way_of_measuring_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = begun(tmp_path)
    rewritten(path, roofprobe="0.0.1", figures={**FIGURES, "method version": "0"})
    with pytest.raises(RoofprobeError) as caught:
        journal.begin(tmp_path, FIGURES, resume=True)
    assert (
        f"with method version 0 (roofprobe 0.0.1) and would go on with method version "
        f"{METHOD_VERSION}," in caught.value.sentence
    )


def rewritten(path: Path, **changed: Any) -> None:
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(first), **changed}) + "\n" + "".join(rest))


def test_another_version_goes_on_where_it_measures_by_the_same_method(tmp_path: Path) -> None:
    path = begun(tmp_path, Outcome("a", "0", "finished"))
    rewritten(path, roofprobe="0.0.1")
    written, past = journal.begin(tmp_path, FIGURES, resume=True)
    written.close()
    assert (past.roofprobe, past.done("a")) == ("0.0.1", ["0"])
    assert json.loads(path.read_text().splitlines()[-1])["roofprobe"] == __version__


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError) as caught:
        journal.begin(tmp_path, FIGURES, resume=True)
    assert caught.value.code == "nothing-to-resume"


def test_a_run_that_never_reached_a_node_is_in_nobodys_way(tmp_path: Path) -> None:
    written, _ = journal.begin(tmp_path, FIGURES, resume=False)
    written.close()
    written, past = journal.begin(tmp_path, {**FIGURES, "--device": "cpu"}, resume=False)
    written.close()
    assert past.figures["--device"] == "cpu"
    assert len((tmp_path / journal.NAME).read_text().splitlines()) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.integers(0, 700))
def test_a_damaged_journal_is_one_sentence(tmp_path: Path, noise: bytes, at: int) -> None:
    path = tmp_path / journal.NAME
    path.unlink(missing_ok=True)
    data = begun(tmp_path, Outcome("a", "0", "finished")).read_bytes()
    path.write_bytes(data[:at] + noise + data[at + len(noise) :])
    assert refusal(path) in ("", "damaged-journal")


def refusal(path: Path) -> str:
    try:
        journal.read(path)
    except RoofprobeError as error:
        return error.code
    return ""
