from __future__ import annotations

from typing import Any

import pytest

from roofprobe.records.schema import Device, KernelIdentity, Reason, SupportRow
from roofprobe.records.support import support_of

GPU = Device(device_id="GPU-x", torch_device="cuda:0", backend="cuda", name="Example GPU")


def line(*measurements: Any) -> SupportRow:
    (row,) = support_of((GPU,), measurements)
    return row


def test_a_row_with_a_valid_figure_tells_the_route_and_instruction_of_its_best(make: Any) -> None:
    wgmma = KernelIdentity(names=("k",), instruction="wgmma")
    row = line(
        make(90.0, route="triton", identity=KernelIdentity(instruction="mma")),
        make(100.0, route="torch.mm", identity=wgmma),
        make(120.0, route="pipe", role="pipe"),
        make(status="skipped", reason=Reason(code="shape", sentence="s")),
    )
    assert row == SupportRow(
        device_id="GPU-x", row="bf16", title="BF16", status="ok", route="torch.mm",
        instruction="wgmma",
    )  # fmt: skip


def test_a_row_that_only_the_pipe_did_is_supported_by_the_pipe(make: Any) -> None:
    row = line(make(120.0, route="pipe", role="pipe"), make(status="skipped"))
    assert (row.status, row.route) == ("ok", "pipe")


def test_a_fallback_is_ok_with_its_reason(make: Any) -> None:
    row = line(make(100.0, identity=KernelIdentity(names=("k",), fallback="It is emulated.")))
    assert row.status == "ok"
    assert row.reason == Reason(code="fallback", sentence="It is emulated.")


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (["skipped time-budget", "skipped architecture"], "architecture"),
        (["skipped torch-version", "skipped architecture"], "architecture"),
        (["skipped torch-version", "skipped no-route"], "no-route"),
        (["skipped no-triton-target", "skipped backend"], "backend"),
        (["skipped no-triton", "skipped backend", "skipped triton"], "backend"),
        (["skipped torch-version", "skipped triton", "skipped declined"], "declined"),
        (["skipped architecture", "skipped declined"], "declined"),
        (["skipped declined", "failed wrong-result"], "wrong-result"),
        (["skipped architecture", "failed kernel-error"], "kernel-error"),
        (["failed kernel-error", "failed wrong-result"], "wrong-result"),
        (["invalid above-peak", "failed timed-out"], "timed-out"),
        (["skipped architecture", "invalid above-peak"], "above-peak"),
    ],
)
def test_the_reason_that_says_most_speaks_for_the_row(
    make: Any, codes: list[str], told: str
) -> None:
    pairs = [code.split() for code in codes]
    for order in (pairs, pairs[::-1]):
        members = [
            make(status=status, reason=Reason(code=code, sentence="s")) for status, code in order
        ]
        row = line(*members)
        assert row.reason is not None
        assert row.reason.code == told
        assert row.status == next(status for status, code in pairs if code == told)


def test_the_products_reason_goes_before_the_pipes(make: Any) -> None:
    row = line(
        make(status="failed", role="pipe", reason=Reason(code="kernel-error", sentence="pipe")),
        make(status="skipped", reason=Reason(code="no-cusparselt", sentence="product")),
    )
    assert (row.status, row.reason and row.reason.sentence) == ("skipped", "product")


def test_of_equal_reasons_the_one_with_a_remedy_and_then_the_commonest_is_told(make: Any) -> None:
    def skipped(sentence: str, remedy: str | None = None) -> Any:
        reason = Reason(code="architecture", sentence=sentence, remedy=remedy)
        return make(status="skipped", reason=reason)

    common = line(skipped("rare"), skipped("common"), skipped("common"))
    assert common.reason is not None
    assert common.reason.sentence == "common"
    helped = line(skipped("common"), skipped("common"), skipped("rare", "buy another"))
    assert helped.reason is not None
    assert helped.reason.remedy == "buy another"


def test_every_device_has_its_own_line_and_older_cases_have_none(make: Any) -> None:
    other = GPU.model_copy(update={"device_id": "GPU-y"})
    rows = support_of(
        (GPU, other),
        [make(1.0), make(device_id="GPU-y", row="bf16-sparse", sparsity="2:4"), make(row=None)],
    )
    assert [(r.device_id, r.row, r.status) for r in rows] == [
        ("GPU-x", "bf16", "ok"),
        ("GPU-y", "bf16-sparse", "skipped"),
    ]
    assert rows[1].reason is not None
