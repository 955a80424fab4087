"""What differs between two sides beside the figures is said first."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from roofprobe.acceptance.compare.comparison import Remark
from roofprobe.acceptance.compare.judge import compare_runs
from roofprobe.acceptance.compare.sides import Runs
from roofprobe.records.schema import Limits, Run, Telemetry


def warnings(a: Run, b: Run) -> tuple[Remark, ...]:
    return compare_runs(Runs(Path("a"), (a,)), Runs(Path("b"), (b,))).warnings


def test_conditions_that_differ_are_warned_about(built: ModuleType) -> None:
    changed = built.device(
        driver="560.2",
        limits=Limits(power_limit_w=500.0, ecc_enabled=False, mig_enabled=True),
        other_processes=("1234 python",),
    )
    plain = built.device(limits=Limits(power_limit_w=700.0, ecc_enabled=True, mig_enabled=False))
    b = built.run(
        [built.measured("x", [1.0], notes=(built.CROWDED,))],
        devices=[changed],
        environment={"torch": "2.7", "host": "other", "libraries": {"nvidia-cublas": "13.1"}},
        options={"tier": "soak"},
        status="incomplete",
    )
    a = built.run(
        [], devices=[plain],
        environment={"torch": "2.6", "libraries": {"nvidia-cublas": "13.0"}},
    )  # fmt: skip
    found = {remark.code: remark.sentence for remark in warnings(a, b)}
    assert set(found) == {
        "differs-driver", "differs-power-limit", "differs-ecc", "differs-mig", "differs-torch",
        "differs-host", "differs-library", "differs-tier", "incomplete-run", "other-processes",
        "not-alone",
    }  # fmt: skip
    assert found["differs-power-limit"] == "power limit in W: 700 in A, 500 in B"
    assert found["differs-ecc"] == "ECC mode: on in A, off in B"
    same = built.run([], devices=[plain])
    assert warnings(same, same) == ()


def test_throttling_on_one_side_is_warned_about(built: ModuleType) -> None:
    hot = Telemetry(throttle_reasons=("hw-thermal",))
    a = built.run([built.measured("x", [1.0])])
    b = built.run([built.measured("x", [1.0], more={"telemetry": hot})])
    (warning,) = warnings(a, b)
    assert warning.sentence == "reasons for low clocks: none in A, hw-thermal in B"
