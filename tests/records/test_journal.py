"""The journal keeps every line, forgives a cut-off last one, and refuses everything else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.journal import (
    NAME,
    Header,
    JournalWriter,
    done_keys,
    last_of_each,
    read_journal,
    settled,
)
from roofprobe.records.schema import (
    Case,
    Device,
    Environment,
    Event,
    Measurement,
    Options,
    Reason,
)

ENVIRONMENT = Environment(host="h", os="o", kernel="k", python="3.11", roofprobe="0")
DEVICE = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")
HEADER = Header(
    run_id="r",
    started_at="2026-01-01T00:00:00+00:00",
    command=("probe", "all"),
    options=Options(families=("compute",)),
    environment=ENVIRONMENT,
    devices=(DEVICE,),
)


def skipped(case_id: str) -> Measurement:
    case = Case(
        case_id=case_id,
        family="compute",
        op="gemm",
        precision="fp32",
        route="none",
        shape={"m": 1, "n": 1, "k": 1},
    )
    reason = Reason(code="x", sentence="because")
    return Measurement(case=case, device_id="cpu", status="skipped", reason=reason)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = JournalWriter(tmp_path)
    writer.header(HEADER)
    writer.measurement(skipped("a"))
    writer.event(Event(at="now", code="c", sentence="s"))
    writer.measurement(skipped("b"))
    writer.close()
    return tmp_path


def test_what_time_ran_out_for_is_looked_at_again_and_counts_as_it_was_last() -> None:
    late = skipped("a").model_copy(update={"reason": Reason(code="time-budget", sentence="late")})
    other, again = skipped("b"), skipped("a")
    assert settled((late, other)) == (other,)
    assert last_of_each((late, other, again)) == (again, other)
    elsewhere = again.model_copy(update={"device_id": "cuda:0"})
    assert last_of_each((late, elsewhere)) == (late, elsewhere)


def test_reading_gives_back_what_was_written(folder: Path) -> None:
    journal = read_journal(folder)
    assert journal.header == HEADER
    assert journal.measurements == (skipped("a"), skipped("b"))
    assert journal.events == (Event(at="now", code="c", sentence="s"),)
    assert done_keys(journal.measurements) == {("cpu", "a"), ("cpu", "b")}


def test_a_journal_cut_at_any_byte_keeps_all_whole_lines(folder: Path) -> None:
    whole = (folder / NAME).read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == 10]
    for cut in range(ends[0], len(whole)):
        (folder / NAME).write_bytes(whole[:cut])
        journal = read_journal(folder)
        lines = sum(1 for end in ends if end <= cut)
        assert len(journal.measurements) + len(journal.events) == lines - 1
        assert journal.valid_bytes == max(end for end in ends if end <= cut)


def test_appending_after_a_cut_drops_the_torn_line_first(folder: Path) -> None:
    with open(folder / NAME, "ab") as file:
        file.write(b'{"kind":"measurement","case":{"case_')
    writer = JournalWriter(folder, truncate_to=read_journal(folder).valid_bytes)
    writer.measurement(skipped("c"))
    writer.close()
    measured = read_journal(folder).measurements
    assert [measurement.case.case_id for measurement in measured] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("number", "line", "code", "words"),
    [
        (1, b"hello", "not-a-run", "line 1 is not JSON"),
        (1, b'{"kind":"measurement"}', "not-a-run", "does not begin with a header"),
        (1, b'{"kind":"header"}', "not-a-run", "names no schema version"),
        (1, b'{"kind":"header","schema_version":99}', "newer-schema", "schema version 99"),
        (1, b'{"kind":"header","schema_version":1}', "damaged-run", "line 1"),
        (2, b"{", "damaged-run", "line 2"),
        (2, b"[]", "damaged-run", "not a JSON object"),
        (3, b'{"kind":"party"}', "damaged-run", "its kind is 'party'"),
        (2, b'{"kind":"measurement"}', "damaged-run", "line 2"),
    ],
)
def test_a_changed_line_is_named(
    folder: Path, number: int, line: bytes, code: str, words: str
) -> None:
    lines = (folder / NAME).read_bytes().splitlines()
    lines[number - 1] = line
    (folder / NAME).write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(RoofprobeError) as raised:
        read_journal(folder)
    assert (raised.value.code, raised.value.exit_code) == (code, 2)
    assert words in raised.value.sentence


def test_a_folder_without_a_journal_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError, match=r"is not a run of roofprobe"):
        read_journal(tmp_path)


def test_an_empty_journal_says_so(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"")
    with pytest.raises(RoofprobeError, match="ends before its first line"):
        read_journal(tmp_path)


def test_a_full_disk_keeps_what_was_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(folder)
    before = (folder / NAME).read_bytes()
    real_write = os.write

    def write_half_then_fail(file: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", refuse)
        return real_write(file, data[: len(data) // 2])

    def refuse(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", write_half_then_fail)
    with pytest.raises(RoofprobeError) as raised:
        writer.measurement(skipped("c"))
    assert (raised.value.code, raised.value.exit_code) == ("disk-full", 3)
    assert "--resume" in raised.value.sentence
    assert (folder / NAME).read_bytes() == before


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=400), keep=st.integers(0, 4))
def test_any_bytes_are_read_or_refused_in_a_sentence(folder: Path, data: bytes, keep: int) -> None:
    original = folder / "original"
    if not original.exists():
        original.write_bytes((folder / NAME).read_bytes())
    lines = original.read_bytes().splitlines(keepends=True)
    (folder / NAME).write_bytes(b"".join(lines[:keep]) + data)
    refused = ""
    try:
        read_journal(folder)
    except RoofprobeError as error:
        refused = error.sentence
    assert not refused or str(folder) in refused


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*Header.model_fields, "kind"]), inner, max_size=6)
        ),
        max_leaves=12,
    )
)
def test_any_json_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    fields = value if isinstance(value, dict) else {"kind": value}
    fields = {**fields, "kind": "header", "schema_version": 1}
    (folder / NAME).write_text(json.dumps(fields) + "\n")
    with pytest.raises(RoofprobeError):
        read_journal(folder)
