"""Arrays outgrow the cache, fit the memory, and are refused where they do not."""

from __future__ import annotations

import pytest

from roofprobe.kernels import stream
from roofprobe.kernels.work import Unsupported
from roofprobe.probes import memory
from roofprobe.probes.backends import CpuBackend, target_of
from roofprobe.records.schema import Case, Device, Options

MIB, GIB = 1 << 20, 1 << 30


def device_of(backend: str, cache: int | None = None, free: int | None = None) -> Device:
    return Device(
        device_id="example",
        torch_device="cpu",
        backend=backend,
        name="Example GPU",
        last_level_cache_bytes=cache,
        memory_free_bytes=free,
    )


@pytest.mark.parametrize(
    ("backend", "cache", "free", "expected"),
    [
        ("cuda", None, None, GIB),
        ("cpu", None, None, 256 * MIB),
        ("cuda", 50 * MIB, 80 * GIB, GIB),
        ("cuda", 512 * MIB, 80 * GIB, 2 * GIB),  # four times the cache
        ("cpu", 96 * MIB, 64 * GIB, 384 * MIB),
        ("cuda", 4 * MIB, 2 * GIB, 409 * MIB),  # three arrays within 60 % of the memory
        ("cpu", None, 4 * MIB, MIB),
    ],
)
def test_arrays_are_four_caches_or_more_and_fit(
    backend: str, cache: int | None, free: int | None, expected: int
) -> None:
    found = memory.array_bytes(device_of(backend, cache, free))
    assert found == expected
    assert found >= 4 * (cache or 0)
    assert free is None or 3 * found <= max(0.6 * free, 3 * MIB)


def test_arrays_never_shrink_below_four_caches_and_are_refused_instead() -> None:
    device = device_of("cpu", cache=64 * MIB, free=300 * MIB)
    assert memory.array_bytes(device) == 256 * MIB
    case = next(c for c in memory.cases(device, Options(families=("memory",))) if c.op == "triad")
    with pytest.raises(Unsupported, match=r"need 0\.8 GiB and 0\.3 GiB are free") as refused:
        memory.prepare(case, device, device.memory_free_bytes, seed=0)
    assert refused.value.code == "memory"


def test_total_memory_counts_where_free_memory_is_not_told() -> None:
    device = device_of("cuda").model_copy(update={"memory_bytes": 2 * GIB})
    assert memory.array_bytes(device) == 409 * MIB


def test_the_quick_tier_streams_one_type_and_the_others_two() -> None:
    def types(backend: str, tier: str) -> set[str]:
        options = Options.model_validate({"families": ("memory",), "tier": tier})
        return {case.precision for case in memory.cases(device_of(backend), options)}

    assert types("cuda", "quick") == {"fp32"}
    assert types("cuda", "standard") == {"fp32", "bf16"}
    assert types("cpu", "standard") == {"fp32", "fp64"}


def test_arrays_of_every_type_have_the_same_bytes() -> None:
    device = device_of("cuda")
    options = Options(families=("memory",))
    assert {
        case.shape["elements"] * {"fp32": 4, "bf16": 2}[case.precision]
        for case in memory.cases(device, options)
        if case.level is None and case.role != "curve"
    } == {GIB}


def test_the_curve_goes_from_256_kib_to_below_the_full_size_and_says_what_stays_in_a_cache() -> (
    None
):
    device = device_of("cuda", cache=50 * MIB)
    curve = [
        case for case in memory.cases(device, Options(families=("memory",)))
        if case.role == "curve" and case.op == "triad"
    ]  # fmt: skip
    sizes = [case.shape["elements"] * 4 for case in curve]
    assert sizes == [256 * 1024 << power for power in range(12)]
    # Three arrays of 64 MiB are still less than four caches of 50 MiB.
    assert [case.level for case in curve] == ["l2"] * 9 + [None] * 3
    cpu = [c for c in memory.cases(device_of("cpu"), Options(families=("memory",)))
           if c.role == "curve"]  # fmt: skip
    assert {(case.op, case.route) for case in cpu} == {
        ("read", "machine-code"), ("dot", "machine-code"),
    }  # fmt: skip
    assert [c.shape["elements"] * 4 for c in cpu if c.op == "read"][:3] == [
        16 << 10, 64 << 10, 256 << 10,
    ]  # fmt: skip


def test_a_launch_over_a_small_array_of_a_processor_is_many_passes() -> None:
    device = CpuBackend().describe()
    curve = [c for c in memory.cases(device, Options(families=("memory",))) if c.role == "curve"]
    try:
        work = memory.prepare(curve[0], device, None, seed=0)
    except Unsupported as reason:
        pytest.skip(reason.sentence)
    assert work.bytes_read == 64 * MIB
    assert work.array_bytes == 16 << 10


