"""Comparisons of hand-made runs: every verdict, its reason and its cause, exactly."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from roofprobe.acceptance.compare.comparison import ComparedRow, Comparison
from roofprobe.acceptance.compare.judge import _needed, compare_runs, exit_code
from roofprobe.acceptance.compare.sides import Runs
from roofprobe.records.schema import Note, Peer, Run, Span, Telemetry


def run_of(built: ModuleType, measurements: list[Any], **more: Any) -> Run:
    found = built.run(measurements, **more)
    assert isinstance(found, Run)
    return found


def side(*runs: Run) -> Runs:
    return Runs(Path("somewhere"), runs)


def compared(a: Run, b: Run, **more: Any) -> Comparison:
    return compare_runs(side(a), side(b), **more)


def only_row(comparison: Comparison) -> ComparedRow:
    (row,) = comparison.rows
    return row


def codes(row: ComparedRow) -> set[str]:
    return {reason.code for reason in row.reasons}


def warned(comparison: Comparison) -> set[str]:
    return {remark.code for remark in comparison.warnings}


def of_one(built: ModuleType, a: Any, b: Any, **more: Any) -> ComparedRow:
    return only_row(compared(built.run([a]), built.run([b], run_id="b"), **more))


def test_ten_percent_more_time_is_slower_by_exactly_that(built: ModuleType) -> None:
    row = of_one(
        built, built.measured("x", built.steady(100)), built.measured("x", built.steady(110))
    )
    assert (row.verdict, row.reasons) == ("slower", ())
    assert row.ratio is not None
    assert row.ratio == pytest.approx(1.1)
    assert row.a is not None
    assert row.b is not None
    assert row.a.median == pytest.approx(100)
    assert row.b.median == pytest.approx(110)
    assert row.ratio_ci_low is not None
    assert row.ratio_ci_high is not None
    assert 1.09 < row.ratio_ci_low <= row.ratio <= row.ratio_ci_high < 1.11
    assert row.p_adjusted is not None
    assert row.p_adjusted < 1e-6
    assert row.floor == pytest.approx(0.02), "a GPU's least effect of compute"


def test_less_time_is_faster(built: ModuleType) -> None:
    row = of_one(
        built, built.measured("x", built.steady(110)), built.measured("x", built.steady(100))
    )
    assert row.verdict == "faster"


def test_a_significant_but_small_difference_is_no_change(built: ModuleType) -> None:
    row = of_one(
        built, built.measured("x", built.steady(100)), built.measured("x", built.steady(101))
    )
    assert row.verdict == "~"
    assert row.p_value is not None
    assert row.p_value < 0.001
    assert row.reasons == ()


@pytest.mark.parametrize(("a", "b"), [(1, 20), (20, 1), (1, 1)])
def test_one_sample_on_a_side_is_ambiguous(built: ModuleType, a: int, b: int) -> None:
    row = of_one(
        built, built.measured("x", [100.0] * a), built.measured("x", [150.0] * b)
    )  # fmt: skip
    assert row.verdict == "ambiguous"
    assert "one-sample" in codes(row)
    assert row.ratio == 1.5


def test_fewer_than_five_samples_are_ambiguous_whatever_they_say(built: ModuleType) -> None:
    row = of_one(built, built.measured("x", [100.0] * 4), built.measured("x", [150.0] * 20))
    assert (row.verdict, codes(row)) == ("ambiguous", {"few-samples"})


def test_a_median_without_its_samples_is_ambiguous(built: ModuleType) -> None:
    bare = built.measured("x", built.steady(150), keep_samples=False)
    row = of_one(built, built.measured("x", built.steady(100)), bare)
    assert row.verdict == "ambiguous"
    assert "no-samples" in codes(row)
    assert row.ratio == pytest.approx(1.5)


def test_an_interval_too_wide_to_exclude_a_change_is_ambiguous(built: ModuleType) -> None:
    wide = [80.0, 90.0, 100.0, 110.0, 120.0] * 2
    row = of_one(built, built.measured("x", wide), built.measured("x", wide))
    assert (row.verdict, codes(row)) == ("ambiguous", {"wide-interval"})
    assert row.ratio == 1.0


def test_a_change_of_the_slow_samples_alone_is_not_proven(built: ModuleType) -> None:
    a = [100.0 + i / 100 for i in range(20)]
    b = [100.0] * 8 + [130.0 + i / 100 for i in range(12)]
    row = of_one(built, built.measured("x", a), built.measured("x", b))
    assert row.verdict == "ambiguous"
    assert "tail-only" in codes(row)


def test_drift_within_a_run_raises_the_floor(built: ModuleType) -> None:
    drifting = built.steady(100, 20) + built.steady(112, 20)
    a = built.measured("x", built.steady(100, 40))
    calm = of_one(built, a, built.measured("x", built.steady(106, 40)))
    assert calm.verdict == "slower"
    row = of_one(built, a, built.measured("x", drifting))
    assert row.verdict == "ambiguous"
    assert row.floor is not None
    assert row.floor > 0.02


def test_a_slower_side_that_was_not_alone_proves_nothing(built: ModuleType) -> None:
    calm = built.measured("x", built.steady(100))
    crowded = built.measured("x", built.steady(150), notes=(built.CROWDED,))
    row = of_one(built, calm, crowded)
    assert (row.verdict, codes(row)) == ("ambiguous", {"not-alone"})


def test_a_faster_side_that_was_not_alone_is_faster_all_the_same(built: ModuleType) -> None:
    calm = built.measured("x", built.steady(100))
    crowded = built.measured("x", built.steady(90), notes=(built.CROWDED,))
    assert of_one(built, calm, crowded).verdict == "faster"


@pytest.mark.parametrize(
    ("clocks", "cause"),
    [((2000.0, 1600.0), "clock"), ((2000.0, 2000.0), "cycles"), ((2000.0, None), None)],
)
def test_the_cause_is_the_clock_where_the_cycles_stayed(
    built: ModuleType, clocks: tuple[float, float | None], cause: str | None
) -> None:
    a = built.measured("x", built.steady(100), clock_mhz=clocks[0])
    b = built.measured("x", built.steady(125), clock_mhz=clocks[1])
    row = of_one(built, a, b)
    assert (row.verdict, row.cause) == ("slower", cause)
    if cause == "clock":
        assert row.cycles_ratio == pytest.approx(1.0)


def test_a_reported_clock_counts_where_none_was_counted(built: ModuleType) -> None:
    def at(mhz: float, us: float) -> Any:
        told = Telemetry(sm_clock_mhz=Span(min=mhz, median=mhz, max=mhz))
        return built.measured("x", built.steady(us), more={"telemetry": told})

    assert of_one(built, at(2000, 100), at(1000, 200)).cause == "clock"


def test_a_usual_wander_of_the_clock_is_no_proven_change(built: ModuleType) -> None:
    def on_cpu(mhz: float, us: float, run_id: str) -> Run:
        m = built.measured("x", built.steady(us), device_id="cpu", clock_mhz=mhz)
        return run_of(built, [m], devices=[built.processor()], run_id=run_id)

    row = only_row(compared(on_cpu(4000, 100, "a"), on_cpu(3800, 106, "b")))
    assert (row.verdict, codes(row)) == ("ambiguous", {"disturbed"})
    other_way = only_row(compared(on_cpu(4000, 100, "a"), on_cpu(4200, 106, "b")))
    assert other_way.verdict == "slower"


def test_a_row_of_one_side_is_listed_with_what_the_other_says(built: ModuleType) -> None:
    a = built.run([
        built.measured("both", built.steady(1)),
        built.measured("gone", built.steady(1)),
        built.measured("broken", built.steady(1)),
        built.absent("new", "skipped", "too-old"),
        built.absent("never", "skipped", "too-old"),
    ])  # fmt: skip
    b = built.run([
        built.measured("both", built.steady(1)),
        built.absent("broken", "failed", "wrong-result"),
        built.measured("new", built.steady(1)),
        built.absent("never", "skipped", "too-old"),
        built.measured("newer", built.steady(1)),
    ], run_id="b")  # fmt: skip
    found = compared(a, b)
    rows = {row.key: row for row in found.rows}
    assert list(rows) == ["both", "gone", "broken", "new", "never", "newer"]
    verdicts = {key: row.verdict for key, row in rows.items()}
    assert verdicts == {
        "both": "~", "gone": "only-a", "broken": "only-a", "new": "only-b",
        "never": "not-comparable", "newer": "only-b",
    }  # fmt: skip
    assert codes(rows["gone"]) == {"not-in-side"}
    assert rows["broken"].reasons[0].sentence == "failed in B: it is wrong-result"
    assert rows["broken"].b is not None
    assert rows["broken"].b.status == "failed"
    assert rows["broken"].a is not None
    assert rows["broken"].a.median == pytest.approx(1)
    assert codes(rows["new"]) == {"skipped-in-side"}
    assert codes(rows["never"]) == {"measured-on-neither-side"}
    assert [f.code for f in found.findings] == ["lost-rows"]
    assert found.compared == 1


def test_what_failed_in_b_is_a_regression_where_one_is_asked_for(built: ModuleType) -> None:
    a = built.run([built.measured("x", built.steady(1)), built.measured("y", built.steady(1))])
    b = built.run(
        [built.absent("x", "failed", "wrong-result"), built.measured("y", built.steady(1))]
    )
    found = compared(a, b, fail_on=0.05)
    assert found.regressions == ("x",)
    assert exit_code(found) == 1
    assert exit_code(compared(a, b)) == 0
    skipped = built.run([built.absent("x", "skipped", "no"), b.measurements[1]])
    assert exit_code(compared(a, skipped, fail_on=0.05)) == 0


@pytest.mark.parametrize("zero", ["a", "b"])
def test_a_zero_time_judges_nothing_and_stops_nothing(built: ModuleType, zero: str) -> None:
    good, bad = built.measured("x", built.steady(1)), built.measured("x", [0.0] * 20)
    other = built.measured("y", built.steady(1))
    sides = [[bad, other], [good, other]] if zero == "a" else [[good, other], [bad, other]]
    found = compared(*map(built.run, sides), fail_on=0.0)
    rows = {row.key: row for row in found.rows}
    assert (rows["x"].verdict, codes(rows["x"])) == ("not-comparable", {"no-baseline"})
    assert rows["y"].verdict == "~"
    assert (found.compared, exit_code(found)) == (1, 0)


def test_a_check_without_a_time_is_not_compared(built: ModuleType) -> None:
    check = built.measured("x", [1.0]).model_copy(update={"latency": None, "samples_us": ()})
    row = of_one(built, check, check)
    assert (row.verdict, codes(row)) == ("not-comparable", {"untimed"})


def test_nothing_in_common_is_exit_3(built: ModuleType) -> None:
    found = compared(built.run([built.measured("x", [1.0])]), built.run([]))
    assert (found.compared, found.changed_share, exit_code(found)) == (0, None, 3)
    empty = compared(built.run([]), built.run([], run_id="b"))
    assert exit_code(empty) == 3
    assert empty.summary == "nothing could be compared: there are no rows"


IDENTITY = {"identity": {"names": ["k"], "instruction": "wgmma"}}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"case": {"fast_accum": True}}, "other-arithmetic"),
        ({"case": {"accumulator": "fp16"}}, "other-arithmetic"),
        ({"case": {"regime": "settled"}}, "other-set-up"),
        ({"case": {"shape": {"m": 1, "n": 1, "k": 1}}}, "other-shape"),
        ({"identity": {"instruction": "mma"}}, "other-instruction"),
        ({"identity": {"instruction": "wgmma", "fallback": "slow"}}, "other-kernel"),
        ({"timing": {"timer": "clock"}}, "other-timer"),
        ({"flops": 5}, "other-work"),
    ],
)
def test_figures_that_mean_different_things_are_not_compared(
    built: ModuleType, change: dict[str, Any], code: str
) -> None:
    timing = {
        "timer": "events", "launches_per_sample": 1, "warmup_launches": 0, "buffer_sets": 1,
        "stop_reason": "", "elapsed_s": 1.0,
    }  # fmt: skip
    document = built.measured("x", built.steady(1)).model_dump()
    document |= {"identity": {"instruction": "wgmma"}, "timing": timing}
    other = dict(document)
    for name, value in change.items():
        other[name] = {**document[name], **value} if isinstance(value, dict) else value
    a, b = (type(built.measured("x", [1.0])).model_validate(d) for d in (document, other))
    row = of_one(built, a, b)
    assert (row.verdict, codes(row)) == ("not-comparable", {code})
    assert row.a is not None
    assert row.a.median == pytest.approx(1), "the figures are shown all the same"


def test_another_method_version_compares_nothing_and_is_warned_about(built: ModuleType) -> None:
    m = built.measured("x", built.steady(1))
    found = compared(built.run([m]), built.run([m], run_id="b", method_version=2))
    assert codes(only_row(found)) == {"other-method"}
    assert "differs-method-version" in warned(found)
    assert exit_code(found) == 3


def test_what_follows_a_search_is_matched_without_the_shape_it_found(built: ModuleType) -> None:
    def at(k: int, run_id: str) -> Run:
        shape = {"m": 64, "n": 64, "k": k}
        return run_of(built, [
            built.searched("search/bf16", (64, 64, k), built.steady(1)),
            built.measured(f"route/bf16/64x64x{k}", built.steady(1), role="route", shape=shape),
            built.measured("anchor/bf16/8x8x8", built.steady(1)),
        ], run_id=run_id)  # fmt: skip

    found = compared(at(128, "a"), at(256, "b"))
    assert [(row.key, row.verdict) for row in found.rows] == [
        ("search/bf16", "not-comparable"),
        ("route/bf16/64x64x128", "not-comparable"),
        ("anchor/bf16/8x8x8", "~"),
    ]
    assert codes(found.rows[0]) == codes(found.rows[1]) == {"other-shape"}
    assert "64x64x128 in A, 64x64x256 in B" in found.rows[1].reasons[0].sentence
    same = compared(at(128, "a"), at(128, "b"))
    assert {row.verdict for row in same.rows} == {"~"}


def test_a_pointer_chase_is_compared_per_load(built: ModuleType) -> None:
    def chase(us: float, ns: float) -> Any:
        load = built.measured("y", [ns]).latency.model_copy(update={"unit": "ns"})
        return built.measured("chase", built.steady(us), family="latency", op="chase",
                              more={"access_ns": load})  # fmt: skip

    row = of_one(built, chase(100, 5), chase(400, 10))
    assert row.ratio == pytest.approx(2.0), "four times the pass, twice the load"
    assert row.a is not None
    assert row.a.unit == "ns"
    assert row.a.median == pytest.approx(5)


def test_a_family_alone_is_compared_when_asked(built: ModuleType) -> None:
    rows = [
        built.measured("x", built.steady(1)),
        built.measured("y", built.steady(1), family="memory", op="copy"),
    ]
    found = compared(built.run(rows), built.run(rows), families=("memory",))
    assert [row.key for row in found.rows] == ["y"]


def test_a_factor_that_all_rows_have_in_common_is_said_once(built: ModuleType) -> None:
    def at(factor: float, mhz: float, run_id: str) -> Run:
        return run_of(
            built,
            [
                built.measured(f"x/{i}", built.steady((10 + i) * factor), clock_mhz=mhz)
                for i in range(10)
            ],
            run_id=run_id,
        )

    found = compared(at(1, 2000, "a"), at(1.25, 1600, "b"))
    assert {row.verdict for row in found.rows} == {"slower"}
    assert {row.cause for row in found.rows} == {"clock"}
    (finding,) = found.findings
    assert finding.code == "common-factor"
    assert finding.sentence == (
        "the whole of Example GPU is 25.0% slower in B: 100% of 10 rows moved that way; its clock "
        "tells why"
    )
    assert finding.figures["ratio"] == pytest.approx(1.25)
    assert finding.figures["cycles_ratio"] == pytest.approx(1.0)
    kernel = compared(at(1, 2000, "a"), at(1.25, 2000, "b"))
    assert kernel.findings[0].sentence.endswith("its clock does not tell why")
    assert compared(at(1, 2000, "a"), at(1.01, 2000, "b")).findings == ()


def test_fail_on_takes_the_bound_itself_and_nothing_less(built: ModuleType) -> None:
    a = built.run([built.measured("x", [100.0] * 20)])
    b = built.run([built.measured("x", [105.0] * 20)], run_id="b")
    assert exit_code(compared(a, b, fail_on=0.05)) == 1
    found = compared(a, b, fail_on=0.051)
    assert (exit_code(found), found.regressions) == (0, ())
    assert found.rows[0].verdict == "slower"
    assert exit_code(compared(b, a, fail_on=0.05)) == 0, "faster is no regression"


def test_a_peer_is_matched_by_its_pair_and_not_by_its_id(built: ModuleType) -> None:
    def link(a: str, b: str, run_id: str) -> Run:
        devices = [built.device(a), built.device(b, torch_device="cuda:1", index=1)]
        peer = Peer(device_id=b, torch_device="cuda:1")
        m = built.measured(f"p2p/{b}/1024", built.steady(1), device_id=a,
                           family="interconnect", op="p2p", peer=peer)  # fmt: skip
        return run_of(built, [m], devices=devices, run_id=run_id)

    row = only_row(compared(link("GPU-1", "GPU-2", "a"), link("GPU-8", "GPU-9", "b")))
    assert (row.key, row.verdict) == ("p2p/pair-1/1024", "~")


def test_a_note_of_another_kind_does_not_disturb(built: ModuleType) -> None:
    note = Note(code="cache-residue", sentence="some stays")
    a = built.measured("x", built.steady(100))
    assert of_one(built, a, built.measured("x", built.steady(110), notes=(note,))).verdict == (
        "slower"
    )


def test_clocks_that_no_clock_can_have_are_left_out(built: ModuleType) -> None:
    clocks = (1e308, 1e308, 0.0)
    runs = [
        built.run([built.measured("x", built.steady(100), clock_mhz=clock)], run_id=f"a{number}")
        for number, clock in enumerate((*clocks, 1980.0))
    ]
    row = only_row(compare_runs(side(*runs), side(*runs[:3])))
    assert row.a is not None
    assert row.b is not None
    assert (row.a.clock_mhz, row.b.clock_mhz) == (1980.0, None)


def test_what_would_need_twice_the_speed_to_prove_a_change_is_said_to_tell_nothing() -> None:
    assert "from a factor of 1.30 on" in _needed(0.3, 0.1)
    assert "factor" not in _needed(178.98, 1.2)
    half = _needed(178.98, 0.04)
    assert "of half of the rows nothing can be told" in half
    assert "179" not in half
    assert "1.04" in half
