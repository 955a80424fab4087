"""Which measurements others disturbed is decided once: only what has a figure counts."""

from __future__ import annotations

import math

from roofprobe.records.disturbed import disturbed_of, is_disturbed, share_taken
from roofprobe.records.schema import NOT_ALONE, Case, Measurement, Note


def measured(status: str, *notes: Note) -> Measurement:
    case = Case(case_id="c", family="memory", op="copy", precision="fp32", route="r", shape={})
    return Measurement.model_validate(
        {"case": case, "device_id": "d", "status": status, "notes": notes}
    )


NOTE = Note(code=NOT_ALONE, sentence="s", figures={"share": 0.3})


def test_skipped_cases_are_none_of_those_that_are_counted() -> None:
    members = [
        measured("ok", NOTE), measured("ok"), measured("skipped", NOTE), measured("skipped"),
    ]  # fmt: skip
    found = disturbed_of(members)
    assert (found.members, len(found), found.measured) == ((members[0],), 1, 2)
    assert not disturbed_of(members[1:])


def test_the_share_is_the_notes_own_and_unknown_is_the_worst() -> None:
    assert is_disturbed(measured("ok", NOTE))
    assert share_taken(measured("ok", NOTE)) == 0.3
    assert share_taken(measured("ok", Note(code=NOT_ALONE, sentence="s"))) == math.inf
    assert share_taken(measured("ok")) is None
