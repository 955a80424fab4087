"""The journal outlives its writer, is resumed with the same options only, and repeats nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roofprobe.fleet_run import journal
from roofprobe.fleet_run.slots import Outcome
from roofprobe.records.errors import RoofprobeError

OPTIONS = {"arguments": ["memory", "--tier", "quick"], "device": "auto", "per_node": None}


def begun(out: Path, *outcomes: Outcome) -> Path:
    """Write a journal of one node with three GPUs, whose writer then died."""
    out.mkdir(exist_ok=True)
    written, _ = journal.begin(out, OPTIONS, resume=False)
    written.write("node", node="a", node_id="x", devices=["0", "1", "2"])
    written.write("sent", node="a", devices=["0", "1", "2"], beside=3)
    for outcome in outcomes:
        written.outcome(outcome)
    written.close()
    return out / journal.NAME


def test_results_are_kept_and_what_is_unknown_is_repeated(tmp_path: Path) -> None:
    kept = Outcome("a", "0", "finished", folder="a/run", device_ids=("GPU-1",), seconds=1.5)
    begun(tmp_path, kept, Outcome("a", "1", "unknown", "node-died"), Outcome("a", "2", "failed"))
    written, past = journal.begin(tmp_path, OPTIONS, resume=True)
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
    written, past = journal.begin(tmp_path, OPTIONS, resume=True)
    written.close()
    assert past.done("a") == ["0"]
    assert path.read_bytes().startswith(whole)
    assert [json.loads(line)["what"] for line in path.read_text().splitlines()][-2:] == [
        "slot", "resumed"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("resume", "changed", "code"),
    [
        (False, {}, "has-a-fleet-run"),
        (True, {"device": "cpu"}, "other-options"),
        (True, {"arguments": ["compute"]}, "other-options"),
    ],
)
def test_going_on_otherwise_is_refused(
    resume: bool, changed: dict[str, object], code: str, tmp_path: Path
) -> None:
    begun(tmp_path)
    with pytest.raises(RoofprobeError) as caught:
        journal.begin(tmp_path, {**OPTIONS, **changed}, resume)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)


def test_another_version_does_not_go_on(tmp_path: Path) -> None:
    path = begun(tmp_path)
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(first), "roofprobe": "0.0.1"}) + "\n" + "".join(rest))
    with pytest.raises(RoofprobeError, match=r"begun with roofprobe 0\.0\.1") as caught:
        journal.begin(tmp_path, OPTIONS, resume=True)
    assert caught.value.code == "version-skew"


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError) as caught:
        journal.begin(tmp_path, OPTIONS, resume=True)
    assert caught.value.code == "nothing-to-resume"


def test_a_run_that_never_reached_a_node_is_in_nobodys_way(tmp_path: Path) -> None:
    written, _ = journal.begin(tmp_path, OPTIONS, resume=False)
    written.close()
    written, past = journal.begin(tmp_path, {**OPTIONS, "device": "cpu"}, resume=False)
    written.close()
    assert past.options["device"] == "cpu"
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
