"""A verdict as one JSON document, and the schema that it keeps to.

The document has what is needed to act on a verdict without the run beside it: whom it concerns, by
index, UUID and PCI bus id, and every finding, the worst first, with where its bound comes from.
"""

from __future__ import annotations

from typing import Any, Literal

from roofprobe.records.schema import Finding, Judgement, Record, Run, RunStatus, Verdict
from roofprobe.reporting import verdict_rows
from roofprobe.reporting.verdict_rows import Scope

CHECK_SCHEMA_VERSION: Literal[1] = 1


class CheckedDevice(Record):
    """A device and what it was judged to be; ``label`` names it for people."""

    device_id: str
    label: str
    name: str | None = None
    index: int | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    judgement: Judgement


class CheckedHost(Record):
    """The host, and what was judged of it and of the run as such."""

    name: str
    judgement: Judgement


class Counts(Record):
    """How many findings there are of each judgement; ``not_told`` are unknown, not required."""

    fail: int
    unknown: int
    warn: int
    passed: int
    not_told: int


class CheckDocument(Record):
    """What a verdict says. ``exit_code`` is that of the command, with ``strict`` as it was."""

    schema_version: Literal[1] = CHECK_SCHEMA_VERSION
    roofprobe: str
    method_version: int
    run_id: str
    run_status: RunStatus
    started_at: str
    finished_at: str | None = None
    judgement: Judgement
    strict: bool
    exit_code: Literal[0, 1, 3]
    sentence: str
    counts: Counts
    devices: tuple[CheckedDevice, ...]
    host: CheckedHost
    findings: tuple[Finding, ...]


def to_json(run: Run, verdict: Verdict, *, strict: bool = False) -> dict[str, Any]:
    """Return the verdict on ``run`` as plain data that keeps to ``check_json_schema``."""
    *devices, host = verdict_rows.scopes(run, verdict)
    counts = verdict_rows.counts(verdict)
    document = CheckDocument.model_validate(
        {
            "roofprobe": run.environment.roofprobe,
            "method_version": run.method_version,
            "run_id": run.run_id,
            "run_status": run.status,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "judgement": verdict_rows.judgement_of(run, verdict),
            "strict": strict,
            "exit_code": verdict_rows.exit_code(run, verdict, strict=strict),
            "sentence": verdict_rows.verdict_sentence(run, verdict),
            "counts": Counts(
                fail=counts["fail"],
                unknown=counts["unknown"],
                warn=counts["warn"],
                passed=counts["pass"],
                not_told=counts["not told"],
            ),
            "devices": tuple(_device(scope) for scope in devices),
            "host": CheckedHost(name=host.label, judgement=host.judgement),
            "findings": tuple(
                f.model_copy(update={"bound_source": verdict_rows.source_of(f)})
                for f in verdict_rows.worst_first(verdict.findings)
            ),
        }
    )
    return document.model_dump(mode="json")


def _device(scope: Scope) -> CheckedDevice:
    device = scope.device
    assert scope.device_id is not None
    return CheckedDevice(
        device_id=scope.device_id,
        label=scope.label,
        name=device.name if device else None,
        index=device.index if device else None,
        uuid=device.uuid if device else None,
        pci_bus_id=device.pci_bus_id if device else None,
        judgement=scope.judgement,
    )


def check_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what ``to_json`` returns."""
    schema = CheckDocument.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "roofprobe verdict",
        **{key: value for key, value in schema.items() if key != "title"},
    }
