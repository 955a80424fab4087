"""What the compiler emits ahead of time, for every architecture: instructions, memory, spills."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from roofprobe.kernels import aot, lowering, matmul, triton_matmul, triton_stream
from roofprobe.kernels.aot import SHARED_LIMIT_BYTES, Emitted, compile_for

ARCHITECTURES = tuple(lowering.TABLE)
OFFERED = [
    (arch, precision)
    for arch in ARCHITECTURES
    for precision in lowering.PRECISIONS
    if lowering.expected_instruction(precision, arch)
]
STREAM_ARCHITECTURES = ("sm_80", "sm_89", "sm_90", "sm_100", "sm_120", "gfx942", "gfx950")


def compiled_matmul(arch: str, precision: str, k: int = 4096) -> Emitted:
    config = triton_matmul.config_for(precision, arch)
    operand, output = lowering.element_types(precision, arch)
    signature = {
        "a_ptr": f"*{operand}",
        "b_ptr": f"*{operand}",
        "out_ptr": f"*{output}",
        "scale_a_ptr": "*fp32",
        "scale_b_ptr": "*fp32",
        "m": "i32",
        "n": "i32",
        "k": "i32",
    }
    return compile_for(
        triton_matmul.matmul_kernel,
        arch,
        signature=signature,
        constexprs=triton_matmul.constexprs(precision, k, config),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )


@pytest.mark.parametrize(("arch", "precision"), OFFERED)
def test_a_product_lowers_to_its_instruction_without_spills(arch: str, precision: str) -> None:
    emitted = compiled_matmul(arch, precision)
    pattern = lowering.expected_instruction(precision, arch)
    assert pattern is not None
    assert re.search(pattern, emitted.assembly), f"no {pattern} in the assembly"
    assert emitted.spills == 0
    assert 0 < emitted.shared_bytes <= SHARED_LIMIT_BYTES[arch]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "gfx942"])
def test_fp32_uses_no_reduced_precision_instruction(arch: str) -> None:
    assembly = compiled_matmul(arch, "fp32").assembly
    assert not re.search(r"tf32|bf16", assembly)


def test_what_is_not_offered_has_a_reason() -> None:
    for arch in ARCHITECTURES:
        for precision in lowering.PRECISIONS:
            offered = (arch, precision) in OFFERED
            reason = lowering.unsupported_reason(precision, arch, "3.9.0")
            assert (reason is None) == offered, (arch, precision)
    assert "sm_75" in str(lowering.unsupported_reason("fp16", "sm_75", "3.9.0"))
    assert lowering.unsupported_reason("fp64", "gfx942", "3.6.0")
    assert lowering.unsupported_reason("fp64", "gfx942", "3.9.0") is None
    assert lowering.unsupported_reason("nvfp4", "sm_100", "3.9.0")
    assert lowering.unsupported_reason("bf16", "sm_999", "3.9.0") is None


def test_every_triton_route_has_a_row_in_the_table() -> None:
    routes = {route.precision for route in matmul.ROUTES if route.name == "triton"}
    assert routes == set(lowering.PRECISIONS)


def test_the_document_shows_the_table() -> None:
    document = Path(__file__).parents[2] / "docs" / "lowering.md"
    assert lowering.markdown_table() in document.read_text()


@pytest.mark.parametrize("arch", STREAM_ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kernel", ["read", "write", "copy", "scale", "add", "triad", "dot"])
def test_a_stream_kernel_moves_16_bytes_at_a_time(kernel: str, dtype: str, arch: str) -> None:
    torch_name = {"fp32": "float32", "bf16": "bfloat16"}[dtype]
    config = triton_stream.config_for(kernel, torch_name, arch)
    pointers = {"a_ptr": f"*{dtype}"}
    constexprs: dict[str, object] = {"BLOCK": config.block, "EVEN": True}
    if kernel in ("read", "dot"):
        function = getattr(triton_stream, f"{kernel}_kernel")
        if kernel == "dot":
            pointers["b_ptr"] = f"*{dtype}"
        signature = {**pointers, "partials_ptr": "*fp32", "n": "i32"}
    elif kernel == "write":
        function = triton_stream.write_kernel
        signature = {**pointers, "n": "i32"}
        constexprs["VALUE"] = 0.4
    else:
        function = triton_stream.map_kernel
        pointers |= {"b_ptr": f"*{dtype}", "c_ptr": f"*{dtype}"}
        signature = {**pointers, "n": "i32"}
        constexprs |= {"OP": kernel, "Q": 0.4}
    emitted = compile_for(
        function, arch, signature=signature, constexprs=constexprs, num_warps=config.num_warps
    )
    assert emitted.spills == 0
    wide_load, wide_store = (
        (r"ld\.global\S*\.v4\.b32|ld\.global\S*\.v2\.b64", r"st\.global\S*\.v4\.b32")
        if arch.startswith("sm_")
        else (r"global_load_dwordx4|buffer_load_dwordx4", r"(global|buffer)_store_dwordx4")
    )
    if kernel != "write":
        assert re.search(wide_load, emitted.assembly)
    if kernel not in ("read", "dot"):
        assert re.search(wide_store, emitted.assembly)


def test_a_missing_tool_is_absent_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert aot._nvidia_resources(b"") == (None, None)
    assert aot._amd_resources("no metadata here") == (None, None)
