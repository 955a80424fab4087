"""What every output shows of a verdict: its findings as rows of text, and whom they concern.

Three kinds of findings are told apart: those that press (they do not pass), those that passed, and
those that are not told here: unknown, and not required either, since the host does not tell or the
check does not apply. A run that did not come to its end has not passed, whatever was judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from roofprobe.acceptance.checks import CHECKS, label_of_device
from roofprobe.acceptance.verdict.judge import concluded, rolled_up
from roofprobe.records.schema import Device, Finding, Judgement, Run, Verdict
from roofprobe.reporting import numbers
from roofprobe.reporting.naming import short_device
from roofprobe.reporting.plain_text import clean, listed, shorten

WORST_FIRST: Final[tuple[Judgement, ...]] = ("fail", "unknown", "warn", "pass")
_UNTOLD: Final = "not told here"
_MOST_CODES: Final = 8
_LONGEST_CODE: Final = 40
_LONGEST_REASON: Final = 200
_SPEED: Final = frozenset({"RP-COMPUTE", "RP-BANDWIDTH", "RP-HOST-RELATIVE", "RP-REFERENCE"})


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One judged statement in clean text.

    ``scope`` is where torch finds the device (None: the finding is of the run or its host),
    ``figure`` and ``bound`` are written with their unit, ``source`` is where the bound comes from.
    """

    judgement: Judgement
    required: bool
    code: str
    layer: str
    scope: str | None
    sentence: str
    remedy: str | None
    figure: str
    bound: str
    source: str

    @property
    def place(self) -> str:
        """Return what comes before the sentence in running text: ``cuda:0: ``."""
        return f"{self.scope}: " if self.scope else ""

    @property
    def held(self) -> str:
        """Return the figure against its bound, and where that comes from; empty without figure."""
        if not self.figure:
            return ""
        against = f", bound {self.bound}" if self.bound else ""
        return f"{self.figure}{against}" + (f" ({self.source})" if self.source else "")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom findings concern: one device, or (``device_id`` None) the host and the run as such."""

    device_id: str | None
    device: Device | None
    label: str
    judgement: Judgement
    findings: tuple[Finding, ...]


def judgement_of(run: Run, verdict: Verdict) -> Judgement:
    """Return what a run is judged to be by ``verdict``, see `concluded`."""
    return concluded(verdict.judgement, run.status, run.simulated)


def exit_code(run: Run, verdict: Verdict, *, strict: bool = False) -> int:
    """Return 0 for pass (and warn, unless ``strict``), 1 for fail, 3 for unknown or incomplete."""
    codes = {"pass": 0, "warn": 1 if strict else 0, "fail": 1, "unknown": 3}
    return codes[judgement_of(run, verdict)]


def is_untold(finding: Finding) -> bool:
    """Return whether a finding leaves the verdict alone: unknown, and not required."""
    return finding.judgement == "unknown" and not finding.required


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings by what they weigh, those that are not told last; else in their order."""
    return tuple(sorted(findings, key=lambda f: (is_untold(f), WORST_FIRST.index(f.judgement))))


def finding_rows(run: Run, verdict: Verdict) -> tuple[FindingRow, ...]:
    """Return the verdict's findings as text, the worst first."""
    return tuple(_row(run, finding) for finding in worst_first(verdict.findings))


def _row(run: Run, finding: Finding) -> FindingRow:
    figure, bound = quantities(finding)
    return FindingRow(
        judgement=finding.judgement,
        required=finding.required,
        code=clean(finding.code),
        layer=finding.layer,
        scope=short_device(run, finding.device_id),
        sentence=clean(finding.sentence),
        remedy=clean(finding.remedy) if finding.remedy else None,
        figure=figure,
        bound=bound,
        source=clean(source_of(finding) or ""),
    )


def source_of(finding: Finding) -> str | None:
    """Return where a finding's bound comes from: its own words, else the catalogue's."""
    if finding.bound_source or finding.code not in CHECKS:
        return finding.bound_source
    return CHECKS[finding.code].bound


def pressing(rows: Iterable[FindingRow]) -> tuple[FindingRow, ...]:
    """Return the rows that do not pass."""
    return tuple(r for r in rows if r.judgement != "pass" and not _is_untold_row(r))


def passed(rows: Iterable[FindingRow]) -> tuple[FindingRow, ...]:
    """Return the rows that passed."""
    return tuple(r for r in rows if r.judgement == "pass")


def untold(rows: Iterable[FindingRow]) -> tuple[FindingRow, ...]:
    """Return the rows that have no answer here and need none."""
    return tuple(r for r in rows if _is_untold_row(r))


def _is_untold_row(row: FindingRow) -> bool:
    return row.judgement == "unknown" and not row.required


def by_layer(rows: Iterable[FindingRow]) -> str:
    """Count rows by layer: ``3 integrity, 12 absolute``."""
    return ", ".join(f"{count} {layer}" for layer, count in Counter(r.layer for r in rows).items())


def by_code(rows: Iterable[FindingRow]) -> str:
    """List the codes of rows, with how often where it is more than once."""
    counts = Counter(shorten(row.code, _LONGEST_CODE) for row in rows)
    names = tuple(f"{code} ({n})" if n > 1 else code for code, n in counts.items())
    return listed(names, _MOST_CODES)


