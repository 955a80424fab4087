"""One sample is no verdict: repeats decide, and neither figure is lost."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.verdict.retest import (
    after_retest,
    breaches,
    control_of,
    first_of,
    on_repeats,
    repeats_of,
)
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import (
    Case,
    Device,
    Distribution,
    Environment,
    Finding,
    Measurement,
    Options,
    Run,
)

BOUND_GBPS = 1000.0


def gpu(number: int, name: str = "Example GPU") -> Device:
    return Device(
        device_id=f"GPU-{number}", torch_device=f"cuda:{number}", backend="cuda", name=name
    )


def copied(gbps: float, number: int = 0, **case: Any) -> Measurement:
    made = {
        "case_id": "copy", "family": "memory", "op": "copy", "precision": "fp32",
        "route": "torch", "shape": {"elements": 1}, **case,
    }  # fmt: skip
    spread = {name: gbps for name in ("median", "ci_low", "ci_high", "p10", "p90", "best")}
    return Measurement(
        case=Case.model_validate(made), device_id=f"GPU-{number}", status="ok",
        rate=Distribution(unit="GB/s", n=10, **spread),
    )  # fmt: skip


def repeated(first: Measurement, *gbps: float) -> tuple[Measurement, ...]:
    return tuple(
        copied(value).model_copy(update={"case": case, "device_id": first.device_id})
        for case, value in zip(repeats_of(first), gbps, strict=False)
    )


def run_of(*measurements: Measurement, retests: tuple[Measurement, ...] = ()) -> Run:
    devices = (gpu(0), gpu(1), gpu(2, "Other GPU"))
    return Run(
        run_id="r", status="complete", started_at="2026-01-01T00:00:00+00:00",
        options=Options(families=("memory",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=devices, measurements=measurements, retests=retests,
        headlines=headlines_of(devices, measurements, ()),
    )  # fmt: skip


def judged(run: Run) -> tuple[Finding, ...]:
    """Hold each headline against one bound, as the absolute layer holds it against its band."""
    return tuple(
        finding(
            "RP-BANDWIDTH", "fail" if headline.rate.median < BOUND_GBPS else "pass",
            f"{headline.label} {headline.rate.median:.0f}", case_id=headline.case_id,
            device=next(d for d in run.devices if d.device_id == headline.device_id),
        )
        for headline in run.headlines
    )  # fmt: skip


def standing(run: Run) -> list[tuple[str, str]]:
    found = after_retest(judged(run), judged(on_repeats(run)), run)
    return [(f.code, f.judgement) for f in found]


def test_repeats_have_names_of_their_own_and_lead_back_to_the_first() -> None:
    cases = repeats_of(copied(1.0))
    assert [case.case_id for case in cases] == ["copy/retest-1", "copy/retest-2", "copy/retest-3"]
    assert [case.retest for case in cases] == [1, 2, 3]
    assert {first_of(case) for case in cases} == {"copy"}
    back = [case.model_copy(update={"case_id": "copy", "retest": None}) for case in cases]
    assert back == [copied(1.0).case] * 3


def test_only_failures_of_figures_on_a_device_are_breaches() -> None:
    on: dict[str, Any] = {"device": gpu(0), "case_id": "copy"}
    low = finding("RP-BANDWIDTH", "fail", "low", **on)
    others = (
        finding("RP-BANDWIDTH", "warn", "lowish", **on),
        finding("RP-WRONG-RESULT", "fail", "wrong", **on),
        finding("RP-ECC", "fail", "errors", device=gpu(0)),
        finding("RP-BANDWIDTH", "fail", "of nothing", device=gpu(0)),
    )
    assert breaches((*others, low)) == (low,)


@pytest.mark.parametrize(
    ("repeats", "expected"),
    [
        ((500.0, 510.0, 490.0), [("RP-BANDWIDTH", "fail")]),
        ((1500.0, 1490.0, 1510.0), [("RP-BANDWIDTH", "pass"), ("RP-UNSTABLE", "warn")]),
        # one good repeat is no acquittal, one bad one no conviction
        ((1500.0, 500.0, 510.0), [("RP-BANDWIDTH", "fail")]),
        ((500.0, 1500.0, 1510.0), [("RP-BANDWIDTH", "pass"), ("RP-UNSTABLE", "warn")]),
        # fewer than three prove nothing
        ((1500.0, 1510.0), [("RP-BANDWIDTH", "fail")]),
        ((), [("RP-BANDWIDTH", "fail")]),
    ],
)
def test_the_median_of_the_repeats_decides(
    repeats: tuple[float, ...], expected: list[tuple[str, str]]
) -> None:
    first = copied(400.0)
    assert standing(run_of(first, retests=repeated(first, *repeats))) == expected


def test_both_figures_and_the_healthy_device_beside_it_are_in_the_sentence() -> None:
    first, beside = copied(400.0), copied(1600.0, 1)
    retests = (*repeated(first, 500, 510, 490), *repeated(beside, 1610, 1620, 1600))
    run = run_of(first, beside, retests=retests)
    found = after_retest(judged(run), judged(on_repeats(run)), run)
    (low,) = [f for f in found if f.judgement == "fail"]
    assert low.sentence == (
        "copy fp32 500; first 400 GB/s, then 500 GB/s as the median of 3 repeats on the idle, "
        "cooled device; cuda:1 beside it reached 1610 GB/s"
    )
    assert [f.judgement for f in found if f.device_id == "GPU-1"] == ["pass"]


def test_repeats_that_failed_or_that_no_time_was_left_for_do_not_acquit() -> None:
    first = copied(400.0)
    good = repeated(first, 1500.0, 1500.0, 1500.0)
    for status in ("failed", "invalid", "skipped"):
        last = good[2].model_copy(update={"status": status, "rate": None})
        run = run_of(first, retests=(*good[:2], last))
        assert standing(run) == [("RP-BANDWIDTH", "fail")], status


def test_another_case_that_leads_the_line_after_the_repeats_is_judged_in_its_place() -> None:
    best, second = copied(500.0), copied(450.0, case_id="other", route="triton")
    run = run_of(best, second, retests=repeated(best, 300.0, 310.0, 320.0))
    assert on_repeats(run).headlines[0].case_id == "other"
    assert standing(run) == [("RP-BANDWIDTH", "fail")]


def test_a_run_without_repeats_of_a_breach_stands_as_it_was() -> None:
    first, other = copied(400.0), copied(1600.0, 1)
    run = run_of(first, other, retests=repeated(other, 1.0, 1.0, 1.0))
    assert standing(run) == [("RP-BANDWIDTH", "fail"), ("RP-BANDWIDTH", "pass")], (
        "a control's repeats judge nothing"
    )


def test_a_repeat_stands_in_with_its_own_samples_and_the_first_stays_in_the_record() -> None:
    first = copied(400.0)
    retests = tuple(
        m.model_copy(update={"samples_us": (float(number),)})
        for number, m in enumerate(repeated(first, 500.0, 600.0, 700.0))
    )
    run = run_of(first, retests=retests)
    (stands,) = on_repeats(run).measurements
    assert (stands.case, stands.samples_us) == (first.case, (1.0,))
    assert run.measurements == (first,)


def test_the_control_is_healthy_of_the_same_kind_and_did_the_same_case() -> None:
    first, same, other_kind = copied(400.0), copied(1600.0, 1), copied(1600.0, 2)
    run = run_of(first, same, other_kind)
    (low,) = breaches(judged(run))
    assert control_of(run, low, (low,)) == gpu(1)
    assert control_of(run_of(first, other_kind), low, (low,)) is None
    both = run_of(first, copied(300.0, 1))
    assert control_of(both, low, breaches(judged(both))) is None