def test_other_configurations_of_a_triton_stream_are_tried_and_not_the_first_again() -> None:
    device = device_of("cuda").model_copy(update={"architecture": "sm_90"})
    tuned = [c for c in memory.cases(device, Options(families=("memory",))) if c.role == "tune"]
    target = target_of(device)
    for kernel in ("read", "copy", "nstream"):
        names = stream.candidates(kernel, "triton", "fp32", target)
        assert len(names) > 1
        assert [case.config for case in tuned if case.op == kernel] == list(names[1:])
    assert not [c for c in memory.cases(device_of("cpu"), Options(families=("memory",)))
                if c.role == "tune"]  # fmt: skip


def test_a_winner_of_an_earlier_run_is_measured_first_and_not_searched_for_again() -> None:
    device = device_of("cuda").model_copy(
        update={"architecture": "sm_90", "tuned_streams": {"copy": "b16384-w4"}}
    )

    def planned(tier: str, role: str) -> list[str | None]:
        options = Options.model_validate({"families": ("memory",), "tier": tier})
        return [
            case.config for case in memory.cases(device, options)
            if (case.op, case.route, case.precision, case.role) == ("copy", "triton", "fp32", role)
        ]  # fmt: skip

    for tier in ("quick", "standard", "soak"):
        assert planned(tier, "anchor") == ["b16384-w4"]
    assert planned("standard", "tune") == []
    names = stream.candidates("copy", "triton", "fp32", target_of(device))
    assert planned("soak", "tune") == [name for name in names if name != "b16384-w4"]


def test_reads_that_stay_in_l2_take_a_quarter_of_it_and_move_a_gibibyte() -> None:
    device = device_of("cuda", cache=50 * MIB).model_copy(update={"architecture": "sm_90"})
    cached = [c for c in memory.cases(device, Options(families=("memory",))) if c.op == "l2-read"]
    names = stream.candidates("l2-read", "triton", "fp32", target_of(device))
    assert [case.config for case in cached] == list(names)
    for case in cached:
        assert (case.role, case.level, case.route) == ("tune", "l2", "triton")
        assert case.shape["elements"] * 4 == 50 * MIB // 4 // (64 << 10) * (64 << 10)
    for without in (device_of("cpu", cache=50 * MIB), device_of("cuda")):
        options = Options(families=("memory",))
        assert "l2-read" not in {case.op for case in memory.cases(without, options)}


def test_a_configuration_reaches_the_kernel() -> None:
    case = Case(case_id="tune/read", family="memory", op="read", precision="fp32", route="torch",
                shape={"elements": 1000}, config="b8192-w8")  # fmt: skip
    with pytest.raises(ValueError, match="only Triton kernels have configurations"):
        memory.prepare(case, device_of("cpu"), None, seed=0)


def test_the_copy_engine_is_one_case_of_its_own() -> None:
    options = Options(families=("memory",))
    engine = [c for c in memory.cases(device_of("cuda"), options) if c.engine == "copy-engine"]
    assert [(case.op, case.precision, case.route) for case in engine] == [
        ("copy", "fp32", "copy-engine")
    ]


def test_prepare_makes_one_set_of_arrays() -> None:
    case = Case(
        case_id="stream/add",
        family="memory",
        op="add",
        precision="fp32",
        route="torch",
        shape={"elements": 1000},
    )
    work = memory.prepare(case, device_of("cpu"), None, seed=0)
    assert (len(work.launches), work.bytes_read, work.bytes_written) == (1, 8000, 4000)


def test_a_route_that_is_lacking_is_refused_before_memory_is() -> None:
    case = Case(
        case_id="stream/add",
        family="memory",
        op="add",
        precision="fp32",
        route="triton",
        shape={"elements": 1 << 40},
    )
    with pytest.raises(Unsupported) as refused:
        memory.prepare(case, device_of("cpu"), 1, seed=0)
    assert refused.value.code == "no-triton-target"


def test_the_free_memory_is_checked_at_tier_soak_only() -> None:
    def planned(tier: str) -> int:
        options = Options.model_validate({"families": ("memory",), "tier": tier})
        return sum(case.op == memory.CHECK for case in memory.cases(device_of("cpu"), options))

    assert [planned(tier) for tier in ("quick", "standard", "soak")] == [0, 0, 1]


def test_chunks_cover_half_of_a_host_s_free_memory() -> None:
    chunks = memory.free_chunks(device_of("cpu"), 64 * MIB)
    assert sum(chunk.nbytes for chunk in chunks) == 32 * MIB
    with pytest.raises(Unsupported, match="is not told"):
        memory.free_chunks(device_of("cpu"), None)
