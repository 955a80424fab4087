import os
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofprobe.acceptance.verdict.judge import verdict_of
from roofprobe.records.schema import Finding, Run, Verdict
from roofprobe.reporting.junit import junit_bytes, xml_text

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = "<b>&amp;\"'\\ ]]> <!-- \x00\x1b[31m\ufffe\u202e\t\n\r é 🦉"
# What both schemas allow: attributes, and children in this order.
ALLOWED: dict[str, tuple[set[str], tuple[str, ...]]] = {
    "testsuites": ({"name", "tests", "failures", "errors"}, ("testsuite",)),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname"},
        ("properties", "testcase"),
    ),
    "properties": (set(), ("property",)),
    "property": ({"name", "value"}, ()),
    "testcase": (
        {"classname", "name", "time"}, ("failure", "error", "skipped", "system-out"),
    ),
    "failure": ({"message", "type"}, ()),
    "error": ({"message", "type"}, ()),
    "skipped": ({"message"}, ()),
    "system-out": (set(), ()),
}  # fmt: skip
COUNTED = (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
RUNS = ["judged_run", "example_run", "incomplete_run", "empty_run", "hostile_run"]


def parsed(run: Run) -> ElementTree.Element:
    """Read the document back and insist on elements, attributes, order and counts."""
    root = ElementTree.fromstring(junit_bytes(run, verdict_of(run)))
    for element in root.iter():
        attributes, children = ALLOWED[element.tag]
        assert set(element.attrib) == attributes
        places = [children.index(child.tag) for child in element]
        assert places == sorted(places)
    for suite in (root, *root):
        cases = list(suite.iter("testcase"))
        assert suite.get("tests") == str(len(cases))
        for attribute, tag in COUNTED:
            assert suite.get(attribute) in (None, str(len(list(suite.iter(tag)))))
    for case in root.iter("testcase"):
        assert len(case) <= 1
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names)
    return root


def outcomes(run: Run) -> dict[str, str]:
    """Return what became of each test, by device and name."""
    return {
        f"{suite.get('name', '').split(' ')[0]} {case.get('name')}": case[0].tag
        if len(case)
        else "passed"
        for suite in parsed(run)
        for case in suite.iter("testcase")
    }


@pytest.mark.parametrize("name", RUNS)
def test_the_document_keeps_to_the_schemas(name: str, request: pytest.FixtureRequest) -> None:
    assert list(parsed(request.getfixturevalue(name)))


