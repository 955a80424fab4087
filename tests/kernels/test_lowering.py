"""What the compiler emits ahead of time, for every architecture: instructions, memory, spills."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pytest

from roofprobe.kernels import aot, lowering, triton_matmul, triton_scaled
from roofprobe.kernels.aot import SHARED_LIMIT_BYTES, Emitted
from roofprobe.kernels.routes import ROUTES
from roofprobe.kernels.rows import BY_NAME
from roofprobe.kernels.triton_configs import Config, config_named

ARCHITECTURES = tuple(lowering.TABLE)
# What is compiled on every run: the first candidate of these; -m aot_all compiles everything.
FAST = {
    "sm_80": ("fp64", "bf16", "int8"),
    "sm_89": ("fp8-fast", "fp8"),
    "sm_90": ("fp64", "fp32", "tf32", "bf16", "fp16-acc16", "fp8-fast", "fp8", "fp8-blockwise",
              "int8"),
    "sm_100": ("bf16", "nvfp4"),
    "gfx942": ("bf16", "fp32", "fp8"),
}  # fmt: skip
PLAIN_ROWS = (
    "fp64", "fp32", "tf32", "bf16", "fp16", "fp16-acc16", "fp8-fast", "fp8", "fp8-rowwise", "int8",
)  # fmt: skip
PRODUCT_ROWS = (*PLAIN_ROWS, *triton_scaled.ROWS)
# Registers and shared memory that all programs on one multiprocessor share. CUDA C++ programming
# guide, technical specifications per compute capability; each block reserves 1 KiB for the system.
REGISTERS_PER_SM = 65536
SHARED_PER_SM_BYTES = {"sm_90": 228 << 10}


def configs_for(row: str, arch: str) -> tuple[Config, ...]:
    if row in triton_scaled.ROWS:
        return triton_scaled.configs_for(row, arch)
    return triton_matmul.configs_for(row, arch)


CASES = [
    (arch, row, config.name)
    for arch in ARCHITECTURES
    for row in PRODUCT_ROWS
    if lowering.expected_instruction(row, arch)
    for config in configs_for(row, arch)
]
FIRST = [(arch, row, configs_for(row, arch)[0].name) for arch, rows in FAST.items() for row in rows]


@lru_cache(maxsize=16)
def compiled(arch: str, row: str, config_name: str) -> Emitted:
    source = triton_scaled.source if row in triton_scaled.ROWS else triton_matmul.source
    return source(row, arch, config_named(config_name)).compile(arch)


def assert_good(arch: str, row: str, config_name: str) -> None:
    emitted, config = compiled(arch, row, config_name), config_named(config_name)
    pattern = lowering.expected_instruction(row, arch)
    assert pattern is not None
    assert re.search(pattern, emitted.assembly), f"no {pattern} in the assembly"
    assert emitted.spills == 0
    assert 0 < emitted.shared_bytes <= SHARED_LIMIT_BYTES[arch]
    assert emitted.registers is not None
    assert emitted.registers <= (255 if arch.startswith("sm_") else 512)
    assert not aot.serialised_matrix_instructions(emitted), "ptxas waits after each instruction"
    if config.kernel == "persistent-tma":
        assert "cp.async.bulk.tensor" in emitted.assembly
        assert not re.search(r"cp\.async\.c[ag]|ld\.global\S*\.v4", emitted.assembly)
    if config.programs_per_sm > 1:
        rounded = -(-emitted.registers // 8) * 8
        registers = rounded * 32 * config.num_warps * config.programs_per_sm
        assert registers <= REGISTERS_PER_SM
        shared = (emitted.shared_bytes + 1024) * config.programs_per_sm
        assert shared <= SHARED_PER_SM_BYTES[arch]


@pytest.mark.parametrize(("arch", "row", "config_name"), FIRST)
def test_a_product_lowers_to_its_instruction_without_spills(
    arch: str, row: str, config_name: str
) -> None:
    assert_good(arch, row, config_name)


@pytest.mark.aot_all
@pytest.mark.parametrize(("arch", "row", "config_name"), CASES)
def test_every_candidate_lowers_to_its_instruction_without_spills(
    arch: str, row: str, config_name: str
) -> None:
    assert_good(arch, row, config_name)


@pytest.mark.parametrize(
    ("arch", "row", "family"),
    [
        ("sm_80", "fp64", "dmma"),
        ("sm_80", "bf16", "mma.sync"),
        ("sm_90", "bf16", "wgmma"),
        ("sm_90", "fp32", "fma"),
        ("sm_100", "nvfp4", "tcgen05"),
        ("gfx942", "bf16", "mfma"),
    ],
)
def test_the_instruction_is_read_from_the_assembly_and_is_the_one_expected(
    arch: str, row: str, family: str
) -> None:
    assembly = compiled(arch, row, configs_for(row, arch)[0].name).assembly
    assert lowering.instruction_in(assembly) == family
    assert lowering.contradiction(row, arch, assembly) is None


def test_a_kernel_that_became_something_else_is_told_in_a_sentence() -> None:
    vector = compiled("sm_90", "fp32", configs_for("fp32", "sm_90")[0].name).assembly
    assert lowering.contradiction("bf16", "sm_90", vector) == (
        "this Triton compiled our bf16 kernel for sm_90 to fma code that is not the wgmma form of "
        "this format"
    )
    half = compiled("sm_90", "bf16", configs_for("bf16", "sm_90")[0].name).assembly
    assert "wgmma code that is not" in str(lowering.contradiction("fp8-fast", "sm_90", half))
    assert lowering.instruction_in("ret;") is None
    # where nothing is expected, nothing is contradicted
    assert lowering.contradiction("bf16", "sm_999", vector) is None
    assert lowering.contradiction("nvfp4", "sm_90", vector) is None


def test_assembly_is_taken_from_what_a_launch_returned_and_from_nothing_else() -> None:
    class Compiled:
        def __init__(self, **texts: object) -> None:
            self.asm = texts

    assert aot.assembly_of(Compiled(ptx="wgmma", cubin=b"")) == "wgmma"
    assert aot.assembly_of(Compiled(amdgcn="v_mfma", hsaco=b"")) == "v_mfma"
    assert aot.assembly_of(Compiled(ttir="…")) is None
    assert aot.assembly_of(None) is None, "the interpreter compiles nothing"


@pytest.mark.parametrize("arch", ["sm_90", "gfx942"])
def test_fp32_uses_no_reduced_precision_instruction(arch: str) -> None:
    assembly = compiled(arch, "fp32", triton_matmul.config_for("fp32", arch).name).assembly
    assert not re.search(r"tf32|bf16", assembly)


def test_block_scaled_products_where_they_are_refused_would_run_as_bf16() -> None:
    config_name = "128x128x128-w8-s2"
    emitted = triton_scaled.source("mxfp8", "sm_90", config_named(config_name)).compile("sm_90")
    assert re.search(r"wgmma\.mma_async\S*bf16", emitted.assembly)
    assert "bf16" in str(lowering.unsupported_reason("mxfp8", "sm_90", "3.9.0"))


@pytest.mark.parametrize("arch", ["sm_89", "sm_90"])
def test_fp8_is_summed_within_the_unit_or_outside_as_the_row_says(arch: str) -> None:
    fast = compiled(arch, "fp8-fast", triton_matmul.config_for("fp8-fast", arch).name)
    full = compiled(arch, "fp8", triton_matmul.config_for("fp8", arch).name)
    # Additions of sums are one per accumulator of a thread: 128 x 128 over 256 threads. A compiler
    # that merges them into the matrix instruction leaves none.
    assert aot.loop_text(fast.assembly).count("add.f32") == 0
    assert aot.loop_text(full.assembly).count("add.f32") == 64


def test_a_serialised_kernel_is_seen() -> None:
    # What the assembler makes of Triton's own switch for full sums, and of ours.
    code = (
        "QGMMA.64x128x32.F32.E4M3.E4M3 R24, gdesc[UR4], RZ, !UPT, gsb0 ;\n"
        "WARPGROUP.DEPBAR.LE gsb0, 0x0 ;\n"
        "QGMMA.64x128x32.F32.E4M3.E4M3 R24, gdesc[UR8], R24, gsb0 ;\n"
    )
    emitted = Emitted("sm_90", "", 0, 0, 0, b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aot, "machine_code", lambda _: code)
        assert aot.serialised_matrix_instructions(emitted) is True
        patch.setattr(aot, "machine_code", lambda _: code.replace(", gsb0", "", 1))
        assert aot.serialised_matrix_instructions(emitted) is False
        patch.setattr(aot, "machine_code", lambda _: None)
        assert aot.serialised_matrix_instructions(emitted) is None


def test_every_row_is_either_offered_or_refused_with_a_reason() -> None:
    for arch in ARCHITECTURES:
        for row in (*PRODUCT_ROWS, *lowering.KINDS):
            offered = lowering.expected_instruction(row, arch) is not None
            reason = lowering.unsupported_reason(row, arch, "3.9.0")
            assert (reason is None) == offered, (arch, row)
            assert reason is None or len(reason) > 20, (arch, row)


@pytest.mark.parametrize(
    ("row", "arch", "version", "words"),
    [
        ("fp16", "sm_75", "3.9.0", "sm_75"),
        ("fp64", "gfx942", "3.6.0", "Triton 3.6"),
        ("int8", "sm_100", "3.6.0", "mma.sync"),
        ("fp8-fast", "sm_120", "3.9.0", "Ada's and Hopper's"),
        ("fp8-rowwise-fast", "sm_100", "3.9.0", "Ada's and Hopper's"),
        ("mxfp8", "sm_90", "3.9.0", "bf16"),
        ("nvfp4", "gfx950", "3.9.0", "e8m0"),
        ("nvfp4", "sm_999", "3.9.0", "nobody has checked"),
        ("int4", "sm_90", "3.9.0", "4-bit"),
        ("bf16-sparse", "sm_90", "3.9.0", "bf16-sparse"),
    ],
)
def test_a_refusal_says_why(row: str, arch: str, version: str, words: str) -> None:
    assert words in str(lowering.unsupported_reason(row, arch, version))


def test_what_only_an_older_triton_lacks_is_offered_by_a_newer_one() -> None:
    for row, arch in (("fp64", "gfx942"), ("int8", "sm_100")):
        assert lowering.unsupported_reason(row, arch, "3.9.0") is None


def test_products_on_an_architecture_that_nobody_listed_are_tried() -> None:
    assert lowering.unsupported_reason("bf16", "sm_999", "3.9.0") is None


def test_every_triton_route_has_a_kind_in_the_table_and_a_configuration() -> None:
    for route in ROUTES:
        if route.name == "triton":
            assert lowering.kind_of(route.row) in lowering.KINDS
            assert any(configs_for(route.row, arch) for arch in ARCHITECTURES)


def test_every_product_row_is_one_of_the_public_rows() -> None:
    assert set(PRODUCT_ROWS) <= set(BY_NAME)


def test_the_document_shows_the_tables() -> None:
    document = (Path(__file__).parents[2] / "docs" / "lowering.md").read_text()
    assert lowering.markdown_table((*lowering.PRODUCTS, *lowering.SCALED_PRODUCTS)) in document
    assert lowering.markdown_table(lowering.PIPES) in document


def test_a_missing_tool_is_absent_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert aot._nvidia_resources(b"") == (None, None)
    assert aot._amd_resources("no metadata here") == (None, None)
    assert aot.machine_code(Emitted("sm_90", "", 0, None, None)) is None


def test_only_the_blocks_of_loops_count_as_loop() -> None:
    assembly = (
        "// %bb.0:\n\tld.global\n"
        "$L__BB0_1:    // =>This Inner Loop Header: Depth=1\n\tfma\n"
        "// %bb.2:     //   in Loop: Header=BB0_1 Depth=1\n\tbra\n"
        "$L__BB0_3:\n\tst.global\n"
    )
    text = aot.loop_text(assembly)
    assert "fma" in text
    assert "bra" in text
    assert "global" not in text
