"""Names that contradict, links that are degraded, and what is not told."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from roofprobe.acceptance.verdict.identity import identity
from roofprobe.records.schema import Finding, Health, Limits, Measurement, Run, Span, Telemetry


def found(run: Run, code: str) -> Finding:
    (finding,) = [f for f in identity(run) if f.code == code]
    return finding


@pytest.mark.parametrize(
    ("name", "judgement"),
    [
        ("NVIDIA H200", "fail"), ("H200 SXM", "fail"), ("NVIDIA A100-SXM4-80GB", "fail"),
        ("NVIDIA H100 PCIe", "fail"), ("nvidia h100 80gb hbm3", "pass"),
        ("NVIDIA H100 80GB HBM3", "pass"), ("NVIDIA Graphics Device", "unknown"),
    ],
)  # fmt: skip
def test_a_name_that_is_another_cards_fails_and_an_unheard_one_is_unknown(
    name: str, judgement: str, h100: ModuleType, healthy: Run
) -> None:
    assert found(h100.with_device(healthy, name=name), "RP-IDENTITY").judgement == judgement


def test_what_is_not_told_is_unknown_and_not_required(h100: ModuleType, healthy: Run) -> None:
    silent = h100.with_device(healthy, limits={name: None for name in Limits.model_fields})
    silent = h100.with_device(silent, unit_count=None, memory_bytes=None)
    for code in (
        "RP-UNITS", "RP-MEMORY-SIZE", "RP-POWER-LIMIT", "RP-CLOCK-LIMIT", "RP-PCIE", "RP-NVLINK",
    ):  # fmt: skip
        finding = found(silent, code)
        assert (finding.judgement, finding.required) == ("unknown", False)
    assert found(silent, "RP-IDENTITY").judgement == "pass"


def linked(run: Run, generation: float, width: float) -> Run:
    """Return a run in which the link was slower while data crossed it."""

    def degraded(m: Measurement) -> Measurement:
        if m.telemetry is None or m.telemetry.pcie_width is None:
            return m
        seen = Telemetry(
            n_samples=9,
            pcie_generation=Span(min=1, median=generation, max=generation),
            pcie_width=Span(min=width, median=width, max=width),
        )
        return m.model_copy(update={"telemetry": seen})

    return run.model_copy(update={"measurements": tuple(map(degraded, run.measurements))})


@pytest.mark.parametrize(
    ("generation", "width", "judgement"),
    [(5, 16, "pass"), (4, 16, "warn"), (5, 8, "warn"), (3, 16, "fail"), (5, 4, "fail")],
)
def test_a_link_is_judged_by_what_it_was_under_load(
    generation: float, width: float, judgement: str, healthy: Run
) -> None:
    finding = found(linked(healthy, generation, width), "RP-PCIE")
    assert finding.judgement == judgement
    if judgement != "pass":
        assert f"Gen{generation} x{width}" in finding.sentence


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"pcie_generation_max": 4}, "device and slot allow gen4"),
        ({"pcie_generation_gpu_max": 4, "pcie_generation_max": 4}, "says pcie gen4"),
        ({"pcie_width_max": 8}, "only x8"),
    ],
)
def test_a_slot_that_is_less_than_the_card_draws_a_warning(
    limits: dict[str, Any], words: str, h100: ModuleType, healthy: Run
) -> None:
    run = linked(h100.with_device(healthy, limits=limits), 4, 8)
    finding = found(run, "RP-PCIE")
    assert finding.judgement == "warn"
    assert words in finding.sentence.lower()


@pytest.mark.parametrize(
    ("count", "active", "judgement"),
    [(1, 18, "pass"), (1, 17, "fail"), (1, 0, "unknown"), (2, 0, "warn"), (2, 12, "fail")],
)
def test_nvlinks_are_counted_where_the_board_has_them(
    count: int, active: int, judgement: str, h100: ModuleType
) -> None:
    run = h100.run(count)
    for index in range(count):
        run = h100.with_device(run, index, health_before=Health(nvlink_active=active))
    findings = [f for f in identity(run) if f.code == "RP-NVLINK"]
    assert [f.judgement for f in findings] == [judgement] * count


def test_a_processor_is_no_product_of_the_catalogue(healthy: Run) -> None:
    cpu = healthy.devices[0].model_copy(update={"backend": "cpu", "device_id": "cpu"})
    assert list(identity(healthy.model_copy(update={"devices": (cpu,)}))) == []
