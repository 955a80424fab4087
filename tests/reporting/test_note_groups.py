"""A note says of all that it names what holds of each: ranges, other words apart, sizes named."""

from __future__ import annotations

from roofprobe.records.schema import Note, Run
from roofprobe.reporting.case_tables import measurement_rows
from roofprobe.reporting.note_groups import note_groups

GPU = "GPU-00000000-example"


def test_equal_notes_are_told_once(example_run: Run) -> None:
    copy = next(m for m in example_run.measurements if m.notes)
    twice = example_run.model_copy(update={"measurements": (copy, copy)})
    (note,) = note_groups(twice, GPU)
    assert (note.code, note.labels, note.count) == ("noisy", ("copy fp32 triton",), 2)


def noted(run: Run, *sentences: str, code: str = "cache-residue") -> Run:
    """Return a run of one stream in as many sizes as there are sentences, each with its note."""
    found = next(m for m in run.measurements if m.notes)
    members = tuple(
        found.model_copy(
            update={
                "notes": (Note(code=code, sentence=sentence),) if sentence else (),
                "array_bytes": 1024 << number,
            }
        )
        for number, sentence in enumerate(sentences)
    )
    return run.model_copy(update={"measurements": members})


def test_figures_that_differ_are_told_as_their_range(example_run: Run) -> None:
    stay = "up to {}% of the bytes stay"
    (group,) = note_groups(noted(example_run, *(stay.format(n) for n in (12, 9, 30))), GPU)
    assert group.sentence == "up to 9–30% of the bytes stay"
    assert group.labels == ("copy fp32 triton",)


def test_other_words_are_another_note(example_run: Run) -> None:
    run = noted(example_run, "5%: the figure is too low", "70%: the time is too long")
    assert [(g.sentence, g.count) for g in note_groups(run, GPU)] == [
        ("5%: the figure is too low", 1), ("70%: the time is too long", 1),
    ]  # fmt: skip


def test_where_only_some_sizes_carry_a_note_they_are_named(example_run: Run) -> None:
    (group,) = note_groups(noted(example_run, "s 2", "", "s 3"), GPU)
    assert group.labels == (
        "copy fp32 triton 1.00 KiB arrays", "copy fp32 triton 4.00 KiB arrays",
    )  # fmt: skip
    assert group.sentence == "s 2–3"


def test_figures_inside_words_have_no_range_and_are_told_apart(example_run: Run) -> None:
    run = noted(example_run, "ran as 4x4", "ran as 8x8", "ran as 8x8")
    assert [(g.sentence, g.count) for g in note_groups(run, GPU)] == [
        ("ran as 4x4", 1), ("ran as 8x8", 2),
    ]  # fmt: skip


def test_sizes_of_the_curve_are_in_a_cache_on_purpose(example_run: Run) -> None:
    run = noted(example_run, "all of the bytes stay")
    (m,) = run.measurements
    curve = m.model_copy(update={"case": m.case.model_copy(update={"role": "curve"})})
    assert note_groups(run, GPU)
    assert not note_groups(run.model_copy(update={"measurements": (curve,)}), GPU)


def test_the_note_of_scatter_and_the_table_give_one_interval(example_run: Run) -> None:
    """A time known to ±60 % gives a rate known to ±38 %, and the table shows the rate."""
    found = next(m for m in example_run.measurements if m.rate and m.latency)
    assert found.rate is not None
    assert found.latency is not None
    note = Note(
        code="noisy", sentence="the time is known to ±60.0%",
        figures={"relative_ci_halfwidth": 0.6},
    )  # fmt: skip
    rate = found.rate.model_copy(
        update={"median": 1.0, "ci_low": 0.5, "ci_high": 1.25, "n": 9},
    )
    time = found.latency.model_copy(update={"median": 1.0, "ci_low": 0.8, "ci_high": 2.0})
    scattered = found.model_copy(update={"notes": (note,), "rate": rate, "latency": time})
    run = example_run.model_copy(update={"measurements": (scattered,)})
    (group,) = note_groups(run, GPU)
    (row,) = measurement_rows(run, GPU)
    assert row.spread == "±38%"
    assert f"no better than {row.spread};" in group.sentence
