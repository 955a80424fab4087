import re

from roofprobe.records.schema import NOT_ALONE, Note, Run
from roofprobe.reporting.pages.side_by_side import columns_of, groups_of, lines_of, to_comparison
from roofprobe.reporting.svg import figure_style


def faster(run: Run, factor: float, **changes: object) -> Run:
    headlines = tuple(
        h.model_copy(update={"rate": h.rate.model_copy(update={"median": h.rate.median * factor})})
        for h in run.headlines
    )
    devices = tuple(d.model_copy(update={"driver": "000.01"}) for d in run.devices)
    return run.model_copy(update={"headlines": headlines, "devices": devices, **changes})


def test_a_line_has_a_cell_per_column_the_best_marked_and_held_against_the_first(
    example_run: Run,
) -> None:
    gpus = [c for c in columns_of([example_run, faster(example_run, 1.1)])
            if c.device.backend == "cuda"]  # fmt: skip
    line = next(line for line in lines_of(gpus, "compute") if line.label == "bf16")
    first, second = line.cells
    assert first is not None
    assert second is not None
    assert (first.figure, first.share, first.change, first.best) == (
        "800 TFLOPS", "80%", "", False,
    )  # fmt: skip
    assert (second.figure, second.change, second.best) == ("880 TFLOPS", "+10.0%", True)
    assert first.spread.startswith("±")


def test_gpus_stand_beside_gpus_and_processors_beside_processors(example_run: Run) -> None:
    with figure_style():
        gpus, cpus = groups_of(columns_of([example_run, faster(example_run, 0.5)]))
    assert [gpus.title, cpus.title] == ["GPUs", "Processors"]
    assert [head.name for head in gpus.heads] == ["A", "C"]
    assert [head.name for head in cpus.heads] == ["B", "D"]
    assert [(c.name, c.texts) for c in gpus.differing] == [("driver", ("000.00", "000.01"))]
    assert "power limit 500 W" in gpus.alike
    assert [drawing.title for drawing in gpus.drawings] == [
        "Compute rows side by side",
        "Memory kernels side by side",
        "Rooflines of bf16, as measured",
    ]
    assert "the least is 50% of the greatest" in gpus.drawings[0].sentence


def test_more_than_eight_columns_are_dots_without_a_roofline(example_run: Run) -> None:
    with figure_style():
        group = groups_of(columns_of([example_run] * 9))[0]
    assert len(group.heads) == 9
    assert [drawing.title for drawing in group.drawings] == [
        "Compute rows side by side", "Memory kernels side by side",
    ]  # fmt: skip


def test_a_missing_line_is_a_dash_and_other_methods_are_said(
    example_run: Run, empty_run: Run
) -> None:
    less = example_run.model_copy(update={"headlines": example_run.headlines[:1]})
    page = to_comparison(
        [example_run, less.model_copy(update={"method_version": 9})], "probe compare a b"
    )
    assert "different versions of the method" in page
    assert "<td>–</td>" in page
    assert "These runs have no device." in to_comparison([empty_run, empty_run], "x")


def test_hostile_names_are_text(hostile_run: Run) -> None:
    page = to_comparison([hostile_run, hostile_run], "probe compare <b>")
    assert page.count("<script") == 1
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page
    assert not re.search(r'(?:href|src)="[^#]', page)


def test_a_column_that_was_disturbed_or_made_up_says_so_at_its_head(example_run: Run) -> None:
    note = Note(code=NOT_ALONE, sentence="others took half of the cores")
    first, *others = example_run.measurements
    noted = first.model_copy(update={"notes": (note,)})
    disturbed = example_run.model_copy(update={"measurements": (noted, *others)})
    n = sum(m.device_id == first.device_id and m.status == "ok" for m in example_run.measurements)
    page = to_comparison([example_run, disturbed], "probe compare a b")
    said = f"disturbed by others in 1 of {n} measurements"
    assert page.count(f"<strong>{said}</strong>") == 1
    assert f'<br><span class="quiet">{said}</span></th>' in page
    assert "Nothing here was measured" not in page
    made_up = example_run.model_copy(update={"simulated": "made up by <b>"})
    page = to_comparison([example_run, made_up], "probe compare a b")
    assert f"Nothing here was measured: {made_up.run_id}: made up by &lt;b&gt;</strong>" in page
    assert page.count("<strong>simulated</strong>") == len(example_run.devices)


def test_the_page_counts_runs_and_speaks_of_shares_only_where_there_are_some(
    example_run: Run,
) -> None:
    cpu = tuple(d for d in example_run.devices if d.backend == "cpu")
    own = {d.device_id for d in cpu}
    headlines = tuple(
        h.model_copy(update={"share_datasheet": None})
        for h in example_run.headlines
        if h.device_id in own
    )
    alone = example_run.model_copy(update={"devices": cpu, "headlines": headlines})
    page = to_comparison([alone, alone], "probe compare A B")
    assert "roofprobe: 2 runs side by side" in page
    assert "share of the datasheet’s peak" not in page
    both = to_comparison([example_run, example_run], "probe compare A B")
    n_columns = 2 * len(example_run.devices)
    assert f"roofprobe: {n_columns} columns of 2 runs side by side" in both
    assert "share of the datasheet’s peak" in both
