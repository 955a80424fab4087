import pytest

from roofprobe.acceptance.checks import CHECKS
from roofprobe.acceptance.verdict.judge import verdict_of
from roofprobe.records.schema import Finding, Judgement, Run, Verdict
from roofprobe.reporting import verdict_rows


def finding(judgement: Judgement = "warn", **fields: object) -> Finding:
    return Finding.model_validate(
        {
            "code": "RP-COMPUTE", "judgement": judgement, "layer": "absolute", "sentence": "So.",
            **fields,
        }
    )  # fmt: skip


def test_findings_come_worst_first_with_the_device_as_torch_names_it(example_run: Run) -> None:
    rows = verdict_rows.finding_rows(example_run, verdict_of(example_run))
    assert [(row.judgement, row.scope) for row in rows] == [
        ("unknown", "cpu"),
        ("warn", "cuda:0"),
        ("pass", "cuda:0"),
    ]


def test_what_presses_passed_and_is_not_told_are_told_apart(judged_run: Run) -> None:
    verdict = verdict_of(judged_run)
    rows = verdict_rows.finding_rows(judged_run, verdict)
    assert [row.code for row in verdict_rows.pressing(rows)] == [
        "RP-COMPUTE", "RP-INVALID", "RP-BANDWIDTH",
    ]  # fmt: skip
    assert verdict_rows.quiet_lines(judged_run, verdict) == (
        "Passed: 2 integrity, 1 absolute",
        "Not told here: RP-EXAMPLE-LOG, cuda:1: The kernel's log may not be read here.",
    )
    assert verdict_rows.quiet_lines(judged_run, verdict, reasons=False)[1:] == (
        "Not told here: RP-EXAMPLE-LOG",
    )
    assert verdict_rows.verdict_sentence(judged_run, verdict) == (
        "1 fail, 1 unknown, 1 warn, 3 pass, 1 not told here."
    )


def test_speed_that_nobody_judged_is_said_plainly_and_speed_that_was_is_not(
    judged_run: Run,
) -> None:
    gpu, *_, cpu = judged_run.devices
    untold = [
        finding("unknown", required=False, device_id=device.device_id, sentence="No bands.")
        for device in (gpu, cpu)
    ]
    verdict = Verdict(judgement="pass", findings=(*untold, finding("pass", code="RP-COMPLETE")))
    assert verdict_rows.quiet_lines(judged_run, verdict)[1:] == (
        "Not told here: RP-COMPUTE (2 times), cuda:0: No bands.",
        "Speed was not judged: no bands for Example GPU; hold it against an earlier run with "
        "--against",
        "Speed was not judged: no bands for a processor; hold it against an earlier run with "
        "--against",
    )
    assert verdict_rows.verdict_sentence(judged_run, verdict) == (
        "1 pass, 2 not told here; speed of 2 of 3 devices was not judged."
    )
    tried = finding("unknown", code="RP-REFERENCE", device_id=cpu.device_id)
    after = verdict.model_copy(update={"findings": (*verdict.findings, tried)})
    assert verdict_rows.quiet_lines(judged_run, after)[-1] == (
        "Speed was not judged: no bands for a processor; the reference could not judge it either "
        "(RP-REFERENCE)"
    )
    held = [
        finding("pass", code="RP-REFERENCE", device_id=device.device_id) for device in (gpu, cpu)
    ]
    told = verdict.model_copy(update={"findings": (*verdict.findings, *held)})
    assert "not judged" not in " ".join(
        (
            *verdict_rows.quiet_lines(judged_run, told),
            verdict_rows.verdict_sentence(judged_run, told),
        )
    )


def test_a_run_that_was_not_judged_is_unknown(empty_run: Run) -> None:
    verdict = verdict_of(empty_run)
    assert verdict_rows.judgement_of(empty_run, verdict) == "unknown"
    assert verdict_rows.verdict_sentence(empty_run, verdict) == "This run was not judged."
    judged = empty_run.model_copy(update={"verdict": verdict})
    assert verdict_rows.verdict_sentence(judged, verdict) == "Nothing could be judged."


@pytest.mark.parametrize(
    ("judgement", "complete", "strict", "code"),
    [
        ("pass", True, True, 0), ("warn", True, False, 0), ("warn", True, True, 1),
        ("fail", True, False, 1), ("unknown", True, False, 3),
        ("pass", False, False, 3), ("warn", False, True, 3), ("fail", False, False, 1),
    ],
)  # fmt: skip
def test_the_exit_code_is_never_0_without_the_end_of_the_run(
    judgement: Judgement, complete: bool, strict: bool, code: int, empty_run: Run
) -> None:
    run = empty_run.model_copy(update={"status": "complete" if complete else "incomplete"})
    assert verdict_rows.exit_code(run, Verdict(judgement=judgement), strict=strict) == code


@pytest.mark.parametrize(
    ("figure", "bound", "unit", "texts"),
    [
        (0.3, 0.35, "share of the derived peak", ("30% of the derived peak", "35%")),
        (0.351, 0.352, "share of the median", ("35.1% of the median", "35.2%")),
        (1200.0, 2400.0, "GB/s", ("1200 GB/s", "2400 GB/s")),
        (0.1234, 0.2, "TFLOPS", ("123 GFLOPS", "200 GFLOPS")),
        (0.5, 1.0, "TFLOPS", ("0.500 TFLOPS", "1 TFLOPS")),
        (4.0, 5.0, None, ("4", "5")),
        (-3.5, -7.0, "%", ("-3.50%", "-7%")),
        (85e9, 80e9, "bytes", ("79.2 GiB", "74.5 GiB")),
        (1.00001, 1.00002, "W", ("1.00001 W", "1.00002 W")),
        (1e300, 1.0, "x", ("1e+300 x", "1 x")),
        (7.0, None, "errors", ("7 errors", "")),
        (None, 7.0, "errors", ("", "7 errors")),
        (None, None, "errors", ("", "")),
        (0.0, 0.0, "share of it", ("0% of it", "0%")),
    ],
)
def test_figure_and_bound_have_one_unit_and_digits_that_tell_them_apart(
    figure: float | None, bound: float | None, unit: str | None, texts: tuple[str, str]
) -> None:
    made = finding(figure=figure, bound=bound, unit=unit)
    assert verdict_rows.quantities(made) == texts


def test_a_bound_without_a_source_of_its_own_has_the_catalogues() -> None:
    assert verdict_rows.source_of(finding()) == CHECKS[finding().code].bound
    assert verdict_rows.source_of(finding(bound_source="a datasheet")) == "a datasheet"
    assert verdict_rows.source_of(finding(code="RP-NOBODY-KNOWS")) is None


def test_a_device_that_only_findings_name_is_there_too_and_the_host_is_last(
    empty_run: Run,
) -> None:
    found = (finding("fail", device_id="GPU-gone"), finding("warn"))
    verdict = Verdict(judgement="fail", host="warn", findings=found)
    gone, host = verdict_rows.scopes(empty_run, verdict)
    assert (gone.label, gone.judgement) == ("GPU-gone", "fail")
    assert (host.device_id, host.label, host.judgement) == (None, "example-host", "warn")


def test_many_codes_are_counted_and_not_all_listed(judged_run: Run) -> None:
    (row,) = verdict_rows.untold(verdict_rows.finding_rows(judged_run, verdict_of(judged_run)))
    assert verdict_rows.by_code([row, row]) == "RP-EXAMPLE-LOG (2)"
