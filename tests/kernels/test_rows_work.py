"""What works row by row: right against float64, every byte counted, faults seen."""

from __future__ import annotations

import pytest
import torch

from roofprobe.kernels import rows_work
from roofprobe.kernels.work import Target, Unsupported, Work

CPU = Target("cpu", "cpu", "x86_64", 2)
CASES = [
    (op, route, rows, width)
    for op, routes in rows_work.ROUTES.items()
    for route in routes
    if route != "triton"
    for rows, width in ((1, 64), (5, 320), (40, 1024))
]


def prepared(op: str, route: str, precision: str, rows: int, width: int) -> Work:
    return rows_work.prepare(
        op, route, precision, CPU, rows=rows, width=width, limit_bytes=None, seed=2
    )


@pytest.mark.parametrize(("op", "route", "rows", "width"), CASES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_operation_is_right_and_stays_right(
    op: str, route: str, rows: int, width: int, precision: str
) -> None:
    work = prepared(op, route, precision, rows, width)
    assert work.check().problem is None
    for _ in range(100):
        work.launches[0]()
    assert work.check().problem is None


@pytest.mark.parametrize(
    ("op", "route", "read", "written"),
    [
        ("rmsnorm", "torch", 2 * 6 * 128 + 128, 2 * 6 * 128),
        ("rope", "torch", 6 * 128 + 2 * 6 * 64, 6 * 128),
        ("silu_mul", "torch", 2 * 6 * 128, 6 * 128),
        ("quantize", "torch", 6 * 128, 6 * 128 / 4 + 6),
        ("sample", "argmax", 6 * 128, 2 * 6),
        ("sample", "top-p", 6 * 128, 2 * 6),
    ],
)
def test_bytes_are_those_of_the_tensors(op: str, route: str, read: int, written: float) -> None:
    work = prepared(op, route, "fp32", 6, 128)
    assert (work.flops, work.bytes_read, work.bytes_written) == (0, 4 * read, 4 * written)


def test_a_norm_that_forgets_the_residual_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(residual, (residual.shape[-1],), weight, 1e-5)

    monkeypatch.setattr(rows_work, "rms_norm", forgetful)
    assert prepared("rmsnorm", "torch", "fp32", 4, 64).check().problem is not None


def test_a_rotation_the_other_way_round_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = rows_work.rotate

    def backwards(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        return right(x, cos, sin if x.dtype == torch.float64 else -sin)

    monkeypatch.setattr(rows_work, "rotate", backwards)
    assert prepared("rope", "torch", "fp32", 4, 64).check().problem is not None


def test_angles_are_those_of_llama() -> None:
    cos, sin = rows_work.angles(3, 8, torch.float64, torch.device("cpu"))
    frequencies = 10000.0 ** (-torch.arange(0, 8, 2) / 8)
    assert torch.allclose(cos[2, 0, :4], (2 * frequencies).cos().double(), atol=1e-6)
    assert torch.allclose(sin[1, 0, 4:], frequencies.sin().double(), atol=1e-6)


def test_a_token_that_is_not_the_likeliest_is_seen() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 1.0]])
    right, wrong = torch.tensor([[1], [0]]), torch.tensor([[1], [2]])
    assert rows_work.check_tokens(logits, right, top_p=None).problem is None
    assert rows_work.check_tokens(logits, wrong, top_p=None).problem is not None
    outside = torch.tensor([[3], [0]])
    assert rows_work.check_tokens(logits, outside, top_p=None).problem is not None


def test_the_nucleus_is_sampled_by_probability_and_nothing_beyond_it() -> None:
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = shares.log().expand(4000, 4)
    drawn = torch.rand(4000, 1, generator=torch.Generator().manual_seed(4))
    tokens = rows_work.nucleus(logits, drawn)
    assert rows_work.check_tokens(logits, tokens, top_p=rows_work.TOP_P).problem is None
    counts = torch.bincount(tokens.reshape(-1), minlength=4) / 4000
    assert torch.allclose(counts, torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95, atol=0.03)
    beyond = torch.full((4000, 1), 3)
    assert rows_work.check_tokens(logits, beyond, top_p=rows_work.TOP_P).problem is not None


def test_a_scale_that_is_not_the_rows_is_seen() -> None:
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(5))
    found, scales = rows_work.quantise(x, torch.float8_e4m3fn)
    assert rows_work.check_quantised(x, found, scales).problem is None
    assert rows_work.check_quantised(x, found, scales.flip(0)).problem is not None
    coarse = (x / 4 / scales).to(torch.float8_e4m3fn)
    assert rows_work.check_quantised(x, coarse, 4 * scales).problem is not None


def test_what_does_not_exist_is_refused_in_a_sentence() -> None:
    for arguments in (
        ("rmsnorm", "argmax", "fp32", 1, 64), ("no such", "torch", "fp32", 1, 64),
        ("rmsnorm", "triton", "fp32", 1, 64), ("rope", "torch", "fp32", 1, 65),
        ("sample", "argmax", "int8", 1, 64), ("silu_mul", "torch", "fp32", 0, 64),
    ):  # fmt: skip
        with pytest.raises(Unsupported) as refused:
            prepared(*arguments)
        assert refused.value.sentence
