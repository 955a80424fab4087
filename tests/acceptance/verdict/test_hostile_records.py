"""Whatever a record holds, a verdict comes out or one sentence, and of nothing never a pass."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roofprobe.acceptance.verdict.judge import judge
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import (
    Device,
    Health,
    Limits,
    Measurement,
    Run,
    Span,
    Telemetry,
    Verdict,
)

NUMBERS = st.sampled_from([None, 1e-300, 0.5, 1.0, 700.0, 1e9, 1e300])
COUNTS = st.sampled_from([None, 0, 1, 16, 132, 10**12])
TEXTS = st.sampled_from(["", "NVIDIA H200", "[red]x[/]\x1b[31m", "cpu", "MIG", "10de:2330"])
LIMITS = st.fixed_dictionaries(
    {
        name: COUNTS if "int" in str(field.annotation) else NUMBERS
        for name, field in Limits.model_fields.items()
        if "bool" not in str(field.annotation)
    }
)
DEVICES = st.fixed_dictionaries(
    {
        "name": TEXTS, "backend": st.sampled_from(["cuda", "rocm", "cpu", "npu"]),
        "pci_id": st.one_of(st.none(), TEXTS), "unit_count": COUNTS, "memory_bytes": COUNTS,
        "architecture": st.sampled_from([None, "sm_90", "sm_", "gfx942", "x86_64"]),
    }
)  # fmt: skip
FIGURES = st.fixed_dictionaries(
    {
        "factor": st.sampled_from([0.0, 1e-300, 0.5, 1.0, 1e300]),
        "status": st.sampled_from(["ok", "invalid", "failed", "skipped"]),
        "width": st.sampled_from([0.0, 16.0, 1e300]),
    }
)


def changed(m: Measurement, with_: dict[str, Any]) -> Measurement:
    changes: dict[str, Any] = {"status": with_["status"]}
    for name in ("rate", "latency", "access_ns"):
        figure = getattr(m, name)
        if figure is not None:
            changes[name] = figure.model_copy(update={"median": figure.median * with_["factor"]})
    span = Span(min=0, median=with_["width"], max=with_["width"])
    changes["telemetry"] = Telemetry(n_samples=1, pcie_generation=span, pcie_width=span)
    return m.model_copy(update=changes)


@functools.cache
def healthy_run(h100: ModuleType) -> Run:
    made: Run = h100.run(3)
    return made


def judged_or_refused(run: Run, references: list[Run]) -> Verdict | None:
    """Return the verdict, or None where the record was refused in one sentence as damaged."""
    try:
        return judge(run, references)
    except RoofprobeError as error:
        if error.code != "damaged-run":
            raise
        return None


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(limits=LIMITS, facts=DEVICES, figures=st.lists(FIGURES, min_size=1, max_size=5))
def test_a_verdict_comes_out_or_one_sentence(
    limits: dict[str, Any], facts: dict[str, Any], figures: list[dict[str, Any]], h100: ModuleType
) -> None:
    healthy = healthy_run(h100)
    odd = healthy.devices[0].model_copy(
        update={**facts, "limits": Limits(**limits), "health_before": Health(nvlink_active=3)}
    )
    measurements = tuple(
        changed(m, figures[number % len(figures)]) for number, m in enumerate(healthy.measurements)
    )
    run = healthy.model_copy(
        update={"devices": (odd, *healthy.devices[1:]), "measurements": measurements}
    )
    for judged, references in ((run, []), (run, [healthy]), (healthy, [run])):
        verdict = judged_or_refused(judged, references)
        if verdict is None:
            continue
        assert verdict.findings
        assert set(verdict.devices) == {device.device_id for device in run.devices}


def test_a_run_without_anything_is_unknown(h100: ModuleType) -> None:
    healthy = healthy_run(h100)
    empty = healthy.model_copy(
        update={"devices": (), "measurements": (), "headlines": (), "planned": {}}
    )
    assert judge(empty).judgement == "unknown"
    bare = Device(device_id="d", torch_device="cuda:0", backend="cuda", name="")
    assert judge(empty.model_copy(update={"devices": (bare,)})).judgement == "unknown"
