"""A record that contradicts itself is told, and its measurements are judged."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from roofprobe.acceptance.verdict.judge import judge
from roofprobe.acceptance.verdict.recomputed import recomputed, record
from roofprobe.records.schema import Measurement, Run


def sentence(run: Run) -> str:
    (finding,) = [f for f in record(run, recomputed(run)) if f.code == "RP-RECORD"]
    return f"{finding.judgement}: {finding.sentence}"


def first(run: Run, change: Callable[[Measurement], Measurement]) -> Run:
    head, *rest = run.measurements
    return run.model_copy(update={"measurements": (change(head), *rest)})


def faster(m: Measurement) -> Measurement:
    assert m.rate is not None
    rate = m.rate.model_copy(update={"median": m.rate.median * 1.05})
    return m.model_copy(update={"rate": rate})


def test_a_record_as_it_was_written_agrees_with_itself(healthy: Run) -> None:
    assert sentence(healthy) == "pass: The record agrees with itself"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: first(run, faster), "its work in"),
        (
            lambda run: first(run, lambda m: m.model_copy(update={"samples_us": (1.0,)})),
            "the samples' median",
        ),
        (
            lambda run: first(run, lambda m: m.model_copy(update={"device_id": "GPU-other"})),
            "the device GPU-other",
        ),
        (
            lambda run: run.model_copy(
                update={"measurements": (*run.measurements, run.measurements[0])}
            ),
            "is there 2 times",
        ),
        (lambda run: run.model_copy(update={"headlines": run.headlines[1:]}), "has not"),
        (
            lambda run: run.model_copy(
                update={
                    "headlines": (
                        run.headlines[0].model_copy(
                            update={"rate": run.headlines[1].rate}
                        ),
                        *run.headlines[1:],
                    )
                }
            ),
            "the headline fp64 is",
        ),
        (lambda run: run.model_copy(update={"devices": run.devices * 2}), "the same id"),
    ],
)  # fmt: skip
def test_what_contradicts_is_told_and_the_verdict_is_unknown(
    change: Callable[[Run], Run], words: str, healthy: Run
) -> None:
    changed = change(healthy)
    told = sentence(changed)
    assert told.startswith("unknown: ")
    assert words in told
    assert judge(changed).judgement == "unknown"


def test_a_catalogue_key_that_was_painted_on_is_not_believed(
    h100: ModuleType, healthy: Run
) -> None:
    painted = h100.with_device(healthy, catalogue_key="nvidia_h200_sxm_141gb")
    assert recomputed(painted).devices[0].catalogue_key == "nvidia_h100_sxm5_80gb"
    assert recomputed(painted).ceilings == recomputed(healthy).ceilings
