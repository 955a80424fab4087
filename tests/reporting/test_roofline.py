import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting.roofline import (
    compute_roofs,
    gemm_points,
    memory_roof,
    roofline,
    spaced,
)

GPU = "GPU-00000000-example"


def test_the_memory_roof_is_the_best_read_or_copy_kernel(example_run: Run) -> None:
    roof = memory_roof(example_run, GPU)
    assert roof is not None
    assert roof.label == "read"


def test_points_stand_at_operations_per_byte(example_run: Run) -> None:
    points = gemm_points(example_run, GPU)
    assert [p.precision for p in points] == ["bf16", "bf16", "fp64", "fp8", "int8"]
    assert points[0].intensity == 2 * 512**3 / (3 * 2 * 512**2)
    assert points[0].rate == 90.0


def test_without_both_kinds_of_result_there_is_no_roofline(
    example_run: Run, empty_run: Run
) -> None:
    compute_only = example_run.model_copy(
        update={"headlines": tuple(h for h in example_run.headlines if h.family == "compute")}
    )
    assert roofline(compute_only, GPU) is None
    assert roofline(empty_run, GPU) is None


@pytest.mark.parametrize(
    ("places", "moved"),
    [
        ([], []),
        ([5.0], [5.0]),
        ([5.0, 30.0], [5.0, 30.0]),
        ([5.0, 6.0, 7.0], [5.0, 15.0, 25.0]),
        ([50.0, 95.0, 99.0], [50.0, 90.0, 100.0]),
    ],
)
def test_labels_are_pushed_apart_and_stay_below_the_top(
    places: list[float], moved: list[float]
) -> None:
    assert spaced(places, least=10.0, highest=100.0) == moved


def test_each_precision_has_one_roof_of_dense_products(compute_run: Run) -> None:
    roofs = compute_roofs(compute_run, "GPU-compute")
    assert [(roof.label, roof.precision) for roof in roofs] == [
        ("bf16", "bf16"),
        ("fp16", "fp16"),
        ("fp8-fast", "fp8"),
        ("int8", "int8"),
    ]


def test_patterns_pipes_and_sparse_products_are_no_points(compute_run: Run) -> None:
    points = gemm_points(compute_run, "GPU-compute")
    wanted = [
        m
        for m in compute_run.measurements
        if m.device_id == "GPU-compute"
        and m.status == "ok"
        and m.case.role in ("anchor", "route", "tune", "surface", "settled")
        and m.case.sparsity is None
    ]
    assert len(points) == len(wanted) > 50
    assert max(point.rate for point in points) == 1500.0