def quiet_lines(run: Run, verdict: Verdict, *, reasons: bool = True) -> tuple[str, ...]:
    """Return a line that counts what passed, one per check that is not told here, and on speed.

    Without ``reasons`` one line names the checks that are not told.
    """
    rows = finding_rows(run, verdict)
    lines = [f"Passed: {by_layer(passed(rows))}"] if passed(rows) else []
    alike: dict[str, list[FindingRow]] = {}
    for row in untold(rows):
        alike.setdefault(shorten(row.code, _LONGEST_CODE), []).append(row)
    if alike and not reasons:
        lines.append(f"{_UNTOLD.capitalize()}: {by_code(untold(rows))}")
    elif alike:
        for code, same in [*alike.items()][:_MOST_CODES]:
            more = f" ({len(same)} times)" if len(same) > 1 else ""
            why = shorten(f"{same[0].place}{same[0].sentence}", _LONGEST_REASON)
            lines.append(f"{_UNTOLD.capitalize()}: {code}{more}, {why}")
        if len(alike) > _MOST_CODES:
            lines.append(f"{_UNTOLD.capitalize()}: {len(alike) - _MOST_CODES} more checks")
    return (*lines, *_speed_lines(run, verdict))


def _speed_lines(run: Run, verdict: Verdict) -> tuple[str, ...]:
    tried = {f.device_id for f in verdict.findings if f.code == "RP-REFERENCE"}
    lines = [
        f"Speed was not judged: no bands for {_without_bands(device)}; "
        + (
            "the reference could not judge it either (RP-REFERENCE)"
            if device.device_id in tried
            else "hold it against an earlier run with --against"
        )
        for device in unjudged_speed(run, verdict)
    ]
    return tuple(dict.fromkeys(lines))


def unjudged_speed(run: Run, verdict: Verdict) -> tuple[Device, ...]:
    """Return the devices whose speed was asked for and that no band, peer or reference judged."""
    speed = [f for f in verdict.findings if f.code in _SPEED]
    asked = {f.device_id for f in speed if is_untold(f)}
    judged = {f.device_id for f in speed if f.judgement != "unknown"}
    return tuple(d for d in run.devices if d.device_id in asked - judged)


def _without_bands(device: Device) -> str:
    if device.backend == "cpu":
        return "a processor"
    return shorten(clean(device.name), _LONGEST_CODE)


def counts(verdict: Verdict) -> dict[str, int]:
    """Return how many findings there are of each judgement, and how many are not told."""
    told = Counter(f.judgement for f in verdict.findings if not is_untold(f))
    return {kind: told[kind] for kind in WORST_FIRST} | {
        "not told": sum(map(is_untold, verdict.findings))
    }


def verdict_sentence(run: Run, verdict: Verdict) -> str:
    """Say in one short sentence what the findings amount to."""
    if not verdict.findings:
        return "This run was not judged." if run.verdict is None else "Nothing could be judged."
    told = [
        f"{count} {_UNTOLD if kind == 'not told' else kind}"
        for kind, count in counts(verdict).items()
        if count
    ]
    return f"{', '.join(told)}{_on_speed(run, verdict)}."


def _on_speed(run: Run, verdict: Verdict) -> str:
    silent = len(unjudged_speed(run, verdict))
    if not silent:
        return ""
    of = "" if silent == len(run.devices) else f" of {silent} of {len(run.devices)} devices"
    return f"; speed{of} was not judged"


def scopes(run: Run, verdict: Verdict) -> tuple[Scope, ...]:
    """Return the devices of the run, those that only findings name, and at last the host."""
    found = []
    named = {f.device_id: f.device for f in verdict.findings if f.device_id is not None}
    devices = {device.device_id: device for device in run.devices}
    for device_id in dict.fromkeys([*devices, *named]):
        device = devices.get(device_id)
        own = tuple(f for f in verdict.findings if f.device_id == device_id)
        label = label_of_device(device) if device else named[device_id] or device_id
        judgement = verdict.devices.get(device_id, rolled_up(own))
        found.append(Scope(device_id, device, label, judgement, own))
    rest = tuple(f for f in verdict.findings if f.device_id is None)
    return (*found, Scope(None, None, run.environment.host, verdict.host, rest))


def quantities(finding: Finding) -> tuple[str, str]:
    """Write a finding's figure and bound in one unit, with digits enough to tell them apart.

    What is absent is an empty text. A unit of ``share of …`` is written in percent.
    """
    unit = clean(finding.unit or "")
    pair = (finding.figure, finding.bound)
    known = [value for value in pair if value is not None]
    figure, bound = (_quantity(value, unit, known, exact=False) for value in pair)
    if figure == bound and finding.figure != finding.bound:
        figure, bound = (_quantity(value, unit, known, exact=True) for value in pair)
    if figure and unit.startswith("share"):
        figure += unit.removeprefix("share")
    return figure, bound


def _quantity(value: float | None, unit: str, known: Sequence[float], *, exact: bool) -> str:
    if value is None:
        return ""
    if unit.startswith("share"):
        return f"{value * 100:.12g}%" if exact else numbers.share(value)
    if unit == "bytes" and not exact:
        return numbers.capacity(value)
    scale = numbers.scale_for(max(map(abs, known)), unit)
    number = value * scale.factor
    few = abs(number) < 1e6 and not exact and not number.is_integer()
    text = numbers.digits(number) if few else f"{number:.12g}"
    return f"{text}{'' if scale.unit == '%' else ' '}{scale.unit}".rstrip()
