"""The pipe alone: the widest instruction of a row where there is one, a reason where not."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from roofprobe.kernels import cpu_pipe, pipe
from roofprobe.kernels.cpu_team import machine
from roofprobe.kernels.rows import BY_NAME, ROWS, ComputeRow
from roofprobe.kernels.work import Target, Unsupported
from roofprobe.probes import host

FEATURES = host.cpu_facts().simd_features
HERE = Target("cpu", "cpu", machine(), 2, FEATURES)
BARE = replace(HERE, features=())
NAMED = replace(HERE, architecture="x86_64")
H100 = Target("cuda", "cuda:0", "sm_90", 132)


def refusal(row: str, target: Target) -> Unsupported:
    with pytest.raises(Unsupported) as refused:
        pipe.prepare(BY_NAME[row], target)
    return refused.value


@pytest.mark.parametrize("row", ["bf16-sparse", "fp16-sparse", "fp8-sparse", "int8-sparse"])
@pytest.mark.parametrize("target", [HERE, H100])
def test_sparse_pipes_are_refused_as_they_have_no_kernel(row: str, target: Target) -> None:
    reason = refusal(row, target)
    assert reason.code == "no-route"
    assert "sparse pipe" in reason.sentence


@pytest.mark.parametrize(
    "row", ["tf32", "fp16-acc16", "fp8", "fp8-fast", "fp8-blockwise", "mxfp8", "nvfp4", "int4"]
)
def test_what_no_processor_multiplies_is_refused_with_a_gpu_as_remedy(row: str) -> None:
    reason = refusal(row, HERE)
    assert (reason.code, reason.remedy) == ("architecture", "a GPU")
    assert reason.sentence


@pytest.mark.parametrize("row", ["fp64", "fp32", "fp32-vector", "fp16-vector", "bf16", "int8"])
def test_a_processor_without_the_instruction_is_refused_with_its_name(row: str) -> None:
    reason = refusal(row, BARE)
    assert reason.code == "architecture"
    assert "needs" in reason.sentence or "is an instruction of" in reason.sentence


@pytest.mark.parametrize(
    "target", [Target("npu", "npu:0"), Target("cuda", "cuda:0", None), Target("xpu", "xpu:0", "x")]
)
def test_other_accelerators_have_no_pipe_probe_and_say_so(target: Target) -> None:
    reason = refusal("bf16", target)
    assert reason.code == "no-triton-target"
    assert target.kind in reason.sentence


def test_a_gpu_without_triton_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "roofprobe.kernels.triton_pipe", None)
    monkeypatch.delattr("roofprobe.kernels.triton_pipe", raising=False)
    reason = refusal("bf16", H100)
    assert (reason.code, reason.remedy) == ("no-triton", "pip install triton")


@pytest.mark.parametrize(
    ("row", "features", "expected"),
    [
        ("fp32", ("avx2", "fma"), "fp32-avx2"),
        ("fp32", ("avx2", "fma", "avx512f"), "fp32-avx512"),
        ("fp64-vector", ("avx2", "fma", "avx512f"), "fp64-avx512"),
        ("bf16", ("avx512f", "avx512_bf16"), "bf16-avx512"),
        ("bf16", ("avx512f", "avx512_bf16", "amx_tile", "amx_bf16"), "bf16-amx"),
        ("int8", ("avx2", "avx_vnni"), "int8-avx-vnni"),
        ("int8", ("avx2", "avx_vnni", "avx512f", "avx512_vnni"), "int8-avx512"),
        ("int8", ("avx512f", "avx512_vnni", "amx_tile", "amx_int8"), "int8-amx"),
        ("fp16-vector", ("avx512f", "avx512_fp16"), "fp16-avx512"),
    ],
)
def test_the_widest_instruction_of_the_precision_is_taken(
    monkeypatch: pytest.MonkeyPatch, row: str, features: tuple[str, ...], expected: str
) -> None:
    asked: list[tuple[str, tuple[str, ...], int]] = []

    class Stop(Exception):
        pass

    def stand_in(name: str, features: tuple[str, ...], *, threads: int) -> None:
        asked.append((name, features, threads))
        raise Stop

    monkeypatch.setattr(cpu_pipe, "prepare", stand_in)
    with pytest.raises(Stop):
        pipe.prepare(BY_NAME[row], replace(NAMED, features=features, unit_count=6))
    assert asked == [(expected, features, 6)]


OFFERED = {
    (cpu_pipe.row_of(name).precision, cpu_pipe.row_of(name).accumulator)
    for name, state in cpu_pipe.available_rows(FEATURES).items()
    if isinstance(state, str)
}


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.sparsity is None and (row.precision, row.accumulator) in OFFERED],
    ids=lambda row: row.name,
)
def test_every_row_that_this_processor_has_runs_and_is_exact(row: ComputeRow) -> None:
    work = pipe.prepare(row, HERE)
    check = work.check()
    assert check.problem is None
    assert check.error == 0
    assert work.flops > 0
    assert cpu_pipe.row_of(work.kernel).precision == row.precision
    assert work.config["threads"] == HERE.unit_count


@pytest.mark.parametrize(
    "row",
    [
        row.name
        for row in ROWS
        if row.sparsity is None and (row.precision, row.accumulator) not in OFFERED
    ],
)
def test_every_row_that_this_processor_lacks_is_refused_with_a_sentence(row: str) -> None:
    reason = refusal(row, HERE)
    assert reason.code == "architecture"
    assert reason.sentence
