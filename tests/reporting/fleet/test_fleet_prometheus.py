"""A fleet's verdict for Prometheus' textfile collector."""

from __future__ import annotations

import re

from roofprobe.acceptance.fleet.fleet_verdict import FleetVerdict
from roofprobe.reporting.fleet.fleet_prometheus import prometheus_bytes

LINE = re.compile(r'[a-z_]+(\{([a-z_]+="([^"\\\n]|\\.)*",?)+\})? -?[0-9.e+-]+')


def lines(verdict: FleetVerdict) -> list[str]:
    return prometheus_bytes(verdict, "2026-03-02T00:00:00+00:00").decode().splitlines()


def test_devices_are_counted_by_kind_and_state(verdict: FleetVerdict) -> None:
    found = lines(verdict)
    assert 'roofprobe_fleet_devices{sku="example-sxm",state="fail"} 1' in found
    assert 'roofprobe_fleet_devices{sku="example-sxm",state="pass"} 46' in found
    assert 'roofprobe_fleet_hosts{state="unknown"} 1' in found
    assert 'roofprobe_fleet_verdict{state="fail"} 1' in found


def test_only_devices_that_do_not_pass_have_series_with_their_worst_effect(
    verdict: FleetVerdict,
) -> None:
    found = lines(verdict)
    names = 'host="node-03",device="1",uuid="GPU-0003-1-example-0123456789",sku="example-sxm"'
    assert f'roofprobe_fleet_device_verdict{{{names},state="fail"}} 1' in found
    assert f'roofprobe_fleet_device_verdict{{{names},state="pass"}} 0' in found
    metric = 'metric="compute bf16 burst"'
    assert f"roofprobe_fleet_device_worst_effect_ratio{{{names},{metric}}} -0.2" in found
    assert sum(line.startswith("roofprobe_fleet_device_verdict{") for line in found) == 2 * 4
    assert 'roofprobe_fleet_host_verdict{host="node-99",state="unknown"} 1' in found


def test_times_are_of_the_merge_and_of_the_latest_run_in_utc(verdict: FleetVerdict) -> None:
    found = lines(verdict)
    assert "roofprobe_fleet_last_merge_time_seconds 1772409600" in found
    assert "roofprobe_fleet_last_run_time_seconds 1772323223" in found


def test_what_is_simulated_says_so_first_and_what_is_not_has_no_such_series(
    verdict: FleetVerdict,
) -> None:
    found = lines(verdict)
    assert found[0] == "# SIMULATED: made up for a test"
    assert "roofprobe_fleet_simulated 1" in found
    source = verdict.generated_from.model_copy(update={"simulated": ()})
    real = lines(verdict.model_copy(update={"generated_from": source}))
    assert not any("simulated" in line.lower() for line in real)


def test_every_line_is_whole_whatever_hosts_are_called(hostile_verdict: FleetVerdict) -> None:
    data = prometheus_bytes(hostile_verdict, None)
    assert data.endswith(b"\n")
    text = data.decode()
    assert [x for x in text.splitlines() if x[0] != "#" and not LINE.fullmatch(x)] == []
    heads = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(heads) == len(set(heads))
    assert "last_merge" not in text
