"""How far a run is, how long it takes, and the best so far, from events at known times."""

import pytest

from roofprobe.records.schema import Case, Device, Measurement, Peer, Reason, Run, Span, Telemetry
from roofprobe.reporting.progress_state import Scores, Tally, conditions

CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def gpu(name: str) -> Device:
    return Device(device_id=name, torch_device=name, backend="cuda", name="Example GPU")


def case(name: str, **fields: object) -> Case:
    return Case.model_validate(
        {
            "case_id": name, "family": "compute", "op": "gemm", "precision": "fp32",
            "route": "torch.mm", "shape": {"m": 1, "n": 1, "k": 1}, **fields,
        }
    )  # fmt: skip


def ended(which: Case, device_id: str, status: str = "ok") -> Measurement:
    reason = None if status == "ok" else Reason(code="no", sentence="It cannot be done.")
    return Measurement.model_validate(
        {"case": which, "device_id": device_id, "status": status, "reason": reason}
    )


def measure(
    tally: Tally, clock: FakeClock, device_id: str, which: Case, seconds: float, status: str = "ok"
) -> None:
    tally.start(device_id, which)
    clock.now += seconds
    tally.count(device_id, ended(which, device_id, status))


def test_before_anything_ended_the_estimate_is_what_was_expected() -> None:
    tally = Tally(FakeClock())
    tally.begin((CPU,), [("cpu", case(name), 10.0) for name in "abcd"])
    assert tally.left_s() == 40.0


def test_there_is_no_estimate_where_nothing_was_expected() -> None:
    clock = FakeClock()
    tally = Tally(clock)
    tally.begin((CPU,), [("cpu", case(name), 0.0) for name in "ab"])
    assert tally.left_s() is None
    measure(tally, clock, "cpu", case("a"), 5.0)
    assert tally.part() == 0.5


def test_what_is_left_goes_by_the_seconds_of_the_cases_not_by_their_number() -> None:
    clock = FakeClock()
    tally = Tally(clock)
    short = [case(str(number)) for number in range(9)]
    tally.begin((CPU,), [*(("cpu", each, 1.0) for each in short), ("cpu", case("long"), 91.0)])
    for each in short:
        measure(tally, clock, "cpu", each, 1.0)
    assert tally.left_s() == pytest.approx(91.0)
    assert tally.part() == pytest.approx(0.09)


def test_a_case_that_goes_on_shortens_the_rest_by_what_it_was_to_take_and_no_more() -> None:
    clock = FakeClock()
    tally = Tally(clock)
    tally.begin((CPU,), [("cpu", case(name), 10.0) for name in "ab"])
    tally.start("cpu", case("a"))
    clock.now += 4
    assert (tally.left_s(), tally.running_s("cpu")) == (16.0, 4.0)
    clock.now += 400
    assert tally.left_s() == 10.0


def test_slow_cases_stretch_the_rest_and_a_tenth_counts_as_expected() -> None:
    clock = FakeClock()
    tally = Tally(clock)
    tally.begin((CPU,), [("cpu", case(name), 10.0) for name in "abcd"])
    measure(tally, clock, "cpu", case("a"), 60.0)  # the worker starts meanwhile
    assert tally.left_s() == pytest.approx(30.0)
    measure(tally, clock, "cpu", case("b"), 20.0)
    assert tally.left_s() == pytest.approx(20.0 * (20 + 4) / (10 + 4))


def test_skipped_cases_say_nothing_about_the_speed() -> None:
    clock = FakeClock()
    tally = Tally(clock)
    tally.begin((CPU,), [("cpu", case(name), 10.0) for name in "abc"])
    for name in "ab":
        measure(tally, clock, "cpu", case(name), 0.0, "skipped")
    assert tally.left_s() == pytest.approx(10.0)


