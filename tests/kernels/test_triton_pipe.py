"""The pipe loops: exact accounting, and what is left in the loop after compilation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import ClassVar

import numpy as np
import pytest
import torch

from roofprobe.kernels import aot, int4_fragments, lowering, triton_pipe
from roofprobe.kernels.aot import SHARED_LIMIT_BYTES, Emitted
from roofprobe.kernels.triton_pipe_rows import NAMES, PipeConfig, PipeRow, pipe_row, pipe_rows
from roofprobe.kernels.work import Target, Unsupported

VERSION = "3.9.0"
ARCHITECTURES = tuple(lowering.TABLE)


def cases() -> Iterator[tuple[str, str, int]]:
    for arch in ARCHITECTURES:
        for row in pipe_rows(arch, VERSION):
            for index in range(len(row.configs)):
                yield arch, row.name, index


CASES = list(cases())
# Compiled on every run: one row per loop and kind of instruction.
FAST = [
    ("sm_75", "int4", 0), ("sm_80", "bf16", 0), ("sm_80", "int4", 0), ("sm_80", "fp64", 0),
    ("sm_90", "bf16", 0), ("sm_90", "fp8", 0), ("sm_90", "fp8-fast", 0), ("sm_90", "int8", 0),
    ("sm_90", "fp16-vector", 0), ("sm_90", "bf16-vector", 0), ("sm_90", "fp32-vector", 0),
    ("sm_90", "fp64-vector", 0), ("sm_100", "bf16", 0), ("gfx942", "bf16", 0),
    ("gfx942", "fp32-vector", 0),
]  # fmt: skip

MEMORY = re.compile(
    r"\b(ld|st)\.(global|shared|local)|ldmatrix|cp\.async|\b(global|buffer|flat|scratch)_(load|store)"
    r"|\bds_(read|write|load|store)"
)
SHAPES = (
    # Multiply-adds of one instruction: PTX shape, per how many warps; then AMD's.
    (r"wgmma\.mma_async\S*\.m(\d+)n(\d+)k(\d+)\.", 4),
    (r"mma\.sync\S*\.m(\d+)n(\d+)k(\d+)\.", 1),
    (r"v_s?mfma_\w+?_(\d+)x(\d+)x(\d+)_", 1),
)


@lru_cache(maxsize=8)
def compiled(arch: str, name: str, index: int) -> tuple[PipeRow, PipeConfig, Emitted]:
    row = pipe_row(name, arch, VERSION)
    config = row.configs[index]
    return row, config, triton_pipe.source(row, arch, config).compile(arch)


def multiply_adds(loop: str, config: PipeConfig, wave: int) -> int | None:
    """Count what one turn of the loop does in the whole program, from the assembly alone."""
    for pattern, warps in SHAPES:
        found = re.findall(pattern, loop)
        if found:
            return sum(int(m) * int(n) * int(k) for m, n, k in found) * config.num_warps // warps
    lanes = config.num_warps * wave
    packed = len(re.findall(r"fma\.rn\.(?:f16|bf16|f32)x2|v_pk_fma_\w+", loop))
    single = len(re.findall(r"fma\.rn\.f(?:32|64)\b|v_fmac?_f(?:32|64)", loop))
    return (2 * packed + single) * lanes or None


def assert_good(arch: str, name: str, index: int) -> None:
    row, config, emitted = compiled(arch, name, index)
    loop = aot.loop_text(emitted.assembly)
    assert row.instruction is not None
    assert re.search(row.instruction, loop), f"no {row.instruction} in the loop"
    assert not MEMORY.search(loop), MEMORY.search(loop)
    assert emitted.spills == 0
    assert emitted.shared_bytes <= SHARED_LIMIT_BYTES[arch]
    assert not aot.serialised_matrix_instructions(emitted)
    nvidia = arch.startswith("sm_")
    done = multiply_adds(loop, config, 32 if nvidia else 64)
    steps = config.unroll * (2 if row.loop == "fma" else 1)
    wanted = config.block_m * config.block_n * config.block_k * steps
    if "tcgen05" in row.instruction:
        # Its shape is not in the text; each instruction takes 32 bytes along k.
        item_bytes = {"tf32": 4, "bf16": 2, "fp16": 2, "fp16-acc16": 2}.get(row.name, 1)
        assert len(re.findall(r"tcgen05\.mma", loop)) == config.block_k * item_bytes // 32
    elif nvidia:
        assert done == wanted
    else:  # AMD's compiler unrolls further and leaves a second loop for the rest
        assert done is not None
        assert done % wanted == 0
    assert emitted.registers is not None
    if nvidia:
        rounded = -(-emitted.registers // 8) * 8
        assert rounded * 32 * config.num_warps * config.programs_per_sm <= 65536


@pytest.mark.parametrize(("arch", "name", "index"), FAST)
def test_a_loop_does_its_arithmetic_and_touches_no_memory(arch: str, name: str, index: int) -> None:
    assert_good(arch, name, index)


@pytest.mark.aot_all
@pytest.mark.parametrize(("arch", "name", "index"), CASES)
def test_every_loop_does_its_arithmetic_and_touches_no_memory(
    arch: str, name: str, index: int
) -> None:
    assert_good(arch, name, index)


def test_hopper_keeps_a_group_of_instructions_in_flight_across_turns_of_the_loop() -> None:
    loop = aot.loop_text(compiled("sm_90", "bf16", 0)[2].assembly)
    assert re.findall(r"wgmma\.wait_group\S* (\d)", loop) == ["1"]


def test_sums_of_fp8_stay_exact_in_the_bits_that_the_unit_keeps() -> None:
    sums = {
        (name, arch): pipe_row(name, arch, VERSION).greatest_sum
        for name in ("fp8", "fp8-fast")
        for arch in ("sm_89", "sm_90", "sm_120")
    }
    assert sums["fp8-fast", "sm_89"] == sums["fp8-fast", "sm_90"] == sums["fp8", "sm_89"] == 2**13
    assert sums["fp8", "sm_90"] == sums["fp8", "sm_120"] == 2**24


def test_every_row_is_offered_with_tiles_or_refused_with_a_reason() -> None:
    for arch in ARCHITECTURES:
        rows = pipe_rows(arch, VERSION)
        assert tuple(row.name for row in rows) == NAMES
        for row in rows:
            assert bool(row.configs) == (row.reason is None), (arch, row.name)
            assert (row.instruction is None) == (row.reason is not None), (arch, row.name)


@pytest.mark.parametrize(
    ("name", "arch", "version", "words"),
    [
        ("fp32", "sm_90", VERSION, "fp32-vector"),
        ("fp64", "sm_89", VERSION, "fp64-vector"),
        ("int4", "sm_90", VERSION, "4-bit"),
        ("fp8-fast", "sm_100", VERSION, "Ada's and Hopper's"),
        ("int8", "sm_100", "3.6.0", "Triton 3.6"),
        ("mxfp8", "sm_100", VERSION, "no pipe loop"),
        ("bf16", "sm_999", VERSION, "nobody has checked"),
    ],
)
def test_a_refusal_says_why(name: str, arch: str, version: str, words: str) -> None:
    assert words in str(pipe_row(name, arch, version).reason)


@pytest.mark.parametrize(("arch", "name", "index"), CASES)
def test_sums_stay_exact_for_as_many_rounds_as_are_allowed(
    arch: str, name: str, index: int
) -> None:
    row = pipe_row(name, arch, VERSION)
    config = row.configs[index]
    usual = triton_pipe.usual_rounds(row, config)
    most = triton_pipe.max_rounds(row, config)
    assert 100 <= usual <= most
    first, second = triton_pipe.operands(row, config)
    if row.loop == "fma":
        ends = np.abs(first) + row.drift * triton_pipe.steps(row, config, most) // 2
        assert ends.max() + second.max() <= row.greatest_sum
        return
    assert np.abs(first).max() <= row.greatest_operand
    assert np.abs(second).max() <= row.greatest_operand
    assert set(np.unique(first @ second.T)) == {-1, 1}
    # Whatever the order in which a unit adds: all positive products first is the worst.
    worst = (np.abs(first) @ np.abs(second).T).max() // 2 + 1
    assert worst + triton_pipe.steps(row, config, most) <= row.greatest_sum


def test_the_data_of_a_dot_row_is_what_the_loop_must_end_with() -> None:
    row, config = pipe_row("bf16", "sm_90", VERSION), PipeConfig(4, 3, 8, 4, 1, unroll=2)
    a, b = triton_pipe.operands(row, config, seed=3)
    tile = np.zeros((4, 3), np.int64)
    for _ in range(2 * 5 + 1):
        tile += a @ b.T
    assert triton_pipe.expected(row, config, 5, seed=3).tolist() == tile.sum(axis=0).tolist()
    assert triton_pipe.steps(row, config, 5) == 11
    assert triton_pipe.flops(row, config, 7, 5) == 2 * 4 * 3 * 8 * 11 * 7


@pytest.mark.parametrize("name", ["fp32-vector", "fp16-vector"])
def test_the_data_of_a_vector_row_is_what_the_loop_must_end_with(name: str) -> None:
    row, config = pipe_row(name, "sm_90", VERSION), PipeConfig(1, 16, 1, 4, 1, unroll=3)
    values, (factor, first, second) = triton_pipe.operands(row, config, seed=3)
    for _ in range(3 * 5):
        values = values * factor + first
        values = values * factor + second
    assert triton_pipe.expected(row, config, 5, seed=3).tolist() == [values.sum()]
    assert triton_pipe.flops(row, config, 7, 5) == 2 * 16 * 2 * 3 * 5 * 7


def test_four_bit_registers_hold_the_rows_and_columns_that_the_manual_says() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.integers(-8, 8, (16, 64)), generator.integers(-8, 8, (16, 64))
    words_a, words_b = int4_fragments.pack_a(a), int4_fragments.pack_b(b)
    assert words_a.shape == words_b.shape == (4, 32)

    def nibble(word: int, place: int) -> int:
        value = (word >> (4 * place)) & 0xF
        return value - 16 if value > 7 else value

    # PTX ISA, mma.m16n8k64, written out element by element.
    for lane in range(32):
        group, within = lane // 4, lane % 4
        for i in range(32):
            row = group if i < 8 or 16 <= i < 24 else group + 8
            column = within * 8 + (i & 7) + (32 if i >= 16 else 0)
            assert nibble(int(words_a[i // 8, lane]), i % 8) == a[row, column]
        for instruction in range(2):
            for i in range(16):
                k = within * 8 + (i & 7) + (32 if i >= 8 else 0)
                word = int(words_b[2 * instruction + i // 8, lane])
                assert nibble(word, i % 8) == b[8 * instruction + group, k]
    tile = a @ b.T
    sums = int4_fragments.lane_sums(tile)
    lane = 13  # rows 3 and 11; columns 2 and 3 of each instruction
    assert sums[lane] == tile[np.ix_([3, 11], [2, 3, 10, 11])].sum()


def test_the_smaller_instruction_has_one_register_of_a() -> None:
    values = np.arange(8 * 32).reshape(8, 32) % 16 - 8
    words = int4_fragments.pack_a(values)
    assert words.shape == (1, 32)
    assert int(words[0, 6]) & 0xF == values[1, 16] & 0xF
    assert int4_fragments.pack_b(np.vstack([values, values])).shape == (2, 32)


def test_a_wrong_program_is_named_by_its_multiprocessor() -> None:
    row, config = pipe_row("int8", "sm_90", VERSION), PipeConfig(16, 4, 32, 4, 1)
    buffers = triton_pipe.make_buffers(row, config, 3, "cpu", arch="sm_90")
    wanted = triton_pipe.expected(row, config, 9)
    buffers.sums[:] = torch.from_numpy(wanted)
    buffers.units[:] = torch.tensor([5, 9, 11])
    assert triton_pipe.wrong_programs(buffers, wanted) == {}
    buffers.sums[1, 2] += 1
    assert triton_pipe.wrong_programs(buffers, wanted) == {1: 9}


def test_more_rounds_than_stay_exact_are_refused() -> None:
    row = pipe_row("fp16-acc16", "sm_90", VERSION)
    config = row.configs[0]
    buffers = triton_pipe.make_buffers(row, config, 1, "cpu", arch="sm_90")
    most = triton_pipe.max_rounds(row, config)
    assert callable(triton_pipe.launcher(row, config, buffers, most, arch="sm_90"))
    for rounds in (0, most + 1):
        with pytest.raises(ValueError, match=r"fp16-acc16 .* exact for 1 to"):
            triton_pipe.launcher(row, config, buffers, rounds, arch="sm_90")


@pytest.mark.parametrize(
    ("name", "arch", "dtype"),
    [
        ("fp8", "sm_90", "float8_e4m3fn"), ("fp8", "gfx942", "float8_e4m3fnuz"),
        ("tf32", "sm_90", "float32"), ("fp64-vector", "sm_90", "float64"),
        ("bf16-vector", "sm_90", "bfloat16"), ("int4", "sm_80", "int32"),
    ],
)  # fmt: skip
def test_operands_survive_their_type(name: str, arch: str, dtype: str) -> None:
    row = pipe_row(name, arch, VERSION)
    config = row.configs[0]
    buffers = triton_pipe.make_buffers(row, config, 2, "cpu", arch=arch)
    first = buffers.inputs[0]
    assert str(first.dtype) == f"torch.{dtype}"
    if row.loop != "s4":
        plain, _ = triton_pipe.operands(row, config)
        assert np.array_equal(first.float().numpy(), plain)
    assert buffers.sums.shape[0] == buffers.units.shape[0] == 2


def test_a_work_is_a_full_wave_with_its_operations_counted() -> None:
    target = Target("cuda", "cpu", "sm_90", 132)  # the tensors may lie anywhere until a launch
    work = triton_pipe.prepare("bf16", target)
    row = pipe_row("bf16", "sm_90", VERSION)
    config = row.configs[0]
    rounds = work.config["rounds"]
    assert work.config["programs"] == 264
    assert isinstance(rounds, int)
    assert work.flops == triton_pipe.flops(row, config, 264, rounds)
    assert work.config["config"] == "64x256x128-w4-p2-u1"


def test_a_loop_that_another_triton_compiles_to_another_instruction_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Compiled:
        asm: ClassVar[dict[str, str]] = {"ptx": "fma.rn.f32 %f1, %f2, %f3, %f4;"}

    monkeypatch.setattr(triton_pipe, "launcher", lambda *args, **kwargs: Compiled)
    work = triton_pipe.prepare("bf16", Target("cuda", "cpu", "sm_90", 2))
    assert work.assembly is not None
    assert work.assembly() == Compiled.asm["ptx"]
    with pytest.raises(Unsupported, match="to fma code that is not the wgmma form") as refusal:
        work.check()
    assert refusal.value.code == "no-instruction"


def test_a_row_that_is_not_offered_says_why() -> None:
    with pytest.raises(Unsupported) as refusal:
        triton_pipe.prepare("int4", Target("cuda", "cpu", "sm_90", 132))
    assert refusal.value.code == "architecture"
    assert "4-bit" in refusal.value.sentence