def test_the_document_is_the_golden_one(judged_run: Run) -> None:
    text = junit_bytes(judged_run, verdict_of(judged_run)).decode()
    golden = GOLDEN / "judged_run.junit.xml"
    if os.environ.get("ROOFPROBE_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_failure_error_skipped_and_warning_are_told_apart(judged_run: Run) -> None:
    assert outcomes(judged_run) == {
        "cuda:0 RP-COMPUTE bf16": "passed",
        "cuda:0 RP-INVALID write fp32": "error",
        "cuda:1 RP-COMPUTE bf16": "failure",
        "cuda:1 RP-BANDWIDTH read fp32": "system-out",
        "cuda:1 RP-EXAMPLE-LOG": "skipped",
        "Example RP-UNSTABLE-BITS": "passed",
        "host RP-COMPLETE": "passed",
    }


def test_a_run_that_was_not_judged_is_never_green(empty_run: Run, incomplete_run: Run) -> None:
    assert outcomes(empty_run) == {"host verdict": "error"}
    assert set(outcomes(incomplete_run).values()) == {"error"}


def test_a_run_without_its_end_is_never_green(judged_run: Run) -> None:
    found = tuple(f for f in verdict_of(judged_run).findings if f.judgement == "pass")
    passed = judged_run.model_copy(
        update={
            "verdict": Verdict(judgement="pass", host="pass", findings=found),
            "devices": (judged_run.devices[0], judged_run.devices[2]),
        }
    )
    assert "error" not in outcomes(passed).values()
    ended = outcomes(passed.model_copy(update={"status": "incomplete"}))
    assert ended["host verdict"] == "error"
    assert ended["host RP-COMPLETE"] == "passed"


def test_a_device_of_which_nothing_is_told_is_never_green(judged_run: Run) -> None:
    (first, second, _) = judged_run.devices
    untold = tuple(f for f in verdict_of(judged_run).findings if not f.required)
    verdict = Verdict(
        judgement="pass", devices={second.device_id: "unknown", first.device_id: "pass"},
        host="pass", findings=untold,
    )  # fmt: skip
    run = judged_run.model_copy(update={"verdict": verdict, "devices": (first, second)})
    assert outcomes(run) == {
        "cuda:1 RP-EXAMPLE-LOG": "skipped", "cuda:1 verdict": "error",
    }  # fmt: skip


def test_tests_of_one_name_are_told_apart_by_their_case(judged_run: Run) -> None:
    (first, *_) = judged_run.devices
    common = {"judgement": "warn", "layer": "integrity", "sentence": "s", "code": "RP-INVALID"}
    found = tuple(
        Finding.model_validate({**common, "device_id": first.device_id, "case_id": case_id})
        for case_id in ("gemm-bf16-torch.mm-8192", "gemm-bf16-torch.mm-512", None, None)
    )
    run = judged_run.model_copy(
        update={"verdict": Verdict(judgement="warn", findings=found), "devices": (first,)}
    )
    assert list(outcomes(run)) == [
        "cuda:0 RP-INVALID bf16 gemm-bf16-torch.mm-8192",
        "cuda:0 RP-INVALID bf16 gemm-bf16-torch.mm-512",
        "cuda:0 RP-INVALID",
        "cuda:0 RP-INVALID #2",
    ]


def test_a_class_name_has_no_full_stop_and_the_suite_the_whole_label(judged_run: Run) -> None:
    suite = parsed(judged_run)[0]
    assert suite.get("name") == "cuda:0 (GPU-00000000-example, 0000:00:00.0)"
    assert suite.find("testcase").get("classname") == (  # type: ignore[union-attr]
        "cuda:0 (GPU-00000000-example, 0000:00:00_0)"
    )


def test_versions_are_properties(judged_run: Run) -> None:
    properties = {p.get("name"): p.get("value") for p in parsed(judged_run)[1].iter("property")}
    assert properties["uuid"] == "GPU-11111111-example"
    assert properties["verdict"] == "fail"
    assert {"roofprobe", "torch", "driver", "method_version"} <= set(properties)


@pytest.mark.parametrize("text", [HOSTILE, "x" * 100_000, "", " ", "]]>", "\n\n"])
def test_hostile_names_are_text(text: str, spoilt_run: Callable[[str], Run]) -> None:
    root = parsed(spoilt_run(text))
    messages = {child.get("message") for child in root.iter("failure")}
    assert messages == {xml_text(text)}
    assert all(len(str(case.get("name"))) < 300 for case in root.iter("testcase"))


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(codec="utf-8")))
def test_what_is_read_back_is_what_was_written_less_illegal_characters(text: str) -> None:
    found = Finding(code="RP-X", judgement="fail", layer="health", sentence=text)
    run = Run.model_validate(
        {
            "run_id": "r", "status": "complete", "started_at": text,
            "options": {"families": ()},
            "environment": dict.fromkeys(("host", "os", "kernel", "python", "roofprobe"), text),
        }
    )  # fmt: skip
    root = ElementTree.fromstring(junit_bytes(run, Verdict(judgement="fail", findings=(found,))))
    (failure,) = root.iter("failure")
    legal = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "", text)
    assert failure.get("message") == legal
    lines = legal.replace("\r\n", "\n").replace("\r", "\n")
    assert (failure.text or "") == lines.rstrip()
