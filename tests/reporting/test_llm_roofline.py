"""Operations under the roofs: shares, classes, and what is left out."""

from __future__ import annotations

import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting.beside import NOTHING, Beside
from roofprobe.reporting.llm_roofline import (
    CLASSES,
    Op,
    Roofs,
    _sentence,
    _thinned,
    llm_roofline,
    op_table,
    op_tables,
    ops_of,
    roofs_of,
)
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg


def op(kind: str, intensity: float, rate: float, share: float = 0.5) -> Op:
    return Op(kind, "bf16", intensity, rate, rate / intensity * 1e3, share, "words")


def test_the_roofs_are_what_the_run_reached(served: tuple[Run, Beside]) -> None:
    run, beside = served
    roofs = roofs_of(run, run.devices[0].device_id, beside)
    assert roofs is not None
    assert roofs.memory == 1000.0
    assert roofs.compute["bf16"] == 100.0


def test_without_rates_of_its_own_the_calibrations_ceilings_are_the_roofs(
    served: tuple[Run, Beside],
) -> None:
    run, beside = served
    bare = run.model_copy(update={"headlines": ()})
    device_id = run.devices[0].device_id
    assert beside.calibration is not None
    ceilings = beside.calibration.devices[0].ceilings
    roofs = roofs_of(bare, device_id, beside)
    assert roofs is not None
    assert ceilings.memory is not None
    assert roofs.memory == ceilings.memory.value
    assert roofs_of(bare, device_id, NOTHING) is None
    assert llm_roofline(bare, device_id, NOTHING) is None


def test_a_share_is_of_the_lower_roof(served: tuple[Run, Beside]) -> None:
    run, _ = served
    ops = ops_of(run, run.devices[0].device_id, Roofs(1000.0, {"bf16": 100.0}, ""))
    assert len(ops) == sum(m.case.family == "llm" for m in run.measurements)
    counted = [one for one in ops if one.rate > 0]
    assert {one.kind for one in counted} == {CLASSES[o] for o in ("gemm", "attention_prefill",
                                                                  "attention_decode")}  # fmt: skip
    for one in counted:
        assert one.share == pytest.approx(one.rate / min(100.0, one.intensity))
        assert one.share < 0.85  # each takes at least 1.2 times its bound
    rows = [one for one in ops if one.rate == 0]
    assert rows
    assert all(one.share == pytest.approx(one.gbps / 1000) for one in rows)


def test_operations_without_a_roof_are_left_out(served: tuple[Run, Beside]) -> None:
    run, _ = served
    ops = ops_of(run, run.devices[0].device_id, Roofs(1000.0, {"fp8": 100.0}, ""))
    assert {one.rate for one in ops} == {0.0}


def test_the_part_has_a_figure_a_table_and_says_what_is_far_off(
    served: tuple[Run, Beside],
) -> None:
    run, beside = served
    device_id = run.devices[0].device_id
    with figure_style():
        found = llm_roofline(run, device_id, beside)
        assert found is not None
        drawn = inline_svg(found.drawings[0].figure, "k", "label", StyleSheet())
    assert "lie under the slope" in found.sentence
    assert "attention, one token" in drawn
    assert "78% of its roof" in drawn
    assert found.tables == op_tables(run, device_id, beside)
    assert [row[0] for row in found.tables[0].rows] == [
        "layers, bf16", "attention, prompts, bf16", "attention, one token, bf16",
        "row by row, bf16",
    ]  # fmt: skip


def test_a_run_without_such_operations_has_no_such_part(example_run: Run) -> None:
    for device in example_run.devices:
        assert llm_roofline(example_run, device.device_id, NOTHING) is None
        assert op_tables(example_run, device.device_id, NOTHING) == ()


def test_many_points_are_thinned_and_every_class_stays() -> None:
    many = [op("layers", 1.0 + n, 1.0) for n in range(400)]
    few = [op("experts", 2.0 + n, 1.0) for n in range(20)]
    kept = _thinned([*many, *few])
    assert len(kept) == 100
    assert 3 <= sum(one.kind == "experts" for one in kept) <= 7
    assert {many[0], few[-1]} <= set(kept)


def test_a_line_has_the_median_and_the_best_share() -> None:
    table = op_table([op("layers", 1.0, 0.1, share) for share in (0.2, 0.4, 0.9)])
    assert table.rows == (("layers, bf16", "1.00–1.00", "100 GFLOPS", "100 GB/s", "40%, 90%"),)


def test_the_sentence_names_the_lines_of_the_table() -> None:
    ops = [
        Op("layers", "bf16", 100.0, 49.0, 490.0, 0.49, "words"),
        Op("layers", "fp32", 100.0, 5.0, 50.0, 0.05, "words"),
        Op("experts", "bf16", 100.0, 31.0, 310.0, 0.31, "words"),
        Op("row by row", "bf16", 0.0, 0.0, 140.0, 0.02, "words"),
    ]
    sentence = _sentence(ops, Roofs(1000.0, {"bf16": 100.0, "fp32": 100.0}, ""))
    assert "Nearest to their roof are layers, bf16 (49% in the median)" in sentence
    assert "furthest below row by row, bf16 (2%)" in sentence
    assert sentence.startswith("0 of 3 operations")
    assert {"layers, bf16", "row by row, bf16"} <= {row[0] for row in op_table(ops).rows}
