"""The streaming loops in machine code: right on every element, refused where they cannot run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from roofprobe.kernels import stream as stream_module
from roofprobe.kernels import x86_stream
from roofprobe.kernels.cpu_stream import CpuStream, register_bytes, unavailable
from roofprobe.kernels.cpu_team import machine
from roofprobe.kernels.work import Target, Unsupported
from roofprobe.probes import host

FEATURES = host.cpu_facts().simd_features
DTYPES = {"fp64": torch.float64, "fp32": torch.float32}
Q = 0.4
REFERENCES: dict[str, Callable[..., torch.Tensor]] = {
    "write": lambda c: torch.full_like(c, Q),
    "copy": lambda a: a,
    "scale": lambda a: Q * a,
    "add": lambda a, b: a + b,
    "triad": lambda a, b: a + Q * b,
}
# Both widths where the processor has both.
WIDTHS = [f for f in (("avx2", "fma"), ("avx512f",)) if set(f) <= set(FEATURES)]
runnable = pytest.mark.skipif(
    machine() != "x86_64" or not WIDTHS, reason="needs an x86-64 processor with AVX2 and FMA"
)


def array(elements: int, dtype: torch.dtype, seed: int, offset: int = 0) -> torch.Tensor:
    """Give uniform values at 64-byte alignment, ``offset`` elements beyond it."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.empty(elements + 64, dtype=dtype).uniform_(-1, 1, generator=generator)
    start = -flat.data_ptr() % 64 // dtype.itemsize + offset
    return flat[start:][:elements]


@runnable
@pytest.mark.parametrize("features", WIDTHS, ids=lambda f: "-".join(f))
@pytest.mark.parametrize("precision", ["fp64", "fp32"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kernel", REFERENCES)
def test_every_element_is_written_and_none_beyond(
    kernel: str, threads: int, precision: str, features: tuple[str, ...]
) -> None:
    dtype = DTYPES[precision]
    width = register_bytes(features)
    assert width is not None
    elements = 5 * threads * x86_stream.bytes_per_iteration(width) // dtype.itemsize
    stream = CpuStream(kernel, precision, features, elements=elements, threads=threads, scalar=Q)
    reads = [array(elements, dtype, seed) for seed in range(len(x86_stream.ARRAYS[kernel]) - 1)]
    whole = array(elements + 16, dtype, 9)
    whole.fill_(float("nan"))
    out = whole[:elements]
    launch, _ = stream.launcher(*reads, out)
    launch()
    expected = REFERENCES[kernel](*(reads or [out]))
    tolerance = 0.0 if kernel in ("write", "copy", "scale", "add") else torch.finfo(dtype).eps
    assert float((out - expected).abs().max()) <= tolerance
    assert bool(torch.isnan(whole[elements:]).all())


@runnable
@pytest.mark.parametrize("features", WIDTHS, ids=lambda f: "-".join(f))
@pytest.mark.parametrize("precision", ["fp64", "fp32"])
@pytest.mark.parametrize("kernel", ["read", "dot"])
def test_sums_take_every_element_once_in_every_launch(
    kernel: str, precision: str, features: tuple[str, ...]
) -> None:
    dtype = DTYPES[precision]
    elements = 1 << 16
    stream = CpuStream(kernel, precision, features, elements=elements, threads=2, scalar=Q)
    # Small whole numbers: sums are exact in either type, so a lost or doubled element shows.
    reads = [array(elements, dtype, seed).mul_(4).round_() for seed in range(
        len(x86_stream.ARRAYS[kernel])
    )]  # fmt: skip
    expected = float(reads[0].sum() if kernel == "read" else torch.dot(*reads))
    launch, total = stream.launcher(*reads)
    for _ in range(3):
        launch()
        assert total() == expected


@runnable
@pytest.mark.parametrize("passes", [1, 2, 37])
def test_a_launch_of_several_passes_adds_up_every_one_of_them(passes: int) -> None:
    elements = 1 << 14
    stream = CpuStream(
        "dot", "fp64", FEATURES, elements=elements, threads=2, scalar=Q, passes=passes
    )
    reads = [array(elements, torch.float64, seed).mul_(4).round_() for seed in range(2)]
    launch, total = stream.launcher(*reads)
    for _ in range(2):
        launch()
        assert total() == float(torch.dot(*reads))
    # The sums in memory are of all passes: one that was left out would show in the quotient.
    reads[0][0] += 1
    launch()
    assert total() == float(torch.dot(*reads))


@runnable
def test_the_bytes_of_several_passes_count() -> None:
    target = Target("cpu", "cpu", machine(), 2, FEATURES)
    once, often = (
        stream_module.prepare("read", "machine-code", "fp32", target, elements=1 << 14,
                              buffer_sets=1, seed=0, passes=passes)
        for passes in (1, 5)
    )  # fmt: skip
    assert often.bytes_read == 5 * once.bytes_read == 5 * 4 << 14
    assert often.flops == 5 * once.flops
    assert often.array_bytes == once.array_bytes
    assert often.check().problem is None
    with pytest.raises(ValueError, match="torch goes over its arrays once in a launch, not 5"):
        stream_module.prepare("read", "torch", "fp32", target, elements=1 << 14, buffer_sets=1,
                              seed=0, passes=5)  # fmt: skip


@runnable
def test_arrays_that_do_not_divide_evenly_are_refused_with_the_multiple() -> None:
    with pytest.raises(Unsupported, match="multiple of") as refusal:
        CpuStream("copy", "fp64", FEATURES, elements=1000, threads=3, scalar=Q)
    assert refusal.value.code == "shape"


@runnable
def test_an_array_between_registers_is_refused() -> None:
    elements = 1 << 14
    stream = CpuStream("copy", "fp32", FEATURES, elements=elements, threads=1, scalar=Q)
    good, bad = (array(elements, torch.float32, 1, offset) for offset in (0, 1))
    with pytest.raises(Unsupported, match="not aligned"):
        stream.launcher(good, bad)


@pytest.mark.parametrize(
    ("kernel", "precision", "features", "architecture", "words"),
    [
        ("copy", "fp32", ("avx2", "fma"), "aarch64", "machine code of x86_64"),
        ("copy", "bf16", ("avx2", "fma"), "x86_64", "no streaming loop for copy in bf16"),
        ("gather", "fp32", ("avx2", "fma"), "x86_64", "no streaming loop for gather"),
        ("copy", "fp32", ("avx2",), "x86_64", "need AVX2 and FMA"),
    ],
)
def test_a_refusal_says_why(
    kernel: str, precision: str, features: tuple[str, ...], architecture: str, words: str
) -> None:
    refusal = unavailable(kernel, precision, features, architecture)
    assert refusal is not None
    assert words in refusal.sentence
