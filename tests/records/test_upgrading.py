import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.runfolder import read_run
from roofprobe.records.schema import (
    SCHEMA_VERSION,
    Ceiling,
    Device,
    Headline,
    Measurement,
    Run,
)
from roofprobe.records.upgrading import STEPS, upgraded

HERE = Path("run.json")


def test_there_is_a_step_from_every_version_before_this_one() -> None:
    assert set(STEPS) == set(range(1, SCHEMA_VERSION))


def test_the_present_version_is_left_as_it_is() -> None:
    document = {"schema_version": SCHEMA_VERSION, "run_id": "a"}
    assert upgraded(HERE, document) is document


def test_steps_follow_each_other_and_the_given_document_stays_as_it_was() -> None:
    def renamed(old: dict[str, Any]) -> dict[str, Any]:
        old["run_id"] = old.pop("name")
        return old

    steps = {1: renamed, 2: lambda old: {**old, "run_id": old["run_id"].upper()}}
    document = {"schema_version": 1, "name": "a"}
    assert upgraded(HERE, document, steps=steps, present=3) == {
        "schema_version": 3, "run_id": "A",
    }  # fmt: skip
    assert document == {"schema_version": 1, "name": "a"}


def test_what_no_release_wrote_and_what_is_not_of_its_version_are_damaged() -> None:
    with pytest.raises(RoofprobeError, match="schema version 0, which no roofprobe wrote"):
        upgraded(HERE, {"schema_version": 0})
    with pytest.raises(RoofprobeError, match="is not what schema version 1 was"):
        upgraded(
            HERE, {"schema_version": 1}, steps={1: lambda old: {"run_id": old["x"]}}, present=2
        )


def bare(model: type[BaseModel], value: dict[str, Any]) -> dict[str, Any]:
    """Leave out whatever a release may have added later: every field with a default."""
    kept = {}
    for name, field in model.model_fields.items():
        if field.is_required():
            of = field.annotation
            nested = isinstance(of, type) and issubclass(of, BaseModel)
            kept[name] = bare(of, value[name]) if nested else value[name]  # type: ignore[arg-type]
    return kept


def test_a_record_without_any_field_that_has_a_default_reads(
    documents: ModuleType, tmp_path: Path
) -> None:
    full = documents.fill(Run, lambda: "text")
    document = bare(Run, full) | {
        "schema_version": SCHEMA_VERSION,
        "devices": [bare(Device, full["devices"][0])],
        "measurements": [bare(Measurement, full["measurements"][0])],
        "headlines": [bare(Headline, full["headlines"][0])],
        "ceilings": [bare(Ceiling, full["ceilings"][0])],
    }
    assert "verdict" not in document
    assert "role" not in document["measurements"][0]["case"]
    (tmp_path / "run.json").write_text(json.dumps(document))
    run = read_run(tmp_path)
    assert run.measurements[0].case.role == "anchor"
    assert run.devices[0].limits.power_limit_w is None
