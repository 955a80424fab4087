"""A GPU held against its neighbours in the host, and against earlier runs of it and its kind."""

from __future__ import annotations

from types import ModuleType

import pytest

from roofprobe.acceptance.verdict.judge import judge
from roofprobe.records.schema import NOT_ALONE, Measurement, Note, Run


def of_memory(m: Measurement) -> bool:
    return m.case.family == "memory"


def of_bf16(m: Measurement) -> bool:
    return m.case.family == "compute" and m.case.precision == "bf16"


@pytest.mark.parametrize(
    ("count", "change", "slow"),
    [(8, 0.90, "fail"), (8, 0.95, "warn"), (8, 0.98, "pass"), (3, 0.90, "fail")],
)
def test_the_one_gpu_that_is_slower_than_its_neighbours_is_named(
    count: int, change: float, slow: str, h100: ModuleType
) -> None:
    run = h100.run(count)
    odd = run.devices[2].device_id
    run = h100.scaled(run, change, lambda m: m.device_id == odd and m.case.family == "compute")
    verdict = judge(run)
    found = {f.device_id: f.judgement for f in verdict.findings if f.code == "RP-HOST-RELATIVE"}
    assert found == {d.device_id: slow if d.device_id == odd else "pass" for d in run.devices}
    assert verdict.devices[odd] == slow


def test_two_gpus_have_no_median(h100: ModuleType) -> None:
    verdict = judge(h100.run(2))
    found = [f for f in verdict.findings if f.code == "RP-HOST-RELATIVE"]
    assert [(f.judgement, f.required) for f in found] == [("unknown", False)] * 2
    assert verdict.judgement == "pass"


def against(h100: ModuleType, run: Run, reference: Run) -> dict[str, str]:
    """Return the judgement of each family held against the reference."""
    found = [f for f in judge(run, [reference]).findings if f.code == "RP-REFERENCE"]
    return {f.sentence.split(":")[0]: f.judgement for f in found}


def test_a_reference_that_was_ten_percent_faster_fails_the_run(
    h100: ModuleType, healthy: Run
) -> None:
    slower = h100.scaled(healthy, 1 / 1.1)
    assert judge(slower, [healthy]).judgement == "fail"
    found = against(h100, slower, healthy)
    assert found == {
        "compute": "fail", "memory": "fail", "latency": "fail", "launch": "pass",
        "interconnect": "warn",
    }  # fmt: skip
    assert judge(healthy, [slower]).judgement == "pass"


def test_nothing_under_two_percent_is_a_verdict(h100: ModuleType, healthy: Run) -> None:
    assert judge(h100.scaled(healthy, 0.981), [healthy]).judgement == "pass"


def test_an_unknown_card_is_held_against_its_own_past(h100: ModuleType, healthy: Run) -> None:
    unknown = h100.with_device(healthy, name="NVIDIA Example 9000", pci_id="10de:ffff")
    assert judge(unknown, [unknown]).judgement == "pass"
    cut = h100.with_device(unknown, unit_count=100)
    (found,) = [f for f in judge(cut, [unknown]).findings if f.code == "RP-IDENTITY"]
    assert found.judgement == "fail"
    assert "units 100 instead of 132" in found.sentence


def test_another_card_of_the_kind_is_a_reference_and_another_kind_is_none(
    h100: ModuleType, healthy: Run
) -> None:
    other = h100.with_device(healthy, uuid="GPU-of-a-friend")
    assert judge(healthy, [other]).judgement == "pass"
    stranger = h100.with_device(
        healthy, uuid="GPU-x", name="NVIDIA H200", pci_id="10de:2335", memory_bytes=141 << 30
    )
    (found,) = [f for f in judge(healthy, [stranger]).findings if f.code == "RP-REFERENCE"]
    assert (found.judgement, found.required) == ("unknown", True)
    assert found.sentence.endswith("they have NVIDIA H200 (132 units)")
    assert found.remedy is not None
    assert found.remedy.startswith("name another reference with --against")


def test_a_reference_of_another_method_judges_nothing(healthy: Run) -> None:
    older = healthy.model_copy(update={"method_version": 0})
    (found,) = [f for f in judge(healthy, [older]).findings if f.code == "RP-REFERENCE"]
    assert found.judgement == "unknown"
    assert "do not mean the same" in found.sentence


def test_rows_that_the_reference_has_and_the_run_has_not_are_unknown(
    h100: ModuleType, healthy: Run
) -> None:
    left = h100.finished(healthy.model_copy(update={"measurements": healthy.measurements[:-9]}))
    (found,) = [f for f in judge(left, [healthy]).findings if f.code == "RP-REFERENCE-MISSING"]
    assert (found.judgement, found.required) == ("unknown", True)
    options = healthy.options.model_copy(update={"families": ("compute", "memory")})
    narrow = left.model_copy(update={"options": options})
    (found,) = [f for f in judge(narrow, [healthy]).findings if f.code == "RP-REFERENCE-MISSING"]
    assert (found.judgement, found.required) == ("unknown", False)


