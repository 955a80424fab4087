from roofprobe.reporting.pair_map import pair_map
from roofprobe.reporting.pair_tables import PairGrid
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg


def grid(values: dict[tuple[int, int], float], count: int = 3, *, better: bool = True) -> PairGrid:
    names = tuple(f"cuda:{number}" for number in range(count))
    return PairGrid("One way", names, "GB/s" if better else "µs", values, more_is_better=better)


def drawn(found: PairGrid) -> tuple[str, str]:
    with figure_style():
        drawing = pair_map(found)
        assert drawing is not None
        svg = inline_svg(drawing.figure, "k", drawing.label, StyleSheet())
    return drawing.sentence, svg


def test_the_weakest_pair_is_named_and_each_cell_tells_its_own() -> None:
    sentence, svg = drawn(grid({(0, 1): 360.0, (1, 0): 352.0, (2, 1): 180.0}))
    assert sentence == (
        "cuda:2 to cuda:1 is the weakest with 180 GB/s; the median of 3 pairs is 352."
    )
    assert "<title>cuda:0 to cuda:1: 360 GB/s</title>" in svg
    assert svg.count("<title>") == 3
    assert ">180</text>" in svg


def test_of_times_the_longest_is_the_weakest() -> None:
    sentence, _ = drawn(grid({(0, 1): 2.25, (1, 0): 12.5}, better=False))
    assert sentence.startswith("cuda:1 to cuda:0 is the slowest with 12.5 µs")


def test_pairs_within_a_tenth_are_alike() -> None:
    pairs = {(a, b): 400.0 - a - b for a in range(8) for b in range(8) if a != b}
    sentence, svg = drawn(grid(pairs, 8))
    assert sentence == "All 56 pairs are alike, within a tenth: 387 to 399 GB/s."
    assert svg.count("<title>") == 56
    assert ">cuda:7</text>" in svg


def test_without_a_figure_there_is_no_map() -> None:
    assert pair_map(grid({})) is None
