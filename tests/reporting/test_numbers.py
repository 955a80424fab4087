import pytest

from roofprobe.records.schema import Distribution
from roofprobe.records.wording import rate_words
from roofprobe.reporting import numbers


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1500.4, "TFLOPS", "1500 TFLOPS"),
        (812.34, "TFLOPS", "812 TFLOPS"),
        (71.26, "TFLOPS", "71.3 TFLOPS"),
        (7.126, "TFLOPS", "7.13 TFLOPS"),
        (0.9996, "TFLOPS", "1.00 TFLOPS"),
        (0.9994, "TFLOPS", "999 GFLOPS"),
        (0.214, "TFLOPS", "214 GFLOPS"),
        (0.00051, "TFLOPS", "510 MFLOPS"),
        (0.05, "TOPS", "50.0 GOPS"),
        (99.96, "GB/s", "100 GB/s"),
        (2950.4, "GB/s", "2950 GB/s"),
        (0.5, "GB/s", "500 MB/s"),
        (12.5, "ns", "12.5 ns"),
        (0.0, "TFLOPS", "0 TFLOPS"),
        (None, "TFLOPS", "–"),
    ],
)
def test_a_rate_keeps_three_digits_in_the_unit_that_suits_its_size(
    value: float | None, unit: str, text: str
) -> None:
    assert numbers.rate(value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.724, "72%"), (1.04, "104%"), (0.9996, "100%"), (0.001, "<1%"), (0.0, "0%"), (None, "–")],
)
def test_a_share_is_whole_percent_and_a_dash_where_unknown(value: float | None, text: str) -> None:
    assert numbers.share(value) == text


@pytest.mark.parametrize(
    ("low", "high", "n", "text"),
    [
        (99.0, 101.0, 30, "±1.0%"),
        (99.99, 100.01, 30, "<0.1%"),
        (80.0, 120.0, 30, "±20%"),
        (100.0, 100.0, 1, "–"),
        (96.0, 2650.0, 30, "96.0–2650"),
    ],
)
def test_the_spread_is_half_of_the_interval_and_one_sample_has_none(
    low: float, high: float, n: int, text: str
) -> None:
    measured = Distribution(
        unit="us", median=100, ci_low=low, ci_high=high, p10=90, p90=110, best=90, n=n
    )
    assert numbers.spread(measured) == text


def test_peaks_are_written_in_the_unit_of_the_result() -> None:
    scale = numbers.scale_for(0.9, "TFLOPS")
    assert (scale.number(0.9), scale.number(1.25), scale.unit) == ("900", "1250", "GFLOPS")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00:00"), (63.2, "01:03"), (3723, "1:02:03"), (-5, "00:00")]
)
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert numbers.clock(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(80 << 30, "80.0 GiB"), (50 << 20, "50.0 MiB"), (512, "512 B"), (None, "–")]
)
def test_capacities_are_binary(size: int | None, text: str) -> None:
    assert numbers.capacity(size) == text


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12"), (999, "999"), (1 << 28, "268M"), (5_000_000_000, "5.00G")]
)
def test_counts_are_compact(count: int, text: str) -> None:
    assert numbers.compact(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.3, "12.3 µs"), (1234.0, "1.23 ms"), (2e6, "2.00 s"), (3e9, "3000 s"), (None, "–")],
)
def test_times_take_the_unit_that_suits_them(value: float | None, text: str) -> None:
    assert numbers.duration_us(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, "–"), (1.0, "0%"), (1.004, "0%"), (0.996, "0%"), (1.234, "+23%"), (0.5, "−50%")],
)
def test_gains_have_a_sign(ratio: float | None, text: str) -> None:
    assert numbers.gain(ratio) == text


def test_factors_energies_and_seconds_know_what_they_do_not_know() -> None:
    assert [numbers.factor(0.83333), numbers.factor(None)] == ["0.833", "–"]
    assert [numbers.energy(0.6789), numbers.energy(None)] == ["0.679", "–"]
    assert [numbers.seconds(s) for s in (0.421, 21, 99.9, 99.96, None)] == [
        "0.421 s", "21.0 s", "99.9 s", "01:40 min", "–",
    ]  # fmt: skip


def test_a_range_of_times_names_one_unit_where_it_can() -> None:
    assert numbers.duration_range_us(0.675, 0.825) == "0.675–0.825 µs"
    assert numbers.duration_range_us(900.0, 1500.0) == "900 µs–1.50 ms"


def test_sentences_and_tables_change_units_at_the_same_rates() -> None:
    for value in (0.03829, 0.9994, 0.9996, 1.0, 812.0, 0.0000004, 0.0):
        for unit in ("TOPS", "TFLOPS", "GB/s", "us"):
            assert rate_words(value, unit).split()[1:] == numbers.rate(value, unit).split()[1:]
    assert rate_words(0.03829, "TOPS") == "38.29 GOPS"
    assert rate_words(0.821, "GB/s") == "821 MB/s"
    assert rate_words(1234.5, "TFLOPS") == "1234 TFLOPS"
