from roofprobe.records.schema import Run, Search, SearchStep
from roofprobe.reporting.search_tables import gain_over_anchor, search_rows


def test_a_search_tells_its_way_its_cost_and_its_gain(compute_run: Run) -> None:
    (row,) = search_rows(compute_run, "GPU-compute")
    assert (row.label, row.title, row.method, row.route) == ("bf16", "BF16", "halving", "torch.mm")
    assert (row.candidates, row.looks, row.untried) == ("96 (32 pruned)", "25", "1")
    assert (row.budget, row.elapsed) == ("15.0 s", "12.1 s")
    assert (row.best, row.rate) == ("16384x8192x4096", "820 TFLOPS")
    assert (row.anchor, row.gain) == ("8192x8192x8192", "+8%")
    (cpu,) = search_rows(compute_run, "cpu")
    assert cpu.rate == "110 GFLOPS"


def test_each_look_tells_the_rate_with_and_without_drift(compute_run: Run) -> None:
    steps = search_rows(compute_run, "GPU-compute")[0].steps
    assert (steps[0].stage, steps[0].shape, steps[0].rate) == (
        "anchor",
        "8192x8192x8192",
        "770 TFLOPS",
    )
    assert (steps[20].rate, steps[20].score, steps[20].drift) == ("743 TFLOPS", "770 TFLOPS", "−3%")
    assert (steps[-1].rate, steps[-1].failure) == ("–", "It was too big.")


def search(**fields: object) -> Search:
    made = {
        "method": "grid", "route": "r", "seed": 0, "sentence": "", "elapsed_s": 1.0,
        "candidates": 2, "pruned": 0, **fields,
    }  # fmt: skip
    return Search.model_validate(made)


def test_the_gain_is_over_the_middle_of_all_looks_at_the_anchor() -> None:
    steps = tuple(
        SearchStep(stage="anchor", shape=(1, 1, 1), tflops=rate, at_s=0, seconds=1)
        for rate in (8.0, 10.0, 20.0, None)
    )
    assert gain_over_anchor(search(anchor=(1, 1, 1), best_tflops=12.0, steps=steps)) == 1.2
    assert gain_over_anchor(search(anchor=(2, 2, 2), best_tflops=12.0, steps=steps)) is None
    assert gain_over_anchor(search(anchor=(1, 1, 1), steps=steps)) is None
