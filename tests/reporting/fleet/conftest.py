"""A hand-made fleet of 24 hosts with two GPUs, and a hand-made verdict on it.

No figure is of any real device. ``ROOFPROBE_GOLDEN=write`` writes the golden files anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roofprobe.acceptance.fleet.fleet_verdict import (
    Criterion,
    DeviceVerdict,
    FleetFinding,
    FleetOptions,
    FleetSource,
    FleetVerdict,
    HostVerdict,
    Mode,
    SkuSummary,
)
from roofprobe.records.fleet.dataset import Refused
from roofprobe.records.fleet.history import Opened, opened
from roofprobe.records.fleet.merge import merge

HOSTILE = "<script>alert(1)</script> [red]x[/] | `tick` *b* \x1b[31m\x07 \u202e"
SKU = "example-sxm"
HOSTS = 24


def _run(host: int, month: int, name: str) -> dict[str, Any]:
    devices, headlines = [], []
    for at in (0, 1):
        gpu = f"GPU-{host:04}-{at}-example-0123456789"
        slow = 0.8 if (host, at) == (3, 1) else 0.98 ** (month - 1) if (host, at) == (5, 0) else 1.0
        devices.append(
            {
                "device_id": gpu, "backend": "cuda", "name": "Example GPU", "index": at,
                "driver": "581.0" if month == 3 else "580.1", "catalogue_key": SKU,
                "limits": {"power_limit_w": 700.0},
            }
        )  # fmt: skip
        for family, label, unit, nominal in (
            ("compute", "bf16", "TFLOPS", 700.0), ("memory", "read fp32", "GB/s", 3000.0),
            ("memory", "odd fp32", "GB/s", 1.0),
        ):  # fmt: skip
            rate = nominal * slow * (1 + ((host * 7 + at * 3) % 11 - 5) / 1000)
            headlines.append(
                {
                    "device_id": gpu, "family": family, "label": label, "regime": "burst",
                    "rate": {"unit": unit, "median": rate, "ci_low": rate * 0.999,
                             "ci_high": rate * 1.001, "n": 30},
                }
            )  # fmt: skip
    return {
        "schema_version": 1, "run_id": f"20260{month}01T000000Z-{name}", "status": "complete",
        "started_at": f"2026-0{month}-01T00:00:{host:02}+00:00",
        "environment": {"host": name, "roofprobe": "0.1.0"}, "devices": devices,
        "headlines": headlines, "simulated": "made up for a test" if host == 1 else None,
    }  # fmt: skip


def _merged(folder: Path, name_of: Callable[[int], str]) -> Path:
    for host in range(HOSTS):
        for month in (1, 2, 3):
            run = folder / "runs" / f"{month}-{host}"
            run.mkdir(parents=True)
            (run / "run.json").write_text(json.dumps(_run(host, month, name_of(host))))
    merge([folder / "runs"], folder / "fleet", workers=1)
    return folder / "fleet"


@pytest.fixture(scope="session")
def fleet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _merged(tmp_path_factory.mktemp("fleet"), lambda host: f"node-{host:02}")


@pytest.fixture(scope="session")
def hostile_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _merged(tmp_path_factory.mktemp("hostile"), lambda host: f"{host}{HOSTILE}")


@pytest.fixture
def fleet(fleet_folder: Path) -> Iterator[Opened]:
    with opened(str(fleet_folder)) as found:
        yield found


@pytest.fixture
def hostile_fleet(hostile_folder: Path) -> Iterator[Opened]:
    with opened(str(hostile_folder)) as found:
        yield found


def _criterion(metric: str, unit: str, median: float, **more: Any) -> Criterion:
    family, *label, quantity = metric.split()
    return Criterion(
        sku=SKU, driver=None, power_limit_w=700.0, method_version=1, metric=metric, family=family,
        label=" ".join(label), quantity=quantity, aspect="compute", unit=unit, better="higher",
        n=47, n_apart=1, median=median, mad=median * 0.002, scale=0.003, scale_from="mad",
        bound=median * 0.97, fail_bound=median * 0.95, minimum_effect=0.03, pooled=True, **more,
    )  # fmt: skip


def _verdict(host: Callable[[int], str], where: str) -> FleetVerdict:
    slow = FleetFinding(
        code="slow", judgement="fail", scope="device", sku=SKU, host=host(3),
        device_id="GPU-0003-1-example-0123456789", position=1, metric="compute bf16 burst",
        n_metrics=3, effect=-0.2, effect_low=-0.201, effect_high=-0.199, z=-66.7, figure=560.0,
        median=700.0, bound=679.0, unit="TFLOPS", n_peers=47, aspect="compute", cause="all",
        sentence="20.0 % slower than 47 equal devices in all that it does",
        remedy="measure it again with `probe all`, then have it replaced",
    )  # fmt: skip
    drift = FleetFinding(
        code="drift", judgement="warn", scope="device", sku=SKU, host=host(5),
        device_id="GPU-0005-0-example-0123456789", position=0, metric="compute bf16 burst",
        effect=-0.04, since="2026-01-01", sentence="loses 2.0 % a month in compute",
    )  # fmt: skip
    common: dict[str, Any] = {
        "name": "Example GPU",
        "sku": SKU,
        "started_at": "2026-03-01T00:00:00",
        "n_metrics": 3,
    }
    return FleetVerdict(
        judgement="fail",
        generated_from=FleetSource(
            where=where, log_version=1, n_runs=72, n_hosts=HOSTS, n_devices=48, n_metrics=432,
            n_refused=1, first_started_at="2026-01-01T00:00:00",
            last_started_at="2026-03-01T00:00:23", simulated=("made up for a test",),
        ),
        options=FleetOptions(),
        skus=(
            SkuSummary(
                sku=SKU, n_devices=48, n_hosts=HOSTS, drivers=("581.0",), power_limits_w=(700.0,),
                counts={"fail": 1, "warn": 1, "pass": 46},
            ),
        ),
        criteria=(
            _criterion("compute bf16 burst", "TFLOPS", 700.0,
                       modes=(Mode(centre=690, share=0.4), Mode(centre=705, share=0.6))),
            _criterion("memory read fp32 burst", "GB/s", 3000.0),
        ),
        device_counts={"fail": 1, "warn": 1, "pass": 46},
        host_counts={"fail": 1, "unknown": 1, "warn": 1, "pass": 22},
        devices=(
            DeviceVerdict(
                host=host(3), device_id="GPU-0003-1-example-0123456789", position=1,
                judgement="fail", worst_metric="compute bf16 burst", worst_effect=-0.2,
                worst_z=-66.7, n_flagged=3, findings=(slow,), **common,
            ),
            DeviceVerdict(
                host=host(5), device_id="GPU-0005-0-example-0123456789", position=0,
                judgement="warn", worst_metric="compute bf16 burst", worst_effect=-0.04,
                worst_z=-13.0, n_flagged=1, findings=(drift,), **common,
            ),
        ),
        hosts=(
            HostVerdict(host=host(3), judgement="fail", n_devices=2, n_expected=2, n_not_pass=1,
                        worst_device_id="GPU-0003-1-example-0123456789",
                        sentence="one of 2 devices fails"),
            HostVerdict(host=host(99), judgement="unknown", n_devices=0, n_expected=2,
                        sentence="it was expected and has no run"),
        ),
        findings=(
            FleetFinding(
                code="missing-host", judgement="unknown", scope="host", host=host(99),
                sentence="it was expected and has no run", remedy="run `probe all` there",
            ),
            FleetFinding(
                code="change-after-driver", judgement="pass", scope="sku", sku=SKU, n_devices=48,
                hosts=tuple(host(number) for number in range(10)), metric="compute bf16 burst",
                effect=0.0, since="2026-03-01", sentence="driver 581.0 changed nothing",
            ),
        ),
        summary="2 of 48 devices fall short and 1 host is missing",
    )  # fmt: skip


@pytest.fixture(scope="session")
def verdict() -> FleetVerdict:
    return _verdict(lambda host: f"node-{host:02}", "fleet/")


@pytest.fixture(scope="session")
def hostile_verdict() -> FleetVerdict:
    return _verdict(lambda host: f"{host}{HOSTILE}", HOSTILE)


@pytest.fixture(scope="session")
def refused() -> tuple[Refused, ...]:
    return (
        Refused(source="runs/x/run.json", code="damaged-run",
                sentence=f"runs/x/run.json is no whole record ({HOSTILE})"),
    )  # fmt: skip


@pytest.fixture(scope="session")
def large_verdict(verdict: FleetVerdict) -> FleetVerdict:
    """A verdict on ten thousand devices of which every second does not pass."""
    device = verdict.devices[0]
    return verdict.model_copy(
        update={
            "devices": tuple(
                device.model_copy(update={"host": f"node-{number // 4}", "position": number % 4})
                for number in range(5000)
            ),
            "hosts": tuple(
                verdict.hosts[0].model_copy(update={"host": f"node-{number}"})
                for number in range(1250)
            ),
            "criteria": tuple(
                verdict.criteria[0].model_copy(update={"driver": f"580.{number}"})
                for number in range(3000)
            ),
        }
    )