def test_devices_side_by_side_take_as_long_as_the_slowest_and_what_is_alone_comes_on_top() -> None:
    tally = Tally(FakeClock())
    between = case("p2p", family="interconnect", peer=Peer(device_id="g1", torch_device="cuda:1"))
    tally.begin(
        (gpu("g0"), gpu("g1"), CPU),
        [
            ("g0", case("a"), 10.0), ("g1", case("a"), 25.0), ("cpu", case("a"), 3.0),
            ("g0", between, 4.0), ("g0", case("all", shape={"ranks": 2, "bytes": 8}), 5.0),
        ],
    )  # fmt: skip
    assert tally.left_s() == 25.0 + 3.0 + 4.0 + 5.0
    assert [tally.waiting(name) for name in ("g0", "g1", "cpu")] == [3, 1, 1]


def test_the_estimate_is_never_more_than_the_time_budget() -> None:
    clock = FakeClock()
    tally = Tally(clock)
    tally.begin((CPU,), [("cpu", case("a"), 100.0)], budget_s=30.0)
    clock.now += 10
    assert tally.left_s() == 20.0
    clock.now += 50
    assert tally.left_s() == 0.0


def test_cases_that_nobody_announced_are_counted_and_take_no_time() -> None:
    clock = FakeClock()
    tally = Tally(clock)
    tally.begin((CPU,), [])
    measure(tally, clock, "cpu", case("a"), 3.0)
    assert (tally.done, tally.left_s(), tally.part()) == (1, 0.0, 1.0)


def test_equal_devices_are_one_row_from_the_slowest_to_the_fastest(eight_h100s: Run) -> None:
    scores = Scores()
    scores.know(eight_h100s.devices)
    bf16 = next(m for m in eight_h100s.measurements if m.case.row == "bf16" and m.rate)
    assert bf16.rate is not None
    for place, tflops in ((0, 800.0), (7, 720.0), (3, 750.0)):
        rate = bf16.rate.model_copy(update={"median": tflops})
        scores.keep(
            eight_h100s.devices[place].device_id,
            bf16.model_copy(
                update={"rate": rate, "device_id": eight_h100s.devices[place].device_id}
            ),
        )
    (row,) = scores.rows()
    assert row.devices == "8 x NVIDIA H100 80GB HBM3"
    assert row.text() == "bf16 720–800 TFLOPS (73–81%)"


def test_what_is_no_line_of_the_result_is_no_best_so_far(example_run: Run) -> None:
    scores = Scores()
    scores.know(example_run.devices)
    bf16 = example_run.measurements[1]
    odd = bf16.model_copy(
        update={"case": bf16.case.model_copy(update={"row": "bf16", "pattern": "zeros"})}
    )
    assert scores.keep(odd.device_id, odd) is None
    assert scores.rows() == []


def test_a_figure_above_a_physical_bound_is_never_the_best(eight_h100s: Run) -> None:
    scores = Scores()
    scores.know(eight_h100s.devices)
    read = next(m for m in eight_h100s.measurements if m.case.op == "read" and m.status == "ok")
    assert read.rate is not None
    cached = read.model_copy(update={"rate": read.rate.model_copy(update={"median": 9000.0})})
    assert scores.keep(read.device_id, cached) is None
    kept = scores.keep(read.device_id, read)
    assert kept is not None
    assert kept.text() == "memory 3021 GB/s (90%)"
    assert scores.keep(read.device_id, read) is None


def test_conditions_are_what_the_device_told_and_nothing_else() -> None:
    told = Telemetry(
        sm_clock_mhz=Span(min=1, median=1755, max=1980), power_w=Span(min=1, median=698.6, max=700),
        temperature_c=Span(min=30, median=50, max=61), others_cores=0.01,
        throttle_reasons=("idle", "sw_power_cap"),
    )  # fmt: skip
    seen = ended(case("a"), "g0").model_copy(update={"telemetry": told})
    rest = ("699 W", "61 °C", "slowed: sw_power_cap")
    assert conditions(seen, reported_clock=True) == ("1755 MHz", *rest)
    assert conditions(seen, reported_clock=False) == rest
    counted = seen.model_copy(update={"clock_mhz": Span(min=1, median=1700, max=2)})
    assert conditions(counted, reported_clock=False) == ("1700 MHz", *rest)
    assert conditions(ended(case("a"), "g0"), reported_clock=True) == ()
