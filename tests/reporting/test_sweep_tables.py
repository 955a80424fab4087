import dataclasses
from typing import Any

from roofprobe.records.schema import Measurement, Run
from roofprobe.reporting.sweep_tables import pattern_rows, pattern_table, sweep_rows

GPU = "GPU-compute"


def changed(run: Run, number: int, **case: Any) -> Run:
    """Return ``run`` with one measurement's case changed."""
    members = list(run.measurements)
    old: Measurement = members[number]
    members[number] = old.model_copy(update={"case": old.case.model_copy(update=case)})
    return run.model_copy(update={"measurements": tuple(members)})


def test_patterns_are_held_against_uniform_data_of_the_same_work(compute_run: Run) -> None:
    rows = pattern_rows(compute_run, GPU)
    assert [(r.pattern, r.rate, r.gain, r.power) for r in rows] == [
        ("uniform", "820 TFLOPS", "–", "480 W"),
        ("zeros", "900 TFLOPS", "+10%", "300 W"),
        ("ones", "870 TFLOPS", "+6%", "330 W"),
    ]
    assert {row.regime for row in rows} == {"burst"}
    assert pattern_rows(compute_run, "cpu") == ()


def test_patterns_make_a_table_with_holes_where_nothing_was_measured(compute_run: Run) -> None:
    rows = pattern_rows(compute_run, GPU)
    other = tuple(dataclasses.replace(row, label="fp16") for row in rows[:2])
    table = pattern_table((*rows, *other))
    assert table.heads == ("zeros", "ones")
    (first, gains), (second, holes) = table.lines
    assert (first.label, first.conditions()) == ("bf16", "1700 MHz, 480 W")
    assert [cell.gain if cell else None for cell in gains] == ["+10%", "+6%"]
    assert (second.label, [cell.gain if cell else None for cell in holes]) == (
        "fp16",
        ["+10%", None],
    )


def test_a_pattern_without_uniform_data_beside_it_gains_nothing(compute_run: Run) -> None:
    number = next(i for i, m in enumerate(compute_run.measurements) if m.case.pattern == "zeros")
    moved = changed(compute_run, number, regime="settled", shape={"m": 1, "n": 1, "k": 1})
    assert [row.pattern for row in pattern_rows(moved, GPU)] == ["uniform", "ones"]


def test_sweeps_tell_each_member_against_the_best_of_its_sweep(compute_run: Run) -> None:
    layouts = [(r.what, r.rate, r.gain) for r in sweep_rows(compute_run, GPU, "layout")]
    assert layouts == [
        ("TN 16384x8192x4096", "820 TFLOPS", "0%"),
        ("NN 16384x8192x4096", "790 TFLOPS", "−4%"),
    ]
    alignments = [(r.what, r.gain) for r in sweep_rows(compute_run, GPU, "alignment")]
    assert alignments == [
        ("TN 16384x8192x4096, n ÷ 128", "0%"),
        ("TN 16384x8256x4096, n ÷ 64", "−1%"),
        ("TN 16384x8193x4096, n ÷ 1", "−50%"),
    ]
    assert sweep_rows(compute_run, "cpu", "layout") == ()


def test_a_tuned_configuration_is_no_reference_for_the_patterns_of_another(
    compute_run: Run,
) -> None:
    uniform = next(m for m in compute_run.measurements if m.case.role == "tune")
    zeros = uniform.model_copy(
        update={
            "case": uniform.case.model_copy(
                update={"role": "pattern", "pattern": "zeros", "config": None, "case_id": "z"}
            )
        }
    )
    run = compute_run.model_copy(update={"measurements": (uniform, zeros)})
    assert pattern_rows(run, GPU) == ()
