"""A verdict as JUnit XML, which CI systems show as tests.

One suite per device and one for the host, one test per finding. A check that failed is a
``failure``; what could not be decided although it had to be is an ``error``; what is unknown and
not required is ``skipped`` with its reason. JUnit knows no warning: such a test passes and says so
in its ``system-out``. The suite of a device of which nothing was decided holds an error, and so
does a run without its end, so that what measured nothing is never green.

The document is what the schema of Jenkins' xunit plugin allows (junit-10.xsd in
https://github.com/jenkinsci/xunit-plugin). Its suites are those of Maven's Surefire, with a time
stamp and a host name (https://maven.apache.org/surefire/maven-surefire-plugin,
surefire-test-report.xsd). In a class name a full stop parts packages from classes, so those of a
device's label are underscores there; the suite's name is the label itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from xml.etree import ElementTree

from roofprobe.records.schema import Finding, Judgement, Run, Verdict
from roofprobe.records.titles import label_of
from roofprobe.reporting import verdict_rows
from roofprobe.reporting.plain_text import shorten
from roofprobe.reporting.verdict_rows import Scope

Element = ElementTree.Element
Outcome = Literal["failure", "error", "skipped", "passed"]

_OUTCOMES: Final[dict[Judgement, Outcome]] = {
    "fail": "failure", "unknown": "error", "warn": "passed", "pass": "passed",
}  # fmt: skip
_COUNTED: Final[tuple[tuple[str, Outcome], ...]] = (
    ("failures", "failure"), ("errors", "error"), ("skipped", "skipped"),
)  # fmt: skip
_LONGEST_NAME: Final = 250
# Char of XML 1.0 (https://www.w3.org/TR/xml/#charsets), negated. A carriage return is one, but no
# reader gives it back unless it is written as a reference.
_ILLEGAL: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class _Test:
    name: str
    outcome: Outcome
    kind: str
    sentence: str
    details: str


def junit_bytes(run: Run, verdict: Verdict) -> bytes:
    """Return the verdict on ``run`` as JUnit XML in UTF-8."""
    scopes = verdict_rows.scopes(run, verdict)
    suites = [(scope, _tests(run, scope)) for scope in scopes]
    suites = [(scope, tests) for scope, tests in suites if tests]
    undecided = verdict_rows.exit_code(run, verdict) == 3
    if undecided and not any(t.outcome == "error" for _, tests in suites for t in tests):
        suites = [(scope, tests) for scope, tests in suites if scope.device_id is not None]
        host = scopes[-1]
        suites.append((host, [*_tests(run, host), _undecided(run, verdict)]))
    root = ElementTree.Element("testsuites", {"name": "roofprobe"})
    every = [test for _, tests in suites for test in tests]
    root.set("tests", str(len(every)))
    for attribute, outcome in _COUNTED[:2]:
        root.set(attribute, str(sum(test.outcome == outcome for test in every)))
    labels = _unique([_label(scope) for scope, _ in suites])
    for (scope, tests), label in zip(suites, labels, strict=True):
        root.append(_suite(run, scope, tests, label))
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _tests(run: Run, scope: Scope) -> list[_Test]:
    names = _names(run, scope.findings)
    tests = [_test(f, name) for f, name in zip(scope.findings, names, strict=True)]
    undecided = scope.device_id is not None and scope.judgement == "unknown"
    if undecided and not any(test.outcome == "error" for test in tests):
        tests.append(_Test("verdict", "error", "unknown", "No check was answered here.", ""))
    return tests


def _undecided(run: Run, verdict: Verdict) -> _Test:
    ended = {
        "running": "still goes on",
        "complete": "came to its end",
        "incomplete": "was cut short",
    }
    sentence = f"The run {ended[run.status]}, and its verdict is unknown."
    details = verdict_rows.verdict_sentence(run, verdict)
    return _Test("verdict", "error", "unknown", sentence, details)


def _names(run: Run, findings: Sequence[Finding]) -> list[str]:
    """Return code and row of each finding, with the case too where these are not unique."""
    cases = {m.case.case_id: m.case for m in run.measurements}
    names = []
    for finding in findings:
        case = cases.get(finding.case_id or "")
        names.append(f"{finding.code} {label_of(case) if case else ''}".rstrip())
    counts = Counter(names)
    names = [
        f"{name} {finding.case_id}" if counts[name] > 1 and finding.case_id else name
        for name, finding in zip(names, findings, strict=True)
    ]
    return _unique(names)


def _unique(names: Sequence[str]) -> list[str]:
    """Return names that XML can hold, none of them too long, with a number where one repeats."""
    seen: Counter[str] = Counter()
    unique = []
    for text in names:
        name = shorten(xml_text(text), _LONGEST_NAME)
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return unique


def _test(finding: Finding, name: str) -> _Test:
    outcome = _OUTCOMES[finding.judgement]
    if verdict_rows.is_untold(finding):
        outcome = "skipped"
    figure, bound = verdict_rows.quantities(finding)
    told = (
        ("figure", figure), ("bound", bound),
        ("bound from", verdict_rows.source_of(finding) if bound else ""),
        ("case", finding.case_id), ("remedy", finding.remedy),
    )  # fmt: skip
    details = "\n".join(f"{what}: {text}" for what, text in told if text)
    return _Test(name, outcome, finding.judgement, finding.sentence, details)


def _label(scope: Scope) -> str:
    return scope.label if scope.device_id is not None else f"host {scope.label}"


def _suite(run: Run, scope: Scope, tests: Sequence[_Test], label: str) -> Element:
    suite = ElementTree.Element("testsuite", {"name": label, "tests": str(len(tests))})
    for attribute, outcome in _COUNTED:
        suite.set(attribute, str(sum(test.outcome == outcome for test in tests)))
    suite.set("time", _time(run, scope))
    suite.set("timestamp", _timestamp(run.started_at))
    suite.set("hostname", shorten(xml_text(run.environment.host), _LONGEST_NAME))
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(run, scope):
        ElementTree.SubElement(properties, "property", {"name": name, "value": xml_text(value)})
    for test in tests:
        suite.append(_testcase(label.replace(".", "_"), test))
    return suite


def _testcase(class_name: str, test: _Test) -> Element:
    case = ElementTree.Element(
        "testcase", {"classname": class_name, "name": test.name, "time": "0"}
    )
    said = {"message": xml_text(test.sentence)}
    if test.outcome in ("failure", "error"):
        child = ElementTree.SubElement(case, test.outcome, {**said, "type": test.kind})
        child.text = _body(test)
    elif test.outcome == "skipped":
        ElementTree.SubElement(case, "skipped", said)
    elif test.kind == "warn":
        ElementTree.SubElement(case, "system-out").text = f"warn: {_body(test)}"
    return case


def _body(test: _Test) -> str:
    text = xml_text(f"{test.sentence}\n{test.details}")
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip()


def _properties(run: Run, scope: Scope) -> list[tuple[str, str]]:
    device = scope.device
    known = {
        "verdict": scope.judgement,
        "run": run.run_id,
        "roofprobe": run.environment.roofprobe,
        "method_version": str(run.method_version),
        "schema_version": str(run.schema_version),
        "python": run.environment.python,
        "torch": run.environment.torch,
        "triton": run.environment.triton,
        "device": device.name if device else None,
        "uuid": device.uuid if device else None,
        "pci_bus_id": device.pci_bus_id if device else None,
        "driver": device.driver if device else None,
        "runtime": device.runtime if device else None,
    }
    return [(name, value) for name, value in known.items() if value]


def _time(run: Run, scope: Scope) -> str:
    own = (m.wall_s for m in run.measurements if m.device_id == scope.device_id)
    return f"{sum(seconds or 0.0 for seconds in own):.3f}"


def _timestamp(started_at: str) -> str:
    """Return the start in UTC without a zone, as the schemas want it; as it is if unreadable."""
    try:
        moment = datetime.fromisoformat(started_at)
    except ValueError:
        return xml_text(started_at)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def xml_text(text: str) -> str:
    """Return ``text`` without the characters that XML 1.0 cannot hold."""
    return _ILLEGAL.sub("", text)