def test_a_baseline_of_zero_judges_nothing_and_stops_nothing(
    h100: ModuleType, healthy: Run
) -> None:
    def zero(m: Measurement) -> Measurement:
        if m.rate is None:
            return m
        return m.model_copy(update={"rate": m.rate.model_copy(update={"median": 0.0})})

    empty = healthy.model_copy(update={"measurements": tuple(map(zero, healthy.measurements))})
    found = against(h100, healthy, empty)
    assert set(found) == {"latency", "launch", "interconnect"}
    assert set(found.values()) == {"pass"}


def test_rows_during_which_others_were_at_work_say_nothing(h100: ModuleType, healthy: Run) -> None:
    def shared(m: Measurement) -> Measurement:
        note = Note(code=NOT_ALONE, sentence="others took a half of the cores meanwhile")
        return m.model_copy(update={"notes": (note,)}) if of_memory(m) else m

    slower = h100.scaled(healthy, 0.5, of_memory)
    noted = slower.model_copy(update={"measurements": tuple(map(shared, slower.measurements))})
    assert against(h100, slower, healthy)["memory"] == "fail"
    assert against(h100, noted, healthy)["memory"] == "unknown"


def test_rows_that_are_left_out_of_a_pass_are_told_beside_it(
    h100: ModuleType, healthy: Run
) -> None:
    rows = [m.case.case_id for m in healthy.measurements if of_bf16(m) and m.status == "ok"]
    note = Note(code=NOT_ALONE, sentence="others took a half of the cores meanwhile")
    noted = healthy.model_copy(update={"measurements": tuple(
        m.model_copy(update={"notes": (note,)}) if m.case.case_id == rows[0] else m
        for m in healthy.measurements
    )})  # fmt: skip
    found = [f for f in judge(noted, [healthy]).findings if f.code == "RP-REFERENCE"]
    (told,) = [f for f in found if f.judgement == "unknown"]
    assert not told.required
    assert "Others were at work during 1 of " in told.sentence
    assert "compute rows: these rows are left out" in told.sentence
    (compute,) = [f for f in found if f.sentence.startswith("compute:")]
    assert compute.sentence.endswith("; 1 row is left out, since others were at work")
    assert (compute.judgement, compute.figure) == ("pass", 0.0)


def test_a_faster_run_has_lost_nothing(h100: ModuleType, healthy: Run) -> None:
    faster = h100.scaled(healthy, 1.004)
    found = [f for f in judge(faster, [healthy]).findings if f.code == "RP-REFERENCE"]
    assert {f.figure for f in found} == {0.0}
    assert {f.unit for f in found} == {"share of the speed lost"}


def test_a_single_row_is_told_as_one(h100: ModuleType, healthy: Run) -> None:
    kept = [m for m in healthy.measurements if m.case.family != "launch"]
    kept += [m for m in healthy.measurements if m.case.family == "launch"][:1]
    few = h100.finished(healthy.model_copy(update={"measurements": tuple(kept)}))
    found = [f for f in judge(few, [healthy]).findings if f.code == "RP-REFERENCE"]
    assert "launch: the only row is not slower than before beyond noise" in {
        f.sentence for f in found
    }


def test_a_line_is_slower_only_beyond_the_scatter_of_the_others(
    h100: ModuleType, healthy: Run
) -> None:
    def scattered(m: Measurement) -> Measurement:
        if m.status != "ok" or m.case.family != "compute":
            return m
        by = 0.9 if of_bf16(m) else 0.8 + 0.05 * (len(m.case.case_id) % 9)
        changed: Measurement = h100.at_speed(m, by)
        return changed

    def wild(m: Measurement) -> Measurement:
        if m.status != "ok" or m.case.family != "compute":
            return m
        changed: Measurement = h100.at_speed(m, 0.3 + 0.2 * (len(m.case.case_id) % 9))
        return changed

    noisy = healthy.model_copy(update={"measurements": tuple(map(scattered, healthy.measurements))})
    chaos = healthy.model_copy(update={"measurements": tuple(map(wild, healthy.measurements))})
    assert against(h100, chaos, healthy)["compute"] == "unknown"
    calm = h100.scaled(healthy, 0.9, of_bf16)
    assert against(h100, calm, healthy)["compute"] == "fail"
    assert against(h100, noisy, healthy)["compute"] == "pass"


def test_of_several_references_the_middle_one_counts(h100: ModuleType, healthy: Run) -> None:
    lucky = h100.scaled(healthy, 1.2)
    references = [healthy, healthy, lucky]
    found = [f for f in judge(healthy, references).findings if f.code == "RP-REFERENCE"]
    assert {f.judgement for f in found} == {"pass"}
